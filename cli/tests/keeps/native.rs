// SPDX-License-Identifier: Apache-2.0

//! Native code in deployments: `enarx deploy --allow-precompiled`. The Keep gives a report before it runs, none after.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use enarx_configuration::precompiled::Precompiled;
use enarx_harness::needs;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::common::enarx;
use super::compile::{compile, with_system_call};
use super::deploy::{Host, policy, program, run, text, wait_until};
use super::door::{Direction, Door, Fate, Place};

const ALLOW: &str = "--allow-precompiled";

/// A program, compiled for deployments in its own folder.
struct Compiled {
    folder: TempDir,
    source: PathBuf,
    code: PathBuf,
}

impl Compiled {
    fn new(source: PathBuf, flags: &[&str]) -> Self {
        needs::kvm();
        let folder = tempfile::tempdir().unwrap();
        let code = compile("sim", &source, folder.path(), flags);
        Self {
            folder,
            source,
            code,
        }
    }

    /// SHA-256 of the WebAssembly and of the code, in hexadecimal.
    fn digests(&self) -> [String; 2] {
        let source = wat::parse_file(&self.source).unwrap();
        let code = fs::read(&self.code).unwrap();
        [source, code].map(|bytes| base16ct::lower::encode_string(&Sha256::digest(bytes)))
    }
}

fn local(flags: &[&str], code: &Path) -> Command {
    let mut command = enarx();
    command
        .args(["deploy", "--local", "--quiet", "--timeout", "120s"])
        .args(flags)
        .arg(code);
    command
}

/// Asserts the exit code and one sentence with all the words.
#[track_caller]
fn assert_sentence(output: &Output, code: i32, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[test]
fn native_code_is_deployed_and_its_receipt_says_what_it_shows() {
    let compiled = Compiled::new(program("copy.wat"), &[]);
    let [source, code] = compiled.digests();
    let host = Host::start(&[]);
    let policy = policy(host.folder());
    let receipt = host.path("receipt");
    let mut command = host.deploy(&policy);
    command
        .args([ALLOW, "--receipt"])
        .arg(&receipt)
        .arg(&compiled.code);
    let output = run(&mut command, b"to be copied");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(output.stdout, b"to be copied");
    assert!(said.contains("it was native code"), "{said}");

    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    let body = &read(&receipt)["body"];
    let deployment = read(&host.path("receipt.deployment"));
    for (found, expected) in [
        (&body["application"], &code),
        (&body["source"], &source),
        (&deployment["application"]["digest"], &code),
        (&deployment["source"], &source),
    ] {
        assert_eq!(found, expected);
    }

    let verify = |receipt: &Path, more: &[&str]| {
        let mut command = enarx();
        command
            .args(["receipt", "verify"])
            .arg(receipt)
            .arg("--policy")
            .arg(&policy)
            .arg("--application")
            .arg(&compiled.code)
            .arg("--deployment")
            .arg(host.path("receipt.deployment"))
            .arg("--contract")
            .arg(host.path("receipt.contract"))
            .arg("--certs")
            .arg(host.path("receipt.certs"))
            .args(more);
        command.output().unwrap()
    };
    let refused = verify(&receipt, &[]);
    assert_sentence(&refused, 3, &["receipt.precompiled", ALLOW]);
    let accepted = verify(&receipt, &[ALLOW]);
    let shown = text(&accepted.stdout);
    assert_eq!(accepted.status.code(), Some(0), "{accepted:?}");
    for words in [
        format!("application: SHA-256 {code}"),
        format!("compiled from: SHA-256 {source}"),
        "are claimed by native code".to_owned(),
    ] {
        assert!(shown.contains(&words), "{words}: {shown}");
    }
    // It does not pass as WebAssembly.
    let forged = host.path("forged");
    let genuine = text(&fs::read(&receipt).unwrap());
    let without = genuine.replace(&format!(r#""source":"{source}""#), r#""source":null"#);
    assert_ne!(without, genuine);
    fs::write(&forged, without).unwrap();
    assert_sentence(&verify(&forged, &[ALLOW]), 3, &["receipt.signature"]);
}

#[test]
fn unallowed_or_unfit_native_code_is_refused_in_a_sentence() {
    let compiled = Compiled::new(program("exit.wat"), &[]);
    let output = run(&mut local(&[], &compiled.code), b"");
    assert_sentence(&output, 2, &["is precompiled", ALLOW]);
    assert_eq!(
        run(&mut local(&[ALLOW], &compiled.code), b"").status.code(),
        Some(7)
    );
    // WebAssembly stays WebAssembly with the flag, too.
    let wasm = program("exit.wat");
    assert_eq!(run(&mut local(&[ALLOW], &wasm), b"").status.code(), Some(7));

    let whole = fs::read(&compiled.code).unwrap();
    let other = compiled.folder.path().join("other.cwasm");
    let mut version = whole.clone();
    version[8] ^= 0x80;
    for (bytes, words) in [
        (&whole[..whole.len() - 1], "truncated or damaged"),
        (&version[..], "another version"),
    ] {
        fs::write(&other, bytes).unwrap();
        let output = run(&mut local(&[ALLOW], &other), b"");
        assert_sentence(&output, 65, &[words, "enarx compile"]);
    }
    // Only the Keep can detect these.
    let mut code = Precompiled::decode(&whole).unwrap().code.to_vec();
    // The version of its form, and a text of two bytes: the version of Wasmtime.
    let version = code.windows(4).position(|it| it == b"\x00\x0248");
    code[version.unwrap() + 2] = b'3';
    let parts = Precompiled {
        code: &code,
        ..Precompiled::decode(&whole).unwrap()
    };
    fs::write(&other, [&parts.head()[..], &code].concat()).unwrap();
    let output = run(&mut local(&[ALLOW], &other), b"");
    assert_sentence(&output, 1, &["another version, CPU or settings"]);
    let turns = Compiled::new(program("exit.wat"), &["--turns"]);
    let output = run(&mut local(&[ALLOW], &turns.code), b"");
    assert_sentence(&output, 1, &["--turns"]);

    // It could not be found again.
    let mut detach = enarx();
    detach.args(["deploy", "--detach", "--to", "https://127.0.0.1:1", ALLOW]);
    let output = run(detach.arg(&compiled.code), b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--detach"));
}

/// A deployed Keep gave evidence before the code arrived, and would give more afterwards.
#[test]
fn native_code_in_a_deployment_gets_no_report() {
    const REPORT: u32 = 0x454e_0004;
    const DERIVED_KEY: u32 = 0x454e_0005;
    let steps =
        "i64.const 0x5851f42d4c957f2d i64.mul i64.const 0x14057b7ef767814f i64.xor\n".repeat(8);
    let marked = format!(
        "(module (memory 1) (func (export \"call\") (result i64)
            i64.const 0x0123456789abcdef i32.const 0 i64.load i64.add {steps}))"
    );
    for number in [REPORT, DERIVED_KEY] {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("marked.wat");
        fs::write(&source, &marked).unwrap();
        let compiled = Compiled::new(source, &[]);
        with_system_call(&compiled.code, number);
        let flags = [ALLOW, "--invoke", "call"];
        let output = run(&mut local(&flags, &compiled.code), b"");
        // EIO.
        assert_eq!(text(&output.stdout).trim_end(), "-5", "{output:?}");
    }
}

#[test]
fn native_code_ends_with_its_connection_without_a_ticket() {
    let compiled = Compiled::new(program("flood.wat"), &[]);
    let host = Host::start(&[]);
    let policy = policy(host.folder());
    let door = Door::of(&host);
    // This many records arrive when it runs, and it writes without end.
    door.fates(&[Fate::Cut(Place {
        way: Direction::FromKeep,
        records: 60,
        inside: false,
    })]);
    let output = run(host.deploy(&policy).arg(ALLOW).arg(&compiled.code), b"");
    let said = text(&output.stderr);
    let said = said.trim_start_matches('\0');
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(said.contains("nobody can attach"), "{said}");
    assert!(!said.contains("enarx attach"), "{said}");
    assert_eq!(door.sessions().len(), 1);
    wait_until(|| host.keeps().is_empty());
}
