// SPDX-License-Identifier: Apache-2.0

//! Reading and replacing files: regular ones, of a bounded length, whole or not at all. A folder may come from a host that
//! is not trusted, with pipes, devices and links in it.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the largest file with evidence, endorsements, a policy or a key.
pub const MAX_LEN: u64 = 16 << 20;

/// Room in bytes beyond the length of a file, in which its end is found. With less the standard library tries on its stack first.
const SPARE: usize = 64;

/// Reads a regular file of at most [`MAX_LEN`] bytes. Links are followed.
///
/// # Errors
/// As [`read_up_to`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(path, MAX_LEN)
}

/// Reads a regular file of at most `max` bytes. Links are followed.
///
/// # Errors
/// When it cannot be read, is no regular file, or is longer: then at most one byte more has been read.
pub fn read_up_to(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // A pipe without a writer must not hold the opening up, a terminal not become ours.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let length = usize::try_from(metadata.len().min(max)).unwrap_or(0);
    // A growing buffer could leave a secret in freed memory.
    read_into(Vec::with_capacity(length.saturating_add(SPARE)), file, max)
}

/// Reads all of a stream of at most `max` bytes.
///
/// # Errors
/// When it cannot be read, or is longer: then at most one byte more has been read.
pub fn read_bounded(stream: impl Read, max: u64) -> io::Result<Vec<u8>> {
    read_into(Vec::new(), stream, max)
}

fn read_into(mut bytes: Vec<u8>, stream: impl Read, max: u64) -> io::Result<Vec<u8>> {
    stream.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("larger than {max} bytes"),
        ));
    }
    Ok(bytes)
}

/// Replaces or creates a file atomically: readers see the old or the new contents, never a part, even
/// if the disk is full or the power fails.
///
/// # Errors
/// When it cannot be written; the file is as before then.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}-{number}.part", std::process::id()));
    let part = Path::new(&part);
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(part, path)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    written().inspect_err(|_| {
        // A partial file is of no use; if it cannot be removed, the error is still the first one.
        let _ = std::fs::remove_file(part);
    })
}
