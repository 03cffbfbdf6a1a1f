//! Page tables and other tables, built before launch in the pages that will hold them.

use std::collections::BTreeMap;

use enarx_microkernel::layout::PAGE;
use enarx_microkernel::paging::{bits, table_entry};

/// The bytes of a page under construction.
pub type Bytes = Box<[u8; 4096]>;

/// Pages of the launch area, allocated upwards.
#[derive(Debug)]
pub struct Pages {
    next: u64,
    pages: BTreeMap<u64, Bytes>,
}

impl Pages {
    pub fn new(start: u64) -> Self {
        Self {
            next: start,
            pages: BTreeMap::new(),
        }
    }

    /// A new zeroed page; its guest physical address.
    pub fn allocate(&mut self) -> u64 {
        let page = self.next;
        self.next += PAGE;
        self.pages.insert(page, Box::new([0; 4096]));
        page
    }

    /// First address after the pages.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// Writes bytes at a guest physical address; they may span pages that were allocated.
    pub fn write(&mut self, physical: u64, bytes: &[u8]) {
        let mut at = physical;
        for &byte in bytes {
            let offset = usize::try_from(at % PAGE).unwrap_or(0);
            if let Some(page) = self.pages.get_mut(&(at - at % PAGE)) {
                page[offset] = byte;
            }
            at += 1;
        }
    }

    pub fn write_u64(&mut self, physical: u64, value: u64) {
        self.write(physical, &value.to_le_bytes());
    }

    fn read_u64(&self, physical: u64) -> u64 {
        let offset = usize::try_from(physical % PAGE).unwrap_or(0);
        self.pages
            .get(&(physical - physical % PAGE))
            .map_or(0, |page| {
                let mut word = [0; 8];
                word.copy_from_slice(&page[offset..offset + 8]);
                u64::from_le_bytes(word)
            })
    }

    pub fn into_pages(self) -> impl Iterator<Item = (u64, Bytes)> {
        self.pages.into_iter()
    }

    /// Puts `entry` into the slot of `address` at `level` (1 = 4 KiB), making the tables above.
    pub fn map(&mut self, root: u64, address: u64, level: u32, entry: u64) {
        let mut table = root;
        for above in (level + 1..=4).rev() {
            let slot = table + ((address >> (12 + 9 * (above - 1))) & 511) * 8;
            let mut next = self.read_u64(slot);
            if next == 0 {
                next = table_entry(self.allocate());
                self.write_u64(slot, next);
            }
            table = next & bits::ADDRESS;
        }
        let slot = table + ((address >> (12 + 9 * (level - 1))) & 511) * 8;
        self.write_u64(slot, entry);
    }
}
