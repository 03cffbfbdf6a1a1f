// SPDX-License-Identifier: Apache-2.0

//! `wasi:filesystem`: the functions of 0.2 with the types of 0.3, and streams instead of its reads and writes.

use std::pin::Pin;
use std::task::{Context, Poll};

use wasmtime::StoreContextMut;
use wasmtime::component::{
    Access, Accessor, Destination, FutureReader, Resource, StreamProducer, StreamReader,
    StreamResult, VecBuffer,
};

use super::bindings::wasi::filesystem::preopens;
use super::bindings::wasi::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
    HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use super::clocks::{instant, point};
use super::state::State;
use super::streams::{FileConsumer, FileProducer, outcome};
use crate::error::{Errno, Fault};
use crate::fs::{self, Kind, Stat, TimeChange};
use crate::preview2::Preview2;
use crate::preview2::bindings::wasi::filesystem::types as of_0_2;
use crate::preview2::bindings::wasi::filesystem::types::HostDescriptor as Of02;
use crate::preview2::filesystem::{Result, code_of_errno, type_of_kind};
use crate::preview2::opened::Opened;

/// The outcome of a stream: a future of it.
type Ended = FutureReader<std::result::Result<(), ErrorCode>>;

/// Entries given at a time to a reader that does not say how many it takes.
const ENTRIES: usize = 32;

/// The error code of an error number.
fn error_code(errno: Errno) -> ErrorCode {
    code_of_errno!(errno, ErrorCode)
}

fn descriptor_type(kind: Kind) -> DescriptorType {
    type_of_kind!(kind, DescriptorType, DescriptorType::Other(None))
}

fn descriptor_stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: descriptor_type(stat.kind),
        link_count: stat.links,
        size: stat.size,
        data_access_timestamp: Some(instant(stat.accessed)),
        data_modification_timestamp: Some(instant(stat.modified)),
        status_change_timestamp: Some(instant(stat.changed)),
    }
}

fn time_change(timestamp: &NewTimestamp) -> Result<TimeChange> {
    Ok(match timestamp {
        NewTimestamp::NoChange => TimeChange::Keep,
        NewTimestamp::Now => TimeChange::Now,
        NewTimestamp::Timestamp(time) => TimeChange::At(point(time).ok_or(Errno::Overflow)?),
    })
}

fn follow(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

/// Translates flags by their names, which are the same in both versions.
macro_rules! flags {
    ($flags:expr, $from:ident => $to:path: $($name:ident)*) => {{
        use $to as To;
        let mut flags = To::empty();
        $(if $flags.contains($from::$name) {
            flags |= To::$name;
        })*
        flags
    }};
}

fn path_flags(flags: PathFlags) -> of_0_2::PathFlags {
    flags!(flags, PathFlags => of_0_2::PathFlags: SYMLINK_FOLLOW)
}

fn open_flags(flags: OpenFlags) -> of_0_2::OpenFlags {
    flags!(flags, OpenFlags => of_0_2::OpenFlags: CREATE DIRECTORY EXCLUSIVE TRUNCATE)
}

fn descriptor_flags(flags: DescriptorFlags) -> of_0_2::DescriptorFlags {
    flags!(flags, DescriptorFlags => of_0_2::DescriptorFlags:
        READ WRITE FILE_INTEGRITY_SYNC DATA_INTEGRITY_SYNC REQUESTED_WRITE_SYNC MUTATE_DIRECTORY)
}

impl preopens::Host for Preview2 {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Opened>, String)>> {
        use crate::preview2::bindings::wasi::filesystem::preopens::Host;
        Host::get_directories(self)
    }
}

impl types::Host for Preview2 {
    fn convert_error_code(&mut self, fault: Fault) -> wasmtime::Result<ErrorCode> {
        match fault {
            Fault::Errno(errno) => Ok(error_code(errno)),
            Fault::Trap(error) => Err(error),
        }
    }
}

impl types::HostDescriptor for Preview2 {
    fn drop(&mut self, descriptor: Resource<Opened>) -> wasmtime::Result<()> {
        Of02::drop(self, descriptor)
    }
}

/// The result of opening a stream: the outcome for the component, and not the end of it, if it failed by an error number.
fn errno<T>(result: Result<T>) -> wasmtime::Result<std::result::Result<T, Errno>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Errno(errno)) => Ok(Err(errno)),
        Err(Fault::Trap(error)) => Err(error),
    }
}

/// Writes a stream to a file, from `position` on or always at the end.
fn written<U: 'static>(
    mut store: Access<'_, U, State>,
    descriptor: &Resource<Opened>,
    mut data: StreamReader<u8>,
    position: Option<u64>,
) -> wasmtime::Result<Ended> {
    let (mut result, future) = outcome(error_code);
    match errno(store.get().writable(descriptor))? {
        Ok(file) => data.pipe(&mut store, FileConsumer::new(file, position, result))?,
        Err(errno) => {
            data.close(&mut store)?;
            result.fail(errno);
        }
    }
    FutureReader::new(&mut store, future)
}

/// The entries of a directory.
struct Entries {
    listing: fs::Listing,
    next_entry: usize,
}

impl<D> StreamProducer<D> for Entries {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, DirectoryEntry, Self::Buffer>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let most = destination.remaining(store).unwrap_or(ENTRIES);
        let rest = self
            .listing
            .entries()
            .get(self.next_entry..)
            .unwrap_or_default();
        let is_all = most >= rest.len();
        let entries: Vec<_> = rest
            .iter()
            .take(most)
            .map(|entry| DirectoryEntry {
                type_: descriptor_type(entry.kind),
                name: entry.name.clone(),
            })
            .collect();
        self.next_entry = self.next_entry.saturating_add(entries.len());
        destination.set_buffer(entries.into());
        Poll::Ready(Ok(if most > 0 && is_all {
            StreamResult::Dropped
        } else {
            StreamResult::Completed
        }))
    }
}

/// Performs a function of 0.2 at once.
fn at_once<U: 'static, R>(
    store: &Accessor<U, State>,
    function: impl FnOnce(&mut Preview2) -> R,
) -> R {
    store.with(|mut store| function(store.get()))
}

impl<U: 'static> HostDescriptorWithStore<U> for State {
    fn read_via_stream(
        mut store: Access<'_, U, Self>,
        descriptor: Resource<Opened>,
        position: u64,
    ) -> wasmtime::Result<(StreamReader<u8>, Ended)> {
        let (mut result, future) = outcome(error_code);
        let stream = match errno(store.get().readable(&descriptor))? {
            Ok(file) => StreamReader::new(&mut store, FileProducer::new(file, position, result))?,
            Err(errno) => {
                result.fail(errno);
                StreamReader::new(&mut store, Vec::new())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, future)?))
    }

    fn write_via_stream(
        store: Access<'_, U, Self>,
        descriptor: Resource<Opened>,
        data: StreamReader<u8>,
        position: u64,
    ) -> wasmtime::Result<Ended> {
        written(store, &descriptor, data, Some(position))
    }

    fn append_via_stream(
        store: Access<'_, U, Self>,
        descriptor: Resource<Opened>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Ended> {
        written(store, &descriptor, data, None)
    }

    async fn advise(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        offset: u64,
        length: u64,
        _advice: Advice,
    ) -> Result<()> {
        let advice = of_0_2::Advice::Normal;
        at_once(store, |it| {
            Of02::advise(it, descriptor, offset, length, advice)
        })
    }

    async fn sync_data(store: &Accessor<U, Self>, descriptor: Resource<Opened>) -> Result<()> {
        at_once(store, |it| Of02::sync_data(it, descriptor))
    }

    async fn get_flags(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
    ) -> Result<DescriptorFlags> {
        use of_0_2::DescriptorFlags as Flags;
        let flags = at_once(store, |it| Of02::get_flags(it, descriptor))?;
        Ok(flags!(flags, Flags => DescriptorFlags: READ WRITE MUTATE_DIRECTORY))
    }

    async fn get_type(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
    ) -> Result<DescriptorType> {
        at_once(store, |it| {
            Ok(descriptor_type(it.descriptor(&descriptor)?.kind()))
        })
    }

    async fn set_size(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        size: u64,
    ) -> Result<()> {
        at_once(store, |it| Of02::set_size(it, descriptor, size))
    }

    async fn set_times(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<()> {
        let (accessed, modified) = (time_change(&accessed)?, time_change(&modified)?);
        at_once(store, |it| {
            Ok(it.descriptor(&descriptor)?.set_times(accessed, modified)?)
        })
    }

    fn read_directory(
        mut store: Access<'_, U, Self>,
        descriptor: Resource<Opened>,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, Ended)> {
        let (mut result, future) = outcome(error_code);
        let stream = match errno(store.get().listing(&descriptor))? {
            Ok(listing) => StreamReader::new(
                &mut store,
                Entries {
                    listing,
                    next_entry: 0,
                },
            )?,
            Err(errno) => {
                result.fail(errno);
                StreamReader::new(&mut store, Vec::new())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, future)?))
    }

    async fn sync(store: &Accessor<U, Self>, descriptor: Resource<Opened>) -> Result<()> {
        at_once(store, |it| Of02::sync(it, descriptor))
    }

    async fn create_directory_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        path: String,
    ) -> Result<()> {
        at_once(store, |it| Of02::create_directory_at(it, descriptor, path))
    }

    async fn stat(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
    ) -> Result<DescriptorStat> {
        at_once(store, |it| {
            Ok(descriptor_stat(&it.descriptor(&descriptor)?.stat()?))
        })
    }

    async fn stat_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        flags: PathFlags,
        path: String,
    ) -> Result<DescriptorStat> {
        at_once(store, |it| {
            let directory = it.directory(&descriptor)?;
            Ok(descriptor_stat(&directory.stat_at(&path, follow(flags))?))
        })
    }

    async fn set_times_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> Result<()> {
        let (accessed, modified) = (time_change(&accessed)?, time_change(&modified)?);
        at_once(store, |it| {
            let directory = it.directory(&descriptor)?;
            Ok(directory.set_times_at(&path, follow(flags), accessed, modified)?)
        })
    }

    async fn link_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        flags: PathFlags,
        from: String,
        to_descriptor: Resource<Opened>,
        to: String,
    ) -> Result<()> {
        let flags = path_flags(flags);
        at_once(store, |it| {
            Of02::link_at(it, descriptor, flags, from, to_descriptor, to)
        })
    }

    async fn open_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        flags: PathFlags,
        path: String,
        opening: OpenFlags,
        rights: DescriptorFlags,
    ) -> Result<Resource<Opened>> {
        let flags = path_flags(flags);
        let (opening, rights) = (open_flags(opening), descriptor_flags(rights));
        at_once(store, |it| {
            Of02::open_at(it, descriptor, flags, path, opening, rights)
        })
    }

    async fn readlink_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        path: String,
    ) -> Result<String> {
        at_once(store, |it| Of02::readlink_at(it, descriptor, path))
    }

    async fn remove_directory_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        path: String,
    ) -> Result<()> {
        at_once(store, |it| Of02::remove_directory_at(it, descriptor, path))
    }

    async fn rename_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        from: String,
        to_descriptor: Resource<Opened>,
        to: String,
    ) -> Result<()> {
        at_once(store, |it| {
            Of02::rename_at(it, descriptor, from, to_descriptor, to)
        })
    }

    async fn symlink_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        target: String,
        path: String,
    ) -> Result<()> {
        at_once(store, |it| Of02::symlink_at(it, descriptor, target, path))
    }

    async fn unlink_file_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        path: String,
    ) -> Result<()> {
        at_once(store, |it| Of02::unlink_file_at(it, descriptor, path))
    }

    async fn is_same_object(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        other: Resource<Opened>,
    ) -> wasmtime::Result<bool> {
        at_once(store, |it| Of02::is_same_object(it, descriptor, other))
    }

    async fn metadata_hash(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
    ) -> Result<MetadataHashValue> {
        at_once(store, |it| Of02::metadata_hash(it, descriptor)).map(hash)
    }

    async fn metadata_hash_at(
        store: &Accessor<U, Self>,
        descriptor: Resource<Opened>,
        flags: PathFlags,
        path: String,
    ) -> Result<MetadataHashValue> {
        let flags = path_flags(flags);
        at_once(store, |it| {
            Of02::metadata_hash_at(it, descriptor, flags, path)
        })
        .map(hash)
    }
}

fn hash(
    of_0_2::MetadataHashValue { lower, upper }: of_0_2::MetadataHashValue,
) -> MetadataHashValue {
    MetadataHashValue { lower, upper }
}
