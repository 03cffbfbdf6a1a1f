// SPDX-License-Identifier: Apache-2.0

//! File systems: the trait every one implements, and the open descriptors of the application.
//!
//! [`memory`] is private to the Keep; [`host`] is a directory of the untrusted host. The rights of an
//! open descriptor are decided here, for all of them, before a file system is asked.

pub mod host;
pub mod memory;
mod pieces;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use enarx_sallyport::types::Time;

use crate::budget::Budget;
use crate::error::{Errno, Result};

/// An open object of one file system.
pub type Node = u64;

/// The kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// None of the others.
    Unknown,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharacterDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A regular file.
    File,
    /// A socket.
    Socket,
    /// A symbolic link.
    SymbolicLink,
}

/// The attributes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Number of the device.
    pub device: u64,
    /// Number of the object on its device.
    pub inode: u64,
    /// Its kind.
    pub kind: Kind,
    /// Number of names it has.
    pub links: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last access.
    pub accessed: Time,
    /// Last change of the content.
    pub modified: Time,
    /// Last change of the attributes.
    pub changed: Time,
}

/// The change to a time stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeChange {
    /// It stays.
    Keep,
    /// The present time.
    Now,
    /// This time.
    At(Time),
}

/// How an object is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags of the interface, as open(2) has them"
)]
pub struct OpenOptions {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Create the file if it does not exist.
    pub create: bool,
    /// Fail where there is one.
    pub exclusive: bool,
    /// Cut the file to length 0.
    pub truncate: bool,
    /// Only a directory.
    pub directory: bool,
    /// For changes of a directory's entries: asked for and told, and no more, as Wasmtime has it. Preview 1 knows no such flag, so
    /// that programs which were made for it change directories that they have opened without it.
    pub mutate: bool,
    /// Follow a symbolic link at the end of the path.
    pub follow: bool,
}

/// An entry of a directory, other than `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Number of the object on its device.
    pub inode: u64,
}

/// Memory that an entry of a listing takes besides its name, in bytes; an estimate that bounds their number.
const ENTRY_COST: u64 = 2 * size_of::<Entry>() as u64;

/// The entries of a directory as they were when it was read. Their memory comes out of a budget, and goes
/// back to it with the listing.
pub struct Listing {
    entries: Vec<Entry>,
    budget: Budget,
    cost: u64,
}

impl Listing {
    /// A listing without entries.
    pub fn new(budget: Budget) -> Self {
        Self {
            entries: Vec::new(),
            budget,
            cost: 0,
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`Errno::NoMemory`] when the budget does not have the memory.
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        let cost = ENTRY_COST.saturating_add(entry.name.len() as u64);
        if !self.budget.take_heap(cost) {
            return Err(Errno::NoMemory);
        }
        self.cost = self.cost.saturating_add(cost);
        self.entries.push(entry);
        Ok(())
    }

    /// The entries, in the order of the file system.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.entries = Vec::new();
        self.budget.give_heap(self.cost);
    }
}

/// A file system. Paths are relative to an open directory and never lead above it:
/// [`Errno::NotPermitted`] is the answer to an escape by `..` or a symbolic link. All other errors
/// are those of the POSIX function of the same purpose.
#[expect(
    clippy::missing_errors_doc,
    reason = "they are told above, for all functions"
)]
pub trait FileSystem: Send {
    /// Opens an object.
    fn open(&mut self, dir: Node, path: &str, options: OpenOptions) -> Result<(Node, Kind)>;
    /// Ends the use of a node.
    fn close(&mut self, node: Node);
    /// Reads; fewer bytes than asked, and 0 only at the end.
    fn read_at(&mut self, node: Node, offset: u64, buffer: &mut [u8]) -> Result<usize>;
    /// Writes; returns how many bytes were written.
    fn write_at(&mut self, node: Node, offset: u64, bytes: &[u8]) -> Result<usize>;
    /// Writes at the end.
    fn append(&mut self, node: Node, bytes: &[u8]) -> Result<usize>;
    /// Attributes of an open object.
    fn stat(&mut self, node: Node) -> Result<Stat>;
    /// Attributes of an object by path.
    fn stat_at(&mut self, dir: Node, path: &str, follow: bool) -> Result<Stat>;
    /// Changes the size.
    fn set_size(&mut self, node: Node, size: u64) -> Result<()>;
    /// Changes the time stamps of an open object.
    fn set_times(&mut self, node: Node, accessed: TimeChange, modified: TimeChange) -> Result<()>;
    /// Changes the time stamps of an object by path.
    fn set_times_at(
        &mut self,
        dir: Node,
        path: &str,
        follow: bool,
        accessed: TimeChange,
        modified: TimeChange,
    ) -> Result<()>;
    /// Makes changes durable where the file system can.
    fn sync(&mut self, node: Node, data_only: bool) -> Result<()>;
    /// Adds all entries of a directory to `listing`. Those whose name is not UTF-8 are left out: no
    /// program of WASI could name them.
    fn read_directory(&mut self, dir: Node, listing: &mut Listing) -> Result<()>;
    /// Creates a directory.
    fn create_directory(&mut self, dir: Node, path: &str) -> Result<()>;
    /// Removes an empty directory.
    fn remove_directory(&mut self, dir: Node, path: &str) -> Result<()>;
    /// Removes a name that is not a directory's.
    fn unlink(&mut self, dir: Node, path: &str) -> Result<()>;
    /// The target of a symbolic link.
    fn read_link(&mut self, dir: Node, path: &str) -> Result<String>;
    /// Renames, replacing the object with the new name.
    fn rename(&mut self, from_dir: Node, from: &str, to_dir: Node, to: &str) -> Result<()>;
    /// Gives an object one more name.
    fn link(&mut self, from_dir: Node, from: &str, to_dir: Node, to: &str) -> Result<()>;
    /// Creates a symbolic link.
    fn symlink(&mut self, target: &str, dir: Node, path: &str) -> Result<()>;
}

/// A file system that several descriptors share.
pub type SharedFileSystem = Arc<Mutex<dyn FileSystem>>;

/// The rights that a descriptor was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Reading.
    pub read: bool,
    /// Writing; of a directory, that its entries are changed through it.
    pub write: bool,
    /// This descriptor, and those opened from it, allow no changes.
    pub read_only: bool,
}

/// An open file or directory of the application. One that it has opened is closed when dropped; those
/// that are open at the start belong to the Keep, which gives them to each instance of a server.
pub struct Descriptor {
    file_system: SharedFileSystem,
    node: Node,
    kind: Kind,
    rights: Rights,
    /// The node is open at the start.
    is_root: bool,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if !self.is_root {
            let node = self.node;
            self.lock().close(node);
        }
    }
}

/// True if this many bytes at an offset can be part of a file: offsets have 63 bits (`off_t`).
fn reachable(offset: u64, length: usize) -> Result<()> {
    offset
        .checked_add(length as u64)
        .filter(|end| i64::try_from(*end).is_ok())
        .map(|_| ())
        .ok_or(Errno::Invalid)
}

impl Descriptor {
    /// The root of a file system, or a directory the host opened for the application.
    pub fn directory(file_system: SharedFileSystem, node: Node, read_only: bool) -> Self {
        Self {
            file_system,
            node,
            kind: Kind::Directory,
            rights: Rights {
                read: true,
                write: !read_only,
                read_only,
            },
            is_root: true,
        }
    }

    fn lock(&self) -> MutexGuard<'_, dyn FileSystem + 'static> {
        // A panic elsewhere does not end the Keep's file systems: their state is plain data.
        self.file_system
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// True if it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// The rights it was opened with.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    fn changeable(&self) -> Result<()> {
        if self.rights.read_only {
            return Err(Errno::NotPermitted);
        }
        Ok(())
    }

    /// Opens an object below this directory.
    ///
    /// # Errors
    /// [`Errno::Invalid`] for creating or truncating a directory, [`Errno::NotPermitted`] for a change
    /// below a read-only directory, otherwise the error of the file system.
    pub fn open(&self, path: &str, mut options: OpenOptions) -> Result<Self> {
        if options.directory && (options.create || options.exclusive || options.truncate) {
            return Err(Errno::Invalid);
        }
        if !options.write {
            // As in `wasmtime`: a file that is not opened for writing can at least be read.
            options.read = true;
        }
        options.write |= options.create || options.truncate;
        if options.write {
            self.changeable()?;
        }
        let (node, kind) = self.lock().open(self.node, path, options)?;
        let opened = Self {
            file_system: Arc::clone(&self.file_system),
            node,
            kind,
            rights: Rights {
                read: options.read,
                write: if kind == Kind::Directory {
                    options.mutate && !self.rights.read_only
                } else {
                    options.write
                },
                read_only: self.rights.read_only,
            },
            is_root: false,
        };
        if options.directory && !opened.is_directory() {
            return Err(Errno::NotDirectory);
        }
        Ok(opened)
    }

    /// Reads at an offset into `buffer`; 0 is the end.
    ///
    /// # Errors
    /// [`Errno::IsDirectory`], [`Errno::Invalid`] for an offset that no file can have,
    /// [`Errno::BadDescriptor`] when not opened for reading, else what the file system answers.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if self.is_directory() {
            return Err(Errno::IsDirectory);
        }
        reachable(offset, 0)?;
        if !self.rights.read {
            return Err(Errno::BadDescriptor);
        }
        reachable(offset, buffer.len())?;
        self.lock().read_at(self.node, offset, buffer)
    }

    fn writable(&self) -> Result<()> {
        if self.is_directory() || !self.rights.write {
            return Err(Errno::BadDescriptor);
        }
        Ok(())
    }

    /// Writes at an offset, returns how many bytes were written.
    ///
    /// # Errors
    /// [`Errno::Invalid`] for an offset that no file can have, [`Errno::BadDescriptor`] when not
    /// opened for writing, else what the file system answers.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<usize> {
        if !self.is_directory() {
            reachable(offset, 0)?;
        }
        self.writable()?;
        reachable(offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(0);
        }
        self.lock().write_at(self.node, offset, bytes)
    }

    /// Writes at the end, returns how many bytes were written.
    ///
    /// # Errors
    /// As [`Descriptor::write_at`].
    pub fn append(&self, bytes: &[u8]) -> Result<usize> {
        self.writable()?;
        if bytes.is_empty() {
            return Ok(0);
        }
        self.lock().append(self.node, bytes)
    }

    /// Attributes.
    ///
    /// # Errors
    /// The file system's answer, if it is an error.
    pub fn stat(&self) -> Result<Stat> {
        self.lock().stat(self.node)
    }

    /// Attributes of the object at `path`.
    ///
    /// # Errors
    /// The file system's answer, if it is an error.
    pub fn stat_at(&self, path: &str, follow: bool) -> Result<Stat> {
        self.lock().stat_at(self.node, path, follow)
    }

    /// Changes the size.
    ///
    /// # Errors
    /// [`Errno::NotPermitted`] below a read-only directory, [`Errno::Invalid`] when not opened
    /// for writing or for a size that no file can have, else what the file system answers.
    pub fn set_size(&self, size: u64) -> Result<()> {
        self.changeable()?;
        if !self.rights.write {
            return Err(Errno::Invalid);
        }
        reachable(size, 0)?;
        self.lock().set_size(self.node, size)
    }

    /// Changes the time stamps.
    ///
    /// # Errors
    /// [`Errno::NotPermitted`] below a read-only directory, else what the file system answers.
    pub fn set_times(&self, accessed: TimeChange, modified: TimeChange) -> Result<()> {
        self.changeable()?;
        self.lock().set_times(self.node, accessed, modified)
    }

    /// Changes the time stamps of the object at `path`.
    ///
    /// # Errors
    /// As [`Descriptor::set_times`].
    pub fn set_times_at(
        &self,
        path: &str,
        follow: bool,
        accessed: TimeChange,
        modified: TimeChange,
    ) -> Result<()> {
        self.changeable()?;
        self.lock()
            .set_times_at(self.node, path, follow, accessed, modified)
    }

    /// Makes changes durable where the file system can.
    ///
    /// # Errors
    /// The file system's answer, if it is an error.
    pub fn sync(&self, data_only: bool) -> Result<()> {
        self.lock().sync(self.node, data_only)
    }

    /// All entries of this directory, as it is now.
    ///
    /// # Errors
    /// [`Errno::NoMemory`] when `budget` does not have the memory, else what the file system answers.
    pub fn read_directory(&self, budget: &Budget) -> Result<Listing> {
        let mut listing = Listing::new(budget.clone());
        self.lock().read_directory(self.node, &mut listing)?;
        Ok(listing)
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// [`Errno::NotPermitted`] below a read-only directory, else what the file system answers.
    pub fn create_directory(&self, path: &str) -> Result<()> {
        self.changeable()?;
        self.lock().create_directory(self.node, path)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// As [`Descriptor::create_directory`].
    pub fn remove_directory(&self, path: &str) -> Result<()> {
        self.changeable()?;
        self.lock().remove_directory(self.node, path)
    }

    /// Removes a name that is not a directory's.
    ///
    /// # Errors
    /// As [`Descriptor::create_directory`].
    pub fn unlink(&self, path: &str) -> Result<()> {
        self.changeable()?;
        self.lock().unlink(self.node, path)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`Errno::NotPermitted`] for an absolute target, else what the file system answers.
    pub fn read_link(&self, path: &str) -> Result<String> {
        let target = self.lock().read_link(self.node, path)?;
        if target.starts_with('/') {
            return Err(Errno::NotPermitted);
        }
        Ok(target)
    }

    fn both_changeable(&self, other: &Self) -> Result<()> {
        self.changeable()?;
        other.changeable()?;
        if !Arc::ptr_eq(&self.file_system, &other.file_system) {
            return Err(Errno::CrossDevice);
        }
        Ok(())
    }

    /// Renames `from` below this directory to `to` below another.
    ///
    /// # Errors
    /// [`Errno::CrossDevice`] between file systems, [`Errno::NotPermitted`] where one side is
    /// read-only, else what the file system answers.
    pub fn rename(&self, from: &str, other: &Self, to: &str) -> Result<()> {
        self.both_changeable(other)?;
        self.lock().rename(self.node, from, other.node, to)
    }

    /// Gives `from` below this directory the name `to` below another.
    ///
    /// # Errors
    /// As [`Descriptor::rename`]; [`Errno::Invalid`] for following a symbolic link.
    pub fn link(&self, from: &str, follow: bool, other: &Self, to: &str) -> Result<()> {
        if follow {
            self.changeable()?;
            other.changeable()?;
            return Err(Errno::Invalid);
        }
        self.both_changeable(other)?;
        self.lock().link(self.node, from, other.node, to)
    }

    /// Creates a symbolic link.
    ///
    /// # Errors
    /// [`Errno::NotPermitted`] for an absolute target or below a read-only directory, else what
    /// the file system answers.
    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        self.changeable()?;
        if target.starts_with('/') {
            return Err(Errno::NotPermitted);
        }
        self.lock().symlink(target, self.node, path)
    }

    /// True if two descriptors name the same object.
    ///
    /// # Errors
    /// The file system's answer, if it is an error.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        if !Arc::ptr_eq(&self.file_system, &other.file_system) {
            return Ok(false);
        }
        let (a, b) = (self.stat()?, other.stat()?);
        Ok(a.device == b.device && a.inode == b.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_takes_its_memory_from_the_budget_and_returns_it() {
        let entry = || Entry {
            name: "name".to_owned(),
            kind: Kind::File,
            inode: 1,
        };
        let budget = Budget::new(2 * ENTRY_COST + 8);
        let mut listing = Listing::new(budget.clone());
        listing.push(entry()).unwrap();
        listing.push(entry()).unwrap();
        assert_eq!(listing.push(entry()), Err(Errno::NoMemory));
        assert_eq!(listing.entries().len(), 2);
        assert!(!budget.take(1));
        drop(listing);
        assert!(budget.take(2 * ENTRY_COST + 8));
    }

    #[test]
    fn no_file_reaches_beyond_63_bits() {
        let most = i64::MAX.unsigned_abs();
        assert_eq!(reachable(most, 0), Ok(()));
        assert_eq!(reachable(most - 5, 5), Ok(()));
        assert_eq!(reachable(most, 1), Err(Errno::Invalid));
        assert_eq!(reachable(u64::MAX, 2), Err(Errno::Invalid));
    }
}
