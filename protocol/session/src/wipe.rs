// SPDX-License-Identifier: Apache-2.0

//! Wiping of the buffers that both ends reuse for released data.

use alloc::vec::Vec;
use zeroize::Zeroize;

/// Empties a buffer and wipes the bytes that it had. Bytes beyond them were wiped when it was last emptied, so the cost
/// depends on the contents and not on the capacity. A vector's own `zeroize` writes its whole capacity, byte by byte.
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
