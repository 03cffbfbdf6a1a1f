// SPDX-License-Identifier: Apache-2.0

//! Connections that requests of components share, in HTTP/1.1 and in HTTP/2: their servers count them. Servers of HTTP/2 are
//! Keeps, and OpenSSL's with hand-written frames.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::client::CLIENT;
use super::http2::{
    ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, REFUSED_STREAM,
    RST_STREAM, SETTINGS, frame,
};
use super::service;
use super::tls::{Authority, Identity, OpenSsl};
use super::{PATIENCE, Server, backends, enarx, programs};

/// Most connections that a server of these tests accepts. It ends with them.
const MAX_ACCEPTED: usize = 64;

/// Numbers of connections, and the place where they are counted.
struct Counted {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Those that both ends have closed.
    closed: Arc<AtomicUsize>,
}

impl Counted {
    /// Makes `serve` serve each connection, in a separate thread.
    fn start(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let closed = Arc::new(AtomicUsize::new(0));
        let (count, ended) = (Arc::clone(&connections), Arc::clone(&closed));
        thread::spawn(move || {
            for stream in listener.incoming().take(MAX_ACCEPTED) {
                count.fetch_add(1, Ordering::SeqCst);
                let (stream, serve) = (stream.unwrap(), serve.clone());
                let ended = Arc::clone(&ended);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                thread::spawn(move || {
                    serve(stream);
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            address,
            connections,
            closed,
        }
    }

    /// An unencrypted server that closes each connection after this many answers, without announcing it.
    fn closing_after(answers: usize) -> Self {
        Self::start(move |stream| answer(stream, answers))
    }

    /// Connections to another server.
    fn relay(to: SocketAddr) -> Self {
        Self::start(move |from| {
            let to = TcpStream::connect(to).unwrap();
            let (mut from_there, mut to_here) =
                (to.try_clone().unwrap(), from.try_clone().unwrap());
            let back = thread::spawn(move || {
                let _ = std::io::copy(&mut from_there, &mut to_here);
                let _ = to_here.shutdown(Shutdown::Both);
            });
            let (mut from, mut to) = (from, to);
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            back.join().unwrap();
        })
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until this many connections were closed at both ends: the client knows it.
    fn await_closed(&self, number: usize) {
        let end = Instant::now() + PATIENCE;
        while self.closed.load(Ordering::SeqCst) < number {
            assert!(Instant::now() < end, "it closes none");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The flag that permits connections to it.
    fn rule(&self) -> String {
        format!("--allow-connect={}", self.address)
    }
}

/// Answers this many requests without bodies, ends the connection, and waits until the client has ended it too.
fn answer(mut stream: TcpStream, answers: usize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..answers {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
        }
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
        stream.write_all(response).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let _ = reader.read_to_end(&mut Vec::new());
}

/// A command that sends requests to servers, one after the other.
struct Asking {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Asking {
    fn start(backend: &str, flags: &[&str]) -> Self {
        let mut child = enarx()
            .args(["run", "--quiet", "--timeout", "120s", "--backend", backend])
            .args(flags)
            .arg(programs().folder.join(CLIENT.program))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            to: child.stdin.take().unwrap(),
            from: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn send(&mut self, url: &str) {
        writeln!(self.to, "{url}").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, url: &str) -> String {
        self.send(url);
        self.answer()
    }

    fn end(mut self) {
        drop(self.to);
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn requests_to_one_server_share_a_connection_while_it_lives() {
    const REQUESTS: usize = 12;
    for backend in backends() {
        for (answers, expected) in [(usize::MAX, 1), (4, REQUESTS / 4), (1, REQUESTS)] {
            let server = Counted::closing_after(answers);
            let mut client = Asking::start(backend, &[&server.rule()]);
            for number in 1..=REQUESTS {
                let answer = client.ask(&format!("http://{}/", server.address));
                assert_eq!(answer, "200 ok\n", "{backend} {answers}");
                if number.is_multiple_of(answers) {
                    server.await_closed(number / answers);
                }
            }
            client.end();
            assert_eq!(server.count(), expected, "{backend} {answers}");
        }
    }
}

/// The least recently used connection is closed first.
#[test]
fn eight_connections_are_kept() {
    for backend in backends() {
        let servers: Vec<_> = (0..9).map(|_| Counted::closing_after(usize::MAX)).collect();
        let rules: Vec<_> = servers.iter().map(Counted::rule).collect();
        let rules: Vec<_> = rules.iter().map(String::as_str).collect();
        let mut client = Asking::start(backend, &rules);
        for server in servers.iter().chain(&servers[1..]).chain(&servers[..1]) {
            let answer = client.ask(&format!("http://{}/", server.address));
            assert_eq!(answer, "200 ok\n", "{backend}");
        }
        client.end();
        let counts: Vec<_> = servers.iter().map(Counted::count).collect();
        assert_eq!(counts, [2, 1, 1, 1, 1, 1, 1, 1, 1], "{backend}");
    }
}

/// The first ones wait for the handshake of one of them. The command of 0.2 sends all at once, that of 0.3 one after
/// the other.
#[test]
fn many_requests_at_once_share_a_connection_of_http2() {
    const REQUESTS: usize = 20;
    let authority = Authority::new();
    let (identity, roots) = (authority.here(), authority.roots());
    let roots = roots.to_str().unwrap();
    for backend in backends() {
        for (asker, scheme, expected) in [
            (CLIENT, "https", 1),
            (CLIENT, "http", REQUESTS),
            (service::CLIENT, "https", 1),
            (service::CLIENT, "http", 1),
        ] {
            let flags = identity.flags();
            let flags = if scheme == "https" { &flags[..] } else { &[] };
            let server = Server::start(backend, flags);
            let relay = Counted::relay(server.address);
            // All of them are on their way before the first is answered, on a busy machine too.
            let wait = if expected > 1 { 3000 } else { 100 };
            let url = format!("{scheme}://{}/after?{wait}", relay.address);
            let flags = ["--tls-roots", roots, &relay.rule()];
            let answers = asker.ask_text(backend, &flags, &vec![url; REQUESTS]);
            let answered = answers.matches("200 waited").count();
            assert_eq!(answered, REQUESTS, "{backend} {scheme}: {answers}");
            let program = asker.program;
            assert_eq!(relay.count(), expected, "{backend} {program} {scheme}");
            server.end();
        }
    }
}

/// Each has its own connections, and each of both requests its own instance.
#[test]
fn instances_of_a_server_share_no_connections() {
    let authority = Authority::new();
    let (identity, roots) = (authority.here(), authority.roots());
    for backend in backends() {
        let far = Server::start(backend, &identity.flags());
        let relay = Counted::relay(far.address);
        let flags = ["--tls-roots", roots.to_str().unwrap(), &relay.rule()];
        let server = Server::start(backend, &flags);
        for count in 1..=3 {
            let path = format!("/fetch?https://{}", relay.address);
            server.get(&path).is(200, "hello\n");
            assert_eq!(relay.count(), count, "{backend}");
        }
        assert_eq!(server.end(), "", "{backend}");
        far.end();
    }
}

/// The server's end of HTTP/2 over OpenSSL's server, which has one connection at a time.
struct Http2 {
    openssl: OpenSsl,
    to: ChildStdin,
    from: Receiver<u8>,
}

/// An action of a client.
enum Event {
    /// It begins a connection.
    Begins,
    /// It sends a request, on this stream.
    Asks(u32),
}

impl Http2 {
    fn start(identity: &Identity) -> Self {
        let (openssl, to, stdout) = OpenSsl::with_pipes(identity, &["-alpn", "h2"]);
        let (sender, from) = channel();
        thread::spawn(move || {
            for byte in BufReader::new(stdout).bytes() {
                if byte.is_err() || sender.send(byte.unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { openssl, to, from }
    }

    fn read(&self, length: usize) -> Vec<u8> {
        let byte = || self.from.recv_timeout(PATIENCE).expect("a byte");
        (0..length).map(|_| byte()).collect()
    }

    fn send(&mut self, frames: &[Vec<u8>]) {
        self.to.write_all(&frames.concat()).unwrap();
        self.to.flush().unwrap();
    }

    /// The next action that concerns a request.
    fn event(&mut self) -> Event {
        loop {
            let head = self.read(9);
            if head == PREFACE[..9] {
                assert_eq!(self.read(PREFACE.len() - 9), PREFACE[9..]);
                self.send(&[frame(SETTINGS, 0, 0, &[])]);
                return Event::Begins;
            }
            let head: [u8; 9] = head.try_into().unwrap();
            let read = Frame::behind(head, |length| Some(self.read(length))).unwrap();
            match read.kind {
                SETTINGS if !read.has(ACK) => self.send(&[frame(SETTINGS, ACK, 0, &[])]),
                PING if !read.has(ACK) => self.send(&[frame(PING, ACK, 0, &read.payload)]),
                HEADERS => return Event::Asks(read.stream),
                _ => {}
            }
        }
    }

    /// Waits for a new connection.
    fn begins(&mut self) {
        assert!(matches!(self.event(), Event::Begins));
    }

    /// Waits for a request on this stream of the current connection.
    fn asks(&mut self, expected: u32) {
        match self.event() {
            Event::Asks(stream) => assert_eq!(stream, expected),
            Event::Begins => panic!("another connection"),
        }
    }

    fn answer(&mut self, stream: u32, text: &str) {
        // `:status: 200` (RFC 7541, appendix A).
        self.send(&[
            frame(HEADERS, END_HEADERS, stream, &[0x88]),
            frame(DATA, END_STREAM, stream, text.as_bytes()),
        ]);
    }
}

/// Says that no request beyond this stream was processed, and that no more are accepted.
fn goaway_frame(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

fn resets(stream: u32, error: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &error.to_be_bytes())
}

#[test]
fn a_request_that_http2_refused_goes_over_another_connection() {
    const INTERNAL_ERROR: u32 = 2;
    let authority = Authority::new();
    let (identity, roots) = (authority.here(), authority.roots());
    for backend in backends() {
        let mut server = Http2::start(&identity);
        let relay = Counted::relay(server.openssl.address);
        let url = format!("https://{}/", relay.address);
        let flags = ["--tls-roots", roots.to_str().unwrap(), &relay.rule()];
        let mut client = Asking::start(backend, &flags);
        client.send(&url);
        server.begins();
        server.asks(1);
        server.answer(1, "one\n");
        assert_eq!(client.answer(), "200 one\n", "{backend}");
        // The server goes away while a request is on its way to it.
        client.send(&url);
        server.asks(3);
        server.send(&[goaway_frame(1)]);
        server.begins();
        server.asks(1);
        // It goes away between two requests, and the client knows it.
        server.answer(1, "two\n");
        server.send(&[goaway_frame(1)]);
        assert_eq!(client.answer(), "200 two\n", "{backend}");
        relay.await_closed(2);
        client.send(&url);
        server.begins();
        server.asks(1);
        server.answer(1, "three\n");
        assert_eq!(client.answer(), "200 three\n", "{backend}");
        // It refuses one, and goes away after that.
        client.send(&url);
        server.asks(3);
        server.send(&[resets(3, REFUSED_STREAM), goaway_frame(3)]);
        server.begins();
        server.asks(1);
        server.answer(1, "four\n");
        assert_eq!(client.answer(), "200 four\n", "{backend}");
        // It may have processed this one: connection-terminated. The connection continues.
        client.send(&url);
        server.asks(3);
        server.send(&[resets(3, INTERNAL_ERROR)]);
        assert_eq!(client.answer(), "error 7\n", "{backend}");
        client.send(&url);
        server.asks(5);
        server.answer(5, "six\n");
        assert_eq!(client.answer(), "200 six\n", "{backend}");
        client.end();
    }
}
