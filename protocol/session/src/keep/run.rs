// SPDX-License-Identifier: Apache-2.0

//! An application in a Keep, from START on: its standard streams, its end, and its receipt. Bytes of its standard input come
//! from the tenant, those of its outputs from the application, which is not trusted either.

use super::output::Output;
use crate::deployment::{Deployment, WhenFull};
use crate::document::{self, Exit, Started};
use crate::frame::{CONTROL, Kind, STDERR, STDIN, STDOUT};
use crate::outbox::Outbox;
use crate::receipt::{Body, Stream};
use crate::retained::Retained;
use crate::{Moment, Refusal, WINDOW};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use enarx_contract::canonical::Hex;
use sha2::{Digest, Sha256};

/// An application, from START on.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(super) struct Run {
    pub(super) deployment: Deployment,
    pub(super) digest: [u8; 32],
    /// When the tenant's time was that of the deployment.
    pub(super) anchor: Moment,
    pub(super) start: Moment,
    pub(super) started: Option<Started>,
    /// The connection that has the streams.
    pub(super) attached: Option<u64>,
    pub(super) detached_since: Moment,
    pub(super) stdin: Input,
    pub(super) stdout: Written,
    pub(super) stderr: Written,
    pub(super) stop_at: Option<Moment>,
    pub(super) killed: bool,
    pub(super) exit: Option<Exit>,
    pub(super) body: Option<Body>,
    pub(super) receipt: Option<Vec<u8>>,
}

/// An output of the application.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(super) struct Written {
    pub(super) retained: Retained,
    pub(super) hash: Sha256,
    /// It goes to the session, and not nowhere.
    pub(super) wanted: bool,
}

/// Standard input of the application.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(super) struct Input {
    pub(super) buffer: VecDeque<u8>,
    pub(super) received: u64,
    /// Bytes that may still come.
    pub(super) credit: u32,
    /// Bytes used since credit was given.
    pub(super) used: u32,
    pub(super) ended: bool,
    /// Further input is discarded, because the application has to end.
    pub(super) closed: bool,
    pub(super) read: u64,
    pub(super) hash: Sha256,
}

/// The events that an attached connection has already reported.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReportedEvents {
    pub(super) started: bool,
    pub(super) exit: bool,
    pub(super) receipt: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            buffer: VecDeque::new(),
            received: 0,
            credit: WINDOW,
            used: 0,
            ended: false,
            closed: false,
            read: 0,
            hash: Sha256::new(),
        }
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.credit = self
            .credit
            .checked_sub(count)
            .ok_or_else(|| Refusal::protocol("standard input beyond its credit"))?;
        if self.ended && !self.closed {
            return Err(Refusal::protocol("standard input after its end"));
        }
        self.received += u64::from(count);
        if self.closed {
            self.used += count;
        } else {
            self.buffer.extend(bytes);
        }
        Ok(())
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let count = buffer.len().min(self.buffer.len());
        if count == 0 {
            return (self.ended || self.closed || buffer.is_empty()).then_some(0);
        }
        // In the two parts in which it lies, and not byte by byte.
        let (first, second) = self.buffer.as_slices();
        let first = first.get(..count.min(first.len()))?;
        let second = second.get(..count.checked_sub(first.len())?)?;
        let (to, rest) = buffer.split_at_mut_checked(first.len())?;
        to.copy_from_slice(first);
        rest.get_mut(..second.len())?.copy_from_slice(second);
        self.buffer.drain(..count);
        self.hash.update(buffer.get(..count)?);
        self.read += count as u64;
        self.used += u32::try_from(count).unwrap_or(u32::MAX);
        Some(count)
    }

    /// Begins on a new connection, and returns how much may come at first.
    pub(super) fn resume(&mut self) -> u32 {
        let unread = u32::try_from(self.buffer.len()).unwrap_or(WINDOW);
        self.credit = WINDOW.saturating_sub(unread);
        self.used = 0;
        self.credit
    }
}

impl Run {
    /// True if the oldest output is dropped for new output.
    pub(super) fn drops_output(&self) -> bool {
        self.attached.is_none() && self.deployment.detached.when_full == WhenFull::Drop
    }

    pub(super) fn is_native(&self) -> bool {
        self.deployment.source.is_some()
    }

    pub(super) fn written(&mut self, output: Output) -> &mut Written {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }

    pub(super) fn stop(&mut self, grace: u32, now: Moment) {
        let at = now.after(u64::from(grace));
        self.stop_at = Some(self.stop_at.map_or(at, |earlier| earlier.min(at)));
        self.stdin.closed = true;
    }

    /// Puts the next frame into the outbox; false when there is none.
    pub(super) fn fill(&mut self, outbox: &mut Outbox, told: &mut ReportedEvents) -> bool {
        if let Some(count) = grant(&mut self.stdin.credit, &mut self.stdin.used) {
            outbox.put(Kind::Credit, STDIN, &count.to_le_bytes());
            return true;
        }
        if let Some(started) = &self.started
            && !told.started
        {
            told.started = true;
            if let Ok(payload) = document::encode(Kind::Started, started) {
                outbox.put(Kind::Started, CONTROL, &payload);
                return true;
            }
        }
        // Standard error goes first: it is small, and the explanation of a flood on
        // standard output must not wait for the flood.
        for (stream, output) in [(STDERR, Output::Stderr), (STDOUT, Output::Stdout)] {
            let retained = &mut self.written(output).retained;
            if let Some((first, second)) = retained.chunk() {
                let count = first.len() + second.len();
                outbox.put_parts(Kind::Data, stream, first, second);
                retained.advance(count);
                return true;
            }
            if retained.take_end() {
                outbox.put(Kind::End, stream, &[]);
                return true;
            }
        }
        let all_sent = self.stdout.retained.end_is_sent() && self.stderr.retained.end_is_sent();
        if let Some(exit) = &self.exit
            && all_sent
            && !told.exit
        {
            told.exit = true;
            if let Ok(payload) = document::encode(Kind::Exit, exit) {
                outbox.put(Kind::Exit, CONTROL, &payload);
                return true;
            }
        }
        if let Some(receipt) = &self.receipt
            && told.exit
            && !told.receipt
        {
            told.receipt = true;
            outbox.put(Kind::Receipt, CONTROL, receipt);
            return true;
        }
        false
    }
}

impl Written {
    pub(super) fn new(wanted: bool, buffer_bytes: u32) -> Self {
        Self {
            retained: Retained::new(buffer_bytes as usize),
            hash: Sha256::new(),
            wanted,
        }
    }

    pub(super) fn summary(&self) -> Stream {
        Stream {
            bytes: self.retained.end(),
            sha256: Hex(self.hash.clone().finalize().into()),
            dropped: self.retained.dropped(),
        }
    }
}

/// The credit to give, once half of the window is used.
pub(super) fn grant(credit: &mut u32, used: &mut u32) -> Option<u32> {
    if *used < WINDOW / 2 {
        return None;
    }
    let granted = core::mem::take(used);
    *credit += granted;
    Some(granted)
}
