// SPDX-License-Identifier: Apache-2.0

//! The services that the host grants one Keep. The executor performs nothing outside of it.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use enarx_confine::landlock::Tcp;
/// The network permissions of a Keep.
pub use enarx_network::Uses as NetworkGrant;

use crate::addresses::Policy;
use crate::rate::Rates;

/// Everything that the host does for one Keep.
#[derive(Debug)]
pub struct Grant {
    /// Standard input, output and error of the Keep.
    pub stdio: [OwnedFd; 3],
    /// Directories, in the order of their handles (first handle: 16).
    pub directories: Vec<GrantedDirectory>,
    /// Network permissions.
    pub network: NetworkGrant,
    /// Where in the network.
    pub policy: Policy,
    /// A file for the Keep's attestation evidence, which it gives once.
    pub evidence: Option<OwnedFd>,
    /// The door: a Unix socket that listens, non-blocking, for the sessions of the Keep's tenant (handle 3).
    pub door: Option<OwnedFd>,
    /// The TCP socket that listens, non-blocking, for the peers of a server (handle 4).
    pub listener: Option<OwnedFd>,
    /// Gets one byte when the Keep first takes connections of the listener.
    pub serves: Option<OwnedFd>,
    /// How often the Keep may ask.
    pub rates: Rates,
}

impl Grant {
    /// The grant of a Keep that has its standard streams and nothing else.
    #[must_use]
    pub fn of_streams(stdio: [OwnedFd; 3]) -> Self {
        Self {
            stdio,
            directories: Vec::new(),
            network: NetworkGrant::default(),
            policy: Policy::default(),
            evidence: None,
            door: None,
            listener: None,
            serves: None,
            rates: Rates::default(),
        }
    }

    /// Returns the part of TCP that it leaves to the processes and threads that serve the Keep: Landlock knows ports, and
    /// no addresses.
    #[must_use]
    pub fn tcp(&self) -> Tcp {
        if self.network.tcp {
            self.policy.tcp()
        } else {
            Tcp::None
        }
    }

    /// Returns the services that need system calls of their own.
    #[must_use]
    pub fn services(&self) -> Services {
        Services {
            network: self.network,
            door: self.door.as_ref().map(AsRawFd::as_raw_fd),
            listener: self.listener.as_ref().map(AsRawFd::as_raw_fd),
        }
    }
}

/// The services of a grant that need system calls of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Network permissions.
    pub network: NetworkGrant,
    /// The descriptor of the door.
    pub door: Option<RawFd>,
    /// The descriptor of the listener of a server.
    pub listener: Option<RawFd>,
}

impl From<NetworkGrant> for Services {
    fn from(network: NetworkGrant) -> Self {
        Self {
            network,
            door: None,
            listener: None,
        }
    }
}

/// A directory that a Keep may use.
#[derive(Debug)]
pub struct GrantedDirectory {
    /// The directory, opened by the host.
    pub directory: OwnedFd,
    /// Refuse every change.
    pub read_only: bool,
    /// Bytes by which the Keep may make it fuller; no bound if `None`.
    pub quota: Option<u64>,
}
