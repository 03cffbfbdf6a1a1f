//! The one lock of the microkernel.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use enarx_microkernel::kernel::Kernel;
use enarx_microkernel::syscall::Guarded;

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
}

impl Guarded for KernelLock {
    fn with<R>(&self, f: impl FnOnce(&mut Kernel) -> R) -> R {
        while self.taken.swap(true, Ordering::Acquire) {
            while self.taken.load(Ordering::Relaxed) {
                core::hint::spin_loop();
            }
        }
        // SAFETY: `taken` is ours until the store below; `f` cannot come back here, because the
        // users of this lock never nest.
        let result = f(unsafe { &mut *self.kernel.get() });
        self.taken.store(false, Ordering::Release);
        result
    }
}
