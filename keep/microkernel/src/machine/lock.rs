//! The one lock of the microkernel.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use enarx_microkernel::kernel::Kernel;
use enarx_microkernel::syscall::Guarded;

/// A spin lock around the kernel, empty until boot.
pub struct KernelLock {
    taken: AtomicBool,
    kernel: UnsafeCell<Option<Kernel>>,
}

// SAFETY: the kernel is only reached in `locked`, with `taken` held.
unsafe impl Sync for KernelLock {}

impl KernelLock {
    /// An empty lock.
    pub const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            kernel: UnsafeCell::new(None),
        }
    }

    /// Puts the kernel in; called once, by the first vCPU, before any other runs.
    pub fn set(&self, kernel: Kernel) {
        self.locked(|slot| *slot = Some(kernel));
    }

    fn locked<R>(&self, f: impl FnOnce(&mut Option<Kernel>) -> R) -> R {
        while self.taken.swap(true, Ordering::Acquire) {
            while self.taken.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
        // SAFETY: `taken` is ours until the store below; `f` cannot call back into this lock,
        // because the lock's users never nest.
        let result = f(unsafe { &mut *self.kernel.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}

impl Guarded for KernelLock {
    fn with<R>(&self, f: impl FnOnce(&mut Kernel) -> R) -> R {
        self.locked(|slot| match slot {
            Some(kernel) => f(kernel),
            None => crate::end(enarx_microkernel::exits::Reason::Boot, 0),
        })
    }
}
