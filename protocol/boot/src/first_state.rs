//! The state in which every vCPU begins: long mode, CPL0, interrupts off. As a VMSA it is what the
//! secure processor measures, what the host's KVM is given on every backend, and what the
//! microkernel itself writes for the vCPUs that it starts under SNP.

use core::mem::offset_of;

use enarx_snp::vmsa::Vmsa;
use zerocopy::IntoBytes;

use crate::layout::{KERNEL_STACK, STACK_RECORD, stack_bottom};

/// Distance between the task state segments of two vCPUs.
pub const TSS_STRIDE: u64 = 128;
/// Limit of a task state segment. The I/O map begins beyond it, so CPL3 has no port.
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
/// The page attribute table after reset (AMD64 APM volume 2, section 7.8.1).
const PAT: u64 = 0x0007_0406_0007_0406;

/// What the vCPUs' states are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstState {
    /// First instruction.
    pub rip: u64,
    /// Root page table, with the C-bit where there is one.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// XCR0.
    pub xcr0: u64,
    /// Base of the GDT.
    pub gdt: u64,
    /// Base of the IDT.
    pub idt: u64,
    /// Base of the task state segments, [`TSS_STRIDE`] apart.
    pub tss: u64,
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
const WORDS: usize = 31;

impl FirstState {
    /// The words of the VMSA of vCPU `vcpu` that are not zero, with their offsets.
    #[must_use]
    pub fn words(&self, vcpu: u64) -> [(usize, u64); WORDS] {
        let snp = self.sev_features != 0;
        let [data, _] = segment(0x10, 0xc93, 0xffff_ffff, 0);
        let [code, _] = segment(0x08, 0xa9b, 0xffff_ffff, 0);
        let gdt = segment(0, 0, GDT_LIMIT.into(), self.gdt);
        let idt = segment(0, 0, IDT_LIMIT.into(), self.idt);
        // No descriptor stands behind it: the register is loaded here, never by LTR.
        let tr = segment(0x28, 0x8b, TSS_LIMIT.into(), self.tss + vcpu * TSS_STRIDE);
        let stack = first_stack_pointer(vcpu);
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
            (offset_of!(Vmsa, cr3), self.cr3),
            (offset_of!(Vmsa, cr0), CR0),
            (offset_of!(Vmsa, dr7), 0x400),
            (offset_of!(Vmsa, dr6), 0xffff_0ff0),
            (offset_of!(Vmsa, rflags), 2),
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

    #[test]
    fn the_state_is_that_of_long_mode_at_cpl0() {
        let state = FirstState {
            rip: 0x1111,
            cr3: 0x2000,
            cr4: CR4,
            xcr0: XCR0,
            gdt: 0x3000,
            idt: 0x4000,
            tss: 0x5000,
            lstar: 0x6000,
            sev_features: 1,
        };
        let vmsa = state.vmsa(3);
        assert_eq!(vmsa.cs, Segment::new(0x08, 0xa9b, u32::MAX, 0));
        assert_eq!(vmsa.ss, Segment::new(0x10, 0xc93, u32::MAX, 0));
        assert_eq!(vmsa.tr, Segment::new(0x28, 0x8b, 103, 0x5000 + 3 * 128));
        assert_eq!(vmsa.gdtr, Segment::new(0, 0, 39, 0x3000));
        assert_eq!(vmsa.idtr, Segment::new(0, 0, 33 * 16 - 1, 0x4000));
        assert_eq!((vmsa.rip.get(), vmsa.rdi.get(), vmsa.cpl), (0x1111, 3, 0));
        assert_eq!(vmsa.efer.get(), 0x1d01);
        assert_eq!((vmsa.mxcsr.get(), vmsa.x87_fcw.get()), (0x1f80, 0x37f));
        assert_eq!(vmsa.rsp.get(), vmsa.kernel_gs_base.get());
        assert_eq!(vmsa.sev_features.get(), 1);
    }
}
