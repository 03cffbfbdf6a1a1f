// SPDX-License-Identifier: Apache-2.0

//! The services that the host grants one Keep. The executor performs nothing outside of it.

use std::os::fd::OwnedFd;

/// Everything that the host does for one Keep.
#[derive(Debug)]
pub struct Grant {
    /// Standard input, output and error of the Keep.
    pub stdio: [OwnedFd; 3],
    /// Directories, in the order of their handles (first handle: 16).
    pub directories: Vec<GrantedDirectory>,
    /// Network permissions.
    pub network: NetworkGrant,
    /// A file for the Keep's attestation evidence, which it gives once.
    pub evidence: Option<OwnedFd>,
}

/// A directory that a Keep may use.
#[derive(Debug)]
pub struct GrantedDirectory {
    /// The directory, opened by the host.
    pub directory: OwnedFd,
    /// Refuse every change.
    pub read_only: bool,
}

/// The network permissions of a Keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkGrant {
    /// TCP connections and listeners.
    pub tcp: bool,
    /// UDP sockets.
    pub udp: bool,
    /// Look-ups of names.
    pub name_lookup: bool,
}
