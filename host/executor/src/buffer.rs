// SPDX-License-Identifier: Apache-2.0

//! System calls on the shared buffers: the executor's only `unsafe`.
//!
//! The Keep may change a buffer while the kernel copies it. The kernel does not care, and no reference
//! is ever made here: addresses go straight into the system call.

#![expect(
    unsafe_code,
    reason = "buffers of the sallyport are passed by address; a slice over them would be unsound"
)]

use std::os::fd::{AsFd, AsRawFd};

use enarx_sallyport::{BUFFER_SIZE, Region, Slot};
use rustix::io::{Errno, Result};

/// A range of bytes of one slot's buffer, checked to lie in it.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    region: Region,
    slot: Slot,
    offset: u32,
    length: u32,
}

impl Buffer {
    /// The `length` bytes at `offset` of the slot's buffer.
    ///
    /// # Errors
    /// `EOVERFLOW` when they do not all lie in it.
    pub fn new(region: Region, slot: Slot, offset: u32, length: u32) -> Result<Self> {
        match offset.checked_add(length) {
            Some(end) if end <= BUFFER_SIZE => Ok(Self {
                region,
                slot,
                offset,
                length,
            }),
            _ => Err(Errno::OVERFLOW),
        }
    }

    /// The bytes after the first `count`, at most `limit` of them; none after the end.
    pub fn rest(self, count: u32, limit: u32) -> Self {
        let count = count.min(self.length);
        Self {
            offset: self.offset + count,
            length: (self.length - count).min(limit),
            ..self
        }
    }

    /// True if it has no bytes.
    pub fn is_empty(self) -> bool {
        self.length == 0
    }

    fn pointer(self) -> *mut libc::c_void {
        // SAFETY: `offset` is at most `BUFFER_SIZE` (`new`, `rest`), and a slot's buffer has that many bytes.
        unsafe { self.region.buffer_ptr(self.slot).add(self.offset as usize) }.cast()
    }

    /// read(2) into the buffer.
    ///
    /// # Errors
    /// The system call's.
    pub fn read(self, fd: impl AsFd) -> Result<u32> {
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: the kernel writes at most `length` bytes, which lie in the buffer (`new`).
        let count = unsafe { libc::read(fd, self.pointer(), self.length as usize) };
        call(count)
    }

    /// write(2) from the buffer.
    ///
    /// # Errors
    /// The system call's.
    pub fn write(self, fd: impl AsFd) -> Result<u32> {
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: the kernel reads at most `length` bytes, which lie in the buffer (`new`).
        let count = unsafe { libc::write(fd, self.pointer(), self.length as usize) };
        call(count)
    }

    /// pread(2) into the buffer.
    ///
    /// # Errors
    /// The system call's; `EINVAL` for an offset past 2^63 − 1.
    pub fn read_at(self, fd: impl AsFd, offset: u64) -> Result<u32> {
        let fd = fd.as_fd().as_raw_fd();
        let offset = i64::try_from(offset).map_err(|_| Errno::INVAL)?;
        // SAFETY: the kernel writes at most `length` bytes, which lie in the buffer (`new`).
        let count = unsafe { libc::pread(fd, self.pointer(), self.length as usize, offset) };
        call(count)
    }

    /// pwrite(2) from the buffer.
    ///
    /// # Errors
    /// The system call's; `EFBIG` for an offset past 2^63 − 1.
    pub fn write_at(self, fd: impl AsFd, offset: u64) -> Result<u32> {
        let fd = fd.as_fd().as_raw_fd();
        let offset = i64::try_from(offset).map_err(|_| Errno::FBIG)?;
        // SAFETY: the kernel reads at most `length` bytes, which lie in the buffer (`new`).
        let count = unsafe { libc::pwrite(fd, self.pointer(), self.length as usize, offset) };
        call(count)
    }

    /// Writes from the buffer to the end of the file (pwritev2(2) with `RWF_APPEND`).
    ///
    /// # Errors
    /// The system call's.
    pub fn append(self, fd: impl AsFd) -> Result<u32> {
        let fd = fd.as_fd().as_raw_fd();
        let vector = libc::iovec {
            iov_base: self.pointer(),
            iov_len: self.length as usize,
        };
        // SAFETY: one vector of `length` bytes, which lie in the buffer (`new`); the kernel reads them.
        let count = unsafe { libc::pwritev2(fd, &raw const vector, 1, 0, libc::RWF_APPEND) };
        call(count)
    }

    /// Writes `bytes` at the buffer's start.
    ///
    /// # Errors
    /// `EOVERFLOW` when they do not fit.
    pub fn fill(self, bytes: &[u8]) -> Result<u32> {
        use enarx_sallyport::SharedMemory;
        if bytes.len() > self.length as usize {
            return Err(Errno::OVERFLOW);
        }
        self.region
            .write(self.slot, self.offset, bytes)
            .map_err(|_| Errno::OVERFLOW)?;
        // At most `length`, which is 32 bits wide.
        u32::try_from(bytes.len()).map_err(|_| Errno::OVERFLOW)
    }
}

/// Turns a system call's result into ours. A signal may have ended it (`EINTR`): the caller knows
/// whether the Keep is being ended.
fn call(result: isize) -> Result<u32> {
    u32::try_from(result)
        .map_err(|_| Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
