// SPDX-License-Identifier: Apache-2.0

//! The tenant's order: the agent's delivery, made from files and flags.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use enarx_agent::{Order, Queue, Refused, Secret, Started, Times};
use enarx_configuration::{Configuration, Serve};
use enarx_contract::Doors;
use enarx_network::Rules;
use enarx_session::deployment::{
    Delivery, Detached, MAX_FILE_BYTES, MAX_SECRET, Output, Sink, WhenFull,
};
use enarx_session::paths;
use zeroize::Zeroizing;

use super::flags::Arguments;
use super::program::read_program;
use crate::failure::Failure;
use crate::input::{in_time, read_up_to};
use crate::local::parts::{encode, program_arguments};
use crate::resources::{LONG_DETACHED, RUNTIME, resources};
use crate::typed::Flag;
use crate::workload::Workload;
use crate::{options, tls};

/// Validity of a contract, and time that a Keep waits for its application, in seconds.
const VALID: u32 = 24 * 3600;
const UNPROVISIONED: u32 = 120;
/// Time that an application continues without its tenant, in seconds: long enough for
/// reconnecting.
const DETACHED: u32 = 60;
/// Bytes of each output that the Keep buffers until they are acknowledged. Four windows of
/// the session: with one, the application would wake for half of it, and waking a thread of
/// a Keep costs more than the writes that follow.
const BUFFER: u32 = 4 << 20;

/// An order, and its target.
pub struct Ordered {
    /// The order.
    pub order: Order,
    /// The program answers HTTP requests.
    pub is_server: bool,
}

/// The first name that is there twice.
fn twice<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.find(|name| !seen.insert(*name))
}

impl Arguments {
    fn configuration(
        &self,
        workload: &Workload,
        rules: &Rules,
        serve: Option<Serve>,
        end: Option<Instant>,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let roots = self.tls_roots.as_deref();
        let issuers = roots.map(|file| in_time(file, end, tls::issuers));
        let configuration = Configuration {
            args: program_arguments(&self.module, workload.arguments(self.rest.clone())),
            env: workload.variables(self.variables.clone()),
            directories: Vec::new(),
            terminals: workload.terminals(),
            invoke: self.invoke.clone(),
            limits: options::limits(&self.wasm),
            network: rules.uses(),
            timings: false,
            attest: None,
            serve,
            issuers: issuers.transpose()?.unwrap_or_default(),
            sockets: workload.sockets.clone(),
            // The deployment says it.
            precompiled: false,
            compile: None,
        };
        encode(&configuration).map(Zeroizing::new)
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
                "the secret {name} is given twice: a name is for one variable or one file"
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
    pub fn limit(&self) -> Option<Duration> {
        self.timeout.or_else(|| options::timeout(&self.wasm))
    }

    /// The order, from files that are read by `end`.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Usage`] for a name that is given twice,
    /// [`crate::failure::Exit::Data`] for a secret that cannot be a variable, those of
    /// [`Self::server`], and those of reading.
    pub fn order(&self, workload: &mut Workload, end: Option<Instant>) -> Result<Ordered, Failure> {
        if let Some(guest) = twice(self.files.iter().map(|(guest, _)| guest.as_str())) {
            return Err(Failure::usage(format!("--file {guest}: it is given twice")));
        }
        let mut guests: Vec<&str> = self.files.iter().map(|(guest, _)| guest.as_str()).collect();
        guests.sort_by(|a, b| paths::compare(a, b));
        for pair in guests.windows(2) {
            if let [outer, inner] = pair
                && paths::lies_in(inner, outer)
            {
                return Err(Failure::usage(format!(
                    "--file {inner}: --file {outer} is a file already, so it cannot contain anything"
                )));
            }
        }
        let files = self.files.iter().map(|(guest, path)| {
            let contents = in_time(path, end, |path| read_up_to(path, MAX_FILE_BYTES))?;
            Ok((guest.clone(), contents))
        });
        let seconds = |limit: Duration| {
            let whole = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
            u32::try_from(whole).unwrap_or(RUNTIME).clamp(1, RUNTIME)
        };
        let mut rules = self.rules.rules()?;
        let has_network = [&rules, &workload.rules]
            .iter()
            .any(|it| !(it.connect.is_empty() && it.listen.is_empty()));
        self.typed.refuse_unless(has_network, Flag::TlsRoots, || {
            "--tls-roots: the program has no network, so it reaches no server; give it one with --allow-connect, or leave it out"
                .to_owned()
        })?;
        let allowed = self.allow_precompiled;
        let program = in_time(&self.module, end, move |path| read_program(path, allowed))?;
        let server = self.server(&program, workload, end)?;
        if workload.uses_web_issuers() && self.tls_roots.is_none() {
            return Err(Failure::data(
                "an Enarx.toml to be deployed: no issuers of the web are sent along: name issuers with --tls-roots, or \
                those of the server by roots = \"file:NAME\"",
            ));
        }
        rules.add(&workload.rules);
        let native = program.source.is_some();
        if native && self.detach {
            return Err(Failure::usage(
                "--detach: nobody could attach to native code again, because its Keep gives no evidence after the code \
                has started: deploy the WebAssembly",
            ));
        }
        let serve = server.as_ref().map(|server| server.serve.clone());
        let configuration = self.configuration(workload, &rules, serve, end)?;
        // The Keep opens this one: the program needs no permission for it.
        rules
            .listen
            .extend(server.as_ref().map(|server| server.door));
        let is_server = server.is_some();
        let quiet = self.shown.quiet;
        let order = Order {
            application: program.bytes,
            source: program.source,
            configuration,
            files: files.collect::<Result<_, Failure>>()?,
            secrets: self.secrets(end)?,
            output: Output {
                stdout: Some(Sink::Session),
                stderr: Some(Sink::Session),
            },
            detached: Detached {
                seconds: match (native, self.detach) {
                    (true, _) => 0,
                    (false, true) => LONG_DETACHED,
                    (false, false) => DETACHED,
                },
                buffer_bytes: BUFFER,
                // Anybody can ask a server, and have it write lines to its log: they are not to stop it.
                when_full: if is_server {
                    WhenFull::Drop
                } else {
                    WhenFull::Block
                },
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
                tell: if quiet { |_| {} } else { waits },
            }),
            started: server
                .filter(|_| !quiet)
                .map(|server| -> Started { Box::new(move |host| server.announce(host)) }),
        };
        Ok(Ordered { order, is_server })
    }
}

/// Says which hosts are waited for.
fn waits(hosts: &[Refused]) {
    for host in hosts.iter().filter(|host| host.fault.is_full()) {
        say!("enarx: waiting for room (--wait): {host}");
    }
}
