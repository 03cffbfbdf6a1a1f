// SPDX-License-Identifier: Apache-2.0

//! `enarx serve` in every kind of Keep: our components (`tests/programs/server`) that answer HTTP, and peers that follow the
//! protocol or violate it. Every wait lasts at most [`PATIENCE`].

mod bare;
mod client;
mod connections;
mod files;
mod http2;
mod load;
mod oddities;
mod others;
mod service;
pub mod tls;
mod upstream;

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use enarx_harness::needs;
use rustix::process::Signal;

use super::common::{backends, enarx, free_port};
use super::compile;
use super::programs::programs;
use super::serving::Serving;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// A component of `wasi:http/proxy` 0.2, and one of `wasi:http/service` 0.3 that gives the same answers.
const PROXY: &str = "server.wasm";
const SERVICE: &str = "service.wasm";

fn component() -> PathBuf {
    programs().folder.join(PROXY)
}

/// A kind of Keep, and the component that serves in it.
#[derive(Clone, Copy)]
struct Kind {
    backend: &'static str,
    component: &'static str,
}

impl From<&'static str> for Kind {
    fn from(backend: &'static str) -> Self {
        Self {
            backend,
            component: PROXY,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} in {}", self.component, self.backend)
    }
}

/// Every kind of Keep with each of the components.
fn kinds() -> impl Iterator<Item = Kind> {
    backends().flat_map(|backend| [PROXY, SERVICE].map(|component| Kind { backend, component }))
}

/// A server in a Keep. Ended when dropped.
struct Server {
    serving: Serving,
    address: SocketAddr,
}

impl Server {
    fn start(kind: impl Into<Kind>, arguments: &[&str]) -> Self {
        let kind = kind.into();
        let component = programs().folder.join(kind.component);
        Self::of(&component, kind.backend, arguments)
    }

    /// A server that is this program.
    fn of(program: &Path, backend: &str, arguments: &[&str]) -> Self {
        Self::at("127.0.0.1:0", program, backend, arguments)
    }

    /// The same, at this place.
    fn at(place: &str, program: &Path, backend: &str, arguments: &[&str]) -> Self {
        let serving = Serving::start(
            enarx()
                .args(["serve", "--backend", backend, "--addr", place])
                .args(arguments)
                .arg(program),
        );
        Self::serving(serving)
    }

    /// A server with its own command.
    fn serving(serving: Serving) -> Self {
        assert!(serving.begun().ends_with("/\n"), "{}", serving.begun());
        let address = serving.place().parse().unwrap();
        Self { serving, address }
    }

    fn peer(&self) -> Peer {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Peer(BufReader::new(stream))
    }

    /// Answers one request on its own connection.
    fn get(&self, path: &str) -> Response {
        let mut peer = self.peer();
        peer.get(path);
        peer.response()
    }

    /// Makes a request until it is answered in the time of a request, which is short for a busy machine; the answer, and the
    /// number of requests that took longer.
    fn get_in_time(&self, path: &str) -> (Response, usize) {
        let end = Instant::now() + PATIENCE;
        let mut late = 0;
        loop {
            let response = self.get(path);
            if response.status != 504 || Instant::now() >= end {
                return (response, late);
            }
            late += 1;
        }
    }

    fn signal(&self) {
        self.serving.signal(Signal::TERM);
    }

    /// Waits for its end: the exit code, and its output after its address.
    fn wait(self) -> (Option<i32>, String) {
        self.serving.wait()
    }

    fn end(self) -> String {
        self.signal();
        let (code, said) = self.wait();
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

/// A peer on one connection.
struct Peer(BufReader<TcpStream>);

#[derive(Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    /// The body is complete.
    whole: bool,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    fn is(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.text()), (status, text), "{self:?}");
        assert!(self.whole, "{self:?}");
    }
}

impl Peer {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    fn get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }

    /// A line without its end; `None` at the end of the connection.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(1..) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            _ => None,
        }
    }

    fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect(&line);
            fields.push((name.to_lowercase(), value.trim().to_owned()));
        }
        fields
    }

    /// The status and headers of a response.
    fn head(&mut self) -> Response {
        let line = self.line().expect("a response");
        let status = line.strip_prefix("HTTP/1.1 ").expect(&line);
        Response {
            status: status[..3].parse().unwrap(),
            headers: self.fields(),
            body: Vec::new(),
            trailers: Vec::new(),
            whole: true,
        }
    }

    /// Reads this many bytes of a body; true if they arrived.
    fn bytes(&mut self, count: usize, body: &mut Vec<u8>) -> bool {
        let start = body.len();
        body.resize(start + count, 0);
        self.0.read_exact(&mut body[start..]).is_ok()
    }

    /// The next chunk; `None` at the end of the body, and false if it never arrived.
    fn chunk(&mut self, body: &mut Vec<u8>) -> (Option<usize>, bool) {
        let Some(line) = self.line() else {
            return (None, false);
        };
        let count = usize::from_str_radix(&line, 16).expect(&line);
        if count == 0 {
            return (None, true);
        }
        let came = self.bytes(count, body) && self.line().is_some();
        (came.then_some(count), came)
    }

    fn response(&mut self) -> Response {
        let mut response = self.head();
        if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let (chunk, came) = self.chunk(&mut response.body);
                response.whole = came;
                if chunk.is_none() {
                    break;
                }
            }
            if response.whole {
                response.trailers = self.fields();
            }
        } else {
            let length = response
                .header("content-length")
                .map_or(0, |it| it.parse().unwrap());
            response.whole = self.bytes(length, &mut response.body);
        }
        response
    }

    /// True if a part of a response has arrived.
    fn has_answer(&mut self) -> bool {
        let stream = self.0.get_ref();
        stream.set_nonblocking(true).unwrap();
        let found = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        found.is_ok() || !self.0.buffer().is_empty()
    }

    /// True if the server has closed the connection.
    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

/// The bytes that the component sends.
fn pattern(count: usize) -> Vec<u8> {
    (0..251_u8).cycle().take(count).collect()
}

#[test]
fn each_request_gets_a_fresh_instance_and_connections_are_kept() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let mut peer = server.peer();
        for _ in 0..3 {
            peer.get("/hello");
            let response = peer.response();
            response.is(200, "hello\n");
            assert_eq!(response.header("content-type"), Some("text/plain"));
            assert!(response.header("date").is_some(), "{response:?}");
            peer.get("/count");
            peer.response().is(200, "1");
        }
        // No body follows, and nothing of it becomes part of the next response.
        peer.send("HEAD /sized?5000 HTTP/1.1\r\nHost: test\r\n\r\n");
        let head = peer.head();
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some("5000"))
        );
        peer.send("HEAD /hello HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(peer.head().status, 200);
        // Several at once are answered in their order.
        let two = ["/after?200", "/hello"]
            .map(|path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        peer.send(two.concat());
        peer.response().is(200, "waited\n");
        peer.response().is(200, "hello\n");
        peer.get("/status?404");
        peer.response().is(404, "status\n");
        peer.get("/none");
        peer.response().is(404, "there is no such path\n");
        peer.send("GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        peer.response().is(200, "hello\n");
        assert!(peer.is_closed(), "{kind}");
        let mut old = server.peer();
        old.send("GET /hello HTTP/1.0\r\n\r\n");
        let line = old.line().unwrap();
        assert!(
            line.starts_with("HTTP/1.0 200") || line.starts_with("HTTP/1.1 200"),
            "{line}"
        );
        assert_eq!(server.end(), "", "{kind}");
    }
}

#[test]
fn the_component_sees_the_request_and_not_the_connection() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let mut peer = server.peer();
        peer.send(
            "BREW /request?a=%20b HTTP/1.1\r\nHost: example.org:81\r\nX-One: 1\r\nx-one: two words\r\n\
             Connection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
        );
        let expected = "BREW /request?a=%20b example.org:81\n\
                        x-one: 1\nx-one: two words\ncontent-length: 3\n";
        peer.response().is(200, expected);
        let mut peer = server.peer();
        peer.send("GET http://other.org/request HTTP/1.1\r\nHost: other.org\r\n\r\n");
        peer.response().is(200, "GET /request other.org\n");
        let said = "forbidden\nforbidden\nforbidden\ninvalid-syntax\ninvalid-syntax\ninvalid-syntax\nset\n";
        server.get("/fields").is(200, said);
        assert_eq!(server.end(), "", "{kind}");
    }
}

#[test]
fn bodies_of_any_size_pass_both_ways() {
    const SIZE: usize = 5_000_003;
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let body = pattern(SIZE);
        // Both directions at once: neither waits for the other to end.
        let mut peer = server.peer();
        let mut sender = peer.0.get_ref().try_clone().unwrap();
        let sent = body.clone();
        let sending = thread::spawn(move || {
            let head =
                format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {SIZE}\r\n\r\n");
            sender.write_all(head.as_bytes()).unwrap();
            sender.write_all(&sent).unwrap();
        });
        let response = peer.response();
        sending.join().unwrap();
        assert!(response.whole && response.body == body, "{kind}");
        // In chunks, with trailers.
        peer.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\nTE: trailers\r\n\r\n");
        for chunk in body[..100_000].chunks(3333) {
            peer.send(format!("{:x}\r\n", chunk.len()));
            peer.send(chunk);
            peer.send("\r\n");
        }
        peer.send("0\r\nX-End: yes\r\n\r\n");
        let response = peer.response();
        assert!(response.whole && response.body == body[..100_000], "{kind}");
        // The response announces no trailers, so they need not be sent; if they are sent, they are what arrived.
        for (name, value) in &response.trailers {
            assert_eq!((name.as_str(), value.as_str()), ("x-end", "yes"), "{kind}");
        }
        for path in ["/bytes", "/sized"] {
            peer.get(&format!("{path}?{SIZE}"));
            let response = peer.response();
            assert!(response.whole && response.body == body, "{kind} {path}");
        }
        peer.get("/sized?0");
        peer.response().is(200, "");
        // A body that nobody reads is skipped, and the connection continues or ends cleanly.
        peer.send("POST /hello HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabcde");
        peer.response().is(200, "hello\n");
        server.get("/hello").is(200, "hello\n");
        assert_eq!(server.end(), "", "{kind}");
    }
}

#[test]
fn bodies_are_passed_on_as_they_arrive() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let mut peer = server.peer();
        peer.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(peer.head().status, 200);
        let mut body = Vec::new();
        for word in ["one", "two", "three"] {
            peer.send(format!("{:x}\r\n{word}\r\n", word.len()));
            let before = body.len();
            while body.len() - before < word.len() {
                assert!(peer.chunk(&mut body).0.is_some(), "{kind}");
            }
            assert_eq!(&body[before..], word.as_bytes());
        }
        peer.send("0\r\n\r\n");
        assert_eq!(peer.chunk(&mut body), (None, true));
        // The body is requested when the component wants it.
        let mut peer = server.peer();
        peer.send("POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(peer.head().status, 100);
        peer.send("12345");
        peer.response().is(200, "5");
        // And not if it does not.
        let mut peer = server.peer();
        peer.send("POST /hello HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        peer.response().is(200, "hello\n");
        // A peer that reads nothing delays its own response, not the server.
        let mut lazy = server.peer();
        lazy.get("/bytes?20000000");
        for _ in 0..5 {
            server.get("/hello").is(200, "hello\n");
        }
        let response = lazy.response();
        assert!(
            response.whole && response.body == pattern(20_000_000),
            "{kind}"
        );
        assert_eq!(server.end(), "", "{kind}");
    }
}

#[test]
fn a_failing_component_ends_only_its_request() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let error = "500 Internal Server Error\n";
        server.get("/trap?secret=4711").is(500, error);
        server.get("/hello").is(200, "hello\n");
        server.get("/error").is(500, error);
        server.get("/nothing").is(500, error);
        for path in ["/late", "/short?100000", "/long?100000"] {
            let mut peer = server.peer();
            peer.send(format!(
                "GET {path} HTTP/1.1\r\nHost: test\r\nX-Secret: 4711\r\n\r\n"
            ));
            let response = peer.response();
            assert_eq!(
                (response.status, response.whole),
                (200, false),
                "{kind} {path}"
            );
            server.get("/hello").is(200, "hello\n");
        }
        server.get("/status?103").is(500, error);
        let trapped = "trapped: wasm trap: wasm `unreachable` instruction executed";
        let silent = match kind.component {
            PROXY => "failed: the component gave no answer",
            _ => "trapped: wasm trap: async-lifted export failed to produce a result",
        };
        let said = server.end();
        let expected = format!(
            "enarx: request 1 {trapped}\nenarx: request 3: the component answered an error\n\
             enarx: request 4 {silent}\nenarx: request 5 {trapped}\n"
        );
        let early = "enarx: request 11: the component answered with status 103, which is not a final response (RFC 9110, section 15.2)\n";
        assert!(said.starts_with(&(expected + early)), "{kind}: {said}");
    }
}

#[test]
fn memory_is_bounded_and_given_back() {
    for kind in kinds() {
        let server = Server::start(kind, &["--memory", "256M"]);
        // An instance of 0.3 ends when its response was sent, beside the next ones.
        for _ in 0..30 {
            server.get("/memory?10").is(200, "taken\n");
        }
        server.get("/memory?1000").is(507, "none\n");
        server.get("/hello").is(200, "hello\n");
        assert_eq!(server.end(), "", "{kind}");
        let server = Server::start(kind, &["-W", "max-memory-size=8M"]);
        server.get("/memory?4").is(200, "taken\n");
        server.get("/memory?9").is(507, "none\n");
        assert_eq!(server.end(), "", "{kind}");
    }
}

/// A component that makes the runtime hold more and more for it, outside its memory, ends its request, while others are
/// answered; what it held becomes free again.
#[test]
fn a_component_that_hoards_memory_ends_only_its_request() {
    let (held, handles, call) = (
        "failed: it makes the Keep hold more for it (headers, bodies of messages, names) than ",
        ": store handle limit exceeded\n",
        "failed: too much data is being copied between the host and the guest",
    );
    for kind in kinds() {
        let hoards: &[(&str, &str)] = match kind.component {
            PROXY => &[
                ("fields", held),
                ("names", held),
                ("bodies", held),
                ("pieces", held),
                ("pollables", handles),
                ("random", "failed: requested len 67108864 exceeds limit "),
                ("call", call),
            ],
            _ => &[
                // It gets an error, and continues.
                ("fields", ""),
                // There are too many of them before there are too many bytes.
                ("names", handles),
                ("streams", handles),
                ("futures", handles),
                ("responses", handles),
                ("sets", handles),
                ("call", call),
            ],
        };
        let server = Server::start(kind, &["--memory", "256M"]);
        let mut expected: Vec<&str> = Vec::new();
        for (what, why) in hoards {
            let mut peer = server.peer();
            peer.get(&format!("/hoard?{what}"));
            // Another request at the same time.
            server.get("/hello").is(200, "hello\n");
            let status = if why.is_empty() { 507 } else { 500 };
            assert_eq!(peer.response().status, status, "{kind}: {what}");
            expected.extend((!why.is_empty()).then_some(*why));
            // Its memory is free again once it has ended: all of them together hold more than there is.
            let end = Instant::now() + PATIENCE;
            while server.get("/memory?10").status != 200 {
                assert!(Instant::now() < end, "{kind}: {what}");
                thread::sleep(Duration::from_millis(50));
            }
        }
        let said = server.end();
        for why in &expected {
            assert!(said.contains(why), "{kind}: {why}: {said}");
        }
        for line in said.lines() {
            let is_expected = expected.iter().any(|why| format!("{line}\n").contains(why));
            // A request for memory that was not free yet got this error.
            let is_early = line.contains("than there is memory") || line.contains("does not fit");
            assert!(is_expected || is_early, "{kind}: {line}: {said}");
        }
    }
}

#[test]
fn slow_and_idle_peers_do_not_delay_others() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let idle: Vec<_> = (0..200).map(|_| server.peer()).collect();
        let mut slow: Vec<_> = (0..10).map(|_| server.peer()).collect();
        let request = b"POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n123456789";
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let mut peer = server.peer();
                peer.get("/after?500");
                peer
            })
            .collect();
        for byte in request {
            for peer in &mut slow {
                peer.send([*byte]);
            }
            server.get("/hello").is(200, "hello\n");
        }
        for mut peer in slow {
            peer.response().is(200, "9");
        }
        for mut peer in waiting {
            peer.response().is(200, "waited\n");
        }
        for mut peer in idle.into_iter().step_by(20) {
            peer.get("/hello");
            peer.response().is(200, "hello\n");
        }
        assert_eq!(server.end(), "", "{kind}");
    }
}

/// Processor time so far of a process and its descendants, guests included (proc(5), `/proc/PID/stat`, in hundredths of seconds).
/// One that has ended counts nothing.
pub fn processor_time(id: u32) -> Duration {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
        return Duration::ZERO;
    };
    // The name before may contain blanks.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let times = fields.split_whitespace().skip(11).take(2);
    let hundredths: u64 = times.map(|time| time.parse::<u64>().unwrap()).sum();
    let threads = std::fs::read_dir(format!("/proc/{id}/task"));
    let children: Vec<u32> = threads
        .into_iter()
        .flatten()
        .flatten()
        .flat_map(|thread| {
            let children = std::fs::read_to_string(thread.path().join("children"));
            let children = children.unwrap_or_default();
            let numbers = children.split_whitespace().map(|id| id.parse().unwrap());
            numbers.collect::<Vec<_>>()
        })
        .collect();
    let below: Duration = children.into_iter().map(processor_time).sum();
    Duration::from_millis(hundredths * 10) + below
}

#[test]
fn an_idle_server_costs_no_processor_time() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        // So many that the host polls the ring by itself.
        for _ in 0..100 {
            server.get("/hello").is(200, "hello\n");
        }
        let _idle = server.peer();
        let end = Instant::now() + PATIENCE;
        loop {
            let before = processor_time(server.serving.id());
            assert!(before > Duration::ZERO);
            thread::sleep(Duration::from_secs(2));
            let after = processor_time(server.serving.id());
            // A process that ended in the meantime counts no more.
            let spent = after.checked_sub(before);
            if spent.is_some_and(|spent| spent < Duration::from_millis(200)) {
                break;
            }
            // Calls that the requests began may take a while to end.
            assert!(Instant::now() < end, "{kind}: {spent:?} in two seconds");
        }
        assert_eq!(server.end(), "", "{kind}");
    }
}

#[test]
fn many_requests_wait_together() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let start = Instant::now();
        // More than are answered at a time.
        let mut peers: Vec<_> = (0..200)
            .map(|_| {
                let mut peer = server.peer();
                peer.get("/after?1000");
                peer
            })
            .collect();
        for peer in &mut peers {
            peer.response().is(200, "waited\n");
        }
        // One after the other they would take more than three minutes.
        assert!(
            start.elapsed() < Duration::from_secs(100),
            "{kind}: {:?}",
            start.elapsed()
        );
        // Peers that disconnect in the middle leave nothing behind.
        for path in ["/after?60000", "/begin?60000", "/bytes?100000000"] {
            for _ in 0..100 {
                let mut peer = server.peer();
                peer.get(path);
            }
        }
        server.get("/hello").is(200, "hello\n");
        assert_eq!(server.end(), "", "{kind}");
    }
}

#[test]
fn an_invalid_request_is_refused() {
    let host = "GET / HTTP/1.1\r\nHost: test\r\n";
    let large = format!("{host}X: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("{host}{}\r\n", "X: y\r\n".repeat(200));
    let cases: &[(u16, String)] = &[
        (400, "GET / HTTP/1.1\r\n\r\n".into()),
        (400, format!("{host}Host: other\r\n\r\n")),
        (400, "hello\r\n\r\n".into()),
        (400, "GET /\r\n\r\n".into()),
        (400, "GET / HTTP/3.7\r\nHost: test\r\n\r\n".into()),
        (400, format!("{host}no colon\r\n\r\n")),
        (400, format!("{host}X : y\r\n\r\n")),
        (400, format!("{host} folded\r\n\r\n")),
        (400, format!("{host}X: a\0b\r\n\r\n")),
        (
            400,
            format!("{host}Content-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        ),
        (400, format!("{host}Content-Length: -1\r\n\r\n")),
        (400, format!("{host}Content-Length: 5, 5\r\n\r\n")),
        (400, format!("{host}Transfer-Encoding: gzip\r\n\r\n")),
        (
            400,
            format!("{host}Transfer-Encoding: chunked, identity\r\n\r\n"),
        ),
        (431, large),
        (431, many),
        // An invalid server name, or a user before it; invalid request targets.
        (400, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into()),
        (400, "GET / HTTP/1.1\r\nHost: me@test\r\n\r\n".into()),
        (
            400,
            "GET http://me@test/ HTTP/1.1\r\nHost: test\r\n\r\n".into(),
        ),
        (400, "GET test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n".into()),
        (400, "GET * HTTP/1.1\r\nHost: test\r\n\r\n".into()),
        // Codings that nobody decodes, and one that others might read differently.
        (
            501,
            format!("{host}Transfer-Encoding: gzip, chunked\r\n\r\n"),
        ),
        (
            400,
            format!("{host}Transfer-Encoding: chunked, chunked\r\n\r\n"),
        ),
        (
            501,
            format!("{host}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ),
        (
            501,
            "CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n".into(),
        ),
    ];
    for backend in backends() {
        let server = Server::start(backend, &[]);
        for (status, request) in cases {
            let mut peer = server.peer();
            peer.send(request);
            let response = peer.response();
            assert_eq!(response.status, *status, "{backend}: {request:.60}");
            assert!(peer.is_closed(), "{backend}: {request:.60}");
        }
        // An error in a body is known too late for a status.
        let mut peer = server.peer();
        peer.send(
            "POST /length HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        );
        let mut answer = Vec::new();
        let _ = peer.0.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{backend}");
        // Both lengths at once: the chunks count, and nothing after them is a request.
        let mut peer = server.peer();
        peer.send(
            "POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\nx\r\n0\r\n\r\nGET /hello HTTP/1.1\r\nHost: test\r\n\r\n",
        );
        peer.response().is(200, "1");
        assert!(peer.is_closed(), "{backend}");
        // A body that ends too early.
        let mut peer = server.peer();
        peer.send("POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nx");
        peer.0.get_ref().shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = peer.0.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{backend}");
        server.get("/hello").is(200, "hello\n");
        server.end();
    }
}

#[test]
fn a_request_has_a_time_limit() {
    for kind in kinds() {
        let server = Server::start(kind, &["--timeout", "2s"]);
        let mut peer = server.peer();
        peer.get("/after?60000");
        assert_eq!(peer.response().status, 504, "{kind}");
        let (response, mut late) = server.get_in_time("/begin?60000");
        assert_eq!(
            (response.status, response.text(), response.whole),
            (200, "begun\n", false)
        );
        let mut answers = |path, expected| {
            let (response, more) = server.get_in_time(path);
            response.is(200, expected);
            late += more;
        };
        answers("/hello", "hello\n");
        answers("/after?10", "waited\n");
        // A request that computes takes turns with the others.
        let mut peer = server.peer();
        peer.get("/spin?60000");
        answers("/hello", "hello\n");
        assert_eq!(peer.response().status, 504, "{kind}");
        let said = server.end();
        assert_eq!(
            said.matches("longer than the time of a request").count(),
            3 + late,
            "{kind}: {said}"
        );
    }
}

#[test]
fn a_precompiled_server_answers_and_keeps_its_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = needs::kinds(&["kvm", "sim"], &[]);
    let components = [PROXY, SERVICE];
    for (backend, component) in kinds.flat_map(|backend| components.map(|it| (backend, it))) {
        let component = programs().folder.join(component);
        let plain = compile::compile(backend, &component, folder.path(), &[]);
        let server = Server::of(&plain, backend, &["--allow-precompiled"]);
        server.get("/hello").is(200, "hello\n");
        server.end();
        let turns = compile::compile(backend, &component, folder.path(), &["--turns"]);
        let limit = ["--allow-precompiled", "--timeout", "2s"];
        let server = Server::of(&turns, backend, &limit);
        let mut peer = server.peer();
        peer.get("/spin?60000");
        server.get_in_time("/hello").0.is(200, "hello\n");
        assert_eq!(peer.response().status, 504, "{backend}");
        server.end();
    }
}

#[test]
fn a_server_that_is_told_to_end_finishes_its_requests() {
    for kind in kinds() {
        // Nobody else gets this port afterwards.
        let place = format!("127.0.0.1:{}", free_port());
        let component = programs().folder.join(kind.component);
        let server = Server::at(&place, &component, kind.backend, &[]);
        let mut idle = server.peer();
        idle.get("/hello");
        idle.response().is(200, "hello\n");
        let mut busy = server.peer();
        busy.get("/begin?1000");
        assert_eq!(busy.head().status, 200);
        server.signal();
        let mut body = Vec::new();
        while busy.chunk(&mut body).0.is_some() {}
        assert_eq!(body, b"begun\ndone\n", "{kind}");
        assert!(idle.is_closed(), "{kind}");
        let address = server.address;
        let (code, said) = server.wait();
        assert_eq!((code, said.as_str()), (Some(0), ""), "{kind}");
        assert!(TcpStream::connect(address).is_err(), "{kind}");
        // No longer than the grace period.
        let server = Server::start(kind, &["--grace", "300ms"]);
        let mut busy = server.peer();
        busy.get("/begin?60000");
        assert_eq!(busy.head().status, 200);
        let start = Instant::now();
        server.signal();
        let (code, said) = server.wait();
        assert_eq!(code, Some(0), "{kind}: {said}");
        assert!(start.elapsed() < Duration::from_secs(40), "{kind}");
        assert!(said.contains("connections cut off: 1"), "{kind}: {said}");
    }
}

#[test]
fn only_a_server_is_served_and_a_server_is_not_run() {
    let run = |arguments: &[&str], program: &str| {
        let mut command = enarx();
        let output = command
            .args(arguments)
            .arg(programs().folder.join(program))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    };
    for server in [PROXY, SERVICE] {
        let said = run(&["run", "--quiet", "--backend", "process"], server);
        assert!(said.contains("use `enarx serve`"), "{said}");
    }
    for kind in backends() {
        for program in ["words.wasm", "words-component.wasm"] {
            let place = ["--addr", "127.0.0.1:0", "--backend", kind];
            let said = run(&[&["serve"], &place[..]].concat(), program);
            assert!(said.contains("it answers no HTTP requests"), "{said}");
            assert!(said.contains("`enarx run`"), "{said}");
            assert!(!said.contains("serving HTTP"), "{kind}: {said}");
        }
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let output = enarx()
        .args(["serve", "--addr", &taken])
        .arg(component())
        .output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(
        said.contains(&format!("cannot listen on {taken}")),
        "{said}"
    );
}

#[test]
fn a_component_asks_other_servers_if_the_network_is_granted() {
    // Numbers of `error-code`: HTTP-request-denied, connection-refused.
    let (denied, refused) = ("error 15\n", "error 6\n");
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let itself = format!("/fetch?{}", server.address);
        server.get(&itself).is(502, denied);
        assert_eq!(server.end(), "", "{kind}");
        let server = Server::start(kind, &["-S", "inherit-network"]);
        // It is also another server for itself: it answers both at once.
        let itself = format!("/fetch?{}", server.address);
        server.get(&itself).is(200, "hello\n");
        server.get("/fetch?localhost:1").is(502, denied);
        let nobody = format!("/fetch?127.0.0.1:{}", free_port());
        server.get(&nobody).is(502, refused);
        assert_eq!(server.end(), "", "{kind}");
    }
}

/// Third-party peers: the most common ones.
#[test]
fn third_party_peers_are_served() {
    const SCRIPT: &str = r#"
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
for _ in range(3):
    connection.request("GET", "/hello")
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"hello\n")
body = bytes(range(256)) * 4096
connection.request("POST", "/echo", body=body)
assert connection.getresponse().read() == body
connection.request("POST", "/echo", body=(body[i:i + 1000] for i in range(0, 100000, 1000)))
assert connection.getresponse().read() == body[:100000]
connection.request("HEAD", "/sized?77")
response = connection.getresponse()
assert (response.getheader("content-length"), response.read()) == ("77", b"")
"#;
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let address = server.address.to_string();
        let mut python = Command::new("python3");
        let output = python.args(["-c", SCRIPT, &address]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{kind}: {said}");
        let url = |path: &str| format!("http://{address}{path}");
        let curl = |arguments: &[&str]| {
            let mut command = Command::new("curl");
            command.args([
                "--silent",
                "--show-error",
                "--noproxy",
                "*",
                "--max-time",
                "60",
            ]);
            let output = command.args(arguments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{kind}: {said}");
            output.stdout
        };
        assert_eq!(curl(&[&url("/hello"), &url("/hello")]), b"hello\nhello\n");
        assert_eq!(curl(&[&url("/sized?1000000")]), pattern(1_000_000));
        let upload = curl(&[
            "--data-binary",
            "some text",
            "-H",
            "Expect: 100-continue",
            &url("/echo"),
        ]);
        assert_eq!(upload, b"some text");
        server.end();
    }
}
