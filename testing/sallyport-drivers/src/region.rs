// SPDX-License-Identifier: Apache-2.0

//! Regions for the tests: memory of this process, used again by one test after the other, and a watch
//! over what an end does with it.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use enarx_sallyport::layout::{
    COMPLETION_RING, CONTROL_SIZE, CQ_HEAD, CQ_TAIL, HOST_STATE, REQUEST_TABLE, SQ_HEAD, SQ_TAIL,
    SUBMISSION_RING, Word32, Word64,
};
use enarx_sallyport::{OutOfRange, REGION_SIZE, Region, SharedMemory, Slot};

static POOL: Mutex<Vec<&'static [AtomicU64]>> = Mutex::new(Vec::new());

/// A region that goes back to the pool, with whatever is in it, when it is dropped.
pub struct TestRegion {
    memory: &'static [AtomicU64],
    region: Region,
}

impl TestRegion {
    /// A region of the pool, or a new one.
    pub fn take() -> Self {
        let pooled = POOL.lock().expect("the pool is sound").pop();
        let memory = pooled.unwrap_or_else(|| {
            let words: Vec<_> = (0..REGION_SIZE / 8).map(|_| AtomicU64::new(0)).collect();
            words.leak()
        });
        let region = Region::from_static(memory).expect("the length is right");
        Self { memory, region }
    }
}

impl Deref for TestRegion {
    type Target = Region;

    fn deref(&self) -> &Region {
        &self.region
    }
}

impl Drop for TestRegion {
    fn drop(&mut self) {
        POOL.lock().expect("the pool is sound").push(self.memory);
    }
}

/// Which end uses the memory.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    /// The Keep's.
    Keep,
    /// The host's.
    Host,
}

/// The other side's records begin and end here, as bytes of the region.
fn foreign_records(side: Side) -> std::ops::Range<usize> {
    match side {
        Side::Keep => COMPLETION_RING as usize..REQUEST_TABLE as usize,
        Side::Host => REQUEST_TABLE as usize..REQUEST_TABLE as usize + 64 * 64,
    }
}

/// Memory that checks an end: it stores only in its own places, and loads a word of the other side's
/// records at most once per call of the end (a second load could give another value).
pub struct Watched {
    region: Region,
    side: Side,
    launching: RefCell<bool>,
    loaded: RefCell<Vec<usize>>,
}

impl Watched {
    /// The memory of `region`, for the end of `side`.
    pub fn new(region: Region, side: Side) -> Self {
        Self {
            region,
            side,
            launching: RefCell::new(side == Side::Host),
            loaded: RefCell::new(Vec::new()),
        }
    }

    /// From now on the host's end may no longer store in the whole control page.
    pub fn launched(&self) {
        *self.launching.borrow_mut() = false;
    }

    /// Another call of the end begins.
    pub fn next_call(&self) {
        self.loaded.borrow_mut().clear();
    }
}

impl SharedMemory for &Watched {
    fn load_u32(&self, at: Word32, ordering: Ordering) -> u32 {
        self.region.load_u32(at, ordering)
    }

    fn store_u32(&self, at: Word32, value: u32, ordering: Ordering) {
        let ring = SUBMISSION_RING as usize..SUBMISSION_RING as usize + 64 * 4;
        let own = match self.side {
            Side::Keep => at == SQ_TAIL || at == CQ_HEAD || ring.contains(&at.offset()),
            Side::Host => [SQ_HEAD, CQ_TAIL, HOST_STATE].contains(&at),
        };
        assert!(own || *self.launching.borrow(), "store at {at:?}");
        self.region.store_u32(at, value, ordering);
    }

    fn load_u64(&self, at: Word64) -> u64 {
        if foreign_records(self.side).contains(&at.offset()) {
            let mut loaded = self.loaded.borrow_mut();
            assert!(!loaded.contains(&at.offset()), "second load at {at:?}");
            loaded.push(at.offset());
        }
        self.region.load_u64(at)
    }

    fn store_u64(&self, at: Word64, value: u64) {
        // Either side's records are the foreign ones of the other.
        let own = foreign_records(match self.side {
            Side::Keep => Side::Host,
            Side::Host => Side::Keep,
        });
        let at_launch = *self.launching.borrow() && at.offset() < CONTROL_SIZE as usize;
        assert!(own.contains(&at.offset()) || at_launch, "store at {at:?}");
        self.region.store_u64(at, value);
    }

    fn fence(&self) {
        self.region.fence();
    }

    fn read(&self, slot: Slot, offset: u32, out: &mut [u8]) -> Result<(), OutOfRange> {
        self.region.read(slot, offset, out)
    }

    fn write(&self, slot: Slot, offset: u32, bytes: &[u8]) -> Result<(), OutOfRange> {
        self.region.write(slot, offset, bytes)
    }
}
