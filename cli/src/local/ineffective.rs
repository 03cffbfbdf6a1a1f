// SPDX-License-Identifier: Apache-2.0

//! Flags of a Keep on this machine that would have no effect together with others: the user relies on them.

use std::time::Duration;

use enarx_backend::Backend;
use enarx_executor::grant::NetworkGrant;
use enarx_network::Rules;

use super::flags::KeepArguments;
use crate::failure::Failure;
use crate::options::{self, WasiName};
use crate::typed::{Flag, Typed};

/// Refuses flags that have no effect in a Keep of this kind.
///
/// # Errors
/// [`crate::failure::Exit::Usage`], with the flag and a remedy.
pub fn of_kind(arguments: &KeepArguments, backend: Backend) -> Result<(), Failure> {
    simulated(&arguments.typed, backend)?;
    let is_measured = matches!(backend, Backend::Snp | Backend::Simulated);
    // A policy of the guest is protection, so a variable that asks for it counts too.
    if !arguments.sev.is_empty() && !is_measured {
        return Err(Failure::usage(format!(
            "--sev: a Keep of the kind {backend} is not measured and has no guest policy; take --backend snp or \
             sim, or leave it out"
        )));
    }
    let typed = &arguments.typed;
    typed.refuse_unless(is_measured, Flag::InsecureFaultAddresses, || {
        format!(
            "--insecure-fault-addresses: it applies to measured Keeps, and a Keep of the kind {backend} is not \
             measured; take --backend snp or sim, or leave it out"
        )
    })
}

/// Refuses issuers for a program that can ask no server.
///
/// # Errors
/// [`crate::failure::Exit::Usage`].
pub fn of_issuers(
    arguments: &KeepArguments,
    network: NetworkGrant,
    uses_web_issuers: bool,
) -> Result<(), Failure> {
    let has = network.tcp || uses_web_issuers;
    arguments.typed.refuse_unless(has, Flag::TlsRoots, || {
        "--tls-roots: the program has no network, so it reaches no server; give it one with -S inherit-network or \
         --allow-connect, or leave it out"
            .to_owned()
    })
}

/// Refuses properties of the simulated platform for another one.
///
/// # Errors
/// [`crate::failure::Exit::Usage`].
pub fn simulated(typed: &Typed, backend: Backend) -> Result<(), Failure> {
    typed.refuse_unless(backend == Backend::Simulated, Flag::Sim, || {
        format!(
            "--sim: these are properties of the simulated platform, but this Keep is of the kind {backend}; use \
             --backend sim, or leave it out"
        )
    })
}

/// Refuses two ways of saying the same that say different things.
///
/// # Errors
/// [`crate::failure::Exit::Usage`].
pub fn of_limit(arguments: &KeepArguments, limit: Option<Duration>) -> Result<(), Failure> {
    if let (Some(one), Some(other)) = (limit, options::timeout(&arguments.wasm))
        && one != other
    {
        return Err(Failure::usage(
            "-W timeout: it is the same as --timeout, which has a different value; leave out one of them",
        ));
    }
    Ok(())
}

/// Refuses rules for a network that an option of WASI takes away.
///
/// # Errors
/// [`crate::failure::Exit::Usage`].
pub fn of_network(
    arguments: &KeepArguments,
    network: NetworkGrant,
    rules: &Rules,
) -> Result<(), Failure> {
    let last = |names: &[WasiName]| {
        let given = arguments.wasi.iter().rev();
        let mut given = given.filter(|(name, _)| names.contains(name));
        given.next().copied()
    };
    let places = !rules.connect.is_empty() || !rules.listen.is_empty();
    let sockets = last(&[WasiName::InheritNetwork, WasiName::Tcp, WasiName::Udp]);
    if places && !(network.tcp || network.udp) && sockets.is_some_and(|(_, on)| !on) {
        return Err(Failure::usage(
            "--allow-connect, --allow-listen: -S disables TCP and UDP, so these allow nothing; leave out one of them",
        ));
    }
    if !rules.resolve.is_empty() && last(&[WasiName::AllowIpNameLookup]).is_some_and(|(_, on)| !on)
    {
        return Err(Failure::usage(
            "--allow-resolve: -S allow-ip-name-lookup=n disables look-ups, so it allows nothing; leave out one of them",
        ));
    }
    Ok(())
}
