// SPDX-License-Identifier: Apache-2.0

//! The linear memory of the guest, as the functions of preview 1 read and write it.
//!
//! Every pointer is the guest's and is checked. As the witx rules say, a pointer out of bounds or
//! misaligned traps; text that is not UTF-8 is [`Errno::IllegalByteSequence`].

use enarx_sallyport::call::PATH_MAX;

use super::trap::CallTrap;
use crate::error::{Errno, Fault};

/// Bytes of a path that are copied at most: one more than the longest has, which the file system refuses after what
/// Wasmtime refuses before it.
const COPIED_MAX: u32 = PATH_MAX + 1;

/// Result of a function.
pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// The guest's memory during one call.
pub struct Memory<'a>(&'a mut [u8]);

fn out_of_bounds(pointer: u32, length: u32) -> Fault {
    Fault::Trap(CallTrap::OutOfBounds { pointer, length }.into())
}

impl<'a> Memory<'a> {
    /// The bytes of a memory.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes to read.
    pub fn slice(&self, pointer: u32, length: u32) -> Result<&[u8]> {
        let start = pointer as usize;
        start
            .checked_add(length as usize)
            .and_then(|end| self.0.get(start..end))
            .ok_or_else(|| out_of_bounds(pointer, length))
    }

    /// Bytes to write.
    pub fn slice_mut(&mut self, pointer: u32, length: u32) -> Result<&mut [u8]> {
        let start = pointer as usize;
        start
            .checked_add(length as usize)
            .and_then(|end| self.0.get_mut(start..end))
            .ok_or_else(|| out_of_bounds(pointer, length))
    }

    /// Writes bytes.
    pub fn write(&mut self, pointer: u32, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
        self.slice_mut(pointer, length)?.copy_from_slice(bytes);
        Ok(())
    }

    fn aligned(pointer: u32, alignment: u32) -> Result<()> {
        if pointer.is_multiple_of(alignment) {
            return Ok(());
        }
        Err(Fault::Trap(
            CallTrap::Misaligned { pointer, alignment }.into(),
        ))
    }

    fn array<const N: usize>(&self, pointer: u32) -> Result<[u8; N]> {
        let length = u32::try_from(N).map_err(|_| Errno::Overflow)?;
        self.slice(pointer, length)?
            .first_chunk()
            .copied()
            .ok_or_else(|| out_of_bounds(pointer, length))
    }

    /// A byte.
    pub fn read_u8(&self, pointer: u32) -> Result<u8> {
        let [byte] = self.array(pointer)?;
        Ok(byte)
    }

    /// A 16-bit number.
    pub fn read_u16(&self, pointer: u32) -> Result<u16> {
        Self::aligned(pointer, 2)?;
        Ok(u16::from_le_bytes(self.array(pointer)?))
    }

    /// A 32-bit number.
    pub fn read_u32(&self, pointer: u32) -> Result<u32> {
        Self::aligned(pointer, 4)?;
        Ok(u32::from_le_bytes(self.array(pointer)?))
    }

    /// A 64-bit number.
    pub fn read_u64(&self, pointer: u32) -> Result<u64> {
        Self::aligned(pointer, 8)?;
        Ok(u64::from_le_bytes(self.array(pointer)?))
    }

    /// Writes a 16-bit number.
    pub fn write_u16(&mut self, pointer: u32, value: u16) -> Result<()> {
        Self::aligned(pointer, 2)?;
        self.write(pointer, &value.to_le_bytes())
    }

    /// Writes a 32-bit number.
    pub fn write_u32(&mut self, pointer: u32, value: u32) -> Result<()> {
        Self::aligned(pointer, 4)?;
        self.write(pointer, &value.to_le_bytes())
    }

    /// Writes a 64-bit number.
    pub fn write_u64(&mut self, pointer: u32, value: u64) -> Result<()> {
        Self::aligned(pointer, 8)?;
        self.write(pointer, &value.to_le_bytes())
    }

    /// Writes a record that must be aligned to 8 bytes.
    pub fn write_record(&mut self, pointer: u32, bytes: &[u8]) -> Result<()> {
        Self::aligned(pointer, 8)?;
        self.write(pointer, bytes)
    }

    /// A copy of a path. A path that is too long for every file system is not copied.
    pub fn string(&self, pointer: u32, length: u32) -> Result<String> {
        let text = self.slice(pointer, length)?;
        if length > COPIED_MAX {
            return Err(Errno::NameTooLong.into());
        }
        std::str::from_utf8(text)
            .map(str::to_owned)
            .map_err(|_| Errno::IllegalByteSequence.into())
    }

    /// The first buffer that is not empty among the `count` (c)iovecs at `vectors`, or an empty one:
    /// like the engine's own WASI, one call transfers at most one buffer.
    pub fn first_buffer(&self, vectors: u32, count: u32) -> Result<(u32, u32)> {
        Self::aligned(vectors, 4)?;
        // The whole array must lie in memory, whichever element is used.
        let bytes = count.checked_mul(8).ok_or(Errno::Overflow)?;
        for vector in self.slice(vectors, bytes)?.chunks_exact(8) {
            let (Some(pointer), Some(length)) = (vector.first_chunk(), vector.last_chunk()) else {
                continue;
            };
            let length = u32::from_le_bytes(*length);
            if length != 0 {
                return Ok((u32::from_le_bytes(*pointer), length));
            }
        }
        Ok((0, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_length_is_copied_up_to_the_longest() {
        let mut bytes = vec![b'a'; 2 * COPIED_MAX as usize];
        let memory = Memory::new(&mut bytes);
        for (length, copied) in [
            (0, true),
            (COPIED_MAX, true),
            (COPIED_MAX + 1, false),
            (2 * COPIED_MAX, false),
        ] {
            match memory.string(0, length) {
                Ok(text) => assert!(copied && text.len() == length as usize, "{length}"),
                Err(Fault::Errno(errno)) => {
                    assert!(!copied && errno == Errno::NameTooLong, "{length}");
                }
                Err(other) => panic!("{length}: {other:?}"),
            }
        }
        // Beyond the end of the memory it is the program's fault.
        assert!(matches!(
            memory.string(1, 2 * COPIED_MAX),
            Err(Fault::Trap(_))
        ));
    }
}
