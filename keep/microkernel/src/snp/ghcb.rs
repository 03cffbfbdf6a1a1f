// SPDX-License-Identifier: Apache-2.0

//! One exit by the GHCB as the words to write (56421, table 3 and section 4).

use core::mem::offset_of;

use enarx_snp::ghcb::{Field, Ghcb, PROTOCOL_VERSION, SHARED_BUFFER_LEN, USAGE_STANDARD, exit};

/// A request to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// SW_EXITCODE.
    pub code: u64,
    /// SW_EXITINFO1.
    pub info1: u64,
    /// SW_EXITINFO2.
    pub info2: u64,
    /// RAX, where the exit uses it.
    pub rax: Option<u64>,
    /// Words for the beginning of the shared buffer; SW_SCRATCH points to it if there are any.
    pub buffer: &'a [u64],
}

/// The host's answer, untrusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// SW_EXITINFO1; its low half is 0 unless the host refused.
    pub info1: u64,
    /// SW_EXITINFO2.
    pub info2: u64,
    /// First word of the shared buffer.
    pub buffer: u64,
}

impl Answer {
    /// True if the host performed the exit.
    #[must_use]
    pub const fn accepted(&self) -> bool {
        self.info1 << 32 == 0
    }
}

/// Words of the GHCB outside of its shared buffer that a call writes.
pub const WORDS: usize = 8;
/// Offset of the shared buffer.
pub const BUFFER: usize = offset_of!(Ghcb, shared_buffer);
/// Words of the shared buffer.
pub const BUFFER_WORDS: usize = SHARED_BUFFER_LEN / 8;

/// The valid bitmap's two words for these fields: bit n stands for the word at 8n.
fn valid(fields: &[Field]) -> [u64; 2] {
    let mut bitmap = [0; 2];
    for &field in fields {
        let index = field as usize / 8;
        if let Some(word) = bitmap.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }
    bitmap
}

impl Call<'_> {
    /// A 32-bit write of `value` to I/O port `port` (AMD64 APM volume 2, section 15.10.2: SZ32,
    /// A64).
    #[must_use]
    pub const fn port_out(port: u16, value: u32) -> Self {
        Self {
            code: exit::IOIO,
            info1: ((port as u64) << 16) | (1 << 6) | (1 << 9),
            info2: 0,
            rax: Some(value as u64),
            buffer: &[],
        }
    }

    /// The words with their offsets, except the shared buffer; the GHCB is at the guest physical
    /// address `ghcb`.
    #[must_use]
    pub fn words(&self, ghcb: u64) -> [(usize, u64); WORDS] {
        use Field::{Rax, SwExitCode, SwExitInfo1, SwExitInfo2, SwScratch};
        let [low, high] = match (self.rax, self.buffer) {
            (Some(_), _) => valid(&[Rax, SwExitCode, SwExitInfo1, SwExitInfo2]),
            (None, []) => valid(&[SwExitCode, SwExitInfo1, SwExitInfo2]),
            (None, _) => valid(&[SwExitCode, SwExitInfo1, SwExitInfo2, SwScratch]),
        };
        let usage = (u64::from(PROTOCOL_VERSION) << 16) | (u64::from(USAGE_STANDARD) << 32);
        [
            (offset_of!(Ghcb, valid_bitmap), low),
            (offset_of!(Ghcb, valid_bitmap) + 8, high),
            (Rax as usize, self.rax.unwrap_or(0)),
            (SwExitCode as usize, self.code),
            (SwExitInfo1 as usize, self.info1),
            (SwExitInfo2 as usize, self.info2),
            (SwScratch as usize, ghcb + BUFFER as u64),
            (offset_of!(Ghcb, protocol_version) - 2, usage),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_snp::ghcb::PageStateChange;
    use zerocopy::{FromBytes, IntoBytes};

    fn page(call: &Call<'_>) -> Ghcb {
        let mut bytes = [0u8; 4096];
        for (offset, word) in call.words(0x7000) {
            bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
        }
        for (index, word) in call.buffer.iter().enumerate() {
            bytes[BUFFER + index * 8..][..8].copy_from_slice(&word.to_le_bytes());
        }
        Ghcb::read_from_bytes(&bytes).unwrap()
    }

    #[test]
    fn a_port_write_is_encoded_as_one() {
        let ghcb = page(&Call::port_out(0xe00, 7));
        let mut expected = Ghcb::default();
        expected.sw_exit_code.set(0x7b);
        expected.sw_exit_info_1.set(0x0e00_0240);
        expected.rax.set(7);
        expected.sw_scratch.set(0x7800);
        expected.protocol_version.set(2);
        for field in [
            Field::Rax,
            Field::SwExitCode,
            Field::SwExitInfo1,
            Field::SwExitInfo2,
        ] {
            expected.set_valid(field, true);
        }
        assert_eq!(ghcb, expected);
    }

    #[test]
    fn a_buffer_makes_the_scratch_field_valid() {
        let call = Call {
            code: exit::PAGE_STATE_CHANGE,
            info1: 0,
            info2: 0,
            rax: None,
            buffer: &[1 << 16, 5],
        };
        let ghcb = page(&call);
        assert!(ghcb.is_valid(Field::SwScratch) && !ghcb.is_valid(Field::Rax));
        let change = PageStateChange::read_from_bytes(ghcb.shared_buffer.as_bytes()).unwrap();
        assert_eq!((change.cur_entry.get(), change.end_entry.get()), (0, 1));
        assert_eq!(change.entries[0].0.get(), 5);
    }
}
