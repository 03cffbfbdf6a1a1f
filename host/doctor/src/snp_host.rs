// SPDX-License-Identifier: Apache-2.0

//! The host settings that most often prevent a CPU with SEV-SNP from running guests: the kernel's build, the IOMMU,
//! the ASIDs for guests, the secure processor's firmware.
//!
//! Reads the kernel's reports; a tenant trusts none of it.

use enarx_vmm::snp::device::CommandError;
use enarx_vmm::snp::firmware::Status;
use enarx_vmm::snp::platform_status::OLDEST_API;

use crate::facts::kernel_release;
use crate::machine::Machine;
use crate::report::{Check, advice, check};

/// The parameter of KVM that says if SEV-SNP is on. A kernel without `CONFIG_KVM_AMD_SEV` does not have it.
const SNP_PARAMETER: &str = "/sys/module/kvm_amd/parameters/sev_snp";
/// The line of a kernel's configuration for this.
const OPTION: &str = "CONFIG_KVM_AMD_SEV";

/// The kernel is built with [`OPTION`].
pub fn kernel_option(machine: &dyn Machine) -> Check {
    let release = kernel_release(machine);
    let files = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ];
    let mut configurations = files.iter().filter_map(|file| machine.read(file).ok());
    let on = |text: String| {
        text.lines()
            .any(|line| line.trim() == "CONFIG_KVM_AMD_SEV=y")
    };
    let (built, found) = if machine.exists(SNP_PARAMETER) {
        (Some(true), "kvm_amd has the parameter sev_snp".to_owned())
    } else {
        match configurations.next().map(on) {
            Some(true) => (Some(true), "the kernel's configuration has it".to_owned()),
            Some(false) => (
                Some(false),
                "the kernel's configuration lacks it".to_owned(),
            ),
            None => (
                None,
                format!(
                    "kvm_amd is not loaded, and there is no {}",
                    files.join(" or ")
                ),
            ),
        }
    };
    let next = match built {
        None => "load kvm_amd, which reports it: sudo modprobe kvm_amd",
        _ => "install a kernel that is built with CONFIG_KVM_AMD_SEV=y, then reboot",
    };
    check(OPTION, built, found, next).required_unless_unknown()
}

/// Settings on the kernel's command line that switch SEV-SNP off: key, value, and how.
const IOMMU_SETTINGS: [(&str, &str, &str); 7] = [
    ("iommu", "pt", PASSTHROUGH),
    ("iommu.passthrough", "1", PASSTHROUGH),
    ("iommu.passthrough", "on", PASSTHROUGH),
    ("iommu.passthrough", "y", PASSTHROUGH),
    ("iommu", "off", OFF),
    ("amd_iommu", "off", OFF),
    ("amd_iommu", "pgtbl_v2", TABLES),
];
const PASSTHROUGH: &str = "which passes DMA through: SEV-SNP stays off then";
const OFF: &str = "which switches the IOMMU off, and SEV-SNP with it";
const TABLES: &str = "which selects version 2 of the IOMMU's page tables: SEV-SNP needs version 1";

/// The IOMMU is on, and in the mode that SEV-SNP needs (Linux `iommu_snp_enable`).
pub fn iommu(machine: &dyn Machine) -> Check {
    const NAME: &str = "IOMMU as SEV-SNP needs it";
    // The kernel checks the IOMMU before it enables SEV-SNP, so its result counts more than ours.
    if machine
        .read(SNP_PARAMETER)
        .is_ok_and(|on| matches!(on.trim(), "Y" | "1"))
    {
        return check(NAME, Some(true), "the kernel has accepted it", "");
    }
    let line = machine.read("/proc/cmdline").unwrap_or_default();
    let has = |(key, value, _): &&(&str, &str, &str)| {
        let mut settings = line
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        settings.any(|(found, values)| found == *key && values.split(',').any(|one| one == *value))
    };
    if let Some((key, value, effect)) = IOMMU_SETTINGS.iter().find(has) {
        return check(
            NAME,
            Some(false),
            format!("the kernel was booted with {key}={value}, {effect}"),
            format!(
                "remove {key}={value} from the kernel's command line, then reboot; `sudo dmesg | grep 'SNP: IOMMU'` must be empty"
            ),
        );
    }
    let identity = machine
        .read("/sys/kernel/iommu_groups/0/type")
        .is_ok_and(|kind| kind.trim() == "identity");
    if identity {
        return check(
            NAME,
            Some(false),
            "the kernel passes DMA through (group 0 is `identity`)",
            "boot with the kernel parameter iommu.passthrough=0; `sudo dmesg | grep 'SNP: IOMMU'` must be empty",
        );
    }
    let there = machine.exists("/sys/class/iommu/ivhd0");
    check(
        NAME,
        Some(there),
        if there {
            "an AMD IOMMU is in use, without pass-through"
        } else {
            "the kernel uses no AMD IOMMU"
        },
        "enable the IOMMU in the firmware's setup, then reboot; `sudo dmesg | grep 'SNP: IOMMU'` says what is wrong",
    )
}

/// There are places for guests: ASIDs below those of plain SEV (AMD64 APM volume 3, E.4.17: ECX and EDX of `leaf`).
pub fn asids(machine: &dyn Machine, leaf: Option<[u32; 4]>) -> Check {
    const NAME: &str = "places for SEV-SNP guests (ASIDs)";
    const RAISE: &str =
        "raise the SEV-ES ASID space limit (also: minimum SEV non-ES ASID) in the firmware's setup";
    let Some([_, _, all, first_plain]) = leaf else {
        return check(NAME, None, "there is no CPUID leaf 0x8000001F", RAISE);
    };
    let own = first_plain.saturating_sub(1);
    let parameter = "/sys/module/kvm_amd/parameters/ciphertext_hiding_asids";
    let hidden: Option<u32> = machine
        .read(parameter)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|count| *count != 0);
    match (own, hidden) {
        (0, _) if all == 0 => check(NAME, Some(false), "the processor has none", RAISE),
        (0, _) => check(
            NAME,
            Some(false),
            format!("all {all} ASIDs are for plain SEV (the first of those is {first_plain})"),
            RAISE,
        ),
        (own, Some(hidden)) => check(
            NAME,
            Some(true),
            format!(
                "{} of {all}: kvm_amd.ciphertext_hiding_asids is {hidden}, and the firmware's setup gives {own}",
                hidden.min(own)
            ),
            "",
        ),
        (own, None) => check(NAME, Some(true), format!("{own} of {all}"), ""),
    }
}

/// The secure processor's firmware is new enough, and initialized.
pub fn firmware(machine: &dyn Machine) -> Check {
    const NAME: &str = "SEV firmware";
    let status = match machine.platform_status() {
        Ok(status) => status,
        Err(CommandError { errno, firmware }) => {
            let answer = if firmware == Status::SUCCESS {
                errno.to_string()
            } else {
                firmware.to_string()
            };
            return advice(check(
                NAME,
                None,
                format!("/dev/sev does not report its status: {answer}"),
                "load kvm_amd, which initializes the firmware; then `sudo dmesg | grep -e ccp -e SEV` says more",
            ));
        }
    };
    if !status.is_new_enough() {
        let (major, minor) = OLDEST_API;
        return check(
            NAME,
            Some(false),
            status.to_string(),
            format!(
                "update the SEV firmware (linux-firmware or the BIOS) to ABI version {major}.{minor} or later"
            ),
        );
    }
    // Some kernels initialize it with the first guest.
    advice(check(
        NAME,
        Some(status.initialized()),
        status.to_string(),
        "unload and load kvm_amd; if a launch fails too, `sudo dmesg | grep -e ccp -e SEV` says why, most often RMP \
        coverage in the firmware's setup",
    ))
}
