// SPDX-License-Identifier: Apache-2.0

//! The tenant's record of a detached application: where its Keep is, how to recognize that Keep, and the key that the
//! Keep admits. Written and read only by the tenant, and trusted. Whoever has a ticket can act as the tenant: store it
//! in a file that nobody else can read, mode 0600.

use crate::fault::Fault;
use crate::target::Target;
use enarx_contract::canonical::{Hex, integer, printable};
use enarx_contract::{Agreement, Contract, ContractError, MAX_ENCODED, PublicKey, Tee};
use enarx_session::keep::Output;
use enarx_session::tenant::{Identity, InsecureUnattested};
use enarx_tls::{Key, TlsError};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// Version of the form.
const VERSION: u32 = 1;

/// Largest ticket in bytes: a contract in base64, and keys, signatures, digests and an address, less than 3 KiB.
pub const MAX_TICKET: usize = MAX_ENCODED / 3 * 4 + (4 << 10);

/// Largest private key in PKCS #8 in bytes: one of P-256 has 138 (RFC 5208, RFC 5915).
const MAX_KEY: usize = 256;

/// Longest text of a JSON reader that an error keeps, in characters.
const MESSAGE: usize = 160;

/// Stands for the token where an address is read without one.
const NO_TOKEN: &str = "-";

/// The means of a tenant to find its application again: see [`crate::attach`].
///
/// It has everything but the token for the host's manager. Its private key is wiped when the last copy is dropped.
#[derive(Clone)]
pub struct Ticket {
    /// The host's address with its pin.
    manager: String,
    agreement: Agreement,
    contract: Contract,
    key: Key,
    identity: Identity,
    deployment: [u8; 32],
    stdout: u64,
    stderr: u64,
}

/// The reason why bytes are not a ticket, or a ticket has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Longer than any ticket.
    #[error("a file of {0} bytes is not a ticket: a ticket has at most {MAX_TICKET}")]
    TooLong(usize),
    /// Not a ticket.
    #[error("this is not a ticket: {0}; use the unchanged file that `deploy` wrote")]
    Form(String),
    /// Of a version that this program does not know.
    #[error(
        "the ticket has version {0}, this program knows version {VERSION}: use the program that wrote it"
    )]
    Version(u32),
    /// Not the bytes that were written.
    #[error("the ticket is damaged: its digest does not match; use a copy, if you have one")]
    Damaged,
    /// Parts that do not belong together.
    #[error(
        "the ticket's {0} does not fit the rest of it; use the unchanged file that `deploy` wrote"
    )]
    Value(&'static str),
    /// No valid contract, or one with invalid signatures.
    #[error("the ticket's contract is not valid: {0}")]
    Contract(#[from] ContractError),
    /// No valid private key.
    #[error("the ticket's key cannot be used: {0}")]
    Key(#[from] TlsError),
}

impl TicketError {
    /// The name of the error, stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) | Self::Form(_) => "ticket.form",
            Self::Version(_) => "ticket.version",
            Self::Damaged => "ticket.damaged",
            Self::Value(_) => "ticket.value",
            Self::Contract(_) => "ticket.contract",
            Self::Key(_) => "ticket.key",
        }
    }
}

/// Only the version, of a ticket of any version.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// A ticket as a document: JSON without white space, fields in this order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    ticket: Body,
    /// SHA-256 of the encoded body: against damage, not against forgers.
    sha256: Hex<32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    manager: String,
    agreement: Agreement,
    key: PrivateKey,
    keep: PublicKey,
    report_id: Option<Hex<32>>,
    deployment: Hex<32>,
    #[serde(with = "integer")]
    stdout: u64,
    #[serde(with = "integer")]
    stderr: u64,
}

/// A private key in PKCS #8, as lower-case hex in the document.
struct PrivateKey(Zeroizing<Vec<u8>>);

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut room = Zeroizing::new([0; 2 * MAX_KEY]);
        let text = base16ct::lower::encode_str(&self.0, &mut *room)
            .map_err(|_| serde::ser::Error::custom("a private key that is too long"))?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = PrivateKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a private key in lower-case hexadecimal digits")
            }
            // A message must not repeat the text.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PrivateKey, E> {
                let mut room = Zeroizing::new([0; MAX_KEY]);
                let bytes = base16ct::lower::decode(text, &mut *room)
                    .map_err(|_| E::custom("not a valid private key"))?;
                Ok(PrivateKey(Zeroizing::new(bytes.to_vec())))
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

/// The encoding of a document that has a secret in it.
fn encode(document: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, TicketError> {
    // With the full capacity, because a growing buffer would leave its contents in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_TICKET));
    serde_json::to_writer(&mut *bytes, document).map_err(|error| form(&error))?;
    if bytes.len() > MAX_TICKET {
        return Err(TicketError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

fn form(error: &serde_json::Error) -> TicketError {
    TicketError::Form(printable(&error.to_string(), MESSAGE))
}

impl Ticket {
    /// The ticket of an application in the Keep of this agreement, of which nothing has been received.
    pub(crate) fn new(
        target: &Target,
        agreement: &Agreement,
        contract: &Contract,
        key: &Key,
        identity: Identity,
        deployment: [u8; 32],
    ) -> Self {
        Self {
            manager: target.url(),
            agreement: agreement.clone(),
            contract: contract.clone(),
            key: key.clone(),
            identity,
            deployment,
            stdout: 0,
            stderr: 0,
        }
    }

    /// The same ticket, with this many bytes received of each output.
    pub(crate) fn at(mut self, stdout: u64, stderr: u64) -> Self {
        self.stdout = stdout;
        self.stderr = stderr;
        self
    }

    /// The ticket as bytes for a file of mode 0600. They hold the tenant's private key, and are wiped when they are
    /// dropped.
    ///
    /// # Errors
    /// [`TicketError::Key`]; [`TicketError::Form`] when an output has 2^53 bytes or more.
    pub fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, TicketError> {
        let ticket = Body {
            manager: self.manager.clone(),
            agreement: self.agreement.clone(),
            key: PrivateKey(self.key.to_pkcs8()?),
            keep: self.identity.keep,
            report_id: self.identity.report_id.map(Hex),
            deployment: Hex(self.deployment),
            stdout: self.stdout,
            stderr: self.stderr,
        };
        let sha256 = Hex(Sha256::digest(&*encode(&ticket)?).into());
        encode(&Form {
            version: VERSION,
            ticket,
            sha256,
        })
    }

    /// Reads a ticket. The caller wipes `bytes`.
    ///
    /// # Errors
    /// [`TicketError`] for everything but the unchanged bytes of [`Self::to_bytes`] of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        if bytes.len() > MAX_TICKET {
            return Err(TicketError::TooLong(bytes.len()));
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|error| form(&error))?;
        if head.version != VERSION {
            return Err(TicketError::Version(head.version));
        }
        let Form { ticket, sha256, .. } =
            serde_json::from_slice(bytes).map_err(|error| form(&error))?;
        if sha256.0 != <[u8; 32]>::from(Sha256::digest(&*encode(&ticket)?)) {
            return Err(TicketError::Damaged);
        }
        let token = Zeroizing::new(NO_TOKEN.to_owned());
        let target = Target::parse(&ticket.manager, token)
            .map_err(|_| TicketError::Value("address of the host"))?;
        let contract = ticket.agreement.verify()?;
        let key = Key::from_pkcs8(&ticket.key.0)?;
        let tenant = ticket.agreement.tenant.map(|signed| signed.key);
        if tenant != Some(key.public()) || ticket.agreement.host.is_none() {
            return Err(TicketError::Value("key"));
        }
        let attested = contract.terms().platform.tee != Tee::None;
        if attested != ticket.report_id.is_some() {
            return Err(TicketError::Value("identity of the Keep"));
        }
        let read = Self {
            manager: target.url(),
            agreement: ticket.agreement,
            contract,
            key,
            identity: Identity {
                keep: ticket.keep,
                report_id: ticket.report_id.map(|id| id.0),
            },
            deployment: ticket.deployment.0,
            stdout: ticket.stdout,
            stderr: ticket.stderr,
        };
        if *read.to_bytes()? != *bytes {
            return Err(TicketError::Form("not in canonical form".to_owned()));
        }
        Ok(read)
    }

    /// The host with this token for its manager.
    ///
    /// # Errors
    /// [`Fault::Token`].
    pub(crate) fn target(&self, token: Zeroizing<String>) -> Result<Target, Fault> {
        Ok(Target::parse(&self.manager, token)?)
    }

    /// The host's name, `HOST:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        let place = self.manager.strip_prefix("https://").unwrap_or_default();
        let (name, _) = place.split_once('#').unwrap_or_default();
        name.to_owned()
    }

    /// The contract.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The contract with both signatures.
    #[must_use]
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The tenant's key, the one that the Keep admits.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The Keep.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// SHA-256 of the deployment.
    #[must_use]
    pub fn deployment(&self) -> &[u8; 32] {
        &self.deployment
    }

    /// Bytes of an output that the tenant has: written, and not to come again.
    #[must_use]
    pub fn received(&self, output: Output) -> u64 {
        match output {
            Output::Stdout => self.stdout,
            Output::Stderr => self.stderr,
        }
    }

    /// The tenant's permission for a Keep without a TEE, given in the order: without it there would be no ticket under
    /// such a contract.
    pub(crate) fn unattested(&self) -> Option<InsecureUnattested> {
        (self.contract.terms().platform.tee == Tee::None).then_some(InsecureUnattested)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("host", &self.host())
            .field("keep", &self.contract.keep_id())
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish_non_exhaustive()
    }
}
