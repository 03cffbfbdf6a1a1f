// SPDX-License-Identifier: Apache-2.0

//! How much memory the application may still take, shared by everything that grows at its will.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

/// Bytes that are given without asking: asking is a system call, which small applications need not
/// pay for. They come out of what the runtime keeps for itself.
pub const UNASKED: u64 = 2 << 20;

/// Bytes of the heap that are given back to the system together: looking for them is a walk over the heap.
const TOGETHER: u64 = 4 << 20;

/// How a budget learns of memory beyond [`UNASKED`], and makes freed memory usable for everybody.
pub trait Memory: Send + Sync {
    /// Bytes that there are in all.
    fn all(&self) -> u64;
    /// Gives pages of the heap that are free back to the system.
    fn release_heap(&self);
}

/// Bytes that may still be taken; clones share them.
///
/// Memory freed on the heap stays there, for the heap alone, until the heap is searched for whole pages: so it
/// is counted apart.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

struct Shared {
    left: AtomicU64,
    /// Bytes of the heap that were given back.
    heap: AtomicU64,
    /// Says how many there are in all, once.
    memory: Option<Box<dyn Memory>>,
    asked: Once,
}

/// Takes bytes off a number. False, and nothing is taken, if there are not enough.
fn try_take(from: &AtomicU64, bytes: u64) -> bool {
    from.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(bytes)
    })
    .is_ok()
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Shared {
            left: AtomicU64::new(bytes),
            heap: AtomicU64::new(0),
            memory: None,
            asked: Once::new(),
        }))
    }

    /// A budget of as many bytes as `memory` has when more than [`UNASKED`] are taken, or of those.
    pub fn asking(memory: impl Memory + 'static) -> Self {
        Self(Arc::new(Shared {
            left: AtomicU64::new(UNASKED),
            heap: AtomicU64::new(0),
            memory: Some(Box::new(memory)),
            asked: Once::new(),
        }))
    }

    /// Takes bytes. False, and nothing is taken, if there are not enough.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        let Shared {
            left,
            memory,
            asked,
            ..
        } = &*self.0;
        try_take(left, bytes)
            || memory.as_ref().is_some_and(|memory| {
                asked.call_once(|| self.give(memory.all().saturating_sub(UNASKED)));
                try_take(left, bytes) || (self.release_heap() && try_take(left, bytes))
            })
    }

    /// Takes bytes for the heap. False, and nothing is taken, if there are not enough.
    #[must_use]
    pub fn take_heap(&self, bytes: u64) -> bool {
        try_take(&self.0.heap, bytes) || self.take(bytes)
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: u64) {
        self.0.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what was taken for the heap, and has been freed there.
    pub fn give_heap(&self, bytes: u64) {
        if self.0.memory.is_none() {
            return self.give(bytes);
        }
        let before = self.0.heap.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) >= TOGETHER {
            self.release_heap();
        }
    }

    /// Makes what was freed on the heap usable for everybody. False if there was nothing.
    fn release_heap(&self) -> bool {
        let Some(memory) = &self.0.memory else {
            return false;
        };
        let bytes = self.0.heap.swap(0, Ordering::Relaxed);
        if bytes > 0 {
            memory.release_heap();
            self.give(bytes);
        }
        bytes > 0
    }
}

/// Memory on the heap that was taken from a budget; given back when dropped.
pub(crate) struct Share {
    budget: Budget,
    bytes: u64,
}

impl Share {
    /// Takes memory. `None` if there is not enough.
    pub(crate) fn take(budget: &Budget, bytes: u64) -> Option<Self> {
        budget.take_heap(bytes).then(|| Self {
            budget: budget.clone(),
            bytes,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give_heap(self.bytes);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_missing_until_it_is_given_back() {
        let budget = Budget::new(10);
        assert!(budget.clone().take(7));
        assert!(!budget.take(4));
        budget.give(7);
        assert!(budget.take(10));
        assert!(!budget.take(1));
    }

    /// So many bytes in all, and how often the heap was released.
    struct Has(u64, Arc<AtomicU64>);

    impl Memory for Has {
        fn all(&self) -> u64 {
            self.0
        }

        fn release_heap(&self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Must not be asked.
    struct Silent;

    impl Memory for Silent {
        fn all(&self) -> u64 {
            panic!("asked")
        }

        fn release_heap(&self) {
            panic!("asked")
        }
    }

    #[test]
    fn nobody_is_asked_for_little() {
        let budget = Budget::asking(Silent);
        assert!(budget.take(UNASKED));
    }

    #[test]
    fn asking_happens_once() {
        let budget = Budget::asking(Has(2 * UNASKED, Arc::default()));
        for _ in 0..2 {
            assert!(budget.take(UNASKED));
        }
        for _ in 0..2 {
            assert!(!budget.take(1));
        }
    }

    #[test]
    fn what_the_heap_gets_back_is_the_heaps_until_it_is_released() {
        let released = Arc::new(AtomicU64::new(0));
        let count = || released.load(Ordering::Relaxed);
        let budget = Budget::asking(Has(10 * TOGETHER, Arc::clone(&released)));
        assert!(budget.take_heap(10 * TOGETHER));
        // Little stays, for the heap.
        budget.give_heap(100);
        assert!(budget.take_heap(100));
        assert_eq!(count(), 0);
        // A part that needs it gets it all the same, once the system has it.
        budget.give_heap(100);
        assert!(budget.take(100));
        assert_eq!(count(), 1);
        assert!(!budget.take(1) && !budget.take_heap(1));
        // Much goes back at once.
        for _ in 0..4 {
            budget.give_heap(TOGETHER / 4);
        }
        assert_eq!(count(), 2);
        assert!(budget.take(TOGETHER));
        assert_eq!(count(), 2);
    }
}
