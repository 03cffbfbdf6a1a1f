// SPDX-License-Identifier: Apache-2.0

//! The instructions that only an SNP guest has, and their operands.

use enarx_boot::address::VirtAddr;

use super::ghcb::{Answer, Call};
use crate::frame::{Frame, LargeFrame};

/// The CPU's answer to PVALIDATE (AMD64 APM volume 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// EAX: 0 = done, 6 = the page has another size in the reverse map.
    pub code: u32,
    /// The carry flag: the page already had the requested state.
    pub unchanged: bool,
}

/// A page that does not belong to the Keep yet. Only the ledger creates one ([`super::pages`]): validating a
/// page twice would accept a substitute from the host.
#[derive(Debug)]
pub struct Unvalidated {
    address: VirtAddr,
    large: bool,
}

impl Unvalidated {
    /// The page mapped at `address`, of 4 KiB or 2 MiB.
    pub(super) const fn new(address: VirtAddr, large: bool) -> Self {
        Self { address, large }
    }

    /// The virtual address at which it is mapped.
    #[must_use]
    pub const fn address(&self) -> VirtAddr {
        self.address
    }

    /// True if it has 2 MiB.
    #[must_use]
    pub const fn is_large(&self) -> bool {
        self.large
    }
}

/// A page that will become a VMSA: written, and without other users ([`super::vcpu`]).
#[derive(Debug)]
pub struct NewVmsa {
    pub(super) frame: Frame,
}

impl NewVmsa {
    /// Attributes that RMPADJUST gives it (AMD64 APM volume 3: RDX bit 16, VMSA), for VMPL 1 without rights.
    pub const ATTRIBUTES: u64 = (1 << 16) | 1;

    /// The page.
    #[must_use]
    pub const fn frame(&self) -> Frame {
        self.frame
    }
}

/// The instructions and registers of an SNP guest.
pub trait Instructions {
    /// PVALIDATE: validates the page.
    fn pvalidate(&mut self, page: &Unvalidated) -> Validated;
    /// RMPADJUST: makes the page a VMSA; 0 = done.
    fn rmpadjust(&mut self, page: &NewVmsa) -> u64;
    /// Zeroes 2 MiB of private memory.
    fn clear_large(&mut self, frame: LargeFrame);
    /// SEV_STATUS.
    fn sev_status(&self) -> u64;
    /// One request of the GHCB MSR protocol; the host's answer.
    fn msr_protocol(&mut self, request: u64) -> u64;
    /// One exit by this vCPU's GHCB; the host's answer, taken once.
    fn ghcb_exit(&mut self, call: &Call<'_>) -> Answer;
    /// Writes a message to the beginning of the message page, by words.
    fn put_message(&mut self, words: &[[u8; 8]]);
    /// Copies the beginning of the page with the firmware's answer.
    fn take_message(&self, to: &mut [[u8; 8]]);
    /// Where vCPUs begin that the microkernel starts.
    fn entry_point(&self) -> Entry;
}

/// Addresses in the microkernel image that a vCPU's first state needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First instruction.
    pub rip: u64,
    /// LSTAR.
    pub lstar: u64,
}
