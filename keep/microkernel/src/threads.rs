// SPDX-License-Identifier: Apache-2.0

//! Threads (one per vCPU) and futexes.

use crate::registers::Registers;
use crate::signal::AlternateStack;
use enarx_boot::layout::{MAX_VCPUS, SIGNAL_STACK, SIGNAL_STACK_SIZE};

/// The activity of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No thread: free for `clone`.
    #[default]
    Idle,
    /// A thread was assigned and has not entered user code.
    Starting,
    /// A thread runs.
    Running,
    /// The thread sleeps on the futex at this user address.
    Waiting(u64),
}

/// The thread of one vCPU.
#[derive(Clone, Copy, Debug)]
pub struct Thread {
    /// Its present activity.
    pub state: State,
    /// Registers of a thread that is starting.
    pub start: Registers,
    /// FS base of a thread that is starting.
    pub start_fs: u64,
    /// Address to clear and wake when the thread ends; 0 = none.
    pub clear_tid: u64,
    /// Alternate signal stack.
    pub stack: AlternateStack,
}

/// Thread id of the thread on a vCPU; the first is also the process id.
pub const fn thread_id(vcpu: usize) -> u64 {
    vcpu as u64 + 1
}

impl Thread {
    const fn new() -> Self {
        Self {
            state: State::Idle,
            start: Registers::new(),
            start_fs: 0,
            clear_tid: 0,
            stack: AlternateStack { base: 0, size: 0 },
        }
    }
}

/// All threads.
#[derive(Debug)]
pub struct Threads {
    table: [Thread; MAX_VCPUS],
    vcpus: usize,
    /// Something was ever done with another thread than the first.
    several: bool,
}

impl Threads {
    /// No vCPU.
    pub const fn none() -> Self {
        Self {
            table: [const { Thread::new() }; MAX_VCPUS],
            vcpus: 0,
            several: false,
        }
    }

    /// `vcpus` idle vCPUs, at most [`MAX_VCPUS`]; the first runs the first thread, which has an
    /// alternate signal stack from the start: the runtime would make itself one by four calls.
    pub fn boot(&mut self, vcpus: usize) {
        self.vcpus = vcpus.min(MAX_VCPUS);
        self.table[0].state = State::Running;
        self.table[0].stack = AlternateStack {
            base: SIGNAL_STACK,
            size: SIGNAL_STACK_SIZE,
        };
    }

    /// The thread of a vCPU of this Keep.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "by a number below MAX_VCPUS")]
    pub fn get(&mut self, vcpu: usize) -> &mut Thread {
        self.several |= vcpu != 0;
        &mut self.table[vcpu % MAX_VCPUS]
    }

    /// An idle vCPU for a new thread.
    pub fn idle(&self) -> Option<usize> {
        let mut threads = self.table.iter().take(self.vcpus);
        threads.position(|thread| thread.state == State::Idle)
    }

    /// vCPUs of this Keep.
    pub const fn vcpus(&self) -> usize {
        self.vcpus
    }

    /// True if a thread on another vCPU than `me` is in user code, or may get there without taking
    /// the kernel's lock.
    #[inline]
    pub fn others_running(&self, me: usize) -> bool {
        self.several
            && self
                .table
                .iter()
                .take(self.vcpus)
                .enumerate()
                .any(|(vcpu, thread)| vcpu != me && thread.state == State::Running)
    }

    /// True if every vCPU is idle.
    pub fn all_idle(&self) -> bool {
        let mut threads = self.table.iter().take(self.vcpus);
        threads.all(|thread| thread.state == State::Idle)
    }

    /// Ends the sleep of at most `count` threads on the futex at `address`; returns the mask of
    /// their vCPUs, which the caller has to unpark.
    pub fn wake(&mut self, address: u64, count: u64) -> u64 {
        let mut mask = 0;
        let mut left = count;
        for (vcpu, thread) in self.table.iter_mut().take(self.vcpus).enumerate() {
            if left == 0 {
                break;
            }
            if thread.state == State::Waiting(address) {
                thread.state = State::Running;
                mask |= 1 << vcpu;
                left -= 1;
            }
        }
        mask
    }
}
