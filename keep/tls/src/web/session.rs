// SPDX-License-Identifier: Apache-2.0

//! One end of a connection, without input and output. The peer is not trusted, nor the host that carries the bytes.

use super::WebError;
use crate::Fault;
use crate::records::{Records, Refused};
use std::fmt;
use std::io::BufRead;

/// Most bytes that are kept for the peer. A little more are kept once they are encrypted: 22 bytes for each record.
const MAX_BUFFERED: usize = 64 << 10;

/// Most bytes that a handshake takes from the peer: a long chain of certificates has 16 KiB. Up to 4 KiB more may have been
/// taken when the connection ends.
const MAX_HANDSHAKE: usize = 128 << 10;

/// One end of a connection: bytes of the peer in, bytes for the peer out.
pub struct Session {
    records: Records,
    failure: Option<WebError>,
}

impl Session {
    pub(super) fn new(tls: rustls::Connection) -> Self {
        Self {
            records: Records::new(tls, MAX_BUFFERED, MAX_HANDSHAKE),
            failure: None,
        }
    }

    /// Takes bytes of the peer from the front of `input`, as many as there is room for: none while there is
    /// [`Self::plaintext`]. Bytes after the peer's close_notify are ignored.
    ///
    /// # Errors
    /// Why the connection is over: [`WebError::Untrusted`], [`WebError::Alert`], [`WebError::Protocol`]; again at each later
    /// call. An alert for the peer may be among the outgoing bytes.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<(), WebError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = self.take(input);
        self.failure = result.clone().err();
        result
    }

    fn take(&mut self, input: &mut &[u8]) -> Result<(), WebError> {
        let error = |refused| match refused {
            Refused::Library(error) => WebError::of(&error),
            Refused::Unreadable(error) => WebError::protocol(&error),
            Refused::Endless => WebError::protocol(&Fault::Endless),
        };
        while self.records.take(input).map_err(error)? {}
        Ok(())
    }

    /// Plaintext from the peer, as far as it is contiguous; empty if there is none now.
    pub fn plaintext(&mut self) -> &[u8] {
        if self.records.readable() == 0 {
            return &[];
        }
        self.records
            .tls
            .reader()
            .into_first_chunk()
            .unwrap_or_default()
    }

    /// Discards this many bytes of [`Self::plaintext`].
    pub fn consume(&mut self, count: usize) {
        self.records.tls.reader().consume(count);
        self.records.has_read(count);
    }

    /// Takes plaintext for the peer and returns how many bytes, as many as there is room for. 0 before the handshake is
    /// complete and after the end of the connection.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.failure.is_some() {
            return 0;
        }
        self.records.write(bytes)
    }

    /// Appends the bytes for the peer to `buffer`.
    pub fn outgoing(&mut self, buffer: &mut Vec<u8>) {
        self.records.give(buffer);
    }

    /// True until the handshake is complete.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.records.tls.is_handshaking()
    }

    /// The protocol that both ends have agreed on, if there is one.
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        self.records.tls.alpn_protocol()
    }

    /// Tells the peer that this end is done. Bytes that were written before are still sent.
    pub fn close(&mut self) {
        self.records.close();
    }

    /// True if the peer has said that nothing more comes. A connection that ends otherwise was cut.
    #[must_use]
    pub fn is_closed_by_peer(&self) -> bool {
        self.records.is_closed_by_peer()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
