// SPDX-License-Identifier: Apache-2.0

//! The heart: everything a WASI program is given, without regard to the face it is seen through.

use std::sync::{Arc, Mutex};

use enarx_configuration::{Configuration, Network, Terminals};
use enarx_sallyport::Handle;

use crate::budget::Budget;
use crate::clock::Clocks;
use crate::fs::host::HostFileSystem;
use crate::fs::memory::MemoryFileSystem;
use crate::fs::{Descriptor, SharedFileSystem};
use crate::port::Port;
use crate::random::Random;
use crate::stream::{Input, Output};

/// A directory that is open when the program starts.
#[derive(Clone)]
pub struct Preopen {
    /// The directory.
    pub directory: Arc<Descriptor>,
    /// The name the program knows it by.
    pub guest_path: String,
}

/// Everything a program is given.
pub struct Context {
    /// The sallyport.
    pub port: Port,
    /// Arguments; the first is the program's own name.
    pub arguments: Vec<String>,
    /// Environment, in order.
    pub environment: Vec<(String, String)>,
    /// Directories open at the start.
    pub preopens: Vec<Preopen>,
    /// Clocks.
    pub clocks: Clocks,
    /// Random bytes.
    pub random: Random,
    /// Standard input.
    pub stdin: Input,
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
    /// The standard streams that are terminals.
    pub terminals: Terminals,
    /// The permitted use of the network.
    pub network: Network,
    /// Memory for what the program makes the Keep remember.
    pub budget: Budget,
}

impl Context {
    /// Returns the context that `configuration` gives a program; the private file system and listings of
    /// directories take their memory from `budget`.
    pub fn new(port: &Port, configuration: &Configuration, budget: &Budget) -> Self {
        let clocks = Clocks::new(port.clone());
        let mut environment: Vec<(String, String)> = Vec::new();
        for (name, value) in &configuration.env {
            match environment.iter_mut().find(|(other, _)| other == name) {
                Some(entry) => entry.1.clone_from(value),
                None => environment.push((name.clone(), value.clone())),
            }
        }
        Self {
            port: port.clone(),
            arguments: configuration.args.clone(),
            environment,
            preopens: preopens(port, configuration, &clocks, budget),
            clocks,
            random: Random::default(),
            stdin: Input::shared(port.clone(), Handle::STDIN),
            stdout: Output::new(port.clone(), Handle::STDOUT),
            stderr: Output::new(port.clone(), Handle::STDERR),
            terminals: configuration.terminals,
            network: configuration.network.clone(),
            budget: budget.clone(),
        }
    }
}

/// The directories of the configuration, or a private file system at `/` when there is none.
fn preopens(
    port: &Port,
    configuration: &Configuration,
    clocks: &Clocks,
    budget: &Budget,
) -> Vec<Preopen> {
    if configuration.directories.is_empty() {
        let memory = MemoryFileSystem::new(clocks.clone(), budget.clone());
        let root = memory.root();
        let file_system: SharedFileSystem = Arc::new(Mutex::new(memory));
        return vec![Preopen {
            directory: Arc::new(Descriptor::directory(file_system, root, false)),
            guest_path: "/".to_owned(),
        }];
    }
    let file_system: SharedFileSystem = Arc::new(Mutex::new(HostFileSystem::new(port.clone())));
    configuration
        .directories
        .iter()
        .zip(Handle::FIRST_ROOT.0..)
        .map(|(directory, handle)| Preopen {
            directory: Arc::new(Descriptor::directory(
                Arc::clone(&file_system),
                u64::from(handle),
                directory.read_only,
            )),
            guest_path: directory.guest_path.clone(),
        })
        .collect()
}
