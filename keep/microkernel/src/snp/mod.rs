//! What is different in a Keep under AMD SEV-SNP: pages become private by the guest's own act, the
//! host is reached through the GHCB, CPUID comes from a page that the firmware has checked, and
//! messages to the firmware are encrypted.
//!
//! Trusts the CPU and its firmware. Everything that comes by the GHCB is the host's word.

pub mod boot;
pub mod cpuid;
pub mod ghcb;
pub mod message;
pub mod pages;
pub mod vcpu;

use enarx_boot::boot_page::BootInfo;
use enarx_boot::first_state::{CR4, CR4_MCE, CpuTables, FirstState, XCR0};
use enarx_boot::layout::NO_FAULT;
use message::Channel;

/// What the CPU answered to PVALIDATE (AMD64 APM volume 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validated {
    /// EAX: 0 = done, 6 = the page has another size in the reverse map.
    pub code: u32,
    /// The carry flag: the page's state had been what was asked for.
    pub unchanged: bool,
}

/// A page that is not the Keep's yet. Only the ledger makes one ([`pages`]): to validate a page twice is to accept
/// what a host has put in its place.
#[derive(Debug)]
pub struct Unvalidated {
    address: u64,
    large: bool,
}

impl Unvalidated {
    /// The virtual address at which it is mapped.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Whether it has 2 MiB.
    #[must_use]
    pub const fn is_large(&self) -> bool {
        self.large
    }
}

/// A page that is to become a VMSA: written, and nobody else's ([`vcpu`]).
#[derive(Debug)]
pub struct NewVmsa {
    address: u64,
}

impl NewVmsa {
    /// What RMPADJUST gives it (AMD64 APM volume 3: RDX bit 16, VMSA), for VMPL 1 without rights.
    pub const ATTRIBUTES: u64 = (1 << 16) | 1;

    /// The virtual address at which it is mapped.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }
}

/// CR4 and XCR0 of every vCPU: those of the launch with more protections and more vector state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlState {
    cr4: u64,
    xcr0: u64,
}

impl ControlState {
    /// With what the CPU has. MCE, with which the launch measures the first vCPU, stays, because a machine check
    /// without it is a shutdown.
    const fn new(features: &cpuid::Features) -> Self {
        Self {
            cr4: CR4 | CR4_MCE | features.cr4,
            xcr0: XCR0 | features.xcr0,
        }
    }

    /// CR4.
    #[must_use]
    pub const fn cr4(&self) -> u64 {
        self.cr4
    }

    /// XCR0.
    #[must_use]
    pub const fn xcr0(&self) -> u64 {
        self.xcr0
    }
}

/// The instructions and registers of an SNP guest.
pub trait Instructions {
    /// PVALIDATE: validates the page.
    fn pvalidate(&mut self, page: &Unvalidated) -> Validated;
    /// RMPADJUST: makes the page a VMSA; 0 = done.
    fn rmpadjust(&mut self, page: &NewVmsa) -> u64;
    /// Zeroes the 2 MiB of private memory mapped at the virtual address `address`.
    fn clear_large(&mut self, address: u64);
    /// SEV_STATUS.
    fn sev_status(&self) -> u64;
    /// One request of the GHCB MSR protocol; the host's answer.
    fn msr_protocol(&mut self, request: u64) -> u64;
    /// One exit by this vCPU's GHCB; the host's answer, taken once.
    fn ghcb_exit(&mut self, call: &ghcb::Call<'_>) -> ghcb::Answer;
    /// Writes `bytes` to the message page and zeroes the rest of it.
    fn put_message(&mut self, bytes: &[u8]);
    /// Copies the beginning of the page with the firmware's answer.
    fn take_message(&self, to: &mut [u8]);
    /// Where vCPUs begin that the microkernel starts.
    fn entry(&self) -> Entry;
}

/// Addresses in the microkernel image that a vCPU's first state needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First instruction.
    pub rip: u64,
    /// LSTAR.
    pub lstar: u64,
}

/// The user of the channel to the firmware: one vCPU at a time, without holding the kernel's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// Nobody.
    Free,
    /// A vCPU.
    Taken,
    /// Nobody any more, because something went wrong.
    Broken,
}

/// What the microkernel keeps about SNP.
#[derive(Debug)]
pub struct Snp {
    /// From the boot page.
    pub boot: BootInfo,
    /// Control registers of every vCPU.
    pub registers: ControlState,
    /// The channel to the firmware, and who uses it.
    pub channel: Channel,
    /// See there.
    pub messages: Messages,
    /// vCPUs that the microkernel has started.
    pub started: u64,
    /// The runtime image has been copied and its shared pages are private again.
    pub image_released: bool,
}

impl Snp {
    /// The first state of a vCPU that the microkernel starts, with this task state segment.
    #[must_use]
    pub fn first_state(&self, entry: Entry, tss: u64) -> FirstState {
        FirstState {
            rip: entry.rip,
            cr3: self.boot.root | self.boot.c_bit,
            cr4: self.registers.cr4,
            cr2: NO_FAULT,
            xcr0: self.registers.xcr0,
            tables: Some(CpuTables {
                gdt: self.boot.gdt,
                idt: self.boot.idt,
                tss,
            }),
            lstar: entry.lstar,
            sev_features: self.boot.sev_features,
        }
    }
}
