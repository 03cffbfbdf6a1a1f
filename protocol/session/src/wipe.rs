// SPDX-License-Identifier: Apache-2.0

//! The wiping of buffers that both ends use again and again for what a tenant releases.

use alloc::vec::Vec;
use zeroize::Zeroize;

/// Empties a buffer and wipes the bytes that it had. The bytes beyond them were wiped when it was last emptied: so
/// the buffer may be longer than what is in it, and emptying costs no more than that. A vector's own `zeroize` writes byte after
/// byte, and all of its capacity.
pub(crate) fn wipe(buffer: &mut Vec<u8>) {
    buffer.as_mut_slice().zeroize();
    buffer.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_emptied_and_keeps_its_memory() {
        let mut buffer = Vec::with_capacity(64);
        buffer.extend_from_slice(&[7; 40]);
        let (place, capacity) = (buffer.as_ptr(), buffer.capacity());
        wipe(&mut buffer);
        assert!(buffer.is_empty());
        assert_eq!((buffer.as_ptr(), buffer.capacity()), (place, capacity));
    }
}
