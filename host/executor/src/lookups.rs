// SPDX-License-Identifier: Apache-2.0

//! Look-ups of names by a process of their own: the C library needs files and sockets for them that what serves a
//! Keep must not have, and a thread would share its memory.
//!
//! There is a channel, a pair of sockets, for each look-up that may be under way. On it the executor writes a name and
//! the resolver an answer: one byte, 0 for success, then for each address its length in bytes and its bytes. Each side
//! treats the other as hostile: a Keep may have taken over the executor, and an answer from the network the resolver.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use enarx_confine::process::give_up_privileges;
use enarx_sallyport::Status;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::answer::Result;
use crate::names::{Addresses, MAX_LOOKUPS, confine, filter, look_up};

/// Longest name that is looked up, in bytes: those of DNS have 253 characters (RFC 1035, section 3.1).
const MAX_NAME: usize = 1024;
/// Most addresses of an answer.
const MAX_ADDRESSES: usize = 64;
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 1 + MAX_ADDRESSES * 17;

/// A channel, as the executor has it.
#[derive(Clone, Debug)]
struct Channel {
    /// Others hold it while a look-up waits for its answer.
    socket: Arc<OwnedFd>,
    /// An answer is still to come.
    owes: Arc<AtomicBool>,
}

/// The executor's side.
#[derive(Debug)]
pub struct Client(Mutex<Vec<Channel>>);

/// The thread or process that looks up names for a Keep.
#[derive(Debug, Default)]
pub enum Lookups {
    /// A thread of this process, which shares its memory.
    #[default]
    Thread,
    /// A process.
    Process(Client),
}

/// The resolver's side.
#[derive(Debug)]
pub struct Server(Vec<OwnedFd>);

/// A requested look-up.
#[derive(Debug)]
pub struct Asked(Channel);

/// The channels between an executor and its resolver.
///
/// # Errors
/// The system's.
pub fn channels() -> std::io::Result<(Client, Server)> {
    let (mut client, mut server) = (Vec::new(), Vec::new());
    for _ in 0..MAX_LOOKUPS {
        let kind = SocketType::SEQPACKET;
        let (own, other) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        fcntl_setfl(&own, OFlags::NONBLOCK)?;
        client.push(Channel {
            socket: Arc::new(own),
            owes: Arc::default(),
        });
        server.push(other);
    }
    Ok((Client(Mutex::new(client)), Server(server)))
}

impl Client {
    /// Asks for a name; the descriptor becomes readable when the answer is there.
    ///
    /// # Errors
    /// [`Status::Again`] when every channel waits for an answer.
    pub fn ask(&self, name: &str) -> Result<(Asked, Arc<OwnedFd>)> {
        if name.len() > MAX_NAME {
            return Err(Status::NameUnresolvable);
        }
        let channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = channels
            .iter()
            .find(|channel| Arc::strong_count(&channel.socket) == 1 && channel.is_free());
        let channel = free.ok_or(Status::Again)?;
        match rustix::io::write(&channel.socket, name.as_bytes()) {
            Ok(_) => channel.owes.store(true, Ordering::Relaxed),
            Err(_) => return Err(Status::ResolverFailure),
        }
        let ready = Arc::clone(&channel.socket);
        Ok((Asked(channel.clone()), ready))
    }
}

impl Channel {
    /// Takes the answer of a look-up that nobody waits for any more. False while it has not arrived.
    fn is_free(&self) -> bool {
        !self.owes.load(Ordering::Relaxed) || self.take().is_some()
    }

    /// Takes an answer; `None` if it is not there yet.
    fn take(&self) -> Option<Addresses> {
        let mut answer = [0; MAX_ANSWER];
        let taken = rustix::io::read(&*self.socket, &mut answer);
        if taken == Err(Errno::AGAIN) || taken == Err(Errno::INTR) {
            return None;
        }
        self.owes.store(false, Ordering::Relaxed);
        let answer = taken.ok().and_then(|length| answer.get(..length));
        Some(answer.map_or(Err(Status::ResolverFailure), decode))
    }
}

impl Asked {
    /// The answer; `None` when it is not there yet.
    pub fn answer(&self) -> Option<Addresses> {
        self.0.take()
    }
}

fn encode(addresses: &Addresses) -> Vec<u8> {
    let Ok(addresses) = addresses else {
        return vec![1];
    };
    let mut bytes = vec![0];
    for address in addresses.iter().take(MAX_ADDRESSES) {
        match address {
            IpAddr::V4(address) => {
                bytes.push(4);
                bytes.extend(address.octets());
            }
            IpAddr::V6(address) => {
                bytes.push(16);
                bytes.extend(address.octets());
            }
        }
    }
    bytes
}

fn decode(answer: &[u8]) -> Addresses {
    let failure = Status::ResolverFailure;
    let mut rest = match answer.split_first() {
        Some((0, rest)) => rest,
        Some((1, [])) => return Err(Status::NameUnresolvable),
        _ => return Err(failure),
    };
    let mut addresses = Vec::new();
    while let Some((length, bytes)) = rest.split_first() {
        let (address, after) = match length {
            4 => bytes
                .split_first_chunk::<4>()
                .map(|(v4, after)| (IpAddr::from(*v4), after)),
            16 => bytes
                .split_first_chunk::<16>()
                .map(|(v6, after)| (IpAddr::from(*v6), after)),
            _ => None,
        }
        .ok_or(failure)?;
        addresses.push(address);
        rest = after;
    }
    Ok(addresses)
}

impl Server {
    /// The descriptors of the channels.
    #[must_use]
    pub fn descriptors(&self) -> &[OwnedFd] {
        &self.0
    }

    /// Confines this process, which has one thread and is the resolver's alone, and answers until no executor is
    /// left, one name after the other.
    ///
    /// # Errors
    /// The system's: nothing was answered, or nothing can be any more.
    pub fn serve(self) -> std::io::Result<()> {
        let filter = filter()?;
        give_up_privileges().map_err(std::io::Error::other)?;
        confine(&filter).map_err(std::io::Error::other)?;
        self.answer_all(&look_up)
    }

    /// Answers until no executor is left.
    fn answer_all(self, look_up: &dyn Fn(&str) -> Addresses) -> std::io::Result<()> {
        let mut sockets = self.0;
        while !sockets.is_empty() {
            let mut fds: Vec<_> = sockets
                .iter()
                .map(|socket| PollFd::new(socket, PollFlags::IN))
                .collect();
            rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
            let asked: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut asked = asked.into_iter();
            sockets.retain(|socket| asked.next() != Some(true) || answer(socket, look_up));
        }
        Ok(())
    }
}

/// Answers a question; false when nobody is there any more.
fn answer(socket: &OwnedFd, look_up: &dyn Fn(&str) -> Addresses) -> bool {
    let mut name = [0; MAX_NAME];
    let length = match rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut name)) {
        Ok(0) | Err(_) => return false,
        Ok(length) => length,
    };
    let name = name
        .get(..length)
        .and_then(|name| std::str::from_utf8(name).ok());
    let found = name.map_or(Err(Status::NameUnresolvable), look_up);
    rustix::io::retry_on_intr(|| rustix::io::write(socket, &encode(&found))).is_ok()
}

/// Look-ups that `look_up` answers, on a thread that ends with their executor: for tests, in place of name servers.
#[cfg(test)]
pub fn answering(look_up: impl Fn(&str) -> Addresses + Send + 'static) -> Lookups {
    let (client, server) = channels().unwrap();
    std::thread::spawn(move || server.answer_all(&look_up).unwrap());
    Lookups::Process(client)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    fn take(asked: &Asked) -> Addresses {
        let start = Instant::now();
        loop {
            if let Some(answer) = asked.answer() {
                return answer;
            }
            assert!(start.elapsed() < Duration::from_mins(1), "no answer");
            thread::yield_now();
        }
    }

    #[test]
    fn names_are_answered_in_the_order_of_their_channels() {
        let (client, server) = channels().unwrap();
        let resolver = thread::spawn(move || {
            let mut sockets = server.0;
            while !sockets.is_empty() {
                sockets.retain(|socket| answer(socket, &look_up));
            }
        });
        let (one, ready) = client.ask("127.0.0.1").unwrap();
        assert_eq!(take(&one), Ok(vec![IpAddr::from([127, 0, 0, 1])]));
        drop(client);
        drop((one, ready));
        resolver.join().unwrap();
    }

    #[test]
    fn a_channel_is_free_again_when_its_answer_has_come() {
        let (client, server) = channels().unwrap();
        let all: Vec<_> = (0..MAX_LOOKUPS)
            .map(|_| client.ask("::1").unwrap())
            .collect();
        assert_eq!(client.ask("::1").err(), Some(Status::Again));
        // Cancelled: the answers are still to come.
        drop(all);
        assert_eq!(client.ask("::1").err(), Some(Status::Again));
        assert!(server.0.iter().all(|socket| answer(socket, &look_up)));
        let (asked, ready) = client.ask("::1").unwrap();
        assert_eq!(asked.answer(), None, "that would be the answer of another");
        assert!(answer(&server.0[0], &look_up));
        assert_eq!(take(&asked), Ok(vec!["::1".parse().unwrap()]));
        // A resolver that is gone.
        drop((asked, ready, server));
        assert_eq!(client.ask("::1").err(), Some(Status::ResolverFailure));
    }

    #[test]
    fn answers_are_checked() {
        let all: Addresses = Ok(vec![
            "10.0.0.1".parse().unwrap(),
            "fe80::1".parse().unwrap(),
        ]);
        assert_eq!(decode(&encode(&all)), all);
        let none = Err(Status::NameUnresolvable);
        assert_eq!(decode(&encode(&none)), none);
        for bytes in [
            &[][..],
            &[2],
            &[1, 0],
            &[0, 4, 1, 2, 3],
            &[0, 5, 1, 2, 3, 4, 5],
            &[0, 16, 1],
        ] {
            assert_eq!(decode(bytes), Err(Status::ResolverFailure), "{bytes:?}");
        }
    }
}
