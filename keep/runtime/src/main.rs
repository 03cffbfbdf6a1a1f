//! The program inside a Keep: loads the application over the sallyport and runs it.
//!
//! Trusted and measured; the host behind the sallyport is not trusted.

// The C library enters `platform::main`: what the standard library sets up before an ordinary main
// (handlers, descriptors, the stack's bounds) is a third of the system calls of a small run.
#![no_main]

mod load;
mod platform;

use std::sync::Arc;

use enarx_contract::{Configuration, MAX_ENCODED};
use enarx_sallyport::Call;
use enarx_sallyport::types::Object;
use enarx_wasi::port::Port;
use enarx_wasi::stream::{Output, STDERR};
use enarx_wasm::{Ground, Timings, exit};
use platform::Platform;

/// Runs the application; ends with the exit code only when the runtime could not be started.
fn start(mode: Option<&str>) -> u8 {
    platform::tune_allocator();
    let mut timings = Timings::start();
    let port = match platform::attach(mode) {
        Ok(port) => port,
        Err(error) => {
            // Outside of a Keep there may be somebody who reads this.
            platform::say(&format!("enarx-runtime: {error}\n"));
            return platform::EXIT_USAGE;
        }
    };
    let code = match run(&port, &mut timings) {
        Ok(code) => code,
        Err(error) => {
            let message = format!("Error: {error}\n");
            // When nobody reads standard error any more, the exit code still tells.
            let _ = Output::new(port.clone(), STDERR).write_all(message.as_bytes());
            exit::FAULT
        }
    };
    port.exit(code)
}

fn run(port: &Port, timings: &mut Timings) -> Result<i32, load::LoadError> {
    timings.phase("start");
    let bytes = load::object(port, Object::Configuration, MAX_ENCODED)?;
    let configuration = Configuration::decode(&bytes)?;
    if !configuration.timings {
        timings.silence();
    }
    let application = load::object(port, Object::Application, load::APPLICATION_MAX)?;
    timings.phase("load");
    if let Some(nonce) = &configuration.attest {
        let data = enarx_contract::report_data(nonce, &application, &bytes);
        let report = platform::attestation_report(&data).ok_or(load::LoadError::NoEvidence)?;
        let call = Call::Evidence {
            length: u32::try_from(report.len()).unwrap_or(u32::MAX),
        };
        port.call(&call, &[&report], &mut [])
            .map_err(load::LoadError::Evidence)?;
        timings.phase("attest");
    }
    let ground: Arc<dyn Ground> = Arc::new(Platform);
    Ok(enarx_wasm::run(
        port,
        &ground,
        &configuration,
        &application,
        timings,
    ))
}
