// SPDX-License-Identifier: Apache-2.0

//! The secrets page, which the firmware writes at launch (56860 SNP_LAUNCH_UPDATE, secrets page format). Private to
//! the guest; the keys in it talk to the firmware.

use crate::assert_layout;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The area that the secrets page leaves to the guest's operating system (56421, SNP secrets page, guest OS area).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct OsArea {
    /// Low halves of the sequence numbers of the last message under VMPCK 0 to 3.
    pub msg_seqno: [U32; 4],
    /// Guest physical address of the AP jump table.
    pub ap_jump_table_pa: U64,
    /// High halves of the sequence numbers.
    pub msg_seqno_high: [U32; 4],
    /// Reserved.
    pub reserved: [u8; 22],
    /// Version of this area.
    pub version: [u8; 2],
    /// Free for the guest.
    pub guest_usage: [u8; 32],
}
assert_layout!(
    OsArea, 96,
    msg_seqno @ 0x00, ap_jump_table_pa @ 0x10, msg_seqno_high @ 0x18, version @ 0x3E, guest_usage @ 0x40,
);

/// The secrets page.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SecretsPage {
    /// Version of this structure, 2 or later.
    pub version: U32,
    /// Bit 0: launched from an initial migration image.
    pub imi_en: U32,
    /// Family, model and stepping as CPUID leaf 1 EAX reports them.
    pub fms: U32,
    /// Reserved.
    pub reserved_00c: U32,
    /// Guest OS visible workarounds, from the host.
    pub gosvw: [u8; 16],
    /// Keys for messages of VMPL 0 to 3, AES-256.
    pub vmpck: [[u8; 32]; 4],
    /// For the guest's operating system.
    pub os_area: OsArea,
    /// One bit for each 8 bytes of the VMSA whose value is masked.
    pub vmsa_tweak_bitmap: [u8; 64],
    /// Guest physical address of the service module, when there is one.
    pub svsm_base: U64,
    /// Length of the service module in bytes.
    pub svsm_size: U64,
    /// Guest physical address of the calling area of the service module.
    pub svsm_caa: U64,
    /// Newest protocol version of the service module.
    pub svsm_max_version: U32,
    /// Privilege level of the guest under the service module.
    pub svsm_guest_vmpl: u8,
    /// Reserved.
    pub reserved_15d: [u8; 3],
    /// Correction of the mean time-stamp counter frequency (version 4).
    pub tsc_factor: U32,
    /// Reserved.
    pub reserved_164: [u8; 3740],
}
assert_layout!(
    SecretsPage, 4096,
    version @ 0x000, imi_en @ 0x004, fms @ 0x008, gosvw @ 0x010, vmpck @ 0x020, os_area @ 0x0A0,
    vmsa_tweak_bitmap @ 0x100, svsm_base @ 0x140, svsm_size @ 0x148, svsm_caa @ 0x150, svsm_max_version @ 0x158,
    svsm_guest_vmpl @ 0x15C, tsc_factor @ 0x160, reserved_164 @ 0x164,
);

impl core::fmt::Debug for SecretsPage {
    /// Names the version only: the keys must not reach a log.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SecretsPage")
            .field("version", &self.version.get())
            .finish_non_exhaustive()
    }
}
