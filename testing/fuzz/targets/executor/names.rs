// SPDX-License-Identifier: Apache-2.0

//! A Keep that asks for any names, and name servers that answer anything: a connection goes where a rule says, to the first
//! answer for a name of a rule, and never to this machine, its link or metadata services by a name.

#![cfg_attr(fuzzing, no_main)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use enarx_executor::addresses::{Addresses, Judge, Names, Pin, Policy, Question};
use enarx_network::{HostName, Protocol, destination, is_guarded};

/// The hosts of the rules, with their port.
const HOSTS: [&str; 2] = ["db.example", "www.example"];
const PORT: u16 = 443;
/// The network of the other rule, by its first byte, and the rule.
const NET: (u8, &str) = (10, "10.0.0.0/8:80");

/// A step: the name that is asked for, its answer, and an address that is tried.
type Step = (Option<bool>, String, Vec<[u8; 16]>, ([u8; 16], u16, bool));

fn address(octets: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

enarx_fuzz::target!(|steps: Vec<Step>| {
    let [first, second] = HOSTS.map(|host| format!("{host}:{PORT}"));
    let connect = [first.as_str(), second.as_str(), NET.1]
        .map(|rule| rule.parse().expect("a rule"))
        .to_vec();
    let judge = Judge::new(Policy {
        addresses: Addresses::Only {
            connect,
            listen: Vec::new(),
        },
        names: Names::Only(vec!["*.example.org".parse().expect("a rule")]),
    });
    let mut settled: BTreeMap<HostName, Vec<IpAddr>> = BTreeMap::new();
    // Questions whose answers come late.
    let mut open: Vec<(HostName, Pin)> = Vec::new();
    for (of_rule, text, answer, (tried, port, is_tcp)) in steps {
        let name = match of_rule {
            Some(is_first) => HOSTS[usize::from(is_first)].to_owned(),
            None => text,
        };
        let host: Option<HostName> = name.parse().ok();
        match judge.question(name) {
            Ok(Question::Known(known)) => {
                let host = host.expect("the name of a rule");
                assert_eq!(Some(&known), settled.get(&host), "another answer");
            }
            Ok(Question::Ask { name, pin }) => {
                let host = host.expect("the name of a rule");
                assert!(name.is_ascii());
                if let Some(pin) = pin {
                    open.push((host, pin));
                } else {
                    assert!(host.as_str().ends_with(".example.org"), "{host:?}");
                }
            }
            Err(_) => {}
        }
        // The last question is answered first, by some.
        if answer.len() % 3 != 0
            && let Some((host, pin)) = open.pop()
        {
            let answer: Vec<IpAddr> = answer.into_iter().map(address).collect();
            if let Ok(found) = pin.settle(answer) {
                assert!(!found.iter().any(|it| is_guarded(*it)), "{found:?}");
                let earlier = settled.entry(host).or_insert_with(|| found.clone());
                assert_eq!(*earlier, found, "rebound");
            }
        }
        let to = destination(address(tried));
        let in_net = port == 80 && matches!(to, IpAddr::V4(v4) if v4.octets()[0] == NET.0);
        let named = port == PORT && settled.values().flatten().any(|it| destination(*it) == to);
        let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
        let allowed = judge.may_connect(protocol, SocketAddr::new(address(tried), port));
        assert_eq!(allowed, in_net || named, "{to}:{port}");
    }
});
