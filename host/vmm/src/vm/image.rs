//! Brings the runtime into the guest's memory, by as many threads as take part.
//!
//! The runtime image lies in a file: reading it from there into the guest touches no page of this
//! process, copying it from its mapping would touch all.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use enarx_boot::layout::LARGE;
use enarx_launch::layout::Placement;

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

    /// Loads what no other thread has begun with; returns when nothing is left to begin with.
    ///
    /// # Errors
    /// The system's when the file cannot be read.
    pub fn take_part(&self) -> io::Result<()> {
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

/// Cuts a part at the large pages of the guest, which are also the host's.
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

/// A part of a file.
#[derive(Debug)]
pub struct FilePart {
    /// The file.
    pub file: File,
    /// Where the part begins, in bytes.
    pub offset: u64,
}

impl FilePart {
    /// The file behind bytes of this program's own constants; none where they are not mapped from
    /// a file, read-only.
    pub fn behind(bytes: &[u8]) -> Option<Self> {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let start = bytes.as_ptr() as u64;
        let (path, offset) = find(&maps, start, start.checked_add(bytes.len() as u64)?)?;
        let executable = fs::read_link("/proc/self/exe").ok()?;
        (executable == Path::new(path)).then_some(())?;
        Some(Self {
            file: File::open("/proc/self/exe").ok()?,
            offset,
        })
    }
}

/// The path of the read-only file mapping that holds `start..end`, and the offset of `start` in
/// the file. The lines are those of proc(5): `start-end rights offset device inode path`.
fn find(maps: &str, start: u64, end: u64) -> Option<(&str, u64)> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (low, high) = fields.next()?.split_once('-')?;
        let [low, high] = [low, high].map(|field| u64::from_str_radix(field, 16));
        let (low, high) = (low.ok()?, high.ok()?);
        let rights = fields.next()?;
        let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let path = line.find('/').map(|at| &line[at..])?;
        (low <= start && end <= high && rights.starts_with("r-"))
            .then(|| (path, offset + (start - low)))
    })
}

#[cfg(test)]
mod tests {
    use super::{LARGE, find, pieces};

    #[test]
    fn cuts_at_large_pages() {
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

    const MAPS: &str = "\
555555554000-555555560000 r--p 00001000 fd:01 42  /usr/bin/my tool
555555560000-555555570000 rw-p 0000c000 fd:01 42  /usr/bin/my tool
7ffff7d00000-7ffff7e00000 r--p 00000000 00:00 0
";

    #[test]
    fn finds_whole_parts_of_read_only_files() {
        let found = find(MAPS, 0x5555_5555_4010, 0x5555_5556_0000);
        assert_eq!(found, Some(("/usr/bin/my tool", 0x1010)));
        assert_eq!(
            find(MAPS, 0x5555_5555_4010, 0x5555_5556_0001),
            None,
            "runs over the end"
        );
        assert_eq!(
            find(MAPS, 0x5555_5556_0000, 0x5555_5556_0010),
            None,
            "writable"
        );
        assert_eq!(
            find(MAPS, 0x7fff_f7d0_0000, 0x7fff_f7d0_0010),
            None,
            "no file"
        );
        assert_eq!(find(MAPS, 0x1000, 0x1010), None);
    }
}
