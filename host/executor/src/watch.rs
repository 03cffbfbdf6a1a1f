// SPDX-License-Identifier: Apache-2.0

//! Many handles in one request: what [`Call::Poll`](enarx_sallyport::Call::Poll) waits for.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use enarx_sallyport::poll::{ENTRY_SIZE, Entry, Events};
use enarx_sallyport::{Handle, Slot, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::handles::{Handles, Object};
use crate::streams::Direction;

/// A request that waits until one of its handles is ready.
#[derive(Debug)]
pub struct Watch {
    /// The request.
    pub id: u32,
    /// Where its reply goes.
    pub slot: Slot,
    entries: Vec<Watched>,
}

/// A handle that is waited for.
#[derive(Debug)]
struct Watched {
    handle: Handle,
    events: Events,
    /// `None` if calls on the handle do not wait, also because it does not exist.
    fd: Option<Arc<OwnedFd>>,
}

impl Watch {
    /// The watch of a request whose input is `input`.
    ///
    /// # Errors
    /// [`Status::Invalid`] when the input is not a sequence of entries.
    pub fn new(id: u32, slot: Slot, input: &[u8], handles: &Handles) -> Result<Self, Status> {
        let (chunks, rest) = input.as_chunks::<{ ENTRY_SIZE as usize }>();
        if !rest.is_empty() {
            return Err(Status::Invalid);
        }
        let entries = chunks
            .iter()
            .map(|bytes| {
                let Entry { handle, events } = Entry::from_bytes(*bytes).ok_or(Status::Invalid)?;
                let fd = handles.get(handle).ok().and_then(|it| source(it, events));
                Ok(Watched { handle, events, fd })
            })
            .collect::<Result<_, Status>>()?;
        Ok(Self { id, slot, entries })
    }

    /// The descriptors to sleep on, and for what.
    pub fn sources(&self) -> impl Iterator<Item = (&Arc<OwnedFd>, PollFlags)> {
        self.entries
            .iter()
            .filter_map(|entry| Some((entry.fd.as_ref()?, flags(entry.events))))
    }

    /// Makes a handle ready that was closed. False if it is none of this watch's.
    pub fn close(&mut self, handle: Handle) -> bool {
        let mut any = false;
        for entry in self.entries.iter_mut().filter(|it| it.handle == handle) {
            entry.fd = None;
            any = true;
        }
        any
    }

    /// The reply: for each entry the directions in which it is ready; `None` while none is.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn reply(&self) -> Result<Option<Vec<u8>>, Errno> {
        let mut fds: Vec<_> = self
            .sources()
            .map(|(fd, flags)| PollFd::new(&**fd, flags))
            .collect();
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(_) => {}
            // Whoever sent the signal, the next look comes soon.
            Err(Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
            Err(errno) => return Err(errno),
        }
        let mut polled = fds.iter();
        let reply: Vec<u8> = self
            .entries
            .iter()
            .map(|entry| match entry.fd {
                None => entry.events,
                Some(_) => polled
                    .next()
                    .map_or(Events::empty(), |fd| ready(entry.events, fd.revents())),
            })
            .map(|events| events.bits())
            .collect();
        Ok(reply.iter().any(|events| *events != 0).then_some(reply))
    }
}

/// The descriptor whose readiness says that a call on the object would not wait.
fn source(object: &Object, events: Events) -> Option<Arc<OwnedFd>> {
    match object {
        Object::Stream(stream) | Object::Connection(stream) => {
            // A call in a direction that the stream does not have is refused at once.
            let wanted = [
                (Events::READ, Direction::Input),
                (Events::WRITE, Direction::Output),
            ];
            let open = wanted
                .iter()
                .filter(|(event, _)| events.contains(*event))
                .all(|(_, direction)| stream.is_open_for(*direction));
            open.then(|| Arc::clone(&stream.fd))
        }
        Object::Tcp(fd) | Object::Listener(fd) | Object::Datagrams(fd) => Some(Arc::clone(fd)),
        Object::Directory(_) | Object::File(_) => None,
    }
}

fn flags(events: Events) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, events.contains(Events::READ));
    flags.set(PollFlags::OUT, events.contains(Events::WRITE));
    flags
}

/// The directions in which a descriptor is ready: all that are wanted after an error, which any call tells.
fn ready(wanted: Events, seen: PollFlags) -> Events {
    if seen.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
        return wanted;
    }
    let mut ready = Events::empty();
    ready.set(Events::READ, seen.contains(PollFlags::IN));
    ready.set(Events::WRITE, seen.contains(PollFlags::OUT));
    ready & wanted
}
