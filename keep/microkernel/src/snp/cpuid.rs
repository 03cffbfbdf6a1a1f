// SPDX-License-Identifier: Apache-2.0

//! CPUID from the page that the firmware has checked (56860, CPUID page). The microkernel answers the runtime's
//! CPUID only from it; the host is never asked.

use core::mem::offset_of;

use enarx_snp::cpuid::{CpuidPage, Entry, MAX_ENTRIES};

use crate::fatal::Fatal;
use crate::frame::Frame;
use crate::platform::Platform;
use enarx_boot::first_state::{CR4_SMAP, CR4_SMEP, CR4_UMIP, XCR0_AVX512};
use enarx_exits::{CpuidCheck, Reason};

/// CPU features that the microkernel itself uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The bits of CR4 for SMEP, SMAP and UMIP, as far as the CPU has them.
    pub cr4: u64,
    /// State components for XCR0 beyond x87, SSE and AVX.
    pub xcr0: u64,
}

/// Every CPU with SEV-SNP has these protections; but the firmware accepts a page without them, so a host could take
/// them away. The simulated platform runs on CPUs that do not have them all.
const PROTECTIONS: u64 = CR4_SMEP | CR4_SMAP | CR4_UMIP;
/// RDRAND and XSAVE in leaf 1 ECX.
const LEAF1_NEEDED: u32 = (1 << 30) | (1 << 26);
/// FSGSBASE in leaf 7 EBX.
const LEAF7_NEEDED: u32 = 1 << 0;

/// Registers that CPUID returns: EAX, EBX, ECX, EDX.
pub type Answer = [u32; 4];

/// The halves of the word at `offset` of the page.
fn halves<P: Platform>(platform: &P, page: Frame, offset: usize) -> (u32, u32) {
    let [low, high] = zerocopy::transmute!(platform.read(page.slot(offset as u64 / 8)));
    (low, high)
}

/// True if the function's answer depends on ECX (AMD64 APM volume 3, appendix E; Intel SDM volume
/// 2A, CPUID).
const fn has_subleaves(leaf: u32) -> bool {
    matches!(
        leaf,
        4 | 7
            | 0xb
            | 0xd
            | 0xf
            | 0x10
            | 0x12
            | 0x14
            | 0x17
            | 0x18
            | 0x1d
            | 0x1e
            | 0x1f
            | 0x8000_001d
            | 0x8000_0020
            | 0x8000_0026
    )
}

/// The page's entry for a function; zeros if there is none, as a CPU answers beyond its range.
fn entry<P: Platform>(platform: &P, page: Frame, leaf: u32, subleaf: u32) -> Answer {
    let count = halves(platform, page, 0).0 as usize;
    for index in 0..count.min(MAX_ENTRIES) {
        let at = offset_of!(CpuidPage, table) + index * size_of::<Entry>();
        if halves(platform, page, at) == (leaf, if has_subleaves(leaf) { subleaf } else { 0 }) {
            let (eax, ebx) = halves(platform, page, at + offset_of!(Entry, eax));
            let (ecx, edx) = halves(platform, page, at + offset_of!(Entry, ecx));
            return [eax, ebx, ecx, edx];
        }
    }
    [0; 4]
}

/// Reads from the page the features that the microkernel uses.
///
/// # Errors
/// [`Reason::Cpuid`] with the [`CpuidCheck`] that failed; on the simulated platform the protections may be missing.
pub fn features<P: Platform>(platform: &P, page: Frame) -> Result<Features, Fatal> {
    let check = |number: CpuidCheck, ok: bool| {
        let refused = Fatal::new(Reason::Cpuid, number as u64);
        ok.then_some(()).ok_or(refused)
    };
    let count = halves(platform, page, 0).0 as usize;
    check(CpuidCheck::Count, (1..=MAX_ENTRIES).contains(&count))?;
    let leaf1 = entry(platform, page, 1, 0);
    check(
        CpuidCheck::RandomAndXsave,
        leaf1[2] & LEAF1_NEEDED == LEAF1_NEEDED,
    )?;
    let leaf7 = entry(platform, page, 7, 0);
    check(
        CpuidCheck::Fsgsbase,
        leaf7[1] & LEAF7_NEEDED == LEAF7_NEEDED,
    )?;
    let protection = |register: u32, at: u32, bit: u64| u64::from(register >> at & 1) * bit;
    let cr4 = protection(leaf7[1], 7, CR4_SMEP)
        | protection(leaf7[1], 20, CR4_SMAP)
        | protection(leaf7[2], 2, CR4_UMIP);
    check(
        CpuidCheck::Protections,
        cr4 == PROTECTIONS || cfg!(feature = "simulated"),
    )?;
    let states = entry(platform, page, 0xd, 0);
    let offered = u64::from(states[0]) | (u64::from(states[3]) << 32);
    Ok(Features {
        cr4,
        xcr0: if offered & XCR0_AVX512 == XCR0_AVX512 {
            XCR0_AVX512
        } else {
            0
        },
    })
}

/// Size of the XSAVE area in the standard format for the components of `xcr0` (AMD64 APM volume 2,
/// section 11.5.2), from the components' own entries.
fn save_area<P: Platform>(platform: &P, page: Frame, xcr0: u64) -> u32 {
    /// Legacy area and header.
    const HEADER: u32 = 576;
    (2..63)
        .filter(|&component| xcr0 >> component & 1 == 1)
        .map(|component| {
            let [size, offset, ..] = entry(platform, page, 0xd, component);
            offset.saturating_add(size)
        })
        .fold(HEADER, u32::max)
}

/// Answers CPUID on vCPU `vcpu`, whose XCR0 is `xcr0`.
pub fn answer<P: Platform>(
    platform: &P,
    page: Frame,
    vcpu: u32,
    xcr0: u64,
    leaf: u32,
    subleaf: u32,
) -> Answer {
    /// CR4.OSXSAVE as CPUID shows it.
    const OSXSAVE: u32 = 1 << 27;
    let mut answer = entry(platform, page, leaf, subleaf);
    match (leaf, subleaf) {
        (1, _) => {
            answer[1] = (answer[1] & 0x00ff_ffff) | (vcpu << 24);
            answer[2] |= OSXSAVE;
        }
        (0xb | 0x1f, _) => answer[3] = vcpu,
        (0xd, 0 | 1) => answer[1] = save_area(platform, page, xcr0),
        (0x8000_001e, _) => answer[0] = vcpu,
        _ => {}
    }
    answer
}
