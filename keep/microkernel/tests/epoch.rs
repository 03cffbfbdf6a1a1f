// SPDX-License-Identifier: Apache-2.0

//! Every interleaving of a vCPU that removes a page, kicks, or ends the Keep with one that enters and leaves:
//! the page's frame is never freed while the other may use a translation of it, no requested kick counts as
//! unrequested, and after the end nobody enters user code unnoticed.

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

    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_sub(value, order)
    }

    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_and(value, order)
    }

    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_or(value, order)
    }
}

/// The vCPU that removes, and the one that enters and leaves.
const TAKER: usize = 0;
const OTHER: usize = 1;

struct World {
    epoch: Epoch<AtomicU64, 2>,
    /// The page-table entry.
    present: AtomicU64,
    freed: AtomicU64,
}

/// Content of the other vCPU's TLB.
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

fn epoch() -> Epoch<AtomicU64, 2> {
    let words = || [AtomicU64::new(0), AtomicU64::new(0)];
    Epoch::over(AtomicU64::new(0), AtomicU64::new(0), words(), words())
}

/// `starts_in_user`: otherwise the other vCPU is in the kernel, with an old translation in its TLB.
fn explore(starts_in_user: bool) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(move || {
        let world = Arc::new(World {
            epoch: epoch(),
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
        // Hide, flush, wait, free: like `Kernel::remove`.
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

/// The host: a kick is noted once, however often it is requested, and then queued; both may be in transit.
#[test]
fn a_requested_kick_is_expected() {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(|| {
        let epoch = Arc::new(epoch());
        let noted = Arc::new(AtomicU64::new(0));
        let other = thread::spawn({
            let (epoch, noted) = (Arc::clone(&epoch), Arc::clone(&noted));
            move || {
                let mut taken = 0;
                for _ in 0..2 {
                    if noted.fetch_and(0, Ordering::SeqCst) == 1 {
                        assert!(epoch.take_kick(OTHER), "a kick that was asked for");
                        taken += 1;
                    }
                }
                taken
            }
        });
        for _ in 0..3 {
            epoch.expect_kicks(1 << OTHER);
            noted.fetch_or(1, Ordering::SeqCst);
        }
        let mut taken = other.join().unwrap();
        while epoch.take_kick(OTHER) {
            taken += 1;
        }
        assert!((2..=3).contains(&taken), "{taken} kicks of three requests");
    });
}

#[test]
fn no_vcpu_enters_user_code_unnoticed_after_the_end() {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(|| {
        let epoch = Arc::new(epoch());
        let ended = Arc::new(AtomicU64::new(0));
        let other = thread::spawn({
            let (epoch, ended) = (Arc::clone(&epoch), Arc::clone(&ended));
            move || {
                for _ in 0..2 {
                    let before = ended.load(Ordering::SeqCst) == 2;
                    let behind = epoch.leave_kernel(OTHER);
                    assert!(behind || !before, "in user code after the end");
                    if behind {
                        assert_ne!(ended.load(Ordering::SeqCst), 0, "stops at nothing");
                        return;
                    }
                    epoch.enter_kernel(OTHER);
                }
            }
        });
        ended.store(1, Ordering::SeqCst);
        epoch.advance_all();
        ended.store(2, Ordering::SeqCst);
        other.join().unwrap();
    });
}
