// SPDX-License-Identifier: Apache-2.0

//! Sockets of the front end of 0.3, through its host functions: with the real executor, and peers on this machine.

use std::fmt::Debug;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket as StdUdpSocket};
use std::pin::{Pin, pin};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use enarx_configuration::{Configuration, Network};
use enarx_sallyport_host::{InProcess, World};
use enarx_wasi::View;
use enarx_wasi::budget::Budget;
use enarx_wasi::context::{Context, Surroundings};
use enarx_wasi::error::{Errno, Fault};
use enarx_wasi::preview2::Preview2;
use enarx_wasi::preview3::bindings::wasi::sockets::ip_name_lookup::HostWithStore as _;
use enarx_wasi::preview3::bindings::wasi::sockets::types::{
    self, ErrorCode, HostTcpSocket, HostTcpSocketWithStore, HostUdpSocket, HostUdpSocketWithStore,
    IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};
use futures_channel::oneshot;
use wasmtime::component::{
    Accessor, FutureConsumer, FutureReader, HasSelf, Lift, Resource, Source, StreamConsumer,
    StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, Config, Engine, Store, StoreContextMut};

/// Longest time of one test on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// The state of the interfaces.
type Data = HasSelf<Preview2>;
type Access = Accessor<Guest, Data>;

struct Guest(Preview2);

impl View<Preview2> for Guest {
    fn wasi(&mut self) -> &mut Preview2 {
        &mut self.0
    }
}

/// Performs an operation in a component that may use the network, or not.
fn within<R>(network: bool, budget: &Budget, work: impl AsyncFnOnce(&Access) -> R) -> R {
    let (port, _host) = InProcess::start(World::default());
    let configuration = Configuration {
        network: Network {
            tcp: network,
            udp: network,
            name_lookup: network,
        },
        ..Configuration::default()
    };
    let context = Context::new(&port, &configuration, budget, Surroundings::default()).unwrap();
    let engine = Engine::new(Config::new().concurrency_support(true)).unwrap();
    let mut store = Store::new(&engine, Guest(Preview2::new(context)));
    let until = Instant::now() + LIMIT;
    let mut outcome = pin!(store.run_concurrent(async |accessor| {
        work(&accessor.with_getter::<Data>(View::wasi)).await
    }));
    let outcome = port.block_on(poll_fn(|context| match outcome.as_mut().poll(context) {
        Poll::Pending if port.poll_deadline(until) => panic!("it hangs"),
        outcome => outcome,
    }));
    outcome.unwrap()
}

fn on_the_network<R>(work: impl AsyncFnOnce(&Access) -> R) -> R {
    within(true, &Budget::new(1 << 30), work)
}

/// Calls a function that is answered at once.
fn at_once<R>(store: &Access, function: impl FnOnce(&mut Preview2) -> R) -> R {
    store.with(|mut store| function(store.get()))
}

/// The name of an error code.
fn name(code: &impl Debug) -> String {
    let code = format!("{code:?}");
    code.trim_start_matches("ErrorCode::").to_owned()
}

/// The result with the error code that the component sees, by its name.
fn code<T>(store: &Access, result: Result<T, Fault>) -> Result<T, String> {
    result.map_err(|fault| {
        let code = at_once(store, |it| types::Host::convert_error_code(it, fault));
        name(&code.unwrap())
    })
}

/// The error of this name.
fn refused<T>(name: &str) -> Result<T, String> {
    Err(name.to_owned())
}

fn lend<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

fn guest_address(address: SocketAddr) -> IpSocketAddress {
    let SocketAddr::V4(address) = address else {
        panic!("{address} is not of IPv4")
    };
    IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port: address.port(),
        address: address.ip().octets().into(),
    })
}

fn std_address(address: IpSocketAddress) -> SocketAddr {
    let IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }) = address else {
        panic!("{address:?} is not of IPv4")
    };
    (<[u8; 4]>::from(address), port).into()
}

fn loopback() -> IpSocketAddress {
    guest_address(([127, 0, 0, 1], 0).into())
}

fn tcp_socket(store: &Access) -> Resource<TcpSocket> {
    at_once(store, |it| {
        HostTcpSocket::create(it, IpAddressFamily::Ipv4).unwrap()
    })
}

fn drop_tcp(store: &Access, socket: Resource<TcpSocket>) {
    at_once(store, |it| HostTcpSocket::drop(it, socket)).unwrap();
}

/// Makes a call; before its answer the host has closed all dropped handles.
fn settle(store: &Access) {
    drop_tcp(store, tcp_socket(store));
}

async fn connect(
    store: &Access,
    socket: &Resource<TcpSocket>,
    to: SocketAddr,
) -> Result<(), String> {
    let outcome = Data::connect(store, lend(socket), guest_address(to)).await;
    code(store, outcome)
}

/// Both ends of a connection: the component's, and this machine's.
async fn connected(store: &Access) -> (Resource<TcpSocket>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = tcp_socket(store);
    let to = listener.local_addr().unwrap();
    connect(store, &socket, to).await.unwrap();
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(LIMIT)).unwrap();
    (socket, peer)
}

/// A listening socket, its connections, and its address.
fn listener(
    store: &Access,
    backlog: u64,
) -> (
    Resource<TcpSocket>,
    StreamReader<Resource<TcpSocket>>,
    SocketAddr,
) {
    let socket = tcp_socket(store);
    at_once(store, |it| {
        HostTcpSocket::bind(it, lend(&socket), loopback()).unwrap();
        it.set_listen_backlog_size(lend(&socket), backlog).unwrap();
    });
    let connections = store.with(|store| Data::listen(store, lend(&socket)).unwrap());
    let at = at_once(store, |it| {
        HostTcpSocket::get_local_address(it, lend(&socket)).unwrap()
    });
    (socket, connections, std_address(at))
}

/// Takes this many items of a stream, then drops it; returns them.
struct Take<T: Send + 'static> {
    most: usize,
    items: Vec<T>,
    told: Option<oneshot::Sender<Vec<T>>>,
}

impl<T: Send + 'static> Drop for Take<T> {
    fn drop(&mut self) {
        if let Some(told) = self.told.take() {
            let _ = told.send(std::mem::take(&mut self.items));
        }
    }
}

impl<T: Lift + Send + Unpin + 'static> StreamConsumer<Guest> for Take<T> {
    type Item = T;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _context: &mut TaskContext<'_>,
        store: StoreContextMut<'_, Guest>,
        mut source: Source<'_, T>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut some = Vec::with_capacity(self.most - self.items.len());
        source.read(store, &mut some)?;
        self.items.append(&mut some);
        Poll::Ready(Ok(if self.items.len() < self.most {
            StreamResult::Completed
        } else {
            StreamResult::Dropped
        }))
    }
}

/// Takes at most this many items of a stream, and drops it.
async fn take<T: Lift + Send + Unpin + 'static>(
    store: &Access,
    stream: StreamReader<T>,
    most: usize,
) -> Vec<T> {
    let (told, items) = oneshot::channel();
    store.with(|mut store| {
        let take = Take {
            most,
            items: Vec::new(),
            told: Some(told),
        };
        stream.pipe(store.as_context_mut(), take).unwrap();
    });
    items.await.unwrap()
}

/// Returns the value of a future.
struct FutureValue<T>(Option<oneshot::Sender<T>>);

impl<T: Lift + Send + Unpin + 'static> FutureConsumer<Guest> for FutureValue<T> {
    type Item = T;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _context: &mut TaskContext<'_>,
        store: StoreContextMut<'_, Guest>,
        mut source: Source<'_, T>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut value = None;
        source.read(store, &mut value)?;
        if let (Some(told), Some(value)) = (self.0.take(), value) {
            let _ = told.send(value);
        }
        Poll::Ready(Ok(()))
    }
}

/// Waits for the end of a stream.
async fn ended(store: &Access, future: Ended) -> Result<(), String> {
    let (told, value) = oneshot::channel();
    store.with(|mut store| {
        let told = FutureValue(Some(told));
        future.pipe(store.as_context_mut(), told).unwrap();
    });
    value.await.unwrap().map_err(|code| name(&code))
}

type Ended = FutureReader<Result<(), ErrorCode>>;

/// Sends bytes, and then the end.
fn send(store: &Access, socket: &Resource<TcpSocket>, bytes: &[u8]) -> Ended {
    store.with(|mut store| {
        let data = StreamReader::new(store.as_context_mut(), bytes.to_vec()).unwrap();
        <Data as HostTcpSocketWithStore<Guest>>::send(store, lend(socket), data).unwrap()
    })
}

fn receive(store: &Access, socket: &Resource<TcpSocket>) -> (StreamReader<u8>, Ended) {
    store.with(|store| {
        <Data as HostTcpSocketWithStore<Guest>>::receive(store, lend(socket)).unwrap()
    })
}

#[test]
fn the_network_is_closed_unless_it_is_opened() {
    within(false, &Budget::new(1 << 30), async |store| {
        let tcp = at_once(store, |it| HostTcpSocket::create(it, IpAddressFamily::Ipv4));
        assert_eq!(code(store, tcp.map(drop)), refused("AccessDenied"));
        let udp = at_once(store, |it| HostUdpSocket::create(it, IpAddressFamily::Ipv6));
        assert_eq!(code(store, udp.map(drop)), refused("AccessDenied"));
        let found = look_up(store, "two.example").await;
        assert_eq!(found, refused("PermanentResolverFailure"));
        // An address needs no look-up.
        let found = look_up(store, "127.0.0.1").await;
        assert_eq!(found, Ok(vec![Ipv4Addr::LOCALHOST.into()]));
    });
}

#[test]
fn bytes_go_both_ways_and_each_way_ends_separately() {
    on_the_network(async |store| {
        let (socket, mut peer) = connected(store).await;
        let (stream, received) = receive(store, &socket);
        let sent = send(store, &socket, b"question");
        assert_eq!(ended(store, sent).await, Ok(()));
        // The end has arrived, and the other direction is still open.
        let mut question = Vec::new();
        peer.read_to_end(&mut question).unwrap();
        assert_eq!(question, b"question");
        peer.write_all(b"answer").unwrap();
        drop(peer);
        assert_eq!(take(store, stream, 100).await, b"answer");
        assert_eq!(ended(store, received).await, Ok(()));
        // Each direction can be taken once.
        let (stream, received) = receive(store, &socket);
        assert!(take(store, stream, 1).await.is_empty());
        let invalid = refused("InvalidState");
        assert_eq!(ended(store, received).await, invalid);
        let sent = send(store, &socket, b"again");
        assert_eq!(ended(store, sent).await, invalid);
        drop_tcp(store, socket);
    });
}

#[test]
fn a_stream_holds_its_socket_open_until_it_is_dropped() {
    on_the_network(async |store| {
        let (socket, mut peer) = connected(store).await;
        let (stream, received) = receive(store, &socket);
        drop_tcp(store, socket);
        peer.write_all(b"more than is taken").unwrap();
        assert_eq!(take(store, stream, 4).await, b"more");
        // A reader that stops early has not failed.
        assert_eq!(ended(store, received).await, Ok(()));
        settle(store);
        // Unread bytes turn the end into a reset (RFC 1122, section 4.2.2.13).
        let end = peer.read(&mut [0]);
        assert!(!matches!(end, Ok(1)), "{end:?}");
    });
}

#[test]
fn a_reset_is_reported_to_readers_and_writers() {
    on_the_network(async |store| {
        let (socket, peer) = connected(store).await;
        let (stream, received) = receive(store, &socket);
        let sent = send(store, &socket, b"never read");
        assert_eq!(ended(store, sent).await, Ok(()));
        drop(peer);
        assert!(take(store, stream, 1).await.is_empty());
        assert_eq!(ended(store, received).await, refused("ConnectionReset"));
        drop_tcp(store, socket);

        let (socket, mut peer) = connected(store).await;
        let reader = std::thread::spawn(move || peer.read_exact(&mut [0; 1000]).unwrap());
        let sent = send(store, &socket, &vec![7; 8 << 20]);
        let outcome = ended(store, sent).await;
        let reset = ["ConnectionReset", "ConnectionBroken"].map(refused);
        assert!(reset.contains(&outcome), "{outcome:?}");
        reader.join().unwrap();
        drop_tcp(store, socket);
    });
}

#[test]
fn a_listener_gives_connections_until_it_is_dropped() {
    on_the_network(async |store| {
        let (socket, connections, at) = listener(store, 4096);
        assert!(at_once(store, |it| it.get_is_listening(lend(&socket))).unwrap());
        let peers: Vec<_> = (0..3).map(|_| TcpStream::connect(at).unwrap()).collect();
        let accepted = take(store, connections, 3).await;
        for (socket, peer) in accepted.into_iter().zip(&peers) {
            let remote = at_once(store, |it| {
                HostTcpSocket::get_remote_address(it, lend(&socket)).unwrap()
            });
            assert_eq!(std_address(remote), peer.local_addr().unwrap());
            drop_tcp(store, socket);
        }
        // Its stream was dropped; only the handle keeps it open.
        TcpStream::connect(at).unwrap();
        drop_tcp(store, socket);
        settle(store);
        assert!(TcpStream::connect(at).is_err());
    });
}

#[test]
fn an_abandoned_attempt_ends() {
    on_the_network(async |store| {
        // Two wait, and with them the queue of a listener for one is full (Linux, sk_acceptq_is_full).
        let (listener, mut connections, at) = listener(store, 1);
        let _waiting = [(); 2].map(|()| TcpStream::connect(at).unwrap());
        let socket = tcp_socket(store);
        {
            let mut attempt = pin!(connect(store, &socket, at));
            poll_fn(|context| {
                assert!(attempt.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            let limit = at_once(store, |it| it.get_hop_limit(lend(&socket)));
            code(store, limit).unwrap();
        }
        let limit = at_once(store, |it| it.get_hop_limit(lend(&socket)));
        assert_eq!(code(store, limit), refused("InvalidState"));
        let again = connect(store, &socket, at).await;
        assert_eq!(again, refused("InvalidState"));
        drop_tcp(store, socket);
        store.with(|store| connections.close(store)).unwrap();
        drop_tcp(store, listener);
    });
}

#[test]
fn waiting_calls_take_memory_and_return_it() {
    let budget = Budget::new(1 << 30);
    within(true, &budget, async |store| {
        // Less is left than a connection or a waiting call needs.
        while budget.take(1 << 10) {}
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let socket = tcp_socket(store);
        let outcome = connect(store, &socket, at).await;
        assert_eq!(outcome, refused("OutOfMemory"));
        drop_tcp(store, socket);
        // It was established, and ended.
        let (mut peer, _) = listener.accept().unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        let udp = bound_udp(store);
        let outcome = receive_udp(store, &udp).await.map(drop);
        assert_eq!(code(store, outcome), refused("OutOfMemory"));
        // `ip-name-lookup` has no code for it.
        let other = format!("Other(Some({:?}))", Errno::NoMemory.to_string());
        assert_eq!(look_up(store, "localhost").await, refused(&other));
        // Enough for one of them, again and again.
        budget.give(80 << 10);
        for _ in 0..3 {
            let socket = tcp_socket(store);
            connect(store, &socket, at).await.unwrap();
            let (stream, mut received) = receive(store, &socket);
            drop_tcp(store, socket);
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"x").unwrap();
            assert_eq!(take(store, stream, 1).await, b"x");
            store.with(|store| received.close(store)).unwrap();
            // A receive that is cancelled.
            let mut receiving = pin!(receive_udp(store, &udp));
            poll_fn(|context| {
                assert!(receiving.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
    });
    assert!(budget.take(80 << 10));
}

fn bound_udp(store: &Access) -> Resource<UdpSocket> {
    at_once(store, |it| {
        let socket = HostUdpSocket::create(it, IpAddressFamily::Ipv4).unwrap();
        HostUdpSocket::bind(it, lend(&socket), loopback()).unwrap();
        socket
    })
}

async fn receive_udp(
    store: &Access,
    socket: &Resource<UdpSocket>,
) -> Result<(Vec<u8>, IpSocketAddress), Fault> {
    <Data as HostUdpSocketWithStore<Guest>>::receive(store, lend(socket)).await
}

#[test]
fn datagrams_of_others_do_not_reach_a_socket_with_one_peer() {
    on_the_network(async |store| {
        let [one, other] = [(); 2].map(|()| {
            let peer = StdUdpSocket::bind("127.0.0.1:0").unwrap();
            peer.set_read_timeout(Some(LIMIT)).unwrap();
            peer
        });
        let (one_at, other_at) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        let socket = bound_udp(store);
        let at = at_once(store, |it| {
            HostUdpSocket::get_local_address(it, lend(&socket)).unwrap()
        });
        let at = std_address(at);
        let send = async |bytes: &[u8], to: Option<SocketAddr>| {
            let sent = <Data as HostUdpSocketWithStore<Guest>>::send(
                store,
                lend(&socket),
                bytes.to_vec(),
                to.map(guest_address),
            );
            let sent = sent.await;
            code(store, sent)
        };
        let invalid = refused("InvalidArgument");
        assert_eq!(send(b"x", None).await, invalid);
        at_once(store, |it| {
            HostUdpSocket::connect(it, lend(&socket), guest_address(one_at)).unwrap();
        });
        assert_eq!(send(b"to one", None).await, Ok(()));
        assert_eq!(send(b"x", Some(other_at)).await, invalid);
        let large = vec![0; 70_000];
        assert_eq!(send(&large, None).await, refused("DatagramTooLarge"));
        let mut buffer = [0; 100];
        let (count, from) = one.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..count], from), (&b"to one"[..], at));
        other.send_to(b"from the other", at).unwrap();
        one.send_to(b"from one", at).unwrap();
        let (data, from) = receive_udp(store, &socket).await.unwrap();
        assert_eq!((&*data, std_address(from)), (&b"from one"[..], one_at));
        at_once(store, |it| it.disconnect(lend(&socket))).unwrap();
        let again = at_once(store, |it| it.disconnect(lend(&socket)));
        assert_eq!(code(store, again), refused("InvalidState"));
        other.send_to(b"from the other", at).unwrap();
        let (data, from) = receive_udp(store, &socket).await.unwrap();
        assert_eq!(
            (&*data, std_address(from)),
            (&b"from the other"[..], other_at)
        );
        at_once(store, |it| HostUdpSocket::drop(it, socket)).unwrap();
    });
}

async fn look_up(store: &Access, text: &str) -> Result<Vec<IpAddr>, String> {
    let found = Data::resolve_addresses(store, text.to_owned()).await;
    let found = found.unwrap().map_err(|code| name(&code))?;
    let address = |found| match found {
        IpAddress::Ipv4(address) => <[u8; 4]>::from(address).into(),
        IpAddress::Ipv6(address) => <[u16; 8]>::from(address).into(),
    };
    Ok(found.into_iter().map(address).collect())
}

#[test]
fn names_are_looked_up() {
    on_the_network(async |store| {
        let found = look_up(store, "localhost").await.unwrap();
        assert!(
            !found.is_empty() && found.iter().all(IpAddr::is_loopback),
            "{found:?}"
        );
        // An IPv4-mapped address is returned as IPv4.
        let literal = look_up(store, "::ffff:127.0.0.1").await;
        assert_eq!(literal, Ok(vec![Ipv4Addr::LOCALHOST.into()]));
        for text in ["", "a\0b", &"x".repeat(300)] {
            let found = look_up(store, text).await;
            assert_eq!(found, refused("InvalidArgument"), "{text}");
        }
        // No name ends like this (RFC 6761); without a name server the result is unknown.
        let found = look_up(store, "no.invalid").await;
        let unknown = ["NameUnresolvable", "TemporaryResolverFailure"].map(refused);
        assert!(unknown.contains(&found), "{found:?}");
    });
}
