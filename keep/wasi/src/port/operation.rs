// SPDX-License-Identifier: Apache-2.0

//! A call that waits for an external event, from its start until its answer is taken.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use enarx_sallyport::call::RESOLVED_SIZE;
use enarx_sallyport::{Call, Status};

use super::answer::Answer;
use super::shared::Shared;
use super::waits::{Id, Outcome};
use crate::error::{Errno, Result};

/// A started call. Dropping it abandons its answer.
pub struct Operation {
    shared: Arc<Shared>,
    /// `None` once the answer was taken.
    id: Option<Id>,
}

impl Operation {
    /// The operation of a call that was taken in.
    pub(super) fn new(shared: &Arc<Shared>, id: Id) -> Self {
        Self {
            shared: Arc::clone(shared),
            id: Some(id),
        }
    }

    /// True if the answer is there.
    pub fn is_ready(&self) -> bool {
        let shared = &*self.shared;
        let mut state = shared.lock();
        shared.reap(&mut state);
        self.id.is_some_and(|id| state.waits.is_answered(id))
    }

    /// True if the answer is there; if not, the task of `context` is woken when it is.
    pub fn poll_ready(&self, context: &Context<'_>) -> bool {
        let shared = &*self.shared;
        let mut state = shared.lock();
        shared.reap(&mut state);
        let Some(id) = self.id else { return false };
        let answered = state.waits.is_answered(id);
        if !answered && state.waits.wake(id, context.waker()) {
            state.expect();
        }
        answered
    }

    /// Waits until the answer is there.
    pub async fn ready(&self) {
        std::future::poll_fn(|context| {
            if self.poll_ready(context) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits until the answer is there, without yielding.
    pub(crate) fn wait(&self) {
        let shared = &*self.shared;
        let mut state = shared.lock();
        loop {
            shared.reap(&mut state);
            if self.id.is_none_or(|id| state.waits.is_answered(id)) {
                return;
            }
            let bound = state.watch().map(|longest| Instant::now() + longest);
            state = shared.sleep(state, bound);
        }
    }

    /// Copies bytes of the answer from `offset` on, as far as they fit, waiting for the answer without
    /// yielding. The answer stays available. Returns the total length of the reply; `None` if it is an
    /// error, or was taken.
    pub(crate) fn copy(&self, offset: usize, output: &mut [u8]) -> Option<usize> {
        self.wait();
        let state = self.shared.lock();
        let reply = state.waits.held_reply(self.id?)?;
        if reply.status != Status::Ok {
            return None;
        }
        let length = reply.length as usize;
        let count = output.len().min(length.saturating_sub(offset));
        let output = output.get_mut(..count)?;
        let offset = u32::try_from(offset).ok()?;
        state.end.read_reply(&reply, offset, output).ok()?;
        Some(length)
    }

    /// True if another call may be started after this one before it is answered: it holds a slot, and
    /// many are left.
    pub(crate) fn leaves_room(&self) -> bool {
        let mut state = self.shared.lock();
        self.shared.reap(&mut state);
        self.id.is_some_and(|id| state.waits.leaves_room(id))
    }

    /// Takes the addresses that answer [`Port::resolve`](super::Port::resolve): those of IPv4 as such. Part of an address ends
    /// the Keep.
    ///
    /// # Errors
    /// As [`Self::take_bytes`].
    pub fn take_addresses(&mut self) -> Result<Vec<IpAddr>> {
        let (_, bytes) = self.take_bytes()?;
        let (addresses, rest) = bytes.as_chunks::<{ RESOLVED_SIZE as usize }>();
        if !rest.is_empty() {
            self.shared.bad_reply();
        }
        Ok(addresses
            .iter()
            .map(|octets| Ipv6Addr::from(*octets).to_canonical())
            .collect())
    }

    /// Takes an answer that is there, and the bytes of the reply.
    ///
    /// # Errors
    /// As [`Self::take`]; [`Errno::Again`] when it is not there yet.
    pub fn take_bytes(&mut self) -> Result<(Answer, Vec<u8>)> {
        let id = self.id.ok_or(Errno::Invalid)?;
        let mut state = self.shared.lock();
        let taken = match state.waits.take(id) {
            Outcome::Waits => return Err(Errno::Again),
            Outcome::Held(reply) => {
                let mut bytes = vec![0; reply.length as usize];
                state
                    .finish(&reply, &mut bytes)
                    .map(|answer| (answer, bytes))
            }
            Outcome::Copied(answer, bytes) => answer.map(|answer| (answer, bytes)),
        };
        self.id = None;
        // Its slot may be what others wait for.
        state.advance();
        taken
    }

    /// Takes the answer, waiting for it without yielding; the reply's bytes go to `output`.
    ///
    /// # Errors
    /// The host's answer, if it is an error; [`Errno::Invalid`] when the answer was taken before.
    pub fn take(&mut self, output: &mut [u8]) -> Result<Answer> {
        let id = self.id.ok_or(Errno::Invalid)?;
        let shared = &*self.shared;
        let mut state = shared.lock();
        loop {
            shared.reap(&mut state);
            if let Some(answer) = state.outcome(id, output) {
                self.id = None;
                // Its slot may be what others wait for.
                state.advance();
                return answer;
            }
            let bound = state.watch().map(|longest| Instant::now() + longest);
            state = shared.sleep(state, bound);
        }
    }

    /// Cancels a write: the host, which is notified at once, writes no more of it. Returns how many
    /// bytes it has written.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_back(&mut self) -> Result<usize> {
        let id = self.id.ok_or(Errno::Invalid)?;
        let shared = &*self.shared;
        let mut state = shared.lock();
        let written = loop {
            shared.reap(&mut state);
            if let Some(answer) = state.outcome(id, &mut []) {
                break answer.map(|answer| answer.value);
            }
            if let Some(written) = state.waits.give_up(id) {
                break Ok(written.into());
            }
            if let Some(ticket) = state.waits.recall(id) {
                state.post(Call::Cancel { id: ticket.id() });
            }
            let bound = state.watch().map(|longest| Instant::now() + longest);
            state = shared.sleep(state, bound);
        };
        self.id = None;
        // Its slot may be what others wait for.
        state.advance();
        match written {
            Err(Errno::Cancelled) => Ok(0),
            written => usize::try_from(written?).map_err(|_| Errno::Overflow),
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.lock().abandon(id);
        }
    }
}
