// SPDX-License-Identifier: Apache-2.0

//! Verifications a second on one core, beside `sev` and `dcap-qvl` in the same run. The evidence is genuine, from the
//! folder of vectors beside the repository.
//!
//! `warm` keeps the outcomes of certificate signatures, as a service does; `cold` is a new verifier each time; `warm
//! roots, new chip` knows the intermediates but not the endorsement key.
#![expect(clippy::print_stdout, reason = "figures for developers")]

use enarx_attestation::{AmdEndorsements, Endorsements, Expected, Policy, Timestamp, Verifier};
use enarx_harness::needs::find_vectors;
use sev::certs::snp::{Certificate, Chain, Verifiable, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Verifications with a chip that was not seen before.
const NEW_CHIPS: usize = 500;

/// Measures for two seconds, or until `once` says that it is over.
fn rate(name: &str, mut once: impl FnMut() -> bool) {
    assert!(once(), "{name} refuses");
    let start = Instant::now();
    let mut count = 0_u32;
    while start.elapsed() < Duration::from_secs(2) && black_box(once()) {
        count += 1;
    }
    println!(
        "{name:44} {:8.0} a second",
        f64::from(count) / start.elapsed().as_secs_f64()
    );
}

fn main() {
    let vectors = find_vectors().expect("genuine evidence");
    let read = |path: &str| fs::read(vectors.join(path)).expect(path);
    let case = |name: &str| {
        let file = |file: &str| read(&format!("{name}/{file}"));
        let endorsements = Endorsements {
            amd: AmdEndorsements {
                vek: Some(file("vek.der")),
                ask: Some(file("ask.der")),
                ark: Some(file("ark.der")),
                crls: Vec::new(),
            },
            intel: None,
        };
        (file("report.bin"), endorsements)
    };
    let at = Timestamp(1_790_000_000);
    let policy = Policy::insecure_authenticity_only;
    let (report, endorsements) = case("snp-milan-v3-vcek-05b7438a");
    let (other_report, other) = case("snp-milan-v3-vcek-14fd2b6e");

    let warm = Verifier::new(policy());
    rate("SNP, warm", || {
        warm.verify(&report, &endorsements, &Expected::at(at))
            .is_accepted()
    });
    let expected = Expected::at(at);
    let knowing_roots = || {
        let verifier = Verifier::new(policy());
        assert!(
            verifier
                .verify(&other_report, &other, &expected)
                .is_accepted()
        );
        verifier
    };
    // Each sees the chip once, so they are made before the time is taken.
    let mut verifiers: Vec<_> = (0..NEW_CHIPS).map(|_| knowing_roots()).collect();
    rate("SNP, warm roots, new chip", || {
        let verifier = verifiers.pop();
        verifier.is_some_and(|verifier| {
            verifier
                .verify(&report, &endorsements, &expected)
                .is_accepted()
        })
    });
    rate("SNP, cold", || {
        Verifier::new(policy())
            .verify(&report, &endorsements, &Expected::at(at))
            .is_accepted()
    });

    let der = |bytes: &Option<Vec<u8>>| {
        Certificate::from_der(bytes.as_deref().unwrap_or_default()).expect("a certificate")
    };
    let amd = &endorsements.amd;
    let chain = Chain {
        ca: ca::Chain {
            ark: der(&amd.ark),
            ask: der(&amd.ask),
        },
        vek: der(&amd.vek),
    };
    rate("SNP, sev, whole chain", || {
        let report = AttestationReport::from_bytes(&report).expect("a report");
        (&chain, &report).verify().is_ok()
    });
    rate("SNP, sev, endorsement key and report only", || {
        let report = AttestationReport::from_bytes(&report).expect("a report");
        (&chain.ca.ask, &chain.vek).verify().is_ok() && (&chain.vek, &report).verify().is_ok()
    });

    let quote = read("tdx-v4-b0c06f000000-3ab56d67/quote.bin");
    let collateral = read("tdx-v4-b0c06f000000-3ab56d67/collateral.json");
    let at = Timestamp(1_774_897_771);
    let endorsements = Endorsements {
        amd: AmdEndorsements::default(),
        intel: Some(collateral.clone()),
    };
    let warm = Verifier::new(policy());
    rate("TDX, warm", || {
        warm.verify(&quote, &endorsements, &Expected::at(at))
            .is_accepted()
    });
    rate("TDX, dcap-qvl (the same cryptography)", || {
        let collateral = serde_json::from_slice(&collateral).expect("collateral");
        dcap_qvl::verify::verify(&quote, &collateral, at.0).is_ok()
    });
}
