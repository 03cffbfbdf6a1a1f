// SPDX-License-Identifier: Apache-2.0

//! The flags of a Keep on this machine, for every command that launches one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use enarx_backend::Backend;

use crate::failure::{Exit, Failure};
use crate::options::{self, SevOption, SimulatedOption, WasiOption, WasmOption};
use crate::rules::NetworkRules;
use crate::typed::{Flag, Typed};
use crate::values::{self, Directory};

/// Smallest memory of a Keep, in bytes, of every kind.
pub const MIN_MEMORY: u64 = enarx_vmm::MIN_MEMORY;
/// Largest memory of a Keep in a virtual machine, in bytes: its page tables lie in the launch area, which holds those of a
/// little more.
pub const MAX_VM_MEMORY: u64 = 400 << 30;
/// Most virtual CPUs of a Keep whose number is not given; the compiler makes use of them.
const DEFAULT_VCPUS: usize = 4;

/// The groups of the help text, in their order.
pub const PROGRAM: &str = "Program";
const PLACES: &str = "Files and network";
const KEEP: &str = "Keep";
const EVIDENCE: &str = "Evidence";
const MESSAGES: &str = "Messages";

/// The Keep and what its program is given, for every command that launches one on this machine.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
#[derive(Args)]
pub struct KeepArguments {
    #[command(flatten)]
    pub(super) typed: Typed,

    /// Set an environment variable of the program; NAME alone passes this command's value [env: ENARX_ENV, one per line]
    #[arg(help_heading = PROGRAM, long = "env", value_name = "NAME[=VALUE]", value_parser = values::variable)]
    pub(super) variables: Vec<(String, String)>,

    /// Give the program a directory; append :ro to make it read-only, or :quota=SIZE to limit what the program may add
    /// [env: ENARX_DIR, one per line]
    #[arg(help_heading = PLACES, long = "dir", value_name = "HOST[::GUEST][:ro|:quota=SIZE]", value_parser = values::directory)]
    pub(super) directories: Vec<Directory>,

    #[command(flatten, next_help_heading = PLACES)]
    pub(super) rules: NetworkRules,

    /// Issuers, PEM, whose certificates are accepted from servers that the program connects to over TLS with
    /// `wasi:http` [default: those that this machine accepts]
    #[arg(help_heading = PLACES, id = Flag::TlsRoots.id(), long = "tls-roots", value_name = "FILE", env = "ENARX_TLS_ROOTS")]
    pub(super) tls_roots: Option<PathBuf>,

    /// Memory of the Keep, including the compiler's; at least 64M, in a virtual machine at most 400G
    #[arg(help_heading = KEEP, long, value_name = "SIZE", default_value = "1G", env = "ENARX_MEMORY", value_parser = values::size, allow_negative_numbers = true)]
    pub(super) memory: u64,

    /// Virtual CPUs of the Keep, at most 62 [default: as many as this machine has, at most 4]
    #[arg(help_heading = KEEP, long, value_name = "N", env = "ENARX_VCPUS", value_parser = values::vcpus, allow_negative_numbers = true)]
    pub(super) vcpus: Option<u32>,

    /// Kind of Keep; `auto` chooses the one that protects most on this machine
    #[arg(help_heading = KEEP, long, value_enum, default_value = "auto", env = "ENARX_BACKEND")]
    pub(super) backend: Choice,

    /// Before the program runs, write evidence of the Keep and its certificates to this directory
    #[arg(help_heading = EVIDENCE, long, value_name = "DIR", env = "ENARX_ATTEST_TO")]
    pub(super) attest_to: Option<PathBuf>,

    /// Nonce for the evidence, 8 to 64 bytes in hexadecimal [default: a random one, in DIR/nonce]
    #[arg(help_heading = EVIDENCE, long, value_name = "HEX", env = "ENARX_ATTEST_NONCE", value_parser = values::nonce, requires = "attest_to")]
    pub(super) attest_nonce: Option<values::Nonce>,

    /// Properties of the simulated platform (below)
    #[arg(
        id = Flag::Sim.id(),
        help_heading = KEEP,
        long = "sim",
        value_name = "NAME=VALUE",
        env = "ENARX_SIM",
        value_delimiter = ',',
        value_parser = options::simulated
    )]
    pub(super) simulated: Vec<SimulatedOption>,

    /// Stricter guest policies and SEV features of a measured launch (below)
    #[arg(
        help_heading = EVIDENCE,
        long = "sev",
        value_name = "NAME[=y|n]",
        env = "ENARX_SEV",
        value_delimiter = ',',
        value_parser = options::sev
    )]
    pub(super) sev: Vec<SevOption>,

    /// Refuse to run unless the hardware protects the program from this machine's owner
    #[arg(help_heading = KEEP, long, env = "ENARX_REQUIRE_TEE")]
    pub(super) require_tee: bool,

    /// Refuse to run unless this machine has everything that confines the Keep: Landlock, namespaces
    #[arg(help_heading = KEEP, long, env = "ENARX_REQUIRE_CONFINEMENT")]
    pub(super) require_confinement: bool,

    /// Include addresses in the fault report of a measured Keep, which this machine's owner sees; changes the
    /// measurement
    #[arg(id = Flag::InsecureFaultAddresses.id(), help_heading = EVIDENCE, long = "insecure-fault-addresses", env = "ENARX_INSECURE_FAULT_ADDRESSES")]
    pub(super) insecure_fault_addresses: bool,

    /// Accept a program made by `enarx compile`, which is native code: only the virtual machine confines it, so use it
    /// only from a source that you trust with the Keep
    #[arg(help_heading = PROGRAM, long, env = "ENARX_ALLOW_PRECOMPILED")]
    pub(super) allow_precompiled: bool,

    /// Compile the program again, and keep no compiled code for later runs; measured Keeps always do this
    #[arg(help_heading = PROGRAM, long, env = "ENARX_NO_CACHE")]
    pub(super) no_cache: bool,

    /// Do not say which backend runs and what it does not protect
    #[arg(help_heading = MESSAGES, long, short, env = "ENARX_QUIET")]
    pub(super) quiet: bool,

    /// Print where the time goes and how the Keep is confined
    #[arg(help_heading = MESSAGES, long, env = "ENARX_TIMINGS")]
    pub(super) timings: bool,

    /// Write phases, counters and confinement of the run to this file, as JSON. For measurements.
    #[arg(long, hide = true, value_name = "FILE", env = "ENARX_REPORT_TO")]
    pub(super) report_to: Option<PathBuf>,

    /// End the Keep when its runtime makes a system call that Keeps do not have, and name the call. For tests of Enarx;
    /// without it, `--timings` names such calls of a virtual machine.
    #[arg(long, hide = true, env = "ENARX_END_ON_REFUSED_CALLS")]
    pub(super) end_on_refused_calls: bool,

    /// Options of the engine, as in wasmtime (below)
    #[arg(
        help_heading = PROGRAM,
        short = 'W',
        long = "wasm",
        value_name = "NAME[=VALUE]",
        env = "ENARX_WASM",
        value_delimiter = ',',
        value_parser = options::wasm
    )]
    pub(super) wasm: Vec<WasmOption>,

    /// Options of WASI, as in wasmtime (below)
    #[arg(
        help_heading = PROGRAM,
        short = 'S',
        long = "wasi",
        value_name = "NAME[=VALUE]",
        env = "ENARX_WASI",
        value_delimiter = ',',
        value_parser = options::wasi
    )]
    pub(super) wasi: Vec<WasiOption>,
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
    /// A virtual machine whose memory the host can read
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

/// A backend that was asked for by name: another one is no substitute.
fn checked(backend: Backend) -> Result<Backend, Failure> {
    match enarx_backend::check(backend) {
        Ok(()) => Ok(backend),
        Err(error) => Err(Failure::of(Exit::Unavailable, error.to_string())),
    }
}

/// Virtual CPUs of a Keep whose number is not given.
pub fn default_vcpus() -> u32 {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(available.min(DEFAULT_VCPUS)).unwrap_or(1)
}
