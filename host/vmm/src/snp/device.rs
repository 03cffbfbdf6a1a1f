// SPDX-License-Identifier: Apache-2.0

//! The system interface of a SEV-SNP launch as two traits: the launcher's requests to `/dev/kvm`
//! and `/dev/sev`, and to the virtual machine that it created.
//!
//! [`super::ioctl`] calls the kernel; the tests have a fake kernel that enforces the documented
//! rules. Structures are passed in the kernel's format, so the tests see exactly what is sent.
#![forbid(unsafe_code)]

use std::fmt;

use enarx_snp::id_block::{IdAuth, IdBlock};
use kvm_bindings::{
    kvm_create_guest_memfd, kvm_memory_attributes, kvm_sev_init, kvm_sev_snp_launch_finish,
    kvm_sev_snp_launch_start, kvm_sev_snp_launch_update, kvm_userspace_memory_region2,
};
use rustix::io::Errno;

use super::firmware::Status;
use crate::vm::registers::NewVcpu;

/// A page that KVM reads the contents of a launch page from; its address is a multiple of the
/// page size, as `KVM_SEV_SNP_LAUNCH_UPDATE` wants it.
#[derive(Clone)]
#[repr(C, align(4096))]
pub struct SourcePage(pub [u8; 4096]);

const _: () = assert!(size_of::<SourcePage>() == 4096 && align_of::<SourcePage>() == 4096);

/// A refused `KVM_MEMORY_ENCRYPT_OP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// The kernel's answer.
    pub errno: Errno,
    /// The secure processor's, where it was asked.
    pub firmware: Status,
}

impl CommandError {
    /// The next step after an answer that comes only from the kernel.
    fn remedy(errno: Errno) -> &'static str {
        match errno {
            Errno::INVAL => {
                "the kernel refuses the request itself, which is a defect of this program or a kernel with other \
                rules; please report this with the kernel's release"
            }
            Errno::NOTTY => {
                "this kernel does not know the command for this machine, or the guest's context could not be made; \
                `enarx doctor` says what this host offers"
            }
            Errno::BUSY => {
                "the secure processor is dead or has too many commands to do: `sudo dmesg | grep -i ccp`; restart the host if it is dead"
            }
            Errno::NODEV => {
                "the secure processor cannot be reached: `sudo dmesg | grep -i ccp`, then load the module ccp"
            }
            Errno::NOMEM => "free memory on the host",
            Errno::PERM | Errno::ACCESS => "use a user who may open /dev/kvm and /dev/sev",
            Errno::FAULT => {
                "the kernel could not read or write the launch's memory; please report this"
            }
            _ => {
                "`enarx doctor` says what this host offers, `sudo dmesg | tail` what the kernel says"
            }
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.firmware == Status::SUCCESS {
            write!(f, "{}; {}", self.errno, Self::remedy(self.errno))
        } else {
            write!(f, "{}; {}", self.errno, self.firmware)
        }
    }
}

impl std::error::Error for CommandError {}

impl From<Errno> for CommandError {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            firmware: Status::SUCCESS,
        }
    }
}

/// `/dev/kvm` and `/dev/sev`.
pub trait Device {
    /// A virtual machine.
    type Vm: Vm;

    /// `KVM_CHECK_EXTENSION`: 0 = not there.
    fn check_extension(&self, capability: u32) -> i32;

    /// `KVM_HAS_DEVICE_ATTR`, then `KVM_GET_DEVICE_ATTR`; `None` when this kernel does not have it.
    ///
    /// # Errors
    /// The kernel's error, if it has the attribute and does not return it.
    fn attribute(&self, group: u32, attribute: u64) -> Result<Option<u64>, Errno>;

    /// `KVM_CREATE_VM` with this type.
    ///
    /// # Errors
    /// The kernel's; `EINTR` is for the caller to repeat.
    fn create_vm(&self, kind: u32) -> Result<Self::Vm, Errno>;
}

/// A virtual machine; dropping it ends it. Its vCPUs are dropped before it.
pub trait Vm {
    /// Memory of this process that backs the shared side of a slot.
    type Memory;
    /// A vCPU.
    type Vcpu: NewVcpu;

    /// `KVM_ENABLE_CAP`.
    ///
    /// # Errors
    /// The kernel's.
    fn enable_capability(&mut self, capability: u32, args: [u64; 4]) -> Result<(), Errno>;

    /// `KVM_SEV_INIT2`.
    ///
    /// # Errors
    /// The kernel's and the secure processor's.
    fn sev_init(&mut self, init: &mut kvm_sev_init) -> Result<(), CommandError>;

    /// `KVM_CREATE_GUEST_MEMFD`; the machine owns the descriptor that is returned.
    ///
    /// # Errors
    /// The kernel's.
    fn create_guest_memfd(&mut self, request: kvm_create_guest_memfd) -> Result<u32, Errno>;

    /// `KVM_SET_USER_MEMORY_REGION2`; `userspace_addr` is filled in from `memory`, which the
    /// machine keeps as long as it lives. Slots are numbered from 0 in the order of the calls.
    ///
    /// # Errors
    /// The kernel's; `EINVAL` too where `memory` is not as long as the region.
    fn set_memory_region(
        &mut self,
        region: kvm_userspace_memory_region2,
        memory: Self::Memory,
    ) -> Result<(), Errno>;

    /// `KVM_SET_MEMORY_ATTRIBUTES`.
    ///
    /// # Errors
    /// The kernel's.
    fn set_memory_attributes(&self, request: kvm_memory_attributes) -> Result<(), Errno>;

    /// Frees the private side of a part of a slot (`fallocate`, `PUNCH_HOLE | KEEP_SIZE`).
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a slot without a private side or a part outside of it.
    fn discard_private(&self, slot: usize, offset: u64, length: u64) -> Result<(), Errno>;

    /// Frees the shared side of a part of a slot (`madvise`, `MADV_DONTNEED`).
    ///
    /// # Errors
    /// The kernel's; `EINVAL` for a part outside of the slot.
    fn discard_shared(&self, slot: usize, offset: u64, length: u64) -> Result<(), Errno>;

    /// `KVM_SEV_SNP_LAUNCH_START`.
    ///
    /// # Errors
    /// The kernel's and the secure processor's.
    fn launch_start(&mut self, start: &mut kvm_sev_snp_launch_start) -> Result<(), CommandError>;

    /// `KVM_SEV_SNP_LAUNCH_UPDATE`. The kernel takes the pages from `uaddr`, which lies in
    /// `source` (for type ZERO it is ignored), writes back how far it came, and a CPUID page that
    /// the firmware corrected.
    ///
    /// # Errors
    /// The kernel's and the secure processor's; `EFAULT` where `uaddr` and `len` leave `source`.
    fn launch_update(
        &mut self,
        update: &mut kvm_sev_snp_launch_update,
        source: &mut [SourcePage],
    ) -> Result<(), CommandError>;

    /// `KVM_CREATE_VCPU`.
    ///
    /// # Errors
    /// The kernel's.
    fn create_vcpu(&mut self, id: u32) -> Result<Self::Vcpu, Errno>;

    /// `KVM_SEV_SNP_LAUNCH_FINISH`; the addresses of the ID block and its authentication are
    /// filled in from `identity`.
    ///
    /// # Errors
    /// The kernel's and the secure processor's.
    fn launch_finish(
        &mut self,
        finish: &mut kvm_sev_snp_launch_finish,
        identity: Option<(&IdBlock, &IdAuth)>,
    ) -> Result<(), CommandError>;
}
