// SPDX-License-Identifier: Apache-2.0

//! `enarx release` from keys to a verdict: files, exit codes and sentences.

#[macro_use]
extern crate enarx_harness;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use enarx_harness::needs;
use serde_json::json;

/// Genuine evidence from the folder of vectors beside the repository.
const CASE: &str = "snp-genoa-v3-vcek-227a641d";
const DIGEST: &str = "f57dc09a507c6ecd82369bffb600f0003792f4d99bc26e985ec0c266fc34faf3706faf814c9e61065768a6ff917c89ae";
const AT: &str = "2026-12-01T00:00:00Z";
/// The times of the releases. Without them a release begins now, which one day is after any fixed end.
const TIMES: [&str; 4] = [
    "--not-before",
    "2026-11-01T00:00:00Z",
    "--not-after",
    "2027-11-01T00:00:00Z",
];

fn main() -> std::process::ExitCode {
    enarx_harness::main()
}

/// A file of the folder of cases beside that of vectors.
fn cases(name: &str) -> String {
    needs::cases().join(name).to_str().unwrap().to_owned()
}

struct Publisher(tempfile::TempDir);

impl Publisher {
    /// Two pairs of keys, and a signed manifest with the release 0.8.0, whose digest for genuine platforms is `DIGEST`.
    fn new() -> Self {
        let publisher = Self(tempfile::tempdir().unwrap());
        let layer = json!({ "sha256": "00".repeat(32), "size": 1 });
        let pages = json!({
            "total": 1, "normal": 1, "vmsa": 0, "zero": 0, "unmeasured": 0, "secrets": 0, "cpuid": 0,
        });
        let measurement = json!({
            "version": "0.8.0",
            "layers": { "vmm": layer, "microkernel": layer, "microkernel-simulated": layer, "loader": layer, "runtime": layer },
            "launches": [{
                "launch": { "platform": "snp", "products": ["genoa"], "vcpus": 4, "digest": DIGEST },
                "pages": pages,
            }],
        });
        std::fs::write(publisher.path("measurement.json"), measurement.to_string()).unwrap();
        publisher.good(&["keygen", "publisher"]);
        publisher.good(&["keygen", "other"]);
        publisher.good(&[&["add", "releases.toml", "measurement.json"][..], &TIMES].concat());
        publisher.good(&["sign", "releases.toml", "--key", "publisher.key"]);
        publisher
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn enarx(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_enarx"))
            .args(args)
            .current_dir(self.0.path())
            .env("ENARX_STORE", "/nonexistent/store")
            // The serial numbers that were seen are stored here.
            .env("XDG_STATE_HOME", self.path("state"))
            .output()
            .unwrap()
    }

    /// The output of a command that must succeed.
    #[track_caller]
    fn good(&self, args: &[&str]) -> String {
        let output = self.enarx(&[&["release"], args].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asserts exit code and words of the one sentence of a command that must fail.
    #[track_caller]
    fn refused(&self, args: &[&str], code: i32, words: &str) {
        let output = self.enarx(&[&["release"], args].concat());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert!(errors.contains(words), "{words}: {errors}");
        assert!(errors.starts_with("enarx: "), "{errors}");
        // After a wrong command line the correct one is printed.
        assert!(code == 2 || errors.lines().count() == 1, "{errors}");
    }
}

#[test]
fn manifests_are_verified_and_listed() {
    let publisher = Publisher::new();
    let mode = std::fs::metadata(publisher.path("publisher.key")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let by = |key: &'static str| ["releases.toml", "--key", key, "--at", AT];
    let verify = |more: &[&'static str]| [&["verify"], more].concat();
    let good = publisher.good(&verify(&by("publisher.pub")));
    assert!(good.starts_with("good: serial number 1"), "{good}");
    let both = verify(&[&by("other.pub")[..], &["--key", "publisher.pub"]].concat());
    publisher.good(&both);
    let listed = publisher.good(&[&["list"], &by("publisher.pub")[..]].concat());
    assert!(listed.contains("0.8.0: current (2026-11-01"), "{listed}");

    publisher.refused(&verify(&by("other.pub")), 3, "signed with the key");
    publisher.refused(&verify(&by("publisher.key")), 65, "not a public key");
    let rollback = [&by("publisher.pub")[..], &["--min-serial", "2"]].concat();
    publisher.refused(&verify(&rollback), 3, "at least 2 is expected");
    let late = [
        "releases.toml",
        "--key",
        "publisher.pub",
        "--at",
        "2028-01-01T00:00:00Z",
    ];
    publisher.refused(&verify(&late), 3, "expired at 2027-11-01");

    // A manifest that could not be read back is not written.
    let before = std::fs::read(publisher.path("releases.toml")).unwrap();
    let late = ["add", "releases.toml", "measurement.json", "--not-after"];
    publisher.refused(
        &[&late[..], &["1793491200000"]].concat(),
        2,
        "not milliseconds",
    );
    assert_eq!(
        std::fs::read(publisher.path("releases.toml")).unwrap(),
        before
    );

    // Neither a key nor a release is overwritten.
    let key = std::fs::read(publisher.path("publisher.key")).unwrap();
    publisher.refused(&["keygen", "publisher"], 74, "publisher.key");
    assert_eq!(std::fs::read(publisher.path("publisher.key")).unwrap(), key);
    // A pair of which one file already exists leaves nothing behind, and can be made when that file is gone.
    std::fs::write(publisher.path("third.pub"), "").unwrap();
    publisher.refused(&["keygen", "third"], 74, "third.pub");
    assert!(!publisher.path("third.key").exists());
    std::fs::remove_file(publisher.path("third.pub")).unwrap();
    publisher.good(&["keygen", "third"]);
    let again = ["add", "releases.toml", "measurement.json"];
    publisher.refused(
        &[&again[..], &TIMES].concat(),
        65,
        "has the release 0.8.0 already",
    );

    let manifest = std::fs::read_to_string(publisher.path("releases.toml")).unwrap();
    std::fs::write(
        publisher.path("releases.toml"),
        manifest.replace("f57d", "f57c"),
    )
    .unwrap();
    publisher.refused(&verify(&by("publisher.pub")), 3, "was changed");
    std::fs::remove_file(publisher.path("releases.toml.sig")).unwrap();
    publisher.refused(&verify(&by("publisher.pub")), 66, "releases.toml.sig");
    std::fs::write(publisher.path("releases.toml"), "format = 2").unwrap();
    publisher.refused(
        &["sign", "releases.toml", "--key", "publisher.key"],
        65,
        "format 2",
    );
}

/// An old manifest, in which a withdrawn release is still current, is detected without a flag.
#[test]
fn a_manifest_older_than_a_known_one_is_refused() {
    let publisher = Publisher::new();
    let verify = [
        "verify",
        "releases.toml",
        "--key",
        "publisher.pub",
        "--at",
        AT,
    ];
    let keep = |from: &str, to: &str| {
        for end in ["", ".sig"] {
            let path = |name: &str| publisher.path(&format!("{name}{end}"));
            std::fs::copy(path(from), path(to)).unwrap();
        }
    };
    keep("releases.toml", "old.toml");
    publisher.good(&verify);
    let measurement = std::fs::read_to_string(publisher.path("measurement.json")).unwrap();
    let newer = measurement
        .replace("\"0.8.0\"", "\"0.8.1\"")
        .replace("f57d", "f57e");
    std::fs::write(publisher.path("newer.json"), newer).unwrap();
    publisher.good(&[&["add", "releases.toml", "newer.json"][..], &TIMES].concat());
    publisher.good(&["sign", "releases.toml", "--key", "publisher.key"]);
    publisher.good(&verify);
    keep("old.toml", "releases.toml");
    let words = "its serial number is 1, and number 2 of this publisher was seen here";
    publisher.refused(&verify, 3, words);
    let output = publisher.enarx(&[&["release"], &verify[..], &["--json"]].concat());
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["exit_code"], 3);
    // A flag allows it explicitly.
    publisher.good(&[&verify[..], &["--min-serial", "1"]].concat());
    publisher.refused(&verify, 3, words);
    // An error reports a serial number that cannot be stored.
    let output = Command::new(env!("CARGO_BIN_EXE_enarx"))
        .arg("release")
        .args(verify)
        .current_dir(publisher.0.path())
        .env_remove("HOME")
        .env_remove("XDG_STATE_HOME")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot be remembered"), "{said}");
}

#[test]
fn a_key_that_others_can_read_signs_nothing() {
    let publisher = Publisher::new();
    let key = publisher.path("publisher.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    publisher.refused(
        &["sign", "releases.toml", "--key", "publisher.key"],
        65,
        "others can read it: chmod 600",
    );
}

#[test]
fn the_measurement_of_this_build_can_be_released() {
    let publisher = Publisher::new();
    let measured = publisher.enarx(&["measure", "--json"]);
    assert!(measured.status.success());
    let measurement: serde_json::Value = serde_json::from_slice(&measured.stdout).unwrap();
    // 1 to 64 vCPUs on SEV-SNP and on the simulated platform.
    assert_eq!(measurement["launches"].as_array().unwrap().len(), 128);
    std::fs::write(publisher.path("measured.json"), measured.stdout).unwrap();
    publisher.good(&[
        "add",
        "own.toml",
        "measured.json",
        "--not-after",
        "2099-01-01T00:00:00Z",
    ]);
    publisher.good(&["sign", "own.toml", "--key", "publisher.key"]);
    let listed = publisher.good(&["list", "own.toml", "--key", "publisher.pub"]);
    let version = measurement["version"].as_str().unwrap();
    assert!(listed.contains(&format!("{version}: current")), "{listed}");

    let printed = publisher.enarx(&["measure", "--vcpus", "4"]);
    let printed = String::from_utf8(printed.stdout).unwrap();
    // Two vCPUs are spare.
    let digest = &measurement["launches"][5]["launch"]["digest"];
    assert!(printed.contains(digest.as_str().unwrap()), "{printed}");
    assert_eq!(
        publisher.enarx(&["measure", "--vcpus", "63"]).status.code(),
        Some(2)
    );
}

#[test]
fn a_manifest_with_an_invalid_time_is_neither_listed_nor_signed() {
    let cut = cases("r5.toml");
    let publisher = Publisher::new();
    let by = ["list", &cut, "--key", "publisher.pub"];
    publisher.refused(&by, 66, "r5.toml.sig");
    publisher.refused(
        &["sign", &cut, "--key", "publisher.key"],
        65,
        "such as 2026",
    );
}

#[test]
fn evidence_is_compared_with_releases() {
    let vectors = needs::vectors();
    let folder = vectors.join(CASE);
    let report = folder.join("report.bin");
    let (folder, report) = (folder.to_str().unwrap(), report.to_str().unwrap());
    let publisher = Publisher::new();
    let policy = publisher.enarx(&["policy", "explain", "insecure-authenticity-only"]);
    let policy = String::from_utf8(policy.stdout).unwrap();
    let judged = |release: &str, more: &[&str]| {
        let policy = policy.replace(
            "# releases is not set",
            &format!("releases = [\"{release}\"]"),
        );
        std::fs::write(publisher.path("policy.toml"), policy).unwrap();
        let args = [
            "verify",
            report,
            "--certs",
            folder,
            "--policy",
            "policy.toml",
            "--at",
            AT,
        ];
        let output = publisher.enarx(&[&args, more].concat());
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(text).unwrap(),
        )
    };
    let manifest = [
        "--manifest",
        "releases.toml",
        "--manifest-key",
        "publisher.pub",
    ];
    for release in ["0.8.0", "any-current"] {
        let (code, text) = judged(release, &manifest);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("release 0.8.0 (snp, 4 vCPUs)"), "{text}");
    }
    let (code, text) = judged("0.7.0", &manifest);
    assert_eq!(code, 3, "{text}");
    let expected = "guest.measurement: expected release 0.7.0 (the manifest has none for snp), found release 0.8.0";
    assert!(text.contains(expected), "{text}");
    let (code, text) = judged("0.8.0", &[]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("no release manifest was given"), "{text}");
    // The manifest is verified before anything is judged by it.
    let (code, text) = judged(
        "0.8.0",
        &["--manifest", "releases.toml", "--manifest-key", "other.pub"],
    );
    assert_eq!(code, 3, "{text}");
    assert!(
        text.starts_with("enarx: releases.toml: signed with the key"),
        "{text}"
    );
    let (code, _) = judged("0.8.0", &["--manifest", "releases.toml"]);
    assert_eq!(code, 2);
    // A policy that names neither releases nor measurements would make the manifest have no effect.
    let verify = |policy: &str| {
        let args = [
            "verify", report, "--certs", folder, "--policy", policy, "--at", AT,
        ];
        let output = publisher.enarx(&[&args, &manifest[..]].concat());
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = verify("insecure-authenticity-only");
    assert_eq!(code, Some(3), "{text}");
    let words = "the policy names neither releases nor measurements";
    assert!(
        text.contains(words) && text.contains("FAIL  guest.measurement"),
        "{text}"
    );
    // Nor can a quote be verified with it.
    let quote = vectors.join("tdx-v4-b0c06f000000-3ab56d67");
    let (collateral, quote) = (quote.join("collateral.json"), quote.join("quote.bin"));
    let args = [
        "verify",
        quote.to_str().unwrap(),
        "--collateral",
        collateral.to_str().unwrap(),
        "--at",
        "2026-03-30T19:09:31Z",
    ];
    assert_eq!(publisher.enarx(&args).status.code(), Some(0));
    publisher.good(&[
        "verify",
        "releases.toml",
        "--key",
        "publisher.pub",
        "--at",
        AT,
    ]);
    let output = publisher.enarx(&[&args, &manifest[..]].concat());
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(
            "FAIL  guest.measurement: expected a launch that a release manifest can vouch for"
        ),
        "{text}"
    );
}
