// SPDX-License-Identifier: Apache-2.0

//! The VM save area of an SNP guest (APM2 table B-4): the register state of a vCPU, measured at launch.

use crate::assert_layout;
use crate::bits::Bit;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A segment register (APM2 table B-1).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Segment {
    /// Selector.
    pub selector: U16,
    /// Attributes, packed to 12 bits: bits 55:52 and 47:40 of a descriptor.
    pub attributes: U16,
    /// Limit in bytes.
    pub limit: U32,
    /// Base address.
    pub base: U64,
}
assert_layout!(Segment, 16, selector @ 0, attributes @ 2, limit @ 4, base @ 8);

impl Segment {
    /// A segment register.
    pub fn new(selector: u16, attributes: u16, limit: u32, base: u64) -> Self {
        Self {
            selector: U16::new(selector),
            attributes: U16::new(attributes),
            limit: U32::new(limit),
            base: U64::new(base),
        }
    }
}

/// SEV_FEATURES of the VMSA, also readable in the guest as the SEV_STATUS MSR shifted by two (APM2 15.34.10, table B-4).
pub mod sev_features {
    use super::Bit;

    const fn bit(index: u32, name: &'static str, meaning: &'static str) -> Bit {
        Bit {
            index,
            name,
            meaning,
        }
    }

    /// SEV-SNP is active.
    pub const SNP_ACTIVE: Bit = bit(0, "snp", "SEV-SNP is active");
    /// All bits with a name.
    pub const BITS: [Bit; 17] = [
        SNP_ACTIVE,
        bit(
            1,
            "vtom",
            "memory below the virtual top of memory is private",
        ),
        bit(2, "reflect-vc", "exits become #VC exceptions at VMPL 0"),
        bit(3, "restricted-injection", "only #HV can be injected"),
        bit(
            4,
            "alternate-injection",
            "interrupts are injected by way of the VMSA",
        ),
        bit(5, "debug-swap", "debug registers are swapped with the VMSA"),
        bit(
            6,
            "prevent-host-ibs",
            "the host cannot sample instructions of the guest",
        ),
        bit(
            7,
            "btb-isolation",
            "branch predictions of the host do not reach the guest",
        ),
        bit(
            8,
            "vmpl-sss",
            "supervisor shadow stacks are a VMPL permission",
        ),
        bit(
            9,
            "secure-tsc",
            "the host cannot change the guest's time stamp counter",
        ),
        bit(10, "vmgexit-parameter", "VMGEXIT takes a parameter"),
        bit(
            11,
            "pmc-virtualization",
            "performance counters are virtualized",
        ),
        bit(
            12,
            "ibs-virtualization",
            "instruction based sampling is virtualized",
        ),
        bit(
            13,
            "guest-intercept-control",
            "the guest controls its intercepts",
        ),
        bit(
            14,
            "vmsa-reg-protection",
            "register values in the VMSA are masked by a nonce",
        ),
        bit(
            15,
            "smt-protection",
            "the sibling thread must be idle or of the same guest",
        ),
        bit(
            16,
            "secure-avic",
            "the interrupt controller is protected from the host",
        ),
    ];
}

/// The VM save area, one page.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "the fields are the registers of APM2 table B-4 under their own names"
)]
pub struct Vmsa {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub gdtr: Segment,
    pub ldtr: Segment,
    pub idtr: Segment,
    pub tr: Segment,
    pub pl0_ssp: U64,
    pub pl1_ssp: U64,
    pub pl2_ssp: U64,
    pub pl3_ssp: U64,
    pub u_cet: U64,
    pub reserved_0c8: [u8; 2],
    pub vmpl: u8,
    pub cpl: u8,
    pub reserved_0cc: [u8; 4],
    pub efer: U64,
    pub reserved_0d8: [u8; 104],
    pub xss: U64,
    pub cr4: U64,
    pub cr3: U64,
    pub cr0: U64,
    pub dr7: U64,
    pub dr6: U64,
    pub rflags: U64,
    pub rip: U64,
    pub dr: [U64; 4],
    pub dr_addr_mask: [U64; 4],
    pub reserved_1c0: [u8; 24],
    pub rsp: U64,
    pub s_cet: U64,
    pub ssp: U64,
    pub isst_addr: U64,
    pub rax: U64,
    pub star: U64,
    pub lstar: U64,
    pub cstar: U64,
    pub sfmask: U64,
    pub kernel_gs_base: U64,
    pub sysenter_cs: U64,
    pub sysenter_esp: U64,
    pub sysenter_eip: U64,
    pub cr2: U64,
    pub reserved_248: [u8; 32],
    pub g_pat: U64,
    pub dbgctl: U64,
    pub br_from: U64,
    pub br_to: U64,
    pub last_excp_from: U64,
    pub last_excp_to: U64,
    pub reserved_298: [u8; 80],
    pub pkru: U32,
    pub tsc_aux: U32,
    pub guest_tsc_scale: U64,
    pub guest_tsc_offset: U64,
    pub reg_prot_nonce: U64,
    pub rcx: U64,
    pub rdx: U64,
    pub rbx: U64,
    pub reserved_320: U64,
    pub rbp: U64,
    pub rsi: U64,
    pub rdi: U64,
    pub r8_to_r15: [U64; 8],
    pub reserved_380: [u8; 16],
    pub guest_exit_info_1: U64,
    pub guest_exit_info_2: U64,
    pub guest_exit_int_info: U64,
    pub guest_nrip: U64,
    pub sev_features: U64,
    pub vintr_ctrl: U64,
    pub guest_exit_code: U64,
    pub virtual_tom: U64,
    pub tlb_id: U64,
    pub pcpu_id: U64,
    pub event_inj: U64,
    pub xcr0: U64,
    pub reserved_3f0: [u8; 16],
    pub x87_dp: U64,
    pub mxcsr: U32,
    pub x87_ftw: U16,
    pub x87_fsw: U16,
    pub x87_fcw: U16,
    pub x87_fop: U16,
    pub x87_ds: U16,
    pub x87_cs: U16,
    pub x87_rip: U64,
    pub fpreg_x87: [u8; 80],
    pub fpreg_xmm: [u8; 256],
    pub fpreg_ymm: [u8; 256],
    pub reserved_670: [u8; 2448],
}
assert_layout!(
    Vmsa, 4096,
    es @ 0x000, cs @ 0x010, ss @ 0x020, ds @ 0x030, fs @ 0x040, gs @ 0x050, gdtr @ 0x060, ldtr @ 0x070, idtr @ 0x080,
    tr @ 0x090, pl0_ssp @ 0x0A0, u_cet @ 0x0C0, vmpl @ 0x0CA, cpl @ 0x0CB, efer @ 0x0D0, xss @ 0x140, cr4 @ 0x148,
    cr3 @ 0x150, cr0 @ 0x158, dr7 @ 0x160, dr6 @ 0x168, rflags @ 0x170, rip @ 0x178, dr @ 0x180, dr_addr_mask @ 0x1A0,
    rsp @ 0x1D8, s_cet @ 0x1E0, ssp @ 0x1E8, isst_addr @ 0x1F0, rax @ 0x1F8, star @ 0x200, lstar @ 0x208,
    cstar @ 0x210, sfmask @ 0x218, kernel_gs_base @ 0x220, sysenter_cs @ 0x228, cr2 @ 0x240, g_pat @ 0x268,
    dbgctl @ 0x270, last_excp_to @ 0x290, pkru @ 0x2E8, tsc_aux @ 0x2EC, guest_tsc_scale @ 0x2F0,
    guest_tsc_offset @ 0x2F8, reg_prot_nonce @ 0x300, rcx @ 0x308, rdx @ 0x310, rbx @ 0x318, rbp @ 0x328,
    rsi @ 0x330, rdi @ 0x338, r8_to_r15 @ 0x340, guest_exit_info_1 @ 0x390, sev_features @ 0x3B0, vintr_ctrl @ 0x3B8,
    guest_exit_code @ 0x3C0, virtual_tom @ 0x3C8, event_inj @ 0x3E0, xcr0 @ 0x3E8, x87_dp @ 0x400, mxcsr @ 0x408,
    x87_fcw @ 0x410, x87_rip @ 0x418, fpreg_x87 @ 0x420, fpreg_xmm @ 0x470, fpreg_ymm @ 0x570, reserved_670 @ 0x670,
);

impl Default for Vmsa {
    /// All zero.
    fn default() -> Self {
        Self::new_zeroed()
    }
}
