// SPDX-License-Identifier: Apache-2.0

//! Calls of one stream or file in flight to the host, several at a time: reads ahead of the program, and writes while
//! it prepares the next one. A host that has to be woken performs them together; one that polls performs some while the
//! program handles others.
//!
//! Bookkeeping only: the answers come from the host, and whoever takes them checks them.

use std::collections::VecDeque;
use std::task::Context;

use super::handle::Port;
use super::operation::Operation;
pub(crate) use super::waits::CALLS_MAX;
use crate::error::Result;

/// A stream that gives this many bytes at once counts as fast: its next bytes are requested ahead of the program.
pub(crate) const FAST_STREAM_BYTES: usize = 16 * 1024;

/// A call in flight.
pub(crate) struct Queued {
    pub operation: Operation,
    /// The bytes that it asks for or gives; a read of none asks if there are any.
    pub length: usize,
}

/// Calls of one stream or file, in their order.
#[derive(Default)]
pub(crate) struct Queue(VecDeque<Queued>);

impl Queue {
    /// True if nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls in flight.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The first call.
    pub fn first(&self) -> Option<&Queued> {
        self.0.front()
    }

    /// The calls, in their order.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.0.iter().map(|call| &call.operation)
    }

    /// Abandons all calls.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a call that was started after the others.
    pub fn push(&mut self, operation: Operation, length: usize) {
        self.0.push_back(Queued { operation, length });
    }

    /// True if another call may be started: those in flight hold slots, and many are left for others.
    pub fn has_room(&self) -> bool {
        let last = self.0.back();
        self.len() < CALLS_MAX && last.is_none_or(|last| last.operation.leaves_room())
    }

    /// Starts calls of `length` bytes as long as there is room. One that cannot be started fails again when it is wanted.
    pub fn fill(&mut self, length: usize, start: impl Fn() -> Result<Operation>) {
        while self.has_room()
            && let Ok(operation) = start()
        {
            self.push(operation, length);
        }
    }

    /// True if the first call is answered. If not, the host is notified of calls that it does not know yet: a call made
    /// ahead was not worth a doorbell while nobody waited for it.
    pub fn is_answered(&self, port: &Port) -> bool {
        self.is_first(port, Operation::is_ready)
    }

    /// As [`Self::is_answered`]; if the first call is not answered, the task of `context` is woken when it is.
    pub fn poll_answered(&self, port: &Port, context: &Context<'_>) -> bool {
        self.is_first(port, |operation| operation.poll_ready(context))
    }

    fn is_first(&self, port: &Port, is_ready: impl Fn(&Operation) -> bool) -> bool {
        let Some(Queued { operation, .. }) = self.first() else {
            return false;
        };
        if is_ready(operation) {
            return true;
        }
        port.announce();
        is_ready(operation)
    }

    /// Takes out the first call.
    pub fn pop(&mut self) -> Option<Queued> {
        self.0.pop_front()
    }

    /// Takes out the first call if it is answered.
    pub fn pop_answered(&mut self) -> Option<Queued> {
        self.0.pop_front_if(|call| call.operation.is_ready())
    }

    /// Takes out the first call if it only asks for readiness.
    pub fn pop_readiness(&mut self) -> Option<Queued> {
        self.0.pop_front_if(|call| call.length == 0)
    }
}
