// SPDX-License-Identifier: Apache-2.0

//! One end of a connection, without input and output. The peer is not trusted, nor the host that carries the bytes.

use super::WebError;
use crate::MAX_SILENT;
use std::fmt;
use std::io::{BufRead, Write};

/// Most bytes that are kept for the peer. A little more are kept once they are encrypted: 22 bytes for each record.
const MAX_BUFFERED: usize = 64 << 10;

/// Most bytes that a handshake takes from the peer: a long chain of certificates has 16 KiB. Up to 4 KiB more may have been
/// taken when the connection ends.
const MAX_HANDSHAKE: usize = 128 << 10;

/// One end of a connection: bytes of the peer in, bytes for the peer out.
pub struct Session {
    tls: rustls::Connection,
    /// Bytes of plaintext that can be read.
    readable: usize,
    /// Bytes taken since the last that brought plaintext.
    silent: usize,
    closed: bool,
    closed_by_peer: bool,
    failure: Option<WebError>,
}

impl Session {
    pub(super) fn new(mut tls: rustls::Connection) -> Self {
        tls.set_buffer_limit(Some(MAX_BUFFERED));
        Self {
            tls,
            readable: 0,
            silent: 0,
            closed: false,
            closed_by_peer: false,
            failure: None,
        }
    }

    /// Takes bytes of the peer from the front of `input`, as many as there is room for: none while there is
    /// [`Self::plaintext`]. What comes after the peer's close_notify is passed over.
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
        while !input.is_empty() && self.readable == 0 {
            if self.closed_by_peer {
                *input = &[];
                break;
            }
            // 4 KiB at once.
            let taken = self.tls.read_tls(input);
            let count = taken.map_err(|error| WebError::protocol(&error))?;
            let state = self.tls.process_new_packets();
            let state = state.map_err(|error| WebError::of(&error))?;
            self.readable = state.plaintext_bytes_to_read();
            if self.readable > 0 {
                self.silent = 0;
            } else {
                self.silent = self.silent.saturating_add(count);
            }
            self.closed_by_peer = state.peer_has_closed();
            let most = if self.tls.is_handshaking() {
                MAX_HANDSHAKE
            } else {
                MAX_SILENT
            };
            if !self.closed_by_peer && (count == 0 || self.silent > most) {
                return Err(WebError::protocol(&"records without end that say nothing"));
            }
        }
        Ok(())
    }

    /// Plaintext of the peer, as far as it lies in one piece; empty if there is none now.
    pub fn plaintext(&mut self) -> &[u8] {
        if self.readable == 0 {
            return &[];
        }
        self.tls.reader().into_first_chunk().unwrap_or_default()
    }

    /// Forgets so many bytes of [`Self::plaintext`].
    pub fn consume(&mut self, count: usize) {
        self.tls.reader().consume(count);
        self.readable = self.readable.saturating_sub(count);
    }

    /// Takes plaintext for the peer and returns how many bytes, as many as there is room for. 0 before the handshake is
    /// complete and after the end of the connection.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.tls.is_handshaking() || self.closed || self.failure.is_some() {
            return 0;
        }
        self.tls.writer().write(bytes).unwrap_or(0)
    }

    /// Appends the bytes for the peer to `buffer`.
    pub fn outgoing(&mut self, buffer: &mut Vec<u8>) {
        while self.tls.wants_write() {
            // To a vector nothing fails.
            if !matches!(self.tls.write_tls(buffer), Ok(1..)) {
                break;
            }
        }
    }

    /// True until the handshake is complete.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// The protocol that both ends have agreed on, if there is one.
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Tells the peer that nothing more comes. What was written before still goes out.
    pub fn close(&mut self) {
        if !self.closed {
            self.closed = true;
            self.tls.send_close_notify();
        }
    }

    /// True if the peer has said that nothing more comes. A connection that ends otherwise was cut.
    #[must_use]
    pub fn is_closed_by_peer(&self) -> bool {
        self.closed_by_peer
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
