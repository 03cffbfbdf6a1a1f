// SPDX-License-Identifier: Apache-2.0

//! An end of a connection, of either implementation.

/// An end of a connection, ours or the independent one.
pub trait End {
    /// Takes bytes of the peer and returns the plaintext in them. The error is a code, or the other library's text.
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String>;
    /// Returns all bytes for the peer.
    fn give(&mut self) -> Vec<u8>;
}
