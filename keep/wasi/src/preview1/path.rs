// SPDX-License-Identifier: Apache-2.0

//! The functions on paths.

use super::memory::{Memory, Result};
use super::state::Preview1;
use super::table::{Entry, File};
use super::types::{self, fdflags, oflags, rights};
use crate::error::Errno;
use crate::fs::OpenOptions;

impl Preview1 {
    pub(super) fn path_create_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<()> {
        let directory = self.table.directory(fd)?;
        let path = memory.string(path, length)?;
        Ok(directory.create_directory(&path)?)
    }

    pub(super) fn path_filestat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        flags: u32,
        path: u32,
        length: u32,
        result: u32,
    ) -> Result<()> {
        let follow = types::follow(flags)?;
        let directory = self.table.directory(fd)?;
        let path = memory.string(path, length)?;
        let record = types::filestat(&directory.stat_at(&path, follow)?);
        memory.write_record(result, &record)
    }

    #[expect(clippy::too_many_arguments, reason = "the signature of preview 1")]
    pub(super) fn path_filestat_set_times(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        flags: u32,
        path: u32,
        length: u32,
        accessed: u64,
        modified: u64,
        times: u32,
    ) -> Result<()> {
        let follow = types::follow(flags)?;
        let (accessed, modified) = types::time_changes(accessed, modified, times)?;
        let directory = self.table.directory(fd)?;
        let path = memory.string(path, length)?;
        Ok(directory.set_times_at(&path, follow, accessed, modified)?)
    }

    #[expect(clippy::too_many_arguments, reason = "the signature of preview 1")]
    pub(super) fn path_link(
        &mut self,
        memory: &mut Memory<'_>,
        from_fd: u32,
        flags: u32,
        from: u32,
        from_length: u32,
        to_fd: u32,
        to: u32,
        to_length: u32,
    ) -> Result<()> {
        let follow = types::follow(flags)?;
        let from_directory = self.table.directory(from_fd)?;
        let to_directory = self.table.directory(to_fd)?;
        let from = memory.string(from, from_length)?;
        let to = memory.string(to, to_length)?;
        Ok(from_directory.link(&from, follow, &to_directory, &to)?)
    }

    #[expect(clippy::too_many_arguments, reason = "the signature of preview 1")]
    pub(super) fn path_open(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        lookup: u32,
        path: u32,
        length: u32,
        flags: u32,
        base: u64,
        inheriting: u64,
        descriptor_flags: u32,
        result: u32,
    ) -> Result<()> {
        let follow = types::follow(lookup)?;
        let flags = types::flags(flags, oflags::ALL)?;
        let descriptor_flags = types::flags(descriptor_flags, fdflags::ALL)?;
        if (base | inheriting) & !rights::ALL != 0 {
            return Err(Errno::Invalid.into());
        }
        let path = memory.string(path, length)?;
        let directory = match self.table.get(fd)? {
            Entry::Directory { descriptor, .. } => descriptor,
            Entry::File(_) => return Err(Errno::NotDirectory.into()),
            _ => return Err(Errno::BadDescriptor.into()),
        };
        if descriptor_flags & (fdflags::SYNC | fdflags::DSYNC | fdflags::RSYNC) != 0 {
            return Err(Errno::NotSupported.into());
        }
        let options = OpenOptions {
            read: base & rights::FD_READ != 0,
            write: base & rights::FD_WRITE != 0,
            create: flags & oflags::CREAT != 0,
            exclusive: flags & oflags::EXCL != 0,
            truncate: flags & oflags::TRUNC != 0,
            directory: flags & oflags::DIRECTORY != 0,
            mutate: false,
            follow,
        };
        let descriptor = std::sync::Arc::new(directory.open(&path, options)?);
        let entry = if descriptor.is_directory() {
            Entry::Directory {
                descriptor,
                preopen: None,
                listing: None,
            }
        } else {
            Entry::File(File {
                descriptor,
                position: 0,
                append: descriptor_flags & fdflags::APPEND != 0,
                nonblocking: descriptor_flags & fdflags::NONBLOCK != 0,
            })
        };
        let number = self.table.push(entry)?;
        memory.write_u32(result, number)
    }

    #[expect(clippy::too_many_arguments, reason = "the signature of preview 1")]
    pub(super) fn path_readlink(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        path: u32,
        length: u32,
        buffer: u32,
        buffer_length: u32,
        result: u32,
    ) -> Result<()> {
        let directory = self.table.directory(fd)?;
        let path = memory.string(path, length)?;
        let target = directory.read_link(&path)?;
        let copied = target.len().min(buffer_length as usize);
        memory.write(buffer, target.as_bytes().get(..copied).unwrap_or_default())?;
        memory.write_u32(result, u32::try_from(copied).map_err(|_| Errno::Overflow)?)
    }

    pub(super) fn path_remove_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<()> {
        let directory = self.table.directory(fd)?;
        let path = memory.string(path, length)?;
        Ok(directory.remove_directory(&path)?)
    }

    #[expect(clippy::too_many_arguments, reason = "the signature of preview 1")]
    pub(super) fn path_rename(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        from: u32,
        from_length: u32,
        to_fd: u32,
        to: u32,
        to_length: u32,
    ) -> Result<()> {
        let from_directory = self.table.directory(fd)?;
        let to_directory = self.table.directory(to_fd)?;
        let from = memory.string(from, from_length)?;
        let to = memory.string(to, to_length)?;
        Ok(from_directory.rename(&from, &to_directory, &to)?)
    }

    pub(super) fn path_symlink(
        &mut self,
        memory: &mut Memory<'_>,
        target: u32,
        target_length: u32,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<()> {
        let directory = self.table.directory(fd)?;
        let target = memory.string(target, target_length)?;
        let path = memory.string(path, length)?;
        Ok(directory.symlink(&target, &path)?)
    }

    pub(super) fn path_unlink_file(
        &mut self,
        memory: &mut Memory<'_>,
        fd: u32,
        path: u32,
        length: u32,
    ) -> Result<()> {
        let directory = self.table.directory(fd)?;
        let path = memory.string(path, length)?;
        Ok(directory.unlink(&path)?)
    }
}
