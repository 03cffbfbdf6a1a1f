// SPDX-License-Identifier: Apache-2.0

//! Where in the network a Keep may go: rules that narrow the permissions of its grant.
//!
//! A name of a rule is looked up once, when the Keep asks for it first: by the confined process that looks up names, and
//! after a start that waits for no name server. From then on it has these addresses for the Keep's life, whatever name
//! servers say later, and only those that a name may have.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use enarx_confine::landlock::Tcp;
use enarx_network::{
    ConnectRule, HostName, ListenRule, NameRule, Peer, Ports, Protocol, Rules, destination,
    is_guarded,
};
use enarx_sallyport::Status;
use enarx_sallyport::call::RESOLVED_MAX;

use crate::answer::Result;

/// The rules of a grant. Without any, everything is allowed that the network permissions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Where to connect, and where to wait.
    pub addresses: Addresses,
    /// Which names to look up.
    pub names: Names,
}

/// Addresses of the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Everywhere.
    #[default]
    All,
    /// Where these rules say, and nowhere else.
    Only {
        /// Where connections and datagrams may go.
        connect: Vec<ConnectRule>,
        /// Where connections and datagrams may be waited for.
        listen: Vec<ListenRule>,
    },
}

/// Names that are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Every name.
    #[default]
    All,
    /// The names of these rules, and those that connections may go to.
    Only(Vec<NameRule>),
}

/// Most ports that Landlock gets individually; if rules name more, only the executor checks ports.
const MAX_LANDLOCK_PORTS: usize = 1024;

impl Policy {
    /// The policy of these rules: nothing else is allowed.
    #[must_use]
    pub fn only(rules: Rules) -> Self {
        Self {
            addresses: Addresses::Only {
                connect: rules.connect,
                listen: rules.listen,
            },
            names: Names::Only(rules.resolve),
        }
    }

    /// The part of TCP that stays allowed without checking addresses: the ports.
    pub(crate) fn tcp(&self) -> Tcp {
        let Addresses::Only { connect, listen } = &self.addresses else {
            return Tcp::All;
        };
        let connect = connect.iter().map(|rule| (rule.ports, rule.protocol));
        let listen = listen.iter().map(|rule| (rule.ports, rule.protocol));
        let bind = numbers(listen).map(|mut ports| {
            // A client uses a port that the kernel chooses.
            ports.push(0);
            ports
        });
        Tcp::Ports {
            connect: numbers(connect),
            bind,
        }
    }

    /// True if a connection may go to a host of this name.
    fn connects_to_host(&self, name: &HostName) -> bool {
        match &self.addresses {
            Addresses::All => false,
            Addresses::Only { connect, .. } => connect
                .iter()
                .any(|rule| matches!(&rule.peer, Peer::Host(host) if host == name)),
        }
    }
}

/// The ports of TCP; `None` when they are too many to be named one by one.
fn numbers(rules: impl Iterator<Item = (Ports, Option<Protocol>)>) -> Option<Vec<u16>> {
    let of_tcp = rules.filter(|(_, protocol)| *protocol != Some(Protocol::Udp));
    let numbers: Vec<u16> = of_tcp
        .flat_map(|(ports, _)| ports.range())
        .take(MAX_LANDLOCK_PORTS + 1)
        .collect();
    (numbers.len() <= MAX_LANDLOCK_PORTS).then_some(numbers)
}

/// Judges by a policy, and remembers the addresses of the names in it.
#[derive(Debug)]
pub struct Judge {
    policy: Policy,
    known: Arc<Known>,
}

/// The addresses of the rules' names for the rest of the Keep's life.
#[derive(Debug, Default)]
struct Known(Mutex<BTreeMap<HostName, Vec<IpAddr>>>);

impl Known {
    fn get(&self, name: &HostName) -> Option<Vec<IpAddr>> {
        // An entry is whole or not there.
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).cloned()
    }
}

/// A question for a name that may be asked.
#[derive(Debug)]
pub enum Question {
    /// The answer is known already.
    Known(Vec<IpAddr>),
    /// The name server is to be asked.
    Ask {
        /// The name, in ASCII.
        name: String,
        /// Takes the answer, if the name is one of a rule.
        pin: Option<Pin>,
    },
}

/// Takes the first answer for the name of a rule, which is used from then on.
#[derive(Debug)]
pub struct Pin {
    name: HostName,
    known: Arc<Known>,
}

impl Judge {
    /// A judge who knows no name yet.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            known: Arc::default(),
        }
    }

    /// True if connections or datagrams may go to an address.
    pub fn may_connect(&self, protocol: Protocol, to: SocketAddr) -> bool {
        let Addresses::Only { connect, .. } = &self.policy.addresses else {
            return true;
        };
        let has = |name: &HostName| {
            let found = self.known.get(name).unwrap_or_default();
            found
                .into_iter()
                .any(|own| destination(own) == destination(to.ip()))
        };
        connect
            .iter()
            .any(|rule| rule.applies_to(protocol, to, has))
    }

    /// True if connections or datagrams may be waited for at an address.
    pub fn may_listen(&self, protocol: Protocol, at: SocketAddr) -> bool {
        match &self.policy.addresses {
            Addresses::All => true,
            Addresses::Only { listen, .. } => {
                listen.iter().any(|rule| rule.applies_to(protocol, at))
            }
        }
    }

    /// The question for a name.
    ///
    /// # Errors
    /// [`Status::NotCapable`] when the name may not be looked up.
    pub fn question(&self, name: String) -> Result<Question> {
        // An address in an odd spelling does not count as an address, and is not looked up if the grant names hosts.
        let Ok(host) = name.parse::<HostName>() else {
            return match self.policy.names {
                Names::All => Ok(Question::Ask { name, pin: None }),
                Names::Only(_) => Err(Status::NotCapable),
            };
        };
        if self.policy.connects_to_host(&host) {
            if let Some(known) = self.known.get(&host) {
                return Ok(Question::Known(known));
            }
            return Ok(Question::Ask {
                name: host.to_string(),
                pin: Some(Pin {
                    name: host,
                    known: Arc::clone(&self.known),
                }),
            });
        }
        match &self.policy.names {
            Names::Only(rules) if !rules.iter().any(|rule| rule.applies_to(&host)) => {
                Err(Status::NotCapable)
            }
            _ => Ok(Question::Ask {
                // As written, with a trailing dot: only non-ASCII letters cannot be sent to a name server.
                name: if name.is_ascii() {
                    name
                } else {
                    host.to_string()
                },
                pin: None,
            }),
        }
    }
}

impl Pin {
    /// The addresses of an answer that the name may have; an earlier answer counts.
    ///
    /// # Errors
    /// [`Status::NotCapable`] when it has none: this machine, its link and metadata services have addresses and no names.
    pub fn settle(&self, answer: Vec<IpAddr>) -> Result<Vec<IpAddr>> {
        let mut found = answer;
        found.retain(|address| !is_guarded(*address));
        found.truncate(RESOLVED_MAX as usize);
        let mut known = self.known.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = known.get(&self.name) {
            return Ok(earlier.clone());
        }
        if found.is_empty() {
            return Err(Status::NotCapable);
        }
        known.insert(self.name.clone(), found.clone());
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(connect: &[&str], listen: &[&str], names: Option<&[&str]>) -> Judge {
        Judge::new(Policy {
            addresses: Addresses::Only {
                connect: connect.iter().map(|text| text.parse().unwrap()).collect(),
                listen: listen.iter().map(|text| text.parse().unwrap()).collect(),
            },
            names: match names {
                None => Names::All,
                Some(names) => {
                    Names::Only(names.iter().map(|text| text.parse().unwrap()).collect())
                }
            },
        })
    }

    fn connects(judge: &Judge, to: &str) -> bool {
        judge.may_connect(Protocol::Tcp, to.parse().unwrap())
    }

    fn ask(judge: &Judge, name: &str) -> Option<Pin> {
        match judge.question(name.to_owned()) {
            Ok(Question::Ask { pin, .. }) => pin,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn without_rules_everything_is_allowed() {
        let judge = Judge::new(Policy::default());
        for to in ["0.0.0.0:1", "[::1]:1", "169.254.169.254:80"] {
            let to = to.parse().unwrap();
            assert!(judge.may_connect(Protocol::Tcp, to) && judge.may_listen(Protocol::Udp, to));
        }
        assert!(ask(&judge, "localhost").is_none() && ask(&judge, "127.1").is_none());
        assert_eq!(judge.policy.tcp(), Tcp::All);
    }

    #[test]
    fn the_first_answer_for_a_rules_name_is_kept() {
        let judge = judge(&["db.example:5432"], &[], Some(&[]));
        assert!(!connects(&judge, "192.0.2.1:5432"), "nobody has asked");
        let first = ask(&judge, "DB.example.").unwrap();
        let second = ask(&judge, "db.example").unwrap();
        let answer = addresses(&["192.0.2.1", "64:ff9b::c000:202"]);
        assert_eq!(first.settle(answer.clone()), Ok(answer.clone()));
        // Two simultaneous questions, with a different address the second time: rebinding.
        assert_eq!(second.settle(addresses(&["192.0.2.9"])), Ok(answer.clone()));
        match judge.question("db.example".to_owned()) {
            Ok(Question::Known(known)) => assert_eq!(known, answer),
            other => panic!("{other:?}"),
        }
        for to in [
            "192.0.2.1:5432",
            "[::ffff:192.0.2.1]:5432",
            "192.0.2.2:5432",
            "[64:ff9b::c000:202]:5432",
        ] {
            assert!(connects(&judge, to), "{to}");
        }
        for to in ["192.0.2.9:5432", "192.0.2.1:80", "127.0.0.1:5432"] {
            assert!(!connects(&judge, to), "{to}");
        }
        assert!(!judge.may_listen(Protocol::Tcp, "192.0.2.1:5432".parse().unwrap()));
    }

    #[test]
    fn a_name_does_not_permit_special_addresses() {
        let judge = judge(&["evil.example", "127.0.0.1:80"], &[], Some(&[]));
        let only = [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "fd00:ec2::254",
        ];
        let pin = ask(&judge, "evil.example").unwrap();
        assert_eq!(pin.settle(addresses(&only)), Err(Status::NotCapable));
        assert_eq!(pin.settle(Vec::new()), Err(Status::NotCapable));
        // That was not an answer: the next one counts, except for such addresses.
        let mixed = [
            "::ffff:169.254.169.254",
            "10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
        ];
        assert_eq!(pin.settle(addresses(&mixed)), Ok(addresses(&["10.0.0.1"])));
        assert!(connects(&judge, "10.0.0.1:1") && connects(&judge, "127.0.0.1:80"));
        for to in [
            "169.254.169.254:80",
            "127.0.0.1:81",
            "[::1]:80",
            "0.0.0.0:81",
        ] {
            assert!(!connects(&judge, to), "{to}");
        }
    }

    #[test]
    fn only_names_of_rules_are_looked_up() {
        let judge = judge(
            &["db.example", "b\u{fc}cher.example"],
            &[],
            Some(&["api.example", "*.cdn.example"]),
        );
        for name in [
            "DB.example",
            "b\u{fc}cher.example",
            "xn--bcher-kva.example.",
        ] {
            assert!(ask(&judge, name).is_some(), "{name}");
        }
        for name in ["api.example", "API.EXAMPLE.", "a.b.cdn.example"] {
            assert!(ask(&judge, name).is_none(), "{name}");
        }
        for name in [
            "cdn.example",
            "localhost",
            "api.example.evil",
            "127.1",
            "10.0.0.1",
            "::1",
            "",
            "api.example\0.evil",
            "a..cdn.example",
        ] {
            let refused = judge.question(name.to_owned());
            assert!(matches!(refused, Err(Status::NotCapable)), "{name:?}");
        }
    }

    #[test]
    fn names_are_looked_up_in_canonical_form() {
        let judge = judge(&["b\u{fc}cher.example"], &[], None);
        for name in ["B\u{dc}cher.example.", "XN--bcher-kva.example"] {
            match judge.question(name.to_owned()) {
                Ok(Question::Ask { name, .. }) => assert_eq!(name, "xn--bcher-kva.example"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn landlock_gets_the_ports_if_they_are_few() {
        let tcp = |connect: &[&str], listen: &[&str]| judge(connect, listen, None).policy.tcp();
        let ports = |connect: Option<&[u16]>, bind: Option<&[u16]>| Tcp::Ports {
            connect: connect.map(<[u16]>::to_vec),
            bind: bind.map(<[u16]>::to_vec),
        };
        assert_eq!(
            tcp(
                &["10.0.0.0/8:443", "a.example:80-82/tcp", "10.0.0.1:53/udp"],
                &["8080"]
            ),
            ports(Some(&[443, 80, 81, 82]), Some(&[8080, 0]))
        );
        assert_eq!(tcp(&["10.0.0.1"], &[]), ports(None, Some(&[0])));
        assert_eq!(tcp(&[], &["1-65535"]), ports(Some(&[]), None));
        let just = format!("1.1.1.1:1-{MAX_LANDLOCK_PORTS}");
        let more = format!("1.1.1.1:1-{}", MAX_LANDLOCK_PORTS + 1);
        let connect = |text: &str| match tcp(&[text], &[]) {
            Tcp::Ports { connect, .. } => connect.map(|ports| ports.len()),
            other => panic!("{other:?}"),
        };
        assert_eq!(connect(&just), Some(MAX_LANDLOCK_PORTS));
        assert_eq!(connect(&more), None);
    }
}
