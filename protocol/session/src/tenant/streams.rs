// SPDX-License-Identifier: Apache-2.0

//! The tenant's ends of the application's standard streams.

use crate::keep::Output;
use crate::retained::Retained;
use crate::{Refusal, WINDOW};
use enarx_contract::canonical::Hex;
use sha2::{Digest, Sha256};

/// The tenant's side of the standard streams. Outlives its connections: with it, the next session goes on where this
/// one ended.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub struct Streams {
    pub(super) stdin: Retained,
    /// Another program may have sent some of it.
    pub(super) stdin_of_another: bool,
    pub(super) stdin_ended: bool,
    pub(super) stdout: Received,
    pub(super) stderr: Received,
}

#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(super) struct Received {
    pub(super) seen: u64,
    /// `None` when the beginning was received by another program.
    pub(super) hash: Option<Sha256>,
    /// Bytes that no session received.
    pub(super) missing: u64,
    pub(super) credit: u32,
    pub(super) used: u32,
    pub(super) ended: bool,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            stdin: Retained::new(WINDOW as usize),
            stdin_of_another: false,
            stdin_ended: false,
            stdout: Received::new(),
            stderr: Received::new(),
        }
    }
}

impl Streams {
    /// The streams of an application to which another program was attached, and of which this many bytes were received.
    /// Standard input continues after the last byte that that program sent.
    #[must_use]
    pub fn after(stdout: u64, stderr: u64) -> Self {
        let received = |seen| Received {
            seen,
            hash: (seen == 0).then(Sha256::new),
            ..Received::new()
        };
        Self {
            stdin_of_another: true,
            stdout: received(stdout),
            stderr: received(stderr),
            ..Self::default()
        }
    }

    /// Bytes that have been received of an output, those before a gap included.
    #[must_use]
    pub fn seen(&self, output: Output) -> u64 {
        self.received(output).seen
    }

    /// Bytes of an output that no session of this tenant received: the Keep dropped them, or gave them to another program.
    #[must_use]
    pub fn missing(&self, output: Output) -> u64 {
        self.received(output).missing
    }

    fn received(&self, output: Output) -> &Received {
        match output {
            Output::Stdout => &self.stdout,
            Output::Stderr => &self.stderr,
        }
    }

    pub(super) fn received_mut(&mut self, output: Output) -> &mut Received {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }
}

impl Received {
    fn new() -> Self {
        Self {
            seen: 0,
            hash: Some(Sha256::new()),
            missing: 0,
            credit: WINDOW,
            used: 0,
            ended: false,
        }
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.ended {
            return Err(Refusal::protocol("output after its end"));
        }
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.credit = self
            .credit
            .checked_sub(count)
            .ok_or_else(|| Refusal::protocol("output beyond its credit"))?;
        self.seen += u64::from(count);
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        Ok(())
    }

    /// Goes on at `from` on a new connection.
    pub(super) fn resume(&mut self, from: u64) -> Result<(), Refusal> {
        let gap = from
            .checked_sub(self.seen)
            .ok_or(Refusal::Continuity("output"))?;
        if gap != 0 {
            self.hash = None;
            self.missing += gap;
            self.seen = from;
        }
        self.credit = WINDOW;
        self.used = 0;
        self.ended = false;
        Ok(())
    }

    pub(super) fn grant(&mut self) -> Option<u32> {
        if self.used < WINDOW / 2 {
            return None;
        }
        let granted = core::mem::take(&mut self.used);
        self.credit += granted;
        Some(granted)
    }

    /// True if a receipt agrees with what was received on this stream.
    pub(super) fn is(&self, stream: &crate::receipt::Stream) -> bool {
        let same = |hash: &Sha256| stream.sha256 == Hex(hash.clone().finalize().into());
        stream.bytes == self.seen && self.hash.as_ref().is_none_or(same)
    }
}
