// SPDX-License-Identifier: Apache-2.0

//! Connections to other servers that an instance keeps for its next requests. The servers are not trusted: one that has closed
//! its connection does not get the next request, or gets it over another one.
//!
//! Connections of one instance are not used by another, even if a server gives each request a fresh instance of the
//! same component. Some servers identify a connection with its user after a login; the second answer of a server that
//! answers twice would be read by the next request; and the duration of a request would reveal that there was an
//! earlier one. Wasmtime keeps no connections at all.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use enarx_wasi::budget::Budget;
use enarx_wasi::port::{Port, Spawner};
use futures_channel::oneshot;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::{Request, Response};

use crate::account::{Account, Use};
use crate::charge::Charge;
use crate::limits::{Place, Places};
use crate::lock::lock;
use crate::reply::Reply;

/// Most connections that an instance keeps.
const MAX_KEPT: usize = 8;

/// Most connections that all instances of a Keep have kept at a time.
const MOST_IN_ALL: usize = 256;

/// How long a connection is kept after the answer to its last request began: as long as in the pool of hyper-util.
const IDLE: Duration = Duration::from_secs(90);

/// Most requests at a time over one HTTP/2 connection; further ones use another connection. It is the minimum that a
/// server should permit (RFC 9113, section 6.5.2).
pub const STREAMS: u32 = 100;

/// The room that all instances of a Keep share for their requests; clones are the same.
#[derive(Clone)]
pub struct Room {
    budget: Budget,
    places: Places,
}

impl Room {
    /// Room for requests, out of this budget.
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            places: Places::new(MOST_IN_ALL),
        }
    }
}

/// The server at the other end, and the kind of connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// True if it is asked over TLS, by its name.
    pub is_secure: bool,
    /// Its name or address, as requests have it.
    pub name: String,
    /// Its port.
    pub number: u16,
}

/// The way into a connection.
pub enum Sender {
    /// Of HTTP/1.1: one request after the other.
    Http1(http1::SendRequest<Reply>),
    /// Of HTTP/2: many at once.
    Http2(http2::SendRequest<Reply>),
}

impl Sender {
    /// True for HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request, as soon as earlier ones are finished.
    ///
    /// # Errors
    /// hyper's, with the request if nothing of it was sent.
    pub async fn send(
        &mut self,
        request: Request<Reply>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Reply>>> {
        match self {
            Self::Http1(sender) => {
                // If the connection has ended, sending the request reports it.
                let _ = sender.ready().await;
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => sender.try_send_request(request).await,
        }
    }
}

/// A connection.
pub struct Connection {
    /// Connections are numbered in the order in which an instance makes them, from 1.
    number: u64,
    /// The way into it.
    pub sender: Sender,
    account: Arc<Account>,
}

impl Connection {
    fn begin_use(&self) -> Use {
        Use::begin(&self.account)
    }

    /// The same connection, if several can have it.
    fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else {
            return None;
        };
        Some(Self {
            number: self.number,
            sender: Sender::Http2(sender.clone()),
            account: Arc::clone(&self.account),
        })
    }
}

/// A kept connection.
struct Entry {
    to: Destination,
    connection: Connection,
    since: Instant,
    _place: Place,
}

impl Entry {
    /// Requests that go over it.
    fn uses(&self) -> usize {
        self.connection.account.uses()
    }
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    /// The number of the newest connection.
    last: u64,
    /// Servers to which a connection over TLS is being opened, and the requests that wait for it.
    making: Vec<(Destination, Vec<oneshot::Sender<()>>)>,
    /// Present while a task ends connections that are kept for too long. That task ends when this is dropped.
    watcher: Option<oneshot::Sender<()>>,
}

impl State {
    fn forget(&mut self) {
        self.entries
            .retain(|it| !it.connection.sender.is_closed() && it.since.elapsed() < IDLE);
    }

    /// A connection to this server, of a number beyond `after`, over which a request can go now.
    fn take(&mut self, to: &Destination, after: u64) -> Option<(Connection, Use)> {
        self.forget();
        let at = self.entries.iter().position(|it| {
            let most = match it.connection.sender {
                Sender::Http1(_) => 1,
                Sender::Http2(_) => STREAMS as usize,
            };
            it.to == *to && it.connection.number > after && it.uses() < most
        })?;
        let entry = self.entries.get_mut(at)?;
        let connection = match entry.connection.share() {
            Some(connection) => {
                entry.since = Instant::now();
                connection
            }
            None => self.entries.swap_remove(at).connection,
        };
        let one = connection.begin_use();
        Some((connection, one))
    }
}

/// The connections of an instance; clones share them.
#[derive(Clone)]
pub struct Kept {
    room: Room,
    state: Arc<Mutex<State>>,
}

/// The connection for a request.
pub enum Next {
    /// One that was kept.
    Kept(Connection, Use),
    /// One that has to be opened.
    New(PendingConnection),
}

/// A connection that is being opened. Requests that wait for it continue when this is dropped.
pub struct PendingConnection {
    kept: Kept,
    to: Destination,
    is_waited_for: bool,
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        if self.is_waited_for {
            let to = &self.to;
            self.kept.lock().making.retain(|(other, _)| other != to);
        }
    }
}

impl PendingConnection {
    /// The connection for one request, now that it is made; `memory` is what it takes.
    pub fn made(
        self,
        sender: Sender,
        memory: Charge,
        port: &Port,
        spawner: &Spawner,
    ) -> (Connection, Use) {
        let number = {
            let mut state = self.kept.lock();
            state.last = state.last.saturating_add(1);
            state.last
        };
        let connection = Connection {
            number,
            sender,
            account: Account::new(memory),
        };
        let one = connection.begin_use();
        // Those who wait can use it from now on.
        if let Some(shared) = connection.share() {
            self.kept.keep(&self.to, shared, port, spawner);
        }
        (connection, one)
    }
}

impl Kept {
    /// No connections yet, with this room for them.
    pub fn new(room: &Room) -> Self {
        Self {
            room: room.clone(),
            state: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Memory for a request or a connection. If it is needed, connections that are not in use are ended; `None` if even
    /// then there is not enough.
    pub fn charge(&self, bytes: u64) -> Option<Charge> {
        Charge::take(&self.room.budget, bytes).or_else(|| {
            self.lock().entries.retain(|it| it.uses() > 0);
            Charge::take(&self.room.budget, bytes)
        })
    }

    /// The number of the newest connection.
    pub fn last(&self) -> u64 {
        self.lock().last
    }

    /// A connection to this server, with a number greater than `after`, or the instruction to open one. Requests that
    /// arrive while one is being opened over TLS wait for it, once: it may use HTTP/2, which has room for all of
    /// them.
    pub async fn next(&self, to: &Destination, after: u64) -> Next {
        let mut has_waited = false;
        loop {
            let made = {
                let mut state = self.lock();
                if let Some((connection, one)) = state.take(to, after) {
                    return Next::Kept(connection, one);
                }
                if has_waited || !to.is_secure {
                    return Next::New(self.making(to, false));
                }
                let Some((_, waiting)) = state.making.iter_mut().find(|(it, _)| it == to) else {
                    state.making.push((to.clone(), Vec::new()));
                    return Next::New(self.making(to, true));
                };
                let (sender, made) = oneshot::channel::<()>();
                waiting.push(sender);
                made
            };
            // The end of the wait is signalled by dropping the sender.
            let _ = made.await;
            has_waited = true;
        }
    }

    fn making(&self, to: &Destination, is_waited_for: bool) -> PendingConnection {
        PendingConnection {
            kept: self.clone(),
            to: to.clone(),
            is_waited_for,
        }
    }

    /// Keeps a connection, whose response may still be in progress: it serves the next request when that is complete.
    pub fn keep(&self, to: &Destination, connection: Connection, port: &Port, spawner: &Spawner) {
        let mut state = self.lock();
        state.forget();
        let dropped = (state.entries.len() >= MAX_KEPT).then(|| state.entries.remove(0));
        let Some(place) = self.room.places.try_take() else {
            return;
        };
        state.entries.push(Entry {
            to: to.clone(),
            connection,
            since: Instant::now(),
            _place: place,
        });
        let instance = state.watcher.is_none().then(|| {
            let (watcher, instance) = oneshot::channel();
            state.watcher = Some(watcher);
            instance
        });
        drop(state);
        drop(dropped);
        if let Some(instance) = instance {
            self.watch(port, spawner, instance);
        }
    }

    /// Ends connections that are kept for too long, until none is left or the instance has ended.
    fn watch(&self, port: &Port, spawner: &Spawner, mut instance: oneshot::Receiver<()>) {
        let (state, port) = (Arc::downgrade(&self.state), port.clone());
        spawner.spawn(async move {
            let mut next = IDLE;
            loop {
                let now = Instant::now();
                let mut end = port.sleep_until(now.checked_add(next).unwrap_or(now));
                let has_ended = std::future::poll_fn(|context| {
                    if Pin::new(&mut instance).poll(context).is_ready() {
                        return Poll::Ready(true);
                    }
                    Pin::new(&mut end).poll(context).map(|()| false)
                });
                if has_ended.await {
                    return;
                }
                let Some(state) = state.upgrade() else {
                    return;
                };
                let mut state = lock(&state);
                state.forget();
                let Some(oldest) = state.entries.iter().map(|it| it.since).min() else {
                    state.watcher = None;
                    return;
                };
                next = IDLE.saturating_sub(oldest.elapsed());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::client::conn::http1::Connection as Driver;
    use hyper::rt::{Read, ReadBufCursor, Write};
    use std::io;
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// A peer that says nothing.
    struct Silent;

    impl Read for Silent {
        fn poll_read(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            _buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Write for Silent {
        fn poll_write(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn to() -> Destination {
        Destination {
            is_secure: false,
            name: "server".to_owned(),
            number: 80,
        }
    }

    /// Keeps an HTTP/1.1 connection that uses this much memory; returns a use of it, and its driver.
    fn keep(kept: &Kept, memory: u64) -> (Use, Driver<Silent, Reply>) {
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok((sender, driver))) = pin!(http1::handshake(Silent)).poll(&mut context)
        else {
            panic!("no handshake");
        };
        let memory = kept.charge(memory).expect("there is memory");
        let place = kept.room.places.try_take().expect("there is a place");
        let mut state = kept.lock();
        state.last += 1;
        let connection = Connection {
            number: state.last,
            sender: Sender::Http1(sender),
            account: Account::new(memory),
        };
        let one = connection.begin_use();
        state.entries.push(Entry {
            to: to(),
            connection,
            since: Instant::now(),
            _place: place,
        });
        (one, driver)
    }

    #[test]
    fn a_connection_serves_requests_in_turn_while_it_lives() {
        let kept = Kept::new(&Room::new(Budget::new(100)));
        let (one, driver) = keep(&kept, 50);
        let other = Destination { number: 81, ..to() };
        assert!(kept.lock().take(&to(), 0).is_none());
        drop(one);
        assert!(kept.lock().take(&other, 0).is_none());
        // A connection does not count as newer than itself.
        let last = kept.last();
        assert!(kept.lock().take(&to(), last).is_none());
        assert!(kept.lock().take(&to(), 0).is_some());
        assert!(kept.lock().take(&to(), 0).is_none());
        drop(driver);
        let (one, driver) = keep(&kept, 50);
        drop((one, driver));
        assert!(kept.lock().take(&to(), 0).is_none());
        assert!(kept.lock().entries.is_empty());
    }

    #[test]
    fn idle_connections_make_room() {
        let kept = Kept::new(&Room::new(Budget::new(100)));
        let (one, _driver) = keep(&kept, 60);
        assert!(kept.charge(80).is_none());
        drop(one);
        assert!(kept.charge(80).is_some());
        assert!(kept.lock().entries.is_empty());
    }
}
