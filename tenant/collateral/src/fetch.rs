// SPDX-License-Identifier: Apache-2.0

//! Filling the store from the vendors' services (57230 section 4 for AMD, the PCS API version 4 for Intel).

use crate::http::{Http, HttpError, Response, get};
use crate::store::{Store, StoreError};
use enarx_attestation::snp::{EndorsementId, wanted};
use enarx_attestation::{Evidence, EvidenceError, EvidenceKind, Timestamp, hex};
use enarx_snp::simulated::is_simulated;
use percent_encoding::percent_decode_str;
use serde_json::json;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// AMD's key distribution service.
const KDS: &str = "https://kdsintf.amd.com";
/// Intel's provisioning certification service.
const PCS: &str = "https://api.trustedservices.intel.com";
/// The revocation list of Intel's root.
const INTEL_ROOT_CRL: &str = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The evidence cannot be read.
    #[error("{0}")]
    Evidence(#[from] EvidenceError),
    /// Nothing can be fetched for this evidence.
    #[error(transparent)]
    Unnamed(#[from] Unnamed),
    /// A service did not deliver.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// An answer is not the requested document.
    #[error("{url}: the answer is not {expected}")]
    Answer {
        /// The URL.
        url: String,
        /// The requested kind of answer.
        expected: &'static str,
    },
    /// The store could not be used.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Why no service has certificates for evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unnamed {
    /// The chip is simulated: no vendor knows it.
    #[error(
        "this report comes from a simulated chip, for which AMD has no certificates: give `enarx verify --certs` those \
        that `enarx run --attest-to` wrote"
    )]
    Simulated,
    /// The report names no product or no chip.
    #[error(
        "this report names no product or chip (version 2, or masked): give the certificates by hand"
    )]
    Chip,
    /// The quote does not carry the certificate that names its platform.
    #[error("this quote does not carry the PCK certificate: give the collateral by hand")]
    Platform,
    /// A VLEK signed the report.
    #[error(
        "a VLEK certificate comes from the cloud provider: import it with `enarx certs import`"
    )]
    Vlek,
}

/// Fetches what evidence needs into a store.
#[derive(Debug)]
pub struct Fetcher<'a, H> {
    store: &'a Store,
    http: H,
}

impl<'a, H: Http> Fetcher<'a, H> {
    /// A fetcher into this store.
    pub fn new(store: &'a Store, http: H) -> Self {
        Self { store, http }
    }

    /// Fetches what this evidence needs and the store does not have: certificates once, revocation lists and
    /// collateral when there is none in force at the time `at`, or none that was fetched within the last day. Files in
    /// the store that are not the vendor's count as missing. Returns the written files.
    ///
    /// # Errors
    /// When the evidence does not name its platform, a service does not deliver, or the store cannot be written.
    pub fn fetch(&mut self, evidence: &[u8], at: Timestamp) -> Result<Vec<PathBuf>, FetchError> {
        match Evidence::parse(evidence)? {
            Evidence::Snp(report) => {
                if is_simulated(&report.chip_id) {
                    return Err(Unnamed::Simulated.into());
                }
                let id = wanted(report).ok_or(Unnamed::Chip)?;
                self.amd(&id, at)
            }
            Evidence::Quote(quote) => {
                let (fmspc, ca) = quote.platform().ok_or(Unnamed::Platform)?;
                let fmspc = hex::encode(&fmspc);
                let served = self.store.endorsements(evidence, at).intel.is_some();
                if served && self.store.has_recent_collateral(quote.tee(), &fmspc, at) {
                    return Ok(Vec::new());
                }
                self.intel(quote.tee(), &fmspc, ca)
            }
        }
    }

    /// Fetches the revocation lists about the certificates of this report, and the authorities that signed them, as
    /// [`Self::fetch`] does. The report may be anybody's: it names a product line and nothing else.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub fn fetch_lists(
        &mut self,
        report: &[u8],
        at: Timestamp,
    ) -> Result<Vec<PathBuf>, FetchError> {
        let Evidence::Snp(report) = Evidence::parse(report)? else {
            return Err(Unnamed::Chip.into());
        };
        if is_simulated(&report.chip_id) {
            return Err(Unnamed::Simulated.into());
        }
        let id = wanted(report).ok_or(Unnamed::Chip)?;
        self.authorities(&id, at)
    }

    fn amd(&mut self, id: &EndorsementId, at: Timestamp) -> Result<Vec<PathBuf>, FetchError> {
        tracing::debug!("the evidence needs {id}");
        let mut written = self.authorities(id, at)?;
        if !self.store.has(id) {
            let EndorsementId::Vcek { line, chip_id, tcb } = id else {
                return Err(Unnamed::Vlek.into());
            };
            let chip = hex::encode(chip_id);
            written.extend(self.import(&format!("{KDS}/vcek/v1/{line}/{chip}?{tcb}"))?);
        }
        Ok(written)
    }

    /// Fetches root and intermediate of an endorsement key, and the revocation lists of its line.
    fn authorities(
        &mut self,
        id: &EndorsementId,
        at: Timestamp,
    ) -> Result<Vec<PathBuf>, FetchError> {
        let (line, kind) = match id {
            EndorsementId::Vlek { line, .. } => (line, "vlek"),
            EndorsementId::Vcek { line, .. }
            | EndorsementId::Ark { line }
            | EndorsementId::Ask { line }
            | EndorsementId::Asvk { line } => (line, "vcek"),
        };
        let mut written = Vec::new();
        let ask = if kind == "vlek" {
            EndorsementId::Asvk { line: line.clone() }
        } else {
            EndorsementId::Ask { line: line.clone() }
        };
        if !self.store.has(&ask) || !self.store.has(&EndorsementId::Ark { line: line.clone() }) {
            written.extend(self.import(&format!("{KDS}/{kind}/v1/{line}/cert_chain"))?);
        }
        if !self.store.has_recent_list(line, at) {
            written.extend(self.import(&format!("{KDS}/{kind}/v1/{line}/crl"))?);
        }
        Ok(written)
    }

    fn import(&mut self, url: &str) -> Result<Vec<PathBuf>, FetchError> {
        let answer = get(&mut self.http, url)?;
        let written = self.store.import(&answer.body, Path::new(url))?;
        tracing::debug!(files = written.len(), "kept what {url} gave");
        Ok(written)
    }

    fn intel(
        &mut self,
        tee: EvidenceKind,
        fmspc: &str,
        ca: &str,
    ) -> Result<Vec<PathBuf>, FetchError> {
        let kind = if tee == EvidenceKind::Tdx {
            "tdx"
        } else {
            "sgx"
        };
        let url = format!("{PCS}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der");
        let pck = get(&mut self.http, &url)?;
        let pck_chain = chain(&pck, "sgx-pck-crl-issuer-chain", &url)?;
        let root = get(&mut self.http, INTEL_ROOT_CRL)?;
        let url = format!("{PCS}/{kind}/certification/v4/tcb?fmspc={fmspc}");
        let info = get(&mut self.http, &url)?;
        let info_chain = chain(&info, "tcb-info-issuer-chain", &url)?;
        let (tcb_info, tcb_signature) = signed(&info, "tcbInfo", &url)?;
        let url = format!("{PCS}/{kind}/certification/v4/qe/identity");
        let identity = get(&mut self.http, &url)?;
        let identity_chain = chain(&identity, "sgx-enclave-identity-issuer-chain", &url)?;
        let (qe_identity, qe_signature) = signed(&identity, "enclaveIdentity", &url)?;
        let collateral = json!({
            "pck_crl_issuer_chain": pck_chain,
            "root_ca_crl": hex::encode(&root.body),
            "pck_crl": hex::encode(&pck.body),
            "tcb_info_issuer_chain": info_chain,
            "tcb_info": tcb_info,
            "tcb_info_signature": tcb_signature,
            "qe_identity_issuer_chain": identity_chain,
            "qe_identity": qe_identity,
            "qe_identity_signature": qe_signature,
        });
        let origin = Path::new(PCS);
        Ok(self
            .store
            .import(collateral.to_string().as_bytes(), origin)?)
    }
}

/// A certificate chain from a header field, where it is percent-encoded.
fn chain(answer: &Response, name: &str, url: &str) -> Result<String, FetchError> {
    let wrong = || FetchError::Answer {
        url: url.to_owned(),
        expected: "with its issuer's chain",
    };
    let encoded = answer.header(name).ok_or_else(wrong)?;
    let text = percent_decode_str(encoded).decode_utf8();
    text.map(Cow::into_owned).map_err(|_| wrong())
}

/// The signed text of a member, byte by byte as the service sent it, and its signature.
fn signed(answer: &Response, member: &str, url: &str) -> Result<(String, String), FetchError> {
    let parts = || {
        let text = std::str::from_utf8(&answer.body).ok()?;
        let start = text.strip_prefix(&format!("{{\"{member}\":"))?;
        let (body, tail) = start.rsplit_once(",\"signature\":\"")?;
        let signature = tail.trim_end().strip_suffix("\"}")?;
        serde_json::from_str::<serde_json::Value>(body).ok()?;
        Some((body.to_owned(), signature.to_owned()))
    };
    parts().ok_or_else(|| FetchError::Answer {
        url: url.to_owned(),
        expected: "signed JSON",
    })
}
