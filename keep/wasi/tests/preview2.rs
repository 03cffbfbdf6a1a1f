// SPDX-License-Identifier: Apache-2.0

//! Conformance of the front end of 0.2: every interface, with its error codes, through its host functions.

use std::time::{SystemTime, UNIX_EPOCH};

use enarx_configuration::{Configuration, Directory, Network, Terminals};
use enarx_sallyport_host::{InProcess, World};
use enarx_wasi::Exit;
use enarx_wasi::budget::Budget;
use enarx_wasi::context::{Context, Surroundings};
use enarx_wasi::error::{Errno, Fault};
use enarx_wasi::port::MAX_TRANSFER;
use enarx_wasi::preview2::Preview2;
use enarx_wasi::preview2::bindings::wasi::cli::{
    environment::Host as _, exit::Host as _, stderr::Host as _, stdin::Host as _,
    stdout::Host as _, terminal_input::HostTerminalInput, terminal_stdin::Host as _,
    terminal_stdout::Host as _,
};
use enarx_wasi::preview2::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use enarx_wasi::preview2::bindings::wasi::filesystem::preopens::Host as _;
use enarx_wasi::preview2::bindings::wasi::filesystem::types::{
    self, Advice, Descriptor, DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor,
    HostDirectoryEntryStream, NewTimestamp, OpenFlags, PathFlags,
};
use enarx_wasi::preview2::bindings::wasi::io::poll::{Host as _, HostPollable};
use enarx_wasi::preview2::bindings::wasi::io::streams::{HostInputStream, HostOutputStream};
use enarx_wasi::preview2::bindings::wasi::random::{
    insecure::Host as _, insecure_seed::Host as _, random::Host as _,
};
use enarx_wasi::preview2::bindings::wasi::sockets::{
    instance_network::Host as _,
    ip_name_lookup::{Host as _, HostResolveAddressStream},
    network::{
        self, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
    },
    tcp::{HostTcpSocket, ShutdownType, TcpSocket},
    tcp_create_socket::Host as _,
    udp::{
        HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, OutgoingDatagram,
        UdpSocket,
    },
    udp_create_socket::Host as _,
};
use enarx_wasi::preview2::sockets::Failure;
use enarx_wasi::random::{NoEntropy, Random};
use wasmtime::component::Resource;
use wasmtime_wasi_io::poll::DynPollable;
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, StreamError};

struct Guest {
    wasi: Preview2,
    host: InProcess,
}

impl Guest {
    fn new(configuration: &Configuration, world: World) -> Self {
        let directories = configuration.directories.len();
        let (port, host) = InProcess::start(World {
            directories,
            ..world
        });
        let context = Context::new(
            &port,
            configuration,
            &Budget::new(1 << 30),
            Surroundings::default(),
        )
        .unwrap();
        Self {
            wasi: Preview2::new(context),
            host,
        }
    }

    fn private() -> Self {
        Self::new(&Configuration::default(), World::default())
    }

    fn on_host(read_only: bool) -> Self {
        let configuration = Configuration {
            directories: vec![Directory {
                guest_path: "/data".into(),
                read_only,
            }],
            ..Configuration::default()
        };
        Self::new(&configuration, World::default())
    }

    fn each() -> [Self; 2] {
        [Self::private(), Self::on_host(false)]
    }

    /// The first preopened directory.
    fn root(&mut self) -> Resource<Descriptor> {
        self.wasi.get_directories().unwrap().remove(0).0
    }

    fn open(
        &mut self,
        directory: &Resource<Descriptor>,
        path: &str,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<Resource<Descriptor>, ErrorCode> {
        let opened = self.wasi.open_at(
            borrow(directory),
            PathFlags::SYMLINK_FOLLOW,
            path.to_owned(),
            open_flags,
            flags,
        );
        self.code(opened)
    }

    fn create(&mut self, directory: &Resource<Descriptor>, path: &str) -> Resource<Descriptor> {
        let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
        self.open(directory, path, OpenFlags::CREATE, flags)
            .unwrap()
    }

    /// The result with the error code that the component sees.
    fn code<T>(&mut self, result: Result<T, Fault>) -> Result<T, ErrorCode> {
        result.map_err(|fault| types::Host::convert_error_code(&mut self.wasi, fault).unwrap())
    }

    fn read_all(&mut self, stream: &Resource<DynInputStream>) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match self.wasi.blocking_read(lend(stream), 100_000) {
                Ok(more) => bytes.extend(more),
                Err(StreamError::Closed) => return bytes,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn borrow(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    lend(descriptor)
}

fn lend<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

#[test]
fn command_line_and_exit() {
    let configuration = Configuration {
        args: vec!["app".into(), "-x".into()],
        env: vec![("A".into(), "1".into())],
        ..Configuration::default()
    };
    let mut guest = Guest::new(&configuration, World::default());
    assert_eq!(guest.wasi.get_arguments().unwrap(), ["app", "-x"]);
    assert_eq!(
        guest.wasi.get_environment().unwrap(),
        [("A".into(), "1".into())]
    );
    assert_eq!(guest.wasi.initial_cwd().unwrap(), None);
    for (status, code) in [(Ok(()), 0), (Err(()), 1)] {
        let error = guest.wasi.exit(status).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Exit(code)));
    }
    let error = guest.wasi.exit_with_code(77).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Exit(77)));
}

#[test]
fn terminals() {
    let configuration = Configuration {
        terminals: Terminals {
            stdin: true,
            ..Terminals::default()
        },
        ..Configuration::default()
    };
    let mut guest = Guest::new(&configuration, World::default());
    let terminal = guest.wasi.get_terminal_stdin().unwrap().unwrap();
    HostTerminalInput::drop(&mut guest.wasi, terminal).unwrap();
    assert!(guest.wasi.get_terminal_stdout().unwrap().is_none());
}

#[test]
fn standard_output() {
    let mut guest = Guest::private();
    let stdout: Resource<DynOutputStream> = guest.wasi.get_stdout().unwrap();
    let stderr = guest.wasi.get_stderr().unwrap();
    let permit = guest.wasi.check_write(lend(&stdout)).unwrap();
    assert!(permit >= 4096);
    HostOutputStream::write(&mut guest.wasi, lend(&stdout), b"one ".to_vec()).unwrap();
    guest.wasi.flush(lend(&stdout)).unwrap();
    let written = guest
        .wasi
        .blocking_write_and_flush(lend(&stdout), b"two".to_vec());
    written.unwrap();
    guest
        .wasi
        .blocking_write_and_flush(lend(&stderr), b"err".to_vec())
        .unwrap();
    guest
        .wasi
        .blocking_write_zeroes_and_flush(lend(&stdout), 2)
        .unwrap();
    guest.wasi.blocking_flush(lend(&stdout)).unwrap();
    assert_eq!(guest.host.stdout(), b"one two\0\0");
    assert_eq!(guest.host.stderr(), b"err");
    // Always ready for writing.
    let pollable = HostOutputStream::subscribe(&mut guest.wasi, lend(&stdout)).unwrap();
    assert!(guest.wasi.ready(lend(&pollable)).unwrap());
    HostPollable::drop(&mut guest.wasi, pollable).unwrap();
    guest.host.close_stdout();
    let error = guest
        .wasi
        .blocking_write_and_flush(lend(&stdout), b"x".to_vec());
    let Err(StreamError::LastOperationFailed(error)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error.downcast_ref(), Some(&Errno::Pipe));
    HostOutputStream::drop(&mut guest.wasi, stdout).unwrap();
}

#[test]
fn standard_input() {
    let world = World {
        stdin: b"some input".to_vec(),
        ..World::default()
    };
    let mut guest = Guest::new(&Configuration::default(), world);
    let stdin: Resource<DynInputStream> = guest.wasi.get_stdin().unwrap();
    assert_eq!(guest.wasi.blocking_read(lend(&stdin), 0).unwrap(), b"");
    let pollable = HostInputStream::subscribe(&mut guest.wasi, lend(&stdin)).unwrap();
    guest.wasi.block(lend(&pollable)).unwrap();
    assert_eq!(guest.wasi.poll(vec![lend(&pollable)]).unwrap(), [0]);
    assert_eq!(
        HostInputStream::read(&mut guest.wasi, lend(&stdin), 4).unwrap(),
        b"some"
    );
    assert_eq!(guest.wasi.blocking_skip(lend(&stdin), 1).unwrap(), 1);
    assert_eq!(guest.read_all(&stdin), b"input");
    assert!(matches!(
        HostInputStream::read(&mut guest.wasi, lend(&stdin), 1),
        Err(StreamError::Closed)
    ));
    HostPollable::drop(&mut guest.wasi, pollable).unwrap();
    HostInputStream::drop(&mut guest.wasi, stdin).unwrap();
}

#[test]
fn input_is_spliced_to_output() {
    let world = World {
        stdin: b"through".to_vec(),
        ..World::default()
    };
    let mut guest = Guest::new(&Configuration::default(), world);
    let stdin = guest.wasi.get_stdin().unwrap();
    let stdout = guest.wasi.get_stdout().unwrap();
    let spliced = guest.wasi.blocking_splice(lend(&stdout), lend(&stdin), 100);
    assert_eq!(spliced.unwrap(), 7);
    assert_eq!(guest.host.stdout(), b"through");
}

#[test]
fn clocks() {
    let mut guest = Guest::private();
    let now = wall_clock::Host::now(&mut guest.wasi).unwrap();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(since.as_secs().abs_diff(now.seconds) < 60);
    assert_eq!(
        wall_clock::Host::resolution(&mut guest.wasi)
            .unwrap()
            .nanoseconds,
        1
    );
    assert_eq!(
        monotonic_clock::Host::resolution(&mut guest.wasi).unwrap(),
        1
    );
    let start = monotonic_clock::Host::now(&mut guest.wasi).unwrap();
    let soon = monotonic_clock::Host::subscribe_duration(&mut guest.wasi, 20_000_000).unwrap();
    let never = monotonic_clock::Host::subscribe_instant(&mut guest.wasi, u64::MAX).unwrap();
    let past = monotonic_clock::Host::subscribe_instant(&mut guest.wasi, 0).unwrap();
    assert!(!guest.wasi.ready(lend(&soon)).unwrap());
    assert!(guest.wasi.ready(lend(&past)).unwrap());
    assert_eq!(
        guest.wasi.poll(vec![lend(&never), lend(&soon)]).unwrap(),
        [1]
    );
    let end = monotonic_clock::Host::now(&mut guest.wasi).unwrap();
    assert!(end - start >= 20_000_000);
    guest.wasi.block(lend(&soon)).unwrap();
    assert_eq!(
        guest.wasi.poll(vec![lend(&past), lend(&never)]).unwrap(),
        [0]
    );
    // Polling nothing is the program's fault.
    assert!(guest.wasi.poll(Vec::new()).is_err());
}

#[test]
fn random_numbers() {
    let mut guest = Guest::private();
    let bytes = guest.wasi.get_random_bytes(100_000).unwrap();
    assert_eq!(bytes.len(), 100_000);
    assert_ne!(bytes, guest.wasi.get_random_bytes(100_000).unwrap());
    assert_eq!(guest.wasi.get_random_bytes(0).unwrap(), b"");
    assert!(guest.wasi.get_random_bytes(u64::MAX).is_err());
    assert_ne!(
        guest.wasi.get_random_u64().unwrap(),
        guest.wasi.get_random_u64().unwrap()
    );
    assert_eq!(guest.wasi.get_insecure_random_bytes(7).unwrap().len(), 7);
    assert!(guest.wasi.get_insecure_random_bytes(1 << 40).is_err());
    let insecure = guest.wasi.get_insecure_random_u64().unwrap();
    assert_ne!(insecure, guest.wasi.get_insecure_random_u64().unwrap());
    let (first, second) = guest.wasi.insecure_seed().unwrap();
    assert_eq!(guest.wasi.insecure_seed().unwrap(), (first, second));
    assert_ne!(first, second);
    let mut other = Guest::private();
    assert_ne!(other.wasi.insecure_seed().unwrap(), (first, second));
}

/// The interface has no error: the program ends, and never gets numbers that are not random.
#[test]
fn without_entropy_there_are_no_random_numbers() {
    let (port, _host) = InProcess::start(World::default());
    let mut context = Context::new(
        &port,
        &Configuration::default(),
        &Budget::new(1 << 30),
        Surroundings::default(),
    )
    .unwrap();
    context.random = Random::seeded_by(|_| Err(getrandom::Error::UNSUPPORTED));
    let mut wasi = Preview2::new(context);
    let error = wasi.get_random_bytes(1).unwrap_err();
    assert!(error.downcast_ref::<NoEntropy>().is_some(), "{error}");
    assert!(wasi.get_random_u64().is_err());
    assert!(wasi.get_insecure_random_bytes(1).is_err());
    assert!(wasi.get_insecure_random_u64().is_err());
    assert!(wasi.insecure_seed().is_err());
}

#[test]
fn files() {
    for mut guest in Guest::each() {
        let root = guest.root();
        let file = guest.create(&root, "file");
        let wasi = &mut guest.wasi;
        assert_eq!(
            wasi.get_type(borrow(&file)).unwrap(),
            DescriptorType::RegularFile
        );
        let flags = wasi.get_flags(borrow(&file)).unwrap();
        assert_eq!(flags, DescriptorFlags::READ | DescriptorFlags::WRITE);
        let written = HostDescriptor::write(wasi, borrow(&file), b"hello world".to_vec(), 0);
        assert_eq!(written.unwrap(), 11);
        let read = |guest: &mut Guest, length, offset| {
            let read = HostDescriptor::read(&mut guest.wasi, borrow(&file), length, offset);
            guest.code(read)
        };
        assert_eq!(read(&mut guest, 5, 6).unwrap(), (b"world".to_vec(), false));
        assert_eq!(
            read(&mut guest, u64::MAX, 0).unwrap(),
            (b"hello world".to_vec(), false)
        );
        assert_eq!(read(&mut guest, 1, 11).unwrap(), (Vec::new(), true));
        assert_eq!(read(&mut guest, 0, 0).unwrap().0, b"");
        assert_eq!(read(&mut guest, 1, u64::MAX), Err(ErrorCode::Invalid));
        let far = HostDescriptor::write(&mut guest.wasi, borrow(&file), b"x".to_vec(), 1 << 33);
        assert_eq!(far.unwrap(), 1);
        assert_eq!(guest.wasi.stat(borrow(&file)).unwrap().size, (1 << 33) + 1);
        guest.wasi.set_size(borrow(&file), 5).unwrap();
        let advised = guest.wasi.advise(borrow(&file), 0, 5, Advice::Sequential);
        advised.unwrap();
        guest.wasi.sync(borrow(&file)).unwrap();
        guest.wasi.sync_data(borrow(&file)).unwrap();
        let times = (
            NewTimestamp::NoChange,
            NewTimestamp::Timestamp(wall_clock::Datetime {
                seconds: 5,
                nanoseconds: 6,
            }),
        );
        guest
            .wasi
            .set_times(borrow(&file), times.0, times.1)
            .unwrap();
        let modified = guest
            .wasi
            .stat(borrow(&file))
            .unwrap()
            .data_modification_timestamp;
        assert_eq!(
            modified.map(|time| (time.seconds, time.nanoseconds)),
            Some((5, 6))
        );
        HostDescriptor::drop(&mut guest.wasi, file).unwrap();
    }
}

#[test]
fn streams_of_files() {
    for mut guest in Guest::each() {
        let root = guest.root();
        let file = guest.create(&root, "file");
        let writer = guest.wasi.write_via_stream(borrow(&file), 2).unwrap();
        guest
            .wasi
            .blocking_write_and_flush(lend(&writer), b"abc".to_vec())
            .unwrap();
        guest
            .wasi
            .blocking_write_and_flush(lend(&writer), b"def".to_vec())
            .unwrap();
        let appender = guest.wasi.append_via_stream(borrow(&file)).unwrap();
        guest
            .wasi
            .blocking_write_and_flush(lend(&appender), b"!".to_vec())
            .unwrap();
        let reader = guest.wasi.read_via_stream(borrow(&file), 0).unwrap();
        assert_eq!(guest.read_all(&reader), b"\0\0abcdef!");
        let reader = guest.wasi.read_via_stream(borrow(&file), 100).unwrap();
        assert_eq!(guest.read_all(&reader), b"");
        let large: Vec<u8> = (0..300_000_u32).map(|i| (i % 241) as u8).collect();
        let writer = guest.wasi.write_via_stream(borrow(&file), 0).unwrap();
        for chunk in large.chunks(4096) {
            guest
                .wasi
                .blocking_write_and_flush(lend(&writer), chunk.to_vec())
                .unwrap();
        }
        let reader = guest.wasi.read_via_stream(borrow(&file), 0).unwrap();
        assert_eq!(guest.read_all(&reader), large);
        // An error of a stream names its code.
        let read_only = guest.open(&root, "file", OpenFlags::empty(), DescriptorFlags::READ);
        let writer = guest
            .wasi
            .write_via_stream(borrow(&read_only.unwrap()), 0)
            .unwrap();
        let error = guest
            .wasi
            .blocking_write_and_flush(lend(&writer), b"x".to_vec());
        let Err(StreamError::LastOperationFailed(error)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.downcast_ref(), Some(&Errno::BadDescriptor));
    }
}

#[test]
fn directories_and_links() {
    for mut guest in Guest::each() {
        let root = guest.root();
        let at = |name: &str| name.to_owned();
        guest
            .wasi
            .create_directory_at(borrow(&root), at("d"))
            .unwrap();
        let file = guest.create(&root, "d/file");
        guest
            .wasi
            .symlink_at(borrow(&root), at("d/file"), at("link"))
            .unwrap();
        assert_eq!(
            guest.wasi.readlink_at(borrow(&root), at("link")).unwrap(),
            "d/file"
        );
        let linked = guest.wasi.link_at(
            borrow(&root),
            PathFlags::empty(),
            at("d/file"),
            borrow(&root),
            at("second"),
        );
        linked.unwrap();
        let second = guest
            .open(&root, "second", OpenFlags::empty(), DescriptorFlags::READ)
            .unwrap();
        assert!(
            guest
                .wasi
                .is_same_object(borrow(&file), borrow(&second))
                .unwrap()
        );
        assert!(
            !guest
                .wasi
                .is_same_object(borrow(&file), borrow(&root))
                .unwrap()
        );
        let hash = guest.wasi.metadata_hash(borrow(&file)).unwrap();
        let flags = PathFlags::SYMLINK_FOLLOW;
        let other = guest
            .wasi
            .metadata_hash_at(borrow(&root), flags, at("link"))
            .unwrap();
        assert_eq!((hash.lower, hash.upper), (other.lower, other.upper));
        let stat = guest
            .wasi
            .stat_at(borrow(&root), PathFlags::empty(), at("link"))
            .unwrap();
        assert_eq!(stat.type_, DescriptorType::SymbolicLink);
        assert_eq!(guest.wasi.stat(borrow(&file)).unwrap().link_count, 2);
        let set = guest.wasi.set_times_at(
            borrow(&root),
            PathFlags::empty(),
            at("second"),
            NewTimestamp::Now,
            NewTimestamp::Now,
        );
        set.unwrap();
        guest
            .wasi
            .rename_at(borrow(&root), at("second"), borrow(&root), at("third"))
            .unwrap();
        let listing = guest.wasi.read_directory(borrow(&root)).unwrap();
        let mut names = Vec::new();
        while let Some(entry) = guest.wasi.read_directory_entry(lend(&listing)).unwrap() {
            names.push((entry.name, entry.type_));
        }
        // A directory of the host has its own order.
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        let expected = [
            ("d", DescriptorType::Directory),
            ("link", DescriptorType::SymbolicLink),
            ("third", DescriptorType::RegularFile),
        ];
        assert_eq!(names, expected.map(|(name, kind)| (name.to_owned(), kind)));
        HostDirectoryEntryStream::drop(&mut guest.wasi, listing).unwrap();
        guest
            .wasi
            .unlink_file_at(borrow(&root), at("d/file"))
            .unwrap();
        guest
            .wasi
            .remove_directory_at(borrow(&root), at("d"))
            .unwrap();
    }
}

#[test]
fn error_codes() {
    for mut guest in Guest::each() {
        let root = guest.root();
        let file = guest.create(&root, "file");
        let at = |name: &str| name.to_owned();
        let read = DescriptorFlags::READ;
        for path in ["..", "../x", "/etc", "a/../../x"] {
            let opened = guest.open(&root, path, OpenFlags::empty(), read);
            let expected = if path.starts_with('a') {
                ErrorCode::NoEntry
            } else {
                ErrorCode::NotPermitted
            };
            assert_eq!(opened.unwrap_err(), expected, "{path}");
        }
        let symlink = guest.wasi.symlink_at(borrow(&root), at("/etc"), at("out"));
        assert_eq!(guest.code(symlink), Err(ErrorCode::NotPermitted));
        guest
            .wasi
            .symlink_at(borrow(&root), at("../x"), at("out"))
            .unwrap();
        let opened = guest.open(&root, "out", OpenFlags::empty(), read);
        assert_eq!(opened.unwrap_err(), ErrorCode::NotPermitted);
        let opened = guest.open(&root, "missing", OpenFlags::empty(), read);
        assert_eq!(opened.unwrap_err(), ErrorCode::NoEntry);
        let opened = guest.open(&root, "file", OpenFlags::DIRECTORY, read);
        assert_eq!(opened.unwrap_err(), ErrorCode::NotDirectory);
        let both = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let opened = guest.open(&root, "file", both, read);
        assert_eq!(opened.unwrap_err(), ErrorCode::Exist);
        let opened = guest.open(
            &root,
            "file",
            OpenFlags::CREATE | OpenFlags::DIRECTORY,
            read,
        );
        assert_eq!(opened.unwrap_err(), ErrorCode::Invalid);
        let sync = DescriptorFlags::FILE_INTEGRITY_SYNC;
        let opened = guest.open(&root, "file", OpenFlags::empty(), sync);
        assert_eq!(opened.unwrap_err(), ErrorCode::Unsupported);
        let opened = guest.open(&file, "x", OpenFlags::empty(), read);
        assert_eq!(opened.unwrap_err(), ErrorCode::NotDirectory);
        let listed = guest.wasi.read_directory(borrow(&file));
        assert_eq!(guest.code(listed).unwrap_err(), ErrorCode::NotDirectory);
        let read_at = HostDescriptor::read(&mut guest.wasi, borrow(&root), 1, 0);
        assert_eq!(guest.code(read_at), Err(ErrorCode::BadDescriptor));
        let write_at = HostDescriptor::write(&mut guest.wasi, borrow(&root), vec![1], 0);
        assert_eq!(guest.code(write_at), Err(ErrorCode::BadDescriptor));
        let sized = guest.wasi.set_size(borrow(&root), 1);
        assert_eq!(guest.code(sized), Err(ErrorCode::BadDescriptor));
        let stream = guest.wasi.read_via_stream(borrow(&root), 0);
        assert_eq!(guest.code(stream).unwrap_err(), ErrorCode::IsDirectory);
        let stream = guest.wasi.append_via_stream(borrow(&root));
        assert_eq!(guest.code(stream).unwrap_err(), ErrorCode::BadDescriptor);
        let removed = guest.wasi.remove_directory_at(borrow(&root), at("file"));
        assert_eq!(guest.code(removed), Err(ErrorCode::NotDirectory));
        let too_far = HostDescriptor::write(&mut guest.wasi, borrow(&file), vec![1; 2], u64::MAX);
        assert_eq!(guest.code(too_far), Err(ErrorCode::Invalid));
        // A descriptor that was never returned is the component's fault, not an error code.
        let unknown = Resource::new_borrow(9999);
        assert!(matches!(guest.wasi.stat(unknown), Err(Fault::Trap(_))));
    }
}

#[test]
fn a_read_only_directory_refuses_changes() {
    let mut guest = Guest::on_host(true);
    let root = guest.root();
    let flags = guest.wasi.get_flags(borrow(&root)).unwrap();
    assert_eq!(flags, DescriptorFlags::READ);
    let calls = guest.host.calls();
    let opened = guest.open(&root, "new", OpenFlags::CREATE, DescriptorFlags::WRITE);
    assert_eq!(opened.unwrap_err(), ErrorCode::NotPermitted);
    let made = guest
        .wasi
        .create_directory_at(borrow(&root), "d".to_owned());
    assert_eq!(guest.code(made), Err(ErrorCode::NotPermitted));
    let removed = guest.wasi.unlink_file_at(borrow(&root), "f".to_owned());
    assert_eq!(guest.code(removed), Err(ErrorCode::NotPermitted));
    assert_eq!(guest.host.calls(), calls);
}

fn with_network(allowed: bool) -> Guest {
    let configuration = Configuration {
        network: Network {
            tcp: allowed,
            udp: allowed,
            name_lookup: allowed,
        },
        ..Configuration::default()
    };
    Guest::new(&configuration, World::default())
}

impl Guest {
    fn socket_code<T>(&mut self, result: Result<T, Failure>) -> Result<T, network::ErrorCode> {
        result
            .map_err(|failure| network::Host::convert_error_code(&mut self.wasi, failure).unwrap())
    }

    /// Waits for a pollable.
    fn wait(&mut self, pollable: wasmtime::Result<Resource<DynPollable>>) {
        let pollable = pollable.unwrap();
        self.wasi.block(lend(&pollable)).unwrap();
        HostPollable::drop(&mut self.wasi, pollable).unwrap();
    }

    fn bound_tcp(&mut self, network: &Resource<network::Network>) -> Resource<TcpSocket> {
        let socket = self.wasi.create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
        let started =
            HostTcpSocket::start_bind(&mut self.wasi, lend(&socket), lend(network), localhost(0));
        self.socket_code(started).unwrap();
        let pollable = HostTcpSocket::subscribe(&mut self.wasi, lend(&socket));
        self.wait(pollable);
        HostTcpSocket::finish_bind(&mut self.wasi, lend(&socket)).unwrap();
        socket
    }

    fn bound_udp(&mut self, network: &Resource<network::Network>) -> Resource<UdpSocket> {
        let socket = self.wasi.create_udp_socket(IpAddressFamily::Ipv4).unwrap();
        HostUdpSocket::start_bind(&mut self.wasi, lend(&socket), lend(network), localhost(0))
            .unwrap();
        let pollable = HostUdpSocket::subscribe(&mut self.wasi, lend(&socket));
        self.wait(pollable);
        HostUdpSocket::finish_bind(&mut self.wasi, lend(&socket)).unwrap();
        socket
    }
}

fn localhost(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port,
        address: (127, 0, 0, 1),
    })
}

fn port_of(address: IpSocketAddress) -> u16 {
    match address {
        IpSocketAddress::Ipv4(address) => address.port,
        IpSocketAddress::Ipv6(address) => address.port,
    }
}

#[test]
fn the_network_is_closed_unless_it_is_opened() {
    let mut guest = with_network(false);
    let network = guest.wasi.instance_network().unwrap();
    let denied = Err(network::ErrorCode::AccessDenied);
    let tcp = guest
        .wasi
        .create_tcp_socket(IpAddressFamily::Ipv4)
        .map(drop);
    assert_eq!(guest.socket_code(tcp), denied);
    let udp = guest
        .wasi
        .create_udp_socket(IpAddressFamily::Ipv6)
        .map(drop);
    assert_eq!(guest.socket_code(udp), denied);
    let found = guest
        .wasi
        .resolve_addresses(lend(&network), "two.example".to_owned())
        .map(drop);
    let refused = Err(network::ErrorCode::PermanentResolverFailure);
    assert_eq!(guest.socket_code(found), refused);
    network::HostNetwork::drop(&mut guest.wasi, network).unwrap();
    assert_eq!(guest.host.calls(), 0);
}

#[test]
fn names_are_looked_up() {
    let mut guest = with_network(true);
    let network = guest.wasi.instance_network().unwrap();
    let resolve = |guest: &mut Guest, name: &str| {
        let stream = guest
            .wasi
            .resolve_addresses(lend(&network), name.to_owned());
        let stream = guest.socket_code(stream)?;
        let pollable = HostResolveAddressStream::subscribe(&mut guest.wasi, lend(&stream));
        guest.wait(pollable);
        let mut found = Vec::new();
        loop {
            let next = guest.wasi.resolve_next_address(lend(&stream));
            match guest.socket_code(next)? {
                Some(IpAddress::Ipv4(address)) => found.push(format!("{address:?}")),
                Some(IpAddress::Ipv6(address)) => found.push(format!("{address:x?}")),
                None => {
                    HostResolveAddressStream::drop(&mut guest.wasi, stream).unwrap();
                    return Ok::<_, network::ErrorCode>(found);
                }
            }
        }
    };
    let found = resolve(&mut guest, "localhost").unwrap();
    let loopback = ["(127, 0, 0, 1)", "(0, 0, 0, 0, 0, 0, 0, 1)"];
    assert!(
        !found.is_empty() && found.iter().all(|address| loopback.contains(&&**address)),
        "{found:?}"
    );
    for (literal, address) in [("127.0.0.1", loopback[0]), ("::1", loopback[1])] {
        assert_eq!(resolve(&mut guest, literal).unwrap(), [address]);
    }
    // No name ends like this (RFC 6761); without a name server the result is unknown.
    let unknown = resolve(&mut guest, "no.invalid").unwrap_err();
    assert!(
        matches!(
            unknown,
            network::ErrorCode::NameUnresolvable | network::ErrorCode::TemporaryResolverFailure
        ),
        "{unknown:?}"
    );
    for name in ["", "a\0b", &"x".repeat(300)] {
        assert_eq!(
            resolve(&mut guest, name),
            Err(network::ErrorCode::InvalidArgument)
        );
    }
}

#[test]
fn tcp_connections_carry_bytes_both_ways() {
    let mut guest = with_network(true);
    let network = guest.wasi.instance_network().unwrap();
    let listener = guest.bound_tcp(&network);
    let address = HostTcpSocket::local_address(&mut guest.wasi, lend(&listener)).unwrap();
    let port = port_of(address);
    assert_ne!(port, 0);
    let early = guest.wasi.accept(lend(&listener)).map(drop);
    assert_eq!(
        guest.socket_code(early),
        Err(network::ErrorCode::InvalidState)
    );
    guest.wasi.start_listen(lend(&listener)).unwrap();
    guest.wasi.finish_listen(lend(&listener)).unwrap();
    assert!(guest.wasi.is_listening(lend(&listener)).unwrap());
    let nobody = guest.wasi.accept(lend(&listener)).map(drop);
    assert_eq!(
        guest.socket_code(nobody),
        Err(network::ErrorCode::WouldBlock)
    );

    let client = guest.wasi.create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    guest
        .wasi
        .set_keep_alive_enabled(lend(&client), true)
        .unwrap();
    assert!(guest.wasi.keep_alive_enabled(lend(&client)).unwrap());
    guest
        .wasi
        .start_connect(lend(&client), lend(&network), localhost(port))
        .unwrap();
    let pollable = HostTcpSocket::subscribe(&mut guest.wasi, lend(&client));
    guest.wait(pollable);
    let (client_in, client_out) = guest.wasi.finish_connect(lend(&client)).unwrap();
    let peer = HostTcpSocket::remote_address(&mut guest.wasi, lend(&client)).unwrap();
    assert_eq!(port_of(peer), port);

    let pollable = HostTcpSocket::subscribe(&mut guest.wasi, lend(&listener));
    guest.wait(pollable);
    let (server, server_in, server_out) = guest.wasi.accept(lend(&listener)).unwrap();
    guest
        .wasi
        .blocking_write_and_flush(lend(&client_out), b"question".to_vec())
        .unwrap();
    assert_eq!(
        guest.wasi.blocking_read(lend(&server_in), 100).unwrap(),
        b"question"
    );
    guest
        .wasi
        .blocking_write_and_flush(lend(&server_out), b"answer".to_vec())
        .unwrap();
    assert_eq!(
        guest.wasi.blocking_read(lend(&client_in), 100).unwrap(),
        b"answer"
    );
    // Nothing more is available yet.
    assert_eq!(
        HostInputStream::read(&mut guest.wasi, lend(&client_in), 100).unwrap(),
        b""
    );
    guest
        .wasi
        .shutdown(lend(&server), ShutdownType::Send)
        .unwrap();
    assert_eq!(guest.read_all(&client_in), b"");
    HostInputStream::drop(&mut guest.wasi, client_in).unwrap();
    HostOutputStream::drop(&mut guest.wasi, client_out).unwrap();
    HostTcpSocket::drop(&mut guest.wasi, client).unwrap();
    assert_eq!(guest.read_all(&server_in), b"");
}

#[test]
fn writes_go_ahead_in_order_and_a_flush_waits_for_all() {
    /// More than a socket buffers of a peer that reads nothing.
    const PIECES: u8 = 200;
    let mut guest = with_network(true);
    let network = guest.wasi.instance_network().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = guest.wasi.create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    guest
        .wasi
        .start_connect(lend(&socket), lend(&network), localhost(port))
        .unwrap();
    let pollable = HostTcpSocket::subscribe(&mut guest.wasi, lend(&socket));
    guest.wait(pollable);
    let (_input, output) = guest.wasi.finish_connect(lend(&socket)).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    // The bytes that the peer does not read are limited: the program has to wait.
    let mut written = 0_u8;
    loop {
        let room = guest.wasi.check_write(lend(&output)).unwrap();
        if room == 0 || written == PIECES {
            break;
        }
        let piece = vec![written; usize::try_from(room).unwrap()];
        HostOutputStream::write(&mut guest.wasi, lend(&output), piece).unwrap();
        written += 1;
    }
    assert!((8..PIECES).contains(&written), "{written}");
    HostOutputStream::flush(&mut guest.wasi, lend(&output)).unwrap();
    assert_eq!(guest.wasi.check_write(lend(&output)).unwrap(), 0);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut peer, &mut bytes).unwrap();
        bytes
    });
    guest.wasi.blocking_flush(lend(&output)).unwrap();
    guest
        .wasi
        .shutdown(lend(&socket), ShutdownType::Send)
        .unwrap();
    guest.host.serve();
    let bytes = reader.join().unwrap();
    assert_eq!(bytes.len(), usize::from(written) * MAX_TRANSFER);
    assert!(bytes.is_sorted(), "out of order");
}

#[test]
fn tcp_errors() {
    let mut guest = with_network(true);
    let network = guest.wasi.instance_network().unwrap();
    // A port at which nobody listens: a bound socket occupies it.
    let holder = guest.wasi.create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    HostTcpSocket::start_bind(&mut guest.wasi, lend(&holder), lend(&network), localhost(0))
        .unwrap();
    let pollable = HostTcpSocket::subscribe(&mut guest.wasi, lend(&holder));
    guest.wait(pollable);
    HostTcpSocket::finish_bind(&mut guest.wasi, lend(&holder)).unwrap();
    let held = HostTcpSocket::local_address(&mut guest.wasi, lend(&holder)).unwrap();
    let IpSocketAddress::Ipv4(Ipv4SocketAddress { port: free, .. }) = held else {
        panic!("{held:?}");
    };
    let socket = guest.wasi.create_tcp_socket(IpAddressFamily::Ipv4).unwrap();
    let v6 = IpSocketAddress::Ipv6(Ipv6SocketAddress {
        port: 80,
        flow_info: 0,
        address: (0, 0, 0, 0, 0, 0, 0, 1),
        scope_id: 0,
    });
    let unspecified = IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: 80,
        address: (0, 0, 0, 0),
    });
    for address in [v6, unspecified, localhost(0)] {
        let started = guest
            .wasi
            .start_connect(lend(&socket), lend(&network), address);
        assert_eq!(
            guest.socket_code(started),
            Err(network::ErrorCode::InvalidArgument)
        );
    }
    let finished = guest.wasi.finish_connect(lend(&socket)).map(drop);
    assert_eq!(
        guest.socket_code(finished),
        Err(network::ErrorCode::NotInProgress)
    );
    let finished = HostTcpSocket::finish_bind(&mut guest.wasi, lend(&socket));
    assert_eq!(
        guest.socket_code(finished),
        Err(network::ErrorCode::NotInProgress)
    );
    let listening = guest.wasi.start_listen(lend(&socket));
    assert_eq!(
        guest.socket_code(listening),
        Err(network::ErrorCode::InvalidState)
    );
    let address = HostTcpSocket::local_address(&mut guest.wasi, lend(&socket));
    assert_eq!(
        guest.socket_code(address).unwrap_err(),
        network::ErrorCode::InvalidState
    );
    let zero = guest.wasi.set_listen_backlog_size(lend(&socket), 0);
    assert_eq!(
        guest.socket_code(zero),
        Err(network::ErrorCode::InvalidArgument)
    );
    guest
        .wasi
        .start_connect(lend(&socket), lend(&network), localhost(free))
        .unwrap();
    let again = guest
        .wasi
        .start_connect(lend(&socket), lend(&network), localhost(free));
    assert_eq!(
        guest.socket_code(again),
        Err(network::ErrorCode::ConcurrencyConflict)
    );
    let pollable = HostTcpSocket::subscribe(&mut guest.wasi, lend(&socket));
    guest.wait(pollable);
    let finished = guest.wasi.finish_connect(lend(&socket)).map(drop);
    assert_eq!(
        guest.socket_code(finished),
        Err(network::ErrorCode::ConnectionRefused)
    );
    let after = guest
        .wasi
        .start_connect(lend(&socket), lend(&network), localhost(free));
    assert_eq!(
        guest.socket_code(after),
        Err(network::ErrorCode::InvalidState)
    );
}

#[test]
fn udp_datagrams() {
    let mut guest = with_network(true);
    let network = guest.wasi.instance_network().unwrap();
    let one = guest.bound_udp(&network);
    let two = guest.bound_udp(&network);
    let to = HostUdpSocket::local_address(&mut guest.wasi, lend(&two)).unwrap();
    let (one_in, one_out) = guest.wasi.stream(lend(&one), None).unwrap();
    let (two_in, two_out) = guest.wasi.stream(lend(&two), None).unwrap();
    assert_eq!(guest.wasi.receive(lend(&two_in), 10).unwrap().len(), 0);
    assert!(guest.wasi.check_send(lend(&one_out)).unwrap() > 1);
    let datagram = |data: &[u8], remote_address| OutgoingDatagram {
        data: data.to_vec(),
        remote_address,
    };
    let datagrams = vec![datagram(b"first", Some(to)), datagram(b"", Some(to))];
    assert_eq!(guest.wasi.send(lend(&one_out), datagrams).unwrap(), 2);
    let mut received = Vec::new();
    while received.len() < 2 {
        let pollable = HostIncomingDatagramStream::subscribe(&mut guest.wasi, lend(&two_in));
        guest.wait(pollable);
        received.extend(guest.wasi.receive(lend(&two_in), 10).unwrap());
    }
    assert_eq!(received[0].data, b"first");
    assert_eq!(received[1].data, b"");
    let from = HostUdpSocket::local_address(&mut guest.wasi, lend(&one)).unwrap();
    assert_eq!(port_of(received[0].remote_address), port_of(from));
    // Of a socket with one peer, the datagrams of others are not received, but counted: a flood of them ends each call.
    let three = guest.bound_udp(&network);
    let at = HostUdpSocket::local_address(&mut guest.wasi, lend(&three)).unwrap();
    let four = guest.bound_udp(&network);
    let peer = HostUdpSocket::local_address(&mut guest.wasi, lend(&four)).unwrap();
    let (four_in, four_out) = guest.wasi.stream(lend(&four), None).unwrap();
    guest.wasi.check_send(lend(&one_out)).unwrap();
    let others = [b"of another", b"once more.", b"and again."];
    let datagrams = others.map(|data| datagram(data, Some(at))).into();
    assert_eq!(guest.wasi.send(lend(&one_out), datagrams).unwrap(), 3);
    guest.wasi.check_send(lend(&four_out)).unwrap();
    let datagrams = vec![datagram(b"of the peer", Some(at))];
    assert_eq!(guest.wasi.send(lend(&four_out), datagrams).unwrap(), 1);
    let (three_in, three_out) = guest.wasi.stream(lend(&three), Some(peer)).unwrap();
    let mut received = Vec::new();
    for _ in 0..4 {
        let pollable = HostIncomingDatagramStream::subscribe(&mut guest.wasi, lend(&three_in));
        guest.wait(pollable);
        received.push(guest.wasi.receive(lend(&three_in), 1).unwrap());
    }
    let lengths: Vec<usize> = received.iter().map(Vec::len).collect();
    assert_eq!(lengths, [0, 0, 0, 1]);
    assert_eq!(received[3][0].data, b"of the peer");
    // Nor does it send to another receiver; its own may be named.
    guest.wasi.check_send(lend(&three_out)).unwrap();
    let to_another = vec![datagram(b"to another", Some(from))];
    let sent = guest.wasi.send(lend(&three_out), to_another);
    assert_eq!(
        guest.socket_code(sent),
        Err(network::ErrorCode::InvalidArgument)
    );
    let datagrams = vec![datagram(b"named", Some(peer)), datagram(b"unnamed", None)];
    assert_eq!(guest.wasi.send(lend(&three_out), datagrams).unwrap(), 2);
    let mut received = Vec::new();
    while received.len() < 2 {
        let pollable = HostIncomingDatagramStream::subscribe(&mut guest.wasi, lend(&four_in));
        guest.wait(pollable);
        received.extend(guest.wasi.receive(lend(&four_in), 10).unwrap());
    }
    let received = received.iter().map(|it| &it.data[..]);
    assert!(received.eq([&b"named"[..], b"unnamed"]));
    assert_eq!(guest.wasi.receive(lend(&one_in), 10).unwrap().len(), 0);
    // There is no destination.
    guest.wasi.check_send(lend(&two_out)).unwrap();
    let sent = guest.wasi.send(lend(&two_out), vec![datagram(b"x", None)]);
    assert_eq!(
        guest.socket_code(sent),
        Err(network::ErrorCode::InvalidArgument)
    );
    let large = vec![0; 70_000];
    let sent = guest
        .wasi
        .send(lend(&two_out), vec![datagram(&large, Some(from))]);
    assert_eq!(
        guest.socket_code(sent),
        Err(network::ErrorCode::DatagramTooLarge)
    );
    let unbound = guest.wasi.create_udp_socket(IpAddressFamily::Ipv4).unwrap();
    let streams = guest.wasi.stream(lend(&unbound), None).map(drop);
    assert_eq!(
        guest.socket_code(streams),
        Err(network::ErrorCode::InvalidState)
    );
}
