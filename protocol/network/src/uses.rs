// SPDX-License-Identifier: Apache-2.0

//! Uses of the network, apart from places: those that rules need, a Keep's configuration asks for, and its host grants.

use crate::{Protocol, Rules};
use serde::{Deserialize, Serialize};

/// Uses of the network; by default none.
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
