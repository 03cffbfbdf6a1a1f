// SPDX-License-Identifier: Apache-2.0

//! A vCPU's first registers, taken from the page that is measured for it; on the platforms that
//! measure nothing, from a page of the same form.
//!
//! KVM builds that page (the VMSA) itself at the end of the launch, from the registers it was
//! given. They are taken from the listed page, and a page that KVM would build differently is
//! refused here, before the processor measures something that no tenant expects.
#![forbid(unsafe_code)]

use enarx_boot::first_state::{CR4_MCE, EFER_SVME};
use enarx_snp::vmsa::{Segment, Vmsa};
use kvm_bindings::{CpuId, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use rustix::io::Errno;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

/// DR6 after reset (APM2, section 13.1.1.3).
const DR6: u64 = 0xffff_0ff0;
/// DR7 after reset (APM2, section 13.1.1.4).
const DR7: u64 = 0x400;
/// MXCSR after reset (APM2, section 11.5.3).
const MXCSR: u32 = 0x1f80;
/// x87 control word of KVM's first FPU state (Linux `fpstate_init_fxstate`).
const X87_FCW: u16 = 0x37f;

/// Model-specific registers that are part of the page (APM2, appendix A).
mod msr {
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
    pub const PAT: u32 = 0x277;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
}

/// A vCPU before it runs.
pub trait NewVcpu {
    /// `KVM_SET_CPUID2`.
    ///
    /// # Errors
    /// The kernel's.
    fn set_cpuid(&mut self, cpuid: &CpuId) -> Result<(), Errno>;

    /// `KVM_GET_SREGS`.
    ///
    /// # Errors
    /// The kernel's.
    fn sregs(&self) -> Result<kvm_sregs, Errno>;

    /// `KVM_SET_SREGS`.
    ///
    /// # Errors
    /// The kernel's.
    fn set_sregs(&mut self, sregs: &kvm_sregs) -> Result<(), Errno>;

    /// `KVM_SET_XCRS` with XCR0 alone.
    ///
    /// # Errors
    /// The kernel's.
    fn set_xcr0(&mut self, xcr0: u64) -> Result<(), Errno>;

    /// `KVM_SET_MSRS`; the number of MSRs that were set before KVM refused one.
    ///
    /// # Errors
    /// The kernel's.
    fn set_msrs(&mut self, msrs: &[(u32, u64)]) -> Result<usize, Errno>;

    /// `KVM_SET_REGS`.
    ///
    /// # Errors
    /// The kernel's.
    fn set_regs(&mut self, regs: &kvm_regs) -> Result<(), Errno>;
}

/// A page that KVM would not build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "KVM's initial state of vCPU {vcpu} differs from the one that the launch measures (page offset {offset:#x}); this \
    is a defect of the launch plan, please report it"
)]
pub struct StateError {
    /// The vCPU.
    pub vcpu: u32,
    /// Offset of the first byte that differs (APM2 table B-4).
    pub offset: usize,
}

/// Why a vCPU could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    /// KVM refused a step.
    #[error(
        "KVM refused to {step} of vCPU {vcpu}: {errno}; `enarx doctor` says what this host offers"
    )]
    Refused {
        /// The step that was tried.
        step: &'static str,
        /// The vCPU.
        vcpu: u32,
        /// KVM's answer.
        errno: Errno,
    },
    /// KVM refused an MSR.
    #[error("KVM refused MSR {msr:#x} of vCPU {vcpu}; use Linux's own KVM")]
    Msr {
        /// The vCPU.
        vcpu: u32,
        /// The register.
        msr: u32,
    },
}

fn refused(vcpu: u32, step: &'static str) -> impl FnOnce(Errno) -> VcpuError {
    move |errno| VcpuError::Refused { step, vcpu, errno }
}

/// The registers that KVM is given for one vCPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Registers {
    /// Control registers and segments; `apic_base`, which is not in the page, is KVM's.
    sregs: kvm_sregs,
    xcr0: u64,
    msrs: [(u32, u64); 9],
    regs: kvm_regs,
}

/// A segment register in KVM's form.
fn segment(segment: &Segment) -> kvm_segment {
    let bits = |low: u32, count: u32| {
        let mask = (1u16 << count) - 1;
        // At most four bits are asked for.
        u8::try_from(segment.attributes.get() >> low & mask).unwrap_or(0)
    };
    kvm_segment {
        base: segment.base.get(),
        limit: segment.limit.get(),
        selector: segment.selector.get(),
        type_: bits(0, 4),
        s: bits(4, 1),
        dpl: bits(5, 2),
        present: bits(7, 1),
        avl: bits(8, 1),
        l: bits(9, 1),
        db: bits(10, 1),
        g: bits(11, 1),
        unusable: 1 - bits(7, 1),
        padding: 0,
    }
}

/// A segment register as KVM puts it into the page (Linux `svm_set_segment`).
fn packed(segment: &kvm_segment) -> Segment {
    let bit = |value: u8, at: u32| u16::from(value) << at;
    let attributes = bit(segment.type_, 0)
        | bit(segment.s, 4)
        | bit(segment.dpl, 5)
        | bit(segment.present & (1 - segment.unusable), 7)
        | bit(segment.avl, 8)
        | bit(segment.l, 9)
        | bit(segment.db, 10)
        | bit(segment.g, 11);
    Segment::new(segment.selector, attributes, segment.limit, segment.base)
}

fn table(segment: &Segment) -> kvm_dtable {
    kvm_dtable {
        base: segment.base.get(),
        // A longer limit is found by the comparison with the page.
        limit: u16::try_from(segment.limit.get()).unwrap_or(u16::MAX),
        padding: [0; 3],
    }
}

impl Registers {
    /// The registers in a listed page, for a launch with these `SEV_FEATURES` (the active bit
    /// among them).
    ///
    /// # Errors
    /// [`StateError`] when KVM would build another page from them.
    pub fn from_page(vcpu: u32, page: &[u8; 4096], features: u64) -> Result<Self, StateError> {
        let vmsa: Vmsa = zerocopy::transmute!(*page);
        let registers = Self::of(&vmsa);
        let built = registers.vmsa(features);
        match built
            .as_bytes()
            .iter()
            .zip(page)
            .position(|(built, listed)| built != listed)
        {
            Some(offset) => Err(StateError { vcpu, offset }),
            None => Ok(registers),
        }
    }

    /// The registers in a VMSA page, as far as KVM accepts them.
    pub fn of(vmsa: &Vmsa) -> Self {
        let [r8, r9, r10, r11, r12, r13, r14, r15] = vmsa.r8_to_r15.map(U64::get);
        Self {
            sregs: kvm_sregs {
                cs: segment(&vmsa.cs),
                ds: segment(&vmsa.ds),
                es: segment(&vmsa.es),
                fs: segment(&vmsa.fs),
                gs: segment(&vmsa.gs),
                ss: segment(&vmsa.ss),
                tr: segment(&vmsa.tr),
                ldt: segment(&vmsa.ldtr),
                gdt: table(&vmsa.gdtr),
                idt: table(&vmsa.idtr),
                cr0: vmsa.cr0.get(),
                cr2: vmsa.cr2.get(),
                cr3: vmsa.cr3.get(),
                cr4: vmsa.cr4.get(),
                efer: vmsa.efer.get() & !EFER_SVME,
                ..kvm_sregs::default()
            },
            xcr0: vmsa.xcr0.get(),
            msrs: [
                (msr::STAR, vmsa.star.get()),
                (msr::LSTAR, vmsa.lstar.get()),
                (msr::CSTAR, vmsa.cstar.get()),
                (msr::SFMASK, vmsa.sfmask.get()),
                (msr::KERNEL_GS_BASE, vmsa.kernel_gs_base.get()),
                (msr::SYSENTER_CS, vmsa.sysenter_cs.get()),
                (msr::SYSENTER_ESP, vmsa.sysenter_esp.get()),
                (msr::SYSENTER_EIP, vmsa.sysenter_eip.get()),
                (msr::PAT, vmsa.g_pat.get()),
            ],
            regs: kvm_regs {
                rax: vmsa.rax.get(),
                rbx: vmsa.rbx.get(),
                rcx: vmsa.rcx.get(),
                rdx: vmsa.rdx.get(),
                rsi: vmsa.rsi.get(),
                rdi: vmsa.rdi.get(),
                rsp: vmsa.rsp.get(),
                rbp: vmsa.rbp.get(),
                r8,
                r9,
                r10,
                r11,
                r12,
                r13,
                r14,
                r15,
                rip: vmsa.rip.get(),
                rflags: vmsa.rflags.get(),
            },
        }
    }

    /// The page that KVM builds (Linux `sev_es_sync_vmsa`); everything that is not set here is
    /// zero in it.
    fn vmsa(&self, features: u64) -> Vmsa {
        let Self {
            sregs,
            xcr0,
            msrs,
            regs,
        } = self;
        let table = |table: &kvm_dtable| Segment::new(0, 0, table.limit.into(), table.base);
        let [
            star,
            lstar,
            cstar,
            sfmask,
            kernel_gs_base,
            sysenter_cs,
            sysenter_esp,
            sysenter_eip,
            g_pat,
        ] = msrs.map(|(_, value)| value.into());
        let r8_to_r15 = [
            regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ];
        Vmsa {
            es: packed(&sregs.es),
            cs: packed(&sregs.cs),
            ss: packed(&sregs.ss),
            ds: packed(&sregs.ds),
            fs: packed(&sregs.fs),
            gs: packed(&sregs.gs),
            gdtr: table(&sregs.gdt),
            ldtr: packed(&sregs.ldt),
            idtr: table(&sregs.idt),
            tr: packed(&sregs.tr),
            cpl: sregs.ss.dpl,
            // KVM adds both (Linux `svm_set_efer`, `svm_set_cr4`).
            efer: (sregs.efer | EFER_SVME).into(),
            cr4: (sregs.cr4 | CR4_MCE).into(),
            cr3: sregs.cr3.into(),
            cr0: sregs.cr0.into(),
            dr7: DR7.into(),
            dr6: DR6.into(),
            rflags: regs.rflags.into(),
            rip: regs.rip.into(),
            rsp: regs.rsp.into(),
            rax: regs.rax.into(),
            star,
            lstar,
            cstar,
            sfmask,
            kernel_gs_base,
            sysenter_cs,
            sysenter_esp,
            sysenter_eip,
            g_pat,
            rcx: regs.rcx.into(),
            rdx: regs.rdx.into(),
            rbx: regs.rbx.into(),
            rbp: regs.rbp.into(),
            rsi: regs.rsi.into(),
            rdi: regs.rdi.into(),
            r8_to_r15: r8_to_r15.map(Into::into),
            sev_features: features.into(),
            xcr0: (*xcr0).into(),
            mxcsr: MXCSR.into(),
            x87_fcw: X87_FCW.into(),
            ..Vmsa::default()
        }
    }

    /// Gives them to a vCPU; CPUID first: it decides which bits of CR3 and CR4 exist.
    ///
    /// # Errors
    /// [`VcpuError`].
    pub fn apply<V: NewVcpu>(&self, id: u32, vcpu: &mut V, cpuid: &CpuId) -> Result<(), VcpuError> {
        let refused = |step| refused(id, step);
        vcpu.set_cpuid(cpuid).map_err(refused("set the CPUID"))?;
        let apic_base = vcpu
            .sregs()
            .map_err(refused("read the registers"))?
            .apic_base;
        let sregs = kvm_sregs {
            apic_base,
            ..self.sregs
        };
        vcpu.set_sregs(&sregs)
            .map_err(refused("set the control registers"))?;
        vcpu.set_xcr0(self.xcr0).map_err(refused("set XCR0"))?;
        set_msrs(id, vcpu, &self.msrs)?;
        vcpu.set_regs(&self.regs)
            .map_err(refused("set the registers"))
    }
}

/// Sets model-specific registers.
///
/// # Errors
/// [`VcpuError`], also when KVM takes only some of them.
pub fn set_msrs<V: NewVcpu>(id: u32, vcpu: &mut V, msrs: &[(u32, u64)]) -> Result<(), VcpuError> {
    let set = vcpu.set_msrs(msrs).map_err(refused(id, "set the MSRs"))?;
    match msrs.get(set) {
        Some(&(msr, _)) => Err(VcpuError::Msr { vcpu: id, msr }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state that KVM reproduces, with a distinct value in every register.
    fn state() -> Vmsa {
        let data = Segment::new(0x10, 0xc93, 0xffff_ffff, 0);
        Vmsa {
            cs: Segment::new(0x08, 0xa9b, 0xffff_ffff, 0),
            ss: data,
            ds: data,
            es: data,
            fs: Segment::new(0x10, 0xc93, 0xffff_ffff, 0x1111),
            gs: Segment::new(0x10, 0xc93, 0xffff_ffff, 0x2222),
            gdtr: Segment::new(0, 0, 39, 0x3333),
            ldtr: Segment::new(0, 0, 0, 0),
            idtr: Segment::new(0, 0, 0xfff, 0x4444),
            tr: Segment::new(0x28, 0x8b, 103, 0x5555),
            efer: 0x1d01.into(),
            cr0: 0x8005_0033.into(),
            cr3: (1 << 51 | 0x6000).into(),
            cr4: 0x5_06e0.into(),
            dr6: 0xffff_0ff0.into(),
            dr7: 0x400.into(),
            rflags: 2.into(),
            rip: 0x1.into(),
            rsp: 0x2.into(),
            rax: 0x3.into(),
            rbx: 0x4.into(),
            rcx: 0x5.into(),
            rdx: 0x6.into(),
            rbp: 0x7.into(),
            rsi: 0x8.into(),
            rdi: 0x9.into(),
            r8_to_r15: [10, 11, 12, 13, 14, 15, 16, 17].map(Into::into),
            star: 0x21.into(),
            lstar: 0x22.into(),
            cstar: 0x23.into(),
            sfmask: 0x24.into(),
            kernel_gs_base: 0x25.into(),
            sysenter_cs: 0x26.into(),
            sysenter_esp: 0x27.into(),
            sysenter_eip: 0x28.into(),
            g_pat: 0x0007_0406_0007_0406.into(),
            sev_features: 1.into(),
            xcr0: 7.into(),
            mxcsr: 0x1f80.into(),
            x87_fcw: 0x37f.into(),
            ..Vmsa::default()
        }
    }

    fn page(vmsa: &Vmsa) -> [u8; 4096] {
        zerocopy::transmute!(*vmsa)
    }

    #[test]
    fn a_state_that_kvm_supports_is_converted() {
        let registers = Registers::from_page(3, &page(&state()), 1).unwrap();
        assert_eq!(registers.sregs.efer, 0xd01);
        assert_eq!(registers.sregs.cr3, 1 << 51 | 0x6000);
        let cs = registers.sregs.cs;
        assert_eq!((cs.l, cs.db, cs.present, cs.type_), (1, 0, 1, 0xb));
        assert_eq!(registers.sregs.ldt.unusable, 1);
        assert_eq!((registers.regs.r8, registers.regs.r15), (10, 17));
        assert_eq!(registers.msrs[1], (0xc000_0082, 0x22));
        assert_eq!(registers.msrs[8], (0x277, 0x0007_0406_0007_0406));
    }

    #[test]
    fn a_field_that_kvm_cannot_reproduce_is_named_by_its_offset() {
        for (offset, change) in [
            (
                0x003,
                (|vmsa| vmsa.es.attributes.set(0x1c93)) as fn(&mut Vmsa),
            ),
            (0x060, |vmsa| vmsa.gdtr.selector.set(8)),
            (0x064, |vmsa| vmsa.gdtr.limit.set(0x1_0027)),
            (0x0ca, |vmsa| vmsa.vmpl = 1),
            (0x0cb, |vmsa| vmsa.cpl = 3),
            (0x0d1, |vmsa| vmsa.efer.set(0xd01)),
            (0x140, |vmsa| vmsa.xss.set(1)),
            (0x148, |vmsa| vmsa.cr4.set(0x5_06a0)),
            (0x161, |vmsa| vmsa.dr7.set(0)),
            (0x240, |vmsa| vmsa.cr2.set(1)),
            (0x3b0, |vmsa| vmsa.sev_features.set(3)),
            (0x40a, |vmsa| vmsa.mxcsr.set(0x1_1f80)),
            (0xfff, |vmsa| vmsa.reserved_670[2447] = 1),
        ] {
            let mut vmsa = state();
            change(&mut vmsa);
            assert_eq!(
                Registers::from_page(1, &page(&vmsa), 1),
                Err(StateError { vcpu: 1, offset })
            );
        }
        // The features are those of the launch.
        assert_eq!(
            Registers::from_page(0, &page(&state()), 0x21)
                .unwrap_err()
                .offset,
            0x3b0
        );
    }
}
