// SPDX-License-Identifier: Apache-2.0

//! The deployment: the tenant's document that says what a Keep should run. Its SHA-256 is in all later evidence and in
//! the receipt, so it contains digests of everything, and commitments to secrets: a short secret could be guessed from
//! a plain digest by anyone who sees the document.

use crate::paths;
use crate::refusal::Refusal;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use enarx_contract::canonical::{self, Hex, integer};
use enarx_contract::{Contract, ContractDigest, ContractError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use crate::deployment_error::{DeploymentError, VERSION};

/// Largest encoded deployment in bytes: 4,096 files with paths of about 100 bytes.
pub const MAX_ENCODED: usize = 1 << 20;
/// Largest application in bytes.
pub const MAX_APPLICATION: u64 = 512 << 20;
/// Largest encoded configuration in bytes: the limit of `protocol/configuration`.
pub const MAX_CONFIGURATION: u64 = 4 << 20;
/// Most files.
pub const MAX_FILES: usize = 4096;
/// Most bytes of all files together.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Most secrets.
pub const MAX_SECRETS: usize = 64;
/// Largest secret in bytes.
pub const MAX_SECRET: u64 = 64 << 10;
/// Minimum and maximum bytes that a Keep buffers of each output. The minimum is [`crate::WINDOW`]: with less, output
/// would stop forever after the first window.
pub const BUFFER_BYTES: core::ops::RangeInclusive<u32> = crate::WINDOW..=16 << 20;

/// First bytes of the input of a commitment.
const SECRET_DOMAIN: &[u8; 15] = b"enarx secret 1\0";

/// The run that a tenant orders of a Keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// [`VERSION`].
    pub version: u32,
    /// The contract under which it runs.
    pub contract: ContractDigest,
    /// The application: a WebAssembly module or component, or native code that was compiled from one.
    pub application: Object,
    /// For native code, the SHA-256 of the WebAssembly that it was compiled from, as claimed by whoever compiled it.
    /// `None`: the application is WebAssembly.
    pub source: Option<Hex<32>>,
    /// The encoded configuration (`protocol/configuration`).
    pub configuration: Object,
    /// Files of the package, by ascending paths (compared part by part).
    pub files: Vec<File>,
    /// Secrets, by ascending names.
    pub secrets: Vec<Secret>,
    /// Where output goes.
    pub output: Output,
    /// The rules for the time without a session.
    pub detached: Detached,
    /// The tenant's time in seconds since 1970.
    #[serde(with = "integer")]
    pub now: u64,
    /// Random: makes commitments unguessable.
    pub salt: Hex<32>,
}

/// Bytes by their digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// SHA-256.
    pub digest: Hex<32>,
    /// Length in bytes.
    #[serde(with = "integer")]
    pub size: u64,
}

/// A file of the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its path, relative to the package.
    pub path: String,
    /// SHA-256.
    pub digest: Hex<32>,
    /// Length in bytes.
    #[serde(with = "integer")]
    pub size: u64,
}

/// How a secret reaches the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// As a variable of the environment.
    Env,
    /// As a file below `/run/secrets`.
    File,
}

/// A secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Name of the variable or of the file.
    pub name: String,
    /// How it reaches the application.
    #[serde(rename = "as")]
    pub delivery: Delivery,
    /// [`commitment`] of name and value.
    pub commitment: Hex<32>,
    /// Length in bytes.
    #[serde(with = "integer")]
    pub size: u64,
}

/// Where an output goes; `null` in the document: nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// To the session.
    Session,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Standard output.
    pub stdout: Option<Sink>,
    /// Standard error.
    pub stderr: Option<Sink>,
}

/// The handling of output that does not fit while nobody is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// The application waits.
    Block,
    /// The oldest is dropped, and the receipt counts it.
    Drop,
}

/// The rules for the time without a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detached {
    /// Seconds without a session after which the Keep stops the application; 0: at once.
    pub seconds: u32,
    /// Bytes of each output that the Keep keeps until they are acknowledged: [`BUFFER_BYTES`].
    pub buffer_bytes: u32,
    /// The handling of output beyond them.
    pub when_full: WhenFull,
}

/// A part of a deployment, that is, the meaning of a blob. In the order of delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The application.
    Application,
    /// The configuration.
    Configuration,
    /// The file with this index.
    File(usize),
    /// The secret with this index.
    Secret(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application => f.write_str("the application"),
            Self::Configuration => f.write_str("the configuration"),
            Self::File(index) => write!(f, "file {index}"),
            Self::Secret(index) => write!(f, "secret {index}"),
        }
    }
}

/// SHA-256 that commits to a secret: domain, salt, length of the name (u64, little-endian), name, value.
#[must_use]
pub fn commitment(salt: &[u8; 32], name: &str, value: &[u8]) -> [u8; 32] {
    let mut hash = committing(salt, name);
    hash.update(value);
    hash.finalize().into()
}

/// A commitment that waits for the value.
fn committing(salt: &[u8; 32], name: &str) -> Sha256 {
    Sha256::new()
        .chain_update(SECRET_DOMAIN)
        .chain_update(salt)
        .chain_update((name.len() as u64).to_le_bytes())
        .chain_update(name)
}

impl Deployment {
    /// Encodes the deployment.
    ///
    /// # Errors
    /// Everything that [`Self::decode`] would refuse.
    pub fn encode(&self) -> Result<Vec<u8>, DeploymentError> {
        self.check()?;
        Ok(canonical::encode(self, MAX_ENCODED)?)
    }

    /// The deployment with these bytes.
    ///
    /// # Errors
    /// [`DeploymentError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DeploymentError> {
        let deployment: Self = canonical::decode(bytes, MAX_ENCODED)?;
        deployment.check()?;
        Ok(deployment)
    }

    fn check(&self) -> Result<(), DeploymentError> {
        let value = |field, range| Err(DeploymentError::Value { field, range });
        if self.version != VERSION {
            return Err(DeploymentError::Version(self.version));
        }
        if !(1..=MAX_APPLICATION).contains(&self.application.size) {
            return value("application.size", "1 byte to 512 MiB");
        }
        if !(1..=MAX_CONFIGURATION).contains(&self.configuration.size) {
            return value("configuration.size", "1 byte to 4 MiB");
        }
        if self.files.len() > MAX_FILES {
            return value("files", "at most 4096");
        }
        let sum = self
            .files
            .iter()
            .try_fold(0u64, |sum, file| sum.checked_add(file.size));
        if sum.is_none_or(|sum| sum > MAX_FILE_BYTES) {
            return value("files", "at most 256 MiB together");
        }
        if !self.files.iter().all(|file| paths::is_path(&file.path)) {
            return value(
                "files.path",
                "relative, without `.`, `..` and control characters",
            );
        }
        for pair in self.files.windows(2) {
            let [first, second] = pair else { continue };
            if !paths::compare(&first.path, &second.path).is_lt()
                || paths::lies_in(&second.path, &first.path)
            {
                return value("files.path", "ascending, and none below another");
            }
        }
        if self.secrets.len() > MAX_SECRETS {
            return value("secrets", "at most 64");
        }
        for secret in &self.secrets {
            let legal = match secret.delivery {
                Delivery::Env => paths::is_variable(&secret.name),
                Delivery::File => paths::is_file_name(&secret.name),
            };
            if !legal {
                return value("secrets.name", "the name of a variable or a file");
            }
            if secret.size > MAX_SECRET {
                return value("secrets.size", "at most 64 KiB");
            }
        }
        if !self.secrets.is_sorted_by(|a, b| a.name < b.name) {
            return value("secrets.name", "ascending");
        }
        if !BUFFER_BYTES.contains(&self.detached.buffer_bytes) {
            return value("detached.buffer_bytes", "1 MiB to 16 MiB");
        }
        // Nobody could return to it, because there is no more evidence.
        if self.source.is_some() && self.detached.seconds != 0 {
            return value("detached.seconds", "0 for native code");
        }
        Ok(())
    }

    /// Compares the deployment with its contract: digest, time, seconds without a session.
    ///
    /// # Errors
    /// [`DeploymentError::Contract`], or what the contract refuses.
    pub fn admit(&self, contract: &Contract) -> Result<(), Refusal> {
        if self.contract != *contract.digest() {
            return Err(DeploymentError::Contract(self.contract).into());
        }
        let times = &contract.terms().times;
        times.admit(self.now)?;
        if self.detached.seconds > times.detached_seconds_max {
            return Err(ContractError::Detached {
                limit: times.detached_seconds_max,
                wanted: self.detached.seconds,
            }
            .into());
        }
        Ok(())
    }

    /// The part after `part`, the first after `None`; `None` when there is no further.
    #[must_use]
    pub fn next(&self, part: Option<Part>) -> Option<Part> {
        let file = |index| (index < self.files.len()).then_some(Part::File(index));
        let secret = |index| (index < self.secrets.len()).then_some(Part::Secret(index));
        match part {
            None => Some(Part::Application),
            Some(Part::Application) => Some(Part::Configuration),
            Some(Part::Configuration) => file(0).or_else(|| secret(0)),
            Some(Part::File(index)) => file(index + 1).or_else(|| secret(0)),
            Some(Part::Secret(index)) => secret(index + 1),
        }
    }

    /// Digest and length of a part; `None` for an index that it does not have.
    #[must_use]
    pub fn object(&self, part: Part) -> Option<Object> {
        match part {
            Part::Application => Some(self.application),
            Part::Configuration => Some(self.configuration),
            Part::File(index) => self.files.get(index).map(|file| Object {
                digest: file.digest,
                size: file.size,
            }),
            Part::Secret(index) => self.secrets.get(index).map(|secret| Object {
                digest: secret.commitment,
                size: secret.size,
            }),
        }
    }

    /// The hash by which a part is compared, before its first byte.
    pub(crate) fn hash(&self, part: Part) -> Sha256 {
        match part {
            Part::Secret(index) => self
                .secrets
                .get(index)
                .map_or_else(Sha256::new, |secret| committing(&self.salt.0, &secret.name)),
            _ => Sha256::new(),
        }
    }
}
