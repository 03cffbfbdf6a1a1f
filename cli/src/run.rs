// SPDX-License-Identifier: Apache-2.0

//! `enarx run`: a WebAssembly program in a Keep on this machine. Who types it is the host, which sees the program, its
//! arguments and its environment; the program is not trusted.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use enarx_backend::Backend;
use enarx_backend::launch::Target;
use enarx_configuration::precompiled::{Precompiled, is_precompiled};
use enarx_configuration::{Certificate, Configuration, Identity, Limits, Serve};
use enarx_executor::addresses::{Addresses, Names, Policy};
use enarx_executor::grant::{Grant, GrantedDirectory, NetworkGrant};
use enarx_executor::launch::{Confined, Launch, Objects};
use enarx_executor::rate::Rates;
use enarx_executor::refused::RefusedCalls;
use enarx_network::Rules;
use enarx_vmm::launch::Measured;
use rustix::fs::{Mode, OFlags};

use crate::attest::Attestation;
use crate::cache::Cache;
use crate::compile::{self, Compiler};
use crate::failure::{self, Exit, Failure};
use crate::images::IMAGES;
use crate::input::{self, describe};
use crate::options::{self, SevOption, SimulatedOption, WasiName, WasiOption, WasmOption};
use crate::rules::NetworkRules;
use crate::values::{self, Directory};
use crate::workload::{Stream, Workload};
use crate::{outcome, output, tls};

/// Smallest memory of a Keep, in bytes, of every kind.
pub const MIN_MEMORY: u64 = enarx_vmm::MIN_MEMORY;
/// Largest memory of a Keep in a virtual machine, in bytes: its page tables lie in the launch area, which holds those of a
/// little more.
const MAX_VM_MEMORY: u64 = 400 << 30;
/// Most virtual CPUs of a Keep.
pub const MAX_VCPUS: u32 = enarx_vmm::MAX_PROCESSORS;
/// Most virtual CPUs of a Keep whose number is not given; the compiler makes use of them.
const DEFAULT_VCPUS: usize = 4;
/// First bytes of every binary module and component (WebAssembly core specification, section 5.5.16).
const MAGIC: &[u8] = b"\0asm";

const EXAMPLES: &str = "\
Examples:
  enarx run hello.wasm
  echo text | enarx run --env LANG=C filter.wasm --upper
  enarx run --dir data::/data:ro --dir out::/out --memory 2G tool.wasm /data/in /out/result
  enarx run --timeout 10s --invoke add numbers.wat 2 3
  enarx run --require-tee payroll.wasm    (refuses on a machine without SEV-SNP)";

/// The end of the help of this command.
fn after_help() -> String {
    format!(
        "{}\nExit codes:\n{}\n{EXAMPLES}",
        options::help(),
        failure::table()
    )
}

/// Run a WebAssembly program in a Keep.
///
/// The program is a core module (WASI preview 1) or a component (WASI 0.2), binary or text (.wat).
/// It sees what it is given here, and nothing else of this machine. This machine sees the program,
/// its arguments and its environment, in every kind of Keep.
#[derive(Args)]
#[command(
    after_help = after_help(),
    override_usage = "enarx run [OPTIONS] <MODULE> [ARGS]..."
)]
pub struct Arguments {
    /// Take arguments, variables and standard streams from an Enarx.toml as of Enarx 0.7, without network; what is given
    /// here counts more
    #[arg(long, value_name = "FILE", env = "ENARX_CONFIG")]
    config: Option<PathBuf>,

    /// End the Keep after this time (10, 10s, 500ms, 2m)
    #[arg(long, value_name = "DURATION", env = "ENARX_TIMEOUT", value_parser = values::duration, allow_negative_numbers = true)]
    timeout: Option<Duration>,

    /// Call this exported function with the arguments, and print its results
    #[arg(long, value_name = "NAME", env = "ENARX_INVOKE")]
    invoke: Option<String>,

    #[command(flatten)]
    keep: KeepArguments,

    /// The program, `-` for standard input, and its arguments: what follows the program is not read as a flag of this
    /// command
    #[arg(value_name = "MODULE", trailing_var_arg = true, required = true)]
    program: Vec<OsString>,
}

/// The Keep and what its program is given, for every command that launches one on this machine.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[derive(Args)]
pub struct KeepArguments {
    /// Set an environment variable of the program; NAME alone passes this command's value [env: ENARX_ENV, one per line]
    #[arg(long = "env", value_name = "NAME[=VALUE]", value_parser = values::variable)]
    variables: Vec<(String, String)>,

    /// Give the program a directory, read-only with :ro at the end, or :quota=SIZE by which it may make it fuller
    /// [env: ENARX_DIR, one per line]
    #[arg(long = "dir", value_name = "HOST[::GUEST][:ro|:quota=SIZE]", value_parser = values::directory)]
    directories: Vec<Directory>,

    #[command(flatten)]
    rules: NetworkRules,

    /// Accept certificates of these issuers, PEM, from servers that the program asks over TLS by `wasi:http` [default: those
    /// that this machine accepts]
    #[arg(long, value_name = "FILE", env = "ENARX_TLS_ROOTS")]
    tls_roots: Option<PathBuf>,

    /// Memory of the Keep, the compiler's included; at least 64M, in a virtual machine at most 400G
    #[arg(long, value_name = "SIZE", default_value = "1G", env = "ENARX_MEMORY", value_parser = values::size, allow_negative_numbers = true)]
    memory: u64,

    /// Virtual CPUs of the Keep [default: as many as this machine has, at most 4]
    #[arg(long, value_name = "N", env = "ENARX_VCPUS", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_VCPUS)), allow_negative_numbers = true)]
    vcpus: Option<u32>,

    /// Kind of Keep; `auto` takes the one that protects most on this machine
    #[arg(long, value_enum, default_value = "auto", env = "ENARX_BACKEND")]
    backend: Choice,

    /// Before the program runs, write evidence of the Keep and its certificates to this directory
    #[arg(long, value_name = "DIR", env = "ENARX_ATTEST_TO")]
    attest_to: Option<PathBuf>,

    /// Nonce for the evidence, 8 to 64 bytes in hexadecimal [default: a random one, in DIR/nonce]
    #[arg(long, value_name = "HEX", env = "ENARX_ATTEST_NONCE", value_parser = values::nonce, requires = "attest_to")]
    attest_nonce: Option<values::Nonce>,

    /// Properties of the simulated platform (below)
    #[arg(
        long = "sim",
        value_name = "NAME=VALUE",
        env = "ENARX_SIM",
        value_delimiter = ',',
        value_parser = options::simulated
    )]
    simulated: Vec<SimulatedOption>,

    /// Stricter guest policies and SEV features of a measured launch (below)
    #[arg(
        long = "sev",
        value_name = "NAME[=y|n]",
        env = "ENARX_SEV",
        value_delimiter = ',',
        value_parser = options::sev
    )]
    sev: Vec<SevOption>,

    /// Refuse to run unless the hardware protects the program from this machine's owner
    #[arg(long, env = "ENARX_REQUIRE_TEE")]
    require_tee: bool,

    /// Refuse to run unless all that confines the Keep on this machine is there: Landlock, namespaces
    #[arg(long, env = "ENARX_REQUIRE_CONFINEMENT")]
    require_confinement: bool,

    /// Have the fault report of a measured Keep tell this machine's owner addresses; changes the measurement
    #[arg(long, env = "ENARX_INSECURE_FAULT_ADDRESSES")]
    insecure_fault_addresses: bool,

    /// Take a program that `enarx compile` has made, which is native code: nothing but the virtual machine confines it, so
    /// take it only from those whom you trust with the Keep
    #[arg(long, env = "ENARX_ALLOW_PRECOMPILED")]
    allow_precompiled: bool,

    /// Compile the program anew, and keep no compiled code for later runs; in a Keep that is measured it is always so
    #[arg(long, env = "ENARX_NO_CACHE")]
    no_cache: bool,

    /// Do not say which backend runs and what it does not protect
    #[arg(long, short, env = "ENARX_QUIET")]
    quiet: bool,

    /// Print where the time goes and how the Keep is confined
    #[arg(long, env = "ENARX_TIMINGS")]
    timings: bool,

    /// Write phases, counters and confinement of the run to this file, as JSON. For measurements.
    #[arg(long, hide = true, value_name = "FILE", env = "ENARX_REPORT_TO")]
    report_to: Option<PathBuf>,

    /// End the Keep when its runtime makes a system call that no Keep has, and name the call. For tests
    /// of Enarx; without it `--timings` names such calls of a virtual machine.
    #[arg(long, hide = true, env = "ENARX_END_ON_REFUSED_CALLS")]
    end_on_refused_calls: bool,

    /// Options of the engine, as in wasmtime (below)
    #[arg(
        short = 'W',
        long = "wasm",
        value_name = "NAME[=VALUE]",
        env = "ENARX_WASM",
        value_delimiter = ',',
        value_parser = options::wasm
    )]
    wasm: Vec<WasmOption>,

    /// Options of WASI, as in wasmtime (below)
    #[arg(
        short = 'S',
        long = "wasi",
        value_name = "NAME[=VALUE]",
        env = "ENARX_WASI",
        value_delimiter = ',',
        value_parser = options::wasi
    )]
    wasi: Vec<WasiOption>,
}

impl Arguments {
    /// The path of the program.
    fn module(&self) -> &Path {
        self.program.first().map_or(Path::new(""), Path::new)
    }

    /// The program's arguments. A `--` before them is a habit of other commands, and not one of them.
    fn rest(&self) -> Result<Vec<String>, Failure> {
        let given = self.program.get(1..).unwrap_or_default();
        let given = match given {
            [first, rest @ ..] if first == "--" => rest,
            all => all,
        };
        let text = |argument: &OsString| {
            argument.clone().into_string().map_err(|argument| {
                Failure::usage(format!(
                    "the argument {} is not text in UTF-8, which WASI wants",
                    argument.display()
                ))
            })
        };
        given.iter().map(text).collect()
    }
}

/// The kind of Keep that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The one that protects most on this machine; never the simulated platform
    Auto,
    /// A virtual machine that AMD SEV-SNP encrypts and measures
    Snp,
    /// A virtual machine on the simulated SEV-SNP platform
    Sim,
    /// A virtual machine that the host can look into
    Kvm,
    /// A confined process
    Process,
}

impl Choice {
    /// The backend.
    ///
    /// # Errors
    /// [`Exit::Unavailable`]: another one than that asked for is no substitute.
    pub fn backend(self) -> Result<Backend, Failure> {
        match self {
            Self::Auto => Ok(enarx_backend::best()),
            Self::Snp => checked(Backend::Snp),
            Self::Sim => checked(Backend::Simulated),
            Self::Kvm => checked(Backend::Kvm),
            Self::Process => checked(Backend::Process),
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let work = Work {
        config: arguments.config.as_deref(),
        module: arguments.module(),
        rest: arguments.rest()?,
        invoke: arguments.invoke.clone(),
        timeout: arguments.timeout,
        server: None,
    };
    launch(&arguments.keep, work)
}

/// The work of a Keep.
pub struct Work<'a> {
    /// An Enarx.toml that says more of it.
    pub config: Option<&'a Path>,
    /// The path of the program.
    pub module: &'a Path,
    /// Its arguments.
    pub rest: Vec<String>,
    /// The function to call instead of its entry.
    pub invoke: Option<String>,
    /// Longest time for all of it; of a server, for each request.
    pub timeout: Option<Duration>,
    /// Present if it is a server.
    pub server: Option<Server>,
}

/// A server: its socket, and what is said of it.
pub struct Server {
    /// Listens, non-blocking.
    pub listener: OwnedFd,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The time that requests have to finish at the end.
    pub grace: Duration,
    /// Most connections at a time.
    pub connections: u32,
    /// Most requests at a time.
    pub requests: u32,
    /// Its identity, if it speaks TLS.
    pub identity: Option<Identity>,
}

/// Launches a Keep on this machine and serves it to its end.
pub fn launch(arguments: &KeepArguments, work: Work<'_>) -> Result<ExitCode, Failure> {
    let workload = Workload::read(work.config)?;
    let mut settings = Settings::new(arguments, &workload, &work)?;
    let limit = settings.timeout.filter(|_| work.server.is_none());
    if let Some(end) = limit.and_then(|timeout| Instant::now().checked_add(timeout)) {
        output::limit(end);
    }
    let backend = arguments.backend.backend()?;
    if backend != Backend::Process && arguments.memory > MAX_VM_MEMORY {
        return Err(Failure::usage(format!(
            "--memory: at most {}G with the backend {backend}",
            MAX_VM_MEMORY >> 30
        )));
    }
    let is_measured = matches!(backend, Backend::Snp | Backend::Simulated);
    if !arguments.sev.is_empty() && !is_measured {
        return Err(Failure::usage(format!(
            "--sev: a Keep of the kind {backend} is not measured and has no guest policy; take --backend snp or sim"
        )));
    }
    let refused_calls = refused_calls(arguments.end_on_refused_calls, backend)?;
    if arguments.require_tee && !backend.protects_application() {
        return Err(Failure::of(
            Exit::Unavailable,
            crate::doctor::no_tee(backend),
        ));
    }
    let mut application = read_program(work.module, arguments.allow_precompiled, backend)?;
    let native = is_precompiled(&application);
    if arguments.tls_roots.is_none() && settings.network.tcp && may_ask_servers(&application) {
        settings.issuers = tls::issuers_of_machine()?;
    }
    let attestation = arguments
        .attest_to
        .as_deref()
        .map(|directory| Attestation::new(directory, arguments.attest_nonce.as_ref()))
        .transpose()?;
    let begin = Instant::now();
    let left = || limit.map(|limit| limit.saturating_sub(begin.elapsed()));
    let cached = !(is_measured || arguments.no_cache || native);
    if let Some(cache) = cached.then(Cache::open).flatten() {
        let compiler = Compiler {
            backend,
            memory: arguments
                .memory
                .max(compile::memory_for(application.len()))
                .min(MAX_VM_MEMORY.max(arguments.memory)),
            vcpus: arguments.vcpus.unwrap_or_else(default_vcpus),
            limit: left(),
            require_confinement: arguments.require_confinement,
            refused_calls,
        };
        let turns = work.server.is_some() && settings.timeout.is_some();
        if let Some(code) = cache.compiled(work.module, &application, turns, &compiler)? {
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
    let evidence = match &attestation {
        Some(attestation) => {
            let simulated = match &target {
                Target::Simulated(simulated, _) => Some(simulated),
                _ => None,
            };
            Some(attestation.prepare(backend, &configuration, simulated)?)
        }
        None => None,
    };
    let (listener, serves, grace) = match work.server {
        Some(server) => {
            let (name, scheme) = match server.identity {
                Some(_) => ("HTTPS", "https"),
                None => ("HTTP", "http"),
            };
            let serves = format!("serving {name} on {scheme}://{}/", server.address);
            (Some(server.listener), Some(serves), server.grace)
        }
        None => (None, None, Duration::ZERO),
    };
    let launch = Launch {
        grant: Grant {
            stdio: standard_streams(workload.streams)?,
            directories,
            network: settings.network,
            policy: settings.policy.clone(),
            evidence,
            door: None,
            listener,
            rates: Rates::default(),
        },
        objects: Objects::program(configuration, application),
        memory: arguments.memory,
        vcpus: arguments.vcpus.unwrap_or_else(default_vcpus),
        timeout: left(),
        grace,
        timings: arguments.timings,
        refused_calls,
    };
    let start = |confined: &[Confined]| {
        if !arguments.quiet {
            workload.warn();
        }
        announce(arguments, &settings, backend, confined)?;
        if native && !arguments.quiet {
            say!("enarx: the program is native code: only the virtual machine confines it");
        }
        if let Some(serves) = serves.as_ref().filter(|_| !arguments.quiet) {
            say!("enarx: {serves}");
        }
        Ok(())
    };
    let run = enarx_supervisor::run(target, &IMAGES, launch, start)
        .map_err(|error| Failure::of(Exit::Unavailable, error.to_string()))?;
    outcome::show(
        &run,
        limit,
        arguments.timings,
        arguments.report_to.as_deref(),
    )
}

/// The target of a launch on this machine.
///
/// # Errors
/// When the simulated machine cannot be had.
pub fn target(
    backend: Backend,
    simulated: &[SimulatedOption],
    measured: Measured,
) -> Result<Target, Failure> {
    Ok(match backend {
        Backend::Snp => Target::Snp(measured),
        Backend::Simulated => Target::Simulated(crate::simulated::machine(simulated)?, measured),
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
            "--end-on-refused-calls: a measured Keep tells its host nothing of its system calls; take \
             --backend sim, kvm or process",
        )),
        (true, _) => Ok(RefusedCalls::End),
        (false, _) => Ok(RefusedCalls::Count),
    }
}

/// Says which backend runs and what it does not protect, unless that is silenced.
///
/// # Errors
/// With `--require-confinement`, when a way of confining does not hold.
fn announce(
    arguments: &KeepArguments,
    settings: &Settings,
    backend: Backend,
    confined: &[Confined],
) -> Result<(), String> {
    let missing = missing(confined);
    if !arguments.quiet {
        if !settings.left_out.is_empty() {
            say!(
                "enarx: left out of the environment, because they are not UTF-8: {}",
                settings.left_out.join(", ")
            );
        }
        let passed_over = match arguments.backend {
            Choice::Auto => passed_over(backend),
            _ => String::new(),
        };
        let weaker = if missing.is_empty() {
            String::new()
        } else {
            format!(", weaker without {}", missing.join(" and "))
        };
        say!(
            "enarx: backend {backend}{passed_over}{weaker}: {} (--quiet silences this)",
            backend.protection()
        );
    }
    if arguments.require_confinement {
        check_confinement(confined)?;
    }
    Ok(())
}

/// Checks that a Keep is confined in every way.
///
/// # Errors
/// The ways that do not hold, in a sentence.
pub fn check_confinement(confined: &[Confined]) -> Result<(), String> {
    let missing = missing(confined);
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "--require-confinement: this machine does not offer {}: see `enarx doctor`",
        missing.join(", ")
    ))
}

/// The ways of confining that do not hold.
fn missing(confined: &[Confined]) -> Vec<&str> {
    let missing = confined.iter().filter(|way| !way.holds);
    missing.map(|way| &*way.by).collect()
}

/// A backend that was asked for by name: another one is no substitute.
fn checked(backend: Backend) -> Result<Backend, Failure> {
    match enarx_backend::check(backend) {
        Ok(()) => Ok(backend),
        Err(error) => Err(Failure::of(Exit::Unavailable, error.to_string())),
    }
}

/// Why `auto` takes this backend and not the one that is usual: a fall-back that nobody hears of is a loss of protection.
fn passed_over(backend: Backend) -> String {
    if backend != Backend::Process {
        return String::new();
    }
    match enarx_backend::check(Backend::Kvm) {
        Ok(()) => String::new(),
        Err(error) => format!(" (kvm passed over: {error}; see `enarx doctor`)"),
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

/// The limits among the options of the engine.
pub fn limits(options: &[WasmOption]) -> Limits {
    let mut limits = Limits::default();
    for option in options {
        match option {
            WasmOption::MaxMemorySize(size) => limits.max_memory = Some(*size),
            WasmOption::MaxTableElements(number) => limits.max_table_elements = Some(*number),
            WasmOption::MaxWasmStack(size) => limits.max_wasm_stack = Some(*size),
            WasmOption::Timeout(_) => {}
        }
    }
    limits
}

/// The time limit among the options of the engine.
pub fn timeout(options: &[WasmOption]) -> Option<Duration> {
    options.iter().find_map(|option| match option {
        WasmOption::Timeout(limit) => Some(*limit),
        _ => None,
    })
}

/// The settings from flags and variables together.
struct Settings {
    variables: Vec<(String, String)>,
    /// Names of variables of this command that a program cannot be given.
    left_out: Vec<String>,
    directories: Vec<Directory>,
    timeout: Option<Duration>,
    limits: Limits,
    network: NetworkGrant,
    policy: Policy,
    issuers: Vec<Certificate>,
}

impl Settings {
    fn new(
        arguments: &KeepArguments,
        workload: &Workload,
        work: &Work<'_>,
    ) -> Result<Self, Failure> {
        if arguments.memory < MIN_MEMORY {
            return Err(Failure::usage(format!(
                "--memory: a Keep needs at least {} MiB",
                MIN_MEMORY >> 20
            )));
        }
        let mut settings = Self {
            variables: workload.variables(or_from_environment(
                &arguments.variables,
                "ENARX_ENV",
                values::variable,
            )?),
            left_out: Vec::new(),
            directories: or_from_environment(
                &arguments.directories,
                "ENARX_DIR",
                values::directory,
            )?,
            timeout: work.timeout.or_else(|| timeout(&arguments.wasm)),
            limits: limits(&arguments.wasm),
            network: NetworkGrant::default(),
            policy: Policy::default(),
            issuers: Vec::new(),
        };
        for (name, on) in &arguments.wasi {
            settings.wasi_option(*name, *on);
        }
        settings.narrow(arguments.rules.rules()?);
        if let Some(file) = &arguments.tls_roots {
            settings.issuers = tls::issuers(file)?;
        }
        Ok(settings)
    }

    /// Narrows the network to rules, and opens what they need of it. Without rules it is as the options have it.
    fn narrow(&mut self, rules: Rules) {
        let network = &mut self.network;
        let asks_for_names = !rules.resolve.is_empty();
        if asks_for_names || !network.name_lookup {
            network.name_lookup |= asks_for_names || rules.hosts().next().is_some();
            self.policy.names = Names::Only(rules.resolve);
        }
        if rules.connect.is_empty() && rules.listen.is_empty() {
            return;
        }
        if !(network.tcp || network.udp) {
            (network.tcp, network.udp) = (true, true);
        }
        self.policy.addresses = Addresses::Only {
            connect: rules.connect,
            listen: rules.listen,
        };
    }

    fn wasi_option(&mut self, name: WasiName, on: bool) {
        match name {
            WasiName::InheritNetwork => {
                self.network.tcp = on;
                self.network.udp = on;
            }
            WasiName::Tcp => self.network.tcp = on,
            WasiName::Udp => self.network.udp = on,
            WasiName::AllowIpNameLookup => self.network.name_lookup = on,
            WasiName::InheritEnv if on => {
                // Those that were given come later and count.
                let given = std::mem::take(&mut self.variables);
                for (name, value) in std::env::vars_os() {
                    match (name.to_str(), value.to_str()) {
                        (Some(name), Some(value)) => {
                            self.variables.push((name.to_owned(), value.to_owned()));
                        }
                        _ => self.left_out.push(name.to_string_lossy().into_owned()),
                    }
                }
                self.variables.extend(given);
            }
            WasiName::InheritEnv => {}
        }
    }

    fn configuration(
        &self,
        arguments: &KeepArguments,
        work: &Work<'_>,
        attestation: Option<&Attestation>,
    ) -> Configuration {
        Configuration {
            env: self.variables.clone(),
            directories: self
                .directories
                .iter()
                .map(|directory| enarx_configuration::Directory {
                    guest_path: directory.guest.clone(),
                    read_only: directory.read_only,
                })
                .collect(),
            invoke: work.invoke.clone(),
            limits: self.limits.clone(),
            network: self.network,
            timings: arguments.timings,
            attest: attestation.map(|attestation| attestation.nonce.clone()),
            serve: work.server.as_ref().map(|server| Serve {
                timeout: self.timeout.map(milliseconds),
                grace: milliseconds(server.grace),
                connections: server.connections,
                requests: server.requests,
                identity: server.identity.clone(),
            }),
            issuers: self.issuers.clone(),
            ..Configuration::default()
        }
    }
}

/// Whole milliseconds, at least 1.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// The values of flags, or else the lines of a variable.
pub fn or_from_environment<T: Clone>(
    given: &[T],
    variable: &str,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Failure> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    std::env::var(variable)
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| parse(line).map_err(|error| Failure::usage(format!("{variable}: {error}"))))
        .collect()
}

/// The program's bytes, for a Keep of this kind on this machine; text is translated.
///
/// # Errors
/// As [`read_module`]; when it is precompiled and not allowed, not for this kind of Keep, or damaged.
fn read_program(path: &Path, precompiled: bool, backend: Backend) -> Result<Vec<u8>, Failure> {
    let bytes = input::read_program(path)?;
    if !is_precompiled(&bytes) {
        return translate(path, bytes);
    }
    let shown = path.display();
    if !precompiled {
        return Err(Failure::usage(format!(
            "{shown} is precompiled: native code, which nothing but the virtual machine of the Keep confines: allow it with \
             --allow-precompiled"
        )));
    }
    if backend == Backend::Process {
        return Err(Failure::of(
            Exit::Unavailable,
            format!(
                "{shown} is precompiled, and a process Keep runs no such program: it has no virtual machine, and WebAssembly \
                 would not confine it: take --backend kvm, or run the WebAssembly"
            ),
        ));
    }
    Precompiled::decode(&bytes).map_err(|error| Failure::data(format!("{shown}: {error}")))?;
    Ok(bytes)
}

/// True if the program may send requests by `wasi:http`: names of imports stand in a component as they are, compiled or not.
fn may_ask_servers(application: &[u8]) -> bool {
    memchr::memmem::find(application, b"wasi:http/").is_some()
}

/// The WebAssembly of a program; text is translated.
///
/// # Errors
/// [`Exit::Input`]; [`Exit::Data`] for what is not WebAssembly.
pub fn read_module(path: &Path) -> Result<Vec<u8>, Failure> {
    translate(path, input::read_program(path)?)
}

/// A program as `enarx deploy` delivers it: WebAssembly, into which text was translated, or native code.
///
/// # Errors
/// As [`read_module`].
pub fn read_delivered(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = input::read_program(path)?;
    if is_precompiled(&bytes) {
        return Ok(bytes);
    }
    translate(path, bytes)
}

/// The WebAssembly of the bytes of a program; text is translated.
///
/// # Errors
/// [`Exit::Data`] for what is not WebAssembly.
pub fn translate(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if bytes.starts_with(MAGIC) {
        return Ok(bytes);
    }
    let shown = path.display();
    if is_precompiled(&bytes) {
        return Err(Failure::data(format!(
            "{shown} is precompiled, which only `enarx run`, `enarx serve` and `enarx deploy` take: give the WebAssembly"
        )));
    }
    let text = path.extension().is_some_and(|extension| extension == "wat")
        || bytes.trim_ascii_start().starts_with(b"(");
    if !text {
        let made_by_others = path.extension().is_some_and(|it| it == "cwasm");
        let remedy = if made_by_others {
            "code of other compilers is not taken: make it with `enarx compile`"
        } else {
            "give a .wasm file (module or component) or a .wat file"
        };
        return Err(Failure::data(format!(
            "{shown} is not WebAssembly: {remedy}"
        )));
    }
    wat::parse_bytes(&bytes)
        .map(std::borrow::Cow::into_owned)
        .map_err(|error| {
            // The first line has the cause, the second the place.
            let error = error.to_string();
            let lines: Vec<&str> = error.lines().map(str::trim).take(2).collect();
            Failure::data(format!(
                "{shown} is not valid WebAssembly text: {}",
                lines.join(" ")
            ))
        })
}

fn open_directory(directory: &Directory) -> Result<GrantedDirectory, Failure> {
    let host = &directory.host;
    let wrong = |cause: &str| {
        // Other commands divide by one colon.
        let one_colon = match host.to_str().and_then(|host| host.split_once(':')) {
            Some((host, guest)) if Path::new(host).is_dir() => {
                format!("; did you mean {host}::{guest}?")
            }
            _ => String::new(),
        };
        Failure::of(
            Exit::Input,
            format!(
                "the directory {} cannot be opened: {cause}: create it, or correct --dir{one_colon}",
                host.display()
            ),
        )
    };
    // A pipe that has this name is not waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(host, flags, Mode::empty())
        .map(File::from)
        .map_err(|error| wrong(&describe(&error.into())))?;
    match opened.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(GrantedDirectory {
            directory: opened.into(),
            read_only: directory.read_only,
            quota: directory.quota,
        }),
        Ok(_) => Err(wrong("it is not a directory")),
        Err(error) => Err(wrong(&describe(&error))),
    }
}

/// Descriptors for the standard streams of the program.
pub fn standard_streams([stdin, stdout, stderr]: [Stream; 3]) -> Result<[OwnedFd; 3], Failure> {
    let copy = |stream: Stream| {
        let copied = match stream {
            Stream::Null => File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(OwnedFd::from),
            Stream::Stdin => io::stdin().as_fd().try_clone_to_owned(),
            Stream::Stdout => io::stdout().as_fd().try_clone_to_owned(),
            Stream::Stderr => io::stderr().as_fd().try_clone_to_owned(),
        };
        copied.map_err(|error| {
            Failure::new(format!(
                "a standard stream could not be duplicated: {error}"
            ))
        })
    };
    Ok([copy(stdin)?, copy(stdout)?, copy(stderr)?])
}

/// Virtual CPUs of a Keep whose number is not given.
pub fn default_vcpus() -> u32 {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(available.min(DEFAULT_VCPUS)).unwrap_or(1)
}
