// SPDX-License-Identifier: Apache-2.0

//! The layout of a launch, as the CPU would see it; and a program to lay out.
#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use enarx_boot::layout::LARGE;
use enarx_boot::page_table::{ADDRESS, PteFlags};
use enarx_launch::layout::Launch;
use enarx_snp::launch::PageType;

/// The address of the data of [`program`].
pub const DATA: Range<u64> = 0x60_0000..0x63_0000;

/// A static executable of two segments: code at 4 MiB, data and zeros at 6 MiB.
pub fn program() -> Vec<u8> {
    let mut image = vec![0u8; 0x3000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &[2, 0, 62, 0, 1]);
    put(24, &0x40_1000u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 2, 0]);
    let segments = [
        (5u32, 0u64, 0x40_0000u64, 0x2000u64, 0x2000u64),
        (6, 0x2000, DATA.start, 0x1000, DATA.end - DATA.start),
    ];
    for (index, (flags, offset, address, size, memory)) in segments.into_iter().enumerate() {
        let at = 64 + index * 56;
        put(at, &1u32.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        for (word, value) in [offset, address, address, size, memory, LARGE]
            .into_iter()
            .enumerate()
        {
            put(at + 8 + word * 8, &value.to_le_bytes());
        }
    }
    image
}

/// A leaf of the initial tables: its address, its size, its entry, and whether every level above permits
/// user access.
pub struct Leaf {
    pub address: u64,
    pub size: u64,
    pub entry: u64,
    pub user: bool,
}

/// The leaves of the launch's tables, and the addresses of the tables. All entries of tables are private
/// if there is a C-bit.
pub fn leaves(launch: &Launch, c_bit: u64) -> (Vec<Leaf>, BTreeSet<u64>) {
    leaves_under(launch, launch.state.cr3.get(), c_bit)
}

/// Like [`leaves`], for the tables under `root`.
pub fn leaves_under(launch: &Launch, root: u64, c_bit: u64) -> (Vec<Leaf>, BTreeSet<u64>) {
    let pages: BTreeMap<u64, &[u8; 4096]> = launch
        .pages
        .iter()
        .filter(|page| page.kind != PageType::Vmsa)
        .map(|page| (page.gpa, &*page.bytes))
        .collect();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut tables = vec![(root, 4u32, 0u64, true)];
    while let Some((table, level, base, user)) = tables.pop() {
        assert_eq!(table & c_bit, c_bit, "the table at {base:#x} is shared");
        let table = table & !c_bit;
        assert!(seen.insert(table), "the table {table:#x} serves twice");
        let bytes = pages.get(&table).expect("tables are part of the launch");
        for (slot, word) in (0u64..).zip(bytes.as_chunks::<8>().0) {
            let entry = u64::from_le_bytes(*word);
            let shift = 12 + 9 * (level - 1);
            let mut address = base + (slot << shift);
            if level == 4 && slot >= 256 {
                address |= 0xffff << 48;
            }
            if entry & PteFlags::PRESENT.bits() == 0 {
                assert!(
                    entry == 0 || entry & PteFlags::RESERVED.bits() != 0,
                    "{address:#x}"
                );
                continue;
            }
            let user = user && entry & PteFlags::USER.bits() != 0;
            if level == 1 || entry & PteFlags::LARGE.bits() != 0 {
                found.push(Leaf {
                    address,
                    size: 1 << shift,
                    entry,
                    user,
                });
            } else {
                assert_eq!(entry & PteFlags::NO_EXECUTE.bits(), 0);
                tables.push((entry & ADDRESS, level - 1, address, user));
            }
        }
    }
    (found, seen)
}
