// SPDX-License-Identifier: Apache-2.0

//! The settings of a Keep, from flags, variables and an Enarx.toml together.

use std::time::Duration;

use enarx_configuration::sockets::Socket;
use enarx_configuration::{Certificate, Configuration, Limits, Serve};
use enarx_executor::addresses::{Addresses, Names, Policy};
use enarx_executor::grant::NetworkGrant;
use enarx_network::{RuleError, Rules};

use super::flags::{KeepArguments, MIN_MEMORY};
use super::ineffective;
use super::work::Work;
use crate::attest::Attestation;
use crate::failure::Failure;
use crate::options::{self, WasiName};
use crate::tls;
use crate::values::{self, Directory, given_or_from_environment};

/// The settings from flags and variables together.
pub struct Settings {
    pub variables: Vec<(String, String)>,
    /// Names of variables of this command that a program cannot be given.
    pub left_out: Vec<String>,
    pub directories: Vec<Directory>,
    pub timeout: Option<Duration>,
    pub limits: Limits,
    pub network: NetworkGrant,
    pub policy: Policy,
    pub issuers: Vec<Certificate>,
    pub sockets: Vec<Socket>,
}

impl Settings {
    /// The settings that flags, variables and an Enarx.toml name.
    ///
    /// # Errors
    /// [`crate::failure::Exit::Usage`] for wrong or contradictory flags; those of reading.
    pub fn new(arguments: &KeepArguments, work: &Work<'_>) -> Result<Self, Failure> {
        let workload = &work.workload;
        ineffective::of_limit(arguments, work.timeout)?;
        if arguments.memory < MIN_MEMORY {
            return Err(Failure::usage(format!(
                "--memory: a Keep needs at least {} MiB",
                MIN_MEMORY >> 20
            )));
        }
        let mut settings = Self {
            variables: workload.variables(given_or_from_environment(
                &arguments.variables,
                "ENARX_ENV",
                values::variable,
            )?),
            left_out: Vec::new(),
            directories: given_or_from_environment(
                &arguments.directories,
                "ENARX_DIR",
                values::directory,
            )?,
            timeout: work.timeout.or_else(|| options::timeout(&arguments.wasm)),
            limits: options::limits(&arguments.wasm),
            network: NetworkGrant::default(),
            policy: Policy::default(),
            issuers: Vec::new(),
            sockets: workload.sockets.clone(),
        };
        for (name, on) in &arguments.wasi {
            settings.wasi_option(*name, *on);
        }
        let mut rules = arguments.rules.rules()?;
        ineffective::of_network(arguments, settings.network, &rules)?;
        settings.admit(&workload.rules, &mut rules)?;
        settings.narrow(rules);
        ineffective::of_issuers(arguments, settings.network, workload.uses_web_issuers())?;
        if let Some(file) = &arguments.tls_roots {
            settings.issuers = tls::issuers(file)?;
        }
        Ok(settings)
    }

    /// Adds the rules that the sockets of an Enarx.toml need to those of the flags, unless everything is
    /// already allowed.
    fn admit(&mut self, own: &Rules, rules: &mut Rules) -> Result<(), Failure> {
        let everywhere = self.network.tcp && rules.connect.is_empty() && rules.listen.is_empty();
        if !everywhere {
            rules.add(own);
        } else if !self.network.name_lookup {
            for host in own.hosts() {
                let rule = host.as_str().parse();
                rules
                    .resolve
                    .push(rule.map_err(|error: RuleError| Failure::data(error.to_string()))?);
            }
        }
        self.network.tcp |= own.uses().tcp;
        Ok(())
    }

    /// Restricts the network to rules, and enables the uses that they need. Without rules the options
    /// decide.
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

    pub fn configuration(
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
                tls: server.tls.clone(),
                listen: None,
                insecure_http: false,
            }),
            issuers: self.issuers.clone(),
            sockets: self.sockets.clone(),
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
