// SPDX-License-Identifier: Apache-2.0

//! The message to the user about a Keep on this machine: which backend runs, what it does not protect, and
//! how it is confined.

use enarx_backend::Backend;
use enarx_executor::launch::Confined;

use super::flags::{Choice, KeepArguments};
use super::settings::Settings;

/// Says which backend runs and what it does not protect, unless that is silenced.
///
/// # Errors
/// With `--require-confinement`, if a way of confining is not in effect.
pub fn announce(
    arguments: &KeepArguments,
    settings: &Settings,
    backend: Backend,
    confined: &[Confined],
) -> Result<(), String> {
    let missing = missing(confined);
    if !arguments.quiet {
        if !settings.left_out.is_empty() {
            say!(
                "enarx: left out of the environment, because they are not UTF-8: {}",
                settings.left_out.join(", ")
            );
        }
        let passed_over = match arguments.backend {
            Choice::Auto => passed_over(backend),
            _ => String::new(),
        };
        let weaker = if missing.is_empty() {
            String::new()
        } else {
            format!(", weaker without {}", missing.join(" and "))
        };
        say!(
            "enarx: backend {backend}{passed_over}{weaker}: {} (--quiet silences this)",
            backend.protection()
        );
    }
    if arguments.require_confinement {
        check_confinement(confined)?;
    }
    Ok(())
}

/// Checks that a Keep is confined in every way.
///
/// # Errors
/// The ways that are not in effect, in a sentence.
pub fn check_confinement(confined: &[Confined]) -> Result<(), String> {
    let missing = missing(confined);
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "--require-confinement: this machine does not offer {}: see `enarx doctor`",
        missing.join(", ")
    ))
}

/// The ways of confining that are not in effect.
fn missing(confined: &[Confined]) -> Vec<&str> {
    let missing = confined.iter().filter(|way| !way.holds);
    missing.map(|way| &*way.by).collect()
}

/// The reason why `auto` takes this backend and not the usual one: a silent fallback would be a loss of
/// protection.
fn passed_over(backend: Backend) -> String {
    if backend != Backend::Process {
        return String::new();
    }
    match enarx_backend::check(Backend::Kvm) {
        Ok(()) => String::new(),
        Err(error) => format!(" (kvm passed over: {error})"),
    }
}
