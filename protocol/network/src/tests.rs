// SPDX-License-Identifier: Apache-2.0

//! The rules as people write them, their canonical form, and what they cover.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use proptest::prelude::*;

use crate::*;

fn connect(text: &str) -> ConnectRule {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn applies_to(rule: &str, to: &str) -> bool {
    let to: SocketAddr = to.parse().expect(to);
    connect(rule).applies_to(Protocol::Tcp, to, |_| false)
}

#[test]
fn rules_are_read_as_people_write_them_and_printed_in_one_form() {
    for (text, form) in [
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8:443", "10.0.0.0/8:443"),
        ("10.0.0.0/8:443-443/udp", "10.0.0.0/8:443/udp"),
        ("10.0.0.0/8/tcp", "10.0.0.0/8/tcp"),
        ("0.0.0.0/0:1-65535", "0.0.0.0/0"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[::1]:80", "[::1]:80"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("[fd00::/8]:8000-8010/tcp", "[fd00::/8]:8000-8010/tcp"),
        ("::/0", "::/0"),
        ("DB.Example.:5432", "db.example:5432"),
        ("db.example/udp", "db.example/udp"),
        ("my_service", "my_service"),
    ] {
        let rule = connect(text);
        assert_eq!(rule.to_string(), form, "{text}");
        assert_eq!(connect(form), rule, "{text}");
    }
    for (text, form) in [
        ("8080", "8080"),
        ("8080-8090/tcp", "8080-8090/tcp"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("0.0.0.0:53/udp", "0.0.0.0:53/udp"),
        ("[::]:80", "[::]:80"),
        ("[::1]:80", "[::1]:80"),
        ("10.0.0.0/8:1-65535", "10.0.0.0/8:1-65535"),
    ] {
        let rule: ListenRule = text.parse().expect(text);
        assert_eq!(rule.to_string(), form, "{text}");
    }
    for (text, form) in [
        ("Example.ORG.", "example.org"),
        ("*.example.org", "*.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ] {
        let rule: NameRule = text.parse().expect(text);
        assert_eq!(rule.to_string(), form, "{text}");
    }
}

#[test]
fn meaningless_and_ambiguous_rules_are_refused() {
    use RuleError::{Connect, Ports as Port, Zone};
    let beyond =
        |text: &str, whole: &str| RuleError::Beyond(text.to_string(), whole.parse().expect(whole));
    let disguised = |a, b, c, d| RuleError::Disguised(Ipv4Addr::new(a, b, c, d));
    for (text, error) in [
        ("", Connect),
        (":80", Connect),
        ("*", Connect),
        ("*.example.org", Connect),
        ("a b", Connect),
        ("-a.example", Connect),
        ("a..b", Connect),
        ("10.0.0.0/33", Connect),
        ("10.0.0.0/08", Connect),
        ("10.0.0.0/+8", Connect),
        ("10.0.0.0/", Connect),
        ("::/129", Connect),
        ("example.org/8", Connect),
        ("[::1]80", Connect),
        ("[::1", Connect),
        ("::1:9200", RuleError::Brackets(Ipv6Addr::LOCALHOST, 9200)),
        ("::1:80/tcp", RuleError::Brackets(Ipv6Addr::LOCALHOST, 80)),
        ("::1:9a", disguised(0, 1, 0, 0x9a)),
        ("[10.0.0.1]:80", Connect),
        ("[example.org]:80", Connect),
        // Addresses to the C library.
        ("10.1", Connect),
        ("127.1:80", Connect),
        ("0x7f.1", Connect),
        ("0x7f000001", Connect),
        ("2130706433", Connect),
        ("010.0.0.1", Connect),
        ("a.1", Connect),
        ("10.0.0.1:", Port),
        ("10.0.0.1:0", Port),
        ("10.0.0.1:65536", Port),
        ("10.0.0.1:080", Port),
        ("10.0.0.1:+80", Port),
        ("10.0.0.1:90-80", Port),
        ("10.0.0.1:80-", Port),
        ("10.0.0.1:80,81", Port),
        ("10.0.0.1:http", Port),
        ("10.1.0.0/8", beyond("10.1.0.0/8", "10.0.0.0/8")),
        ("fd00::1/8", beyond("fd00::1/8", "fd00::/8")),
        ("fe80::1%eth0", Zone),
        ("[fe80::1%2]:80", Zone),
        ("::ffff:10.0.0.1", disguised(10, 0, 0, 1)),
        ("[::ffff:10.0.0.0/104]:80", disguised(10, 0, 0, 0)),
        ("::10.0.0.1", disguised(10, 0, 0, 1)),
        ("64:ff9b::808:808", disguised(8, 8, 8, 8)),
        ("2002:a00:1::/48", disguised(10, 0, 0, 1)),
    ] {
        assert_eq!(text.parse::<ConnectRule>(), Err(error), "{text}");
    }
    for text in ["localhost", "LocalHost.:80", "a.localhost"] {
        let error = text.parse::<ConnectRule>().expect_err(text);
        assert!(matches!(error, RuleError::Local(_)), "{text}: {error}");
    }
    for text in [
        "",
        "80,81",
        "127.0.0.1",
        "example.org:80",
        "[::1]",
        "0",
        "http",
    ] {
        let error = text.parse::<ListenRule>().expect_err(text);
        assert_eq!(error, RuleError::Listen, "{text}");
    }
    for text in [
        "", "*", "*.", "*.*.a", "a.*", "1.2.3.4", "::1", "a:80", "a/tcp",
    ] {
        assert_eq!(text.parse::<NameRule>(), Err(RuleError::Name), "{text}");
    }
    let long = "a".repeat(64);
    assert!(long.parse::<HostName>().is_err());
    let labels = ["a"; 127].join(".");
    assert!(labels.parse::<HostName>().is_ok());
    assert!(format!("{labels}.a").parse::<HostName>().is_err());
}

#[test]
fn a_rule_applies_to_its_addresses_ports_and_protocol() {
    for (rule, inside, outside) in [
        ("10.1.2.3", "10.1.2.3:1", "10.1.2.4:1"),
        ("10.0.0.0/8", "10.255.0.1:9", "11.0.0.1:9"),
        ("10.1.2.3:443", "10.1.2.3:443", "10.1.2.3:80"),
        ("10.1.2.3:80-90", "10.1.2.3:90", "10.1.2.3:91"),
        ("0.0.0.0/0:443", "192.0.2.1:443", "[2001:db8::1]:443"),
        ("::/0", "[2001:db8::1]:1", "192.0.2.1:1"),
        ("::1", "[::1]:80", "[::2]:80"),
        ("fd00::/8", "[fd12::1]:80", "[fe80::1]:80"),
        ("[fd00::/8]:443", "[fd12::1]:443", "[fd12::1]:80"),
        ("[::1]", "[::1]:7", "127.0.0.1:7"),
        ("fe80::/64", "[fe80::1%7]:7", "[fe80:0:0:1::1]:7"),
        ("10.1.2.3", "10.1.2.3:65535", "10.1.2.3:0"),
    ] {
        assert!(applies_to(rule, inside), "{rule} {inside}");
        assert!(!applies_to(rule, outside), "{rule} {outside}");
    }
    let udp = connect("10.0.0.1/udp");
    let to = "10.0.0.1:53".parse().expect("an address");
    assert!(udp.applies_to(Protocol::Udp, to, |_| false));
    assert!(!udp.applies_to(Protocol::Tcp, to, |_| false));
    let name = connect("db.example:53");
    assert!(name.applies_to(Protocol::Tcp, to, |name| name.as_str() == "db.example"));
    assert!(!name.applies_to(Protocol::Tcp, to, |_| false));
}

/// Every spelling of an IPv4 address as one of IPv6 that leads there.
fn spellings(address: Ipv4Addr) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = address.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    [
        [0, 0, 0, 0, 0, 0xffff, high, low],
        [0, 0, 0, 0, 0, 0, high, low],
        [0, 0, 0, 0, 0xffff, 0, high, low],
        [0x64, 0xff9b, 0, 0, 0, 0, high, low],
        [0x2002, high, low, 0, 0, 0, 0, 1],
    ]
    .map(Ipv6Addr::from)
    .to_vec()
}

#[test]
fn no_spelling_of_an_address_escapes_the_rules() {
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    for spelling in spellings(metadata) {
        let to = format!("[{spelling}]:80");
        assert!(applies_to("169.254.169.254", &to), "{to}");
        for rule in ["0.0.0.0/0", "::/0", "169.254.0.0/16", "10.0.0.0/8"] {
            assert!(!applies_to(rule, &to), "{rule} {to}");
        }
    }
    for spelling in spellings(Ipv4Addr::new(10, 0, 0, 1)) {
        let to = format!("[{spelling}]:80");
        assert!(
            applies_to("10.0.0.0/8", &to) && !applies_to("::/0", &to),
            "{to}"
        );
    }
    // The unspecified address is this machine.
    for here in ["0.0.0.0:80", "[::ffff:0.0.0.0]:80"] {
        assert!(
            applies_to("127.0.0.1", here) && !applies_to("0.0.0.0/0", here),
            "{here}"
        );
    }
    assert!(applies_to("::1", "[::]:80") && !applies_to("::/0", "[::]:80"));
}

#[test]
fn special_addresses_are_reached_only_if_named() {
    for (to, wide, named) in [
        ("127.0.0.1:1", "0.0.0.0/0", "127.0.0.1"),
        ("127.9.9.9:1", "126.0.0.0/7", "127.0.0.0/8"),
        ("0.1.2.3:1", "0.0.0.0/0", "0.0.0.0/8"),
        ("169.254.9.9:1", "168.0.0.0/6", "169.254.0.0/16"),
        ("169.254.169.254:1", "169.254.0.0/16", "169.254.169.254"),
        ("169.254.170.2:1", "169.254.170.0/24", "169.254.170.2"),
        ("100.100.100.200:1", "100.64.0.0/10", "100.100.100.200"),
        ("168.63.129.16:1", "168.63.0.0/16", "168.63.129.16"),
        ("224.0.0.251:1", "0.0.0.0/0", "224.0.0.251"),
        ("255.255.255.255:1", "240.0.0.0/4", "255.255.255.255"),
        ("[::1]:1", "::/0", "::1"),
        ("[fe80::1]:1", "::/0", "fe80::/10"),
        ("[ff02::1]:1", "::/0", "ff02::/16"),
        ("[fd00:ec2::254]:1", "fd00::/8", "fd00:ec2::254"),
        ("[fd20:ce::254]:1", "fd20:ce::/32", "fd20:ce::254"),
        ("[64:ff9b:1::a9fe:a9fe]:1", "64:ff9b::/32", "64:ff9b:1::/96"),
        ("[2001::1]:1", "2000::/3", "2001::/32"),
    ] {
        assert!(!applies_to(wide, to), "{wide} {to}");
        assert!(applies_to(named, to), "{named} {to}");
    }
    assert!(applies_to("0.0.0.0/0", "192.0.2.1:1") && applies_to("fd00::/8", "[fd00:ec2::1]:1"));
}

#[test]
fn listening_is_only_at_the_named_addresses() {
    let applies_to = |rule: &str, at: &str| {
        let rule: ListenRule = rule.parse().expect(rule);
        rule.applies_to(Protocol::Tcp, at.parse().expect(at))
    };
    for at in ["127.0.0.1:80", "0.0.0.0:80", "[::]:80", "[::1]:80"] {
        assert!(
            applies_to("80", at) && !applies_to("81", at) && !applies_to("80/udp", at),
            "{at}"
        );
    }
    assert!(applies_to("127.0.0.1:80", "127.0.0.1:80"));
    assert!(applies_to("127.0.0.1:80", "[::ffff:127.0.0.1]:80"));
    for at in ["0.0.0.0:80", "[::]:80", "127.0.0.2:80", "127.0.0.1:81"] {
        assert!(!applies_to("127.0.0.1:80", at), "{at}");
    }
    assert!(applies_to("0.0.0.0:80", "0.0.0.0:80") && !applies_to("0.0.0.0:80", "127.0.0.1:80"));
}

#[test]
fn names_are_compared_whole_and_without_case() {
    let applies_to = |rule: &str, name: &str| {
        let rule: NameRule = rule.parse().expect(rule);
        name.parse::<HostName>()
            .is_ok_and(|name| rule.applies_to(&name))
    };
    for name in ["example.org", "EXAMPLE.org", "example.org."] {
        assert!(
            applies_to("example.org", name) && applies_to("Example.Org.", name),
            "{name}"
        );
        assert!(!applies_to("*.example.org", name), "{name}");
    }
    for name in ["a.example.org", "a.b.example.org.", "A.EXAMPLE.ORG"] {
        assert!(
            applies_to("*.example.org", name) && !applies_to("example.org", name),
            "{name}"
        );
    }
    for name in [
        "badexample.org",
        "example.org.evil",
        ".example.org",
        "example.org..",
        "example.org\0",
        "example.org ",
        "127.0.0.1",
    ] {
        assert!(
            !applies_to("*.example.org", name) && !applies_to("example.org", name),
            "{name:?}"
        );
    }
}

#[cfg(feature = "idna")]
#[test]
fn names_beyond_ascii_are_converted_by_idna() {
    let name = |text: &str| text.parse::<HostName>().map(|name| name.to_string());
    let form = Ok("xn--bcher-kva.example".to_string());
    for text in [
        "b\u{fc}cher.example",
        "B\u{dc}CHER.example",
        "bu\u{308}cher.example",
        "b\u{fc}cher\u{3002}example",
        "b\u{fc}cher.example.",
        "XN--BCHER-KVA.EXAMPLE",
    ] {
        assert_eq!(name(text), form, "{text}");
    }
    // Digits of another width are an address.
    for text in [
        "\u{ff11}27.0.0.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "a\u{2028}.example",
    ] {
        assert_eq!(name(text), Err(RuleError::Name), "{text}");
    }
    let rule = connect("b\u{fc}cher.example:443");
    assert_eq!(rule.to_string(), "xn--bcher-kva.example:443");
}

#[test]
fn a_rule_includes_narrower_rules() {
    let includes = |own: &str, other: &str| connect(own).includes(&connect(other));
    for (own, other) in [
        ("10.0.0.0/8", "10.1.0.0/16:80"),
        ("10.0.0.0/8", "10.0.0.0/8/tcp"),
        ("10.0.0.0/8:80-90", "10.0.0.1:85"),
        ("db.example", "db.example:1"),
        ("127.0.0.0/8", "127.0.0.1"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ] {
        assert!(includes(own, other), "{own} {other}");
    }
    for (own, other) in [
        ("10.0.0.0/8:80", "10.0.0.1"),
        ("10.0.0.0/8/tcp", "10.0.0.0/8"),
        ("10.1.0.0/16", "10.0.0.0/8"),
        ("db.example", "other.example"),
        ("10.0.0.0/8", "db.example"),
        ("db.example", "10.0.0.1"),
        // Not even a rule for everything covers addresses that must be named.
        ("0.0.0.0/0", "127.0.0.1"),
        ("169.254.0.0/16", "169.254.169.254"),
        ("::/0", "0.0.0.0/0"),
    ] {
        assert!(!includes(own, other), "{own} {other}");
    }
    let listens = |own: &str, other: &str| {
        let (own, other): (ListenRule, ListenRule) =
            (own.parse().expect(own), other.parse().expect(other));
        own.includes(&other)
    };
    assert!(listens("80-90", "127.0.0.1:85/tcp") && listens("0.0.0.0:80", "0.0.0.0:80"));
    for (own, other) in [
        ("80", "81"),
        ("80/tcp", "80"),
        ("127.0.0.1:80", "80"),
        ("127.0.0.1:80", "0.0.0.0:80"),
    ] {
        assert!(!listens(own, other), "{own} {other}");
    }
    let names = |own: &str, other: &str| {
        let (own, other): (NameRule, NameRule) =
            (own.parse().expect(own), other.parse().expect(other));
        own.includes(&other)
    };
    assert!(names("*.a.example", "b.a.example") && names("*.example", "*.a.example"));
    assert!(names("*.example", "*.example") && names("a.example", "a.example"));
    for (own, other) in [
        ("a.example", "*.a.example"),
        ("*.a.example", "a.example"),
        ("*.a.example", "*.example"),
    ] {
        assert!(!names(own, other), "{own} {other}");
    }
}

#[test]
fn rules_for_all_addresses_permit_every_name() {
    let rules = |connect: &[&str]| Rules {
        connect: connect
            .iter()
            .map(|text| text.parse().expect(text))
            .collect(),
        ..Rules::default()
    };
    let wanted = connect("db.example:5432/tcp");
    assert!(rules(&["0.0.0.0/0", "[::/0]:5432"]).permit_connect(&wanted));
    assert!(rules(&["db.example"]).permit_connect(&wanted));
    for offered in [
        &["0.0.0.0/0"][..],
        &["0.0.0.0/0", "[::/0]:80"],
        &["0.0.0.0/0", "::/0/udp"],
        &["0.0.0.0/0", "2000::/3"],
        &["example", "other.example"],
        &[],
    ] {
        assert!(!rules(offered).permit_connect(&wanted), "{offered:?}");
    }
    let loopback = connect("127.0.0.1");
    assert!(!rules(&["0.0.0.0/0", "::/0"]).permit_connect(&loopback));
    let some = rules(&["10.0.0.1/udp", "db.example/udp"]);
    let uses = |tcp, udp, name_lookup| Uses {
        tcp,
        udp,
        name_lookup,
    };
    assert_eq!(some.uses(), uses(false, true, true));
    assert_eq!(rules(&["10.0.0.1"]).uses(), uses(true, true, false));
    assert_eq!(rules(&[]).uses(), Uses::default());
}

#[test]
fn a_rule_is_written_as_text_in_a_document() {
    let rule = connect("[fd00::/8]:443/tcp");
    let json = serde_json::to_string(&rule).expect("text");
    assert_eq!(json, r#""[fd00::/8]:443/tcp""#);
    assert_eq!(
        serde_json::from_str::<ConnectRule>(&json).expect("a rule"),
        rule
    );
    assert!(serde_json::from_str::<ConnectRule>(r#""127.1""#).is_err());
    assert!(serde_json::from_str::<ListenRule>("80").is_err());
}

fn protocol() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), Just("/tcp"), Just("/udp")]
}

/// A network as it may be written.
fn network() -> impl Strategy<Value = String> {
    let v4 = (any::<u32>(), 0..=32_u32).prop_map(|(bits, prefix)| {
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        format!("{}/{prefix}", Ipv4Addr::from_bits(bits & mask))
    });
    let v6 = (any::<u128>(), 0..=128_u32).prop_map(|(bits, prefix)| {
        let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        format!("[{}/{prefix}]", Ipv6Addr::from_bits(bits & mask))
    });
    prop_oneof![v4, v6]
}

proptest! {
    #[test]
    fn parsing_is_total_and_printing_its_inverse(text in "\\PC{0,40}", colon in "[0-9a-f:./%*\\[\\]-]{0,24}") {
        for text in [text, colon] {
            if let Ok(rule) = text.parse::<ConnectRule>() {
                prop_assert_eq!(rule.to_string().parse(), Ok(rule));
            }
            if let Ok(rule) = text.parse::<ListenRule>() {
                prop_assert_eq!(rule.to_string().parse(), Ok(rule));
            }
            if let Ok(rule) = text.parse::<NameRule>() {
                prop_assert_eq!(rule.to_string().parse(), Ok(rule));
            }
        }
    }

    #[test]
    fn rules_of_networks_round_trip(network in network(), first: u16, last: u16, protocol in protocol()) {
        let ports = format!("{}-{}", first.min(last).max(1), first.max(last).max(1));
        let text = format!("{network}:{ports}{protocol}");
        if let Ok(rule) = text.parse::<ConnectRule>() {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule.clone()));
            prop_assert!(rule.includes(&rule));
        } else {
            // Only IPv4 in disguise.
            prop_assert!(network.starts_with('['), "{}", text);
        }
        if let Ok(rule) = text.parse::<ListenRule>() {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_judged_alike(own: u32, prefix in 0..=32_u32, address: u32, port: u16) {
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        let rule = connect(&format!("{}/{prefix}", Ipv4Addr::from_bits(own & mask)));
        // Near the network, so that both answers occur.
        let address = Ipv4Addr::from_bits((own & mask) | (address & !mask) ^ (address & 1));
        let judged = |ip: IpAddr| rule.applies_to(Protocol::Tcp, SocketAddr::new(ip, port), |_| false);
        let plain = judged(address.into());
        for spelling in spellings(address) {
            if !spelling.is_loopback() && !spelling.is_unspecified() {
                prop_assert_eq!(judged(spelling.into()), plain, "{} {}", spelling, address);
            }
        }
    }

    #[test]
    fn a_rule_applies_to_the_addresses_of_included_rules(own in network(), other in network(), bits: u128) {
        let (Ok(own), Ok(other)) = (own.parse::<ConnectRule>(), other.parse::<ConnectRule>()) else {
            return Ok(());
        };
        let addresses = [
            IpAddr::from(Ipv6Addr::from_bits(bits)),
            IpAddr::from(Ipv4Addr::from_bits(u32::try_from(bits >> 96).unwrap_or(0))),
        ];
        for address in addresses {
            let to = SocketAddr::new(address, 80);
            let judged = |rule: &ConnectRule| rule.applies_to(Protocol::Udp, to, |_| false);
            prop_assert!(!(own.includes(&other) && judged(&other) && !judged(&own)), "{} {} {}", own, other, to);
        }
    }
}
