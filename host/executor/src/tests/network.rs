// SPDX-License-Identifier: Apache-2.0

//! Sockets, and their rules.

use super::*;

#[test]
fn the_network_is_closed_unless_granted() {
    let mut keep = networked(false, false, false);
    let calls = [
        (Call::TcpOpen { ipv6: false }, ""),
        (Call::UdpOpen { ipv6: false }, ""),
        (Call::Resolve { name_length: 9 }, "localhost"),
    ];
    for (call, input) in calls {
        assert_eq!(
            keep.call(&call, input.as_bytes()).map(drop),
            Err(Status::NotCapable)
        );
    }
}

#[test]
fn tcp_and_udp_are_permitted_separately() {
    // A thread is confined once.
    let refused = |(tcp, udp): (bool, bool), call: Call| {
        let answer =
            thread::spawn(move || networked(tcp, udp, false).call(&call, b"").map(drop)).join();
        assert_eq!(answer.unwrap(), Err(Status::NotCapable));
    };
    refused((true, false), Call::UdpOpen { ipv6: true });
    refused((false, true), Call::TcpOpen { ipv6: true });
}

/// A socket that occupies a TCP port of this address and does not listen, and the port: the system gives it to nobody who
/// requests any port, and a test that names it may still listen there.
fn held_port(address: SocketAddr) -> (OwnedFd, u16) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let holder = socket(family, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&holder, true).unwrap();
    bind(&holder, &address).unwrap();
    let port = SocketAddr::try_from(getsockname(&holder).unwrap())
        .unwrap()
        .port();
    (holder, port)
}

/// A policy of these rules, in which only the named names can be looked up.
fn policy(connect: &[String], listen: &[String], names: &[&str]) -> Policy {
    Policy {
        addresses: Addresses::Only {
            connect: connect.iter().map(|rule| rule.parse().unwrap()).collect(),
            listen: listen.iter().map(|rule| rule.parse().unwrap()).collect(),
        },
        names: Names::Only(names.iter().map(|rule| rule.parse().unwrap()).collect()),
    }
}

#[test]
fn addresses_are_those_of_the_rules() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let allowed = server.local_addr().unwrap().port();
    let (_holder, listening) = held_port((Ipv4Addr::LOCALHOST, 0).into());
    let connect = [
        format!("127.0.0.1:{allowed}"),
        "0.0.0.0/0".to_owned(),
        "::/0".to_owned(),
    ];
    let listen = [format!("127.0.0.1:{listening}")];
    let mut keep = networked_at(true, true, false, policy(&connect, &listen, &[]));
    let v4 = |address: [u8; 4], port| SocketAddress::V4 { address, port };
    let v6 = |segments: [u16; 8], port| SocketAddress::V6 {
        address: Ipv6Addr::from(segments).octets(),
        port,
        flow: 0,
        scope: 0,
    };
    let local = |port| v4([127, 0, 0, 1], port);
    let tcp = Call::TcpOpen { ipv6: false };
    let udp = Call::UdpOpen { ipv6: false };
    // Even rules for everything do not cover these.
    let elsewhere = [
        local(listening),
        v4([0; 4], listening),
        v4([169, 254, 169, 254], allowed),
        v4([127, 0, 0, 2], allowed),
        v4([255; 4], allowed),
        v6([0, 0, 0, 0, 0, 0, 0, 1], listening),
        v6([0; 8], listening),
        v6([0, 0, 0, 0, 0, 0xffff, 0x7f00, 1], listening),
        v6([0, 0, 0, 0, 0, 0, 0x7f00, 1], listening),
        v6([0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 80),
        v6([0x2002, 0x7f00, 1, 0, 0, 0, 0, 1], listening),
        v6([0xfe80, 0, 0, 0, 0, 0, 0, 1], allowed),
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 80),
    ];
    let datagrams = handle_of(&keep.call(&udp, b"").unwrap().0);
    let send = |address| Call::UdpSend {
        handle: datagrams,
        address,
        length: 1,
    };
    for address in elsewhere {
        let ipv6 = matches!(address, SocketAddress::V6 { .. });
        let handle = handle_of(&keep.call(&Call::TcpOpen { ipv6 }, b"").unwrap().0);
        let connect = Call::TcpConnect { handle, address };
        let answer = keep.call(&connect, b"").map(drop);
        assert_eq!(answer, Err(Status::NotCapable), "{address:?}");
        let answer = keep.call(&send(address), b"x").map(drop);
        assert_eq!(answer, Err(Status::NotCapable), "{address:?}");
        keep.call(&Call::Close { handle }, b"").unwrap();
    }
    let handle = handle_of(&keep.call(&tcp, b"").unwrap().0);
    let address = local(allowed);
    keep.call(&Call::TcpConnect { handle, address }, b"")
        .unwrap();
    keep.call(&send(local(allowed)), b"x").unwrap();

    // A port that the system chooses, an address for all interfaces, or a client's address is refused for listening.
    let wrong = [v4([0; 4], listening), local(allowed)];
    for open in [tcp, udp] {
        let handle = handle_of(&keep.call(&open, b"").unwrap().0);
        for address in wrong {
            let bind = Call::Bind { handle, address };
            let answer = keep.call(&bind, b"").map(drop);
            assert_eq!(answer, Err(Status::NotCapable), "{address:?}");
        }
    }
    for address in [None, Some(local(0))] {
        let handle = handle_of(&keep.call(&tcp, b"").unwrap().0);
        if let Some(address) = address {
            keep.call(&Call::Bind { handle, address }, b"").unwrap();
        }
        let listen = Call::TcpListen { handle, backlog: 1 };
        let answer = keep.call(&listen, b"").map(drop);
        assert_eq!(answer, Err(Status::NotCapable), "{address:?}");
    }
    for open in [tcp, udp] {
        let handle = handle_of(&keep.call(&open, b"").unwrap().0);
        let address = local(listening);
        keep.call(&Call::Bind { handle, address }, b"").unwrap();
        if open == tcp {
            keep.call(&Call::TcpListen { handle, backlog: 1 }, b"")
                .unwrap();
        }
    }
}

#[test]
fn a_rule_for_ipv6_opens_nothing_of_ipv4() {
    let (_holder, port) = held_port((Ipv6Addr::UNSPECIFIED, 0).into());
    let listen = [format!("[::]:{port}"), format!("[::1]:{port}")];
    let mut keep = networked_at(true, true, false, policy(&[], &listen, &[]));
    for open in [Call::TcpOpen { ipv6: true }, Call::UdpOpen { ipv6: true }] {
        for (only, expected) in [(0, Err(Status::NotCapable)), (1, Ok(()))] {
            let handle = handle_of(&keep.call(&open, b"").unwrap().0);
            let both = Call::SetOption {
                handle,
                option: SocketOption::Ipv6Only,
                value: only,
            };
            keep.call(&both, b"").unwrap();
            let address = SocketAddress::V6 {
                address: [0; 16],
                port,
                flow: 0,
                scope: 0,
            };
            let bind = Call::Bind { handle, address };
            assert_eq!(keep.call(&bind, b"").map(drop), expected, "{open:?} {only}");
        }
    }
}

#[test]
fn a_rule_for_one_protocol_does_not_permit_the_other() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let address = SocketAddress::V4 {
        address: [127, 0, 0, 1],
        port,
    };
    let rules = [format!("127.0.0.1:{port}/udp")];
    let mut keep = networked_at(true, true, false, policy(&rules, &rules, &[]));
    let tcp = handle_of(&keep.call(&Call::TcpOpen { ipv6: false }, b"").unwrap().0);
    let udp = handle_of(&keep.call(&Call::UdpOpen { ipv6: false }, b"").unwrap().0);
    let connect = Call::TcpConnect {
        handle: tcp,
        address,
    };
    let bind = |handle| Call::Bind { handle, address };
    for call in [connect, bind(tcp)] {
        assert_eq!(keep.call(&call, b"").map(drop), Err(Status::NotCapable));
    }
    keep.call(&bind(udp), b"").unwrap();
    let send = Call::UdpSend {
        handle: udp,
        address,
        length: 1,
    };
    keep.call(&send, b"x").unwrap();
}

#[test]
fn names_are_looked_up_once_and_have_no_address_that_must_be_named() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    // The attacker's name server, which gives another answer each time.
    let lookups = crate::lookups::answering(|name| {
        let addresses: &[&str] = match (name, ASKED.fetch_add(1, Ordering::Relaxed)) {
            ("db.example", 0) => &["169.254.169.254", "::ffff:127.0.0.1", "0.0.0.0"],
            ("db.example", 1) => &["127.0.0.1", "192.0.2.1", "::1"],
            ("db.example", _) => &["192.0.2.99"],
            ("api.example", _) => &["127.0.0.1"],
            _ => return Err(Status::NameUnresolvable),
        };
        Ok(addresses.iter().map(|it| it.parse().unwrap()).collect())
    });
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let network = NetworkGrant {
        tcp: true,
        udp: true,
        name_lookup: true,
    };
    let grant = Grant {
        network,
        policy: policy(&["db.example".to_owned()], &[], &["*.example"]),
        ..Grant::of_streams([null(), null(), null()])
    };
    let mut keep = Keep::with_lookups(grant, lookups);
    let mut look_up = |name: &str| {
        let name_length = u32::try_from(name.len()).unwrap();
        let answer = keep.call(&Call::Resolve { name_length }, name.as_bytes());
        answer.map(|(_, bytes)| {
            let (addresses, rest) = bytes.as_chunks::<16>();
            assert!(rest.is_empty());
            let mapped = addresses.iter().map(|it| Ipv6Addr::from(*it));
            mapped.map(|it| it.to_canonical().to_string()).collect()
        })
    };
    let found = |address: &str| Ok::<Vec<String>, _>(vec![address.to_owned()]);
    for refused in [
        "localhost",
        "other.test",
        "db.example.test",
        "127.1",
        "db.example\0",
    ] {
        assert_eq!(look_up(refused), Err(Status::NotCapable), "{refused:?}");
    }
    assert_eq!(
        ASKED.load(Ordering::Relaxed),
        0,
        "refused names leave the machine"
    );
    assert_eq!(look_up("db.example"), Err(Status::NotCapable));
    for _ in 0..3 {
        assert_eq!(look_up("DB.Example."), found("192.0.2.1"));
    }
    assert_eq!(ASKED.load(Ordering::Relaxed), 2, "the second answer counts");
    // A name that is only looked up may have any address; connections there stay forbidden.
    assert_eq!(look_up("api.example"), found("127.0.0.1"));
    assert_eq!(look_up("no.such.example"), Err(Status::NameUnresolvable));
    for ip in [[127, 0, 0, 1], [192, 0, 2, 99]] {
        let address = SocketAddress::V4 { address: ip, port };
        let open = |ipv6| Call::UdpOpen { ipv6 };
        let handle = handle_of(&keep.call(&open(false), b"").unwrap().0);
        let send = Call::UdpSend {
            handle,
            address,
            length: 1,
        };
        assert_eq!(
            keep.call(&send, b"x").map(drop),
            Err(Status::NotCapable),
            "{ip:?}"
        );
    }
}

/// A new socket, bound to a port of this machine, and its address.
fn bound(keep: &mut Keep, open: Call) -> (Handle, SocketAddress) {
    let handle = handle_of(&keep.call(&open, b"").unwrap().0);
    let address = LOCALHOST;
    keep.call(&Call::Bind { handle, address }, b"").unwrap();
    let (_, bytes) = keep.call(&Call::LocalAddress { handle }, b"").unwrap();
    (handle, address_of(&bytes))
}

#[test]
fn sockets_do_what_their_state_allows() {
    let mut keep = networked(true, true, false);
    let open = Call::TcpOpen { ipv6: false };
    let (handle, address) = bound(&mut keep, open);
    // Twice is once too often.
    let bind = Call::Bind { handle, address };
    assert_eq!(keep.call(&bind, b"").map(drop), Err(Status::Invalid));
    let accept = Call::TcpAccept { handle };
    assert_eq!(keep.call(&accept, b"").map(drop), Err(Status::Invalid));
    let read = Call::StreamRead {
        stream: handle,
        length: 1,
    };
    assert_eq!(keep.call(&read, b"").map(drop), Err(Status::NotConnected));
    // A socket that is bound and does not listen accepts no connections.
    let other = handle_of(&keep.call(&open, b"").unwrap().0);
    let connect = Call::TcpConnect {
        handle: other,
        address,
    };
    assert_eq!(
        keep.call(&connect, b"").map(drop),
        Err(Status::ConnectionRefused)
    );
    for backlog in [0, 5, u32::MAX] {
        keep.call(&Call::TcpListen { handle, backlog }, b"")
            .unwrap();
    }
    // A connection from a chosen address.
    let (from, own) = bound(&mut keep, open);
    let connect = Call::TcpConnect {
        handle: from,
        address,
    };
    keep.call(&connect, b"").unwrap();
    let (accepted, _) = keep.call(&Call::TcpAccept { handle }, b"").unwrap();
    let peer = Call::PeerAddress {
        handle: handle_of(&accepted),
    };
    assert_eq!(address_of(&keep.call(&peer, b"").unwrap().1), own);
    assert_eq!(keep.call(&connect, b"").map(drop), Err(Status::Invalid));
    let listen = Call::TcpListen {
        handle: from,
        backlog: 1,
    };
    assert_eq!(keep.call(&listen, b"").map(drop), Err(Status::Invalid));
    let (datagrams, _) = bound(&mut keep, Call::UdpOpen { ipv6: false });
    let connect = Call::TcpConnect {
        handle: datagrams,
        address,
    };
    assert_eq!(keep.call(&connect, b"").map(drop), Err(Status::Invalid));
}

#[test]
fn the_door_gives_only_connections() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("door");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let door: OwnedFd = listener.into();
    let services = Services {
        network: NetworkGrant::default(),
        door: Some(door.as_raw_fd()),
        listener: None,
    };
    let mut keep = Keep::with_listeners(
        [null(), null(), null()],
        &[],
        NetworkGrant::default(),
        [Some(door), None],
    );
    let peer = UnixStream::connect(&path).unwrap();
    let forbidden = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let allowed = seccomp::thread().chain(crate::allowed(services));
    // The peer belongs to this thread, too, so it reads and writes as the executor does.
    seccomp::apply(&seccomp::compile(allowed, forbidden).unwrap()).unwrap();
    let accept = Call::TcpAccept {
        handle: Handle::DOOR,
    };
    let (reply, _) = keep.call(&accept, b"").unwrap();
    let connection = Handle(u32::try_from(reply.value).unwrap());
    assert_eq!(connection, Handle(4));
    assert_eq!(rustix::io::write(&peer, b"hello"), Ok(5));
    let read = Call::StreamRead {
        stream: connection,
        length: 100,
    };
    assert_eq!(keep.call(&read, b"").unwrap().1, b"hello");
    let write = Call::StreamWrite {
        stream: connection,
        length: 5,
    };
    keep.call(&write, b"world").unwrap();
    let mut answer = [0; 5];
    assert_eq!(rustix::io::read(&peer, &mut answer[..]), Ok(5));
    assert_eq!(&answer, b"world");
    drop(peer);
    assert_eq!(keep.call(&read, b"").unwrap().1, b"");
    keep.call(&Call::Close { handle: connection }, b"").unwrap();
    let open = Call::TcpOpen { ipv6: false };
    assert_eq!(keep.call(&open, b"").map(drop), Err(Status::NotCapable));
}

#[test]
fn a_listener_gives_only_connections_until_it_is_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (granted, ours): (OwnedFd, _) = (listener.try_clone().unwrap().into(), listener);
    let services = Services {
        listener: Some(granted.as_raw_fd()),
        ..Services::default()
    };
    let network = NetworkGrant::default();
    let stdio = [null(), null(), null()];
    let mut keep = Keep::with_listeners(stdio, &[], network, [None, Some(granted)]);
    let peer = TcpStream::connect(address).unwrap();
    let forbidden = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let allowed = seccomp::thread().chain(crate::allowed(services));
    seccomp::apply(&seccomp::compile(allowed, forbidden).unwrap()).unwrap();
    let handle = Handle::LISTENER;
    let accept = Call::TcpAccept { handle };
    let (reply, _) = keep.call(&accept, b"").unwrap();
    let connection = Handle(u32::try_from(reply.value).unwrap());
    let write = Call::StreamWrite {
        stream: connection,
        length: 5,
    };
    keep.call(&write, b"hello").unwrap();
    let shutdown = Call::Shutdown {
        handle: connection,
        how: enarx_sallyport::types::ShutdownHow::Send,
    };
    keep.call(&shutdown, b"").unwrap();
    let mut answer = [0; 6];
    assert_eq!(rustix::io::read(&peer, &mut answer[..]), Ok(5));
    assert_eq!(rustix::io::read(&peer, &mut answer[..]), Ok(0));
    let open = Call::TcpOpen { ipv6: false };
    assert_eq!(keep.call(&open, b"").map(drop), Err(Status::NotCapable));
    // Ended from outside, as by the supervisor, it fails forever.
    rustix::net::shutdown(&ours, rustix::net::Shutdown::Both).unwrap();
    for _ in 0..2 {
        assert_eq!(keep.call(&accept, b"").map(drop), Err(Status::Invalid));
    }
}

#[test]
fn a_keep_without_a_door_accepts_no_session() {
    let mut keep = Keep::new([null(), null(), null()], &[]);
    let accept = Call::TcpAccept {
        handle: Handle::DOOR,
    };
    assert_eq!(keep.call(&accept, b"").map(drop), Err(Status::BadHandle));
    let load = Call::Load {
        object: Object::Contract,
        offset: 0,
        length: 100,
    };
    let (reply, bytes) = keep.call(&load, b"").unwrap();
    assert_eq!((reply.value, &bytes[..]), (5, &b"terms"[..]));
}

#[test]
fn tcp_connects_accepts_carries_and_ends() {
    let mut keep = networked(true, false, false);
    let open = Call::TcpOpen { ipv6: false };
    let (listener, address) = bound(&mut keep, open);
    let listen = Call::TcpListen {
        handle: listener,
        backlog: 8,
    };
    keep.call(&listen, b"").unwrap();
    let client = handle_of(&keep.call(&open, b"").unwrap().0);
    let SocketAddress::V4 { port, .. } = address else {
        panic!()
    };
    assert_ne!(port, 0);

    // The accept waits until a connection arrives.
    let accept = keep.submit(&Call::TcpAccept { handle: listener }, b"");
    let seen = keep.end.completions_seen();
    keep.executor
        .wait(seen, Until::Completion, Some(Duration::from_millis(20)))
        .unwrap();
    assert!(keep.end.reap().unwrap().is_none());
    let connect = Call::TcpConnect {
        handle: client,
        address,
    };
    let connect = keep.submit(&connect, b"");
    let mut server = Handle(0);
    for _ in 0..2 {
        let (reply, bytes) = keep.reply();
        assert_eq!((reply.status, &bytes[..]), (Status::Ok, &b""[..]));
        if reply.ticket == accept {
            server = handle_of(&reply);
        } else {
            assert_eq!(reply.ticket, connect);
        }
    }
    let (_, peer) = keep
        .call(&Call::PeerAddress { handle: client }, b"")
        .unwrap();
    assert_eq!(address_of(&peer), address);
    let (_, local) = keep
        .call(&Call::LocalAddress { handle: server }, b"")
        .unwrap();
    assert_eq!(address_of(&local), address);

    // Reads ahead are answered in order, each with the next bytes.
    let ahead: Vec<Ticket> = (0..8)
        .map(|_| {
            let call = Call::StreamRead {
                stream: server,
                length: 1000,
            };
            keep.submit(&call, b"")
        })
        .collect();
    let first: Vec<u8> = (0..8_u8).flat_map(|number| [number; 1000]).collect();
    let written = keep.submit(&write(client, &first), &first);
    let mut answered = Vec::new();
    let mut got = Vec::new();
    for _ in 0..=ahead.len() {
        let (reply, bytes) = keep.reply();
        assert_eq!(reply.status, Status::Ok);
        if reply.ticket != written {
            answered.push(reply.ticket);
            got.extend(bytes);
        }
    }
    assert_eq!(answered, ahead);
    assert_eq!(got, first);

    // More than the kernel's buffers can store: writes wait for reads.
    let piece = vec![3; 131_072];
    let mut written = 0;
    let mut read = 0_usize;
    for _ in 0..64 {
        keep.submit(&write(client, &piece), &piece);
        keep.submit(
            &Call::StreamRead {
                stream: server,
                length: 131_072,
            },
            b"",
        );
        for _ in 0..2 {
            let (reply, bytes) = keep.reply();
            assert_eq!(reply.status, Status::Ok);
            written += reply.value;
            read += bytes.len();
        }
    }
    keep.call(
        &Call::Shutdown {
            handle: client,
            how: enarx_sallyport::types::ShutdownHow::Send,
        },
        b"",
    )
    .unwrap();
    loop {
        let call = Call::StreamRead {
            stream: server,
            length: 131_072,
        };
        let (_, bytes) = keep.call(&call, b"").unwrap();
        if bytes.is_empty() {
            break;
        }
        read += bytes.len();
    }
    assert_eq!((written, read as u64), (64 * 131_072, 64 * 131_072));

    // Closing a handle ends the calls that wait for it.
    let waiting = keep.submit(&Call::TcpAccept { handle: listener }, b"");
    keep.submit(&Call::Close { handle: listener }, b"");
    let (first, _) = keep.reply();
    assert_eq!((first.ticket, first.status), (waiting, Status::Cancelled));
    assert_eq!(keep.reply().0.status, Status::Ok);
    let handle = handle_of(&keep.call(&open, b"").unwrap().0);
    assert_eq!(
        keep.call(&Call::TcpConnect { handle, address }, b"")
            .map(drop),
        Err(Status::ConnectionRefused)
    );
}

#[test]
fn datagrams_go_both_ways() {
    let mut keep = networked(false, true, false);
    let open = Call::UdpOpen { ipv6: false };
    let (one, one_address) = bound(&mut keep, open);
    let (other, other_address) = bound(&mut keep, open);
    let receive = keep.submit(
        &Call::UdpReceive {
            handle: other,
            length: 5,
        },
        b"",
    );
    let send = Call::UdpSend {
        handle: one,
        address: other_address,
        length: 7,
    };
    let sent = keep.submit(&send, b"message");
    for _ in 0..2 {
        let (reply, bytes) = keep.reply();
        assert_eq!(reply.status, Status::Ok);
        if reply.ticket == receive {
            let (from, datagram) = bytes.split_at(32);
            assert_eq!(address_of(from), one_address);
            // A datagram longer than requested is truncated.
            assert_eq!(datagram, b"messa");
        } else {
            assert_eq!((reply.ticket, reply.value), (sent, 7));
        }
    }
    let listen = Call::TcpAccept { handle: one };
    assert_eq!(keep.call(&listen, b"").map(drop), Err(Status::Invalid));
    let huge = vec![0; 100_000];
    let send = Call::UdpSend {
        handle: one,
        address: other_address,
        length: 100_000,
    };
    assert_eq!(keep.call(&send, &huge).map(drop), Err(Status::MessageSize));
}

#[test]
fn socket_options_are_set_and_read() {
    let mut keep = networked(true, false, false);
    let (reply, _) = keep.call(&Call::TcpOpen { ipv6: false }, b"").unwrap();
    let handle = handle_of(&reply);
    let second = 1_000_000_000;
    let options = [
        (SocketOption::NoDelay, 1),
        (SocketOption::KeepAlive, 1),
        (SocketOption::KeepAliveIdle, 60 * second),
        (SocketOption::KeepAliveInterval, 5 * second),
        (SocketOption::KeepAliveCount, 7),
        (SocketOption::HopLimit, 33),
        (SocketOption::ReuseAddress, 0),
    ];
    for (option, value) in options {
        keep.call(
            &Call::SetOption {
                handle,
                option,
                value,
            },
            b"",
        )
        .unwrap();
        let (reply, _) = keep.call(&Call::GetOption { handle, option }, b"").unwrap();
        assert_eq!(reply.value, value, "{option:?}");
    }
    let wrong = [
        (SocketOption::NoDelay, 2),
        (SocketOption::HopLimit, 256),
        (SocketOption::HopLimit, u64::MAX),
        (SocketOption::KeepAliveCount, u64::MAX),
    ];
    for (option, value) in wrong {
        let call = Call::SetOption {
            handle,
            option,
            value,
        };
        assert_eq!(
            keep.call(&call, b"").map(drop),
            Err(Status::Invalid),
            "{option:?}"
        );
    }
    let call = Call::GetOption {
        handle: Handle::STDIN,
        option: SocketOption::NoDelay,
    };
    assert_eq!(keep.call(&call, b"").map(drop), Err(Status::NotSocket));
}

#[test]
fn names_are_looked_up_while_the_keep_runs() {
    let mut keep = networked(false, false, true);
    let (_, bytes) = keep
        .call(&Call::Resolve { name_length: 9 }, b"127.0.0.9")
        .unwrap();
    assert_eq!(bytes[10..], [0xff, 0xff, 127, 0, 0, 9]);
    let (_, bytes) = keep
        .call(&Call::Resolve { name_length: 3 }, b"::5")
        .unwrap();
    assert_eq!((bytes.len(), bytes[15]), (16, 5));
    let bad = Call::Resolve { name_length: 1 };
    assert_eq!(
        keep.call(&bad, b"\xff").map(drop),
        Err(Status::NameUnresolvable)
    );
    let long = Call::Resolve { name_length: 300 };
    assert_eq!(
        keep.call(&long, &[b'a'; 300]).map(drop),
        Err(Status::NameTooLong)
    );
}
