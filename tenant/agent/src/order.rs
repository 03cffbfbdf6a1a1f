// SPDX-License-Identifier: Apache-2.0

//! The tenant's order, and the deployment that is made from it for one contract. It is trusted; secrets in it are wiped
//! when it is dropped.

use crate::fault::Fault;
use crate::queue::Queue;
use crate::random::random;
use enarx_contract::canonical::Hex;
use enarx_contract::{Contract, Doors, Resources};
use enarx_session::deployment::{
    self, Delivery, Deployment, DeploymentError, Detached, File, Object, Output, Part, commitment,
};
use enarx_session::paths;
use enarx_session::tenant::InsecureUnattested;
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// An application with all that it needs, and the terms of its run.
pub struct Order {
    /// The application: a WebAssembly module or component, or native code that was compiled from one.
    pub application: Vec<u8>,
    /// SHA-256 of the WebAssembly that the application was compiled from, if it is native code. Then the time without a
    /// session has to be 0: its Keep gives no further evidence, so nobody attaches to it.
    pub source: Option<[u8; 32]>,
    /// The encoded configuration (`enarx_configuration`). Wiped, since arguments and variables may be secret.
    pub configuration: Zeroizing<Vec<u8>>,
    /// Files of the package: path and content, in any order.
    pub files: Vec<(String, Vec<u8>)>,
    /// Secrets, in any order.
    pub secrets: Vec<Secret>,
    /// Where output goes.
    pub output: Output,
    /// The rules for the time without a session.
    pub detached: Detached,
    /// The application's ways to reach outside of its Keep.
    pub doors: Doors,
    /// The Keep's least resources.
    pub resources: Resources,
    /// The times of the contract.
    pub times: Times,
    /// The tenant's permission for a Keep without a TEE. Its host can read everything: the caller warns.
    pub unattested: Option<InsecureUnattested>,
    /// The wish to wait when every host is full; `None`: the tenant does not.
    pub queue: Option<Queue>,
    /// Called once, with the host's name, when the application runs.
    pub started: Option<Started>,
}

/// A listener for the start of an application.
pub type Started = Box<dyn Fn(&str) + Send + Sync>;

/// A secret for the application.
pub struct Secret {
    /// Name of the variable, or of the file below `/run/secrets`.
    pub name: String,
    /// How it reaches the application.
    pub delivery: Delivery,
    /// Its value.
    pub value: Zeroizing<Vec<u8>>,
}

/// The times of a contract, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Time for which the contract is valid, from now on.
    pub valid_seconds: u32,
    /// How long a Keep waits for the application before it ends.
    pub unprovisioned_seconds: u32,
    /// How long the application may run.
    pub runtime_seconds_max: u32,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("application", &self.application.len())
            .field("files", &self.files.len())
            .field("secrets", &self.secrets)
            .field("doors", &self.doors)
            .field("resources", &self.resources)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// An order that makes a legal deployment, with its parts in their order.
pub(crate) struct Package {
    order: Order,
    /// The deployment except contract, time, salt and commitments.
    template: Deployment,
}

fn object(bytes: &[u8]) -> Object {
    Object {
        digest: Hex(Sha256::digest(bytes).into()),
        size: bytes.len() as u64,
    }
}

impl Package {
    /// Puts the parts of an order into their order and hashes them.
    ///
    /// # Errors
    /// [`DeploymentError`] when no contract could make a deployment of it.
    pub(crate) fn new(mut order: Order) -> Result<Self, DeploymentError> {
        order.files.sort_by(|(a, _), (b, _)| paths::compare(a, b));
        order.secrets.sort_by(|a, b| a.name.cmp(&b.name));
        let file = |(path, content): &(String, Vec<u8>)| {
            let Object { digest, size } = object(content);
            File {
                path: path.clone(),
                digest,
                size,
            }
        };
        let secret = |secret: &Secret| deployment::Secret {
            name: secret.name.clone(),
            delivery: secret.delivery,
            commitment: Hex([0; 32]),
            size: secret.value.len() as u64,
        };
        let template = Deployment {
            version: deployment::VERSION,
            contract: Hex([0; 32]),
            application: object(&order.application),
            source: order.source.map(Hex),
            configuration: object(&order.configuration),
            files: order.files.iter().map(file).collect(),
            secrets: order.secrets.iter().map(secret).collect(),
            output: order.output,
            detached: order.detached,
            now: 0,
            salt: Hex([0; 32]),
        };
        template.encode()?;
        Ok(Self { order, template })
    }

    pub(crate) fn order(&self) -> &Order {
        &self.order
    }

    /// The deployment under this contract at `now`, in seconds since 1970, with a salt of its own.
    ///
    /// # Errors
    /// [`Fault::Random`].
    pub(crate) fn deployment(&self, contract: &Contract, now: u64) -> Result<Deployment, Fault> {
        let salt: [u8; 32] = random()?;
        let mut deployment = self.template.clone();
        deployment.contract = *contract.digest();
        deployment.now = now;
        deployment.salt = Hex(salt);
        for (entry, secret) in deployment.secrets.iter_mut().zip(&self.order.secrets) {
            entry.commitment = Hex(commitment(&salt, &secret.name, &secret.value));
        }
        Ok(deployment)
    }

    /// The bytes of a part; empty for one that it does not have.
    pub(crate) fn part(&self, part: Part) -> &[u8] {
        match part {
            Part::Application => &self.order.application,
            Part::Configuration => &self.order.configuration,
            Part::File(index) => self
                .order
                .files
                .get(index)
                .map_or(&[], |(_, content)| content),
            Part::Secret(index) => self
                .order
                .secrets
                .get(index)
                .map_or(&[], |secret| &secret.value),
        }
    }
}
