// SPDX-License-Identifier: Apache-2.0

//! The types of preview 1 (witx, `typenames.witx`): flags, enumerations, records.

use super::memory::Result;
use crate::clock;
use crate::error::Errno;
use crate::fs::{Kind, Stat, Time, TimeChange};

/// Rights, in the order of their bits.
pub mod rights {
    /// `fd_read`.
    pub const FD_READ: u64 = 1 << 1;
    /// `fd_seek`.
    pub const FD_SEEK: u64 = 1 << 2;
    /// `fd_write`.
    pub const FD_WRITE: u64 = 1 << 6;
    /// `fd_readdir`.
    pub const FD_READDIR: u64 = 1 << 14;
    /// `path_filestat_set_size`.
    pub const PATH_FILESTAT_SET_SIZE: u64 = 1 << 19;
    /// `fd_filestat_set_size`.
    pub const FD_FILESTAT_SET_SIZE: u64 = 1 << 22;
    /// `poll_fd_readwrite`.
    pub const POLL: u64 = 1 << 27;
    /// `sock_shutdown`.
    pub const SOCK_SHUTDOWN: u64 = 1 << 28;
    /// `sock_accept`.
    pub const SOCK_ACCEPT: u64 = 1 << 29;
    /// The rights of a connection.
    pub const CONNECTION: u64 = FD_READ | FD_WRITE | POLL | SOCK_SHUTDOWN;
    /// All thirty.
    pub const ALL: u64 = (1 << 30) - 1;
    /// Rights that C libraries expect of a preopened directory: `path_create_directory` to
    /// `path_filestat_get`, `path_filestat_set_times`, `fd_filestat_get`,
    /// `fd_filestat_set_times`, `path_symlink`, `path_remove_directory`, `path_unlink_file`.
    pub const PREOPEN: u64 = 0x3ff << 9 | 1 << 20 | 1 << 21 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;
    /// Additional rights of descriptors opened from it: `fd_datasync` to `fd_allocate`,
    /// `fd_filestat_set_size`, `poll_fd_readwrite`.
    pub const PREOPEN_INHERITING: u64 = PREOPEN | 0x1ff | FD_FILESTAT_SET_SIZE | 1 << 27;
}

/// Flags of descriptors.
pub mod fdflags {
    /// Every write goes to the end.
    pub const APPEND: u32 = 1;
    /// Data is written through.
    pub const DSYNC: u32 = 1 << 1;
    /// Do not wait.
    pub const NONBLOCK: u32 = 1 << 2;
    /// Reads wait for writes.
    pub const RSYNC: u32 = 1 << 3;
    /// Data and attributes are written through.
    pub const SYNC: u32 = 1 << 4;
    /// All.
    pub const ALL: u32 = 0x1f;
}

/// Flags of `path_open`.
pub mod oflags {
    /// Create the file.
    pub const CREAT: u32 = 1;
    /// Only a directory.
    pub const DIRECTORY: u32 = 1 << 1;
    /// Fail when it exists.
    pub const EXCL: u32 = 1 << 2;
    /// Cut to length 0.
    pub const TRUNC: u32 = 1 << 3;
    /// All.
    pub const ALL: u32 = 0xf;
}

/// Flags of `*_set_times`.
mod fstflags {
    pub const ATIM: u32 = 1;
    pub const ATIM_NOW: u32 = 1 << 1;
    pub const MTIM: u32 = 1 << 2;
    pub const MTIM_NOW: u32 = 1 << 3;
    pub const ALL: u32 = 0xf;
}

/// Refuses bits that have no meaning.
pub fn flags(value: u32, all: u32) -> Result<u32> {
    if value & !all == 0 {
        Ok(value)
    } else {
        Err(Errno::Invalid.into())
    }
}

/// True if symbolic links at the end of a path are followed (`lookupflags`).
pub fn follow(lookup: u32) -> Result<bool> {
    Ok(flags(lookup, 1)? == 1)
}

/// The number of a kind (`filetype`). A socket that has a name in a file system is one of streams, most
/// likely; a FIFO has no number.
pub fn filetype(kind: Kind) -> u8 {
    match kind {
        Kind::Unknown | Kind::Fifo => 0,
        Kind::BlockDevice => 1,
        Kind::CharacterDevice => 2,
        Kind::Directory => 3,
        Kind::File => 4,
        Kind::Socket => 6,
        Kind::SymbolicLink => 7,
    }
}

/// The number of a socket of TCP (`filetype.socket_stream`).
pub const SOCKET: u8 = 6;

/// The number of a standard stream's kind: only terminals have one.
pub fn stream_filetype(terminal: bool) -> u8 {
    if terminal { 2 } else { 0 }
}

/// The changes of `fstflags`: access time, then modification time.
pub fn time_changes(
    accessed: u64,
    modified: u64,
    flags_value: u32,
) -> Result<(TimeChange, TimeChange)> {
    let set = flags(flags_value, fstflags::ALL)?;
    let change =
        |time: u64, to_value: u32, to_now: u32| match (set & to_value != 0, set & to_now != 0) {
            (true, true) => Err(Errno::Invalid),
            (true, false) => Ok(TimeChange::At(clock::time(time))),
            (false, true) => Ok(TimeChange::Now),
            (false, false) => Ok(TimeChange::Keep),
        };
    Ok((
        change(accessed, fstflags::ATIM, fstflags::ATIM_NOW)?,
        change(modified, fstflags::MTIM, fstflags::MTIM_NOW)?,
    ))
}

/// A `timestamp`: ns since the UNIX epoch. Times before it are its beginning, those that do not fit its end:
/// an odd time is no reason to know nothing of a file.
fn timestamp(time: Time) -> u64 {
    let Ok(seconds) = u64::try_from(time.seconds()) else {
        return 0;
    };
    seconds
        .checked_mul(u64::from(Time::SECOND))
        .and_then(|whole| whole.checked_add(u64::from(time.nanoseconds())))
        .unwrap_or(u64::MAX)
}

/// The record `filestat`, 64 bytes.
pub fn filestat(stat: &Stat) -> [u8; 64] {
    let mut record = Record::<64>::default();
    record.u64(0, stat.device);
    record.u64(8, stat.inode);
    record.u8(16, filetype(stat.kind));
    record.u64(24, stat.links);
    record.u64(32, stat.size);
    for (offset, time) in [(40, stat.accessed), (48, stat.modified), (56, stat.changed)] {
        record.u64(offset, timestamp(time));
    }
    record.0
}

/// The `filestat` of a standard stream.
pub fn stream_filestat(terminal: bool) -> [u8; 64] {
    bare_filestat(stream_filetype(terminal))
}

/// The `filestat` of an object that only has a kind.
pub fn bare_filestat(filetype: u8) -> [u8; 64] {
    let mut record = Record::<64>::default();
    record.u8(16, filetype);
    record.0
}

/// The record `fdstat`, 24 bytes.
pub fn fdstat(filetype: u8, flags: u16, base: u64, inheriting: u64) -> [u8; 24] {
    let mut record = Record::<24>::default();
    record.u8(0, filetype);
    record.u16(2, flags);
    record.u64(8, base);
    record.u64(16, inheriting);
    record.0
}

/// The record `dirent`, 24 bytes.
pub fn dirent(next: u64, inode: u64, name_length: u32, filetype: u8) -> [u8; 24] {
    let mut record = Record::<24>::default();
    record.u64(0, next);
    record.u64(8, inode);
    record.u32(16, name_length);
    record.u8(20, filetype);
    record.0
}

/// The record `event`, 32 bytes.
pub fn event(userdata: u64, error: u16, kind: u8, bytes: u64, hangup: bool) -> [u8; 32] {
    let mut record = Record::<32>::default();
    record.u64(0, userdata);
    record.u16(8, error);
    record.u8(10, kind);
    record.u64(16, bytes);
    record.u16(24, u16::from(hangup));
    record.0
}

/// A record under construction; offsets are constants of this file.
struct Record<const N: usize>([u8; N]);

impl<const N: usize> Default for Record<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Record<N> {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn u8(&mut self, offset: usize, value: u8) {
        self.put(offset, &[value]);
    }

    fn u16(&mut self, offset: usize, value: u16) {
        self.put(offset, &value.to_le_bytes());
    }

    fn u32(&mut self, offset: usize, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    fn u64(&mut self, offset: usize, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }
}
