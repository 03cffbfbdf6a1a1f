// SPDX-License-Identifier: Apache-2.0

//! `wasi:filesystem` over the descriptors of the core.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::bindings::wasi::clocks::wall_clock::Datetime;
use super::bindings::wasi::filesystem::preopens;
use super::bindings::wasi::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use super::clocks::point;
use super::io::{FileInput, FileOutput, READ_MAX};
use super::opened::{Listing, Opened};
use super::state::Preview2;
use crate::error::{Errno, Fault};
use crate::fs::{self, Descriptor, Kind, OpenOptions, Stat, Time, TimeChange};

/// Result of a function: an error number for the component, or its end.
pub type Result<T> = std::result::Result<T, Fault>;

/// Translates an error number by its name, which is the same in both versions of the interface; after it, what only one has.
macro_rules! code_of_errno {
    ($errno:expr, $code:ident $(, $own:ident => $own_code:ident)*) => {
        match $errno {
            $(Errno::$own => $code::$own_code,)*
            Errno::Access => $code::Access,
            Errno::Already => $code::Already,
            Errno::BadDescriptor => $code::BadDescriptor,
            Errno::Busy => $code::Busy,
            Errno::Exists => $code::Exist,
            Errno::FileTooLarge => $code::FileTooLarge,
            Errno::IllegalByteSequence => $code::IllegalByteSequence,
            Errno::InProgress => $code::InProgress,
            Errno::Interrupted => $code::Interrupted,
            Errno::Invalid => $code::Invalid,
            Errno::IsDirectory => $code::IsDirectory,
            Errno::Loop => $code::Loop,
            Errno::TooManyLinks => $code::TooManyLinks,
            Errno::MessageSize => $code::MessageSize,
            Errno::NameTooLong => $code::NameTooLong,
            Errno::NoEntry => $code::NoEntry,
            Errno::NoMemory => $code::InsufficientMemory,
            Errno::NoSpace => $code::InsufficientSpace,
            Errno::NotDirectory => $code::NotDirectory,
            Errno::NotEmpty => $code::NotEmpty,
            Errno::NotSupported => $code::Unsupported,
            Errno::Overflow => $code::Overflow,
            Errno::NotPermitted => $code::NotPermitted,
            Errno::Pipe => $code::Pipe,
            Errno::ReadOnly => $code::ReadOnly,
            Errno::InvalidSeek => $code::InvalidSeek,
            Errno::TextBusy => $code::TextFileBusy,
            Errno::CrossDevice => $code::CrossDevice,
            _ => $code::Io,
        }
    };
}

/// Translates a kind of file in the same way; one that is unknown has another name in each version.
macro_rules! type_of_kind {
    ($which:expr, $kind:ident, $unknown:expr) => {
        match $which {
            Kind::Unknown => $unknown,
            Kind::BlockDevice => $kind::BlockDevice,
            Kind::CharacterDevice => $kind::CharacterDevice,
            Kind::Directory => $kind::Directory,
            Kind::Fifo => $kind::Fifo,
            Kind::File => $kind::RegularFile,
            Kind::Socket => $kind::Socket,
            Kind::SymbolicLink => $kind::SymbolicLink,
        }
    };
}

pub(crate) use {code_of_errno, type_of_kind};

/// The error code of an error number.
pub fn error_code(errno: Errno) -> ErrorCode {
    code_of_errno!(errno, ErrorCode, Again => WouldBlock)
}

fn descriptor_type(kind: Kind) -> DescriptorType {
    type_of_kind!(kind, DescriptorType, DescriptorType::Unknown)
}

/// A time in the form that components use; `None` before 1970.
fn timestamp(time: Time) -> Option<Datetime> {
    Some(Datetime {
        seconds: u64::try_from(time.seconds()).ok()?,
        nanoseconds: time.nanoseconds(),
    })
}

fn descriptor_stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(stat.kind),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: timestamp(stat.accessed),
        data_modification_timestamp: timestamp(stat.modified),
        status_change_timestamp: timestamp(stat.changed),
    }
}

fn time_change(timestamp: NewTimestamp) -> Result<TimeChange> {
    Ok(match timestamp {
        NewTimestamp::NoChange => TimeChange::Keep,
        NewTimestamp::Now => TimeChange::Now,
        NewTimestamp::Timestamp(time) => TimeChange::At(point(&time).ok_or(Errno::Overflow)?),
    })
}

fn follow(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

fn metadata_hash(stat: &Stat) -> MetadataHashValue {
    MetadataHashValue {
        lower: stat.inode,
        upper: stat.device,
    }
}

impl Preview2 {
    /// The object of a descriptor.
    pub(crate) fn descriptor(&self, descriptor: &Resource<Opened>) -> Result<&Arc<Descriptor>> {
        Ok(&self.table.get(descriptor)?.0)
    }

    fn file(&self, descriptor: &Resource<Opened>) -> Result<&Arc<Descriptor>> {
        let file = self.descriptor(descriptor)?;
        if file.is_directory() {
            return Err(Errno::BadDescriptor.into());
        }
        Ok(file)
    }

    /// The directory of a descriptor.
    pub(crate) fn directory(&self, descriptor: &Resource<Opened>) -> Result<&Arc<Descriptor>> {
        let directory = self.descriptor(descriptor)?;
        if !directory.is_directory() {
            return Err(Errno::NotDirectory.into());
        }
        Ok(directory)
    }

    /// The file of a descriptor, for reading.
    pub(crate) fn readable(&self, descriptor: &Resource<Opened>) -> Result<Arc<Descriptor>> {
        let file = self.descriptor(descriptor)?;
        if file.is_directory() {
            return Err(Errno::IsDirectory.into());
        }
        Ok(Arc::clone(file))
    }

    /// The entries of a descriptor's directory.
    pub(crate) fn listing(&self, descriptor: &Resource<Opened>) -> Result<fs::Listing> {
        Ok(self
            .directory(descriptor)?
            .read_directory(&self.context.budget)?)
    }

    /// The file of a descriptor, for writing.
    pub(crate) fn writable(&self, descriptor: &Resource<Opened>) -> Result<Arc<Descriptor>> {
        let file = self.file(descriptor)?;
        if file.rights().read_only {
            return Err(Errno::NotPermitted.into());
        }
        Ok(Arc::clone(file))
    }

    fn writer(
        &mut self,
        descriptor: &Resource<Opened>,
        position: Option<u64>,
    ) -> Result<Resource<DynOutputStream>> {
        let file = self.writable(descriptor)?;
        let stream: DynOutputStream = Box::new(FileOutput::new(file, position));
        Ok(self.table.push(stream)?)
    }
}

impl preopens::Host for Preview2 {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Opened>, String)>> {
        let mut directories = Vec::new();
        for preopen in &self.context.preopens {
            let opened = Opened(Arc::clone(&preopen.directory));
            directories.push((self.table.push(opened)?, preopen.guest_path.clone()));
        }
        Ok(directories)
    }
}

impl types::Host for Preview2 {
    fn convert_error_code(&mut self, fault: Fault) -> wasmtime::Result<ErrorCode> {
        match fault {
            Fault::Errno(errno) => Ok(error_code(errno)),
            Fault::Trap(error) => Err(error),
        }
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<Errno>().copied().map(error_code))
    }
}

impl types::HostDescriptor for Preview2 {
    fn read_via_stream(
        &mut self,
        descriptor: Resource<Opened>,
        position: u64,
    ) -> Result<Resource<DynInputStream>> {
        let file = self.readable(&descriptor)?;
        let stream: DynInputStream = Box::new(FileInput::new(file, position));
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        descriptor: Resource<Opened>,
        position: u64,
    ) -> Result<Resource<DynOutputStream>> {
        self.writer(&descriptor, Some(position))
    }

    fn append_via_stream(
        &mut self,
        descriptor: Resource<Opened>,
    ) -> Result<Resource<DynOutputStream>> {
        self.writer(&descriptor, None)
    }

    fn advise(
        &mut self,
        descriptor: Resource<Opened>,
        _offset: u64,
        _length: u64,
        _advice: Advice,
    ) -> Result<()> {
        self.file(&descriptor).map(|_| ())
    }

    fn sync_data(&mut self, descriptor: Resource<Opened>) -> Result<()> {
        Ok(self.descriptor(&descriptor)?.sync(true)?)
    }

    fn get_flags(&mut self, descriptor: Resource<Opened>) -> Result<DescriptorFlags> {
        let descriptor = self.descriptor(&descriptor)?;
        let rights = descriptor.rights();
        let mut flags = DescriptorFlags::empty();
        if rights.read {
            flags |= DescriptorFlags::READ;
        }
        if rights.write {
            flags |= if descriptor.is_directory() {
                DescriptorFlags::MUTATE_DIRECTORY
            } else {
                DescriptorFlags::WRITE
            };
        }
        Ok(flags)
    }

    fn get_type(&mut self, descriptor: Resource<Opened>) -> Result<DescriptorType> {
        Ok(descriptor_type(self.descriptor(&descriptor)?.kind()))
    }

    fn set_size(&mut self, descriptor: Resource<Opened>, size: u64) -> Result<()> {
        Ok(self.file(&descriptor)?.set_size(size)?)
    }

    fn set_times(
        &mut self,
        descriptor: Resource<Opened>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<()> {
        let (accessed, modified) = (time_change(accessed)?, time_change(modified)?);
        Ok(self
            .descriptor(&descriptor)?
            .set_times(accessed, modified)?)
    }

    fn read(
        &mut self,
        descriptor: Resource<Opened>,
        length: u64,
        offset: u64,
    ) -> Result<(Vec<u8>, bool)> {
        let file = self.file(&descriptor)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(READ_MAX);
        let mut bytes = vec![0; length];
        let read = file.read_at(offset, &mut bytes)?;
        bytes.truncate(read);
        Ok((bytes, read == 0))
    }

    fn write(&mut self, descriptor: Resource<Opened>, bytes: Vec<u8>, offset: u64) -> Result<u64> {
        let file = self.file(&descriptor)?;
        if file.rights().read_only {
            return Err(Errno::NotPermitted.into());
        }
        Ok(file.write_at(offset, &bytes)? as u64)
    }

    fn read_directory(&mut self, descriptor: Resource<Opened>) -> Result<Resource<Listing>> {
        let listing = self.listing(&descriptor)?;
        Ok(self.table.push(Listing {
            listing,
            next_entry: 0,
        })?)
    }

    fn sync(&mut self, descriptor: Resource<Opened>) -> Result<()> {
        Ok(self.descriptor(&descriptor)?.sync(false)?)
    }

    fn create_directory_at(&mut self, descriptor: Resource<Opened>, path: String) -> Result<()> {
        Ok(self.directory(&descriptor)?.create_directory(&path)?)
    }

    fn stat(&mut self, descriptor: Resource<Opened>) -> Result<DescriptorStat> {
        Ok(descriptor_stat(&self.descriptor(&descriptor)?.stat()?))
    }

    fn stat_at(
        &mut self,
        descriptor: Resource<Opened>,
        flags: PathFlags,
        path: String,
    ) -> Result<DescriptorStat> {
        let directory = self.directory(&descriptor)?;
        Ok(descriptor_stat(&directory.stat_at(&path, follow(flags))?))
    }

    fn set_times_at(
        &mut self,
        descriptor: Resource<Opened>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<()> {
        let (accessed, modified) = (time_change(accessed)?, time_change(modified)?);
        let directory = self.directory(&descriptor)?;
        Ok(directory.set_times_at(&path, follow(flags), accessed, modified)?)
    }

    fn link_at(
        &mut self,
        descriptor: Resource<Opened>,
        flags: PathFlags,
        from: String,
        to_descriptor: Resource<Opened>,
        to: String,
    ) -> Result<()> {
        let to_directory = self.directory(&to_descriptor)?;
        let directory = self.directory(&descriptor)?;
        Ok(directory.link(&from, follow(flags), to_directory, &to)?)
    }

    fn open_at(
        &mut self,
        descriptor: Resource<Opened>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<Resource<Opened>> {
        let directory = self.directory(&descriptor)?;
        if flags.intersects(
            DescriptorFlags::FILE_INTEGRITY_SYNC
                | DescriptorFlags::DATA_INTEGRITY_SYNC
                | DescriptorFlags::REQUESTED_WRITE_SYNC,
        ) {
            return Err(Errno::NotSupported.into());
        }
        let options = OpenOptions {
            read: flags.contains(DescriptorFlags::READ),
            write: flags.contains(DescriptorFlags::WRITE),
            create: open_flags.contains(OpenFlags::CREATE),
            exclusive: open_flags.contains(OpenFlags::EXCLUSIVE),
            truncate: open_flags.contains(OpenFlags::TRUNCATE),
            directory: open_flags.contains(OpenFlags::DIRECTORY),
            mutate: flags.contains(DescriptorFlags::MUTATE_DIRECTORY),
            follow: follow(path_flags),
        };
        let opened = Opened(Arc::new(directory.open(&path, options)?));
        Ok(self.table.push(opened)?)
    }

    fn readlink_at(&mut self, descriptor: Resource<Opened>, path: String) -> Result<String> {
        Ok(self.directory(&descriptor)?.read_link(&path)?)
    }

    fn remove_directory_at(&mut self, descriptor: Resource<Opened>, path: String) -> Result<()> {
        Ok(self.directory(&descriptor)?.remove_directory(&path)?)
    }

    fn rename_at(
        &mut self,
        descriptor: Resource<Opened>,
        from: String,
        to_descriptor: Resource<Opened>,
        to: String,
    ) -> Result<()> {
        let to_directory = self.directory(&to_descriptor)?;
        let directory = self.directory(&descriptor)?;
        Ok(directory.rename(&from, to_directory, &to)?)
    }

    fn symlink_at(
        &mut self,
        descriptor: Resource<Opened>,
        target: String,
        path: String,
    ) -> Result<()> {
        Ok(self.directory(&descriptor)?.symlink(&target, &path)?)
    }

    fn unlink_file_at(&mut self, descriptor: Resource<Opened>, path: String) -> Result<()> {
        Ok(self.directory(&descriptor)?.unlink(&path)?)
    }

    fn is_same_object(
        &mut self,
        descriptor: Resource<Opened>,
        other: Resource<Opened>,
    ) -> wasmtime::Result<bool> {
        let descriptor = &self.table.get(&descriptor)?.0;
        Ok(descriptor.is_same(&self.table.get(&other)?.0)?)
    }

    fn metadata_hash(&mut self, descriptor: Resource<Opened>) -> Result<MetadataHashValue> {
        Ok(metadata_hash(&self.descriptor(&descriptor)?.stat()?))
    }

    fn metadata_hash_at(
        &mut self,
        descriptor: Resource<Opened>,
        flags: PathFlags,
        path: String,
    ) -> Result<MetadataHashValue> {
        let directory = self.directory(&descriptor)?;
        Ok(metadata_hash(&directory.stat_at(&path, follow(flags))?))
    }

    fn drop(&mut self, descriptor: Resource<Opened>) -> wasmtime::Result<()> {
        self.table.delete(descriptor)?;
        Ok(())
    }
}

impl types::HostDirectoryEntryStream for Preview2 {
    fn read_directory_entry(
        &mut self,
        stream: Resource<Listing>,
    ) -> Result<Option<DirectoryEntry>> {
        let Listing {
            listing,
            next_entry,
        } = self.table.get_mut(&stream)?;
        let Some(entry) = listing.entries().get(*next_entry) else {
            return Ok(None);
        };
        *next_entry += 1;
        Ok(Some(DirectoryEntry {
            type_: descriptor_type(entry.kind),
            name: entry.name.clone(),
        }))
    }

    fn drop(&mut self, stream: Resource<Listing>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}
