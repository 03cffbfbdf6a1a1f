// SPDX-License-Identifier: Apache-2.0

//! `enarx deploy`: an application on a host that nobody trusts. The deploying is `enarx-agent`'s.

use std::collections::HashSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use enarx_agent::{
    DeployError, Deployed, Ending, Fault, Key, Order, Platforms, Queue, Refused, Secret, Stop,
    Target, Ticket, Times, deploy, deploy_detached, end_keep_at,
};
use enarx_attestation::reference::PlatformKind;
use enarx_attestation::{Overall, Policy};
use enarx_configuration::Configuration;
use enarx_contract::canonical::Hex;
use enarx_contract::{Doors, Image, Resources, Tee};
use enarx_manager::{Manager, Settings};
use enarx_manager_api::PlatformOffer;
use enarx_network::Rules;
use enarx_session::Refusal;
use enarx_session::binding::State;
use enarx_session::deployment::{
    Delivery, Detached, MAX_FILE_BYTES, MAX_SECRET, Output, Sink, WhenFull,
};
use enarx_session::document::ExitKind;
use tokio::time::{sleep, sleep_until};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};
use crate::host::{self, serve};
use crate::images;
use crate::input::{in_time, read_up_to};
use crate::options::{self, WasmOption};
use crate::rules::NetworkRules;
use crate::summary::{self, Json, Summary};
use crate::trust::TrustArguments;
use crate::workload::{Stream, Workload};
use crate::{ends, hosts, policy, receipt, run, tickets, values};

/// Least granularity of a Keep's memory, in bytes: a large page.
const GRANULE: u64 = 2 << 20;
/// Memory of a Keep unless `--memory` says otherwise, in bytes, and its virtual CPUs unless `--vcpus` does.
const MEMORY: u64 = 1 << 30;
const VCPUS: u32 = 1;
/// Most virtual CPUs of a Keep.
pub const MAX_VCPUS: u32 = 62;
/// Longest token in bytes that is read from a file.
const MAX_TOKEN: u64 = 4096;
/// How long a contract holds, and how long a Keep waits for its application, in seconds.
const VALID: u32 = 24 * 3600;
const UNPROVISIONED: u32 = 120;
/// How long the application may run, in seconds, unless `--timeout` says less.
pub const RUNTIME: u32 = 30 * 24 * 3600;
/// How long an application goes on without its tenant, in seconds: long enough for a connection that comes back.
const DETACHED: u32 = 60;
/// The same with `--detach`, in seconds: the most that a host allows unless its owner says otherwise.
pub const LONG_DETACHED: u32 = 24 * 3600;
/// Bytes of each output that the Keep keeps until they have arrived.
const BUFFER: u32 = 1 << 20;
/// How long an application has to end by itself after the first SIGINT.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long the Keep may take beyond that to tell the end.
const ANSWER: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  enarx deploy --local hello.wasm
  enarx deploy --to https://host.example:9443#sha256=… --token-file token --policy policy.toml app.wasm -- --verbose
  enarx deploy --to … --token-file token --policy policy.toml --secret API_KEY=key.txt --file etc/app.conf=app.conf app.wasm";

/// Run a WebAssembly program on a host that nobody trusts
///
/// The host starts a Keep and sees none of what runs in it. The Keep proves to this command what it is; only if the policy
/// accepts that, the program, its arguments, variables, files and secrets leave this machine, encrypted to that Keep. Of several
/// hosts (--to more than once) the first is taken whose evidence is accepted.
///
/// --local plays both sides on this machine with the simulated platform, by the same code. It shows how it goes and protects
/// nothing.
#[derive(Args)]
#[command(after_help = EXAMPLES, override_usage = "enarx deploy [OPTIONS] <MODULE> [-- ARGS...]")]
pub struct Arguments {
    /// A host, as its `enarx host serve` prints it; may be repeated [env: ENARX_TO, one per line]
    #[arg(long = "to", value_name = "URL")]
    to: Vec<String>,
    /// Hosts in the order in which they are asked, each with a token of its own: a TOML file with [[host]], to and
    /// token-file [env: ENARX_HOSTS]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "token_files"])]
    hosts: Option<PathBuf>,
    /// The token for the host; one for all hosts, or one for each in their order [env: ENARX_TOKEN_FILE, one per line]
    #[arg(long = "token-file", value_name = "FILE")]
    token_files: Vec<PathBuf>,
    /// A policy file, or the name of a built-in policy: `enarx policy new` prints one for this build
    #[arg(long, value_name = "FILE|NAME", env = "ENARX_POLICY")]
    policy: Option<String>,
    /// Play host and tenant on this machine, with the simulated platform, which protects nothing
    #[arg(long, conflicts_with_all = ["to", "token_files", "hosts"], env = "ENARX_LOCAL")]
    local: bool,
    #[command(flatten)]
    trust: TrustArguments,
    /// Properties of the simulated platform of --local, as of `enarx run`
    #[arg(
        long = "sim",
        value_name = "NAME=VALUE",
        env = "ENARX_SIM",
        value_delimiter = ',',
        value_parser = host::said
    )]
    simulated: Vec<host::Said>,
    /// Take arguments, variables and standard streams from an Enarx.toml as of Enarx 0.7, without network; what is given
    /// here counts more
    #[arg(long, value_name = "FILE", env = "ENARX_CONFIG")]
    config: Option<PathBuf>,
    /// Set an environment variable of the program; NAME alone passes this command's value
    #[arg(long = "env", value_name = "NAME[=VALUE]", value_parser = values::variable)]
    variables: Vec<(String, String)>,
    /// Give the program the content of a file as a variable
    #[arg(long = "secret", value_name = "NAME=FILE", value_parser = variable_file)]
    secrets: Vec<(String, PathBuf)>,
    /// Give the program a file below /run/secrets
    #[arg(long = "secret-file", value_name = "NAME=FILE", value_parser = named_file)]
    secret_files: Vec<(String, PathBuf)>,
    /// Give the program a file that it can read, in its private file system
    #[arg(long = "file", value_name = "GUEST=FILE", value_parser = named_file)]
    files: Vec<(String, PathBuf)>,
    #[command(flatten)]
    rules: NetworkRules,
    /// Return when the program runs, and print the name for `enarx attach`; it may run a day without this command
    #[arg(long, conflicts_with = "local")]
    detach: bool,
    /// Memory of the Keep, the compiler's included
    #[arg(long, value_name = "SIZE", default_value = "1G", env = "ENARX_MEMORY", value_parser = values::size, allow_negative_numbers = true)]
    memory: u64,
    /// Virtual CPUs of the Keep
    #[arg(long, value_name = "N", default_value = "1", env = "ENARX_VCPUS", value_parser = clap::value_parser!(u32).range(1..=62), allow_negative_numbers = true)]
    vcpus: u32,
    /// End the program after this time (10, 10s, 2m): the Keep does so itself, in whole seconds of its own clock; and this
    /// command has it stop at that time after its own beginning, before it reads any file, and waits no longer than a grace,
    /// whatever the host does
    #[arg(long, value_name = "DURATION", env = "ENARX_TIMEOUT", value_parser = values::duration, allow_negative_numbers = true)]
    timeout: Option<Duration>,
    /// If no host has room, ask again until one has, for this time at most (10, 10s, 2m); --timeout counts meanwhile
    #[arg(long, value_name = "DURATION", env = "ENARX_WAIT", value_parser = values::duration, allow_negative_numbers = true, conflicts_with = "local")]
    wait: Option<Duration>,
    /// Call this exported function with the arguments, and print its results
    #[arg(long, value_name = "NAME", env = "ENARX_INVOKE")]
    invoke: Option<String>,
    /// Options of the engine, as of `enarx run`
    #[arg(short = 'W', long = "wasm", value_name = "NAME[=VALUE]", env = "ENARX_WASM", value_delimiter = ',', value_parser = options::wasm)]
    wasm: Vec<WasmOption>,
    #[command(flatten)]
    pub shown: Shown,
    /// The program: a module, a component, or either as text (.wat)
    #[arg(value_name = "MODULE")]
    module: PathBuf,
    /// Its arguments
    #[arg(value_name = "ARGS", last = true)]
    rest: Vec<String>,
}

/// The parts of a run that are shown.
#[derive(Args)]
pub struct Shown {
    /// Write the receipt of the run to this file, and beside it FILE.certs, FILE.contract and FILE.deployment, which verify it
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Do not say which host it was and what its evidence shows
    #[arg(long, short, env = "ENARX_QUIET")]
    quiet: bool,
    /// Print where the time goes
    #[arg(long, env = "ENARX_TIMINGS")]
    timings: bool,
    #[command(flatten)]
    pub json: Json,
}

/// `NAME=FILE`.
fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            // The root of the private file system is where all paths start.
            let name = name.strip_prefix('/').unwrap_or(name);
            Ok((name.to_owned(), file.into()))
        }
        _ => Err("write NAME=FILE".to_owned()),
    }
}

/// `NAME=FILE` with the name of a variable.
fn variable_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text
        .split_once('=')
        .filter(|(_, file)| !file.is_empty())
        .ok_or("write NAME=FILE")?;
    if !values::is_plain_name(name) {
        return Err(format!(
            "`{name}` is no name for a variable: use letters, digits and _, or deliver a file with --secret-file"
        ));
    }
    Ok((name.to_owned(), file.into()))
}

/// The first name that is there twice.
fn twice<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(*name))
}

impl Shown {
    /// Checks that what is to be written can be, before there is anything to be told.
    ///
    /// # Errors
    /// [`Exit::Usage`] for two that go to the same place; [`Exit::Output`].
    pub fn check(&self) -> Result<(), Failure> {
        let receipt = self.receipt.iter().flat_map(|path| receipt::places(path));
        let mut places = HashSet::new();
        for path in receipt.chain(self.json.file().map(Path::to_owned)) {
            if !places.insert(values::place(&path)) {
                return Err(Failure::usage(format!(
                    "--json and --receipt would both write to {}: name two files",
                    path.display()
                )));
            }
        }
        self.json.check()?;
        self.receipt.as_deref().map_or(Ok(()), receipt::check)
    }
}

/// This build's images, as far as the policy could accept them at all.
struct Own {
    simulated: bool,
}

/// This build's image for a platform, with so many virtual CPUs; `None` where nothing is measured.
pub fn image(offer: &PlatformOffer, vcpus: u32) -> Option<Image> {
    let kind = match offer.tee {
        Tee::Snp => PlatformKind::Snp,
        Tee::Simulated => PlatformKind::Simulated,
        Tee::None => return None,
    };
    let digests = images::launch_digests(kind).ok()?;
    let (_, digest) = digests.into_iter().find(|(count, _)| *count == vcpus)?;
    Some(Image {
        release: None,
        measurement: Hex(digest.0),
    })
}

/// The resources of a Keep with so much memory, in bytes.
pub fn resources(vcpus: u32, memory: u64) -> Resources {
    let memory = memory.max(run::MIN_MEMORY);
    Resources {
        vcpus,
        memory: memory.checked_next_multiple_of(GRANULE).unwrap_or(memory),
    }
}

/// The resources that a deployment without options asks for.
pub fn plain_resources() -> Resources {
    resources(VCPUS, MEMORY)
}

impl Platforms for Own {
    fn image(&self, offer: &PlatformOffer, vcpus: u32) -> Option<Image> {
        image(offer, vcpus)
    }

    fn accepts(&self, tee: Tee) -> bool {
        match tee {
            Tee::Snp => true,
            Tee::Simulated => self.simulated,
            Tee::None => false,
        }
    }
}

impl Arguments {
    fn configuration(
        &self,
        workload: &Workload,
        rules: &Rules,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let configuration = Configuration {
            args: run::program_arguments(&self.module, workload.arguments(self.rest.clone())),
            env: workload.variables(self.variables.clone()),
            directories: Vec::new(),
            terminals: workload.terminals(),
            invoke: self.invoke.clone(),
            limits: run::limits(&self.wasm),
            network: rules.uses(),
            timings: false,
            attest: None,
            serve: None,
            issuers: Vec::new(),
            // The Keep would refuse both: see keep/runtime.
            precompiled: false,
            compile: None,
        };
        run::encode(&configuration).map(Zeroizing::new)
    }

    fn secrets(&self, end: Option<Instant>) -> Result<Vec<Secret>, Failure> {
        let kinds = [
            (&self.secrets, Delivery::Env),
            (&self.secret_files, Delivery::File),
        ];
        let all = kinds
            .into_iter()
            .flat_map(|(list, delivery)| list.iter().map(move |entry| (entry, delivery)));
        if let Some(name) = twice(all.clone().map(|((name, _), _)| name.as_str())) {
            return Err(Failure::usage(format!(
                "the secret {name} is given twice: a name is that of one variable or of one file"
            )));
        }
        all.map(|((name, path), delivery)| {
            let value = in_time(path, end, |path| {
                read_up_to(path, MAX_SECRET).map(Zeroizing::new)
            })?;
            let is_text = std::str::from_utf8(&value).is_ok_and(|text| !text.contains('\0'));
            if delivery == Delivery::Env && !is_text {
                return Err(Failure::data(format!(
                    "{}: the secret {name} is not text in UTF-8 without NUL, as a variable has to be: deliver it with --secret-file",
                    path.display()
                )));
            }
            Ok(Secret {
                name: name.clone(),
                delivery,
                value,
            })
        })
        .collect()
    }

    /// The time limit, by either of its flags.
    fn limit(&self) -> Option<Duration> {
        self.timeout.or_else(|| run::timeout(&self.wasm))
    }

    fn order(&self, workload: &Workload, end: Option<Instant>) -> Result<Order, Failure> {
        if let Some(guest) = twice(self.files.iter().map(|(guest, _)| guest.as_str())) {
            return Err(Failure::usage(format!("--file {guest}: it is given twice")));
        }
        let files = self.files.iter().map(|(guest, path)| {
            let contents = in_time(path, end, |path| read_up_to(path, MAX_FILE_BYTES))?;
            Ok((guest.clone(), contents))
        });
        let seconds = |limit: Duration| {
            let whole = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
            u32::try_from(whole).unwrap_or(RUNTIME).clamp(1, RUNTIME)
        };
        let rules = self.rules.rules()?;
        Ok(Order {
            application: in_time(&self.module, end, run::read_module)?,
            configuration: self.configuration(workload, &rules)?,
            files: files.collect::<Result<_, Failure>>()?,
            secrets: self.secrets(end)?,
            output: Output {
                stdout: Some(Sink::Session),
                stderr: Some(Sink::Session),
            },
            detached: Detached {
                seconds: if self.detach { LONG_DETACHED } else { DETACHED },
                buffer_bytes: BUFFER,
                when_full: WhenFull::Block,
            },
            doors: Doors::of(rules),
            resources: resources(self.vcpus, self.memory),
            times: Times {
                valid_seconds: VALID,
                unprovisioned_seconds: UNPROVISIONED,
                runtime_seconds_max: self.limit().map_or(RUNTIME, seconds),
            },
            unattested: None,
            queue: self.wait.map(|within| Queue {
                within,
                tell: if self.shown.quiet { |_| {} } else { waits },
            }),
        })
    }

    /// The list of hosts, if one is named. A flag counts more than a variable.
    fn list(&self) -> Result<Option<PathBuf>, Failure> {
        if self.hosts.is_some() || !self.to.is_empty() {
            return Ok(self.hosts.clone());
        }
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(list) = variable("ENARX_HOSTS") else {
            return Ok(None);
        };
        if variable("ENARX_TO").is_some() {
            return Err(Failure::usage(
                "ENARX_HOSTS and ENARX_TO both say to whom: unset one, or give --hosts or --to",
            ));
        }
        if !self.token_files.is_empty() {
            return Err(Failure::usage(
                "--token-file is for hosts of --to, and the list in ENARX_HOSTS has a token for each host: give --to, or leave --token-file out",
            ));
        }
        Ok(Some(list.into()))
    }

    fn targets(&self, end: Option<Instant>) -> Result<Vec<Target>, Failure> {
        if let Some(list) = self.list()? {
            let listed = in_time(&list, end, hosts::read)?;
            return listed
                .iter()
                .map(|host| target(&host.to, in_time(&host.token_file, end, read_token)?))
                .collect();
        }
        let to = run::or_from_environment(&self.to, "ENARX_TO", |line| Ok(line.to_owned()))?;
        if to.is_empty() {
            return Err(Failure::usage(
                "name a host with --to, as its `enarx host serve` prints it, or a list of hosts with --hosts, or try --local",
            ));
        }
        let tokens = tokens(&self.token_files, end)?;
        if tokens.len() != 1 && tokens.len() != to.len() {
            return Err(Failure::usage(format!(
                "--token-file: give one for all hosts, or one for each of the {} in their order",
                to.len()
            )));
        }
        if tokens.len() < to.len() {
            say!(
                "enarx: one token is shown to all {} hosts, and each could use it at the others: give one for each (--token-file for each, or --hosts)",
                to.len()
            );
        }
        let tokens = tokens.iter().cycle();
        let targets = to.iter().zip(tokens);
        targets
            .map(|(to, token)| target(to, token.clone()))
            .collect()
    }
}

fn target(to: &str, token: Zeroizing<String>) -> Result<Target, Failure> {
    Target::parse(to, token).map_err(|error| Failure::usage(error.to_string()))
}

/// The tokens in these files, or in those that the environment names, read by `end`.
///
/// # Errors
/// [`Exit::Usage`] when none is named, and those of reading.
pub fn tokens(given: &[PathBuf], end: Option<Instant>) -> Result<Vec<Zeroizing<String>>, Failure> {
    let file = |line: &str| Ok(PathBuf::from(line));
    let files = run::or_from_environment(given, "ENARX_TOKEN_FILE", file)?;
    if files.is_empty() {
        return Err(Failure::usage(
            "name the file with the token for the host with --token-file",
        ));
    }
    files
        .iter()
        .map(|path| in_time(path, end, read_token))
        .collect()
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = Zeroizing::new(read_up_to(path, MAX_TOKEN)?);
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::data(format!("{} is not text: it is no token", path.display())))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut summary = Summary::default();
    let done = work(arguments, &mut summary);
    arguments.shown.json.end(summary, done).into()
}

fn work(arguments: &Arguments, summary: &mut Summary) -> Result<u8, Failure> {
    let due = arguments.limit().map(Due::begin);
    let end = due.map(|due| due.at);
    arguments.shown.check()?;
    let workload = match &arguments.config {
        Some(path) => in_time(path, end, |path| Workload::read(Some(path)))?,
        None => Workload::default(),
    };
    if !arguments.shown.quiet {
        workload.warn();
    }
    let order = arguments.order(&workload, end)?;
    let key = Key::generate().map_err(|error| Failure::of(Exit::Unavailable, error.to_string()))?;
    let runtime = serve::runtime()?;
    let deployment = Deployment {
        arguments,
        order,
        due,
        key: &key,
        streams: workload.streams,
    };
    let ending = if arguments.local {
        runtime.block_on(deployment.local(summary))
    } else {
        let targets = arguments.targets(end)?;
        let policy = arguments.policy.as_deref().ok_or_else(|| {
            Failure::usage(
                "name what you accept with --policy: `enarx policy new` prints one for this build",
            )
        })?;
        let policy = policy::load(policy)?;
        runtime.block_on(deployment.deploy_to(&targets, policy, summary))
    };
    // Standard input may wait for ever in a thread.
    runtime.shutdown_background();
    match ending? {
        (Ending::Complete(deployed), over) => {
            summary.complete(&deployed);
            show(&arguments.shown, &deployed, over)
        }
        (Ending::Detached(detached), _) => {
            let name = tickets::name(&detached.ticket);
            summary.detached(&detached, &name);
            if !arguments.shown.quiet {
                say!(
                    "enarx: it runs on {} without this command: `enarx attach {name}`",
                    detached.host
                );
            }
            outln!("{name}");
            Ok(0)
        }
    }
}

/// Has SIGINT stop what `stop` is for.
pub fn interrupts(stop: &Stop) -> tokio::task::JoinHandle<()> {
    let handle = stop.clone();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            handle.request();
        }
    })
}

/// The end of a deployment, and the time limit if that was over before.
type Ended = (Ending, Option<Duration>);

/// The time limit of a command, from its beginning.
#[derive(Clone, Copy)]
struct Due {
    after: Duration,
    at: Instant,
}

impl Due {
    fn begin(after: Duration) -> Self {
        /// A time that no command sees the end of, where the clock has no later one.
        const NEVER: Duration = Duration::from_secs(1 << 31);
        let now = Instant::now();
        let at = now.checked_add(after).unwrap_or(now + NEVER);
        // Whoever reads standard error may have stopped reading.
        if let Some(end) = at.checked_add(GRACE + ANSWER) {
            crate::output::limit_all(end);
        }
        Self { after, at }
    }
}

/// The tenant's own time limit: at its end the program is stopped, and after a grace it is left, whatever the host lets
/// through.
struct Limit {
    after: Duration,
    is_over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Limit {
    fn start(due: Due, stop: &Stop) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (stop, over) = (stop.clone(), is_over.clone());
        let task = tokio::spawn(async move {
            sleep_until(due.at.into()).await;
            over.store(true, Ordering::SeqCst);
            stop.stop();
            sleep(GRACE + ANSWER).await;
            stop.leave();
        });
        Self {
            after: due.after,
            is_over,
            task,
        }
    }

    /// The end of the deployment, in view of the limit.
    fn judge(
        &self,
        result: Result<Ending, DeployError>,
        summary: &mut Summary,
        keep: fn(&DeployError) -> Kept,
    ) -> Result<Ended, Failure> {
        self.task.abort();
        let is_over = self.is_over.load(Ordering::SeqCst);
        let reached = format!("the time limit of {:?} was reached", self.after);
        match result {
            Err(error) if is_over => {
                let kept = keep(&error);
                summary.failed(&error, kept.name());
                let (exit, what) = match &error {
                    DeployError::Cancelled => {
                        (Exit::TimedOut, "before anything was sent".to_owned())
                    }
                    DeployError::Failed(failed)
                        if !failed.started && matches!(failed.fault, Fault::Cancelled) =>
                    {
                        (Exit::TimedOut, "before the program ran".to_owned())
                    }
                    DeployError::Left { host, .. } => (
                        Exit::Fault,
                        format!(
                            "and no end of the program came from {host}: the host holds it back, or nobody reads the output"
                        ),
                    ),
                    other => {
                        let exit = failure(other, &kept).exit();
                        (exit, format!("and {other}"))
                    }
                };
                let sentence = format!("{reached} {what}{}", kept.rest(&error));
                Err(Failure::of(exit, sentence).named(error.code()))
            }
            Err(error) => Err(failed(&error, summary, keep)),
            Ok(ending) => Ok((ending, is_over.then_some(self.after))),
        }
    }
}

/// A deployment that is about to begin.
struct Deployment<'a> {
    arguments: &'a Arguments,
    order: Order,
    due: Option<Due>,
    key: &'a Key,
    streams: [Stream; 3],
}

impl Deployment<'_> {
    /// Deploys to hosts of others.
    async fn deploy_to(
        self,
        targets: &[Target],
        policy: Policy,
        summary: &mut Summary,
    ) -> Result<Ended, Failure> {
        let Self {
            arguments,
            order,
            due,
            key,
            streams: named,
        } = self;
        let stop = Stop::new(GRACE);
        let limit = due.map(|due| Limit::start(due, &stop));
        let interrupts = interrupts(&stop);
        let platforms = Own {
            simulated: !policy.insecure_simulated_roots.is_empty(),
        };
        let trust = arguments.trust.trust(policy)?;
        if arguments.detach {
            tickets::check()?;
        }
        let result = if arguments.detach {
            deploy_detached(targets, order, key, &trust, &platforms, &stop).await
        } else {
            let streams = ends::streams(named);
            deploy(targets, order, key, &trust, &platforms, streams, &stop)
                .await
                .map(|deployed| Ending::Complete(Box::new(deployed)))
        };
        interrupts.abort();
        let keep = if arguments.local {
            Kept::of_local
        } else {
            keep_ticket(&result, targets, summary).await?;
            Kept::of
        };
        if let Some(limit) = limit {
            return limit.judge(result, summary, keep);
        }
        let ending = result.map_err(|error| failed(&error, summary, keep))?;
        Ok((ending, None))
    }

    /// Plays the host, too: a manager of this process, on a port of this machine's own.
    async fn local(self, summary: &mut Summary) -> Result<Ended, Failure> {
        let arguments = self.arguments;
        if !arguments.shown.quiet {
            say!(
                "enarx: --local: this machine plays the host, too, on the simulated platform: it protects nothing (--quiet silences this)"
            );
        }
        let folder = tempfile::Builder::new()
            .prefix("enarx-local-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|error| {
                Failure::of(Exit::Output, format!("a folder for the host: {error}"))
            })?;
        let machine = host::Machine::with(arguments.simulated.clone());
        let settings = Settings {
            // Both sides are this one.
            doors: self.order.doors.clone(),
            ..serve::simulated(folder.path(), &machine, &host::Launches::default())?
        };
        let state = enarx_manager::State::open(folder.path());
        let token = state.and_then(|state| state.add_token("local"));
        let token = token.map_err(|error| Failure::of(Exit::Output, error.to_string()))?;
        let policy = match &arguments.policy {
            Some(named) => policy::load(named)?,
            None => policy::of_this_build(&settings.platforms)?,
        };
        let manager = Manager::bind(settings)
            .await
            .map_err(|error| Failure::new(error.to_string()))?;
        let targets = [target(&manager.to(), token)?];
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(manager.run(async {
            let _ = ended.await;
        }));
        let ending = self.deploy_to(&targets, policy, summary).await;
        let _ = end.send(());
        // Whatever became of the host, the deployment is done.
        let _ = serving.await;
        ending
    }
}

/// Keeps the ticket of a program that runs on, or may run on. Nobody could reach it without that, so it is ended then.
///
/// # Errors
/// [`Exit::Output`], with the name `ticket.lost`.
async fn keep_ticket(
    result: &Result<Ending, DeployError>,
    targets: &[Target],
    summary: &mut Summary,
) -> Result<(), Failure> {
    let (ticket, before) = match result {
        Ok(Ending::Detached(detached)) => (&detached.ticket, String::new()),
        Ok(Ending::Complete(_)) => return Ok(()),
        Err(error) => match ticket(error) {
            Some(ticket) => (ticket, format!("{error}; ")),
            None => return Ok(()),
        },
    };
    let Err(failure) = tickets::save(ticket) else {
        return Ok(());
    };
    let host = ticket.host();
    let what = match targets.iter().find(|target| target.name() == host) {
        Some(target) => match end_keep_at(ticket, target).await {
            Ok(()) => "so the program was ended".to_owned(),
            Err(error) => format!("and the program may run on, because {error}"),
        },
        None => format!("and the program may run on at {host}"),
    };
    if let Err(error) = result {
        summary.failed(error, None);
    }
    let sentence = format!("{before}{}, {what}", failure.sentence);
    Err(Failure::of(Exit::Output, sentence).named("ticket.lost"))
}

/// The ticket of a deployment that may run on.
fn ticket(error: &DeployError) -> Option<&Ticket> {
    match error {
        DeployError::Failed(failed) => failed.ticket.as_deref(),
        DeployError::Left { ticket, .. } => Some(ticket),
        _ => None,
    }
}

/// The ticket of a deployment that failed, kept for the next command.
pub enum Kept {
    /// There is none.
    Nothing,
    /// It has this name.
    Under(String),
    /// The one with this name could not be kept, for this reason.
    Lost(String, String),
    /// The host was this command: nothing runs on without it.
    Over,
}

impl Kept {
    /// Keeps the ticket, if the application may run on.
    pub fn of(error: &DeployError) -> Self {
        match ticket(error) {
            None => Self::Nothing,
            Some(ticket) => match tickets::save(ticket) {
                Ok(name) => Self::Under(name),
                Err(failure) => Self::Lost(tickets::name(ticket), failure.sentence),
            },
        }
    }

    /// The same where the host is this command and ends with it.
    fn of_local(error: &DeployError) -> Self {
        ticket(error).map_or(Self::Nothing, |_| Self::Over)
    }

    /// The name by which the deployment is found again.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Under(name) => Some(name),
            Self::Nothing | Self::Lost(..) | Self::Over => None,
        }
    }

    /// The end of a sentence about a failure: whether the program may run on, and how it is reached then.
    fn rest(&self, error: &DeployError) -> String {
        match (self, error) {
            (Self::Under(name), error) if is_unused(error) => format!(
                "; the Keep says that it has no application, so the last word of the delivery may never have reached it: `enarx keeps end {name}` ends it, and then deploy anew"
            ),
            (Self::Under(name), _) => format!(
                "; the program may have run, and may run on: `enarx attach {name}` goes on with it, `enarx stop {name}` ends it"
            ),
            (Self::Lost(name, why), _) => format!(
                "; the program may have run, and may run on: `enarx stop {name}` ends it, if there is a ticket of before; {why}"
            ),
            (Self::Over, _) => {
                "; the program may have run, and has ended with this command, which was its host, too"
                    .to_owned()
            }
            (Self::Nothing, DeployError::Failed(_)) => "; nothing ran".to_owned(),
            (Self::Nothing, _) => String::new(),
        }
    }
}

/// True if an application was delivered to a Keep that says it has none. Nothing proves that, as little as the contrary.
fn is_unused(error: &DeployError) -> bool {
    let DeployError::Failed(failed) = error else {
        return false;
    };
    matches!(
        failed.fault,
        Fault::Session(Refusal::State(State::Unprovisioned))
    )
}

/// Has the ticket of a deployment that failed kept, and takes it up into the summary.
pub fn failed(
    error: &DeployError,
    summary: &mut Summary,
    keep: fn(&DeployError) -> Kept,
) -> Failure {
    let kept = keep(error);
    summary.failed(error, kept.name());
    failure(error, &kept)
}

/// The failure of a deployment, whose ticket was kept so.
pub fn failure(error: &DeployError, kept: &Kept) -> Failure {
    let exit = match error {
        DeployError::Refused(_) => Exit::Refused,
        // It was asked, and what it has is not what the policy wants.
        DeployError::Unavailable(hosts) if hosts.iter().any(|host| host.fault.is_of_platform()) => {
            Exit::Refused
        }
        DeployError::Unavailable(hosts) if hosts.iter().any(|host| host.fault.is_passing()) => {
            Exit::Network
        }
        DeployError::Failed(failed) if failed.fault.is_of_output() => Exit::Output,
        DeployError::Failed(failed) if failed.fault.is_of_evidence() => Exit::Refused,
        DeployError::Failed(_) => Exit::Fault,
        DeployError::Order(_) | DeployError::Policy(_) => Exit::Data,
        DeployError::NoTarget => Exit::Usage,
        DeployError::Unavailable(_) | DeployError::Left { .. } | DeployError::Cancelled => {
            Exit::Other
        }
    };
    let advice = match error {
        DeployError::Unavailable(hosts) if hosts.iter().any(|host| host.fault.is_full()) => {
            "; --wait waits until there is room"
        }
        _ => "",
    };
    Failure::of(exit, format!("{error}{advice}{}", kept.rest(error))).named(error.code())
}

/// Says which hosts are waited for.
fn waits(hosts: &[Refused]) {
    for host in hosts.iter().filter(|host| host.fault.is_full()) {
        say!("enarx: waiting for room (--wait): {host}");
    }
}

/// Shows the end of a run; `over` is the tenant's time limit, if that was reached before.
pub fn show(arguments: &Shown, deployed: &Deployed, over: Option<Duration>) -> Result<u8, Failure> {
    if !arguments.quiet {
        let overall = deployed.verdict.as_ref().map(|verdict| verdict.overall);
        let shown = match overall {
            Some(Overall::Simulated) => {
                "its evidence is accepted as simulated, which protects nothing"
            }
            Some(_) => "its evidence is accepted",
            None => "nothing shows what the Keep was",
        };
        for host in &deployed.passed_over {
            say!("enarx: passed over {host}");
        }
        say!("enarx: ran on {}: {shown}", deployed.host);
    }
    if deployed.verdict.is_some() && deployed.receipt_verdict.is_none() {
        say!(
            "enarx: the receipt has no report, because the host let none through in time: it shows others nothing"
        );
    }
    if arguments.timings {
        say!("enarx: deploy: claim {}", deployed.timings.claim.name());
        for (phase, duration) in summary::phases(&deployed.timings) {
            say!("enarx: deploy: {phase} {} us", duration.as_micros());
        }
        let started = deployed.started.iter().flat_map(|started| &started.timings);
        for timing in started {
            say!("enarx: keep: {} {} us", timing.phase.as_str(), timing.us);
        }
    }
    if let Some(path) = &arguments.receipt {
        receipt::write(path, deployed)?;
    }
    let missing = deployed
        .missing_stdout
        .saturating_add(deployed.missing_stderr);
    if missing > 0 {
        return Err(Failure::of(
            Exit::Output,
            format!("{missing} bytes of the program's output are lost: another command took them"),
        )
        .named("output.missing"));
    }
    let exit = deployed.exit;
    match exit.kind {
        // As a shell sees it: the lower 8 bits.
        ExitKind::Exited | ExitKind::Trapped | ExitKind::Failed => Ok(exit.code.to_le_bytes()[0]),
        ExitKind::Stopped => Err(match over {
            None => Failure::new("the program was stopped before its end").named("program.stopped"),
            Some(limit) => Failure::of(
                Exit::TimedOut,
                format!(
                    "the time limit of {limit:?} was reached and the program was ended: give --timeout more"
                ),
            ),
        }),
        ExitKind::Expired => Err(Failure::of(
            Exit::TimedOut,
            "the program's time was over and the Keep ended it: give --timeout more",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    #[test]
    fn a_plain_deployment_asks_for_the_resources_of_the_default_class() {
        let command = Arguments::augment_args(Command::new("deploy"));
        let default = |name: &str| {
            let argument = command.get_arguments().find(|found| found.get_id() == name);
            let values = argument.expect("an option").get_default_values();
            values[0].to_str().expect("text").to_owned()
        };
        assert_eq!(values::size(&default("memory")), Ok(MEMORY));
        assert_eq!(default("vcpus").parse(), Ok(VCPUS));
    }
}
