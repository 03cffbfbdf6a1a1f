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
use enarx_boot::first_state::{CR4, CR4_MCE, CR4_SMAP, CR4_SMEP, CR4_UMIP, CpuTables, FirstState};
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

/// The instructions and registers of an SNP guest.
pub trait Instructions {
    /// PVALIDATE of the page mapped at the virtual address `address`, 2 MiB if `large`.
    fn pvalidate(&mut self, address: u64, large: bool, validate: bool) -> Validated;
    /// RMPADJUST of the 4 KiB page mapped at the virtual address `address`; 0 = done.
    fn rmpadjust(&mut self, address: u64, attributes: u64) -> u64;
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
    /// CR4 and XCR0 of every vCPU.
    pub registers: (u64, u64),
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
            cr4: self.registers.0,
            cr2: NO_FAULT,
            xcr0: self.registers.1,
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

/// CR4 with the protections that the CPU has. It is that of all vCPUs; MCE, with which the launch measures the
/// first, stays, because a machine check without it is a shutdown.
fn control_register(features: &cpuid::Features) -> u64 {
    let with = |has: bool, bit: u64| if has { bit } else { 0 };
    CR4 | CR4_MCE
        | with(features.smep, CR4_SMEP)
        | with(features.smap, CR4_SMAP)
        | with(features.umip, CR4_UMIP)
}
