// SPDX-License-Identifier: Apache-2.0

//! `enarx host serve`: the manager of Keeps, in the foreground.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use enarx_contract::canonical::{Base64, Hex, Name};
use enarx_contract::{Backend, Doors, Tee};
use enarx_manager::{Capacity, Cgroups, Collaterals, KeepCommand, Manager, Rates, Settings};
use enarx_manager_api::{Collateral, Limits, PlatformOffer};
use enarx_simulator::Certificates;
use enarx_snp::bits::GuestPolicy;
use serde_json::json;

use super::certificates::ChipCertificates;
use super::classes::{Classes, capacity_warning};
use super::flags::{Launches, Machine, StateArguments, of_manager};
use crate::certs::StoreArguments;
use crate::failure::{Exit, Failure};
use crate::input::read_up_to;
use crate::json::Json;
use crate::output::{Progress, create, print_json};
use crate::rules::NetworkRules;
use crate::typed::{Flag, Typed};
use crate::{simulated, values};

/// Address of a manager that was given none: this machine's own, so that nobody is served by mistake.
pub const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9443);

/// The file in the manager's folder that has the address at which it listens.
const LISTENS_AT: &str = "listens-at";
/// The file in the manager's folder that has the digest of its simulated platform's root; empty for a genuine one.
const SIMULATED_ROOT: &str = "simulated-root";

/// Longest times that a contract may name, in seconds: a day without a session, a year of running.
const DETACHED: u32 = 24 * 3600;
const RUNTIME: u32 = 365 * 24 * 3600;
/// How long a Keep waits for a claim before another one takes its place.
const FRESH: Duration = Duration::from_hours(24);
/// Most Keeps of a host that was not told otherwise.
const KEEPS: u32 = 64;
/// Virtual CPUs that are given away for each processor of the machine.
const VCPUS_PER_PROCESSOR: u32 = 8;

/// Run the manager of Keeps, until SIGINT or SIGTERM
///
/// Its first line is the one for `enarx deploy --to`. Keeps that still run when the manager ends have ten
/// seconds, and are then ended. The facts that this machine tells tenants are only claims; tenants rely on the evidence
/// of the Keep itself.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    typed: Typed,
    /// The address to listen on; 0.0.0.0:9443 is every address of this machine
    #[arg(long, value_name = "ADDR", env = "ENARX_HOST_LISTEN", default_value_t = ADDRESS, value_parser = values::address)]
    listen: SocketAddr,
    #[command(flatten)]
    state: StateArguments,
    /// The kind of Keep: SEV-SNP, or the simulated platform, which protects nothing
    #[arg(long, value_enum, default_value = "auto", env = "ENARX_HOST_BACKEND")]
    backend: Choice,
    #[command(flatten)]
    machine: Machine,
    #[command(flatten)]
    launches: Launches,
    /// Hand out the certificates in this folder (as for `enarx verify --certs`), instead of a simulated platform's own,
    /// or in preference to those of the store
    #[arg(long, value_name = "DIR", env = "ENARX_HOST_CERTS")]
    certs: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    classes: Classes,
    #[command(flatten)]
    rules: NetworkRules,
    /// Certificate chain of the manager, PEM [default: a self-signed one, which tenants pin]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    #[command(flatten)]
    pub json: Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// SEV-SNP; a machine without it is refused, never the simulated platform instead
    Auto,
    /// AMD SEV-SNP
    Snp,
    /// The simulated SEV-SNP platform
    Sim,
}

impl Arguments {
    /// Refuses flags that would be of no effect beside others.
    fn refuse_ineffective(&self) -> Result<(), Failure> {
        let is_simulated = self.backend == Choice::Sim;
        self.typed.refuse_unless(is_simulated, Flag::Sim, || {
            "--sim: these are properties of the simulated platform, which this host does not offer; take --backend sim, or \
             leave it out"
                .to_owned()
        })?;
        let reads_store = !is_simulated || self.certs.is_some();
        self.typed.refuse_unless(reads_store, Flag::Store, || {
            "--store: a simulated platform has its own certificates, and the store has genuine ones; leave it out, or give --certs"
                .to_owned()
        })
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Usage`]; [`Exit::Unavailable`] without the platform; [`Exit::Output`] for a folder that cannot be used; [`Exit::Network`] for an
/// address that cannot be listened at; [`Exit::Other`].
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    arguments.refuse_ineffective()?;
    let folder = arguments.state.folder()?;
    let certificates = || {
        let certificates =
            ChipCertificates::open(arguments.certs.as_deref(), arguments.store.open())?;
        certificates.say();
        Ok::<_, Failure>(Arc::new(certificates))
    };
    let mut settings = match arguments.backend {
        Choice::Auto | Choice::Snp => genuine(&folder, &arguments.launches, certificates)?,
        Choice::Sim => simulated(&folder, &arguments.machine, &arguments.launches)?,
    };
    if arguments.backend == Choice::Sim && arguments.certs.is_some() {
        settings.collateral = certificates()?;
    }
    let certificate = arguments.tls_cert.clone().zip(arguments.tls_key.clone());
    let classes = match settings.platforms.first() {
        Some(platform) => arguments.classes.on(platform, &settings.limits)?,
        None => Vec::new(),
    };
    if let Some(remark) = capacity_warning(&classes, &settings.capacity) {
        say!("enarx: {remark}");
    }
    let cgroups = match Cgroups::of_this_process() {
        Ok(cgroups) => Some(cgroups),
        Err(error) => {
            say!(
                "enarx: Keeps have no cgroups of their own: {error}; see docs/deploy.md for systemd"
            );
            None
        }
    };
    let root = settings.platforms.iter().find_map(|it| it.simulated_root);
    let settings = Settings {
        listen: arguments.listen,
        classes,
        cgroups,
        certificate,
        doors: Doors::of(arguments.rules.rules()?),
        ..settings
    };
    runtime()?.block_on(async {
        let ended = ended()?;
        let manager = Manager::bind(settings)
            .await
            .map_err(|error| of_manager(&error))?;
        note(&folder, LISTENS_AT, &manager.address().to_string())?;
        let root = root.map_or_else(String::new, |root| root.to_string());
        note(&folder, SIMULATED_ROOT, &root)?;
        remark(manager.address());
        if arguments.json.on {
            print_json(&json!({ "to": manager.to() }));
        } else {
            outln!("{}", manager.to());
        }
        manager.run(ended).await.map_err(|error| of_manager(&error))
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Notes something about the manager that runs, for `enarx host show`.
fn note(folder: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = folder.join(name);
    create(&path, text.as_bytes()).map_err(|error| {
        Failure::of(
            Exit::Output,
            format!("{} cannot be written: {error}", path.display()),
        )
    })
}

/// The note of this name, if there is one and it can be read.
fn noted<T: FromStr>(folder: &Path, name: &str) -> Option<T> {
    /// Longer than any note, in bytes.
    const LONGEST: u64 = 128;
    let bytes = read_up_to(&folder.join(name), LONGEST).ok()?;
    std::str::from_utf8(&bytes).ok()?.parse().ok()
}

/// The address at which the manager of this folder listens, or did when it last ran.
pub fn noted_address(folder: &Path) -> Option<SocketAddr> {
    noted(folder, LISTENS_AT)
}

/// The root of the simulated platform that the manager of this folder offers, or did when it last ran; `None` for a genuine
/// platform.
pub fn noted_root(folder: &Path) -> Option<String> {
    let root: enarx_attestation::hex::Hex<32> = noted(folder, SIMULATED_ROOT)?;
    Some(root.to_string())
}

/// Says what tenants have to change in the line for them, if it names no address that they could reach.
pub fn remark(address: SocketAddr) {
    if address.ip().is_unspecified() {
        say!(
            "enarx: {} stands for every address of this machine: tenants have to write its name or one of its addresses instead",
            address.ip()
        );
    }
}

/// A runtime for connections, of one thread. It waits for its other threads when it is dropped.
///
/// # Errors
/// [`Exit::Unavailable`].
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            let remedy = enarx_confine::process::remedy(&error);
            Failure::of(
                Exit::Unavailable,
                format!("connections cannot be served: {error}{remedy}"),
            )
        })
}

/// Does `work`, and leaves behind what still waits in other threads then: standard input may wait for ever, and a name server for
/// longer than anybody.
///
/// # Errors
/// [`Exit::Unavailable`] where there can be no connections.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// Becomes ready at SIGINT or SIGTERM.
fn ended() -> Result<impl Future<Output = ()>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error| Failure::new(format!("signals cannot be received: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// The settings of every kind.
fn settings(
    folder: &Path,
    platform: PlatformOffer,
    arguments: Vec<OsString>,
    collateral: Arc<dyn Collaterals>,
) -> Result<Settings, Failure> {
    let program = std::env::current_exe().map_err(|error| {
        Failure::new(format!("the enarx command itself cannot be found: {error}"))
    })?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let vcpus = u32::try_from(processors)
        .unwrap_or(u32::MAX)
        .saturating_mul(VCPUS_PER_PROCESSOR);
    let memory = rustix::system::sysinfo().totalram;
    // The machine needs some itself, and one tenant is not to take everything.
    let (memory, of_one) = (memory / 8 * 7, memory / 4 * 3);
    let uname = rustix::system::uname();
    let name = Name::cleaned(&uname.nodename().to_string_lossy().to_ascii_lowercase());
    Ok(Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        state: folder.to_owned(),
        name: name.as_str().to_owned(),
        platforms: vec![platform],
        limits: Limits {
            vcpus: vcpus.div_ceil(2),
            memory: of_one,
            keeps: KEEPS / 2,
            runtime_seconds_max: RUNTIME,
            detached_seconds_max: DETACHED,
        },
        capacity: Capacity {
            keeps: KEEPS,
            vcpus,
            memory,
        },
        rates: Rates::default(),
        doors: Doors::default(),
        classes: Vec::new(),
        fresh: FRESH,
        keep: KeepCommand { program, arguments },
        cgroups: None,
        certificate: None,
        collateral,
        grace: Duration::from_secs(10),
    })
}

/// The settings of a host with SEV-SNP.
fn genuine(
    folder: &Path,
    launches: &Launches,
    certificates: impl FnOnce() -> Result<Arc<ChipCertificates>, Failure>,
) -> Result<Settings, Failure> {
    enarx_backend::check(enarx_backend::Backend::Snp).map_err(|error| {
        Failure::of(
            Exit::Unavailable,
            format!("{error}; --backend sim serves Keeps of the simulated platform, which protects nothing"),
        )
    })?;
    let platform = PlatformOffer {
        tee: Tee::Snp,
        backend: Backend::Snp,
        product: product(),
        guest_policy: Some(Hex(launches.variant().policy().0.to_be_bytes())),
        chip_id: None,
        tcb: None,
        simulated_root: None,
    };
    let mut arguments = vec!["host".into(), "keep".into()];
    arguments.extend(launches.arguments());
    settings(folder, platform, arguments, certificates()?)
}

/// The generation of this machine's CPU, if it is one with SEV-SNP.
fn product() -> Option<Name> {
    use enarx_doctor::{Host, Machine as _};
    let [eax, ..] = Host::new().cpuid(1)?;
    let generation = enarx_snp::product::CpuSignature::of_leaf_1(eax).generation()?;
    Some(Name::cleaned(generation.name))
}

/// The settings of a host with the simulated platform.
///
/// # Errors
/// [`Exit::Unavailable`] where no Keep of it could be started; when its keys cannot be read or made.
pub fn simulated(
    folder: &Path,
    machine: &Machine,
    launches: &Launches,
) -> Result<Settings, Failure> {
    enarx_backend::check(enarx_backend::Backend::Simulated)
        .map_err(|error| Failure::of(Exit::Unavailable, error.to_string()))?;
    let simulated = simulated::machine(&machine.options())?;
    let opened = open(&simulated)?;
    let debug = if simulated.debug {
        GuestPolicy::DEBUG.mask()
    } else {
        0
    };
    let policy = launches.variant().policy().0 | debug;
    let platform = PlatformOffer {
        tee: Tee::Simulated,
        backend: Backend::Sim,
        product: Some(Name::cleaned(simulated.settings.generation.name)),
        guest_policy: Some(Hex(policy.to_be_bytes())),
        chip_id: Some(Hex(opened.chip_id())),
        tcb: Some(Hex(opened.settings().tcb.reported.0)),
        simulated_root: Some(Hex(opened.root_digest())),
    };
    let mut arguments: Vec<OsString> = vec!["host".into(), "keep".into()];
    arguments.extend(machine.arguments());
    arguments.extend(launches.arguments());
    let certificates = opened.certificates();
    settings(folder, platform, arguments, Arc::new(Known(certificates)))
}

fn open(
    simulated: &enarx_vmm::platform::simulated::Simulated,
) -> Result<enarx_simulator::Machine, Failure> {
    // It takes seconds where the machine's keys are made.
    let progress = Progress::begin("enarx: making the keys of a simulated machine…");
    let machine = simulated::open(simulated);
    drop(progress);
    machine
}

/// The digest of a simulated machine's root, which a policy names to accept it.
///
/// # Errors
/// As [`simulated()`].
pub fn simulated_root(machine: &Machine) -> Result<String, Failure> {
    let machine = open(&simulated::machine(&machine.options())?)?;
    Ok(Hex(machine.root_digest()).to_string())
}

/// The certificates of the one simulated chip, whatever chip is asked for: a verifier finds out if they do not fit.
struct Known(Certificates);

impl Collaterals for Known {
    fn get(&self, _: &[u8; 64], _: &[u8; 8]) -> Option<Collateral> {
        let Certificates {
            vek,
            ask,
            ark,
            crl,
            issuer_crl,
        } = self.0.clone();
        Some(Collateral {
            vek: Base64(vek),
            ask: Base64(ask),
            ark: Base64(ark),
            crls: [Some(crl), issuer_crl]
                .into_iter()
                .flatten()
                .map(Base64)
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_blocked_thread_does_not_delay_the_end() {
        let begun = Instant::now();
        let done = block_on(async {
            // As a look-up whose name server does not answer.
            let waits = tokio::task::spawn_blocking(|| {
                std::thread::sleep(Duration::from_mins(2));
            });
            let _ = tokio::time::timeout(Duration::from_millis(10), waits).await;
            7
        });
        assert_eq!(done.unwrap(), 7);
        assert!(begun.elapsed() < Duration::from_mins(1));
    }
}
