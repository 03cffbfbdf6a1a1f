// SPDX-License-Identifier: Apache-2.0

//! The rules for the network on the command line: those of a run, of a deployment, and of a host. All are the same text.

use std::fmt::Display;
use std::str::FromStr;

use clap::Args;
use enarx_network::{ConnectRule, ListenRule, NameRule, Rules};

use crate::failure::Failure;
use crate::values::given_or_from_environment;

/// Reads a rule; what is wrong with it becomes a sentence.
fn rule<T: FromStr>(text: &str) -> Result<T, String>
where
    T::Err: Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[derive(Args)]
pub struct NetworkRules {
    /// Allow connections and datagrams to this peer, and to no other that is not named: an address, a network or the
    /// name of a host, with a port or a range of ports, and /tcp or /udp for one of the two. This machine, its link and
    /// metadata services must be named by address [env: ENARX_ALLOW_CONNECT, one per line]
    #[arg(id = "allow-connect", long = "allow-connect", value_name = "HOST|CIDR[:PORTS]", value_parser = rule::<ConnectRule>)]
    connect: Vec<ConnectRule>,

    /// Allow listening for connections and datagrams on these ports, at all addresses or at this one, and nowhere that
    /// is not named [env: ENARX_ALLOW_LISTEN, one per line]
    #[arg(id = "allow-listen", long = "allow-listen", value_name = "[ADDR:]PORTS", value_parser = rule::<ListenRule>)]
    listen: Vec<ListenRule>,

    /// Allow looking up this name, or with *. all names below it, in addition to those of --allow-connect, and no other
    /// [env: ENARX_ALLOW_RESOLVE, one per line]
    #[arg(id = "allow-resolve", long = "allow-resolve", value_name = "NAME|*.NAME", value_parser = rule::<NameRule>)]
    resolve: Vec<NameRule>,
}

impl NetworkRules {
    /// The rules of the flags, or else of the variables.
    ///
    /// # Errors
    /// [`Exit::Usage`](crate::failure::Exit::Usage) when a line of a variable is no rule.
    pub fn rules(&self) -> Result<Rules, Failure> {
        Ok(Rules {
            connect: given_or_from_environment(&self.connect, "ENARX_ALLOW_CONNECT", rule)?,
            listen: given_or_from_environment(&self.listen, "ENARX_ALLOW_LISTEN", rule)?,
            resolve: given_or_from_environment(&self.resolve, "ENARX_ALLOW_RESOLVE", rule)?,
        })
    }
}
