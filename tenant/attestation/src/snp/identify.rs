// SPDX-License-Identifier: Apache-2.0

//! Identifies the certificate that a report needs, and the certificate that bytes contain, for use as a key in a
//! store. Nothing is checked; a wrongly filed certificate fails when it is used.

use super::chain::{oid, spl};
use crate::Timestamp;
use crate::x509::{Cert, Crl, CrlNumber, common_name, small_integer};
use der::Decode;
use der::asn1::OctetStringRef;
use enarx_snp::bits::SigningKey;
use enarx_snp::product::{CpuSignature, GENERATIONS, Generation};
use enarx_snp::report::Report;
use enarx_snp::tcb::{Component, TcbVersion};
use std::fmt;

/// An AMD certificate, by its purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndorsementId {
    /// The root of a product line.
    Ark {
        /// Product line, such as Milan.
        line: String,
    },
    /// The intermediate over VCEKs.
    Ask {
        /// Product line.
        line: String,
    },
    /// The intermediate over VLEKs.
    Asvk {
        /// Product line.
        line: String,
    },
    /// The key of a chip.
    Vcek {
        /// Product line.
        line: String,
        /// The chip, as many bytes as the product line has.
        chip_id: Vec<u8>,
        /// TCB numbers as the key distribution service names them, such as `blSPL=04` (57230 section 4.1).
        tcb: String,
    },
    /// The key of a cloud provider.
    Vlek {
        /// Product line.
        line: String,
        /// TCB numbers, as for a VCEK.
        tcb: String,
    },
}

impl EndorsementId {
    /// The product line.
    pub fn line(&self) -> &str {
        match self {
            Self::Ark { line }
            | Self::Ask { line }
            | Self::Asvk { line }
            | Self::Vcek { line, .. }
            | Self::Vlek { line, .. } => line,
        }
    }

    /// The authority with this common name, such as ARK-Milan; `None` for other names.
    pub fn authority(name: &str) -> Option<Self> {
        let line = |line: &str| line.to_owned();
        if let Some(of) = name.strip_prefix("ARK-") {
            return Some(Self::Ark { line: line(of) });
        }
        let of = name.strip_prefix("SEV-")?;
        Some(match of.strip_prefix("VLEK-") {
            Some(of) => Self::Asvk { line: line(of) },
            None => Self::Ask { line: line(of) },
        })
    }
}

impl fmt::Display for EndorsementId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ark { line } => write!(f, "the root ARK-{line}"),
            Self::Ask { line } => write!(f, "the intermediate SEV-{line}"),
            Self::Asvk { line } => write!(f, "the intermediate SEV-VLEK-{line}"),
            Self::Vcek { line, .. } => write!(f, "a VCEK of {line}"),
            Self::Vlek { line, .. } => write!(f, "a VLEK of {line}"),
        }
    }
}

/// TCB numbers in the order and form of the key distribution service's URLs.
fn query(generation: &Generation, svn: impl Fn(Component) -> Option<u8>) -> Option<String> {
    let mut parts = Vec::new();
    for (component, parameter) in [
        (Component::Fmc, "fmcSPL"),
        (Component::Bootloader, "blSPL"),
        (Component::Tee, "teeSPL"),
        (Component::Snp, "snpSPL"),
        (Component::Microcode, "ucodeSPL"),
    ] {
        if generation.tcb.byte(component).is_some() {
            parts.push(format!("{parameter}={:02}", svn(component)?));
        }
    }
    Some(parts.join("&"))
}

/// The certificate of the key that signed this report; `None` when the report does not name product or chip, as
/// reports of version 2, unknown products and masked chips.
pub fn wanted(report: &Report) -> Option<EndorsementId> {
    let generation = report.cpu().and_then(CpuSignature::generation)?;
    match report.keys().signing_key() {
        SigningKey::Vcek => vcek(generation, &report.chip_id, report.reported_tcb),
        SigningKey::Vlek => vlek(generation, report.reported_tcb),
        SigningKey::None | SigningKey::Reserved(_) => None,
    }
}

/// The certificates that a chip may have which reports this CHIP_ID and TCB version: neither names the product line, nor
/// the kind of key. VCEKs come first.
pub fn candidates(chip_id: &[u8; 64], tcb: TcbVersion) -> Vec<EndorsementId> {
    let of_chip = GENERATIONS.into_iter().map(|g| vcek(g, chip_id, tcb));
    let of_provider = GENERATIONS.into_iter().map(|g| vlek(g, tcb));
    let mut all: Vec<EndorsementId> = Vec::new();
    for id in of_chip.chain(of_provider).flatten() {
        // Generations share lines.
        if !all.contains(&id) {
            all.push(id);
        }
    }
    all
}

fn vcek(generation: &Generation, chip_id: &[u8; 64], tcb: TcbVersion) -> Option<EndorsementId> {
    let chip_id = chip_id.get(..generation.chip_id_len)?.to_vec();
    let is_named = chip_id.iter().any(|byte| *byte != 0);
    is_named.then_some(EndorsementId::Vcek {
        line: generation.line.to_owned(),
        chip_id,
        tcb: query(generation, |c| tcb.get(generation.tcb, c))?,
    })
}

fn vlek(generation: &Generation, tcb: TcbVersion) -> Option<EndorsementId> {
    Some(EndorsementId::Vlek {
        line: generation.line.to_owned(),
        tcb: query(generation, |c| tcb.get(generation.tcb, c))?,
    })
}

/// Identifies the purpose of a certificate (DER or PEM); `None` when AMD has no such kind.
pub fn identify(bytes: &[u8]) -> Option<EndorsementId> {
    let certificate = Cert::parse(bytes).ok()?;
    let subject = common_name(certificate.subject());
    if subject != "SEV-VCEK" && subject != "SEV-VLEK" {
        return EndorsementId::authority(&subject);
    }
    let issuer = common_name(certificate.issuer());
    let issuer = issuer.strip_prefix("SEV-")?;
    let line = issuer.strip_prefix("VLEK-").unwrap_or(issuer).to_owned();
    let generation = GENERATIONS.into_iter().find(|g| g.line == line)?;
    let tcb = query(generation, |c| {
        certificate.extension(spl(c)).and_then(small_integer)
    })?;
    if subject == "SEV-VLEK" {
        return Some(EndorsementId::Vlek { line, tcb });
    }
    let chip = certificate.extension(oid::HW_ID)?;
    let chip_id = if chip.len() == generation.chip_id_len {
        chip.to_vec()
    } else {
        <&OctetStringRef>::from_der(chip).ok()?.as_bytes().to_vec()
    };
    Some(EndorsementId::Vcek { line, chip_id, tcb })
}

/// A revocation list, by issuer and time. Nothing in it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListId {
    /// The issuer's common name.
    pub issuer: String,
    /// The time after which it is not in force; `None` if it has none.
    pub next_update: Option<Timestamp>,
    /// The time when it was made.
    pub this_update: Timestamp,
    number: Option<CrlNumber>,
}

impl ListId {
    /// True if it was issued after another one of the same issuer: by their numbers, then by their dates.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        (self.number, self.this_update) > (other.number, other.this_update)
    }

    /// True if its time is not over.
    pub fn is_in_force(&self, at: Timestamp) -> bool {
        self.next_update.is_some_and(|next| at <= next)
    }

    /// True if it has expired, and one of these is newer. The newer one need not be the vendor's, because the
    /// verdict refuses any other.
    pub fn is_superseded_by(&self, given: &[Self], at: Timestamp) -> bool {
        let is_newer = |of: &Self| of.issuer == self.issuer && of.is_newer_than(self);
        !self.is_in_force(at) && given.iter().any(is_newer)
    }
}

/// Identifies a revocation list (DER or PEM); `None` for anything else.
pub fn identify_list(bytes: &[u8]) -> Option<ListId> {
    let list = Crl::parse(bytes).ok()?;
    let (this_update, next_update) = list.validity();
    Some(ListId {
        issuer: common_name(&list.inner.tbs_cert_list.issuer),
        next_update,
        this_update,
        number: list.number(),
    })
}
