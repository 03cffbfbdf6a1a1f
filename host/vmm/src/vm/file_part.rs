// SPDX-License-Identifier: Apache-2.0

//! A part of the program's own file that is mapped into memory: the images of a Keep are there.

use std::fs::{self, File};
use std::path::Path;

/// A part of a file.
#[derive(Debug)]
pub struct FilePart {
    /// The file.
    pub file: File,
    /// Where the part begins, in bytes.
    pub offset: u64,
}

impl FilePart {
    /// The file from which bytes of this program's constants are mapped; `None` if they are not
    /// mapped read-only from a file.
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
    use super::find;

    const MAPS: &str = "\
555555554000-555555560000 r--p 00001000 fd:01 42  /usr/bin/my tool
555555560000-555555570000 rw-p 0000c000 fd:01 42  /usr/bin/my tool
7ffff7d00000-7ffff7e00000 r--p 00000000 00:00 0
";

    #[test]
    fn only_whole_parts_of_read_only_files_are_found() {
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
