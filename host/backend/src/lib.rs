// SPDX-License-Identifier: Apache-2.0

//! The entry point of the host's side: one way to launch a Keep of any kind and serve it to its end. It trusts the
//! machine on which it runs, and nothing that comes out of the Keep.

#![forbid(unsafe_code)]

pub mod launch;

use enarx_doctor as doctor;
pub use enarx_doctor::Backend;
use enarx_executor::launch::{Confine, Launch, Run};
use enarx_vmm::launch::{Measured, VmLaunch};

use launch::{Images, LaunchError, Target};

/// Checks that a Keep of this kind can be launched here.
///
/// # Errors
/// [`LaunchError::Unusable`], with the first requirement that is not fulfilled.
pub fn check(backend: Backend) -> Result<(), LaunchError> {
    match doctor::examine_for(&doctor::Host::new(), backend).obstacle() {
        None => Ok(()),
        Some(check) => Err(LaunchError::Unusable {
            backend: backend.name(),
            what: check.name,
            found: check.found.clone(),
            next: check.next.clone().unwrap_or_default(),
        }),
    }
}

/// The best backend of this machine; [`Backend::Process`] if it has none, whose launch then says what is missing.
#[must_use]
pub fn best() -> Backend {
    let usable = Backend::CHOSEN
        .iter()
        .find(|backend| check(**backend).is_ok());
    usable.copied().unwrap_or(Backend::Process)
}

/// Launches a Keep and serves it to its end.
///
/// # Errors
/// [`LaunchError`] when it could not be launched or served.
pub fn run(
    target: Target,
    images: &Images,
    launch: Launch,
    confine: Confine,
) -> Result<Run, LaunchError> {
    let machine = |microkernel, measured, launch, confine| VmLaunch {
        images: images.with(microkernel),
        measured,
        launch,
        confine,
    };
    Ok(match target {
        Target::Snp(measured) => {
            enarx_vmm::run_snp(machine(images.microkernel, measured, launch, confine))?
        }
        Target::Simulated(simulated, measured) => enarx_vmm::run_simulated(
            &simulated,
            machine(images.microkernel_simulated, measured, launch, confine),
        )?,
        Target::Kvm => enarx_vmm::run(machine(
            images.microkernel_plain,
            Measured::default(),
            launch,
            confine,
        ))?,
        Target::Process => enarx_process::run(images.runtime.bytes(), launch, confine)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_requirements_are_named_and_the_next_kind_is_used() {
        assert_eq!(Backend::CHOSEN.first(), Some(&Backend::Snp));
        for backend in Backend::ALL {
            let report = doctor::examine_for(&doctor::Host::new(), *backend);
            assert!(report.built_in);
            assert_eq!(
                report.protects_application,
                backend.protects_application(),
                "{backend}"
            );
            match (report.obstacle(), check(*backend)) {
                (None, Ok(())) => {}
                (Some(check), Err(LaunchError::Unusable { what, .. })) => {
                    assert_eq!(what, check.name);
                }
                (found, answer) => panic!("{backend}: {found:?}, {answer:?}"),
            }
        }
        let best = best();
        let passed_over = Backend::CHOSEN.iter().take_while(|other| **other != best);
        for backend in passed_over {
            assert!(check(*backend).is_err(), "{backend} is better than {best}");
        }
    }
}
