// SPDX-License-Identifier: Apache-2.0

//! The entries that [`Call::ReadDir`](crate::Call::ReadDir) replies: a writer for the host, a parser for the
//! keep. The parser trusts nothing: it works on a private copy and yields checked entries or an error.

use crate::types::FileType;

/// Bytes before an entry's name.
pub const HEADER_SIZE: usize = 20;
/// Longest name in bytes (Linux `NAME_MAX`, include/uapi/linux/limits.h).
pub const NAME_MAX: usize = 255;
/// Bytes that hold any one entry; a shorter [`Call::ReadDir`](crate::Call::ReadDir) is malformed.
pub const ENTRY_MAX: u32 = 275;

const _: () = assert!(HEADER_SIZE + NAME_MAX == ENTRY_MAX as usize);

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where to go on after this entry: the `cookie` of the next [`Call::ReadDir`](crate::Call::ReadDir).
    pub next_cookie: u64,
    /// Number of the file in its file system.
    pub ino: u64,
    /// Type of the file.
    pub kind: FileType,
    /// Name: 1 to [`NAME_MAX`] bytes without NUL and `/`, neither `.` nor `..`.
    pub name: &'a [u8],
}

/// True if `name` is allowed in an entry.
fn name_is_legal(name: &[u8]) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
        && name != b"."
        && name != b".."
}

/// The reply is not a sequence of whole, legal entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the host sent a directory listing that is malformed: the host is faulty or hostile")]
pub struct MalformedEntry;

/// Parses the entries of a reply's private copy. After an error there is no further entry.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    /// The entries in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn parse(&mut self) -> Option<Entry<'a>> {
        let (next_cookie, rest) = self.rest.split_first_chunk()?;
        let (ino, rest) = rest.split_first_chunk()?;
        let ([kind, reserved], rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        if *reserved != 0 || !name_is_legal(name) {
            return None;
        }
        let entry = Entry {
            next_cookie: u64::from_le_bytes(*next_cookie),
            ino: u64::from_le_bytes(*ino),
            kind: FileType::from_wire(*kind)?,
            name,
        };
        self.rest = rest;
        Some(entry)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, MalformedEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.parse().ok_or_else(|| {
            self.rest = &[];
            MalformedEntry
        }))
    }
}

/// Why an entry was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The space is used up: reply what is written.
    #[error("no space for another entry")]
    Full,
    /// The name is not allowed in an entry: leave it out.
    #[error("the name cannot stand in a directory entry")]
    BadName,
}

/// Packs entries into bytes that the host then copies to the request's buffer.
#[derive(Debug)]
pub struct EntryWriter<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl<'a> EntryWriter<'a> {
    /// Packs into `bytes`, which is as long as the request allows.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, length: 0 }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`WriteError`], with nothing written.
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<(), WriteError> {
        if !name_is_legal(entry.name) {
            return Err(WriteError::BadName);
        }
        let name_length = u16::try_from(entry.name.len()).map_err(|_| WriteError::BadName)?;
        let mut header = [0; HEADER_SIZE];
        header[..8].copy_from_slice(&entry.next_cookie.to_le_bytes());
        header[8..16].copy_from_slice(&entry.ino.to_le_bytes());
        header[16] = entry.kind.to_wire();
        header[18..].copy_from_slice(&name_length.to_le_bytes());
        let (head, tail) = self
            .bytes
            .get_mut(self.length..)
            .and_then(|rest| rest.get_mut(..HEADER_SIZE + entry.name.len()))
            .and_then(|space| space.split_at_mut_checked(HEADER_SIZE))
            .ok_or(WriteError::Full)?;
        head.copy_from_slice(&header);
        tail.copy_from_slice(entry.name);
        self.length += HEADER_SIZE + entry.name.len();
        Ok(())
    }

    /// Bytes written: the reply's length.
    pub fn length(&self) -> usize {
        self.length
    }
}
