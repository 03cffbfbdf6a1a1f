//! The exit codes and output of `enarx verify`, `policy` and `inspect`, with genuine evidence from the folder of
//! vectors beside the repository. Skipped with a message where it is absent, unless `ENARX_REQUIRE_VECTORS=1`.
#![allow(clippy::print_stderr, reason = "a test says what it leaves out")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::pkcs8::{EncodePrivateKey, LineEnding};

const CASE: &str = "snp-milan-v3-vcek-05b7438a";

fn vectors() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    if path.is_dir() {
        return Some(path);
    }
    let required = std::env::var_os("ENARX_REQUIRE_VECTORS").is_some_and(|v| v == "1");
    assert!(
        !required,
        "ENARX_REQUIRE_VECTORS=1, but there are no vectors"
    );
    eprintln!("skipped: no vectors at {}", path.display());
    None
}

fn enarx(args: &[&str]) -> (i32, Output) {
    let output = Command::new(env!("CARGO_BIN_EXE_enarx"))
        .args(args)
        .env("ENARX_STORE", "/nonexistent/store")
        .output()
        .unwrap();
    (output.status.code().unwrap(), output)
}

#[test]
fn exit_codes_say_valid_refused_or_usage() {
    let Some(vectors) = vectors() else { return };
    let folder = vectors.join(CASE);
    let (folder, report) = (folder.to_str().unwrap(), folder.join("report.bin"));
    let report = report.to_str().unwrap();
    let authentic = [
        "--policy",
        "insecure-authenticity-only",
        "--at",
        "2026-09-01T00:00:00Z",
    ];
    let with = |more: &[&str]| enarx(&[&["verify", report], more].concat()).0;
    assert_eq!(with(&[&["--certs", folder][..], &authentic].concat()), 0);
    // No certificates, the default policy without a revocation list, a clock before the certificate.
    assert_eq!(with(&authentic), 3);
    assert_eq!(
        with(&["--certs", folder, "--at", "2026-09-01T00:00:00Z"]),
        3
    );
    assert_eq!(
        with(&[
            "--certs",
            folder,
            "--policy",
            "insecure-authenticity-only",
            "--at",
            "0"
        ]),
        3
    );
    assert_eq!(enarx(&["verify", "/nonexistent/report"]).0, 3);
    assert_eq!(with(&["--certs", "/nonexistent/certs"]), 2);
    assert_eq!(with(&["--policy", "/nonexistent/policy"]), 2);
    assert_eq!(with(&["--at", "yesterday"]), 2);
    assert_eq!(enarx(&["verify"]).0, 2);
}

#[test]
fn a_quotes_json_has_the_status_in_intels_words() {
    let Some(vectors) = vectors() else { return };
    let case = vectors.join("sgx-v3-00606a000000-268c0681");
    let (quote, collateral) = (case.join("quote.bin"), case.join("collateral.json"));
    let (code, output) = enarx(&[
        "verify",
        quote.to_str().unwrap(),
        "--collateral",
        collateral.to_str().unwrap(),
        "--policy",
        "insecure-authenticity-only",
        "--at",
        "1755236546",
        "--json",
    ]);
    assert_eq!(code, 0);
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["overall"], "valid");
    assert_eq!(verdict["tcb_status"], "SWHardeningNeeded");
    assert_eq!(verdict["advisories"][0], "INTEL-SA-00615");
}

#[test]
fn a_token_says_what_the_verdict_says() {
    let Some(vectors) = vectors() else { return };
    let folder = vectors.join(CASE);
    let report = folder.join("report.bin");
    let key = tempfile::NamedTempFile::new().unwrap();
    let token = || {
        enarx(&[
            "verify",
            report.to_str().unwrap(),
            "--certs",
            folder.to_str().unwrap(),
            "--policy",
            "insecure-authenticity-only",
            "--at",
            "2026-09-01T00:00:00Z",
            "--ear-key",
            key.path().to_str().unwrap(),
        ])
    };
    let (code, output) = token();
    assert_eq!((code, output.stdout), (2, vec![]), "an empty key");

    let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
    let pem = secret.to_pkcs8_pem(LineEnding::LF).unwrap();
    std::fs::write(key.path(), pem).unwrap();
    let (code, output) = token();
    assert_eq!(code, 0);
    let token = String::from_utf8(output.stdout).unwrap();
    let claims = Base64UrlUnpadded::decode_vec(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    let appraisal = &claims["submods"]["AMD SEV-SNP"];
    assert_eq!(claims["iat"], 1_788_220_800);
    assert_eq!(appraisal["ear_status"], "affirming");
    assert_eq!(appraisal["ear_trustworthiness_vector"]["hardware"], 2);
    assert_eq!(appraisal["ear_attester_claims"]["report.product"], "milan");
}

#[test]
fn policies_are_checked_and_explained() {
    assert_eq!(enarx(&["policy", "check", "default"]).0, 0);
    let (code, output) = enarx(&["policy", "explain", "insecure-authenticity-only"]);
    assert_eq!(code, 0);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("insecure-allow-debug = true") && text.contains("entrysign"));
    let file = std::env::temp_dir().join(format!("enarx-policy-{}.toml", std::process::id()));
    std::fs::write(&file, "version = 1\n[snp]\nmesurements = []\n").unwrap();
    let (code, output) = enarx(&["policy", "check", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(code, 2);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("snp.mesurements") && message.contains("`measurements`"),
        "{message}"
    );
}

#[test]
fn inspection_shows_fields_or_says_why_not() {
    let Some(vectors) = vectors() else { return };
    let report = vectors.join(CASE).join("report.bin");
    let (code, output) = enarx(&["inspect", report.to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("alias-check")
    );
    assert_eq!(
        enarx(&["inspect", vectors.join("INDEX.md").to_str().unwrap()]).0,
        3
    );
}
