//! Every interleaving of a vCPU that takes a page away with one that comes and goes: the page's
//! frame is never freed while the other may use a translation of it.

use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;

use atomic::{AtomicU64, Ordering};
use epoch::Epoch;

/// Loom takes sequentially consistent loads and stores for weaker ones. As read-modify-write
/// operations they see the latest value, as they do in truth.
mod atomic {
    pub use loom::sync::atomic::Ordering;

    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub fn load(&self, _: Ordering) -> u64 {
            self.0.fetch_or(0, Ordering::SeqCst)
        }

        pub fn store(&self, value: u64, _: Ordering) {
            self.0.swap(value, Ordering::SeqCst);
        }

        pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            self.0.fetch_add(value, order)
        }

        pub fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
            self.0.fetch_sub(value, order)
        }

        pub fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
            self.0.fetch_and(value, order)
        }

        pub fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
            self.0.fetch_or(value, order)
        }
    }

    impl std::fmt::Debug for AtomicU64 {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }
}

mod layout {
    /// As many as the test has.
    pub const MAX_VCPUS: usize = 2;
}

#[path = "../src/epoch.rs"]
mod epoch;

/// The vCPU that takes away, and the one that comes and goes.
const TAKER: usize = 0;
const OTHER: usize = 1;

struct World {
    epoch: Epoch,
    /// The page-table entry.
    present: AtomicU64,
    freed: AtomicU64,
}

/// What the other vCPU's TLB holds.
struct User {
    cached: bool,
}

impl User {
    fn leave(&mut self, world: &World) {
        if world.epoch.leave_kernel(OTHER) {
            self.cached = false;
        }
        self.cached |= world.present.load(Ordering::SeqCst) == 1;
    }

    fn run(&self, world: &World) {
        if self.cached {
            assert_eq!(
                world.freed.load(Ordering::SeqCst),
                0,
                "a freed frame is in use"
            );
        }
    }
}

/// `starts_in_user`: else the other vCPU is in the kernel, with an old translation in its TLB.
fn explore(starts_in_user: bool) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(move || {
        let world = Arc::new(World {
            epoch: Epoch {
                current: AtomicU64::new(0),
                in_user: AtomicU64::new(0),
                seen: [AtomicU64::new(0), AtomicU64::new(0)],
                kicks: [AtomicU64::new(0), AtomicU64::new(0)],
            },
            present: AtomicU64::new(1),
            freed: AtomicU64::new(0),
        });
        let mut user = User { cached: true };
        if starts_in_user {
            user.leave(&world);
        }
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                if !starts_in_user {
                    user.leave(&world);
                }
                user.run(&world);
                world.epoch.enter_kernel(OTHER);
                user.leave(&world);
                user.run(&world);
                world.epoch.enter_kernel(OTHER);
            }
        });
        // Hide, flush, wait, free: as `Kernel::take_away` does.
        world.present.store(0, Ordering::SeqCst);
        let new = world.epoch.advance(TAKER);
        while world.epoch.behind(TAKER, new) != 0 {
            thread::yield_now();
        }
        world.freed.store(1, Ordering::SeqCst);
        other.join().unwrap();
    });
}

#[test]
fn a_vcpu_in_user_code_is_waited_for() {
    explore(true);
}

#[test]
fn a_vcpu_on_its_way_to_user_code_flushes() {
    explore(false);
}
