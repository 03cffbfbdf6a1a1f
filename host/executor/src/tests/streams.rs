// SPDX-License-Identifier: Apache-2.0

//! Standard streams.

use super::*;

#[test]
fn megabytes_through_a_full_pipe_arrive_in_order() {
    let (mut reader, writer) = pipe().unwrap();
    let mut keep = Keep::new([null(), writer.into(), null()], &[]);
    let collector = thread::spawn(move || {
        thread::sleep(ASLEEP);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    });
    let expected: Vec<u8> = (0..32_u8).flat_map(|n| vec![n; 131_072]).collect();
    for pair in expected.chunks(2 * 131_072) {
        // Two at once: the second must not overtake the first.
        for piece in pair.chunks(131_072) {
            keep.submit(&write(Handle::STDOUT, piece), piece);
        }
        for _ in 0..2 {
            let (reply, _) = keep.reply();
            assert_eq!((reply.status, reply.value), (Status::Ok, 131_072));
        }
    }
    drop(keep);
    assert!(collector.join().unwrap() == expected);
}

#[test]
fn sockets_and_files_are_written() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut keep = Keep::new([null(), ours.into(), file.reopen().unwrap().into()], &[]);
    let collector = thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).unwrap();
        all
    });
    let bytes = vec![7; 131_072];
    for _ in 0..8 {
        keep.call(&write(Handle::STDOUT, &bytes), &bytes).unwrap();
        keep.call(&write(Handle::STDERR, &bytes), &bytes).unwrap();
    }
    drop(keep);
    assert_eq!(collector.join().unwrap().len(), 8 * 131_072);
    assert_eq!(file.as_file().metadata().unwrap().len(), 8 * 131_072);
}

#[test]
fn a_closed_reader_is_a_status() {
    let (reader, writer) = pipe().unwrap();
    let mut keep = Keep::new([null(), writer.into(), null()], &[]);
    drop(reader);
    assert_eq!(
        keep.call(&write(Handle::STDOUT, b"x"), b"x").map(drop),
        Err(Status::Pipe)
    );
}

#[test]
fn an_error_after_a_partial_write_is_a_status() {
    let (mut reader, writer) = pipe().unwrap();
    let mut keep = Keep::new([null(), writer.into(), null()], &[]);
    let bytes = vec![7; 131_072];
    let writing = keep.submit(&write(Handle::STDOUT, &bytes), &bytes);
    keep.submit(&Call::ClockWall, b"");
    let (reply, _) = keep.reply();
    assert_ne!(reply.ticket, writing);
    reader.read_exact(&mut [0]).unwrap();
    drop(reader);
    let (reply, _) = keep.reply();
    assert_eq!((reply.ticket, reply.status), (writing, Status::Pipe));
}

#[test]
fn a_standard_stream_has_one_direction_even_if_open_for_both() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let refused = Err(Status::BadHandle);
    assert_eq!(
        keep.call(&write(Handle::STDIN, b"x"), b"x").map(drop),
        refused
    );
    for stream in [Handle::STDOUT, Handle::STDERR] {
        let read = Call::StreamRead { stream, length: 1 };
        assert_eq!(keep.call(&read, b"").map(drop), refused);
    }
    keep.call(&read_stdin(1), b"").unwrap();
    keep.call(&write(Handle::STDERR, b"x"), b"x").unwrap();
}

#[test]
fn a_full_disk_is_a_status() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut keep = Keep::new([null(), full.into(), null()], &[]);
    assert_eq!(
        keep.call(&write(Handle::STDOUT, b"x"), b"x").map(drop),
        Err(Status::NoSpace)
    );
}

#[test]
fn waiting_for_standard_input_delays_no_others() {
    let (reader, mut writer) = pipe().unwrap();
    let mut keep = Keep::new([reader.into(), null(), null()], &[]);
    let waiting = keep.submit(&read_stdin(100), b"");
    keep.submit(&Call::ClockWall, b"");
    let (reply, _) = keep.reply();
    assert_ne!(reply.ticket, waiting);
    assert!(reply.value > 1_600_000_000_000_000_000);

    let typist = thread::spawn(move || {
        thread::sleep(ASLEEP);
        writer.write_all(b"hello").unwrap();
    });
    let (reply, bytes) = keep.reply();
    assert_eq!(
        (reply.ticket, bytes.as_slice()),
        (waiting, b"hello".as_slice())
    );
    typist.join().unwrap();
    // The writer has closed it: end of stream, forever.
    for _ in 0..2 {
        assert_eq!(keep.call(&read_stdin(100), b"").unwrap().1, b"");
    }
}
