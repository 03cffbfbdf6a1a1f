// SPDX-License-Identifier: Apache-2.0

//! The heart: everything a WASI program is given, without regard to the face it is seen through.

use std::sync::{Arc, Mutex};

use enarx_configuration::{Configuration, Network, Terminals};
use enarx_sallyport::Handle;

use crate::budget::Budget;
use crate::clock::Clocks;
use crate::error::{Errno, Result};
use crate::fs::host::HostFileSystem;
use crate::fs::memory::MemoryFileSystem;
use crate::fs::{Descriptor, FileSystem, OpenOptions, SharedFileSystem};
use crate::port::Port;
use crate::random::Random;
use crate::stream::{Input, Output, Standard};

/// A directory that is open when the program starts.
#[derive(Clone)]
pub struct Preopen {
    /// The directory.
    pub directory: Arc<Descriptor>,
    /// The name the program knows it by.
    pub guest_path: String,
}

/// A program's surroundings beyond its configuration. By default the host's streams and no files.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The other end of the standard streams.
    pub streams: Standard,
    /// Files in the private file system at the start: paths relative to its root, and contents.
    pub files: Vec<(String, Vec<u8>)>,
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
        let clocks = Clocks::new(port.clone());
        let mut environment: Vec<(String, String)> = Vec::new();
        for (name, value) in &configuration.env {
            match environment.iter_mut().find(|(other, _)| other == name) {
                Some(entry) => entry.1.clone_from(value),
                None => environment.push((name.clone(), value.clone())),
            }
        }
        Ok(Self {
            port: port.clone(),
            arguments: configuration.args.clone(),
            environment,
            preopens: preopens(port, configuration, &clocks, budget, surroundings.files)?,
            clocks,
            random: Random::default(),
            stdin: surroundings.streams.stdin(port),
            stdout: surroundings.streams.stdout(port),
            stderr: surroundings.streams.stderr(port),
            terminals: configuration.terminals,
            network: configuration.network.clone(),
            budget: budget.clone(),
        })
    }
}

/// The directories of the configuration, or a private file system at `/` when there is none.
fn preopens(
    port: &Port,
    configuration: &Configuration,
    clocks: &Clocks,
    budget: &Budget,
    files: Vec<(String, Vec<u8>)>,
) -> Result<Vec<Preopen>> {
    if configuration.directories.is_empty() {
        let mut memory = MemoryFileSystem::new(clocks.clone(), budget.clone());
        let root = memory.root();
        for (path, contents) in files {
            place(&mut memory, &path, &contents)?;
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

/// Puts a file into the private file system, with the directories on its path.
fn place(memory: &mut MemoryFileSystem, path: &str, contents: &[u8]) -> Result<()> {
    let root = memory.root();
    for (end, _) in path.match_indices('/') {
        match memory.create_directory(root, path.get(..end).unwrap_or_default()) {
            Ok(()) | Err(Errno::Exists) => {}
            Err(error) => return Err(error),
        }
    }
    let options = OpenOptions {
        write: true,
        create: true,
        exclusive: true,
        ..OpenOptions::default()
    };
    let (node, _) = memory.open(root, path, options)?;
    let mut written = 0;
    while let Some(rest) = contents.get(written..).filter(|rest| !rest.is_empty()) {
        written += memory.write_at(node, written as u64, rest)?;
    }
    memory.close(node);
    Ok(())
}
