// SPDX-License-Identifier: Apache-2.0

//! Evidence inside a container: answers of drivers, blobs of paravisors, text. The container is not signed and proves
//! nothing; the evidence in it is judged like any other, so searching for it costs no security.

use crate::endorsements::AmdEndorsements;
use crate::evidence::Evidence;
use base64ct::{Base64, Encoding};
use enarx_snp::bits::SigningKey;
use enarx_snp::report::{REPORT_LEN, Report};
use std::borrow::Cow;
use std::fmt;

/// Bytes before the report in an answer of the firmware (56860, MSG_REPORT_RSP: status, size, reserved), which is what
/// /dev/sev-guest gives; and of the header of a report that Azure's paravisor keeps (signature HCLA, version, size, type,
/// status, reserved).
const HEADER_LEN: usize = 32;
/// The header of an answer that is good: status 0, size of a report.
const ANSWER: [u8; 8] = [0, 0, 0, 0, 0xA0, 0x04, 0, 0];
/// The signature of the paravisor's header.
const HCL: &[u8] = b"HCLA";
/// Bytes of an entry in a certificate table: GUID, offset and length (56421, table for the extended guest request).
const ENTRY_LEN: usize = 24;
/// Entries of the longest certificate table that is read.
const MAX_ENTRIES: usize = 16;

/// A GUID as in a certificate table: the first three groups are little-endian.
const fn guid(text: u128) -> [u8; 16] {
    let b = text.to_be_bytes();
    [
        b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13],
        b[14], b[15],
    ]
}

/// VCEK, VLEK, ASK or ASVK, and ARK in a certificate table (56421, there).
const VCEK: [u8; 16] = guid(0x63da_758d_e664_4564_adc5_f4b9_3be8_accd);
const VLEK: [u8; 16] = guid(0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1);
const ASK: [u8; 16] = guid(0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782);
const ARK: [u8; 16] = guid(0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae);

/// A form in which evidence is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// The answer of the guest's driver.
    DriverAnswer,
    /// A report followed by the host's certificates.
    CertificateTable,
    /// The report that Azure's paravisor keeps.
    Paravisor,
    /// A report followed by zeros.
    Padding,
    /// Hexadecimal digits.
    Hexadecimal,
    /// Base64.
    Base64,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DriverAnswer => {
                "the answer of a guest's driver, with the report after a header of 32 bytes"
            }
            Self::CertificateTable => "a report followed by a table of certificates",
            Self::Paravisor => {
                "a paravisor's blob (HCLA), with the report after a header of 32 bytes"
            }
            Self::Padding => "a report followed by zeros",
            Self::Hexadecimal => "hexadecimal text",
            Self::Base64 => "Base64 text",
        })
    }
}

/// Evidence, and the forms in which it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted<'a> {
    /// The evidence, or all the bytes where no container was recognized.
    pub evidence: Cow<'a, [u8]>,
    /// The containers that it was in, the outermost first.
    pub containers: Vec<Container>,
    /// Certificates that came with it.
    pub certificates: AmdEndorsements,
}

/// Takes evidence out of the container that it is in.
pub fn extract(bytes: &[u8]) -> Extracted<'_> {
    let plain = Extracted {
        evidence: Cow::Borrowed(bytes),
        containers: Vec::new(),
        certificates: AmdEndorsements::default(),
    };
    if Evidence::parse(bytes).is_ok() {
        return plain;
    }
    if let Some(found) = binary(bytes) {
        return found;
    }
    let Some((container, decoded)) = text(bytes) else {
        return plain;
    };
    let inner = if Evidence::parse(&decoded).is_ok() {
        Some((decoded, Vec::new(), AmdEndorsements::default()))
    } else {
        binary(&decoded).map(|found| {
            let evidence = found.evidence.into_owned();
            (evidence, found.containers, found.certificates)
        })
    };
    match inner {
        None => plain,
        Some((evidence, mut containers, certificates)) => {
            containers.insert(0, container);
            Extracted {
                evidence: Cow::Owned(evidence),
                containers,
                certificates,
            }
        }
    }
}

/// A report in a binary container.
fn binary(bytes: &[u8]) -> Option<Extracted<'_>> {
    let found = |report, container, certificates| {
        Evidence::parse(report).is_ok().then(|| Extracted {
            evidence: Cow::Borrowed(report),
            containers: vec![container],
            certificates,
        })
    };
    let none = AmdEndorsements::default;
    if let Some((header, rest)) = bytes.split_at_checked(HEADER_LEN)
        && let Some(report) = rest.get(..REPORT_LEN)
    {
        if header.starts_with(&ANSWER) {
            return found(report, Container::DriverAnswer, none());
        }
        if header.starts_with(HCL) {
            return found(report, Container::Paravisor, none());
        }
    }
    let (report, rest) = bytes.split_at_checked(REPORT_LEN)?;
    if rest.iter().all(|byte| *byte == 0) {
        return found(report, Container::Padding, none());
    }
    let certificates = table(report, rest)?;
    found(report, Container::CertificateTable, certificates)
}

/// The certificates in a table for the report before it; `None` if it is not a table, or has two certificates of one
/// kind, because nothing says which of them counts.
fn table(report: &[u8], bytes: &[u8]) -> Option<AmdEndorsements> {
    let number = |le: &[u8]| {
        let le = <[u8; 4]>::try_from(le).ok()?;
        usize::try_from(u32::from_le_bytes(le)).ok()
    };
    let mut certificates: [(_, Option<Vec<u8>>); 4] =
        [VCEK, VLEK, ASK, ARK].map(|guid| (guid, None));
    for entry in bytes.chunks_exact(ENTRY_LEN).take(MAX_ENTRIES) {
        let (guid, place) = entry.split_at_checked(16)?;
        if guid.iter().all(|byte| *byte == 0) {
            break;
        }
        let (offset, len) = (number(place.get(..4)?)?, number(place.get(4..8)?)?);
        let certificate = bytes.get(offset..offset.checked_add(len)?)?;
        let known = certificates.iter_mut().find(|(known, _)| guid == known);
        // There may be others, which are of no use to us.
        if let Some((_, place)) = known
            && place.replace(certificate.to_vec()).is_some()
        {
            return None;
        }
    }
    let [vcek, vlek, ask, ark] = certificates.map(|(_, certificate)| certificate);
    if [&vcek, &vlek, &ask, &ark]
        .iter()
        .all(|found| found.is_none())
    {
        return None;
    }
    // A host may have both keys; the report names the one that signed it.
    let keys = Report::parse(report).ok()?.keys();
    let vek = if keys.signing_key() == SigningKey::Vlek {
        vlek
    } else {
        vcek
    };
    Some(AmdEndorsements {
        vek,
        ask,
        ark,
        crls: Vec::new(),
    })
}

/// Bytes that are written as text.
fn text(bytes: &[u8]) -> Option<(Container, Vec<u8>)> {
    let digits: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let digits = std::str::from_utf8(&digits).ok()?;
    if let Ok(decoded) = base16ct::mixed::decode_vec(digits.strip_prefix("0x").unwrap_or(digits)) {
        return Some((Container::Hexadecimal, decoded));
    }
    let decoded = Base64::decode_vec(digits).ok()?;
    Some((Container::Base64, decoded))
}

#[cfg(test)]
mod tests {
    use super::Container::{CertificateTable, DriverAnswer, Hexadecimal, Padding, Paravisor};
    use super::*;
    use proptest::prelude::*;

    /// A report that can be read.
    fn report() -> Vec<u8> {
        let mut report = vec![0x5A; REPORT_LEN];
        report[..4].copy_from_slice(&[5, 0, 0, 0]);
        report
    }

    fn answer(report: &[u8]) -> Vec<u8> {
        [&ANSWER[..], &[0; 24], report, &[0; 100]].concat()
    }

    #[test]
    fn a_report_is_found_in_every_form() {
        let report = report();
        let entry = |guid: [u8; 16], offset: u32, len: u32| {
            [&guid[..], &offset.to_le_bytes(), &len.to_le_bytes()].concat()
        };
        let certificates = [
            entry(VCEK, 72, 2),
            entry(ARK, 74, 1),
            vec![0; ENTRY_LEN],
            vec![1, 2, 3],
        ]
        .concat();
        let hex = base16ct::lower::encode_string(&answer(&report));
        let base64 = Base64::encode_string(&report);
        let lines: Vec<_> = base64
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        for (bytes, containers) in [
            (report.clone(), &[][..]),
            (answer(&report), &[DriverAnswer]),
            ([HCL, &[1; 28], &report, b"more"].concat(), &[Paravisor]),
            ([&report[..], &[0; 7]].concat(), &[Padding]),
            ([report.clone(), certificates].concat(), &[CertificateTable]),
            (hex.into_bytes(), &[Hexadecimal, DriverAnswer]),
            (lines.join("\n").into_bytes(), &[Container::Base64]),
        ] {
            let found = extract(&bytes);
            assert_eq!(found.containers, containers);
            assert_eq!(*found.evidence, report[..], "{containers:?}");
            if containers == [CertificateTable] {
                assert_eq!(found.certificates.vek, Some(vec![1, 2]));
                assert_eq!(found.certificates.ark, Some(vec![3]));
            } else {
                assert_eq!(found.certificates, AmdEndorsements::default());
            }
        }
        // Of two keys the one that signed the report, and nothing of a table that has one twice.
        let both = |signing_key: u8, second: [u8; 16]| {
            let mut report = report.clone();
            report[0x48] = signing_key << 2;
            let entries = [entry(VCEK, 72, 1), entry(second, 73, 1), vec![0; ENTRY_LEN]];
            let bytes = [&report[..], &entries.concat(), &[1, 2]].concat();
            let found = extract(&bytes);
            (!found.containers.is_empty()).then_some(found.certificates.vek)
        };
        assert_eq!(both(0, VLEK), Some(Some(vec![1])));
        assert_eq!(both(1, VLEK), Some(Some(vec![2])));
        assert_eq!(both(1, ARK), Some(None));
        assert_eq!(both(0, VCEK), None);
        // Neither an answer that is an error nor a table that points outside.
        let mut refused = answer(&report);
        refused[0] = 1;
        assert!(extract(&refused).containers.is_empty());
        let outside = [report, entry(VCEK, 72, u32::MAX)].concat();
        assert_eq!(*extract(&outside).evidence, outside[..]);
    }

    proptest! {
        #[test]
        fn extraction_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..3000), start in 0usize..4) {
            let start = [&[][..], &ANSWER, HCL, &[5, 0, 0, 0]][start];
            let bytes = [start, &bytes].concat();
            let found = extract(&bytes);
            prop_assert!(found.containers.len() <= 2);
            prop_assert!(found.containers.is_empty() || Evidence::parse(&found.evidence).is_ok());
        }
    }
}
