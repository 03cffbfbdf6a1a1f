// SPDX-License-Identifier: Apache-2.0

//! The state in which every vCPU begins: long mode, CPL0, interrupts off. As a VMSA, the secure
//! processor measures it, the host's KVM gets it on every backend, and the microkernel writes it
//! for the vCPUs that it starts under SNP.

use core::mem::offset_of;

use enarx_snp::vmsa::Vmsa;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::address::PhysAddr;
use crate::layout::{KERNEL_STACK, STACK_RECORD, stack_bottom};

/// Distance between the task state segments of two vCPUs that lie in one page.
pub const TSS_STRIDE: u64 = 128;
/// Limit of a task state segment.
pub const TSS_LIMIT: u16 = 103;
/// Limit of the GDT: five descriptors.
pub const GDT_LIMIT: u16 = 39;
/// Limit of the IDT.
#[allow(clippy::cast_possible_truncation, reason = "asserted below")]
pub const IDT_LIMIT: u16 = (crate::boot_page::VECTORS * 16 - 1) as u16;
const _: () = assert!(crate::boot_page::VECTORS * 16 <= 1 << 16);

/// STAR: SYSCALL enters with CS 0x08, SYSRET returns with CS 0x23 and SS 0x1b.
pub const STAR: u64 = (0x13 << 48) | (0x08 << 32);
/// SFMASK: SYSCALL clears every flag that user code may set except the arithmetic ones.
pub const SFMASK: u64 = 0x0025_7f00;
/// EFER: SCE, LME, LMA, NXE.
pub const EFER: u64 = 0xd01;
/// EFER.SVME, which is set in every VMSA (AMD64 APM volume 2, section 15.36).
pub const EFER_SVME: u64 = 1 << 12;
/// CR0: PE, MP, ET, NE, WP, AM, PG.
pub const CR0: u64 = 0x8005_0033;
/// CR4: PAE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE. Under plain KVM the VMM adds SMEP, SMAP
/// and UMIP where the CPU has them; in a measured Keep the microkernel does, so that the
/// measurement is the same for every CPU.
pub const CR4: u64 = (1 << 5) | (1 << 7) | (1 << 9) | (1 << 10) | (1 << 16) | (1 << 18);
/// CR4.MCE, which KVM sets in an SNP guest.
pub const CR4_MCE: u64 = 1 << 6;
/// CR4.UMIP.
pub const CR4_UMIP: u64 = 1 << 11;
/// CR4.SMEP.
pub const CR4_SMEP: u64 = 1 << 20;
/// CR4.SMAP.
pub const CR4_SMAP: u64 = 1 << 21;
/// XCR0 in which a measured Keep begins: x87, SSE, AVX; the microkernel adds what the CPU has.
pub const XCR0: u64 = 7;
/// The three parts of AVX-512 in XCR0, which are set together or not at all (Intel SDM volume 1, section 13.1).
pub const XCR0_AVX512: u64 = 0b1110_0000;
/// The page attribute table after reset (AMD64 APM volume 2, section 7.8.1).
const PAT: u64 = 0x0007_0406_0007_0406;

/// A task state segment (AMD64 APM volume 2, section 12.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct TaskState {
    reserved0: U32,
    rsp: [U64; 3],
    reserved1: U64,
    ist: [U64; 7],
    reserved2: [U16; 5],
    io_map: U16,
}

const _: () = assert!(size_of::<TaskState>() == TSS_LIMIT as usize + 1);
const _: () = assert!(offset_of!(TaskState, ist) == 36 && offset_of!(TaskState, io_map) == 102);

impl TaskState {
    /// The task state of a vCPU, which takes every event at the top of its kernel stack. The I/O map begins beyond the
    /// limit, so CPL3 has no port.
    #[must_use]
    pub const fn new(vcpu: u64) -> Self {
        let none = U64::ZERO;
        let top = U64::new(first_stack_pointer(vcpu));
        Self {
            reserved0: U32::ZERO,
            rsp: [top, none, none],
            reserved1: none,
            ist: [top, none, none, none, none, none, none],
            reserved2: [U16::ZERO; 5],
            io_map: U16::new(TSS_LIMIT + 1),
        }
    }
}

/// The tables that a vCPU needs to take an event, that is an exception or an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTables {
    /// Base of the GDT.
    pub gdt: u64,
    /// Base of the IDT.
    pub idt: u64,
    /// Base of the vCPU's own task state segment.
    pub tss: u64,
}

/// The parts of a vCPU's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstState {
    /// First instruction.
    pub rip: u64,
    /// Root page table.
    pub cr3: PhysAddr,
    /// CR4.
    pub cr4: u64,
    /// Address of the last page fault: 0, as in every launch by KVM, or [`crate::layout::NO_FAULT`].
    pub cr2: u64,
    /// XCR0.
    pub xcr0: u64,
    /// The CPU's tables. A vCPU without them has no stack either: every event that its host injects is a
    /// shutdown (AMD64 APM volume 2, section 8.2.9), and nothing is written anywhere.
    pub tables: Option<CpuTables>,
    /// LSTAR.
    pub lstar: u64,
    /// SEV_FEATURES; 0 = not an SNP guest.
    pub sev_features: u64,
}

/// Stack pointer of a vCPU at its entry: its stack record.
#[must_use]
pub const fn first_stack_pointer(vcpu: u64) -> u64 {
    stack_bottom(vcpu) + KERNEL_STACK - STACK_RECORD
}

/// A segment register as the two words of a VMSA.
const fn segment(selector: u64, attributes: u64, limit: u64, base: u64) -> [u64; 2] {
    [selector | (attributes << 16) | (limit << 32), base]
}

/// Words of a VMSA that are not zero, at most.
const WORDS: usize = 32;

impl FirstState {
    /// The words of the VMSA of vCPU `vcpu` that are not zero, with their offsets.
    #[must_use]
    pub fn words(&self, vcpu: u64) -> [(usize, u64); WORDS] {
        let snp = self.sev_features != 0;
        let [data, _] = segment(0x10, 0xc93, 0xffff_ffff, 0);
        let [code, _] = segment(0x08, 0xa9b, 0xffff_ffff, 0);
        let (gdt, idt, tss, stack) = match self.tables {
            Some(CpuTables { gdt, idt, tss }) => (
                (GDT_LIMIT, gdt),
                (IDT_LIMIT, idt),
                (TSS_LIMIT, tss),
                first_stack_pointer(vcpu),
            ),
            None => ((0, 0), (0, 0), (0, 0), 0),
        };
        let gdt = segment(0, 0, gdt.0.into(), gdt.1);
        let idt = segment(0, 0, idt.0.into(), idt.1);
        // There is no descriptor for it: the register is loaded here, never with LTR.
        let tr = segment(0x28, 0x8b, tss.0.into(), tss.1);
        [
            (offset_of!(Vmsa, es), data),
            (offset_of!(Vmsa, cs), code),
            (offset_of!(Vmsa, ss), data),
            (offset_of!(Vmsa, ds), data),
            (offset_of!(Vmsa, fs), data),
            (offset_of!(Vmsa, gs), data),
            (offset_of!(Vmsa, gdtr), gdt[0]),
            (offset_of!(Vmsa, gdtr) + 8, gdt[1]),
            (offset_of!(Vmsa, idtr), idt[0]),
            (offset_of!(Vmsa, idtr) + 8, idt[1]),
            (offset_of!(Vmsa, tr), tr[0]),
            (offset_of!(Vmsa, tr) + 8, tr[1]),
            (
                offset_of!(Vmsa, efer),
                EFER | if snp { EFER_SVME } else { 0 },
            ),
            (offset_of!(Vmsa, cr4), self.cr4),
            (offset_of!(Vmsa, cr3), self.cr3.get()),
            (offset_of!(Vmsa, cr0), CR0),
            (offset_of!(Vmsa, dr7), 0x400),
            (offset_of!(Vmsa, dr6), 0xffff_0ff0),
            (offset_of!(Vmsa, rflags), 2),
            (offset_of!(Vmsa, cr2), self.cr2),
            (offset_of!(Vmsa, rip), self.rip),
            (offset_of!(Vmsa, rsp), stack),
            (offset_of!(Vmsa, star), STAR),
            (offset_of!(Vmsa, lstar), self.lstar),
            (offset_of!(Vmsa, sfmask), SFMASK),
            (offset_of!(Vmsa, kernel_gs_base), stack),
            (offset_of!(Vmsa, g_pat), PAT),
            (offset_of!(Vmsa, rdi), vcpu),
            (offset_of!(Vmsa, sev_features), self.sev_features),
            (offset_of!(Vmsa, xcr0), self.xcr0),
            // MXCSR 0x1f80; FCW 0x037f (AMD64 APM volume 2, section 11.5).
            (offset_of!(Vmsa, mxcsr), 0x1f80),
            (offset_of!(Vmsa, x87_fcw), 0x037f),
        ]
    }

    /// The VMSA of vCPU `vcpu`.
    #[must_use]
    pub fn vmsa(&self, vcpu: u64) -> Vmsa {
        let mut vmsa = Vmsa::default();
        for (offset, word) in self.words(vcpu) {
            if let Some(bytes) = vmsa.as_mut_bytes().get_mut(offset..offset + 8) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
        vmsa
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_snp::vmsa::Segment;

    const STATE: FirstState = FirstState {
        rip: 0x1111,
        cr3: PhysAddr::from_entry(0x2000),
        cr4: CR4,
        cr2: 0x7000,
        xcr0: XCR0,
        tables: Some(CpuTables {
            gdt: 0x3000,
            idt: 0x4000,
            tss: 0x5000,
        }),
        lstar: 0x6000,
        sev_features: 1,
    };

    #[test]
    fn the_state_is_that_of_long_mode_at_cpl0() {
        let vmsa = STATE.vmsa(3);
        assert_eq!(vmsa.cs, Segment::new(0x08, 0xa9b, u32::MAX, 0));
        assert_eq!(vmsa.ss, Segment::new(0x10, 0xc93, u32::MAX, 0));
        assert_eq!(vmsa.tr, Segment::new(0x28, 0x8b, 103, 0x5000));
        assert_eq!(vmsa.gdtr, Segment::new(0, 0, 39, 0x3000));
        assert_eq!(vmsa.idtr, Segment::new(0, 0, 33 * 16 - 1, 0x4000));
        assert_eq!((vmsa.rip.get(), vmsa.rdi.get(), vmsa.cpl), (0x1111, 3, 0));
        assert_eq!((vmsa.efer.get(), vmsa.cr2.get()), (0x1d01, 0x7000));
        assert_eq!((vmsa.mxcsr.get(), vmsa.x87_fcw.get()), (0x1f80, 0x37f));
        assert_eq!(vmsa.rsp.get(), first_stack_pointer(3));
        assert_eq!(vmsa.rsp.get(), vmsa.kernel_gs_base.get());
        assert_eq!(vmsa.sev_features.get(), 1);
    }

    #[test]
    fn events_cannot_be_taken_without_tables() {
        let vmsa = FirstState {
            tables: None,
            ..STATE
        }
        .vmsa(3);
        assert_eq!(vmsa.tr, Segment::new(0x28, 0x8b, 0, 0));
        for table in [vmsa.gdtr, vmsa.idtr] {
            assert_eq!(table, Segment::new(0, 0, 0, 0));
        }
        assert_eq!((vmsa.rsp.get(), vmsa.kernel_gs_base.get()), (0, 0));
        assert_eq!((vmsa.rip.get(), vmsa.cs.limit.get()), (0x1111, u32::MAX));
    }

    #[test]
    fn events_are_taken_at_the_top_of_their_own_stack() {
        let tss = TaskState::new(2);
        let top = first_stack_pointer(2).to_le_bytes();
        assert_eq!(
            (&tss.as_bytes()[4..12], &tss.as_bytes()[36..44]),
            (&top[..], &top[..])
        );
        assert_eq!(tss.as_bytes()[102..], [104, 0]);
        let set = tss.as_bytes().iter().filter(|&&byte| byte != 0).count();
        assert_eq!(set, 2 * top.iter().filter(|&&byte| byte != 0).count() + 1);
    }
}
