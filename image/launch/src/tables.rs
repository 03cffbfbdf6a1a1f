// SPDX-License-Identifier: Apache-2.0

//! Page tables and other tables, built before launch in the pages that will hold them.

use enarx_boot::address::{CBit, Gpa};
use enarx_boot::layout::PAGE;
use enarx_boot::page_table::Pte;

/// The bytes of a page under construction.
pub type Bytes = Box<[u8; 4096]>;

/// Pages of the launch area, allocated upwards.
#[derive(Debug)]
pub struct Pages {
    start: u64,
    /// The C-bit, which the tables' own entries carry.
    c_bit: CBit,
    list: Vec<Bytes>,
}

impl Pages {
    /// No page yet; the first will lie at `start`, a multiple of the page size.
    pub fn new(start: u64, c_bit: CBit) -> Self {
        Self {
            start,
            c_bit,
            list: Vec::new(),
        }
    }

    /// A new zeroed page; its guest physical address.
    pub fn allocate(&mut self) -> u64 {
        let page = self.end();
        self.list.push(Box::new([0; 4096]));
        page
    }

    /// Address of the first page.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// First address after the pages.
    pub fn end(&self) -> u64 {
        self.start + self.list.len() as u64 * PAGE
    }

    /// The page and the offset of an address.
    fn place(&self, physical: u64) -> (usize, usize) {
        let distance = usize::try_from(physical - self.start).unwrap_or(usize::MAX);
        (distance / 4096, distance % 4096)
    }

    /// Writes bytes at a guest physical address; they may span pages, all of them allocated.
    pub fn write(&mut self, physical: u64, bytes: &[u8]) {
        let (mut index, mut offset) = self.place(physical);
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(4096 - offset));
            self.list[index][offset..offset + now.len()].copy_from_slice(now);
            (index, offset, rest) = (index + 1, 0, later);
        }
    }

    /// Writes a word at an aligned guest physical address.
    pub fn write_u64(&mut self, physical: u64, value: u64) {
        self.write(physical, &value.to_le_bytes());
    }

    fn read_u64(&self, physical: u64) -> u64 {
        let (index, offset) = self.place(physical);
        let mut word = [0; 8];
        word.copy_from_slice(&self.list[index][offset..offset + 8]);
        u64::from_le_bytes(word)
    }

    /// The pages with their addresses, in order.
    pub fn into_pages(self) -> impl Iterator<Item = (u64, Bytes)> {
        let start = self.start;
        self.list
            .into_iter()
            .enumerate()
            .map(move |(index, bytes)| (start + index as u64 * PAGE, bytes))
    }

    /// Puts `entry` into the slot of `address` at `level` (1 = 4 KiB), making the tables above.
    pub fn map(&mut self, root: u64, address: u64, level: u32, entry: Pte) {
        let mut table = root;
        for above in (level + 1..=4).rev() {
            let slot = table + ((address >> (12 + 9 * (above - 1))) & 511) * 8;
            let mut next = Pte::from_bits(self.read_u64(slot));
            if next.is_empty() {
                let table = Gpa::new(self.allocate());
                next = Pte::table(self.c_bit.private(table));
                self.write_u64(slot, next.bits());
            }
            table = next.address().gpa().get();
        }
        let slot = table + ((address >> (12 + 9 * (level - 1))) & 511) * 8;
        self.write_u64(slot, entry.bits());
    }
}
