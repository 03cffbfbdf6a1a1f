// SPDX-License-Identifier: Apache-2.0

//! The descriptors of a preview 1 program.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::budget::Budget;
use crate::context::Context;
use crate::error::{Errno, Result};
use crate::fs::{Descriptor, Listing};
use crate::sockets::{Connection, Listener, Opened};

/// An open file with its position.
pub struct File {
    /// The file.
    pub descriptor: Arc<Descriptor>,
    /// Where the next read or write happens.
    pub position: u64,
    /// Every write goes to the end.
    pub append: bool,
    /// Kept for the program; files never block anyway.
    pub nonblocking: bool,
}

/// The meaning of a number.
pub enum Entry {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A directory.
    Directory {
        /// The directory.
        descriptor: Arc<Descriptor>,
        /// The name it was given at the start; `None` when the program opened it itself.
        preopen: Option<String>,
        /// Its entries when reading began: the program continues in this list, whatever is created or removed in the
        /// meantime.
        listing: Option<Listing>,
    },
    /// A file.
    File(File),
    /// A socket that listens.
    Listener(Box<Listener>),
    /// A connection.
    Connection(Box<Connection>),
}

impl From<Opened> for Entry {
    fn from(socket: Opened) -> Self {
        match socket {
            Opened::Listener(listener) => Self::Listener(listener),
            Opened::Connection(connection) => Self::Connection(connection),
        }
    }
}

/// The first number after the standard streams.
const FIRST_FREE: u32 = 3;

/// Most descriptors that a program may hold.
const DESCRIPTORS_MAX: usize = 1 << 20;

/// Memory that is counted for a descriptor, in bytes, in addition to that of a connection or listing: its entry and
/// the objects to which that refers.
const DESCRIPTOR_MEMORY: u64 = 512;

/// The table. Freed numbers are used again, the highest first, as the engine's own WASI does.
pub struct Table {
    used: BTreeMap<u32, Entry>,
    free: BTreeSet<u32>,
    /// The memory for descriptors.
    budget: Budget,
    /// Descriptors whose memory was taken: all but those of the start.
    counted: usize,
}

impl Table {
    /// Standard streams and preopened directories.
    pub fn new(context: &Context) -> Self {
        let directories = context.preopens.iter().map(|preopen| Entry::Directory {
            descriptor: Arc::clone(&preopen.directory),
            preopen: Some(preopen.guest_path.clone()),
            listing: None,
        });
        let entries = [Entry::Stdin, Entry::Stdout, Entry::Stderr]
            .into_iter()
            .chain(directories);
        Self {
            used: (0..).zip(entries).collect(),
            free: BTreeSet::new(),
            budget: context.budget.clone(),
            counted: 0,
        }
    }

    /// Gives sockets their numbers, and moves directories after them. Other descriptors with these numbers are
    /// closed.
    pub fn place(&mut self, sockets: Vec<(u32, Opened)>) {
        let directories = self.used.split_off(&FIRST_FREE);
        for (number, socket) in sockets {
            self.used.insert(number, socket.into());
        }
        let last = self.used.last_key_value().map_or(0, |(last, _)| *last);
        let numbers = last.saturating_add(1).max(FIRST_FREE)..;
        self.used.extend(numbers.zip(directories.into_values()));
    }

    /// Adds an entry under the next number.
    pub fn push(&mut self, entry: Entry) -> Result<u32> {
        if self.used.len() >= DESCRIPTORS_MAX {
            return Err(Errno::TooManyDescriptors);
        }
        if !self.budget.take_heap(DESCRIPTOR_MEMORY) {
            return Err(Errno::NoMemory);
        }
        self.counted += 1;
        let number = match self.free.pop_last() {
            Some(number) => number,
            None => match self.used.last_key_value() {
                Some((last, _)) => last.checked_add(1).ok_or(Errno::TooManyDescriptors)?,
                None => 0,
            },
        };
        self.used.insert(number, entry);
        Ok(number)
    }

    /// Returns the entry of `fd`.
    pub fn get(&self, fd: u32) -> Result<&Entry> {
        self.used.get(&fd).ok_or(Errno::BadDescriptor)
    }

    /// Closes `fd`, and returns its object.
    pub fn close(&mut self, fd: u32) -> Result<Entry> {
        let entry = self.used.remove(&fd).ok_or(Errno::BadDescriptor)?;
        self.free.insert(fd);
        self.give_one();
        Ok(entry)
    }

    /// Gives the memory of a descriptor back.
    fn give_one(&mut self) {
        if let Some(counted) = self.counted.checked_sub(1) {
            self.counted = counted;
            self.budget.give_heap(DESCRIPTOR_MEMORY);
        }
    }

    /// Closes `to`, returns its object, and gives its number to `from`.
    pub fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Entry>> {
        self.get(from)?;
        self.get(to)?;
        if from == to {
            return Ok(None);
        }
        let Some(entry) = self.used.remove(&from) else {
            return Ok(None);
        };
        self.free.insert(from);
        self.give_one();
        Ok(self.used.insert(to, entry))
    }

    /// Takes all connections out.
    pub fn connections(&mut self) -> impl Iterator<Item = Box<Connection>> + '_ {
        std::mem::take(&mut self.used)
            .into_values()
            .filter_map(|entry| match entry {
                Entry::Connection(connection) => Some(connection),
                _ => None,
            })
    }

    /// The non-blocking flag of the socket `fd`; `None` if it is not a socket.
    pub fn nonblocking_socket(&mut self, fd: u32) -> Option<&mut bool> {
        match self.used.get_mut(&fd)? {
            Entry::Listener(listener) => Some(&mut listener.nonblocking),
            Entry::Connection(connection) => Some(&mut connection.nonblocking),
            _ => None,
        }
    }

    /// The listener `fd`.
    pub fn listener(&mut self, fd: u32) -> Result<&mut Listener> {
        match self.used.get_mut(&fd).ok_or(Errno::BadDescriptor)? {
            Entry::Listener(listener) => Ok(listener),
            Entry::Connection(_) => Err(Errno::Invalid),
            _ => Err(Errno::NotSocket),
        }
    }

    /// The connection `fd`.
    pub fn connection(&mut self, fd: u32) -> Result<&mut Connection> {
        match self.used.get_mut(&fd).ok_or(Errno::BadDescriptor)? {
            Entry::Connection(connection) => Ok(connection),
            Entry::Listener(_) => Err(Errno::NotConnected),
            _ => Err(Errno::NotSocket),
        }
    }

    /// The file `fd`.
    pub fn file(&self, fd: u32) -> Result<&File> {
        match self.used.get(&fd) {
            Some(Entry::File(file)) => Ok(file),
            _ => Err(Errno::BadDescriptor),
        }
    }

    /// The file `fd`, to change its position or flags.
    pub fn file_mut(&mut self, fd: u32) -> Result<&mut File> {
        match self.used.get_mut(&fd) {
            Some(Entry::File(file)) => Ok(file),
            _ => Err(Errno::BadDescriptor),
        }
    }

    /// The file `fd`; standard streams cannot be positioned.
    pub fn seekable(&mut self, fd: u32) -> Result<&mut File> {
        match self.used.get_mut(&fd) {
            Some(Entry::File(file)) => Ok(file),
            Some(
                Entry::Stdin
                | Entry::Stdout
                | Entry::Stderr
                | Entry::Listener(_)
                | Entry::Connection(_),
            ) => Err(Errno::InvalidSeek),
            _ => Err(Errno::BadDescriptor),
        }
    }

    /// The directory `fd`.
    pub fn directory(&self, fd: u32) -> Result<Arc<Descriptor>> {
        match self.used.get(&fd) {
            Some(Entry::Directory { descriptor, .. }) => Ok(Arc::clone(descriptor)),
            _ => Err(Errno::BadDescriptor),
        }
    }

    /// The directory `fd`, and the place of its listing.
    pub fn listing(&mut self, fd: u32) -> Result<(Arc<Descriptor>, &mut Option<Listing>)> {
        match self.used.get_mut(&fd) {
            Some(Entry::Directory {
                descriptor,
                listing,
                ..
            }) => Ok((Arc::clone(descriptor), listing)),
            _ => Err(Errno::BadDescriptor),
        }
    }

    /// The file or directory `fd`.
    pub fn descriptor(&self, fd: u32) -> Result<Arc<Descriptor>> {
        match self.get(fd)? {
            Entry::File(file) => Ok(Arc::clone(&file.descriptor)),
            Entry::Directory { descriptor, .. } => Ok(Arc::clone(descriptor)),
            _ => Err(Errno::BadDescriptor),
        }
    }
}
