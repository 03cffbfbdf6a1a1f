// SPDX-License-Identifier: Apache-2.0

//! The parts of a launch on this machine that a Keep which runs a program and one which compiles it have in common.

use std::path::Path;

use enarx_backend::Backend;
use enarx_backend::launch::Target;
use enarx_configuration::Configuration;
use enarx_executor::refused::RefusedCalls;
use enarx_vmm::launch::Measured;

use crate::failure::Failure;
use crate::options::SimulatedOption;
use crate::simulated;

/// The target of a launch on this machine.
///
/// # Errors
/// When the simulated machine cannot be had.
pub fn target(
    backend: Backend,
    options: &[SimulatedOption],
    measured: Measured,
) -> Result<Target, Failure> {
    Ok(match backend {
        Backend::Snp => Target::Snp(measured),
        Backend::Simulated => Target::Simulated(simulated::machine(options)?, measured),
        Backend::Kvm => Target::Kvm,
        Backend::Process => Target::Process,
    })
}

/// The consequence of system calls that a Keep does not have.
///
/// # Errors
/// When the Keep is to end by them, and does not tell of them.
pub fn refused_calls(end: bool, backend: Backend) -> Result<RefusedCalls, Failure> {
    match (end, backend) {
        (true, Backend::Snp) => Err(Failure::usage(
            "--end-on-refused-calls: a measured Keep tells its host nothing about its system calls; take \
             --backend sim, kvm or process",
        )),
        (true, _) => Ok(RefusedCalls::End),
        (false, _) => Ok(RefusedCalls::Count),
    }
}

/// The arguments of a program, its name first. The name only: where the file lies is nothing for the program to know.
pub fn program_arguments(module: &Path, rest: Vec<String>) -> Vec<String> {
    let name = module
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    [name].into_iter().chain(rest).collect()
}

/// Encodes the configuration of a program.
///
/// # Errors
/// When it is too long.
pub fn encode(configuration: &Configuration) -> Result<Vec<u8>, Failure> {
    configuration.encode().map_err(|error| {
        Failure::new(format!(
            "{error}: give the program fewer arguments or variables"
        ))
    })
}
