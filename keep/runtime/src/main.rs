// SPDX-License-Identifier: Apache-2.0

//! The program inside a Keep: loads the application over the sallyport and runs it.
//!
//! Trusted and measured; the host behind the sallyport is not trusted.

// The C library enters `entry::main`: what the standard library sets up before an ordinary main
// (handlers, descriptors, the stack's bounds) is a third of the system calls of a small run.
#![no_main]
// The host decides over the input of this code: it refuses, and does not panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

mod entry;
mod load;
mod platform;

use std::sync::Arc;

use enarx_configuration::{Configuration, MAX_ENCODED};
use enarx_exits::exit_code;
use enarx_keep_session::Session;
use enarx_sallyport::Call;
use enarx_sallyport::types::Object;
use enarx_session::document::{Exit, ExitKind};
use enarx_wasi::context::Surroundings;
use enarx_wasi::port::Port;
use enarx_wasi::stream::Standard;
use enarx_wasi::stream::{Output, STDERR};
use enarx_wasm::{EndKind, EngineEnvironment, Timings};
use platform::Platform;
use zeroize::Zeroizing;

/// Runs the application; ends with the exit code only when the runtime could not be started.
fn start(mode: Option<&str>) -> u8 {
    platform::tune_allocator(mode);
    let mut timings = Timings::start();
    let (port, ground) = match platform::attach(mode) {
        Ok(attached) => attached,
        Err(error) => {
            // Outside of a Keep there may be somebody who reads this.
            platform::say(&format!("enarx-runtime: {error}\n"));
            return exit_code::USAGE;
        }
    };
    let result = run(&port, ground, &mut timings);
    end(&port, result)
}

/// Ends the Keep.
fn end(port: &Port, result: Result<i32, load::LoadError>) -> ! {
    let code = result.unwrap_or_else(|error| {
        let message = format!("enarx: {error}\n");
        // If nobody reads standard error any more, there is still the exit code.
        let _ = Output::new(port.clone(), STDERR).write_all(message.as_bytes());
        exit_code::FAULT.into()
    });
    port.exit(code)
}

fn run(port: &Port, ground: Platform, timings: &mut Timings) -> Result<i32, load::LoadError> {
    timings.phase("start");
    // The key of a server's certificate is in it.
    let bytes = Zeroizing::new(load::object(port, Object::Configuration, MAX_ENCODED)?);
    if bytes.is_empty() {
        return run_for_tenant(port, ground, timings);
    }
    let configuration = Configuration::decode(&bytes)?;
    if !configuration.timings {
        timings.silence();
    }
    let application = load::object(port, Object::Application, load::APPLICATION_MAX)?;
    timings.phase("load");
    if let Some(nonce) = &configuration.attest {
        let data = enarx_evidence::report_data(nonce, &application, &bytes);
        let report = platform::attestation_report(&data)?;
        let call = Call::Evidence {
            length: u32::try_from(report.len()).unwrap_or(u32::MAX),
        };
        port.call(&call, &[&report], &mut [])
            .map_err(load::LoadError::Evidence)?;
        timings.phase("attest");
    }
    drop(bytes);
    // Native code, and an attacker who has broken out of the WebAssembly sandbox, can request everything from the
    // microkernel that the runtime can: evidence of another program, or for the tenant under whose contract this host
    // has launched the Keep.
    ground.end_reports()?;
    let ground: Arc<dyn EngineEnvironment> = Arc::new(ground);
    let end = enarx_wasm::run(
        port,
        &ground,
        &configuration,
        &application,
        Surroundings::default(),
        timings,
    );
    Ok(end.code)
}

/// Runs only what the Keep's tenant delivers, and nothing from the host.
fn run_for_tenant(
    port: &Port,
    ground: Platform,
    timings: &mut Timings,
) -> Result<i32, load::LoadError> {
    timings.silence();
    enarx_keep_session::report_panic_locations_only(platform::say);
    let contract = load::object(port, Object::Contract, enarx_contract::MAX_ENCODED)?;
    let session = Session::open(
        port,
        &contract,
        ground.vcpus(),
        platform::memory(),
        Arc::new(ground.clone()),
    )?;
    timings.phase("door");
    let keys = ground.clone();
    let ground: Arc<dyn EngineEnvironment> = Arc::new(ground);
    // Under an open contract nobody has asked for this Keep yet. A named tenant is about to connect, and would have
    // to wait.
    if session.is_open() {
        // The application's own run reports problems with the engine.
        let _ = enarx_wasm::rehearse(&*ground);
        timings.phase("rehearsal");
    }
    let delivered = session.receive()?;
    timings.phase("delivery");
    let (serving, its_port) = (session.clone(), port.clone());
    std::thread::Builder::new()
        .name("session".to_owned())
        .spawn(move || end(&its_port, serving.serve().map(|()| 0).map_err(Into::into)))
        .map_err(load::LoadError::Thread)?;
    if delivered.is_native {
        if !keys.confines_native_code() {
            return Err(load::LoadError::Unconfined);
        }
        // Native code can request everything from the microkernel that the runtime can, including evidence for
        // others.
        session.conclude();
        keys.end_reports()?;
    }
    let end = enarx_wasm::run(
        port,
        &ground,
        &delivered.configuration,
        &delivered.application,
        Surroundings {
            streams: Standard::Session(Arc::new(session.clone())),
            files: delivered.files,
            secrets: delivered.secrets,
            told: Some(delivered.told),
        },
        timings,
    );
    let kind = match end.kind {
        EndKind::Exited => ExitKind::Exited,
        EndKind::Trapped => ExitKind::Trapped,
        EndKind::Failed => ExitKind::Failed,
    };
    let code = end.code.cast_unsigned();
    session.exited(Exit { kind, code })?;
    Ok(0)
}
