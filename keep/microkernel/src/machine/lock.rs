// SPDX-License-Identifier: Apache-2.0

//! The only lock of the microkernel. Once the Keep has ended it may be held forever; waiting for it then
//! is harmless.

#![expect(unsafe_code, reason = "a lock hands out what it guards")]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use enarx_microkernel::kernel::{Guarded, Kernel};
use enarx_microkernel::snp::message::MessageKey;

use super::cpu::Machine;
use super::end::{KEY, stop_if_ended};
use super::stack::current_vcpu;

/// A spin lock around the kernel.
pub struct KernelLock {
    taken: AtomicBool,
    kernel: UnsafeCell<Kernel>,
}

// SAFETY: the kernel is only reached in `with`, with `taken` held.
unsafe impl Sync for KernelLock {}

impl KernelLock {
    /// A free lock around the kernel before boot.
    pub const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            kernel: UnsafeCell::new(Kernel::new()),
        }
    }

    /// Takes the lock after another vCPU.
    #[cold]
    #[inline(never)]
    fn contend(&self) {
        let mut machine = Machine::new(current_vcpu());
        loop {
            while self.taken.load(Ordering::Relaxed) {
                core::hint::spin_loop();
                stop_if_ended(&mut machine);
            }
            if !self.taken.swap(true, Ordering::Acquire) {
                return;
            }
        }
    }
}

impl Guarded for KernelLock {
    fn with<R>(&self, f: impl FnOnce(&mut Kernel) -> R) -> R {
        if self.taken.swap(true, Ordering::Acquire) {
            self.contend();
        }
        // SAFETY: `taken` is ours until the store below, so this is the only reference; if `f` called
        // this again, it would wait forever and never create another.
        let result = f(unsafe { &mut *self.kernel.get() });
        self.taken.store(false, Ordering::Release);
        result
    }

    fn key(&self) -> &MessageKey {
        &KEY
    }
}
