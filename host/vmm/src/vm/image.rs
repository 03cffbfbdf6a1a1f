// SPDX-License-Identifier: Apache-2.0

//! Loads the runtime into guest memory, on every thread that joins.
//!
//! The runtime image lies in a file: reading it from there into the guest touches no page of this
//! process, copying it from its mapping would touch all.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use enarx_boot::layout::LARGE;
use enarx_launch::layout::Placement;

use super::file_part::FilePart;
use super::memory::GuestMemory;

/// A load that several threads share.
#[derive(Debug)]
pub struct Load<'a> {
    memory: &'a GuestMemory,
    runtime: &'static [u8],
    file: Option<FilePart>,
    /// Parts of the runtime: where they go, at most one large page each, and where they come from.
    pieces: Vec<(u64, Range<usize>)>,
    next: AtomicUsize,
}

impl<'a> Load<'a> {
    /// Plans the load of `runtime` to its `placements` in `memory`.
    pub fn new(memory: &'a GuestMemory, placements: &[Placement], runtime: &'static [u8]) -> Self {
        let pieces = placements.iter().flat_map(|placement| {
            let (gpa, file) = (placement.gpa, placement.file.clone());
            pieces(gpa, file)
        });
        Self {
            memory,
            runtime,
            file: FilePart::behind(runtime),
            pieces: pieces.collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Loads the remaining parts; returns once every part has been claimed.
    ///
    /// # Errors
    /// The system's when the file cannot be read.
    pub fn load_remaining(&self) -> io::Result<()> {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            let Some((gpa, from)) = self.pieces.get(piece) else {
                return Ok(());
            };
            match &self.file {
                Some(file) => self.memory.load_file(*gpa, file, from.clone())?,
                None => self.memory.load(*gpa, &self.runtime[from.clone()]),
            }
        }
    }
}

/// Splits a part at the guest's large pages, which are also the host's.
fn pieces(gpa: u64, from: Range<usize>) -> impl Iterator<Item = (u64, Range<usize>)> {
    let (mut gpa, mut rest) = (gpa, from);
    std::iter::from_fn(move || {
        let room = usize::try_from(LARGE - gpa % LARGE).unwrap_or(usize::MAX);
        let length = room.min(rest.len());
        let piece = (gpa, rest.start..rest.start + length);
        (gpa, rest.start) = (gpa + length as u64, rest.start + length);
        (length != 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::{LARGE, pieces};

    #[test]
    fn pieces_are_split_at_large_pages() {
        let all = |gpa, from| pieces(gpa, from).collect::<Vec<_>>();
        assert_eq!(all(LARGE + 8, 100..100), []);
        assert_eq!(all(LARGE + 8, 100..110), [(LARGE + 8, 100..110)]);
        let large = 2 << 20;
        assert_eq!(
            all(LARGE - 8, 100..108 + large + 1),
            [
                (LARGE - 8, 100..108),
                (LARGE, 108..108 + large),
                (2 * LARGE, 108 + large..109 + large),
            ]
        );
    }
}
