// SPDX-License-Identifier: Apache-2.0

//! Files of the state folder: reads are bounded, writes replace the whole file, and no other user can read them.

use crate::StateError;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// Permissions of files: the owner's alone.
pub(crate) const MODE: u32 = 0o600;

/// The error of this file.
pub(crate) fn error(path: &Path, error: io::Error) -> StateError {
    StateError::File {
        path: path.to_owned(),
        error,
    }
}

/// The contents of a file of at most `limit` bytes, `None` when there is no such file. They may be secret.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
    let read = || {
        let mut bytes = Zeroizing::new(Vec::new());
        let file = own(OpenOptions::new().read(true), path)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::from(ErrorKind::FileTooLarge));
        }
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(error(path, cause)),
    }
}

/// Writes a file with [`MODE`] atomically: readers see the old or the new contents. The caller holds the
/// folder's lock.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let part = path.with_extension("part");
    let write = || {
        // One that a killed process left.
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = create_new(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|cause| error(path, cause))
}

/// Makes a file that is not there yet.
fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
}

/// Opens a regular file of this user's, and follows no link.
fn own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::from_ne_bytes(flags.bits().to_ne_bytes());
    let file = options.custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it is not a regular file of this user's"));
    }
    Ok(file)
}

/// Opens a file for reading and writing, and makes it if it is not there.
pub(crate) fn open(path: &Path) -> Result<File, StateError> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE);
    own(&mut options, path).map_err(|cause| error(path, cause))
}
