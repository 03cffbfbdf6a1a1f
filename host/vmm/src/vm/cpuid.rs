// SPDX-License-Identifier: Apache-2.0

//! The CPU that a Keep sees: of the features that KVM supports, only those that a Keep uses. A Keep does not get new
//! features of KVM until they are listed here.

use std::arch::x86_64::{__cpuid, __cpuid_count};

use enarx_boot::first_state::{CR4, CR4_SMAP, CR4_SMEP, CR4_UMIP, XCR0, XCR0_AVX512};
use enarx_snp::cpuid::{CpuidPage, Entry};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;

use crate::error::{KvmError, refused};

/// CPUID, CR4 and XCR0 of the Keep's vCPUs.
#[derive(Clone, Debug)]
pub struct Cpu {
    cpuid: CpuId,
    /// CR4 of every vCPU.
    pub cr4: u64,
    /// XCR0 of every vCPU.
    pub xcr0: u64,
    /// 1 GiB pages work in the guest's page tables.
    pub huge_pages: bool,
}

// Feature bits: AMD64 APM volume 3, appendix E; Intel SDM volume 2A, CPUID.
mod leaf1_ecx {
    pub const XSAVE: u32 = 1 << 26;
    pub const OSXSAVE: u32 = 1 << 27;
    pub const RDRAND: u32 = 1 << 30;
    pub const HYPERVISOR: u32 = 1 << 31;
}
mod leaf7_ebx {
    pub const FSGSBASE: u32 = 1 << 0;
    pub const SMEP: u32 = 1 << 7;
    pub const SMAP: u32 = 1 << 20;
}
/// The function that describes encrypted memory (AMD64 APM volume 3, appendix E.4.17).
const ENCRYPTION: u32 = 0x8000_001f;
const LEAF7_ECX_UMIP: u32 = 1 << 2;
const LEAF80000001_EDX_NX: u32 = 1 << 20;
const LEAF80000001_EDX_PAGE_1GB: u32 = 1 << 26;

/// Features that CPL3 uses without help of a kernel, as (leaf, register, bits): what `kvm_pvm` leaves
/// out of its supported CPUID although CPL3 runs on the CPU itself there. Leaf 1 ECX: SSE3,
/// PCLMULQDQ, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX, F16C, RDRAND. Leaf 7
/// EBX: FSGSBASE, BMI1, AVX2, BMI2, ERMS, AVX-512 F DQ IFMA CD BW VL, RDSEED, ADX, SHA; ECX: VBMI,
/// VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ; EDX: FSRM. Leaf 0x80000001 ECX: LAHF,
/// LZCNT.
const NATIVE_LEAF1_ECX: u32 = 0x76d8_3203;
const NATIVE_LEAF7: [u32; 3] = [0xf02f_0329, 0x0000_5f42, 0x0000_0010];
const NATIVE_LEAF80000001_ECX: u32 = 0x0000_0021;

/// All bits of a register.
const ALL: u32 = u32::MAX;

/// A CPUID function, and the bits of EAX, EBX, ECX and EDX that a Keep sees of each of its sub-leaves.
type Shown = (u32, [u32; 4]);

/// The leaves that a program in a Keep uses: vendor, features, caches, topology, XSAVE, brand, address sizes. The
/// features are those that CPL3 uses without help of a kernel, and those that the microkernel uses. Excluded are:
/// nested virtualization, performance counters, debug store, last branches, processor trace, enclaves, transactions,
/// MONITOR, PCID, x2APIC, APIC deadlines, supervisor state components; KVM's own leaves. Encryption is shown only as
/// [`Cpu::with_encryption`] and [`Cpu::with_own_encryption`] make it. The CPUID page has room for 64 entries, with
/// those of the sub-leaves.
const SHOWN: &[Shown] = &[
    (0, [ALL; 4]),
    (1, [ALL, ALL, LEAF1_ECX, LEAF1_EDX]),
    (2, [ALL; 4]),
    (4, [ALL; 4]),
    // Without EAX, the number of sub-leaves: no feature of another is shown.
    (7, [0, LEAF7[0], LEAF7[1], LEAF7[2]]),
    (0xb, [ALL; 4]),
    (0xd, [ALL; 4]),
    (0x8000_0000, [ALL; 4]),
    (0x8000_0001, [ALL, ALL, LEAF80000001_ECX, LEAF80000001_EDX]),
    (0x8000_0002, [ALL; 4]),
    (0x8000_0003, [ALL; 4]),
    (0x8000_0004, [ALL; 4]),
    (0x8000_0005, [ALL; 4]),
    (0x8000_0006, [ALL; 4]),
    // The time stamps' constant rate.
    (0x8000_0007, [0, 0, 0, 1 << 8]),
    // CLZERO, and FXSAVE of error pointers; numbers of threads and their identifiers.
    (0x8000_0008, [ALL, 1 << 0 | 1 << 2, 0xffff, 0]),
    (0x8000_0019, [ALL; 4]),
    (0x8000_001d, [ALL; 4]),
    (0x8000_001e, [ALL; 4]),
    // Behaviour: no break-points of nested guests, LFENCE that waits, a null selector that clears its base.
    (0x8000_0021, [1 << 0 | 1 << 2 | 1 << 6, 0, 0, 0]),
];

const LEAF1_ECX: u32 =
    NATIVE_LEAF1_ECX | leaf1_ecx::XSAVE | leaf1_ecx::OSXSAVE | leaf1_ecx::HYPERVISOR;
/// FPU to APIC (bits 0 to 9), SYSENTER to PSE36 (11 to 17), CLFLUSH, MMX to HTT (23 to 28).
const LEAF1_EDX: u32 = 0x1f8b_fbff;
const LEAF7: [u32; 3] = [
    NATIVE_LEAF7[0] | leaf7_ebx::FSGSBASE | leaf7_ebx::SMEP | leaf7_ebx::SMAP,
    NATIVE_LEAF7[1] | LEAF7_ECX_UMIP,
    NATIVE_LEAF7[2],
];
/// Besides: legacy topology, SSE4A, misaligned SSE, PREFETCHW, topology extensions.
const LEAF80000001_ECX: u32 = NATIVE_LEAF80000001_ECX | 0x0040_01c2;
/// FPU to APIC (bits 0 to 9), SYSCALL to PSE36 (11 to 17), NX, extended MMX, MMX to fast FXSAVE (23 to 25), 1 GiB
/// pages, RDTSCP, long mode.
const LEAF80000001_EDX: u32 = 0x2fd3_fbff;

/// Caches as descriptors (Intel SDM volume 2A, CPUID, table 3-12): first level of 32 KiB for data and for code, second of
/// 2 MiB, third of 24 MiB. About right, for the thresholds of a C library's copies; function 4 has the truth. The
/// descriptor of today's CPUs, "see function 4", has the C library ask that 40 times when it starts; each time is an exit
/// from the virtual machine, on `kvm_pvm` of 40 µs.
const CACHES: [u32; 4] = [0x0030_2c01, 0x0000_ec7d, 0, 0];

/// Highest standard and extended function that a Keep sees.
const HIGHEST: [u32; 2] = [0xd, 0x8000_0021];

/// XSAVEOPT, XSAVEC and XGETBV of 1: without XSAVES, which is CPL0's (AMD64 APM volume 3, appendix E.3.8).
const XSAVE_FEATURES: u32 = 0b0111;

/// The bits of an entry's registers that a Keep sees; `None` if it sees none.
fn shown(function: u32, index: u32) -> Option<[u32; 4]> {
    let (_, registers) = SHOWN.iter().find(|(known, _)| *known == function)?;
    let [known, ..] = XCR0_KNOWN.to_le_bytes().map(u32::from);
    match (function, index) {
        (7, 1..) => None,
        // State components.
        (0xd, 0) => Some([known, ALL, ALL, 0]),
        (0xd, 1) => Some([XSAVE_FEATURES, ALL, 0, 0]),
        (0xd, 2..) => (XCR0_KNOWN.checked_shr(index).unwrap_or(0) & 1 == 1).then_some([ALL; 4]),
        _ => Some(*registers),
    }
}

/// Reduces a CPU to what a Keep sees of it.
fn show(cpuid: &mut CpuId) {
    cpuid.retain(|entry| shown(entry.function, entry.index).is_some());
    for entry in cpuid.as_mut_slice() {
        let Some([eax, ebx, ecx, edx]) = shown(entry.function, entry.index) else {
            continue;
        };
        entry.eax &= eax;
        entry.ebx &= ebx;
        entry.ecx &= ecx;
        entry.edx &= edx;
        let [standard, extended] = HIGHEST;
        match entry.function {
            0 => entry.eax = entry.eax.min(standard),
            // A CPU without descriptors has zeros.
            2 if entry.eax != 0 => [entry.eax, entry.ebx, entry.ecx, entry.edx] = CACHES,
            0x8000_0000 => entry.eax = entry.eax.min(extended),
            _ => {}
        }
    }
}

/// x87, SSE, AVX, and the three parts of AVX-512 (Intel SDM volume 1, section 13.1).
const XCR0_KNOWN: u64 = XCR0 | XCR0_AVX512;
/// XCR0 with x87 alone, as after reset, and the bytes that XSAVE needs then: legacy area and header
/// (AMD64 APM volume 2, section 11.5.2).
const XCR0_LEGACY: u64 = 1;
const XSAVE_LEGACY: u32 = 576;

/// The entry without what the firmware clears on every host although KVM offers it, because KVM emulates it:
/// `TSC_ADJUST`; `SPEC_CTRL`, STIBP, `ARCH_CAPABILITIES`, SSBD and core capabilities; `VIRT_SSBD`; no serialization by
/// writes of FS and GS base (as QEMU's `snp_` masks in `target/i386/sev.c`). Also OSXSAVE: it mirrors the guest's own
/// bit of CR4, which the microkernel adds.
fn without_unchecked(mut entry: kvm_cpuid_entry2) -> kvm_cpuid_entry2 {
    match (entry.function, entry.index) {
        (1, _) => entry.ecx &= !leaf1_ecx::OSXSAVE,
        (7, 0) => {
            entry.ebx &= !(1 << 1);
            entry.edx &= !(1 << 26 | 1 << 27 | 1 << 29 | 1 << 30 | 1 << 31);
        }
        (0x8000_0008, _) => entry.ebx &= !(1 << 25),
        (0x8000_0021, _) => entry.eax &= !(1 << 9),
        _ => {}
    }
    entry
}

fn add_native(entry: &mut kvm_cpuid_entry2) {
    // CPUID is slow in a virtual machine: asked for these three only.
    let native = || __cpuid_count(entry.function, entry.index);
    match (entry.function, entry.index) {
        (1, _) => entry.ecx |= native().ecx & NATIVE_LEAF1_ECX,
        (7, 0) => {
            let native = native();
            entry.ebx |= native.ebx & NATIVE_LEAF7[0];
            entry.ecx |= native.ecx & NATIVE_LEAF7[1];
            entry.edx |= native.edx & NATIVE_LEAF7[2];
        }
        (0x8000_0001, _) => entry.ecx |= native().ecx & NATIVE_LEAF80000001_ECX,
        _ => {}
    }
}

impl Cpu {
    /// The CPU on this host; `pvm`: SMAP cannot be used there, because CLAC does not work at CPL0.
    ///
    /// # Errors
    /// [`KvmError::Refused`], [`KvmError::Lacks`].
    pub fn new(kvm: &Kvm, pvm: bool) -> Result<Self, KvmError> {
        let mut cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(refused("say which CPU it offers"))?;
        let mut cr4 = CR4;
        let mut xcr0 = 0;
        let mut lacks = Some("RDRAND and XSAVE in the guest's CPU");
        let mut lacks_nx = Some("NX in the guest's CPU");
        let mut huge_pages = false;
        let mut lacks_base = Some("FSGSBASE in the guest's CPU");
        if pvm {
            cpuid.as_mut_slice().iter_mut().for_each(add_native);
        }
        show(&mut cpuid);
        for entry in cpuid.as_mut_slice() {
            match (entry.function, entry.index) {
                (1, _) => {
                    use leaf1_ecx::{OSXSAVE, RDRAND, XSAVE};
                    if entry.ecx & (RDRAND | XSAVE) == RDRAND | XSAVE {
                        entry.ecx |= OSXSAVE;
                        lacks = None;
                    }
                }
                (7, 0) => {
                    if pvm {
                        entry.ebx &= !leaf7_ebx::SMAP;
                    }
                    if entry.ebx & leaf7_ebx::FSGSBASE != 0 {
                        lacks_base = None;
                    }
                    if entry.ebx & leaf7_ebx::SMEP != 0 {
                        cr4 |= CR4_SMEP;
                    }
                    if entry.ebx & leaf7_ebx::SMAP != 0 {
                        cr4 |= CR4_SMAP;
                    }
                    if entry.ecx & LEAF7_ECX_UMIP != 0 {
                        cr4 |= CR4_UMIP;
                    }
                }
                (0xd, 0) => {
                    xcr0 = (u64::from(entry.eax) | (u64::from(entry.edx) << 32)) & XCR0_KNOWN;
                    if xcr0 & XCR0_AVX512 != XCR0_AVX512 {
                        xcr0 &= !XCR0_AVX512;
                    }
                }
                (0x8000_0001, _) => {
                    huge_pages = entry.edx & LEAF80000001_EDX_PAGE_1GB != 0;
                    if entry.edx & LEAF80000001_EDX_NX != 0 {
                        lacks_nx = None;
                    }
                }
                _ => {}
            }
        }
        if let Some(lacks) = lacks.or(lacks_base).or(lacks_nx) {
            return Err(KvmError::Lacks(lacks));
        }
        Ok(Self {
            cpuid,
            cr4,
            xcr0,
            huge_pages,
        })
    }

    /// Shows encrypted memory as on the simulated platform: the C-bit, and physical addresses that include it.
    pub fn with_encryption(&mut self, c_bit: u32) {
        for entry in self.cpuid.as_mut_slice() {
            if entry.function == 0x8000_0008 {
                entry.eax = (entry.eax & !0xff) | (c_bit + 1);
            }
        }
        self.set_encryption(c_bit | (1 << 6));
    }

    /// Shows encrypted memory as on this processor; returns the number of its C-bit.
    pub fn with_own_encryption(&mut self) -> u32 {
        let own = __cpuid(ENCRYPTION).ebx;
        // The C-bit, and by how many bits it makes physical addresses shorter.
        self.set_encryption(own & 0xfff);
        own & 0x3f
    }

    /// SEV, SEV-ES and SEV-SNP, with this EBX.
    fn set_encryption(&mut self, ebx: u32) {
        let mut entries: Vec<kvm_cpuid_entry2> = self.cpuid.as_slice().to_vec();
        entries.retain(|entry| entry.function != ENCRYPTION);
        for entry in &mut entries {
            if entry.function == 0x8000_0000 {
                entry.eax = entry.eax.max(ENCRYPTION);
            }
        }
        entries.push(kvm_cpuid_entry2 {
            function: ENCRYPTION,
            eax: (1 << 1) | (1 << 3) | (1 << 4),
            ebx,
            ..kvm_cpuid_entry2::default()
        });
        // There was room for one more: KVM fills less than it can take.
        if let Ok(cpuid) = CpuId::from_entries(&entries) {
            self.cpuid = cpuid;
        }
    }

    /// The CPUID page for the secure processor.
    ///
    /// # Errors
    /// [`KvmError::CpuidPage`] if there are more entries than it has room for.
    pub fn page(&self) -> Result<CpuidPage, KvmError> {
        let mut page = CpuidPage::default();
        for entry in self.cpuid.as_slice() {
            let entry = without_unchecked(*entry);
            let registers = [entry.eax, entry.ebx, entry.ecx, entry.edx];
            if registers == [0; 4] {
                continue;
            }
            // The size of the XSAVE area depends on XCR0: the page has that after reset, and the guest
            // computes that of its own XCR0 from the components' sub-leaves.
            let sized = entry.function == 0xd && entry.index < 2;
            let (xcr0, ebx) = if sized {
                (XCR0_LEGACY, XSAVE_LEGACY)
            } else {
                (0, registers[1])
            };
            let described = Entry {
                eax_in: entry.function.into(),
                ecx_in: entry.index.into(),
                xcr0_in: xcr0.into(),
                xss_in: 0.into(),
                eax: registers[0].into(),
                ebx: ebx.into(),
                ecx: registers[2].into(),
                edx: registers[3].into(),
                reserved: 0.into(),
            };
            page.push(described)
                .map_err(|_| KvmError::CpuidPage(entry.function))?;
        }
        Ok(page)
    }

    /// CPUID of one vCPU: with its own APIC id.
    pub fn cpuid(&self, vcpu: u32) -> CpuId {
        let mut cpuid = self.cpuid.clone();
        for entry in cpuid.as_mut_slice() {
            match entry.function {
                1 => entry.ebx = (entry.ebx & 0x00ff_ffff) | (vcpu << 24),
                0xb => entry.edx = vcpu,
                0x8000_001e => entry.eax = vcpu,
                _ => {}
            }
        }
        cpuid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::is_pvm;

    #[test]
    fn a_full_page_is_an_error_and_emulated_bits_are_left_out() {
        let entry = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
            ..kvm_cpuid_entry2::default()
        };
        let cpu = |entries: &[kvm_cpuid_entry2]| Cpu {
            cpuid: CpuId::from_entries(entries).unwrap(),
            cr4: 0,
            xcr0: 0,
            huge_pages: false,
        };
        let many: Vec<_> = (0..65).map(|index| entry(4, index)).collect();
        assert!(cpu(&many[..64]).page().is_ok());
        assert!(matches!(cpu(&many).page(), Err(KvmError::CpuidPage(4))));

        let masked = [1, 7, 0x8000_0008, 0x8000_0021].map(|function| entry(function, 0));
        let page = cpu(&masked).page().unwrap();
        let [first, seventh, sizes, second] = page.entries() else {
            panic!("four entries");
        };
        assert_eq!(first.ecx.get(), !(1 << 27));
        assert_eq!((seventh.ebx.get(), seventh.edx.get()), (!2, 0x13ff_ffff));
        assert_eq!((sizes.ebx.get(), second.eax.get()), (!(1 << 25), !(1 << 9)));
    }

    #[test]
    fn the_page_shows_encryption_and_the_save_area_of_a_reset_cpu() {
        enarx_harness::needs::kvm();
        let kvm = Kvm::new().unwrap();
        let mut cpu = Cpu::new(&kvm, is_pvm()).unwrap();
        let c_bit = cpu.with_own_encryption();
        let found = |leaf, subleaf| {
            let page = cpu.page().unwrap();
            let mut entries = page.entries().iter().copied();
            entries.find(|entry| (entry.eax_in.get(), entry.ecx_in.get()) == (leaf, subleaf))
        };
        let encryption = found(ENCRYPTION, 0).unwrap();
        assert_eq!(encryption.eax.get(), 0b1_1010);
        assert_eq!(encryption.ebx.get() & 0x3f, c_bit);
        let highest = found(0x8000_0000, 0).unwrap().eax.get();
        assert!(highest >= ENCRYPTION);
        // KVM of the kind `kvm_pvm` has no second sub-leaf.
        assert!(found(0xd, 0).is_some());
        for save in [0, 1].into_iter().filter_map(|subleaf| found(0xd, subleaf)) {
            assert_eq!((save.xcr0_in.get(), save.ebx.get()), (1, 576));
        }
        let avx = found(0xd, 2).unwrap();
        assert_eq!((avx.xcr0_in.get(), avx.ebx.get()), (0, 576));
    }

    /// A CPU that has everything.
    fn everything() -> CpuId {
        let functions = (0..0x20)
            .chain(0x4000_0000..0x4000_0010)
            .chain(0x8000_0000..0x8000_0030);
        let entries: Vec<_> = functions
            .flat_map(|function| {
                (0..if function == 0xd { 20 } else { 2 }).map(move |index| (function, index))
            })
            .map(|(function, index)| kvm_cpuid_entry2 {
                function,
                index,
                eax: ALL,
                ebx: ALL,
                ecx: ALL,
                edx: ALL,
                ..kvm_cpuid_entry2::default()
            })
            .collect();
        CpuId::from_entries(&entries).unwrap()
    }

    #[test]
    fn a_guest_sees_no_feature_that_exposes_more_of_the_host_kernel() {
        let mut cpuid = everything();
        show(&mut cpuid);
        let register = |function, index, register: usize| {
            let mut entries = cpuid.as_slice().iter();
            let entry = entries.find(|entry| (entry.function, entry.index) == (function, index));
            entry.map_or(0, |entry| {
                [entry.eax, entry.ebx, entry.ecx, entry.edx][register]
            })
        };
        let [eax, ebx, ecx, edx] = [0, 1, 2, 3];
        // Function, register and bit of: VMX, SVM, SKINIT; debug store, PDCM; MONITOR, MWAITX; x2APIC, deadlines;
        // SGX, HLE, RTM, processor trace, PKU, LA57, ENQCMD, last branches, AMX; IBS, counters of core, north bridge
        // and cache; XSAVES.
        for (function, index, at, bit) in [
            (1, 0, ecx, 5),
            (0x8000_0001, 0, ecx, 2),
            (0x8000_0001, 0, ecx, 12),
            (1, 0, ecx, 2),
            (1, 0, edx, 21),
            (1, 0, ecx, 15),
            (1, 0, ecx, 3),
            (0x8000_0001, 0, ecx, 29),
            (1, 0, ecx, 21),
            (1, 0, ecx, 24),
            (7, 0, ebx, 2),
            (7, 0, ebx, 4),
            (7, 0, ebx, 11),
            (7, 0, ebx, 25),
            (7, 0, ecx, 3),
            (7, 0, ecx, 16),
            (7, 0, ecx, 29),
            (7, 0, edx, 19),
            (7, 0, edx, 24),
            (0x8000_0001, 0, ecx, 10),
            (0x8000_0001, 0, ecx, 23),
            (0x8000_0001, 0, ecx, 24),
            (0x8000_0001, 0, ecx, 28),
            (0xd, 1, eax, 3),
        ] {
            assert_eq!(
                register(function, index, at) >> bit & 1,
                0,
                "{function:x} {at} {bit}"
            );
        }
        // Counters of both vendors, enclaves, trace, AMX, KVM's functions, nested SVM and IBS, encryption of the host's.
        for function in [
            0xa,
            0x12,
            0x14,
            0x1c,
            0x1d,
            0x1e,
            0x4000_0000,
            0x4000_0001,
            0x8000_000a,
            0x8000_001b,
            ENCRYPTION,
            0x8000_0022,
        ] {
            assert!(
                cpuid
                    .as_slice()
                    .iter()
                    .all(|entry| entry.function != function),
                "{function:x}"
            );
        }
        assert!(register(0, 0, eax) < 0xe && register(0x8000_0000, 0, eax) < 0x8000_0022);
        assert_eq!([0, 1, 2, 3].map(|at| register(2, 0, at)), CACHES);
        // State components: XCR0's of this file, and none of a supervisor's.
        assert_eq!(
            (u64::from(register(0xd, 0, eax)), register(0xd, 0, edx)),
            (XCR0_KNOWN, 0)
        );
        let components: Vec<_> = cpuid
            .as_slice()
            .iter()
            .filter(|entry| entry.function == 0xd)
            .collect();
        let components: Vec<_> = components.iter().map(|entry| entry.index).collect();
        assert_eq!(components, [0, 1, 2, 5, 6, 7]);
        // And it sees the features that it needs.
        assert_ne!(
            register(1, 0, ecx) & (leaf1_ecx::XSAVE | leaf1_ecx::RDRAND),
            0
        );
        assert_eq!(register(7, 0, ebx) & NATIVE_LEAF7[0], NATIVE_LEAF7[0]);
    }
}
