// SPDX-License-Identifier: Apache-2.0

//! The exit codes and output of `enarx verify`, `policy` and `inspect`, with genuine evidence from the folder of
//! vectors beside the repository, and of `receipt verify`, with a receipt of a simulated platform.

#[macro_use]
extern crate enarx_harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64ct::{Base64UrlUnpadded, Encoding};
use enarx_attestation::{AttestationResult, Tier, Timestamp};
use enarx_harness::needs::{cases, vectors};
use enarx_hostile_host::chip::Chip;
use enarx_snp::report::REPORT_LEN;
use p256::pkcs8::{EncodePrivateKey, EncodePublicKey, LineEnding};
use serde_json::json;

const CASE: &str = "snp-milan-v3-vcek-05b7438a";

fn main() -> std::process::ExitCode {
    enarx_harness::main()
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
    let vectors = vectors();
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
    assert_eq!(enarx(&["verify", "/nonexistent/report"]).0, 66);
    assert_eq!(with(&["--certs", "/nonexistent/certs"]), 66);
    assert_eq!(with(&["--policy", "/nonexistent/policy"]), 66);
    assert_eq!(with(&["--at", "yesterday"]), 2);
    assert_eq!(enarx(&["verify"]).0, 2);
}

#[test]
fn a_quotes_json_has_the_status_in_intels_words() {
    let vectors = vectors();
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
    let vectors = vectors();
    let folder = vectors.join(CASE);
    let report = folder.join("report.bin");
    let key = tempfile::NamedTempFile::new().unwrap();
    let verify = |flags: &[&str]| {
        let fixed = [
            "verify",
            report.to_str().unwrap(),
            "--certs",
            folder.to_str().unwrap(),
            "--policy",
            "insecure-authenticity-only",
            "--at",
            "2026-09-01T00:00:00Z",
        ];
        enarx(&[&fixed, flags].concat())
    };
    let with_key = ["--ear-key", key.path().to_str().unwrap()];
    let token = || verify(&with_key);
    let (code, output) = token();
    assert_eq!((code, output.stdout), (65, vec![]), "an empty key");

    let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
    let pem = secret.to_pkcs8_pem(LineEnding::LF).unwrap();
    std::fs::write(key.path(), pem).unwrap();
    let (code, output) = token();
    assert_eq!(code, 0);
    let token = String::from_utf8(output.stdout).unwrap();
    let claims = |token: &str| -> serde_json::Value {
        let claims = Base64UrlUnpadded::decode_vec(token.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice(&claims).unwrap()
    };
    let lasting = [&with_key[..], &["--ear-lifetime", "9000000h"]].concat();
    let lasting = String::from_utf8(verify(&lasting).1.stdout).unwrap();
    let verdict: serde_json::Value = serde_json::from_slice(&verify(&["--json"]).1.stdout).unwrap();
    // Whatever lifetime was requested, it ends with the first certificate or list.
    let (issued, until) = (1_788_220_800, verdict["until_unix"].as_u64().unwrap());
    assert!(until > issued, "{verdict}");
    assert_eq!(claims(&lasting)["exp"], until);
    let claims = claims(&token);
    assert_eq!(claims["exp"], until.min(issued + 3600));
    let public = secret
        .public_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    let read = |at| AttestationResult::read(&lasting, &public, Timestamp(at), 0);
    assert_eq!(
        read(until - 1).unwrap().attesters["AMD SEV-SNP"].status,
        Tier::None
    );
    assert_eq!(read(until).unwrap_err().code(), "ear.expired");
    let appraisal = &claims["submods"]["AMD SEV-SNP"];
    assert_eq!(claims["iat"], 1_788_220_800);
    // Nothing of the guest was compared, so the output says nothing about what runs.
    assert_eq!(appraisal["ear_status"], "none");
    assert_eq!(
        appraisal["enarx_not_compared"],
        json!(["guest.measurement", "guest.report-data"])
    );
    let vector = &appraisal["ear_trustworthiness_vector"];
    assert_eq!(
        (&vector["executables"], &vector["instance-identity"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(appraisal["ear_trustworthiness_vector"]["hardware"], 2);
    assert_eq!(appraisal["ear_attester_claims"]["report.product"], "milan");
}

#[test]
fn a_relying_party_verifies_a_token() {
    const AT: &str = "2026-09-01T00:00:00Z";
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        path(name)
    };
    let key = |byte: u8| p256::SecretKey::from_slice(&[byte; 32]).unwrap();
    let public = |byte: u8| {
        let key = key(byte).public_key();
        key.to_public_key_pem(LineEnding::LF).unwrap()
    };
    let secret = key(7).to_pkcs8_pem(LineEnding::LF).unwrap();
    let secret = write("verifier.key", &secret);
    let (verifier, stranger) = (
        write("verifier.pub", &public(7)),
        write("stranger.pub", &public(8)),
    );
    let vector = vectors().join(CASE);
    let report = vector.join("report.bin").to_str().unwrap().to_owned();
    let certs = vector.to_str().unwrap().to_owned();
    let verify = |flags: &[&str]| {
        let fixed = ["verify", &report, "--certs", &certs, "--at", AT];
        enarx(&[&fixed, flags].concat())
    };
    let verdict = verify(&["--policy", "insecure-authenticity-only", "--json"]).1;
    let verdict: serde_json::Value = serde_json::from_slice(&verdict.stdout).unwrap();
    let measurement = verdict["claims"]["guest.measurement"].as_str().unwrap();
    let policy = write(
        "policy.toml",
        &format!(
            "version = 1\nname = \"ours\"\n[missing]\ncrl = \"insecure-ignore\"\n[snp]\nmeasurements = [\"{measurement}\"]\n"
        ),
    );
    let token = |name: &str, flags: &[&str]| {
        let (_, output) = verify(&[flags, &["--ear-key", &secret]].concat());
        write(name, &text(&output))
    };
    let good = token("good.jwt", &["--policy", &policy]);
    let ear = |token: &str, flags: &[&str]| {
        let (code, output) = enarx(&[&["ear", "verify", token], flags].concat());
        (code, text(&output))
    };
    // It is valid, and the output ends with what was not compared.
    let by_key = ["--key", &verifier, "--at", AT];
    let (code, said) = ear(&good, &by_key);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("AMD SEV-SNP: affirming under policy ours"),
        "{said}"
    );
    assert!(said.contains(measurement), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("not compared: --nonce, --policy-name, --claim"),
        "{said}"
    );
    let of_guest = format!("guest.measurement={}", measurement.to_uppercase());
    let wanted = [
        &by_key[..],
        &["--policy-name", "ours", "--claim", &of_guest],
    ]
    .concat();
    let (code, json) = ear(&good, &[&wanted[..], &["--json"]].concat());
    assert_eq!(code, 0, "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["not_compared"], json!(["nonce"]));
    assert_eq!(json["attesters"]["AMD SEV-SNP"]["ear_status"], "affirming");
    // Each difference is refused with its name.
    let nonce = "00112233445566778899aabbccddeeff";
    let zeros = format!("guest.measurement={}", "0".repeat(96));
    let unbound = token("unbound.jwt", &["--policy", "insecure-authenticity-only"]);
    let (application, configuration) = (write("app.wasm", ""), write("conf.json", "{}"));
    let refused = token(
        "refused.jwt",
        &[
            "--policy",
            &policy,
            "--nonce",
            nonce,
            "--application",
            &application,
            "--configuration",
            &configuration,
        ],
    );
    let junk = write("junk.jwt", "no token");
    for (token, flags, code, name) in [
        (
            &good,
            &["--key", &stranger, "--at", AT][..],
            3,
            "ear.signature",
        ),
        (&good, &["--key", &secret, "--at", AT], 65, "ear.key"),
        (
            &good,
            &["--key", &verifier, "--at", "2026-09-01T01:01:00Z"],
            3,
            "ear.expired",
        ),
        (
            &good,
            &["--key", &verifier, "--at", "2026-08-31T23:58:00Z"],
            3,
            "ear.early",
        ),
        (&good, &["--key", &verifier], 3, "ear.expired"),
        (
            &good,
            &["--key", &verifier, "--at", AT, "--nonce", nonce],
            3,
            "ear.nonce",
        ),
        (
            &good,
            &["--key", &verifier, "--at", AT, "--policy-name", "default"],
            3,
            "ear.policy",
        ),
        (
            &good,
            &["--key", &verifier, "--at", AT, "--claim", &zeros],
            3,
            "ear.claim",
        ),
        (
            &good,
            &["--key", &verifier, "--at", AT, "--claim", "tdx.mrtd=00"],
            3,
            "ear.claim",
        ),
        // Genuine hardware, and nobody knows what runs on it; evidence that the verifier refused.
        (&unbound, &by_key, 3, "ear.status"),
        (&refused, &by_key, 3, "ear.status"),
        (&junk, &by_key, 65, "ear.format"),
    ] {
        let (found, said) = ear(token, &[flags, &["--json"]].concat());
        assert_eq!(found, code, "{token} {flags:?}: {said}");
        let document: serde_json::Value = serde_json::Deserializer::from_str(&said)
            .into_iter()
            .next()
            .unwrap()
            .unwrap();
        assert_eq!(document["code"], name, "{token} {flags:?}: {said}");
    }
    let (code, said) = ear(
        &good,
        &[&by_key[..], &["--claim", "guest-measurement=0"]].concat(),
    );
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("did you mean guest.measurement?"), "{said}");
    // The nonce that the verifier compared is in its token.
    let claims = std::fs::read_to_string(&refused).unwrap();
    let claims = Base64UrlUnpadded::decode_vec(claims.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["eat_nonce"], "ABEiM0RVZneImaq7zN3u_w");
}

/// A file in its own folder.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

/// Both outputs as one text.
fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

/// Genuine quotes of platforms without pending updates: evidence, collateral, and the time at which this holds.
fn good_quotes(vectors: &Path) -> Vec<[String; 3]> {
    let mut quotes = Vec::new();
    for entry in std::fs::read_dir(vectors).unwrap() {
        let folder = entry.unwrap().path();
        let read = std::fs::read_to_string(folder.join("expected.json"));
        let Ok(expected) = read else { continue };
        let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
        let status = expected["expected_status"].as_str();
        if !matches!(status, Some("UpToDate" | "SWHardeningNeeded")) {
            continue;
        }
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let at = expected["verify_at_unix"].as_u64().unwrap().to_string();
        quotes.push([path("quote.bin"), path("collateral.json"), at]);
    }
    assert!(quotes.len() >= 10, "{}", quotes.len());
    quotes
}

#[test]
fn no_genuine_quote_passes_a_policy_about_snp_or_escapes_a_flag() {
    let (vectors, cases) = (vectors(), cases());
    let case = |name: &str| cases.join(name).to_str().unwrap().to_owned();
    let (_folder, measured) = file(&format!(
        "version = 1\n[snp]\nmeasurements = [\"{}\"]",
        "ab".repeat(48)
    ));
    let (application, configuration) = (case("app.wasm"), case("conf.json"));
    let bound = [
        "--nonce",
        "0011223344556677",
        "--application",
        &application,
        "--configuration",
        &configuration,
    ];
    for [quote, collateral, at] in good_quotes(&vectors) {
        let verify = |more: &[&str]| {
            let args = ["verify", &quote, "--collateral", &collateral, "--at", &at];
            let (code, output) = enarx(&[&args, more].concat());
            (code, text(&output))
        };
        let refused = |more: &[&str], check: &str| {
            let (code, text) = verify(more);
            assert_eq!(code, 3, "{quote} {more:?}: {text}");
            assert!(text.contains(&format!("FAIL  {check}")), "{check}: {text}");
        };
        let (code, text) = verify(&[]);
        assert_eq!(code, 0, "{text}");
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("accepted, but NOT compared: ")
                && last.ends_with(" on such a platform passes)"),
            "{last}"
        );
        assert!(last.contains("guest.report-data"), "{last}");
        refused(&["--policy", &measured], "evidence.accepted");
        refused(&["--policy", &case("snponly.toml")], "evidence.accepted");
        refused(&["--policy", &case("rel.toml")], "evidence.accepted");
        refused(&bound, "guest.report-data");
        refused(
            &[&bound[..], &["--policy", "insecure-authenticity-only"]].concat(),
            "guest.report-data",
        );
        // The contents determine the kind, not the name.
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("report.bin");
        std::fs::copy(&quote, &named).unwrap();
        let args = [
            "verify",
            named.to_str().unwrap(),
            "--collateral",
            &collateral,
            "--at",
            &at,
            "--policy",
            &measured,
        ];
        assert_eq!(enarx(&args).0, 3);
    }
}

#[test]
fn a_flag_that_can_have_no_effect_is_refused() {
    let (vectors, cases) = (vectors(), cases());
    let vector = |name: &str| vectors.join(name).to_str().unwrap().to_owned();
    let case = |name: &str| cases.join(name).to_str().unwrap().to_owned();
    let (report, certs) = (vector(&format!("{CASE}/report.bin")), vector(CASE));
    let tdx = "tdx-v4-b0c06f000000-3ab56d67";
    let (quote, collateral) = (
        vector(&format!("{tdx}/quote.bin")),
        vector(&format!("{tdx}/collateral.json")),
    );
    let refused = |args: &[&str], code: i32, words: &str| {
        let (found, output) = enarx(&[&["verify"], args].concat());
        let text = text(&output);
        assert_eq!(found, code, "{args:?}: {text}");
        assert!(text.contains(words), "{words}: {text}");
    };
    refused(
        &[&quote, "--certs", &certs],
        2,
        "--certs is for SEV-SNP reports",
    );
    refused(
        &[&report, "--collateral", &collateral],
        2,
        "--collateral is for TDX and SGX quotes",
    );
    // Report data of the policy and of the command line that differ.
    let (application, configuration) = (case("app.wasm"), case("conf.json"));
    let keep = [
        "--nonce",
        "0000000000000000",
        "--application",
        &application,
        "--configuration",
        &configuration,
    ];
    let pinned = case("snponly.toml");
    let with_policy = [&[report.as_str(), "--policy", &pinned], &keep[..]].concat();
    refused(&with_policy, 2, "the report data in the policy differs");
    for flag in ["--application", "--configuration"] {
        refused(&[&report, flag, &report], 2, "--nonce");
    }
    refused(&[&report, "--manifest-key", &report], 2, "--manifest");
    refused(&[&report, "--min-manifest-serial", "1"], 2, "--manifest");
}

/// A case, the arguments of `verify` for it, its exit code, and words of the output.
struct Row {
    evidence: &'static str,
    /// Files below the folder of cases; those of a policy given as a file may be changed first.
    policy: &'static str,
    change: fn(&str) -> String,
    code: i32,
    words: &'static str,
}

/// Cases under their own hierarchy, at the time at which it is valid.
const SIMULATED_CASES: &[Row] = &[
    // A policy of an earlier version is refused, and the error says what to write instead.
    Row {
        evidence: "s_turindense_low",
        policy: "deny.toml",
        change: str::to_owned,
        code: 65,
        words: "`snp.attacks = []` is refused: ",
    },
    Row {
        evidence: "s_turindense_low",
        policy: "sim.toml",
        change: str::to_owned,
        code: 65,
        words: "the policy accepts no kind of evidence",
    },
    // Steppings without their own row.
    Row {
        evidence: "s_turindense_low",
        policy: "rmp.toml",
        change: str::to_owned,
        code: 3,
        words: "FAIL  attack.rmpocalypse: expected a published TCB floor for every component, found none is known for \
                microcode of turin (model 0x11, stepping 0x0)",
    },
    Row {
        evidence: "s_milan_stepping0_ucode0",
        policy: "sim.toml",
        change: |policy| policy.to_owned() + "[snp]\n",
        code: 3,
        words: "FAIL  attack.entrysign: expected a published TCB floor for every component, found none is known for \
                microcode of milan (model 0x1, stepping 0x0)",
    },
    // A deny list that a report evades by naming no chip.
    Row {
        evidence: "s_deny_vlek",
        policy: "deny.toml",
        change: without_attacks,
        code: 3,
        words: "FAIL  chip.denied: expected a chip that is not on the deny list, found none, the evidence names no chip",
    },
    // Lists that are incomplete, or contain an unknown critical extension.
    Row {
        evidence: "s_delta",
        policy: "sim.toml",
        change: |policy| policy.to_owned() + "[snp]\n",
        code: 3,
        words: "FAIL  crl.complete: expected covering every certificate, without unknown critical extensions, found ",
    },
    Row {
        evidence: "s_delta",
        policy: "sim.toml",
        change: |policy| policy.to_owned() + "[snp]\n",
        code: 3,
        words: "s_delta/0.crl: it is a delta to another list",
    },
    Row {
        evidence: "s_unkcrit",
        policy: "sim.toml",
        change: |policy| policy.to_owned() + "[snp]\n",
        code: 3,
        words: "s_unkcrit/0.crl: critical extension ",
    },
    // A stale list beside a fresh one is named by its file.
    Row {
        evidence: "s_stale+fresh",
        policy: "sim.toml",
        change: |policy| policy.to_owned() + "[snp]\n",
        code: 3,
        words: "s_stale+fresh/0.crl: 2024-01-01T00:00:00Z to 2025-01-01T00:00:00Z\n",
    },
    // An age limit, which the fresh one exceeds; and providers, of which a chip's own key has none.
    Row {
        evidence: "s_stale+fresh",
        policy: "sim.toml",
        change: |policy| policy.to_owned() + "[snp]\ncrl-max-age-days = 150\n",
        code: 3,
        words: "FAIL  crl.age: expected a list of the root, and none that is older than 150 days, found ",
    },
    Row {
        evidence: "s_stale+fresh",
        policy: "sim.toml",
        change: |policy| {
            policy.to_owned() + "[snp]\nallowed-csps = [\"CN=cc-us-east-2.amazonaws.com\"]\n"
        },
        code: 3,
        words: "FAIL  certificate.csp: expected CN=cc-us-east-2.amazonaws.com, found none, the certificate names no provider",
    },
    // A floor for another product.
    Row {
        evidence: "s_turindense_low",
        policy: "floor.toml",
        change: without_attacks,
        code: 3,
        words: "FAIL  tcb.reported: expected a floor for turin, found floors for milan only",
    },
];

/// A policy that required no attack's mitigation, as such policies are written now.
fn without_attacks(policy: &str) -> String {
    policy.replace(
        "attacks=[]",
        "insecure-ignored-attacks = [\"badram\", \"entrysign\"]",
    )
}

/// Verifies evidence at a time at which its certificates are in force.
fn verify_case(evidence: &Path, policy: &str, flags: &[&str]) -> (i32, Output) {
    let report = evidence.join("report.bin");
    let line = [
        "verify",
        report.to_str().unwrap(),
        "--certs",
        evidence.to_str().unwrap(),
        "--policy",
        policy,
        "--at",
        "2026-06-01T00:00:00Z",
    ];
    enarx(&[&line[..], flags].concat())
}

#[test]
fn cases_that_were_accepted_are_refused() {
    let cases = cases();
    for row in SIMULATED_CASES {
        let policy = std::fs::read_to_string(cases.join(row.policy)).unwrap();
        let (_folder, policy) = file(&(row.change)(&policy));
        let (code, output) = verify_case(&cases.join(row.evidence), &policy, &[]);
        let text = text(&output);
        assert_eq!(code, row.code, "{} {}: {text}", row.evidence, row.policy);
        assert!(
            text.contains(row.words),
            "{} {}: {}: {text}",
            row.evidence,
            row.policy,
            row.words
        );
    }
}

#[test]
fn json_names_a_stale_list_by_its_file() {
    let cases = cases();
    let policy = std::fs::read_to_string(cases.join("sim.toml")).unwrap();
    let (_folder, policy) = file(&(policy + "[snp]\n"));
    let evidence = cases.join("s_stale+fresh");
    let (code, output) = verify_case(&evidence, &policy, &["--json"]);
    assert_eq!(code, 3);
    let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let actual = |name: &str| {
        let checks = verdict["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        check["actual"].as_str().unwrap().to_owned()
    };
    let file = |name: &str| evidence.join(name).display().to_string();
    assert!(actual("crl.fresh").starts_with(&file("0.crl")), "{verdict}");
    assert_eq!(actual("crl.present"), file("1.crl"));
}

#[test]
fn policies_that_silently_weaken_protection_are_refused() {
    let (vectors, cases) = (vectors(), cases());
    let verify = |vector: &str, policy: &str, at: &str| {
        let vector = vectors.join(vector);
        let path = |name: &str| vector.join(name).to_str().unwrap().to_owned();
        let args = if vector.join("quote.bin").is_file() {
            [
                "verify",
                &path("quote.bin"),
                "--collateral",
                &path("collateral.json"),
            ]
        } else {
            ["verify", &path("report.bin"), "--certs", &path("")]
        };
        let (code, output) = enarx(&[&args, &["--at", at, "--policy", policy][..]].concat());
        (code, text(&output))
    };
    let read = |name: &str| std::fs::read_to_string(cases.join(name)).unwrap();
    let refused = |vector: &str, policy: &str, at: &str, code: i32, words: &str| {
        let (_folder, policy) = file(policy);
        let (found, text) = verify(vector, &policy, at);
        assert_eq!(found, code, "{vector}: {text}");
        assert!(text.contains(words), "{vector}: {words}: {text}");
    };
    // An empty list of TCB versions; and with a floor that is compared, the same report.
    let (milan, at) = ("snp-milan-v3-vcek-a20e02a2", "2026-09-01T00:00:00Z");
    refused(milan, &read("tcbempty.toml"), at, 65, "is refused: ");
    let empty = read("tcbempty.toml").replace("min-report-version = 2\n", "");
    refused(milan, &empty, at, 65, "`snp.tcb` is refused: ");
    let floor = empty.replace("tcb = []\n", "");
    let words = "FAIL  tcb.reported: expected at least snp 0xff, microcode 0xff";
    refused(milan, &floor, at, 3, words);
    refused(milan, &floor, at, 3, "FAIL  attack.entrysign");
    // A misspelt advisory; and one that is spelt correctly.
    let sgx = "sgx-v3-00606a000000-268c0681";
    let at = "1755236546";
    let advisories = read("adv.toml") + "[sgx]\n";
    refused(
        sgx,
        &advisories,
        at,
        65,
        "INTEL-SA- or INTEL-DOC- and five digits",
    );
    for wrong in ["intel-sa-00615", "SA-00615", "INTEL-SA-0615"] {
        let policy = advisories.replace("INTEL-SA-00615 ", wrong);
        refused(sgx, &policy, at, 65, "five digits");
    }
    let policy = advisories.replace("INTEL-SA-00615 ", "INTEL-SA-00615");
    refused(sgx, &policy, at, 3, "FAIL  quote.advisories");
    // A switch without effect; the TD is refused, not its collateral.
    refused(
        "tdx-v4-b0c06f000000-3ab56d67",
        &read("sept.toml"),
        "1774897771",
        65,
        "SEPT_VE_DISABLE is always required",
    );
    let quote = vectors.join("tdx-v4-00806f050000-a187b0da/quote.bin");
    let collateral = vectors.join("tdx-v4-00806f050000-00b2526a/collateral.json");
    let (_folder, policy) = file("version = 1\n[tdx]");
    let (code, output) = enarx(&[
        "verify",
        quote.to_str().unwrap(),
        "--collateral",
        collateral.to_str().unwrap(),
        "--at",
        "1750327295",
        "--policy",
        &policy,
    ]);
    let text = text(&output);
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("FAIL  tdx.sept-ve-disable")
            && text.contains("pass  collateral.verification"),
        "{text}"
    );
    assert!(!text.contains("fetch current collateral"), "{text}");
}

#[test]
fn a_verdict_ends_with_what_it_does_not_cover() {
    let vectors = vectors();
    let folder = vectors.join(CASE);
    let (certs, report) = (folder.to_str().unwrap(), folder.join("report.bin"));
    let verify = |policy: &str, more: &[&str]| {
        let args = [
            "verify",
            report.to_str().unwrap(),
            "--certs",
            certs,
            "--at",
            "2026-09-01T00:00:00Z",
            "--policy",
            policy,
        ];
        let (code, output) = enarx(&[&args, more].concat());
        assert_eq!(code, 0, "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let plain = verify("insecure-authenticity-only", &[]);
    assert!(
        plain.starts_with("valid: AMD SEV-SNP, ANY guest, under policy"),
        "{plain}"
    );
    assert!(
        plain.contains("warning: milan is accepted: software reads the seed"),
        "{plain}"
    );
    assert!(
        plain.ends_with("accepted, but NOT compared: guest.measurement, guest.report-data (any guest on such a chip passes)\n"),
        "{plain}"
    );
    let verdict: serde_json::Value =
        serde_json::from_str(&verify("insecure-authenticity-only", &["--json"])).unwrap();
    assert_eq!(
        verdict["not_compared"],
        json!(["guest.measurement", "guest.report-data"])
    );
    assert!(
        verdict["warnings"][0]
            .as_str()
            .unwrap()
            .contains("any report can be forged")
    );
    let measurement = verdict["claims"]["guest.measurement"].as_str().unwrap();
    let (_folder, pinned) = file(&format!(
        "version = 1\n[missing]\ncrl = \"insecure-ignore\"\n[snp]\nmeasurements = [\"{measurement}\"]"
    ));
    let pinned = verify(&pinned, &[]);
    assert!(
        pinned.starts_with("valid: AMD SEV-SNP under policy"),
        "{pinned}"
    );
    assert!(
        pinned.ends_with(
            "NOT compared: guest.report-data (evidence of any time and for anybody passes)\n"
        ),
        "{pinned}"
    );
}

#[test]
fn policies_are_checked_and_explained() {
    let (code, output) = enarx(&["policy", "check", "default"]);
    assert_eq!(code, 0);
    let warned = text(&output);
    for words in [
        "default: can be used, but",
        "any guest on a genuine chip",
        "any TD on",
        "any enclave on",
        "any report can be forged",
    ] {
        assert!(warned.contains(words), "{words}: {warned}");
    }
    assert!(!warned.contains("gives up protection"), "{warned}");
    let (_folder, weak) =
        file("version = 1\n[missing]\ncrl = \"insecure-degrade\"\n[snp]\ninsecure-vmpl = [2]");
    let (code, output) = enarx(&["policy", "check", &weak]);
    assert_eq!(code, 0);
    let warned = text(&output);
    for words in [
        "missing.crl = \"insecure-degrade\"",
        "snp.insecure-vmpl = [2]",
    ] {
        assert!(
            warned.contains(&format!("warning: gives up protection: {words}")),
            "{warned}"
        );
    }
    let (_folder, good) = file(&format!(
        "version = 1\nname = \"mine\"\n[snp]\nproducts = [\"genoa\"]\nmeasurements = [\"{}\"]",
        "ab".repeat(48)
    ));
    assert_eq!(text(&enarx(&["policy", "check", &good]).1), "mine: good\n");
    for (key, words) in [
        (
            "crl-max-age-days = 0",
            "`snp.crl-max-age-days` must be 1 to 3650",
        ),
        ("crl-max-age = 7", "did you mean `crl-max-age-days`?"),
        ("allowed-csps = []", "`snp.allowed-csps` is empty"),
        (
            "allowed-csps = [\"\"]",
            "`snp.allowed-csps`: \"\" can never match",
        ),
    ] {
        let (_folder, wrong) = file(&format!("version = 1\n[snp]\n{key}"));
        let (code, output) = enarx(&["policy", "check", &wrong]);
        assert_eq!(code, 65, "{key}");
        let text = text(&output);
        assert!(text.contains(words), "{key}: {text}");
    }
    let (_folder, nothing) = file("version = 1");
    let (code, output) = enarx(&["policy", "check", &nothing]);
    assert_eq!(code, 65);
    assert!(text(&output).contains("accepts no kind of evidence"));
    let (code, output) = enarx(&["policy", "explain", "insecure-authenticity-only"]);
    assert_eq!(code, 0);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("insecure-allow-debug = true") && text.contains("entrysign"));
    assert!(text.contains("#   snp.insecure-vmpl = [1, 2, 3]"), "{text}");
    for key in ["allowed-csps", "crl-max-age-days"] {
        assert!(
            text.contains(&format!("\n# {key} is not set\n")),
            "{key}: {text}"
        );
    }
    // The meaning of a key is above it.
    let explained = "# Accept guests that the host may debug: it can read all their memory.\ninsecure-allow-debug = true";
    assert!(text.contains(explained), "{text}");
    let file = std::env::temp_dir().join(format!("enarx-policy-{}.toml", std::process::id()));
    std::fs::write(&file, "version = 1\n[snp]\nmesurements = []\n").unwrap();
    let (code, output) = enarx(&["policy", "check", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(code, 65);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("snp.mesurements") && message.contains("`measurements`"),
        "{message}"
    );
}

#[test]
fn inspection_shows_fields_or_the_reason_for_none() {
    let vectors = vectors();
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
        65
    );
}

/// Asserts that nothing in the outputs controls a terminal: the only control characters are ends of lines.
#[track_caller]
fn assert_plain(output: &Output) {
    let text = text(output);
    let acting = |c: &char| c.is_control() && *c != '\n' || ('\u{200b}'..='\u{206f}').contains(c);
    assert_eq!(text.chars().find(acting), None, "{text:?}");
    let forged = |line: &str| {
        line.starts_with("valid")
            || line
                .trim_start()
                .starts_with("pass  report.signature: good")
    };
    assert!(!text.lines().any(forged), "{text}");
}

#[test]
fn hostile_text_does_not_act_on_the_terminal() {
    let (vectors, cases) = (vectors(), cases());
    let report = vectors.join(CASE).join("report.bin");
    let report = report.to_str().unwrap();
    let case = |name: &str| cases.join(name).to_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let named = folder.path().join("\u{1b}[2Jvalid: \u{202e}x\n");
    std::fs::write(&named, "version = 1\n[\"\\u001b[2Jvalid\"]\n").unwrap();
    let named = named.to_str().unwrap();
    let policy = folder.path().join("policy.toml");
    let hostile = "version = 1\nname = \"\\u001b[2J\\nvalid\\u202e\"\n[snp]\n";
    std::fs::write(&policy, hostile).unwrap();
    let policy = policy.to_str().unwrap();
    for args in [
        &["verify", report, "--certs", &case("evil")][..],
        &["verify", report, "--certs", &case("evil"), "--json"],
        &["verify", &case("evilquote.bin")],
        &["verify", &case("evilquote.bin"), "--json"],
        &["inspect", &case("evilquote.bin")],
        &["inspect", &case("evil.crl")],
        &["inspect", &case("evil.crl"), "--json"],
        &["inspect", &case("evil/vek.der")],
        &["inspect", named],
        &["verify", named],
        &["verify", report, "--certs", named],
        &["verify", report, "--policy", named],
        &["verify", report, "--policy", policy],
        &["verify", report, "--policy", policy, "--json"],
        &["verify", report, "--at", "\u{1b}[2J"],
        &["\u{1b}[2Jvalid"],
        &["run", named],
        &["policy", "check", policy],
        &["policy", "explain", policy],
        &["certs", "import", named],
        &["release", "list", named, "--key", named],
    ] {
        let (_, output) = enarx(args);
        assert!(
            !output.stdout.is_empty() || !output.stderr.is_empty(),
            "{args:?}"
        );
        assert_plain(&output);
        if args.contains(&"--json") {
            let _: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        }
    }
    // The name is still shown, escaped, and the verdict is the same.
    let (code, output) = enarx(&["verify", report, "--certs", &case("evil")]);
    assert_eq!(code, 3);
    assert!(text(&output).contains("\\u{1b}[2J"), "{}", text(&output));
}

#[test]
fn pipes_devices_and_folders_do_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let pipe = path("a.crl");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    std::fs::create_dir(path("zero")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("zero/a.crl")).unwrap();
    std::fs::write(path("report.bin"), [0; REPORT_LEN]).unwrap();
    let report = path("report.bin");
    let here = folder.path().to_str().unwrap();
    for (args, code, words) in [
        (
            &["verify", "/dev/zero"][..],
            66,
            "/dev/zero: not a regular file",
        ),
        (&["verify", &pipe], 66, "a.crl: not a regular file"),
        (&["verify", here], 66, "not a regular file"),
        (
            &["verify", &report, "--certs", here],
            66,
            "a.crl: not a regular file",
        ),
        (
            &["verify", &report, "--certs", &path("zero")],
            66,
            "zero/a.crl: not a regular file",
        ),
        (
            &["verify", &report, "--policy", &pipe],
            66,
            "not a regular file",
        ),
        (&["policy", "check", &pipe], 66, "not a regular file"),
        (&["inspect", "/dev/zero"], 66, "not a regular file"),
        (&["certs", "import", &pipe], 66, "not a regular file"),
    ] {
        let (found, output) = enarx(args);
        let text = text(&output);
        assert_eq!(found, code, "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
    }
    // If there are more lists than any product line has, they are refused before the 65th is read.
    std::fs::create_dir(path("many")).unwrap();
    for number in 0..65 {
        std::fs::write(path(&format!("many/{number}.crl")), b"").unwrap();
    }
    let (code, output) = enarx(&["verify", &report, "--certs", &path("many")]);
    assert_eq!(code, 65);
    assert!(text(&output).contains("more than 64 revocation lists"));
}

#[test]
fn evidence_can_come_from_standard_input() {
    let vectors = vectors();
    let report = vectors.join(CASE).join("report.bin");
    for (input, code) in [(report.as_path(), 0), (Path::new("/dev/zero"), 66)] {
        let output = Command::new(env!("CARGO_BIN_EXE_enarx"))
            .args(["inspect", "-"])
            .stdin(std::fs::File::open(input).unwrap())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    }
}

/// Forms in which evidence is delivered in practice: they are named, and read, because none of them is signed.
#[test]
fn evidence_is_extracted_from_its_container() {
    let (vectors, cases) = (vectors(), cases());
    let case = |name: &str| cases.join(name).to_str().unwrap().to_owned();
    let inspected = |path: &str| {
        let (code, output) = enarx(&["inspect", path]);
        let fields = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(code, 0, "{path}: {said}");
        (fields, said)
    };
    for (name, words) in [
        ("lit_msg_resp.bin", "is the answer of a guest's driver"),
        ("ioctl.bin", "is the answer of a guest's driver"),
        ("ext.bin", "is a report followed by a table of certificates"),
        ("hcl_real.bin", "is a paravisor's blob (HCLA)"),
    ] {
        let (fields, said) = inspected(&case(name));
        assert!(
            said.starts_with("enarx: ") && said.contains(words),
            "{said}"
        );
        assert!(
            fields.starts_with("SEV-SNP attestation report"),
            "{name}: {fields}"
        );
    }
    // The same report as text and followed by zeros.
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let report = std::fs::read(vectors.join(CASE).join("report.bin")).unwrap();
    let (plain, said) = inspected(vectors.join(CASE).join("report.bin").to_str().unwrap());
    assert_eq!(said, "");
    let hex = report
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02X}"));
    std::fs::write(path("hex"), hex + "\n").unwrap();
    let base64 = base64ct::Base64::encode_string(&report);
    std::fs::write(path("base64"), base64).unwrap();
    std::fs::write(path("padded"), [&report[..], &[0; 2912]].concat()).unwrap();
    for name in ["hex", "base64", "padded"] {
        let (fields, said) = inspected(&path(name));
        assert_eq!(fields, plain, "{name}");
        assert!(said.contains("the report is extracted from it"), "{said}");
    }
    // The certificates that a host delivers with a report are used, and verified as any others.
    let (code, output) = enarx(&[
        "verify",
        &case("ext.bin"),
        "--policy",
        "insecure-authenticity-only",
        "--at",
        "2026-09-01T00:00:00Z",
    ]);
    let text = text(&output);
    assert!(text.contains("pass  chain.certificates"), "{code}: {text}");
}

/// Folders as `snpguest` and the key distribution service leave them.
#[test]
fn folders_of_certificates_have_the_names_of_the_field() {
    let vectors = vectors();
    let genuine = vectors.join(CASE);
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read(genuine.join(name)).unwrap();
    let pem = |name: &str| {
        let digits = base64ct::Base64::encode_string(&read(name));
        format!("-----BEGIN CERTIFICATE-----\n{digits}\n-----END CERTIFICATE-----\n")
    };
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    let verify = || {
        enarx(&[
            "verify",
            genuine.join("report.bin").to_str().unwrap(),
            "--certs",
            folder.path().to_str().unwrap(),
            "--policy",
            "insecure-authenticity-only",
            "--at",
            "2026-09-01T00:00:00Z",
        ])
    };
    assert_eq!(verify().0, 3);
    write("vcek.pem", pem("vek.der"));
    write("ask.pem", pem("ask.der"));
    write("ark.pem", pem("ark.der"));
    let (code, output) = verify();
    assert_eq!(code, 0, "{}", text(&output));
    for name in ["ask.pem", "ark.pem"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    write("cert_chain", pem("ask.der") + &pem("ark.der"));
    let (code, output) = verify();
    assert_eq!(code, 0, "{}", text(&output));
    write("cert_chain", pem("ask.der").replace("-----END", "-----NO"));
    assert_eq!(verify().0, 65);
}

#[test]
fn a_genuine_quote_is_accepted_with_any_line_width_of_pem() {
    let (vectors, cases) = (vectors(), cases());
    let collateral = vectors.join("tdx-v4-b0c06f000000-3ab56d67/collateral.json");
    let (code, output) = enarx(&[
        "verify",
        cases.join("q76.bin").to_str().unwrap(),
        "--collateral",
        collateral.to_str().unwrap(),
        "--at",
        "1774897771",
    ]);
    assert_eq!(code, 0, "{}", text(&output));
    assert!(text(&output).contains("pass  quote.pck-chain"));
}

#[test]
fn imported_files_are_checked_before_they_replace_others() {
    let (vectors, cases) = (vectors(), cases());
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().to_str().unwrap();
    let case = vectors.join(CASE);
    let import = |path: PathBuf| {
        let (code, output) = enarx(&["certs", "import", path.to_str().unwrap(), "--store", store]);
        (code, text(&output))
    };
    // A store that cannot be written is not a file that cannot be read.
    let unwritable = ["--store", "/dev/null/store"];
    let (code, output) = enarx(
        &[
            &["certs", "import", case.to_str().unwrap()],
            &unwritable[..],
        ]
        .concat(),
    );
    assert_eq!(code, 74, "{}", text(&output));
    let verify = || {
        let (report, policy) = (case.join("report.bin"), "insecure-authenticity-only");
        let args = [
            "verify",
            report.to_str().unwrap(),
            "--policy",
            policy,
            "--store",
            store,
        ];
        enarx(&[&args[..], &["--at", "2026-09-01T00:00:00Z"]].concat()).0
    };
    assert_eq!((import(case.clone()).0, verify()), (0, 0));
    for (file, words) in [
        ("fakeark.der", "fakeark.der: not kept: the root key "),
        (
            "fakecrl.crl",
            "fakecrl.crl: not kept: it is not signed by the root ARK-Milan",
        ),
        (
            "s_delta",
            "belongs to the simulated platform: give it to `enarx verify --certs`",
        ),
        ("app.wasm", "app.wasm: not kept: neither a certificate"),
    ] {
        let (code, text) = import(cases.join(file));
        assert_eq!(code, 65, "{file}: {text}");
        assert!(text.contains(words), "{file}: {text}");
        assert_eq!(verify(), 0, "{file}");
    }
    let empty = tempfile::tempdir().unwrap();
    let (code, text) = import(empty.path().to_owned());
    assert_eq!(code, 65);
    assert!(
        text.contains("none of these files is a certificate"),
        "{text}"
    );
}

#[test]
fn certificates_missing_from_a_folder_come_from_the_store() {
    let (vectors, cases) = (vectors(), cases());
    let store = tempfile::tempdir().unwrap();
    let store = store.path().to_str().unwrap();
    let roots =
        ["roots/amd-milan-ark.pem", "roots/amd-milan-crl-2022.der"].map(|f| vectors.join(f));
    let roots = roots.each_ref().map(|path| path.to_str().unwrap());
    let (code, output) = enarx(&["certs", "import", roots[0], roots[1], "--store", store]);
    assert_eq!(code, 0, "{}", text(&output));
    let policy = std::fs::read_to_string(cases.join("crlpol.toml")).unwrap();
    let policy = policy
        .replace(
            "attacks = []",
            "insecure-ignored-attacks = [\"badram\", \"entrysign\"]",
        )
        .replace(
            "min-report-version = 2",
            "insecure-allow-report-version-2 = true",
        );
    let (_folder, policy) = file(&policy);
    // Certificates without a list, for a report that names no product.
    let report = vectors.join("snp-milan-v2-vcek-21033d58/report.bin");
    let certs = cases.join("c2");
    let verify = |store: &str| {
        let (code, output) = enarx(&[
            "verify",
            report.to_str().unwrap(),
            "--certs",
            certs.to_str().unwrap(),
            "--store",
            store,
            "--policy",
            &policy,
            "--at",
            "2022-12-01T00:00:00Z",
        ]);
        (code, text(&output))
    };
    let (code, with_list) = verify(store);
    assert_eq!(code, 0, "{with_list}");
    assert!(with_list.contains("pass  crl.present"), "{with_list}");
    let (code, without) = verify("/nonexistent/store");
    assert_eq!(code, 3, "{without}");
    assert!(without.contains("FAIL  crl.present"), "{without}");
}

#[test]
fn an_error_is_json_if_json_was_requested() {
    let vectors = vectors();
    let report = vectors.join(CASE).join("report.bin");
    let report = report.to_str().unwrap();
    for (args, code) in [
        (&["verify", "/nonexistent/report", "--json"][..], 66),
        (
            &[
                "verify",
                report,
                "--policy",
                "/nonexistent/policy",
                "--json",
            ],
            66,
        ),
        (
            &["verify", report, "--certs", "/nonexistent/certs", "--json"],
            66,
        ),
        (&["verify", report, "--collateral", report, "--json"], 2),
        (
            &[
                "verify",
                report,
                "--manifest",
                "/x",
                "--manifest-key",
                "/y",
                "--json",
            ],
            66,
        ),
        (&["inspect", "/nonexistent/report", "--json"], 66),
    ] {
        let (found, output) = enarx(args);
        assert_eq!(found, code, "{args:?}");
        let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(error["exit_code"], code, "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            said,
            format!("enarx: {}\n", error["error"].as_str().unwrap()),
            "{args:?}"
        );
    }
}

#[test]
fn a_reader_that_stops_early_changes_no_exit_code() {
    let vectors = vectors();
    let folder = vectors.join(CASE);
    let verify = |policy: &str, to: std::process::Stdio| {
        let status = Command::new(env!("CARGO_BIN_EXE_enarx"))
            .args([
                "verify",
                folder.join("report.bin").to_str().unwrap(),
                "--certs",
            ])
            .args([
                folder.to_str().unwrap(),
                "--at",
                "2026-09-01T00:00:00Z",
                "--policy",
                policy,
            ])
            .stdout(to)
            .stderr(std::process::Stdio::null())
            .status();
        status.unwrap().code()
    };
    for (policy, code) in [("insecure-authenticity-only", 0), ("default", 3)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(verify(policy, writer.into()), Some(code), "{policy}");
    }
    // A verdict that could not be written is not an acceptance.
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    assert_eq!(verify("insecure-authenticity-only", full.into()), Some(74));
}

#[test]
fn the_layout_of_a_report_that_names_no_cpu_is_not_guessed() {
    let cases = cases();
    let report = cases.join("turin_v2.bin");
    let (code, output) = enarx(&["inspect", report.to_str().unwrap()]);
    let text = text(&output);
    assert_eq!(code, 0);
    assert!(
        text.contains("the components depend on the CPU") && !text.contains("bootloader"),
        "{text}"
    );
}

/// Soon after that receipt was made; its certificates and lists are of a simulated platform, valid for ten years.
const RECEIPT_AT: &str = "2026-11-30T02:00:00Z";

/// A receipt that an earlier build made; `receipt/README.md` describes how.
fn of_an_earlier_build(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receipt");
    folder.join(name).to_str().unwrap().to_owned()
}

/// Verifies a receipt with the policy and the certificates of that folder.
fn verify_receipt(receipt: &str, at: &str, more: &[&str]) -> (i32, Output) {
    let policy = of_an_earlier_build("policy.toml");
    let certs = of_an_earlier_build("receipt.certs");
    let fixed = ["receipt", "verify", receipt, "--policy", &policy];
    enarx(&[&fixed[..], &["--certs", &certs, "--at", at], more].concat())
}

#[test]
fn a_receipt_of_an_earlier_build_is_valid_like_its_certificates() {
    let receipt = of_an_earlier_build("receipt");
    let of = |name: &str| of_an_earlier_build(name);
    let verify = |at: &str, application: &str| {
        let (contract, deployment) = (of("receipt.contract"), of("receipt.deployment"));
        let more = [
            "--application",
            application,
            "--contract",
            &contract,
            "--deployment",
            &deployment,
        ];
        let (code, output) = verify_receipt(&receipt, at, &more);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (code, said)
    };
    let own = of("application.wasm");
    let (code, said) = verify(RECEIPT_AT, &own);
    assert_eq!(code, 0, "{said}");
    for words in [
        "the receipt is valid: simulated",
        "ended by itself with exit code 7",
        "standard output: 0 bytes",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("not compared"), "{said}");
    assert_eq!(verify("2036-11-01T00:00:00Z", &own).0, 0);
    // Its lists were made after the second time, and are available today.
    for (at, checks) in [
        ("2036-12-01T00:00:00Z", &["validity.vek", "crl.fresh"][..]),
        ("2026-11-01T00:00:00Z", &["validity.vek"]),
    ] {
        let (code, said) = verify(at, &own);
        assert_eq!(code, 3, "{at}: {said}");
        for check in ["validity.vek", "crl.fresh"] {
            assert_eq!(
                said.contains(check),
                checks.contains(&check),
                "{check}: {said}"
            );
        }
    }
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello.wasm");
    let (code, said) = verify(RECEIPT_AT, other.to_str().unwrap());
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("receipt.application"), "{said}");
}

#[test]
fn a_receipt_of_an_earlier_build_with_a_changed_byte_is_invalid() {
    let bytes = std::fs::read(of_an_earlier_build("receipt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("receipt");
    let path = path.to_str().unwrap();
    std::fs::write(path, &bytes).unwrap();
    assert_eq!(verify_receipt(path, RECEIPT_AT, &[]).0, 0);
    let mut refused = 0;
    for index in (0..bytes.len()).step_by(bytes.len() / 60) {
        let mut changed = bytes.clone();
        // Digits stay digits, and letters stay letters, so that the form seldom reveals it.
        let (byte, first) = match bytes[index] {
            byte @ b'a'..=b'z' => (byte, b'a'),
            byte @ b'A'..=b'Z' => (byte, b'A'),
            byte => (byte, 0),
        };
        changed[index] = first + ((byte - first) ^ 1);
        std::fs::write(path, &changed).unwrap();
        let (code, output) = verify_receipt(path, RECEIPT_AT, &[]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!([3, 65].contains(&code), "{index}: {code}: {stderr}");
        assert!(output.stdout.is_empty(), "{index}");
        refused += usize::from(code == 3);
    }
    assert!(refused >= 30, "{refused}");
}

/// Evidence of ten days ago from a simulated chip: its certificates, and lists of then, today and ten days from now.
#[test]
fn old_evidence_is_judged_by_what_is_known_today() {
    const DAY: u64 = 86_400;
    let chip = Chip::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, bytes: &[u8]| std::fs::write(path(name), bytes).unwrap();
    write("report.bin", &chip.report([1; 64], [2; 32], |_| {}));
    write("policy.toml", chip.policy().to_toml().as_bytes());
    let certificates = chip.endorsements();
    for (name, bytes) in [
        ("vek.der", certificates.vek),
        ("ask.der", certificates.ask),
        ("ark.der", certificates.ark),
    ] {
        write(name, &bytes.unwrap());
    }
    let now = enarx_hostile_host::unix_seconds();
    let (then, today) = ((now - 10 * DAY).to_string(), now.to_string());
    let judged = |chips: &[Chip], at: &str| {
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|extension| extension == "crl") {
                std::fs::remove_file(file).unwrap();
            }
        }
        let lists = chips.iter().flat_map(|chip| chip.endorsements().crls);
        for (index, list) in lists.enumerate() {
            write(&format!("{index}.crl"), &list.bytes);
        }
        let (report, policy, certs) = (path("report.bin"), path("policy.toml"), path(""));
        let fixed = ["verify", &report, "--policy", &policy, "--certs", &certs];
        let (code, output) = enarx(&[&fixed[..], &["--at", at, "--json"]].concat());
        let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = verdict["checks"].as_array().unwrap().iter();
        let failed = checks.filter(|check| check["outcome"] == "fail");
        let failed = failed.map(|check| check["name"].as_str().unwrap().to_owned());
        (code, failed.collect::<Vec<_>>())
    };
    let accepted = (0, Vec::<String>::new());
    let refused = |checks: &[&str]| {
        let checks = checks.iter().map(|check| (*check).to_owned());
        (3, checks.collect::<Vec<_>>())
    };
    let (of_then, of_today) = (Chip::new().stale(), Chip::new());
    // The certificates are valid for thirty days before today and after it.
    assert_eq!(judged(std::slice::from_ref(&of_then), &then), accepted);
    let both = [of_then.clone(), of_today.clone()];
    assert_eq!(judged(&both, &then), accepted);
    assert_eq!(judged(std::slice::from_ref(&of_today), &then), accepted);
    // Today the old one has expired.
    assert_eq!(judged(&both, &today), refused(&["crl.fresh"]));
    // Revoked since; and lists that nobody can have yet.
    let revoked = [of_then.clone(), Chip::new().revoked()];
    assert_eq!(judged(&revoked, &then), refused(&["crl.vek"]));
    let early = [of_then, Chip::new().early()];
    assert_eq!(judged(&early, &then), refused(&["crl.fresh"]));
}
