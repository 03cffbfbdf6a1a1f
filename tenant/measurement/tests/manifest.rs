// SPDX-License-Identifier: Apache-2.0

//! The manifest as publishers and verifiers see it: what is accepted, what is refused and with which words, and that
//! reading is total.

use enarx_attestation::Timestamp;
use enarx_attestation::hex::Hex;
use enarx_attestation::printable::printable;
use enarx_attestation::reference::{GuestPolicyFloor, LaunchDigest, PlatformKind, ReleaseStatus};
use enarx_measurement::{
    Layer, Layers, MAX_MANIFEST_LEN, Manifest, ManifestError, Measurement, PrivateKey, PublicKey,
    Release, ReleaseError, ReleaseFault, SEED_LEN, SignatureError, VerifiedManifest, VerifyError,
    sign, verify,
};
use proptest::prelude::*;
use serde_json::Value;

const NOW: Timestamp = Timestamp(1_800_000_000);
const YEAR: u32 = 365 * 86_400;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; SEED_LEN]).unwrap()
}

fn public(seed: u8) -> PublicKey {
    key(seed).public().unwrap()
}

fn layers() -> Layers {
    Layers {
        vmm: Layer::of(b"vmm"),
        microkernel: Layer::of(b"microkernel"),
        microkernel_simulated: Layer::of(b"simulated"),
        loader: Layer::of(b"loader"),
        runtime: Layer::of(b"runtime"),
    }
}

fn launch(platform: PlatformKind, vcpus: u32, digest: u8) -> LaunchDigest {
    LaunchDigest {
        platform,
        products: vec!["milan".to_owned(), "genoa".to_owned()],
        vcpus,
        digest: Hex([digest; 48]),
    }
}

fn release(version: &str, digest: u8) -> Release {
    Release {
        version: version.to_owned(),
        status: ReleaseStatus::Current,
        reason: String::new(),
        not_before: NOW.earlier(YEAR),
        not_after: NOW.later(YEAR),
        guest_policy: GuestPolicyFloor {
            require: Vec::new(),
            forbid: vec!["debug".to_owned()],
            min_abi: Some("1.55".to_owned()),
        },
        layers: layers(),
        launches: vec![
            launch(PlatformKind::Snp, 1, digest),
            launch(PlatformKind::Snp, 64, digest),
            launch(PlatformKind::Simulated, 1, digest + 1),
        ],
    }
}

fn manifest() -> Manifest {
    let mut manifest = Manifest::new();
    manifest.add(release("0.7.0", 1)).unwrap();
    manifest.add(release("0.8.0", 3)).unwrap();
    manifest
}

fn accepted(manifest: &Manifest) -> VerifiedManifest {
    let text = manifest.to_toml().unwrap();
    let signature = sign(text.as_bytes(), &key(1)).unwrap();
    verify(
        text.as_bytes(),
        signature.as_bytes(),
        &[public(1)],
        None,
        NOW,
    )
    .unwrap()
}

#[test]
fn a_signed_manifest_is_accepted_as_it_was_written() {
    let manifest = manifest();
    assert_eq!((manifest.serial, manifest.not_after), (2, NOW.later(YEAR)));
    let verified = accepted(&manifest);
    assert_eq!(*verified.manifest(), manifest);
    assert_eq!(verified.signed_by(), public(1).fingerprint());
    let values = verified.reference_values();
    assert_eq!(values.len(), 6);
    let last = values.last().unwrap();
    assert_eq!(last.release, "0.8.0");
    assert_eq!(last.launch, launch(PlatformKind::Simulated, 1, 4));
    assert_eq!(last.guest_policy, manifest.releases[1].guest_policy);
    assert_eq!(last.not_after, NOW.later(YEAR));
}

#[test]
fn every_changed_byte_is_refused() {
    let text = manifest().to_toml().unwrap();
    let signature = sign(text.as_bytes(), &key(1)).unwrap();
    let keys = [public(1)];
    for index in (0..text.len()).step_by(7) {
        let mut changed = text.clone().into_bytes();
        changed[index] ^= 1;
        let refused = verify(&changed, signature.as_bytes(), &keys, None, NOW);
        assert_eq!(refused, Err(SignatureError::Changed.into()), "byte {index}");
    }
    for cut in [0, 1, text.len() - 1] {
        let refused = verify(
            &text.as_bytes()[..cut],
            signature.as_bytes(),
            &keys,
            None,
            NOW,
        );
        assert_eq!(refused, Err(SignatureError::Changed.into()), "cut at {cut}");
    }
}

#[test]
fn other_keys_old_serials_and_old_manifests_are_refused() {
    let text = manifest().to_toml().unwrap();
    let text = text.as_bytes();
    let signature = sign(text, &key(1)).unwrap();
    let judged = |keys: &[PublicKey], serial, at| {
        verify(text, signature.as_bytes(), keys, serial, at).map(|_| ())
    };
    let both = [public(2), public(1)];
    assert_eq!(judged(&both, Some(2), NOW.later(YEAR)), Ok(()));
    assert_eq!(
        judged(&both[..1], None, NOW),
        Err(VerifyError::Signature(SignatureError::WrongKey {
            signed_by: public(1).fingerprint(),
            trusted: vec![public(2).fingerprint()],
        }))
    );
    assert!(judged(&[], None, NOW).is_err());
    assert_eq!(
        judged(&both, Some(3), NOW),
        Err(VerifyError::Rollback {
            serial: 2,
            minimum: 3
        })
    );
    assert_eq!(
        judged(&both, None, NOW.later(YEAR + 1)),
        Err(VerifyError::Expired {
            not_after: NOW.later(YEAR)
        })
    );
}

#[test]
fn releases_are_usable_in_their_time_unless_withdrawn() {
    let mut manifest = manifest();
    manifest.not_after = NOW.later(3 * YEAR);
    manifest.releases[0].status = ReleaseStatus::Withdrawn;
    manifest.releases[0].reason = "a hole".to_owned();
    manifest.releases[1].status = ReleaseStatus::Deprecated;
    let verified = accepted(&manifest);
    let words = |version: &str, at| verified.release(version, at).unwrap_err().to_string();
    assert_eq!(words("0.7.0", NOW), "release 0.7.0 is withdrawn: a hole");
    assert_eq!(words("0.9.0", NOW), "the manifest has no release 0.9.0");
    assert!(verified.release("0.8.0", NOW).is_ok());
    assert!(verified.release("0.8.0", NOW.later(YEAR)).is_ok());
    assert_eq!(
        verified.release("0.8.0", NOW.later(YEAR + 1)),
        Err(ReleaseError::Expired {
            version: "0.8.0".to_owned(),
            not_after: NOW.later(YEAR)
        })
    );
    assert_eq!(
        verified.release("0.8.0", NOW.earlier(YEAR + 1)),
        Err(ReleaseError::NotYet {
            version: "0.8.0".to_owned(),
            not_before: NOW.earlier(YEAR)
        })
    );
}

#[test]
fn unknown_formats_and_broken_manifests_are_distinguished() {
    let other = "format = 2\nsomething-new = [1, 2]\n";
    assert_eq!(
        Manifest::parse(other.as_bytes()),
        Err(ManifestError::UnknownFormat { found: 2 })
    );
    assert_eq!(
        Manifest::parse(&vec![b'#'; MAX_MANIFEST_LEN + 1]),
        Err(ManifestError::TooLarge {
            len: MAX_MANIFEST_LEN + 1
        })
    );
    assert_eq!(Manifest::parse(b"\xFF"), Err(ManifestError::NotText));
    for (broken, words) in [
        ("", "format"),
        ("format = 1", "serial"),
        (
            "format = 1\nserial = -1\nnot-after = \"2030-01-01T00:00:00Z\"",
            "at least 0",
        ),
        (
            "format = 1\nserial = 1\nnot-after = \"soon\"",
            "such as 2026",
        ),
        (
            "format = 1\nserial = 1\nnot-after = \"2030-01-01T00:00:00Z\"\nmore = 1",
            "more",
        ),
    ] {
        let error = Manifest::parse(broken.as_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::Format(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

/// A change that makes a release invalid, and the resulting fault.
type InvalidChange = (fn(&mut Release), ReleaseFault);

#[test]
fn releases_that_contradict_themselves_are_errors() {
    let wrong: [InvalidChange; 20] = [
        (
            |r| r.version = "any-current".to_owned(),
            ReleaseFault::Version,
        ),
        (|r| r.version.clear(), ReleaseFault::Version),
        (|r| r.version = "0.7.0".to_owned(), ReleaseFault::Twice),
        (
            |r| r.status = ReleaseStatus::Withdrawn,
            ReleaseFault::NoReason,
        ),
        (|r| r.reason = "a\nb".to_owned(), ReleaseFault::Reason),
        (|r| r.reason = "\u{1b}[2J".to_owned(), ReleaseFault::Reason),
        (
            |r| r.reason = "\u{202e}dilav".to_owned(),
            ReleaseFault::Reason,
        ),
        (|r| r.reason = "a".repeat(1001), ReleaseFault::Reason),
        (|r| r.not_after = NOW.earlier(2 * YEAR), ReleaseFault::Times),
        (
            |r| r.not_after = Timestamp(1_793_491_200_000),
            ReleaseFault::Time(1_793_491_200_000),
        ),
        (
            |r| r.guest_policy.forbid = vec!["smtt".to_owned()],
            ReleaseFault::GuestPolicy("smtt".to_owned()),
        ),
        (
            |r| r.guest_policy.min_abi = Some("1".to_owned()),
            ReleaseFault::GuestPolicy("1".to_owned()),
        ),
        (
            |r| r.guest_policy.require = vec!["debug".to_owned()],
            ReleaseFault::Contradiction("debug".to_owned()),
        ),
        (|r| r.launches[0].vcpus = 0, ReleaseFault::Vcpus),
        (|r| r.launches[0].vcpus = 65, ReleaseFault::Vcpus),
        (|r| r.launches[0].products.clear(), ReleaseFault::NoProducts),
        (
            |r| r.launches[0].products[0] = "Milan".to_owned(),
            ReleaseFault::Product("Milan".to_owned()),
        ),
        (|r| r.launches.clear(), ReleaseFault::NoLaunches),
        (
            |r| r.launches[0].vcpus = 64,
            ReleaseFault::Launches {
                platform: PlatformKind::Snp,
                product: "milan".to_owned(),
                vcpus: 64,
            },
        ),
        (
            |r| r.launches[2].digest = Hex([1; 48]),
            ReleaseFault::Platforms,
        ),
    ];
    for (change, fault) in wrong {
        let mut manifest = manifest();
        let mut added = release("0.9.0", 5);
        change(&mut added);
        let before = manifest.clone();
        let error = manifest.add(added.clone()).unwrap_err();
        let version = added.version.clone();
        assert_eq!(error, ManifestError::Release { version, fault });
        assert_eq!(manifest, before);
        manifest.releases.push(added);
        assert_eq!(manifest.to_toml(), Err(error));
    }
    let mut serial = manifest();
    serial.serial = u64::MAX;
    assert_eq!(serial.to_toml(), Err(ManifestError::Serial));
    // The manifest's own time; and more than is read.
    let mut time = manifest();
    time.not_after = Timestamp(Timestamp::LAST_DATE.0 + 1);
    assert!(time.to_toml().is_err());
    time.not_after = Timestamp::LAST_DATE;
    assert!(time.to_toml().is_ok());
    let mut large = manifest();
    for number in 0..3000 {
        let mut more = release(&format!("1.{number}.0"), 5);
        more.reason = "x".repeat(1000);
        large.releases.push(more);
    }
    assert!(matches!(
        large.to_toml(),
        Err(ManifestError::TooLarge { .. })
    ));
}

#[test]
fn the_published_schemas_are_those_of_the_code() {
    // To regenerate them: `enarx release schema manifest` and `enarx release schema measurement`.
    let published = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(
        published(include_str!("../schema/manifest.json")),
        Manifest::json_schema()
    );
    assert_eq!(
        published(include_str!("../schema/measurement.json")),
        Measurement::json_schema()
    );
}

fn arbitrary_release() -> impl Strategy<Value = Release> {
    let status = prop_oneof![
        Just(ReleaseStatus::Current),
        Just(ReleaseStatus::Deprecated),
        Just(ReleaseStatus::Withdrawn)
    ];
    let launches = proptest::collection::btree_set(1u32..=64, 1..6);
    (
        "[0-9a-z.+_-]{1,64}",
        status,
        "[^\\p{C}]{1,40}[\"'\\\\=]".prop_filter("fit to be shown", |r| printable(r) == *r),
        0u32..YEAR,
        launches,
        any::<u8>(),
    )
        .prop_map(
            |(version, status, reason, seconds, vcpus, digest)| Release {
                status,
                reason,
                not_before: NOW.earlier(seconds),
                launches: vcpus
                    .into_iter()
                    .map(|vcpus| launch(PlatformKind::Snp, vcpus, digest))
                    .collect(),
                ..release(&version, 0)
            },
        )
}

proptest! {
    #[test]
    fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let keys = [public(1)];
        prop_assert!(Manifest::parse(&bytes).is_err());
        prop_assert!(verify(&bytes, &bytes, &keys, Some(1), NOW).is_err());
    }

    #[test]
    fn reading_a_changed_manifest_is_total(index in any::<prop::sample::Index>(), text in "\\PC{0,8}") {
        let mut changed = manifest().to_toml().unwrap();
        let at = index.index(changed.len());
        changed.replace_range(at..=at, &text);
        if let Ok(manifest) = Manifest::parse(changed.as_bytes()) {
            let written = manifest.to_toml().unwrap();
            prop_assert_eq!(Manifest::parse(written.as_bytes()), Ok(manifest));
        }
    }

    #[test]
    fn writing_is_lossless(releases in proptest::collection::vec(arbitrary_release(), 0..4), serial in 0..=i64::MAX as u64) {
        let mut manifest = Manifest::new();
        for release in releases {
            // A version that occurs twice is refused.
            let twice = manifest.releases.iter().any(|r| r.version == release.version);
            prop_assert_eq!(manifest.add(release).is_err(), twice);
        }
        manifest.serial = serial;
        manifest.not_after = NOW;
        let verified = accepted(&manifest);
        prop_assert_eq!(verified.manifest(), &manifest);
    }
}

#[test]
fn the_largest_sensible_manifest_fits() {
    // Sixteen releases, each for 64 numbers of vCPUs on both kinds of platform.
    let mut manifest = Manifest::new();
    for number in 0u8..16 {
        let version = format!("1.{number}.0");
        let launches = (1..=64).flat_map(|vcpus| {
            [
                launch(PlatformKind::Snp, vcpus, number * 2),
                launch(PlatformKind::Simulated, vcpus, number * 2 + 1),
            ]
        });
        let release = Release {
            launches: launches.collect(),
            ..release(&version, 0)
        };
        manifest.add(release).unwrap();
    }
    assert_eq!(accepted(&manifest).reference_values().len(), 16 * 128);
}

#[test]
fn the_example_in_the_readme_is_a_manifest() {
    let readme = include_str!("../README.md");
    let example = readme.split("```toml").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let example = example
        .replace(
            "digest = \"…\"",
            &format!("digest = \"{}\"", "0".repeat(96)),
        )
        .replace('…', &"0".repeat(64));
    let manifest = Manifest::parse(example.as_bytes()).unwrap();
    assert_eq!(manifest.releases[0].launches.len(), 1);
}
