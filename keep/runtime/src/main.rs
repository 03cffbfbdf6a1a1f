// SPDX-License-Identifier: Apache-2.0

//! The program inside a Keep: loads the application over the sallyport and runs it.
//!
//! Trusted and measured; the host behind the sallyport is not trusted.

// The C library enters `platform::main`: what the standard library sets up before an ordinary main
// (handlers, descriptors, the stack's bounds) is a third of the system calls of a small run.
#![no_main]

mod load;
mod platform;

use std::sync::Arc;

use enarx_configuration::{Configuration, MAX_ENCODED};
use enarx_exits::exit_code;
use enarx_sallyport::Call;
use enarx_sallyport::types::Object;
use enarx_wasi::port::Port;
use enarx_wasi::stream::{Output, STDERR};
use enarx_wasm::{Ground, Timings};
use platform::Platform;

/// Runs the application; ends with the exit code only when the runtime could not be started.
fn start(mode: Option<&str>) -> u8 {
    platform::tune_allocator();
    let mut timings = Timings::start();
    let (port, ground) = match platform::attach(mode) {
        Ok(attached) => attached,
        Err(error) => {
            // Outside of a Keep there may be somebody who reads this.
            platform::say(&format!("enarx-runtime: {error}\n"));
            return exit_code::USAGE;
        }
    };
    let code = match run(&port, ground, &mut timings) {
        Ok(code) => code,
        Err(error) => {
            let message = format!("Error: {error}\n");
            // When nobody reads standard error any more, the exit code still tells.
            let _ = Output::new(port.clone(), STDERR).write_all(message.as_bytes());
            exit_code::FAULT.into()
        }
    };
    port.exit(code)
}

fn run(port: &Port, ground: Platform, timings: &mut Timings) -> Result<i32, load::LoadError> {
    timings.phase("start");
    let bytes = load::object(port, Object::Configuration, MAX_ENCODED)?;
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
    let ground: Arc<dyn Ground> = Arc::new(ground);
    Ok(enarx_wasm::run(
        port,
        &ground,
        &configuration,
        &application,
        timings,
    ))
}
