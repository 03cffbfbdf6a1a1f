// SPDX-License-Identifier: Apache-2.0

//! The bytes of this protocol version: `vectors/session.json` contains them, another program recomputes them, and a
//! pinned digest makes it a decision to change them.

use enarx_contract::canonical::{Base64, Hex};
use enarx_contract::{Contract, Side, signing_input};
use enarx_session::binding::{Binding, Exporter};
use enarx_session::deployment::Deployment;
use enarx_session::document::{Exit, ExitKind};
use enarx_session::frame::{self, Kind};
use enarx_session::receipt::{Body, Receipt, Stream, Streams};
use enarx_session_drivers::fixture::{self, HOST, KEEP, NOW, OTHER_KEEP, OTHER_TENANT, TENANT};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::Command;

/// SHA-256 of `vectors/session.json` for each set of versions: session, contract, deployment, receipt. Other bytes under
/// the same versions would be another protocol under the same name. So a row is added, with the changed version, and
/// none is edited once a release has it.
const PINNED: &[([u32; 4], &str)] = &[(
    [1, 1, 1, 1],
    "8f9c7989bcf03bf4619b8523ac64f19856a68f4d70948672aca92c7c744adf3f",
)];

/// Set to write the file instead of comparing it.
const WRITE: &str = "ENARX_WRITE_VECTORS";

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"))
}

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("documents are text")
}

fn bindings() -> Value {
    struct Fields {
        seq: u64,
        nonce: u8,
        exporter: u8,
        keep: u8,
        tenant: u8,
        contract: u8,
        deployment: Option<u8>,
    }
    let first = || Fields {
        seq: 1,
        nonce: 0x11,
        exporter: 0x22,
        keep: KEEP,
        tenant: TENANT,
        contract: 0x55,
        deployment: None,
    };
    let all = [
        ("first", first()),
        (
            "seq",
            Fields {
                seq: 0x0102_0304_0506_0708,
                ..first()
            },
        ),
        (
            "nonce",
            Fields {
                nonce: 0x12,
                ..first()
            },
        ),
        (
            "exporter",
            Fields {
                exporter: 0x23,
                ..first()
            },
        ),
        (
            "keep",
            Fields {
                keep: OTHER_KEEP,
                ..first()
            },
        ),
        (
            "tenant",
            Fields {
                tenant: OTHER_TENANT,
                ..first()
            },
        ),
        (
            "contract",
            Fields {
                contract: 0x56,
                ..first()
            },
        ),
        (
            "state",
            Fields {
                deployment: Some(0),
                ..first()
            },
        ),
        (
            "deployment",
            Fields {
                deployment: Some(0x66),
                ..first()
            },
        ),
    ];
    let vectors = all.map(|(changed, fields)| {
        let deployment = fields.deployment.map(|byte| [byte; 32]);
        let (keep, tenant) = (fixture::key(fields.keep), fixture::key(fields.tenant));
        let binding = Binding {
            sequence: fields.seq,
            nonce: &[fields.nonce; 32],
            exporter: &Exporter::new([fields.exporter; 32]).expect("not zero"),
            keep: &keep,
            tenant: &tenant,
            contract: &Hex([fields.contract; 32]),
            deployment: deployment.as_ref(),
        };
        json!({
            "changed": changed,
            "seq": fields.seq.to_string(),
            "nonce": hex(&[fields.nonce; 32]),
            "exporter": hex(&[fields.exporter; 32]),
            "keep_spki": hex(keep.spki()),
            "tenant_spki": hex(tenant.spki()),
            "contract": hex(&[fields.contract; 32]),
            "deployment": deployment.map(|digest| hex(&digest)),
            "structure": hex(&binding.to_bytes()),
            "report_data": hex(&binding.report_data()),
        })
    });
    Value::Array(vectors.into())
}

fn contracts() -> Value {
    let vector = |form: &str, contract: &Contract| {
        let signed = |seed: u8, side| {
            let input = signing_input(side, contract.digest());
            json!({
                "spki": hex(fixture::key(seed).spki()),
                "signing_input": hex(&input),
                "signature": fixture::sign(seed, &input).to_string(),
            })
        };
        json!({
            "form": form,
            "bytes": text(contract.bytes()),
            "digest": contract.digest().to_string(),
            "keep_id": contract.keep_id().to_string(),
            "tenant": signed(TENANT, Side::Tenant),
            "host": signed(HOST, Side::Host),
        })
    };
    json!([
        vector("named", &fixture::named()),
        vector("open", &fixture::open()),
        vector("without a TEE", &fixture::without_tee()),
    ])
}

fn deployment() -> Value {
    let contract = fixture::named();
    let (deployment, values) = fixture::deployment(&contract, b"application");
    let bytes = deployment.encode().expect("it is legal");
    json!({
        "bytes": text(&bytes),
        "digest": hex(&Sha256::digest(&bytes)),
        "parts": values.iter().map(|value| hex(value)).collect::<Vec<_>>(),
    })
}

/// One frame of every kind.
fn frames() -> Value {
    let digest = hex(&[0xab; 32]);
    let document = |kind: Kind| match kind {
        Kind::Attest => format!(r#"{{"version":1,"seq":1,"nonce":"{digest}"}}"#),
        Kind::Evidence => {
            r#"{"seq":1,"state":1,"format":"snp","report":"AQID","deployment":null}"#.to_owned()
        }
        Kind::Release | Kind::Blob => format!(r#"{{"digest":"{digest}","size":7}}"#),
        Kind::Started => r#"{"timings":[{"phase":"compile","us":4000}]}"#.to_owned(),
        Kind::Data => "bytes".to_owned(),
        Kind::Credit => "\0\0\u{2}\0".to_owned(),
        Kind::Attach => r#"{"stdout":5,"stderr":0}"#.to_owned(),
        Kind::Attached => {
            r#"{"stdin":3,"stdin_ended":false,"credit":1048576,"stdout":5,"stderr":0}"#.to_owned()
        }
        Kind::Stop => r#"{"grace_ms":10000}"#.to_owned(),
        Kind::Exit => r#"{"kind":"exited","code":3}"#.to_owned(),
        Kind::Receipt => text(&receipt(false).encode().expect("it is short")).to_owned(),
        Kind::Bye => r#"{"receipt":null}"#.to_owned(),
        Kind::Refused => {
            r#"{"code":"evidence.busy","sentence":"no","expected":null,"actual":null}"#.to_owned()
        }
        Kind::Start | Kind::End => String::new(),
    };
    let all = Kind::ALL.iter().map(|kind| {
        let payload = document(*kind);
        let stream = if matches!(kind, Kind::Data | Kind::End | Kind::Credit) {
            2
        } else {
            0
        };
        let bytes = frame::encode(*kind, stream, payload.as_bytes()).expect("it is legal");
        json!({
            "kind": kind.name(),
            "number": *kind as u8,
            "stream": stream,
            "payload": hex(payload.as_bytes()),
            "frame": hex(&bytes),
        })
    });
    Value::Array(all.collect())
}

/// A deployment of native code.
fn native_deployment(contract: &Contract) -> Deployment {
    let (mut deployment, _) = fixture::deployment(contract, b"application");
    deployment.source = Some(Hex([0x77; 32]));
    deployment.detached.seconds = 0;
    deployment
}

fn receipt(native: bool) -> Receipt {
    let contract = fixture::named();
    let deployment = if native {
        native_deployment(&contract)
    } else {
        fixture::deployment(&contract, b"application").0
    };
    let bytes = deployment.encode().expect("it is legal");
    let stream = |bytes: &[u8], dropped| Stream {
        bytes: bytes.len() as u64,
        sha256: Hex(Sha256::digest(bytes).into()),
        dropped,
    };
    let body = Body {
        version: enarx_session::receipt::VERSION,
        contract: *contract.digest(),
        deployment: Hex(Sha256::digest(bytes).into()),
        application: deployment.application.digest,
        source: deployment.source,
        keep_key: fixture::key(KEEP),
        tenant_key: fixture::key(TENANT),
        report_id: Some(Hex([1; 32])),
        started: NOW,
        ended: NOW + 5,
        exit: Exit {
            kind: ExitKind::Exited,
            code: 3,
        },
        streams: Streams {
            stdin: stream(b"question", 0),
            stdout: stream(b"answer", 2),
            stderr: stream(b"", 0),
        },
        evidence_count: 1,
    };
    let input = body.signing_input().expect("it is short");
    let report = fixture::report_bytes(&contract, body.report_data().expect("it is short"), 1);
    Receipt {
        signature: fixture::sign(KEEP, &input),
        report: Some(Base64(report)),
        body,
    }
}

fn receipts(native: bool) -> Value {
    let receipt = receipt(native);
    let body = &receipt.body;
    let deployment = native.then(|| native_deployment(&fixture::named()));
    let deployment = deployment.map(|it| it.encode().expect("it is legal"));
    json!({
        "bytes": text(&receipt.encode().expect("it is short")),
        "deployment": deployment.as_deref().map(text),
        "body_digest": hex(&body.digest().expect("it is short")),
        "signing_input": hex(&body.signing_input().expect("it is short")),
        "report_data": hex(&body.report_data().expect("it is short")),
    })
}

fn vectors() -> String {
    let mut all = json!({
        "bindings": bindings(),
        "contracts": contracts(),
        "deployment": deployment(),
        "frames": frames(),
        "receipts": [receipts(false), receipts(true)],
    });
    // Whatever features other crates enable in the library.
    all.sort_all_objects();
    serde_json::to_string_pretty(&all).expect("it is JSON") + "\n"
}

fn stored() -> String {
    std::fs::read_to_string(folder().join("session.json"))
        .expect("the vectors are in the repository")
}

#[test]
fn the_vectors_match_this_version() {
    let vectors = vectors();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(folder().join("session.json"), &vectors).expect("the folder is writable");
    }
    for (now, then) in vectors.lines().zip(stored().lines()) {
        assert_eq!(now, then, "bytes have changed: that takes a new version");
    }
    assert!(vectors == stored());
    let versions = [
        enarx_session::VERSION,
        enarx_contract::VERSION,
        enarx_session::deployment::VERSION,
        enarx_session::receipt::VERSION,
    ];
    let pinned = PINNED.iter().find(|(pinned, _)| *pinned == versions);
    let (_, digest) = pinned.expect("these versions have no row");
    assert_eq!(
        hex(&Sha256::digest(vectors)),
        *digest,
        "the same versions, other bytes"
    );
}

/// Runs the program on a file, and returns its success and what it printed.
fn recompute(file: &Path) -> (bool, String) {
    let output = Command::new("python3")
        .arg(folder().join("recompute"))
        .arg(file)
        .output()
        .expect("python3 is installed: CONTRIBUTING.md lists what the tests need");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success(), text)
}

#[test]
fn another_program_computes_the_same_bytes() {
    let (success, text) = recompute(&folder().join("session.json"));
    assert!(success, "{text}");
    assert_eq!(text.trim(), "115 values are right");
}

#[test]
fn the_other_program_notices_every_change() {
    let good: Value = serde_json::from_str(&stored()).expect("it is JSON");
    let file = std::env::temp_dir().join(format!("enarx-vectors-{}.json", std::process::id()));
    for pointer in [
        "/bindings/0/structure",
        "/bindings/8/report_data",
        "/contracts/0/digest",
        "/contracts/1/keep_id",
        "/contracts/1/host/signature",
        "/contracts/0/tenant/signing_input",
        "/deployment/digest",
        "/deployment/parts/4",
        "/frames/0/frame",
        "/receipts/0/body_digest",
        "/receipts/0/signing_input",
        "/receipts/0/report_data",
        "/receipts/1/body_digest",
        "/receipts/1/report_data",
    ] {
        let mut changed = good.clone();
        let value = changed.pointer_mut(pointer).expect(pointer);
        let mut text = value.as_str().expect("hex").to_owned();
        let last = if text.ends_with('0') { "1" } else { "0" };
        text.replace_range(text.len() - 1.., last);
        *value = Value::String(text);
        std::fs::write(&file, changed.to_string()).expect("the folder is writable");
        let (success, text) = recompute(&file);
        assert!(!success, "{pointer}: {text}");
    }
    std::fs::remove_file(&file).expect("it was written");
}
