// SPDX-License-Identifier: Apache-2.0

//! The simulated machine: generation, TCB versions, platform bits, CPUID. The host's choice, trusted by nobody.

use enarx_snp::bits::PlatformInfo;
use enarx_snp::cpuid::Entry;
use enarx_snp::product::{BERGAMO_SIENA, CpuSignature, GENOA, Generation, MILAN};
use enarx_snp::report::{FirmwareVersion, MAX_VERSION};
use enarx_snp::tcb::{Component, TcbVersion};
use enarx_snp_authority::KeyKind;

/// TSC_FACTOR: how far the mean frequency lies below the nominal one, in units of 1/100000 (56860, secrets page
/// format); the value of genuine chips.
pub const TSC_FACTOR: u32 = 200;

/// The TCB versions of a report (56860 section 2.2). A real machine has reported ≤ committed ≤ current; a simulated one
/// may disagree with itself, for the tests of verifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcb {
    /// The version that runs.
    pub current: TcbVersion,
    /// The version that cannot be rolled back.
    pub committed: TcbVersion,
    /// The version that ran when the guest was launched.
    pub launch: TcbVersion,
    /// The version that the endorsement key is derived from.
    pub reported: TcbVersion,
}

impl Tcb {
    /// The same version four times.
    pub const fn all(version: TcbVersion) -> Self {
        Self {
            current: version,
            committed: version,
            launch: version,
            reported: version,
        }
    }
}

/// A machine to play.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Generation of the chip.
    pub generation: &'static Generation,
    /// The key that signs reports unless the guest asks for another: [`KeyKind::Vlek`] plays a cloud provider's
    /// machine, which has both, [`KeyKind::Vcek`] one without a VLEK.
    pub key: KeyKind,
    /// TCB versions.
    pub tcb: Tcb,
    /// Version of the firmware, current and committed.
    pub firmware: FirmwareVersion,
    /// Family, model and stepping of the CPU.
    pub cpu: CpuSignature,
    /// Platform information.
    pub platform: PlatformInfo,
    /// Mitigation vectors, at launch and now (report version 5).
    pub mitigations: u64,
    /// Version of the reports, 2 to 5; fields that a version does not have are zero.
    pub report_version: u32,
    /// True if guests with the debug bit in their policy are launched, as genuine firmware does.
    pub allow_debug: bool,
    /// True if the endorsement key is on its issuer's revocation list.
    pub revoked: bool,
    /// True if memory is said to be encrypted with AES-256-XTS.
    pub aes_256_xts: bool,
    /// The CPUs' answers to CPUID; a guest's CPUID page is checked against it. Functions that are not in the list
    /// are answered with zero.
    pub cpuid: Vec<Entry>,
}

impl Settings {
    /// A well-kept machine of this generation: newer than the fixes of EntrySign, RMPocalypse and StackWarp where
    /// there are numbers (AMD-SB-3019, AMD-SB-3020, AMD-SB-3027), and without weaknesses that a report can show. Its
    /// CPUID list is empty.
    pub fn new(generation: &'static Generation) -> Self {
        use Component::{Bootloader, Fmc, Microcode, Snp, Tee};
        // Model and stepping, then boot loader, TEE, SNP and microcode of a patched machine.
        let (model, stepping, versions) = if *generation == MILAN {
            (0x01, 1, [0x04, 0x00, 0x1B, 0xDB])
        } else if *generation == GENOA {
            (0x11, 1, [0x0A, 0x00, 0x1B, 0x56])
        } else if *generation == BERGAMO_SIENA {
            (0xA0, 2, [0x0A, 0x00, 0x1B, 0x1B])
        } else {
            (0x02, 1, [0x01, 0x01, 0x04, 0x51])
        };
        let tcb = [Bootloader, Tee, Snp, Microcode]
            .into_iter()
            .zip(versions)
            .fold(TcbVersion([0; 8]), |tcb, (component, svn)| {
                tcb.with(generation.tcb, component, svn)
            })
            .with(generation.tcb, Fmc, 1);
        Self {
            generation,
            key: KeyKind::Vcek,
            tcb: Tcb::all(tcb),
            firmware: FirmwareVersion {
                build: 10,
                minor: 58,
                major: 1,
                reserved: 0,
            },
            cpu: CpuSignature {
                family: generation.family,
                model,
                stepping,
            },
            platform: PlatformInfo(
                PlatformInfo::SMT_EN.mask()
                    | PlatformInfo::ECC_EN.mask()
                    | PlatformInfo::RAPL_DIS.mask()
                    | PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN.mask()
                    | PlatformInfo::ALIAS_CHECK_COMPLETE.mask()
                    | PlatformInfo::IOMMU_WRITE_SAFE.mask(),
            ),
            mitigations: 0x3F,
            report_version: MAX_VERSION,
            allow_debug: true,
            revoked: false,
            aes_256_xts: true,
            cpuid: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_snp::product::GENERATIONS;

    #[test]
    fn each_machine_is_of_its_generation() {
        for generation in GENERATIONS {
            let settings = Settings::new(generation);
            assert_eq!(settings.cpu.generation(), Some(generation));
            let tcb = settings.tcb.reported;
            assert!(tcb.reserved_is_zero(generation.tcb));
            let snp = tcb.get(generation.tcb, Component::Snp);
            assert_eq!(snp, Some(if generation.name == "turin" { 4 } else { 0x1B }));
        }
    }
}
