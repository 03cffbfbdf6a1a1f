// SPDX-License-Identifier: Apache-2.0

//! How much memory the application may still take, shared by everything that grows at its will.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

/// Bytes that are given without asking the system: asking is a system call, for which small applications need
/// not pay. They are part of the memory that the runtime keeps for itself.
pub const FREE_BYTES: u64 = 2 << 20;

/// Bytes of the heap that are given back to the system together: looking for them is a walk over the heap.
const RELEASE_BATCH: u64 = 4 << 20;

/// The way in which a budget asks for memory beyond [`FREE_BYTES`], and makes freed memory usable for everybody.
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

    /// A budget of as many bytes as `memory` has when more than [`FREE_BYTES`] are taken, or of those.
    pub fn asking(memory: impl Memory + 'static) -> Self {
        Self(Arc::new(Shared {
            left: AtomicU64::new(FREE_BYTES),
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
                asked.call_once(|| self.give(memory.all().saturating_sub(FREE_BYTES)));
                try_take(left, bytes) || (self.release_heap() && try_take(left, bytes))
            })
    }

    /// Takes bytes for the heap. Returns false, and takes nothing, if there are not enough.
    #[must_use]
    pub fn take_heap(&self, bytes: u64) -> bool {
        try_take(&self.0.heap, bytes) || self.take(bytes)
    }

    /// Returns bytes that were taken.
    pub fn give(&self, bytes: u64) {
        self.0.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns bytes that were taken for the heap and have been freed there.
    pub fn give_heap(&self, bytes: u64) {
        if self.0.memory.is_none() {
            return self.give(bytes);
        }
        let before = self.0.heap.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) >= RELEASE_BATCH {
            self.release_heap();
        }
    }

    /// Makes freed heap memory usable for everybody. False if there was none.
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

/// Heap memory that was taken from a budget; returned when dropped.
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

/// The reason why the Keep cannot hold more for an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// It holds as much as one instance may, in bytes.
    #[error(
        "it makes the Keep hold more for it (headers, bodies of messages, names) than the {} MiB that an instance may",
        .0 >> 20
    )]
    Allowance(u64),
    /// The Keep has no more.
    #[error(
        "it makes the Keep hold more for it (headers, bodies of messages, names) than there is memory: give it more with --memory"
    )]
    Budget,
}

/// The memory that the Keep may hold for one instance, in addition to its own memories and tables and for any
/// time: a part of the common budget. Clones share it.
#[derive(Clone, Debug)]
pub struct Allowance(Arc<Allowed>);

#[derive(Debug)]
struct Allowed {
    budget: Budget,
    /// Bytes in all.
    all: u64,
    /// Bytes that may still be taken.
    left: AtomicU64,
}

impl Allowance {
    /// At most this many bytes of a budget; none of them is taken yet.
    pub fn new(budget: &Budget, bytes: u64) -> Self {
        Self(Arc::new(Allowed {
            budget: budget.clone(),
            all: bytes,
            left: AtomicU64::new(bytes),
        }))
    }

    /// Takes memory on the heap.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(&self, bytes: u64) -> Result<Holding, Full> {
        let mut holding = Holding {
            allowance: self.clone(),
            bytes: 0,
        };
        holding.grow(bytes)?;
        Ok(holding)
    }
}

/// Heap memory that the Keep holds for an instance; returned when dropped.
#[derive(Debug)]
pub struct Holding {
    allowance: Allowance,
    bytes: u64,
}

impl Holding {
    /// Takes more.
    ///
    /// # Errors
    /// [`Full`]; then nothing more is taken.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Full> {
        let Allowed { budget, all, left } = &*self.allowance.0;
        if !try_take(left, bytes) {
            return Err(Full::Allowance(*all));
        }
        if !budget.take_heap(bytes) {
            left.fetch_add(bytes, Ordering::Relaxed);
            return Err(Full::Budget);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Gives some back, as much as was taken at most.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        let Allowed { budget, left, .. } = &*self.allowance.0;
        left.fetch_add(bytes, Ordering::Relaxed);
        budget.give_heap(bytes);
    }

    /// Takes more or gives some back, until it is this much.
    ///
    /// # Errors
    /// [`Full`]; then it stays as it is.
    pub fn resize(&mut self, bytes: u64) -> Result<(), Full> {
        if let Some(more) = bytes.checked_sub(self.bytes) {
            return self.grow(more);
        }
        self.shrink(self.bytes.saturating_sub(bytes));
        Ok(())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.shrink(self.bytes);
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
    fn taken_memory_is_unavailable_until_it_is_returned() {
        let budget = Budget::new(10);
        assert!(budget.clone().take(7));
        assert!(!budget.take(4));
        budget.give(7);
        assert!(budget.take(10));
        assert!(!budget.take(1));
    }

    /// This many bytes in all, and the number of times that the heap was released.
    struct FixedMemory(u64, Arc<AtomicU64>);

    impl Memory for FixedMemory {
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
    fn small_amounts_are_taken_without_asking_the_source() {
        let budget = Budget::asking(Silent);
        assert!(budget.take(FREE_BYTES));
    }

    #[test]
    fn the_source_is_asked_once() {
        let budget = Budget::asking(FixedMemory(2 * FREE_BYTES, Arc::default()));
        for _ in 0..2 {
            assert!(budget.take(FREE_BYTES));
        }
        for _ in 0..2 {
            assert!(!budget.take(1));
        }
    }

    #[test]
    fn memory_returned_to_the_heap_stays_there_until_released() {
        let released = Arc::new(AtomicU64::new(0));
        let count = || released.load(Ordering::Relaxed);
        let budget = Budget::asking(FixedMemory(10 * RELEASE_BATCH, Arc::clone(&released)));
        assert!(budget.take_heap(10 * RELEASE_BATCH));
        // Little stays, for the heap.
        budget.give_heap(100);
        assert!(budget.take_heap(100));
        assert_eq!(count(), 0);
        // A part that needs it still gets it, once the system has it.
        budget.give_heap(100);
        assert!(budget.take(100));
        assert_eq!(count(), 1);
        assert!(!budget.take(1) && !budget.take_heap(1));
        // A large amount is returned at once.
        for _ in 0..4 {
            budget.give_heap(RELEASE_BATCH / 4);
        }
        assert_eq!(count(), 2);
        assert!(budget.take(RELEASE_BATCH));
        assert_eq!(count(), 2);
    }

    #[test]
    fn an_instance_holds_at_most_its_share_and_returns_it() {
        let budget = Budget::new(100);
        let one = Allowance::new(&budget, 60);
        let other = Allowance::new(&budget, 60);
        let mut held = one.take(50).unwrap();
        assert_eq!(held.grow(11), Err(Full::Allowance(60)));
        assert_eq!(other.take(60).err(), Some(Full::Budget));
        // A refusal takes of neither.
        let rest = other.take(50).unwrap();
        assert_eq!(held.grow(1), Err(Full::Budget));
        drop(rest);
        held.resize(60).unwrap();
        held.resize(20).unwrap();
        held.shrink(100);
        assert!(one.take(60).is_ok());
        held.grow(60).unwrap();
        drop(held);
        assert!(one.take(60).is_ok() && budget.take(100));
    }
}
