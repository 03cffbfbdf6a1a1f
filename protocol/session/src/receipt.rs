// SPDX-License-Identifier: Apache-2.0

//! The receipt: the Keep's statement on what it ran, signed by its key and by a report over it, so that it can be
//! verified years later without the session and without the host.

use crate::Refusal;
use crate::binding::{Native, receipt_report_data};
use crate::document::Exit;
use crate::frame::Kind;
use crate::verdict::{Expected, Verifier, judge};
use alloc::vec::Vec;
use enarx_contract::canonical::{self, Base64, CanonicalError, Hex, integer};
use enarx_contract::{Contract, ContractDigest, PublicKey, Signature};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Version of the receipt.
pub const VERSION: u32 = 1;

/// First bytes of the data that the Keep signs.
const DOMAIN: &[u8; 16] = b"enarx receipt 1\0";

/// A Keep's statement about its run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// [`VERSION`].
    pub version: u32,
    /// The contract.
    pub contract: ContractDigest,
    /// SHA-256 of the deployment.
    pub deployment: Hex<32>,
    /// SHA-256 of the application.
    pub application: Hex<32>,
    /// SHA-256 of the WebAssembly that it was compiled from; `None` if it is WebAssembly itself. Native code can read
    /// the Keep's key, so the end, times and streams below are then only its own claims.
    pub source: Option<Hex<32>>,
    /// The Keep's key.
    pub keep_key: PublicKey,
    /// The key of the tenant that released the application. An open contract names none.
    pub tenant_key: PublicKey,
    /// REPORT_ID of the Keep's reports; `None` without a TEE.
    pub report_id: Option<Hex<32>>,
    /// Start, in seconds since 1970: the tenant's time and the Keep's counter.
    #[serde(with = "integer")]
    pub started: u64,
    /// End, likewise.
    #[serde(with = "integer")]
    pub ended: u64,
    /// How it ended.
    pub exit: Exit,
    /// The standard streams.
    pub streams: Streams,
    /// How often the Keep gave evidence.
    #[serde(with = "integer")]
    pub evidence_count: u64,
}

/// The standard streams of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// The part of standard input that the application read.
    pub stdin: Stream,
    /// Its standard output; nothing when that went nowhere.
    pub stdout: Stream,
    /// Its standard error; nothing when that went nowhere.
    pub stderr: Stream,
}

/// One stream of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Its length in bytes.
    #[serde(with = "integer")]
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub sha256: Hex<32>,
    /// Bytes that were dropped before a session acknowledged them.
    #[serde(with = "integer")]
    pub dropped: u64,
}

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The Keep's statement.
    pub body: Body,
    /// The Keep's signature over [`Body::signing_input`].
    pub signature: Signature,
    /// The report over it, or over its beginning where the application is native code; `None` without a TEE, or when the host
    /// let none through in time.
    pub report: Option<Base64>,
}

/// The expectations of a receipt's reader. Every value that is `None` is not compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'a> {
    /// The contract, whose terms the report must meet.
    pub contract: Option<&'a Contract>,
    /// SHA-256 of the deployment.
    pub deployment: Option<&'a [u8; 32]>,
    /// SHA-256 of the application.
    pub application: Option<&'a [u8; 32]>,
    /// The key of the tenant.
    pub tenant: Option<&'a PublicKey>,
    /// A receipt of native code is accepted, although its end is only that code's own claim.
    pub precompiled: bool,
}

impl Body {
    /// SHA-256 of the canonical form.
    ///
    /// # Errors
    /// When a number is too large for a document.
    pub fn digest(&self) -> Result<[u8; 32], CanonicalError> {
        let bytes = canonical::encode(self, Kind::Receipt.lengths().1)?;
        Ok(Sha256::digest(bytes).into())
    }

    /// Returns the bytes that the Keep signs, by ECDSA over P-256 with SHA-256.
    ///
    /// # Errors
    /// The error of [`Self::digest`].
    pub fn signing_input(&self) -> Result<Vec<u8>, CanonicalError> {
        let mut input = DOMAIN.to_vec();
        input.extend_from_slice(&self.digest()?);
        Ok(input)
    }

    /// REPORT_DATA of the receipt's report: over this whole body, or over the part that was known before native code
    /// ran.
    ///
    /// # Errors
    /// The error of [`Self::digest`].
    pub fn report_data(&self) -> Result<[u8; 64], CanonicalError> {
        Ok(match &self.source {
            None => receipt_report_data(&self.digest()?, &self.keep_key, &self.contract),
            Some(source) => Native {
                deployment: &self.deployment.0,
                application: &self.application.0,
                source: &source.0,
                keep: &self.keep_key,
                tenant: &self.tenant_key,
                contract: &self.contract,
            }
            .report_data(),
        })
    }
}

impl Receipt {
    /// Encodes the receipt.
    ///
    /// # Errors
    /// When it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::encode(self, Kind::Receipt.lengths().1)
    }

    /// Reads a receipt. Do not trust any of it before it is verified.
    ///
    /// # Errors
    /// [`Refusal::Receipt`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let receipt: Self = canonical::decode(bytes, Kind::Receipt.lengths().1)
            .map_err(|_| Refusal::Receipt("receipt.form"))?;
        if receipt.body.version != VERSION {
            return Err(Refusal::Receipt("receipt.version"));
        }
        Ok(receipt)
    }

    /// Checks the signature with the key that the receipt names. Alone this proves nothing, because anybody can create
    /// a key and sign a receipt. It is enough if the key is known from an attested session.
    ///
    /// # Errors
    /// [`Refusal::Receipt`].
    pub fn check_signature(&self) -> Result<(), Refusal> {
        let refused = |_| Refusal::Receipt("receipt.form");
        let input = self.body.signing_input().map_err(refused)?;
        if self.body.keep_key.verifies(&input, &self.signature) {
            return Ok(());
        }
        Err(Refusal::Receipt("receipt.signature"))
    }

    /// Verifies the receipt on its own, even years later: signature, report over the body under the verifier's policy,
    /// and the caller's expectations of contract, deployment, application and tenant.
    ///
    /// # Errors
    /// [`Refusal::Receipt`] for an invalid signature, a report that is missing or of another Keep, native code that the
    /// caller does not accept, and every claim that differs; [`Refusal::Evidence`] and [`Refusal::Unchecked`] for the
    /// report; [`Refusal::Contract`] for a report that does not meet the contract.
    pub fn verify(&self, verifier: &impl Verifier, claims: &Claims<'_>) -> Result<(), Refusal> {
        self.check_signature()?;
        self.check_claims(claims)?;
        if self.body.source.is_some() && !claims.precompiled {
            return Err(Refusal::Receipt("receipt.precompiled"));
        }
        let Some(report) = &self.report else {
            return Err(Refusal::Receipt("receipt.report-missing"));
        };
        let expected = Expected {
            report_data: self
                .body
                .report_data()
                .map_err(|_| Refusal::Receipt("receipt.form"))?,
            host_data: self.body.contract.0,
        };
        let report = judge(verifier, &report.0, &expected)?;
        if self.body.report_id != Some(Hex(report.report_id)) {
            return Err(Refusal::Receipt("receipt.report-id"));
        }
        if let Some(contract) = claims.contract {
            contract.check_report(report)?;
        }
        Ok(())
    }

    /// Compares the body with the caller's expectations.
    pub(crate) fn check_claims(&self, claims: &Claims<'_>) -> Result<(), Refusal> {
        let body = &self.body;
        for (name, differs) in [
            (
                "receipt.contract",
                claims
                    .contract
                    .is_some_and(|contract| *contract.digest() != body.contract),
            ),
            (
                "receipt.deployment",
                claims
                    .deployment
                    .is_some_and(|digest| *digest != body.deployment.0),
            ),
            (
                "receipt.application",
                claims
                    .application
                    .is_some_and(|digest| *digest != body.application.0),
            ),
            (
                "receipt.tenant-key",
                claims.tenant.is_some_and(|key| *key != body.tenant_key)
                    || claims
                        .contract
                        .is_some_and(|contract| !contract.terms().admits(&body.tenant_key, None)),
            ),
        ] {
            if differs {
                return Err(Refusal::Receipt(name));
            }
        }
        Ok(())
    }
}
