//! Every interleaving of a vCPU that takes a page away with one that comes and goes: the page's
//! frame is never freed while the other may use a translation of it.

use loom::model::Builder;
use loom::sync::Arc;
use loom::thread;

use core::sync::atomic::Ordering;
use enarx_microkernel::epoch::{Epoch, Word};

/// Loom takes sequentially consistent loads and stores for weaker ones. As read-modify-write
/// operations they see the latest value, as they do on a CPU.
struct AtomicU64(loom::sync::atomic::AtomicU64);

impl AtomicU64 {
    fn new(value: u64) -> Self {
        Self(loom::sync::atomic::AtomicU64::new(value))
    }
}

impl Word for AtomicU64 {
    fn load(&self, _: Ordering) -> u64 {
        self.0.fetch_or(0, Ordering::SeqCst)
    }

    fn store(&self, value: u64, _: Ordering) {
        self.0.swap(value, Ordering::SeqCst);
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }

    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_and(value, order)
    }

    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_or(value, order)
    }
}

/// The vCPU that takes away, and the one that comes and goes.
const TAKER: usize = 0;
const OTHER: usize = 1;

struct World {
    epoch: Epoch<AtomicU64, 2>,
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
            epoch: Epoch::over(
                AtomicU64::new(0),
                AtomicU64::new(0),
                [AtomicU64::new(0), AtomicU64::new(0)],
            ),
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
