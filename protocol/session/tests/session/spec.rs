// SPDX-License-Identifier: Apache-2.0

//! SPEC.md agrees with the code: every marked table is compared with it.

use enarx_contract::canonical::Hex;
use enarx_documents::{plain_table, sources};
use enarx_session::binding::{Binding, SESSION_BINDING};
use enarx_session::frame::{End, Kind};
use enarx_session::{deployment, keep, time};
use enarx_session_drivers::fixture::{self, KEEP, TENANT};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const SPEC: &str = include_str!("../../SPEC.md");

fn table(marker: &str) -> Vec<Vec<String>> {
    plain_table(SPEC, marker)
}

#[test]
fn the_table_of_kinds_is_the_protocol() {
    let known: Vec<Vec<String>> = Kind::ALL
        .iter()
        .map(|kind| {
            let streams = |end| {
                let all = (0..=u8::MAX).filter(|stream| kind.may_be_sent_on(*stream, end));
                all.map(|stream| stream.to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let from = [End::Tenant, End::Keep].map(|end| kind.may_be_sent_by(end));
            let (from, streams) = match from {
                [true, true] if streams(End::Tenant) == streams(End::Keep) => {
                    ("both", streams(End::Keep))
                }
                [true, true] => (
                    "both",
                    format!(
                        "tenant {}; Keep {}",
                        streams(End::Tenant),
                        streams(End::Keep)
                    ),
                ),
                [true, false] => ("tenant", streams(End::Tenant)),
                _ => ("Keep", streams(End::Keep)),
            };
            let (least, most) = kind.lengths();
            let number = format!("{:#04x}", *kind as u8);
            [
                number.as_str(),
                kind.name(),
                from,
                &streams,
                &least.to_string(),
                &most.to_string(),
            ]
            .map(str::to_owned)
            .to_vec()
        })
        .collect();
    let listed: Vec<_> = table("<!-- kinds:")
        .iter()
        .map(|row| row[..6].to_vec())
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_table_of_the_binding_is_the_structure() {
    // One field at a time is changed; only its own bytes differ.
    let (keep, tenant, other) = (fixture::key(KEEP), fixture::key(TENANT), fixture::key(1));
    let (one, two) = (fixture::exporter(1), fixture::exporter(2));
    let digest = [7; 32];
    let base = Binding {
        sequence: 1,
        nonce: &[1; 32],
        exporter: &one,
        keep: &keep,
        tenant: &tenant,
        contract: &Hex([1; 32]),
        deployment: None,
    };
    let mut bounds: Vec<(usize, usize)> = vec![(0, 32), (32, 1), (33, 1), (34, 6)];
    let differs = |changed: &Binding<'_>| {
        let (base, changed) = (base.to_bytes(), changed.to_bytes());
        let at = (0..SESSION_BINDING).filter(|at| base[*at] != changed[*at]);
        at.collect::<Vec<_>>()
    };
    for (offset, length, changed) in [
        (
            40,
            8,
            Binding {
                sequence: u64::MAX - 1,
                ..base.clone()
            },
        ),
        (
            48,
            32,
            Binding {
                nonce: &[2; 32],
                ..base.clone()
            },
        ),
        (
            80,
            32,
            Binding {
                exporter: &two,
                ..base.clone()
            },
        ),
        (
            112,
            32,
            Binding {
                keep: &other,
                ..base.clone()
            },
        ),
        (
            144,
            32,
            Binding {
                tenant: &other,
                ..base.clone()
            },
        ),
        (
            176,
            32,
            Binding {
                contract: &Hex([2; 32]),
                ..base.clone()
            },
        ),
    ] {
        let at = differs(&changed);
        assert!(
            at.iter().all(|at| (offset..offset + length).contains(at)),
            "{offset}: {at:?}"
        );
        assert!(at.len() > length / 2, "{offset}: {at:?}");
        bounds.push((offset, length));
    }
    let provisioned = differs(&Binding {
        deployment: Some(&digest),
        ..base.clone()
    });
    let expected: Vec<usize> = std::iter::once(33).chain(208..240).collect();
    assert_eq!(provisioned, expected);
    bounds.push((208, 32));
    let bytes = base.to_bytes();
    assert_eq!(&bytes[..24], b"enarx session evidence 1");
    assert_eq!(
        &bytes[24..40],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(bytes[40..48], [1, 0, 0, 0, 0, 0, 0, 0]);
    let listed: Vec<(usize, usize)> = table("<!-- binding:")
        .iter()
        .map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap()))
        .collect();
    assert_eq!(listed, bounds);
}

#[test]
fn the_tables_of_times_and_limits_are_the_constants() {
    let numbers = |marker: &str| {
        let rows = table(marker);
        let all = rows
            .iter()
            .map(|row| (row[0].clone(), row[1].parse::<u64>().unwrap()));
        all.collect::<Vec<_>>()
    };
    let named = |all: &[(&str, u64)]| {
        let all = all
            .iter()
            .map(|(name, number)| ((*name).to_owned(), *number));
        all.collect::<Vec<_>>()
    };
    assert_eq!(
        numbers("<!-- times:"),
        named(&[
            ("ATTEST", time::ATTEST),
            ("EVIDENCE", time::EVIDENCE),
            ("RELEASE", time::RELEASE),
            ("KEEP_ALIVE", time::KEEP_ALIVE),
            ("DEAD", time::DEAD),
            ("BETWEEN_REPORTS", time::BETWEEN_REPORTS),
            ("BETWEEN_CONNECTIONS", time::BETWEEN_CONNECTIONS),
            ("OWN_GRACE", time::OWN_GRACE.into()),
            ("MAX_GRACE", time::MAX_GRACE.into()),
        ])
    );
    assert_eq!(
        numbers("<!-- limits:"),
        named(&[
            ("MAX_ENCODED", deployment::MAX_ENCODED as u64),
            ("MAX_APPLICATION", deployment::MAX_APPLICATION),
            ("MAX_CONFIGURATION", deployment::MAX_CONFIGURATION),
            ("MAX_FILES", deployment::MAX_FILES as u64),
            ("MAX_FILE_BYTES", deployment::MAX_FILE_BYTES),
            ("MAX_SECRETS", deployment::MAX_SECRETS as u64),
            ("MAX_SECRET", deployment::MAX_SECRET),
            ("WINDOW", enarx_session::WINDOW.into()),
            ("MAX_CONNECTIONS", keep::MAX_CONNECTIONS.into()),
        ])
    );
}

/// The names of the fields of a document, in their order.
fn fields(text: &str) -> Vec<String> {
    // In the order of the text, which a map would lose.
    let document: Value = serde_json::from_str(text).unwrap();
    let names = document.as_object().unwrap().keys();
    let mut names: Vec<_> = names.cloned().collect();
    names.sort_by_key(|name| text.find(&format!("\"{name}\":")));
    names
}

#[test]
fn the_tables_of_documents_have_their_fields() {
    let first = |marker: &str| {
        table(marker)
            .iter()
            .map(|row| row[0].clone())
            .collect::<Vec<_>>()
    };
    let (deployment, _) = fixture::deployment(&fixture::named(), b"application");
    let text = String::from_utf8(deployment.encode().unwrap()).unwrap();
    assert_eq!(first("<!-- deployment:"), fields(&text));
    let vectors: Value = serde_json::from_str(include_str!("../../vectors/session.json")).unwrap();
    let receipt = vectors["receipts"][0]["bytes"].as_str().unwrap();
    let body = receipt
        .split_once(r#"{"body":"#)
        .unwrap()
        .1
        .split_once(r#","signature""#)
        .unwrap();
    assert_eq!(first("<!-- receipt:"), fields(body.0));
}

#[test]
fn the_table_of_refusals_lists_every_name() {
    let families = ["session.", "evidence.", "release.", "attach.", "receipt."];
    let is_name = |text: &&str| {
        let family = families.iter().find_map(|family| text.strip_prefix(family));
        family.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let texts: Vec<String> = sources(&folder, &[])
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let names: BTreeSet<&str> = texts
        .iter()
        .flat_map(|text| text.split('"'))
        .filter(is_name)
        .collect();
    let listed = table("<!-- refusals:");
    let listed: BTreeSet<&str> = listed.iter().map(|row| row[0].as_str()).collect();
    assert!(names.len() > 30);
    assert_eq!(listed, names);
}
