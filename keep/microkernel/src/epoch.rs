// SPDX-License-Identifier: Apache-2.0

//! The epoch that keeps the vCPUs' TLBs consistent. Trusts nothing: every word is in the microkernel's
//! own memory.
//!
//! It is generic over its atomic words, because a test explores every interleaving with loom's.

use core::sync::atomic::{AtomicU64, Ordering};

use enarx_boot::layout::MAX_VCPUS;

/// A 64-bit atomic word, with the operations that the epoch needs.
pub trait Word {
    /// Loads the word.
    fn load(&self, order: Ordering) -> u64;
    /// Stores `value`.
    fn store(&self, value: u64, order: Ordering);
    /// Adds `value`; returns the word before.
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    /// Subtracts `value`; returns the word before.
    fn fetch_sub(&self, value: u64, order: Ordering) -> u64;
    /// Keeps the bits of `value`; returns the word before.
    fn fetch_and(&self, value: u64, order: Ordering) -> u64;
    /// Sets the bits of `value`; returns the word before.
    fn fetch_or(&self, value: u64, order: Ordering) -> u64;
}

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_add(value, order)
    }

    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_sub(value, order)
    }

    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_and(value, order)
    }

    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.fetch_or(value, order)
    }
}

/// The translations that each vCPU may hold: one epoch for the page tables, one acknowledgement a vCPU.
///
/// A vCPU in the kernel uses no user translation, and flushes when it returns to user code with an old
/// epoch. A vCPU that reduces rights advances the epoch and waits for those in user code.
#[derive(Debug)]
pub struct Epoch<W = AtomicU64, const VCPUS: usize = MAX_VCPUS> {
    current: W,
    /// Mask of the vCPUs in user code.
    in_user: W,
    /// The epoch that each vCPU's TLB has seen.
    seen: [W; VCPUS],
    /// Kicks that were requested from the host and have not arrived.
    kicks: [W; VCPUS],
}

/// Kicks of one vCPU that may be pending at the same time: one queued by KVM, and one recorded by the
/// VMM. More requests are merged into these.
const MOST_KICKS: u64 = 2;

const _: () = assert!(MAX_VCPUS <= 64);

impl Epoch {
    /// No vCPU in user code, nothing to flush.
    pub const fn new() -> Self {
        Self {
            current: AtomicU64::new(0),
            in_user: AtomicU64::new(0),
            seen: [const { AtomicU64::new(0) }; MAX_VCPUS],
            kicks: [const { AtomicU64::new(0) }; MAX_VCPUS],
        }
    }
}

impl Default for Epoch {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::indexing_slicing, reason = "by numbers below VCPUS")]
impl<W: Word, const VCPUS: usize> Epoch<W, VCPUS> {
    /// An epoch over these words, which are zero.
    pub const fn over(current: W, in_user: W, seen: [W; VCPUS], kicks: [W; VCPUS]) -> Self {
        Self {
            current,
            in_user,
            seen,
            kicks,
        }
    }

    /// Notes that the vCPU came from user code.
    #[inline]
    pub fn enter_kernel(&self, vcpu: usize) {
        self.in_user
            .fetch_and(!(1 << (vcpu % VCPUS)), Ordering::SeqCst);
    }

    /// Notes that the vCPU goes to user code. True if it must flush its TLB first.
    #[inline]
    pub fn leave_kernel(&self, vcpu: usize) -> bool {
        // The order matters: a vCPU that advances the epoch either sees the bit, or its change is seen
        // here.
        self.in_user.fetch_or(1 << (vcpu % VCPUS), Ordering::SeqCst);
        let current = self.current.load(Ordering::SeqCst);
        let seen = &self.seen[vcpu % VCPUS];
        // Only this vCPU writes its own word.
        let behind = seen.load(Ordering::Relaxed) != current;
        if behind {
            seen.store(current, Ordering::SeqCst);
        }
        behind
    }

    /// Starts a new epoch that no vCPU has seen: each finds in [`Self::leave_kernel`] that its own is
    /// old.
    pub fn advance_all(&self) {
        self.current.fetch_add(1, Ordering::SeqCst);
    }

    /// The vCPUs but `me` in user code, as a mask.
    fn others_in_user(&self, me: usize) -> u64 {
        self.in_user.load(Ordering::SeqCst) & !(1 << (me % VCPUS))
    }

    /// Starts a new epoch; `me` has flushed.
    #[inline]
    pub fn advance(&self, me: usize) -> u64 {
        let new = self.current.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen[me % VCPUS].store(new, Ordering::SeqCst);
        new
    }

    /// Notes that the host is about to be asked to kick the vCPUs of `mask`; under the kernel's lock.
    pub fn expect_kicks(&self, mask: u64) {
        for (vcpu, kicks) in self.kicks.iter().enumerate() {
            if mask >> vcpu & 1 == 1 && kicks.load(Ordering::SeqCst) < MOST_KICKS {
                kicks.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Records that a kick has arrived at this vCPU. False if nobody had requested it.
    pub fn take_kick(&self, vcpu: usize) -> bool {
        let kicks = &self.kicks[vcpu % VCPUS];
        // Only this vCPU takes them.
        let expected = kicks.load(Ordering::SeqCst) != 0;
        if expected {
            kicks.fetch_sub(1, Ordering::SeqCst);
        }
        expected
    }

    /// The vCPUs but `me` that are in user code with translations older than `epoch`.
    pub fn behind(&self, me: usize, epoch: u64) -> u64 {
        let mut mask = 0;
        let mut others = self.others_in_user(me);
        while others != 0 {
            let vcpu = others.trailing_zeros() as usize;
            if self.seen[vcpu % VCPUS].load(Ordering::SeqCst) < epoch {
                mask |= 1 << vcpu;
            }
            others &= others - 1;
        }
        mask
    }
}
