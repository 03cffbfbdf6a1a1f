// SPDX-License-Identifier: Apache-2.0

//! The record of everything that a host sees.

use enarx_session::deployment::Part;
use enarx_session::frame::Kind;
use std::sync::{Arc, Mutex};

/// Everything that a host sees.
#[derive(Default)]
pub struct Record {
    /// Connections to the manager.
    pub connections: usize,
    /// Method and path of every request.
    pub requests: Vec<String>,
    /// Every byte that the manager received: requests in the clear, sessions as they pass.
    pub bytes: Vec<u8>,
    /// Every byte of the session after the inner TLS, where that ended at the host or in its Keep.
    pub plain: Vec<u8>,
    /// Plaintext that a man in the middle handed on.
    pub relayed: Vec<u8>,
    /// Frames that Keeps received, as far as they record them.
    pub frames: Vec<Kind>,
    /// The parts that were delivered.
    pub parts: Vec<(Part, Vec<u8>)>,
    /// Names of refusals by which Keeps ended sessions.
    pub refusals: Vec<String>,
    /// SHA-256 of the data released to a Keep.
    pub deployment: Option<[u8; 32]>,
    /// Sessions that ended in order.
    pub ended: usize,
}

/// A record that many hold.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Record>>);

impl Log {
    /// Reads or changes the record.
    pub fn read<T>(&self, read: impl FnOnce(&mut Record) -> T) -> T {
        read(&mut self.0.lock().expect("no test panics while it holds it"))
    }

    /// Counts a connection to the manager.
    pub fn connection(&self) {
        self.read(|record| record.connections += 1);
    }

    /// Writes down a request.
    pub fn request(&self, line: &str) {
        self.read(|record| record.requests.push(line.to_owned()));
    }

    /// Writes down bytes that the manager received.
    pub fn bytes(&self, bytes: &[u8]) {
        self.read(|record| record.bytes.extend_from_slice(bytes));
    }

    /// Writes down plaintext of the session.
    pub fn plain(&self, bytes: &[u8]) {
        self.read(|record| record.plain.extend_from_slice(bytes));
    }

    /// Writes down plaintext that was handed on.
    pub fn relayed(&self, bytes: &[u8]) {
        self.read(|record| record.relayed.extend_from_slice(bytes));
    }

    /// Writes down a frame.
    pub fn frame(&self, kind: Kind) {
        self.read(|record| record.frames.push(kind));
    }

    /// Writes down a Keep's refusal.
    pub fn refusal(&self, code: &str) {
        self.read(|record| record.refusals.push(code.to_owned()));
    }

    /// Records the digest of released data.
    pub fn released(&self, digest: [u8; 32]) {
        self.read(|record| record.deployment = Some(digest));
    }

    /// The digest of released data.
    pub fn deployment(&self) -> Option<[u8; 32]> {
        self.read(|record| record.deployment)
    }

    /// Counts a session that ended in order.
    pub fn ended(&self) {
        self.read(|record| record.ended += 1);
    }

    /// Writes down bytes of a part.
    pub fn part(&self, part: Part, bytes: &[u8]) {
        self.read(|record| match record.parts.last_mut() {
            Some((last, content)) if *last == part => content.extend_from_slice(bytes),
            _ => record.parts.push((part, bytes.to_vec())),
        });
    }

    /// True if a request of this method and path, or of a path below it, was made.
    pub fn asked(&self, start: &str) -> bool {
        self.count(start) > 0
    }

    /// The number of them that were made.
    pub fn count(&self, start: &str) -> usize {
        self.read(|record| {
            let requests = record.requests.iter();
            requests.filter(|line| line.starts_with(start)).count()
        })
    }
}
