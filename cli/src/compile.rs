// SPDX-License-Identifier: Apache-2.0

//! `enarx compile`: WebAssembly to native code ahead of time. The runtime compiles, in a Keep of its own: so the settings are
//! those of every Keep, and this command has no compiler.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;
use enarx_backend::Backend;
use enarx_backend::launch::Target;
use enarx_configuration::precompiled::{CPUS, MEMORY_FOR_BYTE};
use enarx_configuration::{Compile, Configuration};
use enarx_executor::grant::Grant;
use enarx_executor::launch::{Confined, Launch, Objects, Outcome, Run};
use enarx_executor::refused::RefusedCalls;
use enarx_vmm::launch::Measured;

use crate::failure::{Exit, Failure};
use crate::images::IMAGES;
use crate::local::confinement::check_confinement;
use crate::local::flags::{Choice, default_vcpus};
use crate::local::ineffective;
use crate::local::opened::standard_streams;
use crate::local::parts::{encode, program_arguments, refused_calls, target};
use crate::local::program::read_module;
use crate::options::{self, SimulatedOption};
use crate::output::{self, Progress};
use crate::typed::{Flag, Typed};
use crate::workload::Stream;
use crate::{outcome, values};

/// Memory of a compiler in addition to that for each byte that it compiles, in bytes.
const COMPILER_MEMORY: u64 = 512 << 20;

const EXAMPLES: &str = "\
Examples:
  enarx compile tool.wasm
  enarx run --allow-precompiled tool.cwasm
  enarx compile app.wasm -o app.cwasm --target-cpu baseline";

/// Compile a WebAssembly program to native code, ahead of time.
///
/// The runtime compiles it in a Keep, as it otherwise would before running it. `enarx run` and `enarx serve` take the
/// result with --allow-precompiled, and only in a virtual machine. The code works with this version of Enarx only, and
/// on the CPU that it was compiled for.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    typed: Typed,

    /// Write the code to this file [default: the name of the program with .cwasm, in this directory]
    #[arg(long, short, value_name = "FILE", env = "ENARX_OUTPUT")]
    output: Option<PathBuf>,

    /// CPU to compile for; `baseline` fits every machine that runs Keeps [default: this machine's, as its Keeps see it]
    #[arg(long, value_name = "NAME", env = "ENARX_TARGET_CPU", value_parser = PossibleValuesParser::new(CPUS))]
    target_cpu: Option<String>,

    /// Count instructions, so that requests take turns: for `enarx serve --timeout`; the code may take twice the time
    #[arg(long, env = "ENARX_TURNS")]
    turns: bool,

    /// Memory of the compiler [default: by the size of the program]
    #[arg(long, value_name = "SIZE", env = "ENARX_MEMORY", value_parser = values::size, allow_negative_numbers = true)]
    memory: Option<u64>,

    /// Virtual CPUs of the compiler [default: as many as this machine has, at most 4]
    #[arg(long, value_name = "N", env = "ENARX_VCPUS", value_parser = values::vcpus, allow_negative_numbers = true)]
    vcpus: Option<u32>,

    /// Kind of Keep that compiles
    #[arg(long, value_enum, default_value = "auto", env = "ENARX_BACKEND")]
    backend: Choice,

    /// Refuse to compile unless this machine has everything that confines the Keep: Landlock, namespaces
    #[arg(long, env = "ENARX_REQUIRE_CONFINEMENT")]
    require_confinement: bool,

    /// Give up after this time (10, 10s, 500ms, 2m)
    #[arg(long, value_name = "DURATION", env = "ENARX_TIMEOUT", value_parser = values::duration, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    /// As for `enarx run`
    #[arg(
        id = Flag::Sim.id(),
        long = "sim",
        hide = true,
        value_name = "NAME=VALUE",
        env = "ENARX_SIM",
        value_delimiter = ',',
        value_parser = options::simulated
    )]
    simulated: Vec<SimulatedOption>,

    /// As for `enarx run`
    #[arg(long, hide = true, env = "ENARX_END_ON_REFUSED_CALLS")]
    end_on_refused_calls: bool,

    /// The program, `-` for standard input
    #[arg(value_name = "MODULE")]
    module: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`]; [`Exit::Input`]; [`Exit::Data`]; [`Exit::Unavailable`]; [`Exit::Output`]; the end of a compilation that failed.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if let Some(end) = arguments
        .timeout
        .and_then(|it| Instant::now().checked_add(it))
    {
        output::limit(end);
    }
    let backend = arguments.backend.backend()?;
    ineffective::simulated(&arguments.typed, backend)?;
    let application = read_module(&arguments.module)?;
    let to = match &arguments.output {
        Some(path) => path.clone(),
        None => default_output(&arguments.module)?,
    };
    let unwritable = |error: &std::io::Error| {
        Failure::of(
            Exit::Output,
            format!(
                "{} cannot be written: {error}: name another file with --output",
                to.display()
            ),
        )
    };
    let file = output::beside(&to).map_err(|error| unwritable(&error))?;
    let copy = file
        .as_file()
        .try_clone()
        .map_err(|error| unwritable(&error))?;
    let compiler = Compiler {
        backend,
        memory: arguments
            .memory
            .unwrap_or_else(|| memory_for(application.len())),
        vcpus: arguments.vcpus.unwrap_or_else(default_vcpus),
        limit: arguments.timeout,
        require_confinement: arguments.require_confinement,
        refused_calls: refused_calls(arguments.end_on_refused_calls, backend)?,
    };
    let wish = Compile {
        cpu: arguments.target_cpu.clone(),
        turns: arguments.turns,
    };
    let [_, _, errors] = standard_streams([Stream::Null, Stream::Null, Stream::Stderr])?;
    let target = target(backend, &arguments.simulated, Measured::default())?;
    let streams = [copy.into(), errors];
    let run = compiler.compile(target, &arguments.module, application, wish, streams)?;
    if run.outcome == Outcome::Exit(0) {
        file.persist(&to)
            .map_err(|error| unwritable(&error.error))?;
    }
    outcome::show(&run, arguments.timeout, false, None)
}

/// The name of a program, with another ending.
fn default_output(module: &Path) -> Result<PathBuf, Failure> {
    let named = module.file_name().filter(|name| *name != "-");
    let name = named.ok_or_else(|| Failure::usage("name the file to write with --output"))?;
    Ok(Path::new(name).with_extension("cwasm"))
}

/// Memory to compile so many bytes, in bytes.
pub fn memory_for(length: usize) -> u64 {
    (length as u64)
        .saturating_mul(MEMORY_FOR_BYTE)
        .saturating_add(COMPILER_MEMORY)
}

/// A Keep that compiles.
pub struct Compiler {
    /// Its kind.
    pub backend: Backend,
    /// Its memory, in bytes.
    pub memory: u64,
    /// Its virtual CPUs.
    pub vcpus: u32,
    /// The longest time that it may take.
    pub limit: Option<Duration>,
    /// Refuse a Keep that is not confined in every way.
    pub require_confinement: bool,
    /// The consequence of calls that a Keep does not have.
    pub refused_calls: RefusedCalls,
}

impl Compiler {
    /// Compiles a program, and has the code and what is wrong written to the two streams.
    ///
    /// # Errors
    /// When the Keep could not be launched.
    pub fn compile(
        &self,
        target: Target,
        module: &Path,
        application: Vec<u8>,
        wish: Compile,
        [to, errors]: [OwnedFd; 2],
    ) -> Result<Run, Failure> {
        let configuration = Configuration {
            args: program_arguments(module, Vec::new()),
            compile: Some(wish),
            ..Configuration::default()
        };
        // In units as files are listed.
        let line = format!(
            "enarx: compiling {} ({} MB)…",
            module.file_name().unwrap_or_default().display(),
            (application.len() / 1_000_000).max(1)
        );
        let input = File::open("/dev/null")
            .map_err(|error| Failure::new(format!("/dev/null cannot be opened: {error}")))?;
        let launch = Launch {
            grant: Grant::of_streams([input.into(), to, errors]),
            objects: Objects::program(encode(&configuration)?, application),
            memory: self.memory,
            vcpus: self.vcpus,
            timeout: self.limit,
            grace: Duration::ZERO,
            timings: false,
            refused_calls: self.refused_calls,
        };
        // Progress is shown once the process of the Keep exists: before that, this program must have one thread.
        let mut progress = None;
        let start = |confined: &[Confined]| -> Result<(), String> {
            if self.require_confinement {
                check_confinement(confined)?;
            }
            progress = Progress::begin(&line);
            Ok(())
        };
        let run = enarx_supervisor::run(target, &IMAGES, launch, start);
        drop(progress);
        run.map_err(|error| Failure::of(Exit::Unavailable, error.to_string()))
    }
}
