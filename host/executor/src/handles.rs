//! The table of what the Keep has open. Numbers that come from the Keep are looked up here, never
//! used as descriptors.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use enarx_sallyport::{Handle, Status};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::streams::Stream;

/// Most handles that a Keep can hold, the standard streams and granted directories included.
pub const MAX_HANDLES: usize = 4096;
/// Descriptors that the process keeps for itself: those of the virtual machine, of its threads, and those that
/// are open for the time of one request.
const OWN_DESCRIPTORS: usize = 128;

/// The handles that a Keep can hold on this system: as many as the process may open descriptors, so that a
/// program is told that its own limit is reached, and not that the host failed. Raises the process's limit
/// (`RLIMIT_NOFILE`) as far as is wanted and allowed.
pub fn limit() -> usize {
    let wanted = (MAX_HANDLES + OWN_DESCRIPTORS) as u64;
    let mut limits = getrlimit(Resource::Nofile);
    if limits.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(limits.maximum.unwrap_or(wanted).min(wanted)),
            ..limits
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limits = raised;
        }
    }
    let current = usize::try_from(limits.current.unwrap_or(wanted)).unwrap_or(usize::MAX);
    current.saturating_sub(OWN_DESCRIPTORS).min(MAX_HANDLES)
}

/// What a handle stands for. Descriptors are shared with requests that wait for them.
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
}

/// The table. Freed numbers are used again, the lowest first.
#[derive(Debug)]
pub struct Handles {
    entries: Vec<Option<Object>>,
    /// Most entries.
    limit: usize,
}

impl Handles {
    /// The table with the standard streams at 0 to 2 and the granted directories from 16 on, and with room for
    /// `limit` entries.
    pub fn new(streams: [Stream; 3], directories: Vec<Node>, limit: usize) -> Self {
        let mut entries: Vec<_> = streams.map(|stream| Some(Object::Stream(stream))).into();
        entries.resize(Handle::FIRST_ROOT.0 as usize, None);
        entries.extend(
            directories
                .into_iter()
                .map(|node| Some(Object::Directory(node))),
        );
        Self { entries, limit }
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

    /// Whether another handle can be had.
    ///
    /// # Errors
    /// [`Status::TooManyHandles`] at the limit.
    pub fn room(&self) -> Result<(), Status> {
        let free = self.entries.iter().skip(3).any(Option::is_none);
        if free || self.entries.len() < self.limit {
            Ok(())
        } else {
            Err(Status::TooManyHandles)
        }
    }

    /// Takes an object in and gives it a handle.
    ///
    /// # Errors
    /// [`Status::TooManyHandles`] at the limit.
    pub fn insert(&mut self, object: Object) -> Result<Handle, Status> {
        self.room()?;
        // The numbers of the standard streams are never given to something else.
        let free = self.entries.iter().skip(3).position(Option::is_none);
        let index = free.map_or(self.entries.len(), |index| index + 3);
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

    /// Closes a handle; requests that wait for its descriptor keep it until they end.
    ///
    /// # Errors
    /// [`Status::BadHandle`] when there is none.
    pub fn remove(&mut self, handle: Handle) -> Result<(), Status> {
        self.entries
            .get_mut(handle.0 as usize)
            .and_then(Option::take)
            .map(drop)
            .ok_or(Status::BadHandle)
    }
}
