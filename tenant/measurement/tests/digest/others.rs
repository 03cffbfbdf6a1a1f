// SPDX-License-Identifier: Apache-2.0

//! `sev` and `sev-snp-measure` on a launch that both can express: normal, zero, secrets, CPUID and VMSA pages.

use std::process::Command;

use enarx_attestation::hex;
use enarx_measurement::launch_digest;
use sev::measurement::snp::{SnpMeasurementArgs, snp_calc_launch_digest};
use sev::measurement::vcpu_types::CpuType;
use sev::measurement::vmsa::{GuestFeatures, VMMType, VMSA};
use zerocopy::IntoBytes;

use crate::firmware;

/// vCPUs, SEV_FEATURES (1: SNP active; 21h: and DebugSwap) and the digest that `sev-snp-measure` 0.0.13 prints for
/// `--mode snp --vcpu-type EPYC-v4 --ovmf IMAGE --vcpus … --guest-features …`; `tests/sev-snp-measure` makes them again.
const SEV_SNP_MEASURE: [(usize, u64, &str); 4] = [
    (
        1,
        0x1,
        "0dc63eb613a675923e8e8d1f12966cc91d73d615a008c2e855e34cef634d8e8d2c96ba98aac9edd7bffdf1d46b3907ed",
    ),
    (
        2,
        0x1,
        "5450604112933258829b2ba59c502c5b9e5355d92708845a1adc1ba08c170f5b44df3eebd22148b9ae8a087048e32fef",
    ),
    (
        4,
        0x21,
        "eff871ff656a0c2c7e4e66883b1c91eec18a5aa4b9d6864c7cfde6b8c4190721970548af0b4077c9c5376650060fff11",
    ),
    (
        64,
        0x1,
        "9a4e37ea18af774e0a1ad0be023a14f9638636fbcf80be4f0d158e523a3960a8db9af1acd0ee873853dcd14295a480f8",
    ),
];

fn digest(vcpus: usize, features: u64) -> String {
    hex::encode(&launch_digest(&firmware::pages(vcpus, features)))
}

fn sev_digest(vcpus: usize, features: u64) -> String {
    let folder = tempfile::tempdir().unwrap();
    let ovmf_file = folder.path().join("firmware");
    std::fs::write(&ovmf_file, firmware::image()).unwrap();
    let arguments = SnpMeasurementArgs {
        vcpus: vcpus.try_into().unwrap(),
        vcpu_type: CpuType::EpycV4,
        ovmf_file,
        guest_features: GuestFeatures(features),
        kernel_file: None,
        initrd_file: None,
        append: None,
        ovmf_hash_str: None,
        vmm_type: Some(VMMType::QEMU),
    };
    snp_calc_launch_digest(arguments).unwrap().get_hex_ld()
}

#[test]
fn the_digest_is_the_one_of_sev_snp_measure() {
    for (vcpus, features, expected) in SEV_SNP_MEASURE {
        assert_eq!(digest(vcpus, features), expected, "{vcpus} {features:#x}");
    }
}

#[test]
fn the_digest_is_the_one_of_the_sev_crate() {
    for vcpus in 1..=64 {
        for features in [0x1, 0x21] {
            assert_eq!(
                digest(vcpus, features),
                sev_digest(vcpus, features),
                "{vcpus} {features:#x}"
            );
        }
    }
}

#[test]
fn the_vmsa_pages_are_those_of_the_sev_crate() {
    for features in [0x1, 0x21] {
        let others = VMSA::new(
            0x0080_b004,
            CpuType::EpycV4,
            VMMType::QEMU,
            None,
            GuestFeatures(features),
        );
        let others = others.pages(2).unwrap();
        for (other, first) in others.iter().zip([true, false]) {
            let ours = firmware::vmsa(first, features);
            assert!(other == ours.as_bytes(), "{features:#x} {first}");
        }
    }
}

/// Run by `tests/sev-snp-measure`, which installs that program.
#[test]
#[ignore = "needs sev-snp-measure: run tests/sev-snp-measure"]
fn sev_snp_measure_still_computes_these_digests() {
    let program = std::env::var_os("SEV_SNP_MEASURE").expect("SEV_SNP_MEASURE names the program");
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("firmware");
    std::fs::write(&image, firmware::image()).unwrap();
    for (vcpus, features, expected) in SEV_SNP_MEASURE {
        let output = Command::new(&program)
            .args(["--mode", "snp", "--vcpu-type", "EPYC-v4"])
            .args(["--vcpus", &vcpus.to_string()])
            .args(["--guest-features", &format!("{features:#x}")])
            .arg("--ovmf")
            .arg(&image)
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.trim(), expected, "{vcpus} {features:#x}");
    }
}
