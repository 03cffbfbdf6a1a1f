// SPDX-License-Identifier: Apache-2.0

//! Receiving and sending records, shared by both kinds of connection: bounded, and distinguishing a cut from an end.
//! Neither the peer nor the host that carries the bytes is trusted.

use std::io::{self, Write};

/// Most bytes that a connection takes without any plaintext among them: key updates, tickets, empty records. A record has
/// 16,645 bytes at most (RFC 8446, section 5.2). Up to 4 KiB more may have been taken when the connection ends.
pub const MAX_SILENT: usize = 64 << 10;

/// One end of the TLS library's, and how far its peer has come.
pub(crate) struct Records {
    pub(crate) tls: rustls::Connection,
    /// Most bytes that a handshake takes from the peer.
    max_handshake: usize,
    /// Bytes of plaintext that can be read.
    readable: usize,
    /// Bytes taken since the last that brought plaintext.
    silent: usize,
    closed: bool,
    closed_by_peer: bool,
}

/// The reason for which bytes of the peer were not taken.
pub(crate) enum Refused {
    /// The library refuses them.
    Library(rustls::Error),
    /// The library cannot read them.
    Unreadable(io::Error),
    /// They are too many that say nothing.
    Endless,
}

impl Records {
    /// An end that buffers this many bytes for its peer, and takes this many for a handshake; up to 4 KiB more may have
    /// been taken when the connection ends.
    pub(crate) fn new(
        mut tls: rustls::Connection,
        max_buffered: usize,
        max_handshake: usize,
    ) -> Self {
        tls.set_buffer_limit(Some(max_buffered));
        Self {
            tls,
            max_handshake,
            readable: 0,
            silent: 0,
            closed: false,
            closed_by_peer: false,
        }
    }

    /// Takes at most 4 KiB from the front of `input`: nothing while there is plaintext to read. Bytes after the peer's
    /// close_notify are ignored. False if nothing can be taken now.
    ///
    /// # Errors
    /// [`Refused`], and the connection is over.
    pub(crate) fn take(&mut self, input: &mut &[u8]) -> Result<bool, Refused> {
        if self.closed_by_peer {
            *input = &[];
        }
        if input.is_empty() || self.readable > 0 {
            return Ok(false);
        }
        let taken = self.tls.read_tls(input);
        let count = taken.map_err(Refused::Unreadable)?;
        let state = self.tls.process_new_packets().map_err(Refused::Library)?;
        self.readable = state.plaintext_bytes_to_read();
        if self.readable > 0 {
            self.silent = 0;
        } else {
            self.silent = self.silent.saturating_add(count);
        }
        let (has_closed, is_handshaking) = (state.peer_has_closed(), self.tls.is_handshaking());
        self.closed_by_peer = has_closed && !is_handshaking;
        let most = if is_handshaking {
            self.max_handshake
        } else {
            MAX_SILENT
        };
        if !self.closed_by_peer && (count == 0 || self.silent > most) {
            return Err(Refused::Endless);
        }
        Ok(true)
    }

    /// Bytes of plaintext that can be read.
    pub(crate) fn readable(&self) -> usize {
        self.readable
    }

    /// Records that this many bytes of plaintext were read.
    pub(crate) fn has_read(&mut self, count: usize) {
        self.readable = self.readable.saturating_sub(count);
    }

    /// Takes plaintext for the peer and returns how many bytes, as many as there is room for. 0 before the handshake is
    /// complete and after [`Self::close`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        if self.tls.is_handshaking() || self.closed {
            return 0;
        }
        self.tls.writer().write(bytes).unwrap_or(0)
    }

    /// Gives the bytes for the peer, as far as `to` takes them.
    pub(crate) fn give(&mut self, to: &mut dyn Write) {
        while self.tls.wants_write() && matches!(self.tls.write_tls(to), Ok(1..)) {}
    }

    /// Tells the peer that this end is done. Bytes that were written before are still sent.
    pub(crate) fn close(&mut self) {
        if !self.closed {
            self.closed = true;
            self.tls.send_close_notify();
        }
    }

    /// True if the peer has said that nothing more comes, in a record of this connection.
    pub(crate) fn is_closed_by_peer(&self) -> bool {
        self.closed_by_peer
    }
}
