// SPDX-License-Identifier: Apache-2.0

//! The folder in which a simulated chip keeps its keys: created once, then unchanged. Its files are secrets of a
//! machine that protects nothing; they are still kept from other users.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of the largest file that is read: the largest we write has three RSA-4096 keys.
const MAX_LEN: u64 = 64 << 10;

/// Why a machine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(
        "the simulated machine's file {} cannot be used: {source}: name another folder with --sim state=DIR",
        path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is a file, or lies below one.
    #[error("the simulated machine's folder {} is not a folder: name another with --sim state=DIR", .0.display())]
    NotFolder(PathBuf),
    /// A file has contents that this program did not write.
    #[error("the simulated machine's file {} is damaged: remove the folder to get a new machine", .0.display())]
    Damaged(PathBuf),
    /// Keys or certificates could not be made.
    #[error("the simulated machine's keys: {0}")]
    Keys(#[from] enarx_snp_authority::Error),
    /// The clock shows a time before 1970 or too far in the future for a certificate.
    #[error("the clock is wrong: set it, certificates need the time")]
    Clock,
}

/// The folder, locked against other processes.
pub struct Store {
    folder: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl Store {
    /// Opens the folder, or makes it, and waits until no other process has it open.
    ///
    /// # Errors
    /// [`Error::NotFolder`], [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| match source.kind() {
                ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                    Error::NotFolder(folder.to_owned())
                }
                _ => failed(folder, source),
            })?;
        let path = folder.join("lock");
        let lock = private()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| failed(&path, source))?;
        lock.lock().map_err(|source| failed(&path, source))?;
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// The parts of the file `name`; if it does not exist, `make` creates them and they are stored.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`], and those of `make`.
    pub fn get_or_make<const N: usize>(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<[Vec<u8>; N], Error>,
    ) -> Result<[Vec<u8>; N], Error> {
        let path = self.folder.join(name);
        match File::open(&path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(MAX_LEN)
                    .read_to_end(&mut bytes)
                    .map_err(|source| failed(&path, source))?;
                split(&bytes).ok_or(Error::Damaged(path))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let parts = make()?;
                self.write(&path, &join(&parts))
                    .map_err(|source| failed(&path, source))?;
                Ok(parts)
            }
            Err(source) => Err(failed(&path, source)),
        }
    }

    /// Writes a file atomically: a temporary file, flushed to disk, then renamed.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = self.folder.join("new");
        let mut file = private().create(true).truncate(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

/// The parts, each after its length (32 bits, little-endian).
fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        // The parts are keys and certificates of a few thousand bytes.
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn split<const N: usize>(mut bytes: &[u8]) -> Option<[Vec<u8>; N]> {
    let mut parts = Vec::with_capacity(N);
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let (part, rest) = rest.split_at_checked(len)?;
        parts.push(part.to_vec());
        bytes = rest;
    }
    (bytes.is_empty())
        .then_some(parts)
        .and_then(|p| p.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    proptest! {
        #[test]
        fn parts_are_restored_and_damage_is_detected(parts: [Vec<u8>; 3], cut in 1usize..16) {
            let bytes = join(&parts);
            prop_assert_eq!(split(&bytes), Some(parts));
            prop_assert_eq!(split::<3>(&bytes[..bytes.len() - cut.min(bytes.len())]), None);
            prop_assert_eq!(split::<2>(&bytes), None);
        }
    }

    #[test]
    fn a_file_is_created_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("machine");
        let store = Store::open(&folder).unwrap();
        let first = store.get_or_make("part", || Ok([vec![1, 2, 3]])).unwrap();
        assert_eq!(first, [vec![1, 2, 3]]);
        assert_eq!(
            store.get_or_make("part", || Err(Error::Clock)).unwrap(),
            first
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join("part")), 0o600);
        assert_eq!(mode(&folder.join("lock")), 0o600);
        for file in [folder.join("lock"), folder.join("lock/below")] {
            assert!(matches!(Store::open(&file), Err(Error::NotFolder(path)) if path == file));
        }
        std::fs::write(folder.join("part"), [1, 0, 0]).unwrap();
        let damaged = store.get_or_make("part", || Ok([vec![]])).unwrap_err();
        assert!(matches!(&damaged, Error::Damaged(path) if path.ends_with("part")));
    }

    #[test]
    fn processes_that_start_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let threads: Vec<_> = (0..8u8)
            .map(|n| {
                let folder = folder.path().to_owned();
                std::thread::spawn(move || {
                    let store = Store::open(&folder).unwrap();
                    store.get_or_make("chip", || Ok([vec![n]])).unwrap()
                })
            })
            .collect();
        let seen: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(seen.iter().all(|chip| *chip == seen[0]), "{seen:?}");
    }
}
