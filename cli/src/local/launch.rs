// SPDX-License-Identifier: Apache-2.0

//! Launches a Keep on this machine: flags and program become a grant, a configuration and a launch, which is served to its
//! end.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use enarx_backend::Backend;
use enarx_backend::launch::Target;
use enarx_configuration::Configuration;
use enarx_configuration::precompiled::is_precompiled;
use enarx_executor::grant::Grant;
use enarx_executor::launch::{Confined, Launch, Objects};
use enarx_executor::refused::RefusedCalls;
use enarx_vmm::launch::Measured;
use enarx_vmm::platform::simulated::Simulated;

use super::confinement::announce;
use super::flags::{KeepArguments, MAX_VM_MEMORY, default_vcpus};
use super::ineffective;
use super::opened::{open_directory, standard_streams};
use super::parts::{encode, program_arguments, refused_calls, target};
use super::program::{may_ask_servers, read_program};
use super::settings::Settings;
use super::work::Work;
use crate::attest::Attestation;
use crate::cache::Cache;
use crate::compile::{self, Compiler};
use crate::failure::{Exit, Failure};
use crate::images::IMAGES;
use crate::{options, outcome, output, tls};

/// Refuses what Keeps of this kind do not have.
fn check_kind(arguments: &KeepArguments, backend: Backend) -> Result<(), Failure> {
    if backend != Backend::Process && arguments.memory > MAX_VM_MEMORY {
        return Err(Failure::usage(format!(
            "--memory: at most {}G with the backend {backend}",
            MAX_VM_MEMORY >> 30
        )));
    }
    ineffective::of_kind(arguments, backend)?;
    if arguments.require_tee && !backend.protects_application() {
        return Err(Failure::of(
            Exit::Unavailable,
            crate::doctor::no_tee(backend),
        ));
    }
    Ok(())
}

/// The Keep that compiles a program of `length` bytes for a Keep of this kind.
fn compiler(
    arguments: &KeepArguments,
    backend: Backend,
    length: usize,
    limit: Option<Duration>,
    refused_calls: RefusedCalls,
) -> Compiler {
    Compiler {
        backend,
        memory: arguments
            .memory
            .max(compile::memory_for(length))
            .min(MAX_VM_MEMORY.max(arguments.memory)),
        vcpus: arguments.vcpus.unwrap_or_else(default_vcpus),
        limit,
        require_confinement: arguments.require_confinement,
        refused_calls,
    }
}

/// Takes the compiled form of a program from the cache, and adds it there if that is worthwhile. `None` without a
/// cache, and for Keeps that protect their program from this machine.
fn from_cache(
    module: &Path,
    application: &[u8],
    turns: bool,
    compiler: &Compiler,
) -> Result<Option<Vec<u8>>, Failure> {
    if matches!(compiler.backend, Backend::Snp | Backend::Simulated) {
        return Ok(None);
    }
    let cached = |cache: Cache| cache.compiled(module, application, turns, compiler);
    Ok(Cache::open().map(cached).transpose()?.flatten())
}

/// The simulated platform of a target, if that is its kind.
fn simulated(target: &Target) -> Option<&Simulated> {
    match target {
        Target::Simulated(simulated, _) => Some(simulated),
        _ => None,
    }
}

/// Launches a Keep on this machine and serves it to its end.
///
/// # Errors
/// [`Exit::Usage`]; [`Exit::Input`]; [`Exit::Data`]; [`Exit::Unavailable`]; [`Exit::Output`]; the failure of the Keep.
pub fn launch(arguments: &KeepArguments, work: Work<'_>) -> Result<ExitCode, Failure> {
    let workload = &work.workload;
    let mut settings = Settings::new(arguments, &work)?;
    let limit = settings.timeout.filter(|_| work.server.is_none());
    if let Some(end) = limit.and_then(|timeout| Instant::now().checked_add(timeout)) {
        output::limit(end);
    }
    let backend = arguments.backend.backend()?;
    check_kind(arguments, backend)?;
    let refused_calls = refused_calls(arguments.end_on_refused_calls, backend)?;
    let mut application = read_program(work.module, arguments.allow_precompiled, backend)?;
    let native = is_precompiled(&application);
    let asks = settings.network.tcp && may_ask_servers(&application) || workload.uses_web_issuers();
    if arguments.tls_roots.is_none() && asks {
        settings.issuers = tls::issuers_of_machine()?;
    }
    let attestation = arguments
        .attest_to
        .as_deref()
        .map(|directory| Attestation::new(directory, arguments.attest_nonce.as_ref()))
        .transpose()?;
    let begin = Instant::now();
    let left = || limit.map(|limit| limit.saturating_sub(begin.elapsed()));
    if !native && !arguments.no_cache {
        let compiler = compiler(arguments, backend, application.len(), left(), refused_calls);
        let turns = work.server.is_some() && settings.timeout.is_some();
        if let Some(code) = from_cache(work.module, &application, turns, &compiler)? {
            application = code;
        }
    }
    let configuration = Configuration {
        args: program_arguments(work.module, workload.arguments(work.rest.clone())),
        terminals: workload.terminals(),
        precompiled: is_precompiled(&application),
        ..settings.configuration(arguments, &work, attestation.as_ref())
    };
    let configuration = encode(&configuration)?;
    let directories = settings
        .directories
        .iter()
        .map(open_directory)
        .collect::<Result<_, _>>()?;
    let measured = Measured {
        host_data: [0; 32],
        fault_addresses: arguments.insecure_fault_addresses,
        variant: options::variant(&arguments.sev),
    };
    let target = target(backend, &arguments.simulated, measured)?;
    let evidence = attestation
        .map(|attestation| attestation.prepare(backend, &configuration, simulated(&target)))
        .transpose()?;
    let (listener, serves, grace) = match work.server {
        Some(server) => {
            let serves = server.announcement();
            (Some(server.listener), Some(serves), server.grace)
        }
        None => (None, None, Duration::ZERO),
    };
    let launch = Launch {
        grant: Grant {
            directories,
            network: settings.network,
            policy: settings.policy.clone(),
            evidence,
            listener,
            ..Grant::of_streams(standard_streams(workload.streams)?)
        },
        objects: Objects::program(configuration, application),
        memory: arguments.memory,
        vcpus: arguments.vcpus.unwrap_or_else(default_vcpus),
        timeout: left(),
        grace,
        timings: arguments.timings,
        refused_calls,
    };
    let start = |confined: &[Confined]| -> Result<(), String> {
        if !arguments.quiet {
            workload.warn();
        }
        announce(arguments, &settings, backend, confined)?;
        if native && !arguments.quiet {
            say!("enarx: the program is native code: only the virtual machine confines it");
        }
        Ok(())
    };
    let serving = || {
        if let Some(serves) = serves.as_ref().filter(|_| !arguments.quiet) {
            say!("enarx: {serves}");
        }
    };
    let run = enarx_supervisor::serve(target, &IMAGES, launch, start, serving)
        .map_err(|error| Failure::of(Exit::Unavailable, error.to_string()))?;
    outcome::show(
        &run,
        limit,
        arguments.timings,
        arguments.report_to.as_deref(),
    )
}
