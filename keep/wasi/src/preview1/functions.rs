// SPDX-License-Identifier: Apache-2.0

//! The functions on arguments, clocks, descriptors and random bytes.

use std::sync::Arc;

use super::memory::{Memory, Result};
use super::sockets::{self, Receive};
use super::state::Preview1;
use super::table::Entry;
use super::types::{self, fdflags, rights};
use crate::clock::RESOLUTION;
use crate::error::Errno;
use crate::fs::Descriptor;

/// Clock numbers (`clockid`).
pub const REALTIME: u32 = 0;
/// The monotonic clock.
pub const MONOTONIC: u32 = 1;
/// Clock numbers that exist but are not offered: CPU time of process and thread.
const CPU_TIME: [u32; 2] = [2, 3];

/// Numbers of `advice`.
const ADVICE: u32 = 6;

/// A tag of `prestat` that is not that of directories, which has 0.
const PRESTAT_OTHER: u32 = 1;

/// Numbers of `signal`.
const SIGNALS: u32 = 31;

/// Writes strings, each ended by NUL, and an array of pointers to them.
fn write_strings<'a>(
    memory: &mut Memory<'_>,
    strings: impl Iterator<Item = [&'a [u8]; 3]>,
    mut pointers: u32,
    mut buffer: u32,
) -> Result<()> {
    for parts in strings {
        memory.write_u32(pointers, buffer)?;
        pointers = pointers.checked_add(4).ok_or(Errno::Overflow)?;
        for part in parts.into_iter().chain([&[0][..]]) {
            memory.write(buffer, part)?;
            let length = u32::try_from(part.len()).map_err(|_| Errno::Overflow)?;
            buffer = buffer.checked_add(length).ok_or(Errno::Overflow)?;
        }
    }
    Ok(())
}

fn size(value: usize) -> Result<u32> {
    u32::try_from(value).map_err(|_| Errno::Overflow.into())
}

#[expect(clippy::unused_self, reason = "every function has the same form")]
impl Preview1 {
    pub(super) fn args_get(
        &mut self,
        memory: &mut Memory<'_>,
        argv: u32,
        buffer: u32,
    ) -> Result<()> {
        let arguments = self.context.arguments.iter();
        let parts = arguments.map(|argument| [argument.as_bytes(), &[], &[]]);
        write_strings(memory, parts, argv, buffer)
    }

    pub(super) fn args_sizes_get(
        &mut self,
        memory: &mut Memory<'_>,
        count: u32,
        bytes: u32,
    ) -> Result<()> {
        let arguments = &self.context.arguments;
        let total = arguments.iter().map(|argument| argument.len() + 1).sum();
        memory.write_u32(count, size(arguments.len())?)?;
        memory.write_u32(bytes, size(total)?)
    }

    pub(super) fn environ_get(
        &mut self,
        memory: &mut Memory<'_>,
        environ: u32,
        buffer: u32,
    ) -> Result<()> {
        let variables = self.context.environment.iter();
        let parts = variables.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()]);
        write_strings(memory, parts, environ, buffer)
    }

    pub(super) fn environ_sizes_get(
        &mut self,
        memory: &mut Memory<'_>,
        count: u32,
        bytes: u32,
    ) -> Result<()> {
        let environment = &self.context.environment;
        let total = environment
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2)
            .sum();
        memory.write_u32(count, size(environment.len())?)?;
        memory.write_u32(bytes, size(total)?)
    }

    pub(super) fn clock_res_get(
        &mut self,
        memory: &mut Memory<'_>,
        clock: u32,
        result: u32,
    ) -> Result<()> {
        match clock {
            REALTIME | MONOTONIC => memory.write_u64(result, RESOLUTION),
            clock if CPU_TIME.contains(&clock) => Err(Errno::BadDescriptor.into()),
            _ => Err(Errno::Invalid.into()),
        }
    }

    pub(super) fn clock_time_get(
        &mut self,
        memory: &mut Memory<'_>,
        clock: u32,
        _precision: u64,
        result: u32,
    ) -> Result<()> {
        let now = match clock {
            REALTIME => self.context.clocks.wall()?,
            MONOTONIC => self.context.clocks.monotonic(),
            clock if CPU_TIME.contains(&clock) => return Err(Errno::BadDescriptor.into()),
            _ => return Err(Errno::Invalid.into()),
        };
        memory.write_u64(result, now)
    }

    pub(super) fn fd_advise(
        &mut self,
        _memory: &mut Memory<'_>,
        fd: u32,
        _offset: u64,
        _length: u64,
        advice: u32,
    ) -> Result<()> {
        if advice >= ADVICE {
            return Err(Errno::Invalid.into());
        }
        self.table.file(fd)?;
        Ok(())
    }

    pub(super) fn fd_allocate(
        &mut self,
        _memory: &mut Memory<'_>,
        fd: u32,
        _offset: u64,
        _length: u64,
    ) -> Result<()> {
        self.table.file(fd)?;
        Err(Errno::NotSupported.into())
    }

    pub(super) fn fd_close(&mut self, _memory: &mut Memory<'_>, fd: u32) -> Result<()> {
        let entry = self.table.close(fd)?;
        self.let_go(entry);
        Ok(())
    }

    pub(super) fn fd_datasync(&mut self, _memory: &mut Memory<'_>, fd: u32) -> Result<()> {
        Ok(self.table.descriptor(fd)?.sync(true)?)
    }

    pub(super) fn fd_sync(&mut self, _memory: &mut Memory<'_>, fd: u32) -> Result<()> {
        Ok(self.table.descriptor(fd)?.sync(false)?)
    }

    fn is_terminal(&self, entry: &Entry) -> bool {
        let terminals = self.context.terminals;
        match entry {
            Entry::Stdin => terminals.stdin,
            Entry::Stdout => terminals.stdout,
            Entry::Stderr => terminals.stderr,
            _ => false,
        }
    }

    pub(super) fn fd_fdstat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        result: u32,
    ) -> Result<()> {
        let entry = self.table.get(fd)?;
        let stream = types::stream_filetype(self.is_terminal(entry));
        let record = match entry {
            Entry::Stdin => types::fdstat(stream, 0, rights::FD_READ, rights::FD_READ),
            Entry::Stdout | Entry::Stderr => {
                types::fdstat(stream, 0, rights::FD_WRITE, rights::FD_WRITE)
            }
            Entry::Directory {
                descriptor,
                preopen: Some(_),
                ..
            } => types::fdstat(
                types::filetype(descriptor.kind()),
                0,
                rights::PREOPEN,
                rights::PREOPEN_INHERITING,
            ),
            Entry::Directory { descriptor, .. } => opened_fdstat(descriptor, 0)?,
            Entry::File(file) => {
                let append = if file.append { fdflags::APPEND } else { 0 };
                let nonblock = if file.nonblocking {
                    fdflags::NONBLOCK
                } else {
                    0
                };
                opened_fdstat(&file.descriptor, append | nonblock)?
            }
            Entry::Listener(listener) => {
                sockets::fdstat(rights::POLL | rights::SOCK_ACCEPT, listener.nonblocking)
            }
            Entry::Connection(connection) => {
                sockets::fdstat(rights::CONNECTION, connection.nonblocking)
            }
        };
        memory.write_record(result, &record)
    }

    pub(super) fn fd_fdstat_set_flags(
        &mut self,
        _memory: &mut Memory<'_>,
        fd: u32,
        flags: u32,
    ) -> Result<()> {
        let flags = types::flags(flags, fdflags::ALL)?;
        if let Some(nonblocking) = self.table.nonblocking_socket(fd) {
            if flags & !fdflags::NONBLOCK != 0 {
                return Err(Errno::Invalid.into());
            }
            *nonblocking = flags & fdflags::NONBLOCK != 0;
            return Ok(());
        }
        let file = self.table.file_mut(fd)?;
        if flags & (fdflags::DSYNC | fdflags::SYNC | fdflags::RSYNC) != 0 {
            return Err(Errno::Invalid.into());
        }
        file.append = flags & fdflags::APPEND != 0;
        file.nonblocking = flags & fdflags::NONBLOCK != 0;
        Ok(())
    }

    pub(super) fn fd_fdstat_set_rights(
        &mut self,
        _memory: &mut Memory<'_>,
        fd: u32,
        _base: u64,
        _inheriting: u64,
    ) -> Result<()> {
        self.table.descriptor(fd)?;
        Err(Errno::NotSupported.into())
    }

    pub(super) fn fd_filestat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        result: u32,
    ) -> Result<()> {
        let record = match self.table.get(fd)? {
            entry @ (Entry::Stdin | Entry::Stdout | Entry::Stderr) => {
                types::stream_filestat(self.is_terminal(entry))
            }
            Entry::Directory { descriptor, .. } => types::filestat(&descriptor.stat()?),
            Entry::File(file) => types::filestat(&file.descriptor.stat()?),
            Entry::Listener(_) | Entry::Connection(_) => types::bare_filestat(types::SOCKET),
        };
        memory.write_record(result, &record)
    }

    pub(super) fn fd_filestat_set_size(
        &mut self,
        _memory: &mut Memory<'_>,
        fd: u32,
        size: u64,
    ) -> Result<()> {
        Ok(self.table.file(fd)?.descriptor.set_size(size)?)
    }

    pub(super) fn fd_filestat_set_times(
        &mut self,
        _memory: &mut Memory<'_>,
        fd: u32,
        accessed: u64,
        modified: u64,
        flags: u32,
    ) -> Result<()> {
        let (accessed, modified) = types::time_changes(accessed, modified, flags)?;
        Ok(self.table.descriptor(fd)?.set_times(accessed, modified)?)
    }

    pub(super) fn fd_pread(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        offset: u64,
        result: u32,
    ) -> Result<()> {
        let (pointer, length) = memory.first_buffer(vectors, count)?;
        let read = match self.table.get(fd)? {
            Entry::File(file) => file
                .descriptor
                .read_at(offset, memory.slice_mut(pointer, length)?)?,
            Entry::Stdin | Entry::Connection(_) => return Err(Errno::InvalidSeek.into()),
            _ => return Err(Errno::BadDescriptor.into()),
        };
        memory.write_u32(result, size(read)?)
    }

    pub(super) fn fd_read(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        result: u32,
    ) -> Result<()> {
        let (pointer, length) = memory.first_buffer(vectors, count)?;
        let read = match self.table.get(fd)? {
            Entry::File(_) => {
                let file = self.table.file_mut(fd)?;
                let buffer = memory.slice_mut(pointer, length)?;
                let read = file.descriptor.read_at(file.position, buffer)?;
                file.position = file
                    .position
                    .checked_add(read as u64)
                    .ok_or(Errno::Overflow)?;
                read
            }
            Entry::Stdin => self
                .context
                .stdin
                .read(memory.slice_mut(pointer, length)?)?,
            Entry::Connection(_) => {
                self.receive(fd, memory.slice_mut(pointer, length)?, Receive::default())?
            }
            _ => return Err(Errno::BadDescriptor.into()),
        };
        memory.write_u32(result, size(read)?)
    }

    /// Writes at `offset`, or at the position of the descriptor if there is none.
    fn write(&mut self, fd: u32, bytes: &[u8], offset: Option<u64>) -> Result<usize> {
        match self.table.get(fd)? {
            Entry::File(_) => {
                let file = self.table.file_mut(fd)?;
                // As on Linux, a file opened for appending ignores the offset.
                let written = if file.append {
                    file.descriptor.append(bytes)?
                } else {
                    let offset = offset.unwrap_or(file.position);
                    file.descriptor.write_at(offset, bytes)?
                };
                if offset.is_none() {
                    file.position = if file.append {
                        file.descriptor.stat()?.size
                    } else {
                        file.position
                            .checked_add(written as u64)
                            .ok_or(Errno::Overflow)?
                    };
                }
                Ok(written)
            }
            Entry::Stdout | Entry::Stderr | Entry::Connection(_) if offset.is_some() => {
                Err(Errno::InvalidSeek.into())
            }
            Entry::Connection(_) => self.send(fd, bytes),
            Entry::Stdout => {
                self.context.stdout.write_all(bytes)?;
                Ok(bytes.len())
            }
            Entry::Stderr => {
                self.context.stderr.write_all(bytes)?;
                Ok(bytes.len())
            }
            _ => Err(Errno::BadDescriptor.into()),
        }
    }

    pub(super) fn fd_write(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        result: u32,
    ) -> Result<()> {
        let (pointer, length) = memory.first_buffer(vectors, count)?;
        let written = self.write(fd, memory.slice(pointer, length)?, None)?;
        memory.write_u32(result, size(written)?)
    }

    pub(super) fn fd_pwrite(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        vectors: u32,
        count: u32,
        offset: u64,
        result: u32,
    ) -> Result<()> {
        let (pointer, length) = memory.first_buffer(vectors, count)?;
        let written = self.write(fd, memory.slice(pointer, length)?, Some(offset))?;
        memory.write_u32(result, size(written)?)
    }

    pub(super) fn fd_prestat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        result: u32,
    ) -> Result<()> {
        let path = match self.table.get(fd)? {
            Entry::Directory {
                preopen: Some(path),
                ..
            } => path,
            // C libraries look for directories from 3 on until a number is not open (wasi-libc, preopens.c). They pass over
            // those of another tag; an error would end their search, and the program would have no file system.
            Entry::Listener(_) | Entry::Connection(_) => {
                return memory.write_u32(result, PRESTAT_OTHER);
            }
            _ => return Err(Errno::BadDescriptor.into()),
        };
        // `prestat`: tag 0 (directory), then the length of the name.
        memory.write_u32(result, 0)?;
        let length = result.checked_add(4).ok_or(Errno::Overflow)?;
        memory.write_u32(length, size(path.len())?)
    }

    pub(super) fn fd_prestat_dir_name(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        pointer: u32,
        length: u32,
    ) -> Result<()> {
        let Entry::Directory {
            preopen: Some(path),
            ..
        } = self.table.get(fd)?
        else {
            return Err(Errno::NotDirectory.into());
        };
        if path.len() > length as usize {
            return Err(Errno::NameTooLong.into());
        }
        memory.write(pointer, path.as_bytes())
    }

    pub(super) fn fd_readdir(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        buffer: u32,
        length: u32,
        cookie: u64,
        result: u32,
    ) -> Result<()> {
        let budget = self.context.budget.clone();
        let (directory, listing) = self.table.listing(fd)?;
        let cookie = usize::try_from(cookie).map_err(|_| Errno::Overflow)?;
        let inode = directory.stat()?.inode;
        let listing = match listing {
            Some(listing) if cookie != 0 => listing,
            // The memory of the old one is free before the new one takes any.
            old => {
                *old = None;
                old.insert(directory.read_directory(&budget)?)
            }
        };
        let own = [".", ".."].map(|name| (name, crate::fs::Kind::Directory, inode));
        let entries = listing.entries();
        let own = own.into_iter().skip(cookie);
        let entries = entries.get(cookie.saturating_sub(2)..).unwrap_or_default();
        let entries = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.kind, entry.inode));
        let output = memory.slice_mut(buffer, length)?;
        let mut used = 0;
        for ((name, kind, inode), next) in own.chain(entries).zip(cookie as u64 + 1..) {
            let header = types::dirent(next, inode, size(name.len())?, types::filetype(kind));
            for bytes in [&header[..], name.as_bytes()] {
                let rest = output.get_mut(used..).unwrap_or_default();
                let copied = rest.len().min(bytes.len());
                if let (Some(to), Some(from)) = (rest.get_mut(..copied), bytes.get(..copied)) {
                    to.copy_from_slice(from);
                }
                used += copied;
            }
            if used == length as usize {
                break;
            }
        }
        memory.write_u32(result, size(used)?)
    }

    pub(super) fn fd_renumber(
        &mut self,
        _memory: &mut Memory<'_>,
        from: u32,
        to: u32,
    ) -> Result<()> {
        if let Some(entry) = self.table.renumber(from, to)? {
            self.let_go(entry);
        }
        Ok(())
    }

    pub(super) fn fd_seek(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        offset: i64,
        whence: u32,
        result: u32,
    ) -> Result<()> {
        if whence > 2 {
            return Err(Errno::Invalid.into());
        }
        let file = self.table.seekable(fd)?;
        let position = match whence {
            0 => u64::try_from(offset).ok(),
            1 => file.position.checked_add_signed(offset),
            _ => file.descriptor.stat()?.size.checked_add_signed(offset),
        };
        file.position = position.ok_or(Errno::Invalid)?;
        memory.write_u64(result, file.position)
    }

    pub(super) fn fd_tell(&mut self, memory: &mut Memory<'_>, fd: u32, result: u32) -> Result<()> {
        memory.write_u64(result, self.table.seekable(fd)?.position)
    }

    pub(super) fn proc_raise(&mut self, _memory: &mut Memory<'_>, signal: u32) -> Result<()> {
        if signal >= SIGNALS {
            return Err(Errno::Invalid.into());
        }
        Err(Errno::NotSupported.into())
    }

    pub(super) fn random_get(
        &mut self,
        memory: &mut Memory<'_>,
        buffer: u32,
        length: u32,
    ) -> Result<()> {
        let bytes = memory.slice_mut(buffer, length)?;
        // The C library asks before `main` and can do without; who cannot, ends by itself.
        self.context
            .random
            .fill(bytes)
            .map_err(|_| Errno::Io.into())
    }

    #[expect(clippy::unnecessary_wraps, reason = "every function has the same form")]
    pub(super) fn sched_yield(&mut self, _memory: &mut Memory<'_>) -> Result<()> {
        Ok(())
    }
}

/// The `fdstat` of a descriptor that the program opened itself.
fn opened_fdstat(descriptor: &Arc<Descriptor>, flags: u32) -> Result<[u8; 24]> {
    let opened = descriptor.rights();
    let mut base = rights::ALL;
    if descriptor.is_directory() {
        base &= !(rights::FD_SEEK | rights::FD_FILESTAT_SET_SIZE | rights::PATH_FILESTAT_SET_SIZE);
    }
    if !opened.read {
        base &= !(rights::FD_READ | rights::FD_READDIR);
    }
    if !opened.write {
        base &= !rights::FD_WRITE;
    }
    let flags = u16::try_from(flags).map_err(|_| Errno::Overflow)?;
    Ok(types::fdstat(
        types::filetype(descriptor.kind()),
        flags,
        base,
        base,
    ))
}
