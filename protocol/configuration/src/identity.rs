// SPDX-License-Identifier: Apache-2.0

//! The identity of a server.

use serde::{Deserialize, Serialize};

use crate::der::{Certificate, PrivateKey};

/// A server's identity, as its peers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its certificate, and those that lead to an issuer whom its peers know.
    pub chain: Vec<Certificate>,
    /// The private key of its certificate.
    pub key: PrivateKey,
}
