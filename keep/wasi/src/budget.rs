//! How much memory the application may still take, shared by everything that grows at its will.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

/// Bytes that are given without asking: asking is a system call, which small applications need not
/// pay for. They come out of what the runtime keeps for itself.
pub const UNASKED: u64 = 2 << 20;

/// Bytes that may still be taken; clones share them.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

struct Shared {
    left: AtomicU64,
    /// Says how many there are in all, once.
    all: Option<Box<dyn Fn() -> u64 + Send + Sync>>,
    asked: Once,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(Shared {
            left: AtomicU64::new(bytes),
            all: None,
            asked: Once::new(),
        }))
    }

    /// A budget of as many bytes as `all` says when more than [`UNASKED`] are taken, or of those.
    pub fn asking(all: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            left: AtomicU64::new(UNASKED),
            all: Some(Box::new(all)),
            asked: Once::new(),
        }))
    }

    /// Takes bytes; whether there were enough.
    #[must_use]
    pub fn take(&self, bytes: u64) -> bool {
        self.try_take(bytes)
            || self.0.all.as_ref().is_some_and(|all| {
                self.0
                    .asked
                    .call_once(|| self.give(all().saturating_sub(UNASKED)));
                self.try_take(bytes)
            })
    }

    fn try_take(&self, bytes: u64) -> bool {
        self.0
            .left
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .is_ok()
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: u64) {
        self.0.left.fetch_add(bytes, Ordering::Relaxed);
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

    #[test]
    fn nobody_is_asked_for_little() {
        let budget = Budget::asking(|| panic!("asked"));
        assert!(budget.take(UNASKED));
    }

    #[test]
    fn asking_happens_once() {
        let budget = Budget::asking(|| 2 * UNASKED);
        for _ in 0..2 {
            assert!(budget.take(UNASKED));
        }
        for _ in 0..2 {
            assert!(!budget.take(1));
        }
    }
}
