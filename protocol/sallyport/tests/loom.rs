// SPDX-License-Identifier: Apache-2.0

//! The handover between the two ends under every ordering that the memory model allows.
//!
//! The ends run over a model of the region: indices and state are loom's atomics; records, ring entries and
//! buffers are loom's cells, so that an access which the indices do not order is reported as a race. The last
//! tests take a piece of the protocol away and see the model notice.
#![expect(
    clippy::print_stderr,
    reason = "a panic's message, without the backtrace"
)]

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use enarx_sallyport::call::Call;
use enarx_sallyport::layout::{
    CQ_HEAD, CQ_TAIL, HOST_STATE, MAGIC, MAGIC_AT, SQ_HEAD, SQ_TAIL, VCPUS_AT, VERSION_AT, Word32,
    Word64, completion_entry, request_entry, submission_entry,
};
use enarx_sallyport::{
    Facts, Handle, HostEnd, KeepEnd, OutOfRange, SharedMemory, Slot, Status, Submission,
};
use loom::cell::Cell;
use loom::sync::atomic::{AtomicU32, fence};
use loom::sync::{Condvar, Mutex};

/// A part of the protocol that is broken in a run, if any.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Fences do nothing.
    NoFence,
    /// Stores that hand over are relaxed.
    NoRelease,
    /// The host sleeps without checking again.
    NoSecondLook,
}

/// The model's slots and ring entries.
const MODELLED: u32 = 2;

struct Memory {
    fault: Fault,
    indices: HashMap<Word32, AtomicU32>,
    entries: HashMap<Word32, Cell<u32>>,
    records: HashMap<Word64, Cell<u64>>,
    /// One byte per buffer.
    buffers: HashMap<Slot, Cell<u8>>,
}

impl Memory {
    fn new(fault: Fault) -> Rc<Self> {
        let indices = [
            SQ_TAIL, SQ_HEAD, CQ_TAIL, CQ_HEAD, HOST_STATE, VCPUS_AT, VERSION_AT,
        ];
        let slots = || (0..MODELLED).filter_map(Slot::new);
        let records = slots()
            .flat_map(request_entry)
            .chain((0..MODELLED).flat_map(completion_entry));
        Rc::new(Self {
            fault,
            indices: indices.map(|at| (at, AtomicU32::new(0))).into(),
            entries: (0..MODELLED)
                .map(|i| (submission_entry(i), Cell::new(0)))
                .collect(),
            records: records.map(|at| (at, Cell::new(0))).collect(),
            buffers: slots().map(|slot| (slot, Cell::new(0))).collect(),
        })
    }
}

#[derive(Clone)]
struct Shared(Rc<Memory>);

impl SharedMemory for Shared {
    fn load_u32(&self, at: Word32, ordering: Ordering) -> u32 {
        match self.0.entries.get(&at) {
            Some(cell) => cell.get(),
            None => self.0.indices[&at].load(ordering),
        }
    }

    fn store_u32(&self, at: Word32, value: u32, ordering: Ordering) {
        match self.0.entries.get(&at) {
            Some(cell) => cell.set(value),
            None if self.0.fault == Fault::NoRelease => {
                self.0.indices[&at].store(value, Ordering::Relaxed);
            }
            None => self.0.indices[&at].store(value, ordering),
        }
    }

    fn load_u64(&self, at: Word64) -> u64 {
        match self.0.records.get(&at) {
            Some(cell) => cell.get(),
            // Facts, before the Keep runs.
            None if at == MAGIC_AT => MAGIC,
            None => 0,
        }
    }

    fn store_u64(&self, at: Word64, value: u64) {
        match self.0.records.get(&at) {
            Some(cell) => cell.set(value),
            // The host clears what is already clear.
            None => assert!(value == 0 || at == MAGIC_AT),
        }
    }

    fn fence(&self) {
        if self.0.fault != Fault::NoFence {
            fence(Ordering::SeqCst);
        }
    }

    fn read(&self, slot: Slot, _: u32, out: &mut [u8]) -> Result<(), OutOfRange> {
        for byte in out {
            *byte = self.0.buffers[&slot].get();
        }
        Ok(())
    }

    fn write(&self, slot: Slot, _: u32, bytes: &[u8]) -> Result<(), OutOfRange> {
        for byte in bytes {
            self.0.buffers[&slot].set(*byte);
        }
        Ok(())
    }
}

fn ends(fault: Fault) -> (KeepEnd<Shared>, HostEnd<Shared>) {
    let memory = Shared(Memory::new(fault));
    let host = HostEnd::initialise(memory.clone(), Facts::default());
    (KeepEnd::attach(memory).expect("initialised"), host)
}

fn model(test: impl Fn() + Sync + Send + 'static) {
    // A modelled thread's stack is too small for the backtrace that the usual hook may print.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let mut builder = loom::model::Builder::new();
    // More involuntary switches than these find no more faults in practice (Musuvathi and Qadeer, 2007).
    builder.preemption_bound = Some(3);
    builder.check(test);
}

const READ: Call = Call::ReadAt {
    handle: Handle(16),
    offset: 0,
    length: 1,
};
const WRITE: Call = Call::Append {
    handle: Handle(16),
    length: 1,
};

/// The host reads the input of a write and answers a read; both directions use the same byte.
fn serve(host: &mut HostEnd<Shared>, submission: &Submission) {
    let slot = submission.slot;
    let (length, value) = if submission.call == Ok(WRITE) {
        let mut input = [0];
        host.read_input(slot, 0, &mut input).expect("in the buffer");
        assert_eq!(input, [7]);
        (0, 1)
    } else {
        host.write_output(slot, 0, &[9]).expect("in the buffer");
        (1, 0)
    };
    host.complete(submission.id, Status::Ok, length, value, 0)
        .expect("in flight");
}

fn collect(keep: &mut KeepEnd<Shared>) -> bool {
    let Some(reply) = keep.reap().expect("the host is honest") else {
        return false;
    };
    if reply.length == 1 {
        let mut output = [0];
        keep.read_reply(&reply, 0, &mut output)
            .expect("in the reply");
        assert_eq!(output, [9]);
    } else {
        assert_eq!(reply.value, 1);
    }
    keep.release(reply.ticket);
    true
}

/// Two requests, one after the other in the same slot, both sides polling.
fn one_after_the_other(fault: Fault) {
    model(move || {
        let (mut keep, mut host) = ends(fault);
        let host = loom::thread::spawn(move || {
            let mut served = 0;
            while served < 2 {
                if let Some(submission) = host.next().expect("the keep is honest") {
                    serve(&mut host, &submission);
                    served += 1;
                } else {
                    loom::thread::yield_now();
                }
            }
        });
        for (call, input) in [(WRITE, &[7][..]), (READ, &[])] {
            keep.submit(&call, &[input]).expect("room");
            while !collect(&mut keep) {
                loom::thread::yield_now();
            }
        }
        host.join().expect("no panic");
    });
}

#[test]
fn a_slot_is_handed_over_and_back_and_used_again() {
    one_after_the_other(Fault::None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_stores_there_is_a_race() {
    one_after_the_other(Fault::NoRelease);
}

/// Two requests at once; the host answers the later one first when it has both.
#[test]
fn two_requests_at_once() {
    model(|| {
        let (mut keep, mut host) = ends(Fault::None);
        let host = loom::thread::spawn(move || {
            let mut taken = Vec::new();
            let mut served = 0;
            while served < 2 {
                while let Some(submission) = host.next().expect("the keep is honest") {
                    taken.push(submission);
                }
                if let Some(submission) = taken.pop() {
                    serve(&mut host, &submission);
                    served += 1;
                } else {
                    loom::thread::yield_now();
                }
            }
        });
        keep.submit(&WRITE, &[&[7]]).expect("room");
        keep.submit(&READ, &[]).expect("room");
        let mut collected = 0;
        while collected < 2 {
            if collect(&mut keep) {
                collected += 1;
            } else {
                loom::thread::yield_now();
            }
        }
        host.join().expect("no panic");
        assert_eq!(keep.free_slots(), 64);
    });
}

/// A word under a lock, and sleeping until it has changed: how the host implements both bells.
struct Bell {
    value: Mutex<u32>,
    changed: Condvar,
}

impl Bell {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            value: Mutex::new(0),
            changed: Condvar::new(),
        })
    }

    /// Changes the word together with what it stands for.
    fn set(&self, change: impl FnOnce() -> u32) {
        let mut value = self.value.lock().expect("no panic");
        *value = change();
        self.changed.notify_one();
    }

    /// Sleeps while the word is `seen`; returns it.
    fn wait(&self, seen: u32) -> u32 {
        let mut value = self.value.lock().expect("no panic");
        while *value == seen {
            value = self.changed.wait(value).expect("no panic");
        }
        *value
    }
}

/// Requests one after the other, both sides sleeping whenever there is nothing to do.
fn sleeping(fault: Fault, requests: u32) {
    model(move || {
        let (mut keep, mut host) = ends(fault);
        let (rings, posted) = (Bell::new(), Bell::new());
        let (host_rings, host_posted) = (Rc::clone(&rings), Rc::clone(&posted));
        let host = loom::thread::spawn(move || {
            let (rings, posted) = (host_rings, host_posted);
            let (mut served, mut heard) = (0, 0);
            host.set_polling(true);
            while served < requests {
                let mut next = host.next().expect("the keep is honest");
                if next.is_none() {
                    host.set_polling(false);
                    if fault != Fault::NoSecondLook {
                        next = host.next().expect("the keep is honest");
                    }
                    if next.is_none() {
                        heard = rings.wait(heard);
                    }
                    host.set_polling(true);
                }
                if let Some(submission) = next {
                    posted.set(|| {
                        serve(&mut host, &submission);
                        host.completions_posted()
                    });
                    served += 1;
                }
            }
        });
        let mut rung = 0;
        for _ in 0..requests {
            keep.submit(&READ, &[]).expect("room");
            if keep.doorbell_needed() {
                rung += 1;
                rings.set(|| rung);
            }
            while !collect(&mut keep) {
                posted.wait(keep.completions_seen());
            }
        }
        host.join().expect("no panic");
    });
}

#[test]
fn no_wakeup_is_lost() {
    sleeping(Fault::None, 2);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_second_check_a_wakeup_is_lost() {
    sleeping(Fault::NoSecondLook, 1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wakeup_is_lost() {
    sleeping(Fault::NoFence, 1);
}
