// SPDX-License-Identifier: Apache-2.0

//! Binding of a Keep's reports: REPORT_DATA is the SHA-512 of one fixed structure, whose first 32 bytes name the use.
//! The 64 bytes are always computed here, from the caller's own connection, and never taken from a peer.

use crate::refusal::Refusal;
use enarx_contract::{ContractDigest, PublicKey};
use sha2::{Digest, Sha512};
use zeroize::Zeroize;

pub use crate::told::State;

/// Length of the structure for sessions, in bytes.
pub const SESSION_BINDING: usize = 240;

/// Length of the structure for receipts, in bytes.
pub const RECEIPT_BINDING: usize = 128;

/// Length of the structure for native code, in bytes.
pub const NATIVE_BINDING: usize = 224;

/// First bytes of the structure for sessions, zero-padded to 32.
pub const SESSION_DOMAIN: &[u8] = b"enarx session evidence 1";

/// First bytes of the structure for receipts, zero-padded to 32.
pub const RECEIPT_DOMAIN: &[u8] = b"enarx receipt evidence 1";

/// First bytes of the structure for native code, zero-padded to 32.
pub const NATIVE_DOMAIN: &[u8] = b"enarx native evidence 1";

/// The attester is the TLS server, which is the only role. The exporter is the same on both sides, so without the role
/// an end could be shown its own evidence.
const ROLE_SERVER: u8 = 1;

/// Keying material of one TLS connection (RFC 9266). Never all zeros.
#[derive(Clone)]
pub struct Exporter([u8; 32]);

impl Exporter {
    /// The exporter with these bytes.
    ///
    /// # Errors
    /// [`Refusal::Exporter`] for zeros: the sign of an exporter that failed unnoticed.
    pub fn new(bytes: [u8; 32]) -> Result<Self, Refusal> {
        if bytes == [0; 32] {
            return Err(Refusal::Exporter);
        }
        Ok(Self(bytes))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl core::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Exporter")
    }
}

/// The values that the evidence of a session binds.
#[derive(Clone, Debug)]
pub struct Binding<'a> {
    /// Number of this ATTEST in its session, from 1.
    pub sequence: u64,
    /// The tenant's nonce.
    pub nonce: &'a [u8; 32],
    /// The exporter of the connection.
    pub exporter: &'a Exporter,
    /// The Keep's key.
    pub keep: &'a PublicKey,
    /// The tenant's key, which the exporter does not cover: it is the audience of the evidence.
    pub tenant: &'a PublicKey,
    /// The contract.
    pub contract: &'a ContractDigest,
    /// SHA-256 of the deployment; `None` while the Keep is unprovisioned.
    pub deployment: Option<&'a [u8; 32]>,
}

impl Binding<'_> {
    /// The state that the evidence claims.
    #[must_use]
    pub fn state(&self) -> State {
        match self.deployment {
            None => State::Unprovisioned,
            Some(_) => State::Provisioned,
        }
    }

    /// The structure that is hashed (SPEC.md section 4).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SESSION_BINDING] {
        let mut bytes = [0; SESSION_BINDING];
        let mut at = Writer {
            bytes: &mut bytes,
            at: 0,
        };
        at.put(&padded(SESSION_DOMAIN));
        at.put(&[ROLE_SERVER, self.state() as u8, 0, 0, 0, 0, 0, 0]);
        at.put(&self.sequence.to_le_bytes());
        at.put(self.nonce);
        at.put(&self.exporter.0);
        at.put(&self.keep.digest());
        at.put(&self.tenant.digest());
        at.put(&self.contract.0);
        at.put(self.deployment.unwrap_or(&[0; 32]));
        bytes
    }

    /// REPORT_DATA.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        Sha512::digest(self.to_bytes()).into()
    }
}

/// REPORT_DATA of the report over a receipt's body.
#[must_use]
pub fn receipt_report_data(
    body: &[u8; 32],
    keep: &PublicKey,
    contract: &ContractDigest,
) -> [u8; 64] {
    let mut bytes = [0; RECEIPT_BINDING];
    let mut at = Writer {
        bytes: &mut bytes,
        at: 0,
    };
    at.put(&padded(RECEIPT_DOMAIN));
    at.put(body);
    at.put(&keep.digest());
    at.put(&contract.0);
    Sha512::digest(bytes).into()
}

/// The values that the last report before native code binds: everything that is known about a run before it begins.
#[derive(Clone, Copy, Debug)]
pub struct Native<'a> {
    /// SHA-256 of the deployment.
    pub deployment: &'a [u8; 32],
    /// SHA-256 of the application.
    pub application: &'a [u8; 32],
    /// SHA-256 of the WebAssembly that it was compiled from.
    pub source: &'a [u8; 32],
    /// The Keep's key.
    pub keep: &'a PublicKey,
    /// The key of the tenant that released it.
    pub tenant: &'a PublicKey,
    /// The contract.
    pub contract: &'a ContractDigest,
}

impl Native<'_> {
    /// The structure that is hashed (SPEC.md section 10).
    #[must_use]
    pub fn to_bytes(&self) -> [u8; NATIVE_BINDING] {
        let mut bytes = [0; NATIVE_BINDING];
        let mut at = Writer {
            bytes: &mut bytes,
            at: 0,
        };
        at.put(&padded(NATIVE_DOMAIN));
        at.put(self.deployment);
        at.put(self.application);
        at.put(self.source);
        at.put(&self.keep.digest());
        at.put(&self.tenant.digest());
        at.put(&self.contract.0);
        bytes
    }

    /// REPORT_DATA.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        Sha512::digest(self.to_bytes()).into()
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "domains are constants of this file; one that is too long must not be cut"
)]
fn padded(domain: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..domain.len()].copy_from_slice(domain);
    bytes
}

/// Puts fields of fixed lengths one after the other.
struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[expect(
        clippy::indexing_slicing,
        reason = "the lengths are those of types; a field that has no room must not be left out"
    )]
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }
}
