// SPDX-License-Identifier: Apache-2.0

//! WASI against the host's answers: the host keeps the protocol of the sallyport and lies about everything else. An answer that
//! does not decode ends the Keep; one that decodes and cannot be true is an error that the program sees.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use enarx_configuration::sockets::{Peer, Socket};
use enarx_configuration::{Configuration, Network};
use enarx_sallyport::call::{LINK_MAX, PATH_MAX};
use enarx_sallyport::types::FileType;
use enarx_sallyport::{Call, Handle, SocketAddress, Status};
use enarx_sallyport_host::liar::{Answer, Liar};
use enarx_sallyport_host::program;
use enarx_wasi::budget::Budget;
use enarx_wasi::clock::Clocks;
use enarx_wasi::context::{Context, Surroundings};
use enarx_wasi::error::Errno;
use enarx_wasi::fs::host::HostFileSystem;
use enarx_wasi::fs::{Descriptor, FileSystem, Listing, Node, OpenOptions, TimeChange};
use enarx_wasi::port::{MAX_TRANSFER, Operation, Port};
use enarx_wasi::preview2::Preview2;
use enarx_wasi::preview2::bindings::wasi::io::streams::HostOutputStream;
use enarx_wasi::preview2::bindings::wasi::sockets::{
    instance_network::Host as _,
    network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress},
    tcp::{HostTcpSocket, ShutdownType, TcpSocket},
    tcp_create_socket::Host as _,
    udp::{HostIncomingDatagramStream, HostUdpSocket},
    udp_create_socket::Host as _,
};
use enarx_wasi::sockets::{Connection, Opened, Opener};
use enarx_wasi::stream::{Ended, Input, STDOUT};
use proptest::prelude::*;
use wasmtime::component::Resource;
use wasmtime_wasi_io::streams::{DynOutputStream, StreamError};

/// The first directory of the host.
const ROOT: Node = Handle::FIRST_ROOT.0 as Node;
/// The message with which a Keep ends whose host's reply does not decode.
const UNDECODABLE: &str = "the host sent a reply that does not decode";

/// The message with which a Keep ends. Objects dropped later would be closed, and no host remains for that: objects that have a
/// socket or wait are not dropped.
fn end(of: impl FnOnce()) -> String {
    let unwound = catch_unwind(AssertUnwindSafe(of)).expect_err("the Keep goes on");
    *unwound.downcast().expect("a sentence")
}

/// A port to a host that gives the same answer to each call.
fn always(answer: Answer) -> Port {
    Liar::start(move |_, _| Some(answer.clone())).0
}

fn files(answer: Answer) -> HostFileSystem {
    HostFileSystem::new(always(answer))
}

/// The attributes of a directory, with some bytes changed.
fn attributes(changes: &[(usize, u8)]) -> Answer {
    let mut record = [0; 80];
    record[68] = FileType::Directory.to_wire();
    for (at, byte) in changes {
        record[*at] = *byte;
    }
    Answer::bytes(&record)
}

#[test]
fn attributes_that_do_not_decode_end_the_keep() {
    assert!(files(attributes(&[])).stat(ROOT).is_ok());
    // Each second has 10^9 nanoseconds: the third byte of 0x3b9aca00 counts, with the fourth.
    let second = |at: usize| vec![(at + 3, 0x3b), (at + 2, 0x9a), (at + 1, 0xca)];
    for changes in [
        vec![(68, FileType::MAX + 1)],
        vec![(69, 1)],
        vec![(79, 0x80)],
        second(56),
        second(60),
        second(64),
    ] {
        let answer = attributes(&changes);
        let mut one = files(answer.clone());
        let stat = || {
            let _ = one.stat(ROOT);
        };
        assert_eq!(end(stat), UNDECODABLE, "{changes:?}");
        let mut other = files(answer);
        let stat = || {
            let _ = other.stat_at(ROOT, "a", true);
        };
        assert_eq!(end(stat), UNDECODABLE, "{changes:?}");
    }
}

/// An entry of a listing, as bytes.
fn entry(name: &[u8], kind: u8, reserved: u8) -> Vec<u8> {
    let mut entry = vec![9; 16];
    entry.extend([kind, reserved]);
    entry.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    entry.extend(name);
    entry
}

#[test]
fn listings_that_do_not_decode_end_the_keep() {
    let file = FileType::RegularFile.to_wire();
    let good = entry(b"a", file, 0);
    for bad in [
        entry(b"..", file, 0),
        entry(b".", file, 0),
        entry(b"", file, 0),
        entry(b"a/b", file, 0),
        entry(b"a\0", file, 0),
        entry(&[b'x'; 256], file, 0),
        entry(b"a", FileType::MAX + 1, 0),
        entry(b"a", file, 1),
        good[..good.len() - 1].to_vec(),
        vec![0],
    ] {
        let listing = [&good[..], &bad].concat();
        let mut files = files(Answer::bytes(&listing));
        let list = || {
            let _ = files.read_directory(ROOT, &mut Listing::new(Budget::new(1 << 20)));
        };
        assert_eq!(end(list), UNDECODABLE, "{bad:?}");
    }
}

#[test]
fn a_listing_without_an_end_is_given_up() {
    let file = FileType::RegularFile.to_wire();
    // Names that are not text cost the program nothing, so that only their number ends the listing.
    for (name, budget, expected, count) in [
        (&b"\xff"[..], 1 << 30, Errno::Io, 0..1),
        (b"a", 1 << 30, Errno::Io, 1_000_000..1_100_000),
        (b"a", 10_000, Errno::NoMemory, 10..200),
    ] {
        let listing = entry(name, file, 0).repeat(32 * 1024 / (20 + name.len()));
        let mut files = files(Answer::bytes(&listing));
        let mut listing = Listing::new(Budget::new(budget));
        assert_eq!(files.read_directory(ROOT, &mut listing), Err(expected));
        assert!(count.contains(&listing.entries().len()));
    }
}

#[test]
fn a_file_opened_in_place_of_a_directory_is_closed_and_refused() {
    let kind = FileType::RegularFile.to_wire();
    let (port, host) = Liar::start(move |_, _| {
        Some(Answer {
            value: 77,
            value2: kind.into(),
            ..Answer::default()
        })
    });
    let files = Arc::new(Mutex::new(HostFileSystem::new(port)));
    let root = Descriptor::directory(files, ROOT, false);
    let options = OpenOptions {
        directory: true,
        ..OpenOptions::default()
    };
    let opened = root.open("a", options).map(drop);
    assert_eq!(opened, Err(Errno::NotDirectory));
    let handle = Handle(77);
    assert_eq!(host.calls().last(), Some(&Call::Close { handle }));
}

#[test]
fn invalid_paths_are_not_sent() {
    let long = "x".repeat(PATH_MAX as usize + 1);
    for (path, expected) in [
        ("", Errno::NoEntry),
        ("a\0b", Errno::Invalid),
        (&long, Errno::NameTooLong),
    ] {
        let (port, host) = Liar::start(|_, _| Some(Answer::default()));
        let mut files = HostFileSystem::new(port);
        let opened = files.open(ROOT, path, OpenOptions::default()).map(drop);
        let renamed = files.rename(ROOT, "a", ROOT, path);
        let linked = files.symlink(path, ROOT, "a");
        let removed = files.unlink(ROOT, path);
        for refused in [opened, renamed, linked, removed] {
            assert_eq!(refused, Err(expected));
        }
        assert_eq!(host.calls(), []);
    }
}

#[test]
fn the_keep_enforces_rights_whatever_the_host_does() {
    let kind = FileType::RegularFile.to_wire();
    let (port, host) = Liar::start(move |_, _| {
        Some(Answer {
            value2: kind.into(),
            ..Answer::default()
        })
    });
    let files = |port| Arc::new(Mutex::new(HostFileSystem::new(port)));
    let (here, there) = (files(port.clone()), files(port));
    let root = Descriptor::directory(here.clone(), ROOT, false);
    let fixed = Descriptor::directory(here, ROOT + 1, true);
    let other = Descriptor::directory(there, ROOT + 2, false);
    let writing = OpenOptions {
        write: true,
        ..OpenOptions::default()
    };
    let (now, stays) = (TimeChange::Now, TimeChange::Keep);
    for refused in [
        fixed.open("a", writing).map(drop),
        fixed.rename("a", &root, "b"),
        root.rename("a", &fixed, "b"),
        fixed.link("a", false, &root, "b"),
        root.link("a", false, &fixed, "b"),
        fixed.symlink("a", "b"),
        fixed.unlink("a"),
        fixed.create_directory("a"),
        fixed.remove_directory("a"),
        fixed.set_times(now, stays),
        fixed.set_times_at("a", true, now, stays),
        root.symlink("/a", "b"),
    ] {
        assert_eq!(refused, Err(Errno::NotPermitted));
    }
    for refused in [
        root.rename("a", &other, "b"),
        root.link("a", false, &other, "b"),
    ] {
        assert_eq!(refused, Err(Errno::CrossDevice));
    }
    assert_eq!(host.calls(), []);
    // Neither does a file below have more rights than its directory.
    let file = fixed.open("a", OpenOptions::default()).unwrap();
    assert_eq!(file.set_size(0), Err(Errno::NotPermitted));
    assert_eq!(file.write_at(0, b"x"), Err(Errno::BadDescriptor));
    let end = i64::MAX.unsigned_abs();
    assert_eq!(file.read_at(end - 5, &mut [0; 10]), Err(Errno::Invalid));
    let file = root.open("a", writing).unwrap();
    assert_eq!(file.write_at(end - 5, &[0; 10]), Err(Errno::Invalid));
    assert_eq!(file.read_at(0, &mut [0]), Err(Errno::BadDescriptor));
    let opens = |call: &Call| matches!(call, Call::Open { .. });
    assert!(host.calls().iter().all(opens), "{:?}", host.calls());
}

#[test]
fn a_link_from_the_host_does_not_lead_outside() {
    for (target, expected) in [
        (&b"/etc/passwd"[..], Err(Errno::NotPermitted)),
        (b"\xff", Err(Errno::IllegalByteSequence)),
        (b"a", Ok("a".to_owned())),
        (
            &[b'x'; LINK_MAX as usize],
            Ok("x".repeat(LINK_MAX as usize)),
        ),
    ] {
        let files = Arc::new(Mutex::new(files(Answer::bytes(target))));
        let root = Descriptor::directory(files, ROOT, false);
        assert_eq!(root.read_link("link"), expected);
    }
}

#[test]
fn a_partial_write_is_reported() {
    // The host takes one byte less than it is given.
    let less = |call: &Call, _: &[u8]| Some(Answer::value(u64::from(call.input_length() - 1)));
    let (port, _) = Liar::start(less);
    assert_eq!(port.write(STDOUT, b"text"), Err(Errno::Io));
    // Reported once, by the write itself or at the end.
    assert_eq!(port.flush(STDOUT), Ok(()));
    let mut files = HostFileSystem::new(port);
    assert_eq!(files.append(ROOT, b"text"), Ok(3));
    assert_eq!(files.write_at(ROOT, 0, b"text"), Ok(3));
    // A file gets no second piece after the gap.
    let much = vec![0; MAX_TRANSFER + 10];
    assert_eq!(files.write_at(ROOT, 0, &much), Ok(MAX_TRANSFER - 1));
    let mut full = HostFileSystem::new(always(Answer::value(0)));
    assert_eq!(full.write_at(ROOT, 0, &much), Ok(0));
}

/// A connection over a host that gives this answer to every call except those that open it.
fn connection(says: impl Fn(&Call) -> Option<Answer> + Send + 'static) -> (Port, Box<Connection>) {
    let (port, _) = Liar::start(move |call, _| match call {
        Call::TcpOpen { .. } => Some(Answer::value(20)),
        Call::SetOption { .. } | Call::TcpConnect { .. } => Some(Answer::default()),
        call => says(call),
    });
    let opener = Opener {
        port: &port,
        clocks: &Clocks::new(port.clone()),
        issuers: &[],
        budget: &Budget::new(1 << 20),
    };
    let peer = Peer::Connect {
        host: "192.0.2.1".to_owned(),
        port: 1,
        tls: None,
    };
    let socket = Socket {
        descriptor: 3,
        peer,
    };
    match opener.open(&socket) {
        Ok(Opened::Connection(connection)) => (port.clone(), connection),
        Ok(Opened::Listener(_)) => panic!("it listens"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_connection_fails_after_a_short_write() {
    let (port, mut connection) = connection(|call| {
        Some(Answer::value(u64::from(
            call.input_length().saturating_sub(1),
        )))
    });
    let written = port.block_on(std::future::poll_fn(|context| {
        connection.poll_write(context, b"text")
    }));
    assert_eq!(written, Ok(4));
    // It stays so.
    for _ in 0..2 {
        let sent = port.block_on(std::future::poll_fn(|context| {
            connection.poll_sent(context)
        }));
        assert_eq!(sent, Err(Errno::Io));
    }
}

#[test]
fn an_input_returns_what_arrived_and_ends_once() {
    for (answer, first) in [
        (Answer::default(), Ended::End),
        (
            Answer::error(Status::NameUnresolvable),
            Ended::Failed(Errno::NoEntry),
        ),
    ] {
        let port = always(answer);
        let input = Input::own(port.clone(), Handle(20), &Budget::new(1 << 20));
        assert_eq!(port.block_on(input.read_some(10)), Err(first));
        assert_eq!(port.block_on(input.read_some(10)), Err(Ended::End));
    }
}

#[test]
fn addresses_of_names_that_do_not_decode_end_the_keep() {
    let looked_up = |bytes: &[u8]| {
        let port = always(Answer::bytes(bytes));
        let operation = port.resolve("db.example").unwrap();
        port.block_on(operation.ready());
        operation
    };
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1]].concat();
    let both = [&mapped[..], &[0x20; 16]].concat();
    let addresses = looked_up(&both).take_addresses().unwrap();
    assert_eq!(addresses[0].to_string(), "192.0.2.1");
    assert_eq!(addresses.len(), 2);
    assert_eq!(looked_up(&[]).take_addresses(), Ok(Vec::new()));
    for cut in [1, 15, 17, 31] {
        let mut operation = looked_up(&both[..cut]);
        let take = || drop(operation.take_addresses());
        assert_eq!(end(take), UNDECODABLE, "{cut}");
    }
}

/// A program of 0.2 that may use the network, and its host.
fn hosted(says: impl FnMut(&Call, &[u8]) -> Option<Answer> + Send + 'static) -> (Preview2, Liar) {
    let (port, host) = Liar::start(says);
    let configuration = Configuration {
        network: Network {
            tcp: true,
            udp: true,
            name_lookup: true,
        },
        ..Configuration::default()
    };
    let (budget, surroundings) = (Budget::new(1 << 20), Surroundings::default());
    let context = Context::new(&port, &configuration, &budget, surroundings).unwrap();
    (Preview2::new(context), host)
}

fn guest(says: impl FnMut(&Call, &[u8]) -> Option<Answer> + Send + 'static) -> Preview2 {
    hosted(says).0
}

fn lend<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

const ANY: IpSocketAddress = IpSocketAddress::Ipv4(Ipv4SocketAddress {
    port: 0,
    address: (0, 0, 0, 0),
});

fn bound_tcp(wasi: &mut Preview2) -> Resource<TcpSocket> {
    let network = wasi.instance_network().unwrap();
    let socket = wasi.create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    HostTcpSocket::start_bind(wasi, lend(&socket), network, ANY).unwrap();
    HostTcpSocket::finish_bind(wasi, lend(&socket)).unwrap();
    socket
}

/// Addresses that no host has.
fn bad_addresses() -> Vec<Vec<u8>> {
    let good = SocketAddress::V4 {
        address: [192, 0, 2, 1],
        port: 7,
    };
    // Family, high byte of the family, scope, the bytes behind an address of IPv4, flow.
    [0, 1, 4, 12, 16, 31]
        .map(|at: usize| {
            let mut bytes = good.to_bytes();
            bytes[at] ^= 1;
            bytes.to_vec()
        })
        .to_vec()
}

#[test]
fn addresses_of_sockets_that_do_not_decode_end_the_keep() {
    for bad in bad_addresses() {
        let address = bad.clone();
        let mut wasi = ManuallyDrop::new(guest(move |call, _| {
            Some(match call {
                Call::LocalAddress { .. } => Answer::bytes(&address),
                _ => Answer::value(20),
            })
        }));
        let wasi = &mut *wasi;
        let socket = bound_tcp(wasi);
        let ask = || {
            let _ = HostTcpSocket::local_address(wasi, lend(&socket));
        };
        assert_eq!(end(ask), UNDECODABLE, "{bad:?}");
    }
}

/// A connection, and its output.
fn connected_tcp(wasi: &mut Preview2) -> (Resource<TcpSocket>, Resource<DynOutputStream>) {
    let network = wasi.instance_network().unwrap();
    let socket = wasi.create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    let peer = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: 7,
        address: (192, 0, 2, 1),
    });
    HostTcpSocket::start_connect(wasi, lend(&socket), network, peer).unwrap();
    let (_, output) = wasi.finish_connect(lend(&socket)).unwrap();
    (socket, output)
}

/// A host that opens and connects sockets, and says this to writes.
fn taking(
    says: impl Fn() -> Option<Answer> + Send + 'static,
) -> impl FnMut(&Call, &[u8]) -> Option<Answer> + Send + 'static {
    move |call, _| match call {
        Call::StreamWrite { .. } => says(),
        Call::TcpOpen { .. } => Some(Answer::value(20)),
        _ => Some(Answer::default()),
    }
}

#[test]
fn a_components_failed_write_is_reported_once_and_ends_its_stream() {
    for (answer, told) in [
        // Less than it was given, without a reason.
        (Answer::value(3), Some(Errno::Io)),
        (
            Answer::error(Status::ConnectionReset),
            Some(Errno::ConnectionReset),
        ),
        // The peer takes no more, which is the stream's end.
        (Answer::error(Status::Pipe), None),
    ] {
        let mut wasi = guest(taking(move || Some(answer.clone())));
        let (_socket, output) = connected_tcp(&mut wasi);
        HostOutputStream::write(&mut wasi, lend(&output), b"text".to_vec()).unwrap();
        let first = wasi.check_write(lend(&output)).unwrap_err();
        match (&first, told) {
            (StreamError::LastOperationFailed(error), Some(errno)) => {
                assert_eq!(error.downcast_ref(), Some(&errno));
            }
            (StreamError::Closed, None) => {}
            _ => panic!("{first:?}"),
        }
        let closed = |result: Result<(), StreamError>| matches!(result, Err(StreamError::Closed));
        let written = HostOutputStream::write(&mut wasi, lend(&output), b"more".to_vec());
        assert!(closed(written) && closed(wasi.flush(lend(&output))));
    }
}

#[test]
fn a_component_that_has_ended_sending_sends_no_more() {
    let (mut wasi, host) = hosted(taking(|| Some(Answer::value(4))));
    let (socket, output) = connected_tcp(&mut wasi);
    let write = |wasi: &mut Preview2| {
        HostOutputStream::write(wasi, lend(&output), b"text".to_vec()).map_err(|it| it.to_string())
    };
    assert_eq!(write(&mut wasi), Ok(()));
    wasi.shutdown(lend(&socket), ShutdownType::Receive).unwrap();
    assert_eq!(write(&mut wasi), Ok(()));
    wasi.shutdown(lend(&socket), ShutdownType::Send).unwrap();
    assert_eq!(write(&mut wasi), Err(StreamError::Closed.to_string()));
    let writes = |call: &&Call| matches!(call, Call::StreamWrite { .. });
    assert_eq!(host.calls().iter().filter(writes).count(), 2);
}

#[test]
fn a_component_that_writes_too_much_ends() {
    let answers = Arc::new(AtomicBool::new(false));
    let answered = Arc::clone(&answers);
    let (mut wasi, host) = hosted(taking(move || {
        answered.load(Ordering::Relaxed).then(|| Answer::value(1))
    }));
    let (_socket, output) = connected_tcp(&mut wasi);
    let write = |wasi: &mut Preview2, length| {
        let written = HostOutputStream::write(wasi, lend(&output), vec![7; length]);
        written.map_err(|error| matches!(error, StreamError::Trap(_)))
    };
    let trapped = Err(true);
    assert_eq!(write(&mut wasi, MAX_TRANSFER + 1), trapped);
    // The host answers none, so there is no room at some time.
    let mut count = 0;
    while wasi.check_write(lend(&output)).unwrap() > 0 {
        assert_eq!(write(&mut wasi, 1), Ok(()));
        count += 1;
    }
    assert_eq!(write(&mut wasi, 1), trapped);
    let writes = |call: &&Call| matches!(call, Call::StreamWrite { .. });
    assert_eq!(host.calls().iter().filter(writes).count(), count);
    answers.store(true, Ordering::Relaxed);
    let _ = host.calls();
    assert_eq!(
        wasi.check_write(lend(&output)).unwrap(),
        MAX_TRANSFER as u64
    );
    // A flush takes nothing until all is written.
    answers.store(false, Ordering::Relaxed);
    assert_eq!(write(&mut wasi, 1), Ok(()));
    wasi.flush(lend(&output)).unwrap();
    assert_eq!(wasi.check_write(lend(&output)).unwrap(), 0);
    assert_eq!(write(&mut wasi, 1), trapped);
    answers.store(true, Ordering::Relaxed);
    let _ = host.calls();
    assert_eq!(
        wasi.check_write(lend(&output)).unwrap(),
        MAX_TRANSFER as u64
    );
    assert_eq!(write(&mut wasi, MAX_TRANSFER), Ok(()));
}

#[test]
fn senders_of_datagrams_that_do_not_decode_end_the_keep() {
    for bad in bad_addresses() {
        let address = bad.clone();
        let mut wasi = ManuallyDrop::new(guest(move |call, _| {
            Some(match call {
                Call::UdpReceive { .. } => Answer::bytes(&[&address[..], b"data"].concat()),
                _ => Answer::value(20),
            })
        }));
        let wasi = &mut *wasi;
        let network = wasi.instance_network().unwrap();
        let socket = wasi.create_udp_socket(IpAddressFamily::Ipv4).unwrap();
        HostUdpSocket::start_bind(wasi, lend(&socket), network, ANY).unwrap();
        HostUdpSocket::finish_bind(wasi, lend(&socket)).unwrap();
        let (incoming, _) = wasi.stream(lend(&socket), None).unwrap();
        let receive = || {
            let _ = wasi.receive(lend(&incoming), 1);
        };
        assert_eq!(end(receive), UNDECODABLE, "{bad:?}");
    }
}

#[test]
fn option_values_that_do_not_fit_are_clamped() {
    let mut wasi = guest(|call, _| {
        Some(match call {
            Call::GetOption { .. } => Answer::value(u64::MAX),
            _ => Answer::value(20),
        })
    });
    let socket = bound_tcp(&mut wasi);
    assert_eq!(
        HostTcpSocket::hop_limit(&mut wasi, lend(&socket)).unwrap(),
        u8::MAX
    );
    let count = wasi.keep_alive_count(lend(&socket)).unwrap();
    assert_eq!(count, u32::MAX);
    let size = HostTcpSocket::send_buffer_size(&mut wasi, lend(&socket)).unwrap();
    assert_eq!(size, u64::MAX / 2);
}

/// More reads than have a slot, so that the host must watch some.
fn many_reads(port: &Port) -> Vec<Operation> {
    (0..40)
        .map(|handle| {
            let (stream, length) = (Handle(100 + handle), 10);
            port.start(&Call::StreamRead { stream, length }, &[])
                .unwrap()
        })
        .collect()
}

#[test]
fn readiness_that_does_not_decode_ends_the_keep() {
    for bad in [
        &[100, 0, 0, 0, 0, 0, 0, 0][..],
        &[100, 0, 0, 0, 4, 0, 0, 0],
        &[100, 0, 0, 0, 1, 1, 0, 0],
        &[100, 0, 0, 0, 1, 0, 0, 1],
        &[100, 0, 0, 0, 1, 0, 0],
        &[100, 0, 0, 0, 1, 0, 0, 0, 1],
    ] {
        let answer = Answer::bytes(bad);
        let (port, _) = Liar::start(move |call, _| match call {
            Call::Poll { .. } => Some(answer.clone()),
            _ => None,
        });
        let reads = ManuallyDrop::new(many_reads(&port));
        let wait = || port.block_on(reads[0].ready());
        assert_eq!(end(wait), UNDECODABLE, "{bad:?}");
    }
}

#[test]
fn a_host_that_refuses_to_watch_ends_the_keep() {
    for status in [
        Status::Interrupted,
        Status::Again,
        Status::NoMemory,
        Status::NoBuffers,
        Status::Invalid,
        Status::NotCapable,
    ] {
        let (port, _) = Liar::start(move |call, _| match call {
            Call::Poll { .. } => Some(Answer::error(status)),
            _ => None,
        });
        let reads = ManuallyDrop::new(many_reads(&port));
        let wait = || port.block_on(reads[0].ready());
        assert_eq!(
            end(wait),
            "the host refused a request that cannot fail",
            "{status:?}"
        );
    }
}

#[test]
fn watches_continue_after_one_was_called_back() {
    let mut asked = Vec::new();
    let (port, host) = Liar::start(move |call, _| match call {
        Call::Poll { count } => {
            asked.push(*count);
            Some(match asked[..] {
                [1_u32..=u32::MAX] => Answer::error(Status::Cancelled),
                // Nothing has to be named again.
                [_, 0] => Answer::bytes(&[139, 0, 0, 0, 1, 0, 0, 0]),
                _ => panic!("{asked:?}"),
            })
        }
        Call::StreamRead { stream, .. } if stream.0 == 139 => Some(Answer::bytes(b"data")),
        _ => None,
    });
    let reads = many_reads(&port);
    port.block_on(reads[39].ready());
    assert_eq!(reads.iter().filter(|read| read.is_ready()).count(), 1);
    drop(reads);
    let _ = host.calls();
}

#[test]
fn unrequested_readiness_is_ignored() {
    let (port, host) = Liar::start(|call, input| match call {
        // The watched ones, each one twice, both directions, and one that belongs to nobody.
        Call::Poll { .. } if !input.is_empty() => {
            let mut ready = input.to_vec();
            ready.iter_mut().skip(4).step_by(8).for_each(|it| *it = 3);
            ready.extend_from_slice(&ready.clone());
            ready.extend([1, 2, 3, 4, 3, 0, 0, 0]);
            Some(Answer::bytes(&ready))
        }
        Call::StreamRead { stream, .. } if stream.0 >= 130 => Some(Answer::bytes(b"data")),
        _ => None,
    });
    let reads = many_reads(&port);
    for read in &reads[30..] {
        port.block_on(read.ready());
    }
    assert_eq!(reads.iter().filter(|read| read.is_ready()).count(), 10);
    drop(reads);
    let _ = host.calls();
}

#[test]
fn a_connection_that_arrives_for_an_abandoned_call_is_closed() {
    let (port, host) = Liar::start(|call, _| {
        Some(match call {
            Call::TcpAccept { .. } => Answer::value(77),
            _ => Answer::default(),
        })
    });
    let handle = Handle(20);
    // The answer is in the ring, and the Keep has not seen it.
    drop(port.start(&Call::TcpAccept { handle }, &[]).unwrap());
    port.call(&Call::ClockWall, &[], &mut []).unwrap();
    let handle = Handle(77);
    assert!(host.calls().contains(&Call::Close { handle }));
}

#[test]
fn any_time_of_the_host_is_accepted() {
    let clocks = Clocks::new(always(Answer::value(u64::MAX)));
    assert_eq!(clocks.wall(), Ok(u64::MAX));
    // When it continues, it does not begin anew.
    assert_eq!(clocks.wall(), Ok(u64::MAX));
    let time = clocks.wall_time().unwrap();
    assert_eq!(time.seconds(), 18_446_744_073);
    let never = Clocks::new(always(Answer::error(Status::Io)));
    assert_eq!(never.wall(), Err(Errno::Io));
    assert_eq!(never.for_certificates(), None);
}

#[test]
fn errors_unknown_to_wasi_map_to_a_similar_one() {
    for (status, expected) in [
        (Status::NoEntry, Errno::NoEntry),
        (Status::Stale, Errno::NoEntry),
        (Status::Permission, Errno::NotPermitted),
        // A path out of the grant.
        (Status::NotCapable, Errno::NotPermitted),
        (Status::Access, Errno::Access),
        (Status::ResolverFailure, Errno::Again),
        (Status::Quota, Errno::NoSpace),
        (Status::Protocol, Errno::Io),
        (Status::Fault, Errno::Io),
    ] {
        let error = files(Answer::error(status)).stat(ROOT);
        assert_eq!(error, Err(expected), "{status:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_program_withstands_any_answer_that_decodes(script in proptest::collection::vec(any::<u8>(), 0..1500)) {
        program::run(&script);
    }
}
