// SPDX-License-Identifier: Apache-2.0

//! The differences in a Keep under AMD SEV-SNP: the guest itself makes pages private, the host is
//! reached through the GHCB, CPUID comes from a page that the firmware has checked, and messages to
//! the firmware are encrypted.
//!
//! Trusts the CPU and its firmware. Everything that comes through the GHCB is from the host and untrusted.

pub mod boot;
pub mod cpuid;
pub mod ghcb;
pub mod instructions;
pub mod message;
pub mod pages;
pub mod request;
pub mod vcpu;

use crate::frame::Frame;
use crate::launch::SnpLaunch;
use enarx_boot::first_state::{CR4, CR4_MCE, CpuTables, FirstState, XCR0};
use enarx_boot::layout::NO_FAULT;
use instructions::Entry;
use message::Channel;

/// CR4 and XCR0 of every vCPU: those of the launch with more protections and more vector state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlState {
    cr4: u64,
    xcr0: u64,
}

impl ControlState {
    /// With the CPU's features. MCE, with which the launch measures the first vCPU, stays set, because a machine
    /// check without it is a shutdown.
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

/// The user of the channel to the firmware: one vCPU at a time, without holding the kernel's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// Nobody.
    Free,
    /// A vCPU.
    Taken,
    /// Permanently nobody, because of an error.
    Broken,
}

/// The microkernel's state for SNP.
#[derive(Debug)]
pub struct Snp {
    /// Data that the launch left.
    pub launch: SnpLaunch,
    /// Control registers of every vCPU.
    pub control: ControlState,
    /// The channel to the firmware.
    pub channel: Channel,
    /// The user of the channel.
    pub messages: Messages,
    /// Mask of the vCPUs that have been started, by the launch or the microkernel.
    pub started: u64,
    /// The runtime image has been copied and its shared pages are private again.
    pub image_released: bool,
}

impl Snp {
    /// The first state of a vCPU that the microkernel starts, with these page tables and this task state
    /// segment.
    #[must_use]
    pub const fn first_state(&self, entry: Entry, root: Frame, tss: u64) -> FirstState {
        FirstState {
            rip: entry.rip,
            cr3: root.address(),
            cr4: self.control.cr4,
            cr2: NO_FAULT,
            xcr0: self.control.xcr0,
            tables: Some(CpuTables {
                gdt: self.launch.gdt.get(),
                idt: self.launch.idt.get(),
                tss,
            }),
            lstar: entry.lstar,
            sev_features: self.launch.sev_features,
        }
    }
}
