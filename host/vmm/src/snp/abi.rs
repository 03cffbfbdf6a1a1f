// SPDX-License-Identifier: Apache-2.0

//! The parts of KVM's SEV-SNP interface that kvm-bindings does not define, and assertions over the
//! structures of kvm-bindings that the launcher hands to the kernel.
//!
//! Trusts nobody; constants and layouts only.
#![forbid(unsafe_code)]

use std::mem::{offset_of, size_of};

use kvm_bindings::{
    kvm_create_guest_memfd, kvm_device_attr, kvm_enable_cap, kvm_memory_attributes, kvm_sev_cmd,
    kvm_sev_init, kvm_sev_snp_launch_finish, kvm_sev_snp_launch_start, kvm_sev_snp_launch_update,
    kvm_userspace_memory_region2,
};

/// Attribute of group `KVM_X86_GRP_SEV` of `/dev/kvm`: the policy bits that a launch may have
/// (Linux 6.19, `asm/kvm.h`, `KVM_X86_SNP_POLICY_BITS`).
pub const POLICY_BITS: u64 = 1;

/// Policy bits of kernels without [`POLICY_BITS`]: ABI version, SMT, the reserved one, debugging,
/// single socket (Linux 6.11, `arch/x86/kvm/svm/sev.c`, `SNP_POLICY_MASK_VALID`).
pub const OLDEST_POLICY_BITS: u64 = 0xffff | 1 << 16 | 1 << 17 | 1 << 19 | 1 << 20;

/// Hypercall by which KVM hands a guest's page state change to the VMM (`linux/kvm_para.h`,
/// `KVM_HC_MAP_GPA_RANGE`).
pub const MAP_GPA_RANGE: u64 = 12;
/// Flag of [`MAP_GPA_RANGE`]: the range is made of 2 MiB pages (`KVM_MAP_GPA_RANGE_PAGE_SZ_2M`).
pub const MAP_GPA_RANGE_2M: u64 = 1 << 0;
/// Flag of [`MAP_GPA_RANGE`]: the range becomes private (`KVM_MAP_GPA_RANGE_ENCRYPTED`).
pub const MAP_GPA_RANGE_ENCRYPTED: u64 = 1 << 4;

/// GHCB protocol version of SEV-SNP guests (56421, section 2.6; KVM knows no later one).
pub const GHCB_VERSION: u16 = 2;

/// `_IOW(KVMIO, 0xe2, struct kvm_device_attr)` (`linux/kvm.h`, `KVM_GET_DEVICE_ATTR`).
pub const KVM_GET_DEVICE_ATTR: u64 = 0x4018_aee2;
/// `_IOW(KVMIO, 0xe3, struct kvm_device_attr)` (`linux/kvm.h`, `KVM_HAS_DEVICE_ATTR`).
pub const KVM_HAS_DEVICE_ATTR: u64 = 0x4018_aee3;
/// `_IOW(KVMIO, 0xd2, struct kvm_memory_attributes)` (`linux/kvm.h`, `KVM_SET_MEMORY_ATTRIBUTES`):
/// what a confined vCPU thread needs beyond `KVM_RUN` to serve conversions.
pub const KVM_SET_MEMORY_ATTRIBUTES: u32 = 0x4020_aed2;

/// `_IOWR('S', 0, struct sev_issue_cmd)` (`linux/psp-sev.h`, `SEV_ISSUE_CMD`).
pub const SEV_ISSUE_CMD: u64 = 0xc010_5300;
/// Number of the command that returns the platform's status (`linux/psp-sev.h`,
/// `SNP_PLATFORM_STATUS`).
pub const SNP_PLATFORM_STATUS: u32 = 9;

/// `struct sev_issue_cmd` (`linux/psp-sev.h`).
#[derive(Clone, Copy, Debug)]
#[repr(C, packed)]
pub struct IssueCommand {
    /// Number of the command.
    pub command: u32,
    /// Address of its structure.
    pub data: u64,
    /// The secure processor's answer.
    pub error: u32,
}

/// Asserts the size of a structure of kvm-bindings and the offsets of its fields.
macro_rules! assert_layout {
    ($type:ty, $size:literal $(, $field:ident @ $offset:literal)* $(,)?) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(offset_of!($type, $field) == $offset);)*
        };
    };
}

assert_layout!(kvm_sev_cmd, 24, id @ 0, pad0 @ 4, data @ 8, error @ 16, sev_fd @ 20);
assert_layout!(kvm_sev_init, 48, vmsa_features @ 0, flags @ 8, ghcb_version @ 12, pad1 @ 14, pad2 @ 16);
assert_layout!(kvm_sev_snp_launch_start, 64, policy @ 0, gosvw @ 8, flags @ 24, pad0 @ 26, pad1 @ 32);
assert_layout!(
    kvm_sev_snp_launch_update, 64,
    gfn_start @ 0, uaddr @ 8, len @ 16, type_ @ 24, pad0 @ 25, flags @ 26, pad1 @ 28, pad2 @ 32,
);
assert_layout!(
    kvm_sev_snp_launch_finish, 88,
    id_block_uaddr @ 0, id_auth_uaddr @ 8, id_block_en @ 16, auth_key_en @ 17, vcek_disabled @ 18,
    host_data @ 19, pad0 @ 51, flags @ 54, pad1 @ 56,
);
assert_layout!(
    kvm_userspace_memory_region2, 160,
    slot @ 0, flags @ 4, guest_phys_addr @ 8, memory_size @ 16, userspace_addr @ 24,
    guest_memfd_offset @ 32, guest_memfd @ 40, pad1 @ 44, pad2 @ 48,
);
assert_layout!(kvm_create_guest_memfd, 64, size @ 0, flags @ 8, reserved @ 16);
assert_layout!(kvm_memory_attributes, 32, address @ 0, size @ 8, attributes @ 16, flags @ 24);
assert_layout!(kvm_device_attr, 24, flags @ 0, group @ 4, attr @ 8, addr @ 16);
assert_layout!(IssueCommand, 16, command @ 0, data @ 4, error @ 12);
assert_layout!(kvm_enable_cap, 104, cap @ 0, flags @ 4, args @ 8, pad @ 40);

#[cfg(test)]
mod tests {
    use super::*;

    /// `_IOW(0xae, number, size)` (Linux `asm-generic/ioctl.h`).
    fn iow(number: u64, size: usize) -> u64 {
        1 << 30 | (size as u64) << 16 | 0xae << 8 | number
    }

    #[test]
    fn request_numbers_are_those_of_the_header() {
        let attribute = size_of::<kvm_device_attr>();
        assert_eq!(KVM_GET_DEVICE_ATTR, iow(0xe2, attribute));
        assert_eq!(KVM_HAS_DEVICE_ATTR, iow(0xe3, attribute));
        assert_eq!(
            u64::from(KVM_SET_MEMORY_ATTRIBUTES),
            iow(0xd2, size_of::<kvm_memory_attributes>())
        );
        // Read and write, letter S, number 0.
        let issue = (size_of::<IssueCommand>() as u64) << 16;
        assert_eq!(SEV_ISSUE_CMD, 3 << 30 | issue | u64::from(b'S') << 8);
    }
}
