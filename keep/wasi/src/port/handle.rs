// SPDX-License-Identifier: Apache-2.0

//! The port as the rest of WASI holds it: calls, operations, deadlines, and an executor of futures that sleeps only when
//! there is nothing to do.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use enarx_sallyport::{BUFFER_SIZE, Call, Handle, KeepEnd, Region, SubmitError};

use super::answer::Answer;
use super::operation::Operation;
use super::platform::Platform;
use super::shared::{Guard, Shared};
use super::state::{Owner, Write};
use super::timer::Timer;
use super::waits::{Share, WRITES_MAX};
use crate::error::{Errno, Result};

/// Most bytes that one call carries.
pub const MAX_TRANSFER: usize = BUFFER_SIZE as usize;

/// Up to this many bytes of output, calls are made one after the other, so that a program sees the error of its own
/// write; only larger writes report it with a later one.
const WRITE_THROUGH: u64 = 64 * 1024;

/// Time that the end of a Keep waits for room in a full ring. If the host makes none, only the platform reports the
/// end.
const EXIT_LIMIT: Duration = Duration::from_secs(1);

thread_local! {
    /// The earliest time at which the future that this thread runs wants to be polled again.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A handle of the sallyport; clones share it.
#[derive(Clone)]
pub struct Port(Arc<Shared>);

impl Port {
    /// Takes the Keep's end of a region.
    pub fn new(end: KeepEnd<Region>, platform: Arc<dyn Platform>) -> Self {
        Self(Arc::new(Shared::new(end, platform)))
    }

    /// Makes a call and waits for its end; the reply's bytes go to `output`.
    ///
    /// # Errors
    /// The host's answer, if it is an error, or [`Errno::Invalid`] when `input` does not fit in one call.
    pub fn call(&self, call: &Call, input: &[&[u8]], output: &mut [u8]) -> Result<Answer> {
        let (state, ticket) = self.0.submit(self.0.lock(), call, input);
        let (mut state, reply) = self.0.wait_for(state, ticket?);
        state.finish(&reply, output)
    }

    /// Writes all of `bytes` to an output stream. Bytes for several streams reach the host in
    /// the order of the calls; they are with the host at the latest when the Keep ends.
    ///
    /// # Errors
    /// The host's error for this write or, once much has been written, for an earlier one.
    pub fn write(&self, stream: Handle, bytes: &[u8]) -> Result<()> {
        let shared = &*self.0;
        let mut state = shared.lock();
        if state.writes.in_flight.iter().any(|w| w.stream != stream) {
            state = shared.settle_writes(state, 0);
        }
        for chunk in bytes.chunks(MAX_TRANSFER) {
            let call = Call::StreamWrite {
                stream,
                // At most MAX_TRANSFER.
                length: u32::try_from(chunk.len()).map_err(|_| Errno::Invalid)?,
            };
            let (submitted, ticket) = shared.submit(state, &call, &[chunk]);
            state = submitted;
            state.writes.in_flight.push_back(Write {
                stream,
                ticket: ticket?,
                length: chunk.len(),
            });
            let allowed = if state.writes.total < WRITE_THROUGH {
                0
            } else {
                WRITES_MAX - 1
            };
            state.writes.total = state.writes.total.saturating_add(chunk.len() as u64);
            state = shared.settle_writes(state, allowed);
            if let Err(error) = state.writes.outcome(stream) {
                // Writes that follow a failed one have failed with it; later ones must not report this again.
                let _ = shared.settle_writes(state, 0).writes.outcome(stream);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits until the host has answered all writes to an output stream.
    ///
    /// # Errors
    /// The host's error for a write that was not reported yet.
    pub fn flush(&self, stream: Handle) -> Result<()> {
        let mut state = self.0.settle_writes(self.0.lock(), 0);
        state.writes.outcome(stream)
    }

    /// Starts a call that may wait for an external event; its answer is collected later. However many of them wait,
    /// other calls proceed.
    ///
    /// # Errors
    /// [`Errno::Invalid`] when `input` does not fit in one call.
    pub fn start(&self, call: &Call, input: &[&[u8]]) -> Result<Operation> {
        let mut state = self.0.lock();
        let operation = self.take_in(&mut state, call, input)?;
        if !state.defers {
            state.tell();
        }
        Ok(operation)
    }

    /// Like [`Self::start`], but does not notify the host yet: a thread that sleeps next announces everything at once,
    /// and one that does not calls [`Self::tell`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn prepare(&self, call: &Call, input: &[&[u8]]) -> Result<Operation> {
        self.take_in(&mut self.0.lock(), call, input)
    }

    /// Adds a call that waits for an external event, and posts it if there is a slot.
    fn take_in(&self, state: &mut Guard<'_>, call: &Call, input: &[&[u8]]) -> Result<Operation> {
        let length = input.iter().map(|part| part.len()).sum::<usize>();
        if call.check().is_err() || length != call.input_length() as usize {
            return Err(Errno::Invalid);
        }
        self.0.reap(state);
        let share = state.waits.room(call);
        // The owner is named below, once the operation has a name; nothing is collected before that.
        let ticket = match share {
            Some(_) => state.try_submit(call, input, Owner::Caller)?,
            None => None,
        };
        let id = if let (Some(share), Some(ticket)) = (share, ticket) {
            state.name(call, ticket, share, Owner::Wait)
        } else {
            let id = state.waits.add(*call, input.concat());
            state.advance();
            id
        };
        Ok(Operation::new(&self.0, id))
    }

    /// Starts a read of a file ahead of the program. The host, which answers it at once, is not notified yet. It does
    /// not count as an exchange. `None` if few slots are left.
    pub(crate) fn read_ahead(&self, call: &Call) -> Option<Operation> {
        let mut state = self.0.lock();
        self.0.reap(&mut state);
        if !state.waits.leaves_plenty() {
            return None;
        }
        // The owner is named below, as in `take_in`.
        let ticket = match state.end.submit(call, &[]) {
            Ok(ticket) => ticket,
            Err(SubmitError::Full | SubmitError::Length) => return None,
            Err(SubmitError::Violation(violation)) => self.0.platform.violation(&violation),
        };
        let id = state.name(call, ticket, Share::Direct, Owner::Ahead);
        Some(Operation::new(&self.0, id))
    }

    /// A number that changes with every exchange: calls, their answers, the time. Reads ahead do not count: as long as
    /// the number stays the same, nobody can know whether the bytes of a file were read a moment ago or are read now.
    pub(crate) fn exchanges(&self) -> u64 {
        self.0.exchanges.so_far()
    }

    /// Counts an exchange that is not a call: the time was read.
    pub(crate) fn count_exchange(&self) {
        self.0.exchanges.count();
    }

    /// Starts to look a name up; [`Operation::take_addresses`] takes the answer.
    ///
    /// # Errors
    /// [`Errno::NameTooLong`], and as [`Self::start`].
    pub fn resolve(&self, name: &str) -> Result<Operation> {
        let call = Call::Resolve {
            name_length: u32::try_from(name.len()).map_err(|_| Errno::NameTooLong)?,
        };
        self.start(&call, &[name.as_bytes()])
    }

    /// Notifies the host of prepared calls, unless it knows.
    pub fn tell(&self) {
        self.0.lock().tell();
    }

    /// Like [`Self::tell`], at once or at the end of the turn of tasks.
    pub(crate) fn announce(&self) {
        let mut state = self.0.lock();
        if !state.defers {
            state.tell();
        }
    }

    /// Waits until the host has taken all earlier calls: it takes calls in their order, so answers that can be given
    /// at once have arrived.
    pub(crate) fn settle(&self) {
        // The answer does not matter, that it has come does.
        let _ = self.call(&Call::ClockWall, &[], &mut []);
    }

    /// Posts a call whose answer does not matter. Never waits.
    pub fn post(&self, call: &Call) {
        self.0.lock().post(*call);
    }

    /// Asks that the future which this thread runs be polled again at `deadline`. True if that has passed.
    pub fn poll_deadline(&self, deadline: Instant) -> bool {
        if Instant::now() >= deadline {
            self.count_exchange();
            return true;
        }
        DEADLINE.with(|earliest| {
            let other = earliest.get().unwrap_or(deadline);
            earliest.set(Some(deadline.min(other)));
        });
        false
    }

    /// Returns a future that waits until `deadline`.
    pub fn sleep_until(&self, deadline: Instant) -> Timer {
        Timer::new(&self.0, deadline)
    }

    /// Runs a future to its end. Whatever its parts wait for is an [`Operation`], a deadline of
    /// this port, or a waker of their own.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        let mut slept = false;
        loop {
            DEADLINE.set(None);
            let before = self.0.lock().collected;
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                if !slept {
                    self.0.lock().let_host_check();
                }
                return output;
            }
            let mut state = self.0.lock();
            self.0.reap(&mut state);
            self.0.fire(&mut state);
            // Wakers are woken under the lock, so none is missed between this look and the sleep.
            let collected = state.collected != before;
            if woken.0.swap(false, Ordering::Relaxed) || collected {
                // A thread that always has work never sleeps, and the host still has to look.
                state.let_host_check();
                continue;
            }
            let bound = state.watch().map(|longest| Instant::now() + longest);
            let timer = state.timers.next();
            let deadlines = DEADLINE.get().into_iter().chain(bound).chain(timer);
            drop(self.0.sleep(state, deadlines.min()));
            slept = true;
        }
    }

    /// Sleeps until there is an answer, or the next deadline, unless `has_work` says that there is something to do already.
    pub(super) fn rest(&self, has_work: impl FnOnce() -> bool) {
        let mut state = self.0.lock();
        self.0.reap(&mut state);
        self.0.fire(&mut state);
        // Answers and deadlines wake tasks under the lock, so none is missed between this look and the sleep.
        if has_work() {
            state.let_host_check();
            return;
        }
        let bound = state.watch().map(|longest| Instant::now() + longest);
        let deadlines = bound.into_iter().chain(state.timers.next());
        let until = state.awaited();
        drop(self.0.sleep_until(state, until, deadlines.min()));
    }

    /// Takes what there is, and has the host look if it was not asked to for a while: for a thread that does not rest.
    pub(super) fn look(&self) {
        let mut state = self.0.lock();
        self.0.reap(&mut state);
        self.0.fire(&mut state);
        state.let_host_check();
    }

    /// Notifies the host of all waiting calls, and the sleeping thread of earlier deadlines than it knows: for a
    /// thread that will be busy for long. With `wakes` the sleeping one is woken in any case.
    pub(super) fn leave(&self, wakes: bool) {
        let mut state = self.0.lock();
        let bound = state.watch().map(|longest| Instant::now() + longest);
        let next = bound.into_iter().chain(state.timers.next()).min();
        let is_earlier =
            next.is_some_and(|next| state.leader_deadline.is_none_or(|until| next < until));
        if state.has_leader && (wakes || is_earlier) {
            state.nudge();
        }
        state.tell();
    }

    /// Makes every sleeping thread check what it waits for, after a waker was woken without an answer of the host.
    pub fn rouse(&self) {
        let mut state = self.0.lock();
        state.collected = state.collected.wrapping_add(1);
        self.0.tell_followers(&mut state);
        if state.has_leader {
            state.nudge();
        }
        state.tell();
    }

    /// Selects whether the host is notified of waiting calls once per turn, or each time.
    pub(super) fn defer(&self, defers: bool) {
        self.0.lock().defers = defers;
    }

    /// The handle that a call has made.
    pub fn handle(&self, answer: &Answer) -> Handle {
        // It has 32 bits; the sallyport's protocol lets no other values through.
        Handle(u32::try_from(answer.value).unwrap_or_else(|_| self.bad_reply()))
    }

    /// Ends the Keep because the bytes of a reply do not decode.
    pub fn bad_reply(&self) -> ! {
        self.0.bad_reply()
    }

    /// Ends the Keep: the host learns the code first.
    pub fn exit(&self, code: i32) -> ! {
        let mut state = self.0.settle_writes(self.0.lock(), 0);
        // Pending closes and cancellations are no longer needed; the call to end needs the room.
        state.later.clear();
        let limit = Instant::now() + EXIT_LIMIT;
        let call = Call::Exit { code };
        while let Ok(None) = state.try_submit(&call, &[], Owner::Caller)
            && Instant::now() < limit
        {
            state = self.0.sleep(state, Some(limit));
        }
        self.0.platform.exit(code)
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
