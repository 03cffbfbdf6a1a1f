// SPDX-License-Identifier: Apache-2.0

//! The steps that the vCPUs of the fake kernel play, and the state that a step leaves.

use kvm_bindings::kvm_run;
use rustix::io::Errno;

/// A step of a guest, or of its host.
#[derive(Clone, Debug)]
pub enum Play {
    /// Writes bytes to an I/O port.
    Port(u16, Vec<u8>),
    /// Requests a page state change.
    Hypercall([u64; 6]),
    /// Ends itself, or something similar.
    SystemEvent(u32, Vec<u64>),
    /// Touches a page in the other state: flags and address.
    MemoryFault(u64, u64),
    /// Starts another vCPU from the VMSA at this address; its own run continues.
    Create(usize, u64),
    /// Runs until a signal comes, with interrupts on or off.
    Signal(bool),
    /// Turns interrupts on: an exit if the window was requested, otherwise its run continues.
    Window,
    /// Turns interrupts on before it does this.
    On(Box<Self>),
    Shutdown,
    FailEntry(u64, u32),
    Internal(u32, Vec<u64>),
    /// The call fails, and the exit reason is stale.
    Fails(Errno),
}

/// The state that `KVM_RUN` left in the page, and that the kernel remembers.
pub struct Played {
    pub page: Box<kvm_run>,
    pub bytes: Vec<u8>,
    pub words: Vec<u64>,
    pub suberror: u32,
    pub ret: u64,
    /// A hypercall waits for its answer.
    pub asked: bool,
    pub entered: bool,
    /// An interrupt is queued.
    pub queued: std::cell::Cell<Option<u32>>,
}

impl Default for Played {
    fn default() -> Self {
        Self {
            page: Box::default(),
            bytes: Vec::new(),
            words: Vec::new(),
            suberror: 0,
            ret: 0,
            asked: false,
            entered: false,
            queued: std::cell::Cell::new(None),
        }
    }
}
