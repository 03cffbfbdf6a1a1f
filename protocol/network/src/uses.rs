// SPDX-License-Identifier: Apache-2.0

//! For what the network is used, without where: what rules need, what a Keep's configuration says, and what its host
//! grants.

use crate::{Protocol, Rules};
use serde::{Deserialize, Serialize};

/// For what the network is used; by default for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uses {
    /// TCP connections and listeners.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
    /// Look-ups of names.
    pub name_lookup: bool,
}

impl Rules {
    /// The uses that these rules allow somewhere; none if there are no rules.
    #[must_use]
    pub fn uses(&self) -> Uses {
        Uses {
            tcp: self.speak(Protocol::Tcp),
            udp: self.speak(Protocol::Udp),
            name_lookup: self.ask_for_names(),
        }
    }
}
