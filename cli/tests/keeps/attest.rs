// SPDX-License-Identifier: Apache-2.0

//! Evidence from inside a simulated Keep, from `enarx run` to the verdict of `enarx verify`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use enarx_harness::needs;

use super::common::{self, SIMULATED_STATE};

const APPLICATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/exit.wat");
const OTHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/trap.wat");
const NONCE: &str = "00112233445566778899aabbccddeeff";

fn enarx(arguments: &[&str]) -> Output {
    common::enarx()
        .env("ENARX_STORE", "/nonexistent/store")
        .args(arguments)
        .output()
        .unwrap()
}

/// The binary of a text module: the Keep gets it, and the hash is over it.
fn binary(folder: &Path, text: &str) -> String {
    let path = folder.join("application.wasm");
    fs::write(&path, wat::parse_file(text).unwrap()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Evidence of a Keep, and a policy that accepts it.
struct Evidence {
    folder: tempfile::TempDir,
    application: String,
}

impl Evidence {
    /// Runs a Keep with these options of the simulated platform.
    fn new(simulated: &[&str]) -> Self {
        Self::with(simulated, &[])
    }

    /// As [`Self::new`], with more flags of the command.
    fn with(simulated: &[&str], flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let application = binary(folder.path(), APPLICATION);
        let evidence = Self {
            folder,
            application,
        };
        let to = evidence.path("ev");
        let mut arguments = vec![
            "run",
            "-q",
            "--backend",
            "sim",
            "--vcpus",
            "2",
            "--sim",
            SIMULATED_STATE,
        ];
        for option in simulated {
            arguments.extend(["--sim", option]);
        }
        arguments.extend(["--attest-to", &to, "--attest-nonce", NONCE]);
        arguments.extend(flags);
        arguments.push(&evidence.application);
        let output = enarx(&arguments);
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        evidence.write_policy(&["--vcpus", "2"], "");
        evidence
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(PathBuf::from(self.path(name))).unwrap()
    }

    /// A policy with the simulated root, the measurement of this build for such launches, and more.
    fn write_policy(&self, launches: &[&str], more: &str) {
        let mut arguments = vec!["measure", "--platform", "sim", "--digest"];
        arguments.extend(launches);
        let measured = enarx(&arguments);
        assert!(measured.status.success(), "{measured:?}");
        let digest = String::from_utf8(measured.stdout).unwrap();
        let text = format!(
            r#"
            name = "test"
            version = 1
            insecure-simulated-roots = ["{}"]
            [snp]
            measurements = ["{}"]
            insecure-ignored-attacks = ["badram", "entrysign"]
            {more}
            "#,
            self.read("ev/root"),
            digest.trim()
        );
        fs::write(self.path("policy.toml"), text).unwrap();
    }

    fn verify(&self, policy: &str, nonce: &str, application: &str) -> (Option<i32>, String) {
        let output = enarx(&[
            "verify",
            &self.path("ev/report.bin"),
            "--certs",
            &self.path("ev"),
            "--policy",
            policy,
            "--nonce",
            nonce,
            "--application",
            application,
            "--configuration",
            &self.path("ev/configuration.json"),
        ]);
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    fn verdict(&self) -> (Option<i32>, String) {
        self.verify(&self.path("policy.toml"), NONCE, &self.application)
    }
}

#[track_caller]
fn assert_refused((code, text): (Option<i32>, String), check: &str) {
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(check), "`{check}` is not in: {text}");
}

#[test]
fn evidence_is_accepted_by_a_policy_that_names_root_and_measurement() {
    needs::kvm();
    for options in [
        &[][..],
        &["generation=genoa"],
        &["generation=turin"],
        &["key=vlek"],
    ] {
        let evidence = Evidence::new(options);
        let (code, text) = evidence.verdict();
        assert_eq!(code, Some(0), "{options:?}: {text}");
        assert!(text.contains("simulated"), "{text}");
    }
}

#[test]
fn evidence_is_refused_for_every_difference() {
    needs::kvm();
    let evidence = Evidence::new(&[]);
    // Another application, another nonce.
    let folder = tempfile::tempdir().unwrap();
    let other = binary(folder.path(), OTHER);
    let policy = evidence.path("policy.toml");
    let refused = evidence.verify(&policy, NONCE, &other);
    assert_refused(refused.clone(), "report-data");
    // The remedy says what differs, and does not suggest evidence of another time.
    assert_refused(
        refused,
        "it was made for another nonce, application or configuration",
    );
    let refused = evidence.verify(&policy, "0011223344556677", &evidence.application);
    assert_refused(refused, "report-data");
    // Another configuration.
    let configuration = evidence.path("ev/configuration.json");
    let own = fs::read_to_string(&configuration).unwrap();
    fs::write(
        &configuration,
        own.replace("\"args\":[", "\"args\":[\"more\","),
    )
    .unwrap();
    assert_ne!(fs::read_to_string(&configuration).unwrap(), own);
    assert_refused(evidence.verdict(), "report-data");
    fs::write(&configuration, own).unwrap();
    // One more vCPU than measured.
    evidence.write_policy(&["--vcpus", "3"], "");
    let refused = evidence.verdict();
    assert_refused(refused.clone(), "measurement");
    // The message does not advise accepting what an attacker may have launched.
    assert_refused(
        refused,
        "or with another number of vCPUs: run what the policy names; add its digest only if you recomputed it yourself",
    );
    // The policies that name no simulated root.
    let refused = evidence.verify("default", NONCE, &evidence.application);
    assert_refused(refused, "simulated");
}

#[test]
fn debug_and_old_hosts_are_refused() {
    needs::kvm();
    let debug = Evidence::new(&["debug=y"]);
    assert_refused(debug.verdict(), "debug");
    // Boot loader 2, TEE 0, SNP 5, microcode 100: long before the floors.
    let old = Evidence::new(&["tcb=0200000000000564"]);
    old.write_policy(&["--vcpus", "2"], "[snp.min-tcb.milan]\nsnp = 20");
    assert_refused(old.verdict(), "tcb");
}

/// A Keep that tells its host addresses when it faults is measured as one.
#[test]
fn a_keep_that_reports_addresses_has_another_measurement() {
    const FLAG: &str = "--insecure-fault-addresses";
    needs::kvm();
    let evidence = Evidence::with(&[], &[FLAG]);
    assert_refused(evidence.verdict(), "measurement");
    evidence.write_policy(&["--vcpus", "2", FLAG], "");
    let (code, text) = evidence.verdict();
    assert_eq!(code, Some(0), "{text}");
    // It is left out of every release.
    let output = enarx(&["measure", "--json", FLAG]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// A stricter guest policy is in the report, SEV features are in the measurement: a policy requires both.
#[test]
fn a_policy_demands_a_variant_of_the_launch() {
    const RULES: &str = r#"
            [snp.guest-policy]
            smt = "forbid"
            single-socket = "require"
            ciphertext-hiding = "require"
            page-swap-disabled = "require""#;
    const STRICT: &str = "smt=n,single-socket,ciphertext-hiding,page-swap-disabled,debug-swap";
    needs::kvm();
    let strict = Evidence::with(&["smt=n"], &["--sev", STRICT]);
    assert_refused(strict.verdict(), "guest.measurement");
    strict.write_policy(&["--vcpus", "2", "--sev", STRICT], RULES);
    let (code, text) = strict.verdict();
    assert_eq!(code, Some(0), "{text}");
    for (sev, check) in [
        (
            "single-socket,ciphertext-hiding,page-swap-disabled",
            "guest-policy.smt",
        ),
        (
            "smt=n,ciphertext-hiding,page-swap-disabled",
            "guest-policy.single-socket",
        ),
        (
            "smt=n,single-socket,page-swap-disabled",
            "guest-policy.ciphertext-hiding",
        ),
        (
            "smt=n,single-socket,ciphertext-hiding",
            "guest-policy.page-swap-disabled",
        ),
    ] {
        let lax = Evidence::with(&["smt=n"], &["--sev", sev]);
        lax.write_policy(&["--vcpus", "2"], RULES);
        assert_refused(lax.verdict(), check);
    }
    // It is left out of every release.
    let output = enarx(&["measure", "--json", "--sev", "debug-swap"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// The error names a property that the machine, the kind of Keep or the microkernel does not have.
#[test]
fn an_impossible_variant_is_refused_by_name() {
    needs::kvm();
    let run = |flags: &[&str]| {
        let output = enarx(&[&["run", "-q"], flags, &[APPLICATION]].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    for (flags, code, words) in [
        (["--backend=sim", "--sev=smt=n"], 69, "smt=n"),
        (["--backend=kvm", "--sev=single-socket"], 2, "--sev"),
        (["--backend=process", "--sev=debug-swap"], 2, "--sev"),
        (
            ["--backend=sim", "--sev=secure-tsc"],
            2,
            "secure-tsc (SEV feature 9)",
        ),
        (
            ["--backend=sim", "--sev=alternate-injection"],
            2,
            "alternate-injection (SEV feature 4)",
        ),
        (
            ["--backend=sim", "--sev=restricted-injection"],
            2,
            "restricted-injection (SEV feature 3)",
        ),
    ] {
        let (found, text) = run(&flags);
        assert_eq!(found, Some(code), "{flags:?}: {text}");
        assert!(text.contains(words), "{flags:?}: {text}");
    }
}

#[test]
fn kinds_of_keeps_without_a_secure_processor_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("ev");
    let output = enarx(&[
        "run",
        "--backend",
        "process",
        "--attest-to",
        to.to_str().unwrap(),
        APPLICATION,
    ]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("cannot attest"), "{text}");
}

/// The configuration contains the program's variables, and its file is written as the user who runs the command.
#[test]
fn evidence_is_private_and_does_not_follow_links_of_others() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    needs::kvm();
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    let attest = |to: &Path| {
        let to = to.to_str().unwrap();
        let flags = [
            "run",
            "-q",
            "--backend",
            "sim",
            "--vcpus",
            "1",
            "--env",
            "SECRET=hunter2",
        ];
        enarx(&[&flags[..], &["--attest-to", to, APPLICATION]].concat())
    };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let made = folder.path().join("made/ev");
    fs::create_dir(folder.path().join("made")).unwrap();
    let output = attest(&made);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(mode(&made), 0o700);
    for entry in fs::read_dir(&made).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    assert!(fs::metadata(made.join("report.bin")).unwrap().len() > 0);
    // Links in it are replaced and not followed, and existing files are replaced.
    for name in ["nonce", "report.bin"] {
        fs::remove_file(made.join(name)).unwrap();
        symlink(&victim, made.join(name)).unwrap();
    }
    assert_eq!(attest(&made).status.code(), Some(7));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert!(fs::symlink_metadata(made.join("nonce")).unwrap().is_file());
    // A directory that others can write to, one behind a link, and a file.
    let open = folder.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    symlink(&made, folder.path().join("link")).unwrap();
    for (name, words) in [
        ("open", "others may write to it"),
        ("link", "it is not a directory"),
        ("victim", "it is not a directory"),
    ] {
        let output = attest(&folder.path().join(name));
        assert_eq!(output.status.code(), Some(74), "{name}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words), "{name}: {said}");
    }
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
}

/// A user who creates the folder of the simulated machine's keys first knows the keys.
#[test]
fn simulated_keys_are_not_stored_in_folders_of_others() {
    use std::os::unix::fs::PermissionsExt;
    needs::kvm();
    let homeless = common::enarx()
        .env_remove("ENARX_SIM")
        .env_remove("HOME")
        .env_remove("XDG_STATE_HOME")
        .args(["run", "--backend", "sim", APPLICATION])
        .output()
        .unwrap();
    assert_eq!(homeless.status.code(), Some(2), "{homeless:?}");
    let said = String::from_utf8(homeless.stderr).unwrap();
    assert!(said.contains("set HOME, or give --sim state=DIR"), "{said}");
    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let state = format!("state={}", open.path().display());
    let output = enarx(&["run", "--backend", "sim", "--sim", &state, APPLICATION]);
    assert_eq!(output.status.code(), Some(74), "{output:?}");
    assert_eq!(fs::read_dir(open.path()).unwrap().count(), 0);
}
