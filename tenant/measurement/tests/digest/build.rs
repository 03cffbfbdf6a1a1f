// SPDX-License-Identifier: Apache-2.0

//! Measuring a build: the built microkernels and loader, and a program instead of the runtime.

use enarx_attestation::hex::Hex;
use enarx_attestation::reference::PlatformKind;
use enarx_attestation::{Endorsements, Expected, Policy, Timestamp, Verifier};
use enarx_boot_image::{LOADER, MICROKERNEL, MICROKERNEL_SIMULATED};
use enarx_launch::Runtime;
use enarx_launch::measured::{C_BIT, Images, Parameters, SIMULATED_C_BIT, launch};
use enarx_launch::variant::{Property, Variant};
use enarx_measurement::{
    Build, Layer, Manifest, Measurement, PrivateKey, Release, SEED_LEN, launch_digest, sign, verify,
};
use enarx_snp::launch::PageType;
use enarx_snp::product::MILAN;
use enarx_snp::report::{REPORT_LEN, Report};
use zerocopy::{FromBytes, IntoBytes};

use crate::program::runtime;

const NOW: Timestamp = Timestamp(1_800_000_000);

fn build(runtime: &[u8]) -> Build<'_> {
    Build {
        version: "0.8.0",
        vmm: b"vmm",
        microkernel: MICROKERNEL,
        microkernel_simulated: MICROKERNEL_SIMULATED,
        loader: LOADER,
        runtime: Runtime::of(runtime),
    }
}

fn digest(measurement: &Measurement, platform: PlatformKind, vcpus: u32) -> Hex<48> {
    let mut found = measurement
        .launches
        .iter()
        .filter(|l| l.launch.platform == platform && l.launch.vcpus == vcpus);
    let digest = found.next().unwrap().launch.digest;
    assert!(found.next().is_none());
    digest
}

#[test]
fn every_number_of_vcpus_has_the_digest_of_its_launch() {
    let runtime = runtime(1);
    let measurement = Measurement::of(&build(&runtime)).unwrap();
    assert_eq!(measurement.launches.len(), 128);
    for (platform, microkernel, c_bit) in [
        (PlatformKind::Snp, MICROKERNEL, C_BIT),
        (
            PlatformKind::Simulated,
            MICROKERNEL_SIMULATED,
            SIMULATED_C_BIT,
        ),
    ] {
        let images = Images {
            microkernel,
            loader: LOADER,
            runtime: Runtime::of(&runtime),
        };
        for vcpus in 1..=64 {
            let parameters = Parameters {
                vcpus,
                c_bit,
                fault_addresses: false,
                variant: Variant::PLAIN,
            };
            let pages = launch(&images, &parameters).unwrap().pages;
            let expected = Hex(launch_digest(&pages));
            assert_eq!(digest(&measurement, platform, vcpus), expected, "{vcpus}");
        }
    }
    let mut digests: Vec<_> = measurement
        .launches
        .iter()
        .map(|l| l.launch.digest)
        .collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 128, "two launches have one digest");
}

#[test]
fn sev_features_are_measured_and_the_guest_policy_is_not() {
    let runtime = runtime(1);
    let digests = |name| {
        let variant = Variant::PLAIN.with(Property::named(name).unwrap(), true);
        let measurement = Measurement::of_variant(&build(&runtime), variant, false).unwrap();
        [PlatformKind::Snp, PlatformKind::Simulated]
            .map(|platform| digest(&measurement, platform, 4))
    };
    let plain = digests("smt");
    let swapped = digests("debug-swap");
    assert!(plain.iter().all(|digest| !swapped.contains(digest)));
    for name in ["single-socket", "ciphertext-hiding", "page-swap-disabled"] {
        assert_eq!(digests(name), plain, "{name}");
    }
}

#[test]
fn a_measurement_lists_layers_and_pages() {
    let runtime = runtime(1);
    let measurement = Measurement::of(&build(&runtime)).unwrap();
    assert_eq!(measurement.layers.vmm, Layer::of(b"vmm"));
    assert_eq!(measurement.layers.runtime, Layer::of(&runtime));
    assert_eq!(measurement.layers.loader.size, LOADER.len() as u64);
    let images = Images {
        microkernel: MICROKERNEL,
        loader: LOADER,
        runtime: Runtime::of(&runtime),
    };
    let parameters = Parameters {
        vcpus: 4,
        c_bit: C_BIT,
        fault_addresses: false,
        variant: Variant::PLAIN,
    };
    let pages = launch(&images, &parameters).unwrap().pages;
    let count = |kind| u32::try_from(pages.iter().filter(|p| p.kind == kind).count()).unwrap();
    let told = measurement.launches[3].pages;
    assert_eq!(told.total as usize, pages.len());
    assert_eq!(told.normal, count(PageType::Normal));
    assert_eq!(told.zero, count(PageType::Zero));
    assert_eq!(
        (told.vmsa, told.cpuid, told.secrets, told.unmeasured),
        (4, 1, 1, 0)
    );
    let text = measurement.to_string();
    assert_eq!(text.lines().count(), 1 + 5 + 124, "{text}");
    let line = text.lines().nth(1 + 5 + 1).unwrap();
    let digest = digest(&measurement, PlatformKind::Snp, 4);
    assert!(
        line.starts_with("snp       --vcpus  2 ( 4 vCPUs, "),
        "{line}"
    );
    assert!(line.ends_with(&digest.to_string()), "{line}");
}

#[test]
fn every_trusted_layer_changes_every_digest() {
    let (one, other) = (runtime(1), runtime(2));
    let measurement = Measurement::of(&build(&one)).unwrap();
    // The last byte of the code.
    let changed = |image: &[u8]| {
        let program = enarx_launch::elf::parse(image).unwrap();
        let code = program.segments.iter().find(|s| s.execute).unwrap();
        let mut image = image.to_vec();
        image[code.file.end - 1] ^= 1;
        image
    };
    let (microkernel, loader) = (changed(MICROKERNEL), changed(LOADER));
    let simulated = changed(MICROKERNEL_SIMULATED);
    for changed in [
        Build {
            runtime: Runtime::of(&other),
            ..build(&one)
        },
        Build {
            microkernel: &microkernel,
            microkernel_simulated: &simulated,
            ..build(&one)
        },
        Build {
            loader: &loader,
            ..build(&one)
        },
    ] {
        let changed = Measurement::of(&changed).unwrap();
        for (a, b) in measurement.launches.iter().zip(&changed.launches) {
            assert_ne!(a.launch.digest, b.launch.digest, "{:?}", a.launch);
        }
    }
    // The VMM is not part of it.
    let vmm = Measurement::of(&Build {
        vmm: b"another",
        ..build(&one)
    });
    assert_eq!(vmm.unwrap().launches, measurement.launches);
}

#[test]
fn a_measurement_is_released_and_recognized() {
    let runtime = runtime(1);
    let measurement = Measurement::of(&build(&runtime)).unwrap();
    let json = serde_json::to_string(&measurement).unwrap();
    let read: Measurement = serde_json::from_str(&json).unwrap();
    assert_eq!(read, measurement);

    let mut manifest = Manifest::new();
    let release = Release::of(&read, NOW.earlier(1), NOW.later(1));
    assert_eq!(release.guest_policy.forbid, ["debug", "migration-agent"]);
    manifest.add(release).unwrap();
    let text = manifest.to_toml().unwrap();
    let key = PrivateKey::from_seed(&[1; SEED_LEN]).unwrap();
    let signature = sign(text.as_bytes(), &key).unwrap();
    let keys = [key.public().unwrap()];
    let manifest = verify(text.as_bytes(), signature.as_bytes(), &keys, Some(1), NOW).unwrap();

    // A report of a Milan with that digest. It is not genuine; its measurement is still recognized.
    let mut policy = Policy::default();
    policy.snp.releases = vec!["0.8.0".to_owned()];
    let verifier = Verifier::new(policy);
    let references = manifest.reference_values();
    let expected = Expected::at(NOW).with_references(&references);
    let mut report = Report::read_from_bytes(&[0; REPORT_LEN]).unwrap();
    report.version.set(3);
    report.cpuid_family = MILAN.family;
    report.cpuid_model = MILAN.models.0;
    let mut found = |platform| {
        report.measurement = digest(&measurement, platform, 4).0;
        let verdict = verifier.verify(report.as_bytes(), &Endorsements::default(), &expected);
        assert!(!verdict.is_accepted());
        verdict.check("guest.measurement").unwrap().actual.clone()
    };
    let genuine = found(PlatformKind::Snp);
    assert!(
        genuine.ends_with(", release 0.8.0 (snp, 4 vCPUs)"),
        "{genuine}"
    );
    let simulated = found(PlatformKind::Simulated);
    assert!(
        simulated.ends_with("(simulated, 4 vCPUs), but the report is not of a simulator"),
        "{simulated}"
    );
}
