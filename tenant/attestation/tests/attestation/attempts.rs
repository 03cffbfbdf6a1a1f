// SPDX-License-Identifier: Apache-2.0

//! An attack on the verifier by itself, as a table: genuine evidence, certificates, lists and containers, combined differently
//! from their makers, and policies that say less than they seem to. Each row has its outcome; each refusal has a remedy.

use crate::platform::{NOW, Platform};
use crate::vectors::{self, Case};
use enarx_attestation::container::extract;
use enarx_attestation::hex::Hex;
use enarx_attestation::policy::{Missing, TcbFloor};
use enarx_attestation::{
    AmdEndorsements, Endorsements, Expected, Outcome, Overall, Policy, Timestamp, Verdict, Verifier,
};
use enarx_snp::product::{GENOA, MILAN};
use enarx_snp::report::Report;
use p384::Scalar;
use p384::elliptic_curve::PrimeField;
use zerocopy::IntoBytes;

/// 2022-11-01: lists of the vectors are in force.
const LISTS: u64 = 1_667_260_800;
/// 2026-09-21: every certificate of the vectors that are used is in force.
const AT: u64 = 1_790_000_000;

/// The outcome of a row.
#[derive(Clone, Copy, Debug)]
enum RowOutcome {
    /// The verdict over the genuine part, word for word: the change has no effect.
    Same,
    /// Refused, by this check among others.
    Refused(&'static str),
}
use RowOutcome::{Refused, Same};

/// Everything that a verifier gets.
#[derive(Clone)]
struct Given {
    file: Vec<u8>,
    amd: AmdEndorsements,
}

type Change = fn(&mut Given, &Others);

/// Genuine material of other origin.
struct Others {
    /// A Milan report, its certificates, and the VLEK intermediate of Milan.
    milan: Case,
    asvk: Vec<u8>,
    /// A quote of a TD.
    quote: Vec<u8>,
}

fn amd(given: &mut Given) -> [&mut Vec<u8>; 3] {
    let AmdEndorsements { vek, ask, ark, .. } = &mut given.amd;
    [vek, ask, ark].map(|certificate| certificate.as_mut().unwrap())
}

/// Offset of the signature in a report, and of its parts (56860, ECDSA P-384 signature format).
const R: usize = 0x2A0;
const S: usize = R + 72;
const RESERVED: usize = S + 72;

/// The order of P-384 minus a scalar as the report has it, little-endian.
fn negated(scalar: &[u8]) -> Vec<u8> {
    let mut be = [0; 48];
    be.copy_from_slice(scalar.get(..48).unwrap());
    be.reverse();
    little_endian(-Scalar::from_repr(be.into()).unwrap())
}

fn little_endian(scalar: Scalar) -> Vec<u8> {
    let mut le = scalar.to_repr().to_vec();
    le.reverse();
    le
}

/// The order of P-384 itself, which is not a scalar: minus one, plus one.
fn order() -> Vec<u8> {
    let mut le = little_endian(-Scalar::ONE);
    // The order is odd, so its predecessor ends in a digit that does not carry.
    le[0] += 1;
    le
}

/// Replaces the only occurrence of these bytes, or all of them.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let places: Vec<_> = (0..=bytes.len() - from.len())
        .filter(|at| bytes[*at..].starts_with(from))
        .collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
}

/// A certificate table after the report, of these GUIDs, offsets and lengths, and these bytes after the entries.
fn table(given: &mut Given, entries: &[(&str, usize, usize)], end: bool, body: &[u8]) {
    for (guid, offset, len) in entries {
        given.file.extend(guid_bytes(guid));
        for number in [offset, len] {
            let number = u32::try_from(*number).unwrap();
            given.file.extend(number.to_le_bytes());
        }
    }
    if end {
        given.file.extend([0; 24]);
    }
    given.file.extend(body);
    // The only endorsements are those that come with the evidence.
    given.amd = AmdEndorsements::default();
}

/// A GUID as in tables (56421): the first three groups little-endian.
fn guid_bytes(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(|digit| *digit != b'-').collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
        .map(|index: usize| bytes[index])
        .to_vec()
}

const VCEK: &str = "63da758d-e664-4564-adc5-f4b93be8accd";
const ASK: &str = "4ab7b379-bbac-4fe4-a02f-05aef327c782";
const ARK: &str = "c0b406a4-a803-4952-9743-3fb6014cd0ae";

/// The three certificates one after the other, and the offset of each after a table with this many entries.
fn bodies(given: &Given, entries: usize) -> (Vec<u8>, [(usize, usize); 3]) {
    let mut all = Vec::new();
    let amd = &given.amd;
    let places = [&amd.vek, &amd.ask, &amd.ark].map(|certificate| {
        let bytes = certificate.as_ref().unwrap();
        let place = ((entries + 1) * 24 + all.len(), bytes.len());
        all.extend(bytes);
        place
    });
    (all, places)
}

/// The rows about a genuine report of Turin with its certificates.
const PARTS: &[(&str, Change, RowOutcome)] = &[
    ("nothing", |_, _| {}, Same),
    // The report.
    (
        "a version that is to come",
        |g, _| g.file[0] = 6,
        Refused("report.version"),
    ),
    (
        "version 1",
        |g, _| g.file[0] = 1,
        Refused("evidence.format"),
    ),
    (
        "a version with its high bytes",
        |g, _| g.file[1] = 1,
        Refused("report.version"),
    ),
    (
        "a version that reads as a quote's key type",
        |g, _| g.file[2] = 2,
        Refused("evidence.format"),
    ),
    (
        "another algorithm's number",
        |g, _| g.file[0x34] = 2,
        Refused("report.signature-algorithm"),
    ),
    (
        "the key's kind, that of a provider",
        |g, _| g.file[0x48] |= 4,
        Refused("agreement.key-kind"),
    ),
    (
        "a higher reported TCB",
        |g, _| g.file[0x180] += 1,
        Refused("report.signature"),
    ),
    (
        "a higher TCB that is committed",
        |g, _| g.file[0x1E0] += 1,
        Refused("report.signature"),
    ),
    (
        "a byte less",
        |g, _| g.file.truncate(g.file.len() - 1),
        Refused("evidence.format"),
    ),
    (
        "a byte more, which is not zero",
        |g, _| g.file.push(1),
        Refused("evidence.format"),
    ),
    ("zeros behind it", |g, _| g.file.extend([0; 99]), Same),
    // The signature.
    (
        "r and s in each other's place",
        |g, _| {
            let (r, s) = g.file[R..RESERVED].split_at_mut(72);
            r.swap_with_slice(s);
        },
        Refused("report.signature"),
    ),
    (
        "s negated, which is a signature of the same",
        |g, _| {
            let s = negated(&g.file[S..]);
            g.file[S..S + 48].copy_from_slice(&s);
        },
        Same,
    ),
    (
        "r negated",
        |g, _| {
            let r = negated(&g.file[R..]);
            g.file[R..R + 48].copy_from_slice(&r);
        },
        Refused("report.signature"),
    ),
    (
        "r of zero",
        |g, _| g.file[R..S].fill(0),
        Refused("report.signature"),
    ),
    (
        "s of zero",
        |g, _| g.file[S..RESERVED].fill(0),
        Refused("report.signature"),
    ),
    (
        "r of the order, which is zero",
        |g, _| {
            g.file[R..R + 48].copy_from_slice(&order());
        },
        Refused("report.signature"),
    ),
    (
        "all ones",
        |g, _| g.file[R..RESERVED].fill(0xFF),
        Refused("report.signature"),
    ),
    (
        "a digit beyond 48",
        |g, _| g.file[R + 48] = 1,
        Refused("report.signature"),
    ),
    (
        "a byte that is reserved",
        |g, _| g.file[RESERVED] = 1,
        Refused("report.signature"),
    ),
    (
        "the signature of another report",
        |g, o| {
            g.file[R..].copy_from_slice(&o.milan.evidence[R..]);
        },
        Refused("report.signature"),
    ),
    // The certificates.
    (
        "intermediate and root in each other's place",
        |g, _| {
            let AmdEndorsements { ask, ark, .. } = &mut g.amd;
            std::mem::swap(ask, ark);
        },
        Refused("chain.names"),
    ),
    (
        "key and intermediate in each other's place",
        |g, _| {
            let AmdEndorsements { vek, ask, .. } = &mut g.amd;
            std::mem::swap(vek, ask);
        },
        Refused("chain.names"),
    ),
    (
        "the chain from its root on",
        |g, _| {
            let AmdEndorsements { vek, ark, .. } = &mut g.amd;
            std::mem::swap(vek, ark);
        },
        Refused("chain.root"),
    ),
    (
        "the root in place of the intermediate, too",
        |g, _| {
            g.amd.ask.clone_from(&g.amd.ark);
        },
        Refused("chain.vek-signature"),
    ),
    (
        "the intermediate in place of the root, too",
        |g, _| {
            g.amd.ark.clone_from(&g.amd.ask);
        },
        Refused("chain.root"),
    ),
    (
        "the key in all three places",
        |g, _| {
            let vek = g.amd.vek.clone();
            (g.amd.ask, g.amd.ark) = (vek.clone(), vek);
        },
        Refused("chain.root"),
    ),
    (
        "the intermediate of providers",
        |g, o| g.amd.ask = Some(o.asvk.clone()),
        Refused("chain.vek-signature"),
    ),
    (
        "intermediate and root of another line",
        |g, o| {
            let other = &o.milan.endorsements.amd;
            (g.amd.ask, g.amd.ark) = (other.ask.clone(), other.ark.clone());
        },
        Refused("agreement.product"),
    ),
    (
        "the key of another chip, with its chain",
        |g, o| {
            g.amd = o.milan.endorsements.amd.clone();
        },
        Refused("report.signature"),
    ),
    (
        "a byte behind each certificate",
        |g, _| {
            for certificate in amd(g) {
                certificate.push(0);
            }
        },
        Refused("chain.certificates"),
    ),
    (
        "a certificate twice in one file",
        |g, _| {
            let [vek, ..] = amd(g);
            *vek = vek.repeat(2);
        },
        Refused("chain.certificates"),
    ),
    (
        "a length in a longer form than it needs",
        |g, _| {
            let [vek, ..] = amd(g);
            // SEQUENCE with a length of two bytes, written as three.
            let rest = vek.split_off(4);
            *vek = [&[0x30, 0x83, 0][..], &vek[2..4], &rest].concat();
        },
        Refused("chain.certificates"),
    ),
    (
        "an indefinite length",
        |g, _| amd(g)[0][1] = 0x80,
        Refused("chain.certificates"),
    ),
    (
        "a signature of the certificate with a zero before it",
        |g, _| {
            let [vek, ..] = amd(g);
            // BIT STRING of 513 bytes, the first the count of unused bits, at the end of the certificate.
            let at = vek.len() - 512 - 5;
            assert_eq!(vek[at..at + 5], [0x03, 0x82, 0x02, 0x01, 0x00]);
            vek[at + 3] = 2;
            vek.insert(at + 5, 0);
            lengthen(vek, 1);
        },
        Refused("chain.vek-signature"),
    ),
    (
        "bits of that signature that count for nothing",
        |g, _| {
            let [vek, ..] = amd(g);
            let at = vek.len() - 512 - 1;
            vek[at] = 1;
        },
        Refused("chain"),
    ),
    (
        "another salt in the parameters of one signature",
        |g, _| {
            // saltLength 48 becomes 32, in the signed part and outside it.
            replace(amd(g)[0], &[0xA2, 3, 2, 1, 0x30], &[0xA2, 3, 2, 1, 0x20]);
        },
        Refused("chain.vek-signature"),
    ),
    (
        "SHA-256 in place of SHA-384",
        |g, _| {
            let [of_256, of_384] = [1, 2].map(|end| [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, end]);
            replace(amd(g)[0], &of_384, &of_256);
        },
        Refused("chain.vek-signature"),
    ),
    (
        "PKCS #1 v1.5 in place of PSS",
        |g, _| {
            let [pss, old] = [10, 12].map(|end| [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, end]);
            replace(amd(g)[0], &pss, &old);
        },
        Refused("chain.vek-signature"),
    ),
    (
        "another curve of the key, which looks like P-384's",
        |g, _| {
            // secp384r1 and secp521r1.
            replace(
                amd(g)[0],
                &[0x2B, 0x81, 4, 0, 0x22],
                &[0x2B, 0x81, 4, 0, 0x23],
            );
        },
        Refused("report.signature"),
    ),
    (
        "a product name with another end",
        |g, _| replace(amd(g)[0], b"Turin", b"Turim"),
        Refused("agreement.product"),
    ),
    // The file.
    (
        "two reports behind each other",
        |g, _| g.file = g.file.repeat(2),
        Refused("evidence.format"),
    ),
    (
        "a report and a quote",
        |g, o| g.file.extend(&o.quote),
        Refused("evidence.format"),
    ),
    (
        "a quote and a report",
        |g, o| {
            g.file = [&o.quote[..], &g.file].concat();
        },
        Refused("evidence.format"),
    ),
    (
        "a quote with certificates of AMD",
        |g, o| g.file.clone_from(&o.quote),
        Refused("collateral.present"),
    ),
    ("hexadecimal text", |g, _| g.file = hex(&g.file), Same),
    (
        "hexadecimal text of two reports, in two lines",
        |g, _| {
            let line = hex(&g.file);
            g.file = [&line[..], b"\n", &line].concat();
        },
        Refused("evidence.format"),
    ),
    (
        "a report in hexadecimal text in hexadecimal text",
        |g, _| {
            g.file = hex(&hex(&g.file));
        },
        Refused("evidence.format"),
    ),
    // Tables of certificates after the report.
    (
        "a table",
        |g, _| {
            let (body, [vek, ask, ark]) = bodies(g, 3);
            table(
                g,
                &[
                    (VCEK, vek.0, vek.1),
                    (ASK, ask.0, ask.1),
                    (ARK, ark.0, ark.1),
                ],
                true,
                &body,
            );
        },
        Same,
    ),
    (
        "a table in another order",
        |g, _| {
            let (body, [vek, ask, ark]) = bodies(g, 3);
            table(
                g,
                &[
                    (ARK, ark.0, ark.1),
                    (ASK, ask.0, ask.1),
                    (VCEK, vek.0, vek.1),
                ],
                true,
                &body,
            );
        },
        Same,
    ),
    (
        "a table of which all entries are one certificate",
        |g, _| {
            let (body, [vek, ..]) = bodies(g, 3);
            table(
                g,
                &[
                    (VCEK, vek.0, vek.1),
                    (ASK, vek.0, vek.1),
                    (ARK, vek.0, vek.1),
                ],
                true,
                &body,
            );
        },
        Refused("chain.root"),
    ),
    (
        "a table with two keys",
        |g, o| {
            let (mut body, [vek, ask, ark]) = bodies(g, 4);
            let other = o.milan.endorsements.amd.vek.as_ref().unwrap();
            let place = (5 * 24 + body.len(), other.len());
            body.extend(other);
            let entries = [
                (VCEK, vek.0, vek.1),
                (ASK, ask.0, ask.1),
                (ARK, ark.0, ark.1),
                (VCEK, place.0, place.1),
            ];
            table(g, &entries, true, &body);
        },
        Refused("evidence.format"),
    ),
    (
        "a table with the same entry twice",
        |g, _| {
            let (body, [vek, ask, ark]) = bodies(g, 4);
            let entries = [
                (VCEK, vek.0, vek.1),
                (VCEK, vek.0, vek.1),
                (ASK, ask.0, ask.1),
                (ARK, ark.0, ark.1),
            ];
            table(g, &entries, true, &body);
        },
        Refused("evidence.format"),
    ),
    (
        "a table that overlaps by a byte",
        |g, _| {
            let (body, [vek, ask, ark]) = bodies(g, 3);
            table(
                g,
                &[
                    (VCEK, vek.0, vek.1 + 1),
                    (ASK, ask.0, ask.1),
                    (ARK, ark.0, ark.1),
                ],
                true,
                &body,
            );
        },
        Refused("chain.certificates"),
    ),
    (
        "a table whose certificate is the table",
        |g, _| {
            let (body, [_, ask, ark]) = bodies(g, 3);
            table(
                g,
                &[(VCEK, 0, 96), (ASK, ask.0, ask.1), (ARK, ark.0, ark.1)],
                true,
                &body,
            );
        },
        Refused("chain.certificates"),
    ),
    (
        "a table without its end",
        |g, _| {
            let (body, places) = bodies(g, 2);
            let [vek, ask, ark] = places;
            table(
                g,
                &[
                    (VCEK, vek.0, vek.1),
                    (ASK, ask.0, ask.1),
                    (ARK, ark.0, ark.1),
                ],
                false,
                &body,
            );
        },
        Refused("evidence.format"),
    ),
    (
        "a table that points outside",
        |g, _| {
            let (body, [vek, ask, ark]) = bodies(g, 3);
            table(
                g,
                &[
                    (VCEK, vek.0, vek.1),
                    (ASK, ask.0, ask.1),
                    (ARK, ark.0, ark.1 + 1),
                ],
                true,
                &body,
            );
        },
        Refused("evidence.format"),
    ),
    (
        "a table of one certificate",
        |g, _| {
            let (body, [vek, ..]) = bodies(g, 1);
            table(g, &[(VCEK, vek.0, vek.1)], true, &body);
        },
        Refused("chain.certificates"),
    ),
];

/// Makes the outermost SEQUENCE, whose length has two bytes, longer.
fn lengthen(der: &mut [u8], by: u16) {
    assert_eq!(der[..2], [0x30, 0x82]);
    let length = u16::from_be_bytes([der[2], der[3]]) + by;
    der[2..4].copy_from_slice(&length.to_be_bytes());
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat().into_bytes()
}

/// The verdict, as `enarx verify` computes it: certificates that come with the evidence count if no others are given.
fn judge(given: &Given, policy: Policy, at: u64) -> Verdict {
    let found = extract(&given.file);
    let amd = if given.amd == AmdEndorsements::default() {
        found.certificates
    } else {
        given.amd.clone()
    };
    let endorsements = Endorsements { amd, intel: None };
    let expected = Expected::at(Timestamp(at));
    Verifier::new(policy).verify(&found.evidence, &endorsements, &expected)
}

/// Asserts this outcome of a row, and that a refusal says what was expected, what was found and what to do.
#[track_caller]
fn assert_is(what: &str, is: RowOutcome, verdict: &Verdict, genuine: &Verdict) {
    for check in verdict.with_outcome(Outcome::Fail) {
        let told = [&check.expected, &check.actual, &check.remedy];
        assert!(
            told.iter().all(|text| !text.is_empty()),
            "{what}: {check:?}"
        );
    }
    match is {
        Same => assert_eq!(verdict, genuine, "{what}\n{verdict}"),
        Refused(name) => {
            assert_eq!(verdict.overall, Overall::Invalid, "{what}\n{verdict}");
            let mut failed = verdict.with_outcome(Outcome::Fail);
            assert!(
                failed.any(|check| check.name.starts_with(name)),
                "{what}: {name}\n{verdict}"
            );
        }
    }
}

#[test]
fn every_attempt_with_genuine_parts_has_its_row() {
    let folder = vectors::folder();
    let case = Case::load(&folder, "snp-turin-v5-vcek-85da705e");
    let given = Given {
        file: case.evidence,
        amd: case.endorsements.amd,
    };
    let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
    let others = Others {
        milan: Case::load(&folder, "snp-milan-v3-vcek-05b7438a"),
        asvk: read("roots/amd-turin-asvk.der"),
        quote: read("tdx-v4-b0c06f000000-3ab56d67/quote.bin"),
    };
    let policy = Policy::insecure_authenticity_only;
    let genuine = judge(&given, policy(), AT);
    assert_eq!(genuine.overall, Overall::Valid, "{genuine}");
    for (what, change, is) in PARTS {
        let mut changed = given.clone();
        change(&mut changed, &others);
        assert_is(what, *is, &judge(&changed, policy(), AT), &genuine);
    }
}

/// Lists of revoked keys of Milan, of 2022.
#[test]
fn every_attempt_with_a_genuine_list_has_its_row() {
    type Row = (&'static str, fn(&mut Vec<Vec<u8>>, &[u8]), RowOutcome);
    let rows: [Row; 11] = [
        ("nothing", |_, _| {}, Same),
        (
            "the list twice",
            |lists, _| lists.push(lists[0].clone()),
            Same,
        ),
        (
            "beside it the list of another line",
            |lists, other| lists.push(other.to_vec()),
            Same,
        ),
        (
            "before it the list of another line",
            |lists, other| lists.insert(0, other.to_vec()),
            Same,
        ),
        ("none", |lists, _| lists.clear(), Refused("crl.present")),
        (
            "that of another line alone",
            |lists, other| lists[0] = other.to_vec(),
            Refused("crl.present"),
        ),
        (
            "a byte behind it",
            |lists, _| lists[0].push(0),
            Refused("crl.signature"),
        ),
        (
            "two lists in one file",
            |lists, _| lists[0] = lists[0].repeat(2),
            Refused("crl.signature"),
        ),
        (
            "a later end",
            |lists, _| replace(&mut lists[0], b"230509230000Z", b"330509230000Z"),
            Refused("crl.signature"),
        ),
        (
            "a higher number",
            |lists, _| {
                let number = [0x55, 0x1D, 0x14, 0x04, 0x03, 0x02, 0x01];
                replace(
                    &mut lists[0],
                    &[&number[..], &[3]].concat(),
                    &[&number[..], &[4]].concat(),
                );
            },
            Refused("crl.signature"),
        ),
        (
            "a list that is cut off",
            |lists, _| lists[0].truncate(100),
            Refused("crl.signature"),
        ),
    ];
    let folder = vectors::folder();
    let case = Case::load(&folder, "snp-milan-v2-vcek-377e6241");
    let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
    let (list, other) = (
        read("roots/amd-milan-crl-2022.der"),
        read("roots/amd-genoa-crl-2022.der"),
    );
    let policy = || {
        let mut policy = Policy::insecure_authenticity_only();
        policy.missing.crl = Missing::Refuse;
        policy
    };
    let judged = |lists: Vec<Vec<u8>>| {
        let mut given = Given {
            file: case.evidence.clone(),
            amd: case.endorsements.amd.clone(),
        };
        given.amd.crls = lists.into_iter().map(Into::into).collect();
        let mut verdict = judge(&given, policy(), LISTS);
        // The number of a list among others means nothing.
        for check in &mut verdict.checks {
            check.actual = check.actual.replace("list 2", "list 1");
        }
        verdict
    };
    let genuine = judged(vec![list.clone()]);
    assert_eq!(genuine.overall, Overall::Valid, "{genuine}");
    for (what, change, is) in rows {
        let mut lists = vec![list.clone()];
        change(&mut lists, &other);
        assert_is(what, is, &judged(lists), &genuine);
    }
}

/// The consequence of a policy.
#[derive(Debug)]
enum Consequence {
    /// It is not a valid policy, with this error.
    Error(&'static str),
    /// It can be used, with this warning.
    Warning(&'static str),
    /// It can be used, and requires what it seems to.
    Nothing,
}

#[test]
fn policies_that_seem_stricter_than_they_are() {
    let of_48 = |byte: &str| byte.repeat(48);
    let (zeros, digest) = (of_48("00"), of_48("5a"));
    let pinned = format!("[snp]\nproducts = [\"genoa\"]\nmeasurements = [\"{digest}\"]");
    let rows = [
        (
            "an empty file",
            String::new(),
            Consequence::Error("version"),
        ),
        (
            "no table",
            "version = 1".to_owned(),
            Consequence::Error("accepts no kind of evidence"),
        ),
        (
            "a table that asks for nothing",
            "version = 1\n[snp]".to_owned(),
            Consequence::Warning("any guest on a genuine chip passes"),
        ),
        (
            "the whole of what it pins",
            format!("version = 1\n{pinned}"),
            Consequence::Nothing,
        ),
        (
            "an unknown key",
            format!("version = 1\n{pinned}\nmeasurement = [\"{digest}\"]"),
            Consequence::Error("did you mean `measurements`"),
        ),
        (
            "a key in the wrong table",
            format!("version = 1\nmeasurements = [\"{digest}\"]\n[snp]"),
            Consequence::Error("unknown key `measurements`"),
        ),
        (
            "an unknown table",
            format!("version = 1\n{pinned}\n[sev]\nsmt = \"forbid\""),
            Consequence::Error("unknown key `sev`"),
        ),
        (
            "a floor table without floors",
            "version = 1\n[snp.min-tcb.genoa]".to_owned(),
            Consequence::Error("is empty"),
        ),
        (
            "no launch digest",
            "version = 1\n[snp]\nmeasurements = []".to_owned(),
            Consequence::Error("is empty"),
        ),
        (
            "a launch digest of another length",
            "version = 1\n[snp]\nmeasurements = [\"00\"]".to_owned(),
            Consequence::Error("96 hexadecimal digits"),
        ),
        (
            "a pattern for a digest",
            "version = 1\n[snp]\nmeasurements = [\"*\"]".to_owned(),
            Consequence::Error("96 hexadecimal digits"),
        ),
        (
            "a pattern for a product",
            "version = 1\n[snp]\nproducts = [\"*\"]".to_owned(),
            Consequence::Error("is not one of"),
        ),
        (
            "a pattern for a release",
            "version = 1\n[snp]\nreleases = [\"*\"]".to_owned(),
            Consequence::Error("any-current"),
        ),
        (
            "a pattern for a provider",
            format!("version = 1\n{pinned}\nallowed-csps = [\"*\"]\nsigning-keys = [\"vlek\"]"),
            Consequence::Nothing,
        ),
        (
            "an ID key of zeros",
            format!("version = 1\n[snp]\nid-key-digests = [\"{zeros}\"]"),
            Consequence::Error("without an ID key"),
        ),
        (
            "the same among others",
            format!("version = 1\n{pinned}\nid-key-digests = [\"{digest}\", \"{zeros}\"]"),
            Consequence::Error("without an ID key"),
        ),
        (
            "an author key of zeros",
            format!("version = 1\n[snp]\nauthor-key-digests = [\"{zeros}\"]"),
            Consequence::Error("can never match"),
        ),
        (
            "values of an ID block without its key",
            format!("version = 1\n{pinned}\nmin-guest-svn = 3"),
            Consequence::Warning("whoever launches a guest chooses them"),
        ),
        (
            "the same with its key",
            format!("version = 1\n{pinned}\nmin-guest-svn = 3\nid-key-digests = [\"{digest}\"]"),
            Consequence::Nothing,
        ),
        (
            "floors of 0",
            format!("version = 1\n{pinned}\n[snp.min-tcb.genoa]\nsnp = 0\nmicrocode = 0"),
            Consequence::Warning("snp.min-tcb.genoa requires nothing"),
        ),
        (
            "one floor of 0 beside another",
            format!("version = 1\n{pinned}\n[snp.min-tcb.genoa]\ntee = 0\nsnp = 1"),
            Consequence::Nothing,
        ),
        (
            "firmware from 0.0.0 on",
            format!("version = 1\n{pinned}\nmin-firmware = \"0.0.0\""),
            Consequence::Warning("snp.min-firmware requires nothing"),
        ),
        (
            "an ABI from 0.0 on",
            format!("version = 1\n{pinned}\n[snp.guest-policy]\nmin-abi = \"0.0\""),
            Consequence::Warning("min-abi requires nothing"),
        ),
        (
            "registers of a TD without its MRTD",
            format!("version = 1\n[tdx]\nrtmr1 = [\"{digest}\"]\nrtmr2 = [\"{digest}\"]"),
            Consequence::Warning("prove nothing without mrtd"),
        ),
        (
            "a TD's MRTD and registers",
            format!("version = 1\n[tdx]\nmrtd = [\"{digest}\"]\nrtmr1 = [\"{digest}\"]"),
            Consequence::Nothing,
        ),
        (
            "the product of an enclave without its signer",
            "version = 1\n[sgx]\nisv-prod-id = 1".to_owned(),
            Consequence::Warning("without mrsigner"),
        ),
        (
            "what is about quotes, without quotes",
            format!("version = 1\n{pinned}\n[intel]\nsmt = \"forbid\""),
            Consequence::Warning("neither tdx nor sgx"),
        ),
        (
            "chips of zeros",
            format!(
                "version = 1\n[snp]\nallowed-chips = [\"{}\"]",
                "00".repeat(64)
            ),
            Consequence::Error("no chip has this"),
        ),
        (
            "every status of Intel's",
            "version = 1\n[tdx]\n[intel]\ndegraded-tcb-statuses = [\"OutOfDate\"]".to_owned(),
            Consequence::Error("insecure-degraded-tcb-statuses"),
        ),
        (
            "a table twice",
            format!("version = 1\n{pinned}\n[snp]"),
            Consequence::Error("duplicate"),
        ),
        (
            "a key twice",
            format!("version = 1\n{pinned}\nmeasurements = [\"{digest}\"]"),
            Consequence::Error("duplicate"),
        ),
    ];
    for (what, text, says) in rows {
        let read = Policy::from_toml(&text);
        let warnings = read.as_ref().map(|policy| policy.warnings().join("\n"));
        match (says, warnings) {
            (Consequence::Error(words), Err(error)) => {
                let error = error.to_string();
                assert!(error.contains(words), "{what}: {words}: {error}");
            }
            (Consequence::Warning(words), Ok(warnings)) => {
                assert!(warnings.contains(words), "{what}: {words}: {warnings}");
            }
            (Consequence::Nothing, Ok(warnings)) => assert_eq!(warnings, "", "{what}"),
            (says, read) => panic!("{what}: {says:?}, found {read:?}"),
        }
    }
}

/// A genuine TD under a policy with its registers, and without its initial measurement.
#[test]
fn registers_alone_do_not_identify_a_guest() {
    let folder = vectors::folder();
    let case = Case::load(&folder, "tdx-v4-b0c06f000000-3ab56d67");
    let at = case.expected["verify_at_unix"].as_u64().unwrap();
    let verify = |policy: Policy| {
        let expected = Expected::at(Timestamp(at));
        Verifier::new(policy).verify(&case.evidence, &case.endorsements, &expected)
    };
    let claims = verify(Policy::default()).claims;
    let value = |name: &str| -> Hex<48> { claims[name].parse().unwrap() };
    let mut policy = Policy::default();
    for (register, name) in [
        (&mut policy.tdx.rtmr0, "tdx.rtmr0"),
        (&mut policy.tdx.rtmr1, "tdx.rtmr1"),
        (&mut policy.tdx.rtmr2, "tdx.rtmr2"),
        (&mut policy.tdx.rtmr3, "tdx.rtmr3"),
    ] {
        register.push(value(name));
    }
    let verdict = verify(policy.clone());
    assert!(
        verdict.is_accepted() && verdict.accepts_any_guest(),
        "{verdict}"
    );
    assert!(verdict.to_string().contains("ANY guest"), "{verdict}");
    policy.tdx.mrtd.push(value("tdx.mrtd"));
    let verdict = verify(policy);
    assert!(
        verdict.is_accepted() && !verdict.accepts_any_guest(),
        "{verdict}"
    );
}

/// A floor that everything reaches is listed as a check that was not made.
#[test]
fn floors_of_zero_are_shown_as_checks_not_made() {
    let mut platform = Platform::new(&GENOA);
    let floor = TcbFloor {
        snp: Some(0),
        ..TcbFloor::default()
    };
    platform
        .policy
        .snp
        .min_tcb
        .insert("genoa".to_owned(), floor);
    platform.policy.snp.min_firmware = Some("0.0.0".to_owned());
    platform.policy.snp.guest_policy.min_abi = Some("0.0".to_owned());
    let verdict = platform.verify();
    assert!(verdict.is_accepted(), "{verdict}");
    for name in [
        "tcb.reported",
        "tcb.launch",
        "firmware.version",
        "guest-policy.abi",
    ] {
        assert_eq!(
            verdict.check(name).unwrap().outcome,
            Outcome::Skipped,
            "{name}"
        );
    }
}

/// A signature that was verified is valid only for the same bytes, under the same key.
#[test]
fn a_remembered_signature_is_valid_for_its_bytes_and_signer() {
    let platform = Platform::new(&MILAN);
    let endorsement = platform.endorse();
    let endorsements = platform.endorsements(&endorsement);
    let mut report = platform.report;
    endorsement.sign(&mut report);
    let verifier = Verifier::new(platform.policy.clone());
    let expected = Expected::at(Timestamp(NOW));
    let outcome = |report: &Report, endorsements| {
        let verdict = verifier.verify(report.as_bytes(), endorsements, &expected);
        verdict.check("report.signature").unwrap().outcome
    };
    assert_eq!(outcome(&report, &endorsements), Outcome::Pass);
    assert_eq!(outcome(&report, &endorsements), Outcome::Pass);
    // One byte of the report, and one of its signature.
    let (mut signed, mut signature) = (report, report);
    signed.measurement[0] ^= 1;
    signature.signature.s[0] ^= 1;
    for changed in [&signed, &signature] {
        assert_eq!(outcome(changed, &endorsements), Outcome::Fail);
    }
    // The same report under another key, of a certificate that is as good.
    let mut other = Platform::new(&MILAN);
    other.spec.seed = [9; 32];
    let others = other.endorsements(&other.endorse());
    assert_eq!(outcome(&report, &others), Outcome::Fail);
    assert_eq!(outcome(&report, &endorsements), Outcome::Pass);
}
