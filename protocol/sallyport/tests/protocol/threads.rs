// SPDX-License-Identifier: Apache-2.0

//! Two threads over real memory: every byte arrives as it was sent, in both directions.

use enarx_sallyport::call::Call;
use enarx_sallyport::{BUFFER_SIZE, Facts, Handle, HostEnd, KeepEnd, Region, Status, SubmitError};

use enarx_sallyport_drivers::region::TestRegion;

const REQUESTS: u64 = if cfg!(miri) { 20 } else { 4000 };

/// The bytes of the request with this number: no two requests have the same.
fn pattern(number: u64, length: usize) -> Vec<u8> {
    let step = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..length as u64)
        .map(|i| (step ^ i.wrapping_mul(step | 1)).to_le_bytes()[5])
        .collect()
}

/// The length of the request with this number; some take several cache lines, a few a whole buffer.
fn length(number: u64) -> u32 {
    let most = if cfg!(miri) { 200 } else { BUFFER_SIZE };
    match number % 64 {
        0 => most,
        other => u32::try_from(other * other).expect("small").min(most),
    }
}

/// Answers writes after checking what arrived, reads by sending the same.
fn serve(region: Region, mut host: HostEnd<Region>) {
    let mut served = 0;
    while served < REQUESTS {
        let Some(submission) = host.next().expect("the keep is honest") else {
            std::thread::yield_now();
            continue;
        };
        let (id, slot) = (submission.id, submission.slot);
        match submission.call.expect("well formed") {
            Call::WriteAt { offset, length, .. } => {
                let mut bytes = vec![0; length as usize];
                host.read_input(slot, 0, &mut bytes).expect("in the buffer");
                assert_eq!(bytes, pattern(offset, bytes.len()));
                host.complete(id, Status::Ok, 0, u64::from(length), 0)
                    .expect("in flight");
            }
            Call::ReadAt { offset, length, .. } => {
                assert_eq!(host.buffer_ptr(slot), region.buffer_ptr(slot));
                let bytes = pattern(offset, length as usize);
                host.write_output(slot, 0, &bytes).expect("in the buffer");
                host.complete(id, Status::Ok, length, 0, 0)
                    .expect("in flight");
            }
            call => panic!("never submitted: {call:?}"),
        }
        served += 1;
    }
}

#[test]
fn bytes_pass_unchanged_between_threads() {
    let region = TestRegion::take();
    let host = HostEnd::initialise(*region, Facts::default());
    let mut keep = KeepEnd::attach(*region).expect("initialised");
    let shared = *region;
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || serve(shared, host));
        let mut numbers = vec![0; 64];
        let (mut submitted, mut collected) = (0, 0);
        while collected < REQUESTS {
            while submitted < REQUESTS {
                let (handle, offset, length) = (Handle(16), submitted, length(submitted));
                let (call, bytes) = if submitted.is_multiple_of(3) {
                    (
                        Call::ReadAt {
                            handle,
                            offset,
                            length,
                        },
                        Vec::new(),
                    )
                } else {
                    let bytes = pattern(offset, length as usize);
                    (
                        Call::WriteAt {
                            handle,
                            offset,
                            length,
                        },
                        bytes,
                    )
                };
                match keep.submit(&call, &[&bytes]) {
                    Ok(ticket) => numbers[ticket.slot()] = submitted,
                    Err(error) => {
                        assert_eq!(error, SubmitError::Full);
                        break;
                    }
                }
                submitted += 1;
            }
            let host_is_done = serving.is_finished();
            let Some(reply) = keep.reap().expect("the host is honest") else {
                assert!(!host_is_done, "the host failed");
                std::thread::yield_now();
                continue;
            };
            let number = numbers[reply.ticket.slot()];
            if number.is_multiple_of(3) {
                let mut bytes = vec![0; reply.length as usize];
                keep.read_reply(&reply, 0, &mut bytes)
                    .expect("in the reply");
                assert_eq!(bytes, pattern(number, length(number) as usize));
            } else {
                assert_eq!(reply.value, u64::from(length(number)));
            }
            keep.release(reply.ticket);
            collected += 1;
        }
    });
}
