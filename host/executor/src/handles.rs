// SPDX-License-Identifier: Apache-2.0

//! The table of the Keep's open handles. Numbers from the Keep are looked up here, never used as
//! descriptors.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use enarx_sallyport::{Handle, Status};
use rustix::fs::fstat;
use rustix::process::{Resource, getrlimit};

use super::grant::GrantedDirectory;
use super::interfaces::is_listed;
use super::quota::Quota;
use super::streams::Stream;

/// Most handles that any Keep can hold, the standard streams and granted directories included: its table
/// must not fill this machine's memory.
const MAX_HANDLES: usize = 1 << 16;
/// Descriptors that the host keeps for its own use.
const OWN_DESCRIPTORS: usize = 64;
/// Most descriptors that a process which serves a Keep needs.
pub const DESCRIPTORS: u64 = (MAX_HANDLES + OWN_DESCRIPTORS) as u64;

/// Most handles that a Keep can hold in this process, which may have this many descriptors
/// (RLIMIT_NOFILE). A process with a low limit gives half of them.
fn bound(descriptors: Option<u64>) -> usize {
    let descriptors = descriptors.map_or(usize::MAX, |number| {
        usize::try_from(number).unwrap_or(usize::MAX)
    });
    let own = OWN_DESCRIPTORS.min(descriptors / 2);
    (descriptors - own).min(MAX_HANDLES)
}

/// The object that a handle stands for. Descriptors are shared with requests that wait for them.
#[derive(Clone, Debug)]
pub enum Object {
    /// A standard stream.
    Stream(Stream),
    /// A directory.
    Directory(Node),
    /// A regular file.
    File(Node),
    /// A TCP socket that neither listens nor is connected.
    Tcp(Arc<OwnedFd>),
    /// A TCP connection.
    Connection(Stream),
    /// A TCP socket that listens.
    Listener(Arc<OwnedFd>),
    /// A UDP socket.
    Datagrams(Arc<OwnedFd>),
}

/// An open file or directory, and whether changes may pass through it.
#[derive(Clone, Debug)]
pub struct Node {
    /// The descriptor.
    pub fd: Arc<OwnedFd>,
    /// Refuse every change.
    pub read_only: bool,
    /// The quota of the granted directory, which all that is opened in it shares.
    pub quota: Option<Arc<Quota>>,
    /// Device and inode number.
    pub identity: (u64, u64),
}

impl Node {
    /// A directory that is granted.
    ///
    /// # Errors
    /// The system's, and one for a directory of [`crate::interfaces`].
    pub fn granted(granted: GrantedDirectory) -> std::io::Result<Self> {
        let record = fstat(&granted.directory)?;
        if is_listed(record.st_dev)? {
            return Err(std::io::Error::other(
                "a granted directory is in a file system of the kernel, such as /proc: grant one with files",
            ));
        }
        Ok(Self {
            fd: Arc::new(granted.directory),
            read_only: granted.read_only,
            quota: granted.quota.map(|bytes| Arc::new(Quota::new(bytes))),
            identity: (record.st_dev, record.st_ino),
        })
    }

    /// Adds to the directory what counts for `bytes`, if there is a quota, and takes it back if that fails.
    ///
    /// # Errors
    /// [`Status::Quota`] when less is left, and those of `add`.
    pub fn adding<T>(
        &self,
        bytes: u64,
        add: impl FnOnce() -> Result<T, Status>,
    ) -> Result<T, Status> {
        let Some(quota) = &self.quota else {
            return add();
        };
        quota.take(bytes)?;
        let added = add();
        if added.is_err() {
            quota.give_back(bytes);
        }
        added
    }

    /// The directory has become emptier.
    pub fn give_back(&self, bytes: u64) {
        if let Some(quota) = &self.quota {
            quota.give_back(bytes);
        }
    }

    /// Makes sure that what moves from here to `other` stays in one quota.
    ///
    /// # Errors
    /// [`Status::CrossDevice`], as between file systems: the Keep copies it, which counts.
    pub fn shares_quota(&self, other: &Self) -> Result<(), Status> {
        match (&self.quota, &other.quota) {
            (None, None) => Ok(()),
            (Some(one), Some(other)) if Arc::ptr_eq(one, other) => Ok(()),
            _ => Err(Status::CrossDevice),
        }
    }
}

/// The table. Freed numbers are used again, the lowest first.
#[derive(Debug)]
pub struct Handles {
    entries: Vec<Option<Object>>,
    /// No number from 3 on is free below this one.
    lowest: usize,
    /// Most entries.
    bound: usize,
}

impl Handles {
    /// The table with the standard streams at 0 to 2, the door at 3, the listener of a server at 4, and the granted directories from 16 on.
    pub fn new(
        streams: [Stream; 3],
        door: Option<OwnedFd>,
        listener: Option<OwnedFd>,
        directories: Vec<Node>,
    ) -> Self {
        let mut entries: Vec<_> = streams.map(|stream| Some(Object::Stream(stream))).into();
        let listeners = [door, listener].map(|it| it.map(|it| Object::Listener(Arc::new(it))));
        entries.extend(listeners);
        entries.resize(Handle::FIRST_ROOT.0 as usize, None);
        entries.extend(
            directories
                .into_iter()
                .map(|node| Some(Object::Directory(node))),
        );
        let bound = bound(getrlimit(Resource::Nofile).current);
        Self {
            entries,
            lowest: Handle::STDERR.0 as usize + 1,
            bound,
        }
    }

    /// Allows this many numbers.
    #[cfg(test)]
    pub fn limit_to(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// The lowest number that is free, and not a standard stream's: those are never given to something else.
    fn free(&self) -> usize {
        self.entries
            .iter()
            .skip(self.lowest)
            .position(Option::is_none)
            .map_or(self.entries.len(), |beyond| self.lowest + beyond)
    }

    /// The object of a handle.
    ///
    /// # Errors
    /// [`Status::BadHandle`] when there is none.
    pub fn get(&self, handle: Handle) -> Result<&Object, Status> {
        self.entries
            .get(handle.0 as usize)
            .and_then(Option::as_ref)
            .ok_or(Status::BadHandle)
    }

    /// False if a handle's number is above all that were given so far.
    pub fn has_given(&self, handle: Handle) -> bool {
        (handle.0 as usize) < self.entries.len()
    }

    /// The directory of a handle.
    ///
    /// # Errors
    /// [`Status::BadHandle`] when there is none, [`Status::NotDirectory`] when it is something else.
    pub fn directory(&self, handle: Handle) -> Result<&Node, Status> {
        match self.get(handle)? {
            Object::Directory(node) => Ok(node),
            _ => Err(Status::NotDirectory),
        }
    }

    /// The regular file of a handle.
    ///
    /// # Errors
    /// [`Status::BadHandle`] when there is none, [`Status::IsDirectory`] for a directory and
    /// [`Status::IllegalSeek`] for what has no positions.
    pub fn file(&self, handle: Handle) -> Result<&Node, Status> {
        match self.get(handle)? {
            Object::File(node) => Ok(node),
            Object::Directory(_) => Err(Status::IsDirectory),
            _ => Err(Status::IllegalSeek),
        }
    }

    /// True if a handle stands for the file with this device and inode number.
    pub fn has_open(&self, identity: (u64, u64)) -> bool {
        let mut entries = self.entries.iter().flatten();
        entries.any(|object| matches!(object, Object::File(node) if node.identity == identity))
    }

    /// The file or directory of a handle.
    ///
    /// # Errors
    /// [`Status::BadHandle`] when there is none, [`Status::Invalid`] for what is neither.
    pub fn node(&self, handle: Handle) -> Result<&Node, Status> {
        match self.get(handle)? {
            Object::File(node) | Object::Directory(node) => Ok(node),
            _ => Err(Status::Invalid),
        }
    }

    /// The socket of a handle.
    ///
    /// # Errors
    /// [`Status::BadHandle`] when there is none, [`Status::NotSocket`] when it is something else.
    pub fn socket(&self, handle: Handle) -> Result<&Arc<OwnedFd>, Status> {
        match self.get(handle)? {
            Object::Connection(stream) => Ok(&stream.fd),
            Object::Tcp(fd) | Object::Listener(fd) | Object::Datagrams(fd) => Ok(fd),
            _ => Err(Status::NotSocket),
        }
    }

    /// Checks that another handle is possible.
    ///
    /// # Errors
    /// [`Status::TooManyHandles`] when there are as many as this process may give.
    pub fn room(&mut self) -> Result<(), Status> {
        self.lowest = self.free();
        if self.lowest < self.bound {
            Ok(())
        } else {
            Err(Status::TooManyHandles)
        }
    }

    /// Takes an object in and gives it a handle.
    ///
    /// # Errors
    /// As [`Self::room`].
    pub fn insert(&mut self, object: Object) -> Result<Handle, Status> {
        self.room()?;
        let index = self.lowest;
        let number = u32::try_from(index).map_err(|_| Status::TooManyHandles)?;
        match self.entries.get_mut(index) {
            Some(entry) => *entry = Some(object),
            None => self.entries.push(Some(object)),
        }
        Ok(Handle(number))
    }

    /// Lets a handle stand for what its object has become.
    ///
    /// # Errors
    /// [`Status::BadHandle`] when there is none.
    pub fn replace(&mut self, handle: Handle, object: Object) -> Result<(), Status> {
        let entry = self.entries.get_mut(handle.0 as usize);
        let entry = entry.and_then(Option::as_mut).ok_or(Status::BadHandle)?;
        *entry = object;
        Ok(())
    }

    /// Closes a handle, and returns its object; requests that wait for its descriptor keep it until they
    /// end.
    ///
    /// # Errors
    /// [`Status::BadHandle`] when there is none.
    pub fn remove(&mut self, handle: Handle) -> Result<Object, Status> {
        let index = handle.0 as usize;
        let entry = self.entries.get_mut(index);
        let object = entry.and_then(Option::take).ok_or(Status::BadHandle)?;
        if index > Handle::STDERR.0 as usize {
            self.lowest = self.lowest.min(index);
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_with_the_host() {
        assert_eq!(bound(Some(1024)), 960);
        assert_eq!(bound(Some(20_000)), 19_936);
        assert_eq!(bound(Some(20)), 10);
        assert_eq!(bound(Some(0)), 0);
        assert_eq!(bound(Some(1 << 40)), 1 << 16);
        assert_eq!(bound(None), 1 << 16);
    }
}
