// SPDX-License-Identifier: Apache-2.0

//! Requests that cannot be answered at once: their descriptor, and the work once it is ready.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use enarx_sallyport::{BUFFER_SIZE, Handle, Region, Slot, Status};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::answer::{Answer, Result, status};
use crate::buffer::Buffer;
use crate::handles::Handles;
use crate::network;
use crate::streams::Stream;

/// A request that waits until a descriptor is ready.
#[derive(Debug)]
pub struct Pending {
    /// The request.
    pub id: u32,
    /// Its slot, with the buffer.
    pub slot: Slot,
    /// The handle at which it waits its turn; `None` for a request that makes a handle.
    pub handle: Option<Handle>,
    /// The descriptor that it waits for.
    pub fd: Arc<OwnedFd>,
    /// The readiness that it waits for.
    pub events: PollFlags,
    /// The work from then on.
    pub operation: Operation,
}

/// The work of a pending request once its descriptor is ready.
#[derive(Debug)]
pub enum Operation {
    Read {
        stream: Stream,
        length: u32,
    },
    Write {
        stream: Stream,
        length: u32,
        written: u32,
    },
    Network(network::Operation),
    Sync {
        file: Arc<OwnedFd>,
        data_only: bool,
    },
}

impl Pending {
    /// True if this request has to wait until `earlier` is done.
    pub fn is_behind(&self, earlier: &Self) -> bool {
        self.handle.is_some() && self.handle == earlier.handle && self.events == earlier.events
    }

    /// How it ends when it is not waited for any longer.
    pub fn cancelled(&self) -> Result<Answer> {
        match self.operation {
            // Bytes that are out cannot be called back.
            Operation::Write { written, .. } if written > 0 => Ok(Answer::value(written)),
            _ => Err(Status::Cancelled),
        }
    }

    /// Its entry for poll(2).
    pub fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&*self.fd, self.events)
    }
}

/// How far a request came.
pub enum Started {
    Done(Result<Answer>),
    Waits(Pending),
}

/// Tries an operation; nothing when its descriptor is not ready.
pub fn attempt(
    region: Region,
    handles: &mut Handles,
    request: &mut Pending,
) -> Option<Result<Answer>> {
    let slot = request.slot;
    let buffer = |length| Buffer::new(region, slot, 0, length);
    let result = match &mut request.operation {
        Operation::Read { stream, length } => buffer(*length)
            .and_then(|buffer| stream.read(buffer))
            .map(Answer::bytes),
        Operation::Write {
            stream,
            length,
            written,
        } => match buffer(*length).and_then(|buffer| stream.write(buffer, *length, written)) {
            Ok(()) => Ok(Answer::value(*written)),
            // Even if bytes were already sent: nothing more can follow them, and the program needs to know
            // the reason.
            Err(errno) => Err(errno),
        },
        Operation::Network(operation) => {
            let space = match buffer(BUFFER_SIZE) {
                Ok(space) => space,
                Err(errno) => return Some(Err(status(errno))),
            };
            return operation.attempt(&request.fd, space, handles);
        }
        Operation::Sync { file, data_only } => {
            // A signal comes where the Keep ends, or a clock was set: then once more.
            match sync(file, *data_only) {
                Err(Errno::INTR) => Err(Errno::AGAIN),
                other => other.map(|()| Answer::default()),
            }
        }
    };
    match result {
        Err(Errno::AGAIN) => None,
        other => Some(other.map_err(status)),
    }
}

/// fdatasync(2) or fsync(2).
pub fn sync(file: &OwnedFd, data_only: bool) -> rustix::io::Result<()> {
    if data_only {
        rustix::fs::fdatasync(file)
    } else {
        rustix::fs::fsync(file)
    }
}
