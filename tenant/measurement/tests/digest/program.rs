// SPDX-License-Identifier: Apache-2.0

//! A made-up program instead of the runtime.

/// A static executable with one segment of code at 4 MiB, whose last byte is `mark`.
pub fn runtime(mark: u8) -> Vec<u8> {
    let mut image = vec![0u8; 0x2000];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // ELF header: 64-bit, ET_EXEC, x86-64, entry, program headers at 64, one of 56 bytes.
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(16, &[2, 0, 62, 0, 1]);
    put(24, &0x40_1000u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 1, 0]);
    // PT_LOAD, readable and executable: offset, addresses, sizes, alignment.
    put(64, &[1, 0, 0, 0, 5, 0, 0, 0]);
    let words = [0u64, 0x40_0000, 0x40_0000, 0x2000, 0x2000, 0x1000];
    for (index, word) in words.into_iter().enumerate() {
        put(72 + index * 8, &word.to_le_bytes());
    }
    put(0x1fff, &[mark]);
    image
}
