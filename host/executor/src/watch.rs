// SPDX-License-Identifier: Apache-2.0

//! The handles that a Keep has watched, and the requests that wait for one of them:
//! [`Call::Poll`](enarx_sallyport::Call::Poll). By epoll(7), so that an event costs as much among thousands of handles as
//! among two.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use enarx_sallyport::poll::{ENTRY_SIZE, Entry, Events, REPORTED_MAX};
use enarx_sallyport::{Handle, Slot, Status};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::handles::{Handles, Object};
use crate::streams::Direction;

/// A request that waits until a handle that is watched is ready.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Its id.
    pub id: u32,
    /// Where its reply goes.
    pub slot: Slot,
}

/// A handle that epoll(7) knows.
#[derive(Debug)]
struct Watched {
    fd: Arc<OwnedFd>,
    /// The directions that were not reported ready yet; none while nobody asks.
    events: Events,
}

/// The handles that are watched, and the requests that wait for them.
#[derive(Debug, Default)]
pub struct Watches {
    /// In the order in which they were made.
    requests: VecDeque<Request>,
    /// Made for the first handle.
    epoll: Option<Arc<OwnedFd>>,
    /// By the handle's number: as many as there are handles at most.
    watched: BTreeMap<u32, Watched>,
    /// Handles that are ready without a word of the kernel, because they never wait or were closed. As many as there
    /// are handles at most.
    ready: BTreeMap<u32, Events>,
}

impl Watches {
    /// True if no request waits.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// The descriptor that is readable when a handle is ready, while a request waits for that.
    pub fn source(&self) -> Option<&Arc<OwnedFd>> {
        self.epoll.as_ref().filter(|_| !self.is_empty())
    }

    /// The request that was the last to wait.
    pub fn newest(&self) -> Option<u32> {
        self.requests.back().map(|request| request.id)
    }

    /// Adds the handles of a request to the watched ones, and makes the request wait.
    ///
    /// # Errors
    /// [`Status::Invalid`] if the input is not a sequence of entries, or names a handle that was never given.
    pub fn add(&mut self, request: Request, input: &[u8], handles: &Handles) -> Result<(), Status> {
        let (chunks, rest) = input.as_chunks::<{ ENTRY_SIZE as usize }>();
        let entries: Option<Vec<_>> = chunks.iter().map(|it| Entry::from_bytes(*it)).collect();
        let entries = entries.filter(|_| rest.is_empty()).ok_or(Status::Invalid)?;
        // So what is ready and never taken is bounded, without a report that is lost.
        if !entries.iter().all(|it| handles.has_given(it.handle)) {
            return Err(Status::Invalid);
        }
        for Entry { handle, events } in entries {
            let object = handles.get(handle).ok();
            let fd = object.and_then(|it| source(it, events));
            if !fd.is_some_and(|fd| self.watch(handle, fd, events)) {
                *self.ready.entry(handle.0).or_default() |= events;
            }
        }
        self.requests.push_back(request);
        Ok(())
    }

    /// Asks the kernel to report a handle. False if it cannot: then the handle counts as ready, and the Keep makes
    /// its calls without knowing.
    fn watch(&mut self, handle: Handle, fd: Arc<OwnedFd>, events: Events) -> bool {
        let epoll = match &self.epoll {
            Some(epoll) => epoll,
            None => match epoll::create(epoll::CreateFlags::CLOEXEC) {
                Ok(epoll) => self.epoll.insert(Arc::new(epoll)),
                Err(_) => return false,
            },
        };
        if let Some(watched) = self.watched.get_mut(&handle.0) {
            let events = watched.events | events;
            let known = arm(epoll, &watched.fd, handle, events).is_ok();
            if known {
                watched.events = events;
            }
            return known;
        }
        // Regular files are not watched (EPERM): they never wait.
        let known = epoll::add(&**epoll, &*fd, data(handle), flags(events)).is_ok();
        if known {
            self.watched.insert(handle.0, Watched { fd, events });
        }
        known
    }

    /// Makes a handle ready that was closed. False if it was not watched.
    pub fn close(&mut self, handle: Handle) -> bool {
        let Some(watched) = self.watched.remove(&handle.0) else {
            return false;
        };
        if let Some(epoll) = &self.epoll {
            // It ends by itself only when nobody has the file open any more, in other processes either.
            let _ = epoll::delete(&**epoll, &*watched.fd);
        }
        if watched.events.is_empty() {
            return false;
        }
        *self.ready.entry(handle.0).or_default() |= watched.events;
        true
    }

    /// Takes back a request. False if it does not wait.
    pub fn cancel(&mut self, id: u32) -> bool {
        let before = self.requests.len();
        self.requests.retain(|request| request.id != id);
        self.requests.len() != before
    }

    /// The next request that can be answered, and its reply.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn next(&mut self) -> Result<Option<(Request, Vec<u8>)>, Errno> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut reply = Vec::new();
        let mut room = REPORTED_MAX as usize;
        while room > 0
            && let Some((handle, events)) = self.ready.pop_first()
        {
            room -= 1;
            let handle = Handle(handle);
            reply.extend(Entry { handle, events }.to_bytes());
        }
        if room > 0
            && let Some(epoll) = self.epoll.clone()
        {
            let mut seen = Vec::with_capacity(room);
            match epoll::wait(
                &*epoll,
                spare_capacity(&mut seen),
                Some(&Timespec::default()),
            ) {
                // From wherever the signal came, the next look comes soon.
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            for event in seen {
                if let Some(entry) = self.seen(&epoll, event) {
                    reply.extend(entry.to_bytes());
                }
            }
        }
        if reply.is_empty() {
            return Ok(None);
        }
        Ok(self.requests.pop_front().map(|request| (request, reply)))
    }

    /// The entry of an event; what it does not name is watched further.
    fn seen(&mut self, epoll: &OwnedFd, event: epoll::Event) -> Option<Entry> {
        let handle = Handle(u32::try_from(event.data.u64()).ok()?);
        let watched = self.watched.get_mut(&handle.0)?;
        let mut events = ready(watched.events, event.flags);
        let rest = watched.events - events;
        if !rest.is_empty() && arm(epoll, &watched.fd, handle, rest).is_err() {
            // The rest would never be reported.
            events = watched.events;
        }
        watched.events -= events;
        Some(Entry { handle, events }).filter(|_| !events.is_empty())
    }
}

/// Rearms a handle that the kernel knows.
fn arm(epoll: &OwnedFd, fd: &OwnedFd, handle: Handle, events: Events) -> Result<(), Errno> {
    epoll::modify(epoll, fd, data(handle), flags(events))
}

fn data(handle: Handle) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(handle.0))
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

/// One event is reported, and no other until the handle is armed again.
fn flags(events: Events) -> epoll::EventFlags {
    let mut flags = epoll::EventFlags::ONESHOT;
    flags.set(epoll::EventFlags::IN, events.contains(Events::READ));
    flags.set(epoll::EventFlags::OUT, events.contains(Events::WRITE));
    flags
}

/// The directions in which a descriptor is ready: all wanted ones after an error, which any call returns.
fn ready(wanted: Events, seen: epoll::EventFlags) -> Events {
    if seen.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP) {
        return wanted;
    }
    let mut ready = Events::empty();
    ready.set(Events::READ, seen.contains(epoll::EventFlags::IN));
    ready.set(Events::WRITE, seen.contains(epoll::EventFlags::OUT));
    ready & wanted
}
