// SPDX-License-Identifier: Apache-2.0

//! The context of a WASI program: everything that it is given, whichever front end it uses.

use std::sync::{Arc, Mutex};

use enarx_configuration::{Configuration, Network, Terminals};
use enarx_sallyport::Handle;

use crate::budget::Budget;
use crate::clock::{Clocks, TrustedTime};
use crate::error::{Errno, Result};
use crate::fs::host::HostFileSystem;
use crate::fs::memory::MemoryFileSystem;
use crate::fs::{Descriptor, SharedFileSystem};
use crate::port::Port;
use crate::random::Random;
use crate::stream::{Input, Output, Standard};
use zeroize::Zeroizing;

/// A directory that is open when the program starts.
#[derive(Clone)]
pub struct Preopen {
    /// The directory.
    pub directory: Arc<Descriptor>,
    /// The name the program knows it by.
    pub guest_path: String,
}

/// Secrets for a program. Their memory is wiped when they are dropped. A program that is given them has copies: variables in
/// its environment, for as long as it runs, and files in the private file system.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Variables, by name.
    pub variables: Vec<(String, Zeroizing<String>)>,
    /// Files: paths relative to the root of the private file system, and contents.
    pub files: Vec<(String, Zeroizing<Vec<u8>>)>,
}

/// A program's surroundings beyond its configuration. By default the host's streams and no files.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The other end of the standard streams.
    pub streams: Standard,
    /// Files in the private file system, which the program can read and not change: paths relative to its root, and
    /// contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// Secrets: variables, which take precedence over those of the configuration, and files like those above.
    pub secrets: Secrets,
    /// The time that the Keep's tenant has given.
    pub told: Option<TrustedTime>,
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
    /// Memory that the Keep may use on behalf of the program.
    pub budget: Budget,
    /// Most bytes of an answer whose length the program chooses: they exist twice until the program has them.
    pub answer_max: u64,
}

impl Context {
    /// Returns the context that `configuration` gives a program in these surroundings; the private file system and listings of
    /// directories take their memory from `budget`.
    ///
    /// # Errors
    /// If the files do not fit in that memory, or there is no private file system for them.
    pub fn new(
        port: &Port,
        configuration: &Configuration,
        budget: &Budget,
        surroundings: Surroundings,
    ) -> Result<Self> {
        let mut environment: Vec<(String, String)> = Vec::new();
        let Surroundings {
            streams,
            files,
            secrets,
            told,
        } = surroundings;
        let clocks = Clocks::new(port.clone()).by(told);
        let plain = configuration.env.iter().map(|(name, value)| (name, value));
        let secret = secrets.variables.iter();
        let secret = secret.map(|(name, value)| (name, &**value));
        for (name, value) in plain.chain(secret) {
            match environment.iter_mut().find(|(other, _)| other == name) {
                Some(entry) => entry.1.clone_from(value),
                None => environment.push((name.clone(), value.clone())),
            }
        }
        let delivered = files
            .iter()
            .map(|(path, contents)| (path.as_str(), contents.as_slice()));
        let secret = secrets
            .files
            .iter()
            .map(|(path, contents)| (path.as_str(), contents.as_slice()));
        let delivered: Vec<_> = delivered.chain(secret).collect();
        Ok(Self {
            port: port.clone(),
            arguments: configuration.args.clone(),
            environment,
            preopens: preopens(port, configuration, &clocks, budget, &delivered)?,
            clocks,
            random: Random::default(),
            stdin: streams.stdin(port),
            stdout: streams.stdout(port),
            stderr: streams.stderr(port),
            terminals: configuration.terminals,
            network: configuration.network,
            budget: budget.clone(),
            answer_max: u64::MAX,
        })
    }
}

/// The directories of the configuration, or a private file system at `/` when there is none.
fn preopens(
    port: &Port,
    configuration: &Configuration,
    clocks: &Clocks,
    budget: &Budget,
    files: &[(&str, &[u8])],
) -> Result<Vec<Preopen>> {
    if configuration.directories.is_empty() {
        let mut memory = MemoryFileSystem::new(clocks.clone(), budget.clone());
        let root = memory.root();
        for (path, contents) in files {
            memory.deliver(path, contents)?;
        }
        let file_system: SharedFileSystem = Arc::new(Mutex::new(memory));
        return Ok(vec![Preopen {
            directory: Arc::new(Descriptor::directory(file_system, root, false)),
            guest_path: "/".to_owned(),
        }]);
    }
    if !files.is_empty() {
        return Err(Errno::NotSupported);
    }
    let file_system: SharedFileSystem = Arc::new(Mutex::new(HostFileSystem::new(port.clone())));
    Ok(configuration
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
        .collect())
}
