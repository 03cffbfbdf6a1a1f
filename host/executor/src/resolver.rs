// SPDX-License-Identifier: Apache-2.0

//! Look-ups of names, when the grant names them: a thread or a process of their own is asked, and the answers come later.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{
    Receiver, Sender, SyncSender, TryRecvError, TrySendError, channel, sync_channel,
};
use std::sync::{Arc, Weak};
use std::thread;

use enarx_sallyport::Status;
use rustix::event::{EventfdFlags, eventfd};

use crate::answer::{Result, status};
use crate::lookups::{Asked, Client};
use crate::names::{Addresses, MAX_LOOKUPS, confine, filter, look_up};

/// A question to the thread.
#[derive(Debug)]
pub struct Question {
    name: String,
    answer: Sender<Addresses>,
    /// Dropped when nobody waits any more: a question holds no descriptor while it waits.
    ready: Weak<OwnedFd>,
}

/// A requested look-up.
#[derive(Debug)]
pub enum Lookup {
    /// Of the thread.
    Thread(Receiver<Addresses>),
    /// Of a process.
    Process(Asked),
}

impl Lookup {
    /// The answer; `None` when it is not there yet.
    pub fn answer(&self) -> Option<Addresses> {
        let answer = match self {
            Self::Thread(answer) => answer.try_recv(),
            Self::Process(asked) => return asked.answer(),
        };
        match answer {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Status::ResolverFailure)),
        }
    }
}

/// The thread or process that looks up names, one after the other.
#[derive(Debug)]
pub enum Resolver {
    /// A thread. It ends when this value is dropped, or once the look-up that it is about has ended.
    Thread(SyncSender<Question>),
    /// A process, for one that is confined as a whole.
    Process(Client),
}

impl Resolver {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's; also when the thread's confinement cannot be prepared.
    pub fn start() -> std::io::Result<Self> {
        let filter = filter()?;
        let (questions, asked) = sync_channel::<Question>(MAX_LOOKUPS);
        thread::Builder::new()
            .name("enarx-resolver".into())
            .spawn(move || {
                // Unconfined it answers nothing: callers get the error that there is no resolver.
                if confine(&filter).is_err() {
                    return;
                }
                for Question {
                    name,
                    answer,
                    ready,
                } in asked
                {
                    // Cancelled while it waited, or by the end of the Keep.
                    if ready.strong_count() == 0 {
                        continue;
                    }
                    // Nobody waits any more: no matter.
                    let _ = answer.send(look_up(&name));
                    if let Some(ready) = ready.upgrade() {
                        let _ = rustix::io::write(&*ready, &1_u64.to_ne_bytes());
                    }
                }
            })?;
        Ok(Self::Thread(questions))
    }

    /// Asks for a name; the descriptor becomes readable when the answer has arrived. Dropping it
    /// cancels the look-up.
    ///
    /// # Errors
    /// [`Status::Again`] when [`MAX_LOOKUPS`] wait.
    pub fn ask(&self, name: String) -> Result<(Lookup, Arc<OwnedFd>)> {
        let questions = match self {
            Self::Thread(questions) => questions,
            Self::Process(client) => {
                let (asked, ready) = client.ask(&name)?;
                return Ok((Lookup::Process(asked), ready));
            }
        };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let ready = Arc::new(eventfd(0, flags).map_err(status)?);
        let (answer, answered) = channel();
        let question = Question {
            name,
            answer,
            ready: Arc::downgrade(&ready),
        };
        questions.try_send(question).map_err(|error| match error {
            TrySendError::Full(_) => Status::Again,
            TrySendError::Disconnected(_) => Status::ResolverFailure,
        })?;
        Ok((Lookup::Thread(answered), ready))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancelled_lookups_hold_no_resources_and_are_skipped() {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let resolver = Resolver::start().unwrap();
        let before = open();
        let mut refused = 0;
        for n in 0..5000 {
            match resolver.ask(format!("name-{n}-that-nobody-has.invalid")) {
                // Cancelled at once.
                Ok(asked) => drop(asked),
                Err(Status::Again) => refused += 1,
                Err(status) => panic!("{status:?}"),
            }
        }
        assert!(refused > 0, "the queue has no end");
        // Descriptors of other tests come and go.
        assert!(open() < before + 100);
        // The waiting ones were skipped, and the next is answered.
        let start = std::time::Instant::now();
        let answer = loop {
            match resolver.ask("localhost".into()) {
                Ok((lookup, ready)) => {
                    while lookup.answer().is_none() {
                        assert!(start.elapsed().as_secs() < 60, "no answer");
                        thread::yield_now();
                    }
                    break ready;
                }
                Err(_) => thread::yield_now(),
            }
        };
        drop(answer);
    }
}
