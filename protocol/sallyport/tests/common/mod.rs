//! Regions for the tests: memory of this process, used again by one test after the other.

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use enarx_sallyport::{REGION_SIZE, Region};

static POOL: Mutex<Vec<&'static [AtomicU64]>> = Mutex::new(Vec::new());

/// A region that goes back to the pool, with whatever is in it, when it is dropped.
pub struct TestRegion {
    memory: &'static [AtomicU64],
    region: Region,
}

impl TestRegion {
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
