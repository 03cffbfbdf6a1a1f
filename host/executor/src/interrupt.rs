// SPDX-License-Identifier: Apache-2.0

//! Threads that can be made to leave the guest, or a system call that sleeps, by a signal.
//!
//! The signal does nothing else: its sender first records why the thread should stop, and repeats the
//! signal until the thread has ended, because it may arrive just before the thread sleeps.

#![expect(
    unsafe_code,
    reason = "signals and their handlers have no safe interface"
)]

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::{Mutex, Once, PoisonError};

/// A thread of the VMM, for those that want to interrupt it. Empty before it runs and after.
#[derive(Debug, Default)]
pub struct Interruptible(Mutex<Option<libc::pthread_t>>);

impl Interruptible {
    /// Runs `f`, during which [`Self::interrupt`] reaches the calling thread.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        handle_signal();
        // SAFETY: always succeeds.
        *self.lock() = Some(unsafe { libc::pthread_self() });
        let _leave = Leave(self);
        f()
    }

    /// Makes the thread leave the guest, or the system call that it sleeps in.
    pub fn interrupt(&self) {
        if let Some(thread) = *self.lock() {
            // SAFETY: the thread takes its handle away under this lock before it ends (`Leave`), so
            // the handle is valid.
            unsafe { libc::pthread_kill(thread, signal()) };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<libc::pthread_t>> {
        // One value is consistent whatever happened to the thread that held the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the thread's handle away, also when it panics.
struct Leave<'a>(&'a Interruptible);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// The signal.
pub fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

thread_local! {
    /// The byte that the signal sets on this thread.
    static FLAG: Cell<*mut u8> = const { Cell::new(null_mut()) };
}

/// Runs `f`, during which a signal to this thread sets the byte at `flag` to 1. The `immediate_exit` of
/// a vCPU's `kvm_run` makes `KVM_RUN` end at once, also if the signal comes just before the call.
///
/// # Safety
/// `flag` must be valid for writes until `f` has returned or panicked, and must be accessed by volatile
/// or atomic operations only meanwhile.
pub unsafe fn with_flag<R>(flag: *mut u8, f: impl FnOnce() -> R) -> R {
    /// Forgets the byte, also after a panic.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            FLAG.set(null_mut());
        }
    }
    FLAG.set(flag);
    let _forget = Forget;
    f()
}

/// Installs the handler of the signal, once. A process does it before it is confined.
pub fn handle_signal() {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: the action is fully initialised, and without `SA_RESTART`; the handler touches a
        // thread-local cell and the byte that it points to only, which is async-signal-safe.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            libc::sigaction(signal(), &raw const action, null_mut());
        }
    });
}

extern "C" fn on_signal(_: libc::c_int) {
    let flag = FLAG.try_with(Cell::get).unwrap_or(null_mut());
    if !flag.is_null() {
        // SAFETY: `with_flag` was given a byte that is valid for writes until it clears it on this same thread.
        unsafe { flag.write_volatile(1) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_thread_asleep_in_a_system_call_is_interrupted() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let thread = Arc::new(Interruptible::default());
        let inside = Arc::clone(&thread);
        let reading = Arc::new(AtomicBool::new(false));
        let started = Arc::clone(&reading);
        let handle = thread::spawn(move || {
            inside.run(|| {
                started.store(true, Ordering::SeqCst);
                rustix::io::read(&reader, &mut [0; 1])
            })
        });
        while !reading.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        while !handle.is_finished() {
            thread.interrupt();
            thread::sleep(Duration::from_micros(50));
        }
        assert_eq!(handle.join().unwrap(), Err(rustix::io::Errno::INTR));
        // It has ended: nobody is signalled.
        thread.interrupt();
    }
}
