// SPDX-License-Identifier: Apache-2.0

//! Unencrypted HTTP/2, by prior knowledge: `curl`, and peers with hand-written frames (RFC 9113, RFC 7541).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{PATIENCE, Server, backends, kinds, pattern};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Frames (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
// Their flags.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
// Errors (section 7).
const PROTOCOL_ERROR: u32 = 1;
pub const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
// Settings (section 6.5.2).
const HEADER_TABLE_SIZE: u16 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The frame with this head; `read` reads a payload of the given length.
    pub fn behind(head: [u8; 9], read: impl FnOnce(usize) -> Option<Vec<u8>>) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = head;
        Some(Self {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload: read(u32::from_be_bytes([0, a, b, c]) as usize)?,
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The 32 bits at this offset of the payload.
    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status at the start of a block of headers.
    fn status(&self) -> u16 {
        let mut block = &self.payload[..];
        // The new size of the table.
        while let [0x20..=0x3f, rest @ ..] = block {
            block = rest;
        }
        if let [index @ 0x88..=0x8e, ..] = block {
            return [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)];
        }
        let [0x08 | 0x18 | 0x48, length, rest @ ..] = block else {
            panic!("no status: {block:x?}");
        };
        let text = &rest[..usize::from(length & 0x7f)];
        if length & 0x80 == 0 {
            return std::str::from_utf8(text).unwrap().parse().unwrap();
        }
        huffman_digits(text)
    }
}

/// Three digits in the code of RFC 7541, appendix B: 0 to 2 have five bits, the others six.
fn huffman_digits(text: &[u8]) -> u16 {
    let bits = |at: usize, count: usize| {
        (at..at + count).fold(0_u16, |sum, bit| {
            (sum << 1) | u16::from((text[bit / 8] >> (7 - bit % 8)) & 1)
        })
    };
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let short = bits(at, 5);
        let digit = if short <= 2 {
            at += 5;
            short
        } else {
            let code = bits(at, 6);
            at += 6;
            code.checked_sub(0x19).expect("a digit") + 3
        };
        number = number * 10 + digit;
    }
    number
}

/// A literal field that is not indexed: an index of a name, or a name, and a value.
fn field(index: u8, name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![index];
    let texts = if index == 0 {
        vec![name, value]
    } else {
        vec![value]
    };
    for text in texts {
        // A number with a prefix of 7 bits.
        match text.len() {
            length @ ..127 => field.push(u8::try_from(length).unwrap()),
            mut length => {
                field.push(127);
                length -= 127;
                while length >= 128 {
                    field.push(u8::try_from(length % 128).unwrap() | 128);
                    length /= 128;
                }
                field.push(u8::try_from(length).unwrap());
            }
        }
        field.extend_from_slice(text.as_bytes());
    }
    field
}

/// The headers of a request to a path.
fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = field(2, "", method);
    block.push(0x86); // `:scheme: http`
    block.extend(field(4, "", path));
    block.extend(field(1, "", "test"));
    for (name, value) in more {
        block.extend(field(0, name, value));
    }
    block
}

/// A peer.
pub struct Peer {
    connection: TcpStream,
    next: u32,
}

impl Peer {
    /// A peer that has sent its preface, and these settings.
    pub fn begin(server: &Server, settings: &[(u16, u32)]) -> Self {
        let connection = TcpStream::connect(server.address).unwrap();
        connection.set_nodelay(true).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self {
            connection,
            next: 1,
        };
        peer.raw(PREFACE);
        let mut payload = Vec::new();
        // No table: so a status is always a literal.
        for (name, value) in [(HEADER_TABLE_SIZE, 0)].iter().chain(settings) {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        peer.send(SETTINGS, 0, 0, &payload);
        peer
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.connection.write_all(bytes).unwrap();
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.raw(&frame(kind, flags, stream, payload));
    }

    /// Begins a request, and ends it if it has no body.
    fn ask(&mut self, method: &str, path: &str, more: &[(&str, &str)], has_body: bool) -> u32 {
        let stream = self.next;
        self.next += 2;
        let flags = END_HEADERS | if has_body { 0 } else { END_STREAM };
        self.send(HEADERS, flags, stream, &request(method, path, more));
        stream
    }

    pub fn get(&mut self, path: &str) -> u32 {
        self.ask("GET", path, &[], false)
    }

    /// The next frame, `None` at the end of the connection. Settings and pings are answered.
    fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.connection.read_exact(&mut head).ok()?;
            let frame = Frame::behind(head, |length| {
                let mut payload = vec![0; length];
                self.connection.read_exact(&mut payload).ok()?;
                Some(payload)
            })?;
            match (frame.kind, frame.has(ACK)) {
                (SETTINGS, false) => {
                    let _ = self
                        .connection
                        .write_all(&self::frame(SETTINGS, ACK, 0, &[]));
                }
                (PING, false) => {
                    let answer = self::frame(PING, ACK, 0, &frame.payload);
                    let _ = self.connection.write_all(&answer);
                }
                (SETTINGS, true) | (WINDOW_UPDATE, _) => {}
                _ => return Some(frame),
            }
        }
    }

    /// The status, body, and true for trailers of the one expected response. Bytes that were taken may be sent anew.
    pub fn response(&mut self, stream: u32) -> (u16, Vec<u8>, bool) {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let frame = self.frame().expect("a response");
            assert_eq!(frame.stream, stream, "{frame:?}");
            match frame.kind {
                HEADERS if status == 0 => status = frame.status(),
                HEADERS => return (status, body, true),
                DATA => {
                    body.extend_from_slice(&frame.payload);
                    let more = u32::try_from(frame.payload.len()).unwrap();
                    if more > 0 && !frame.has(END_STREAM) {
                        for stream in [0, stream] {
                            self.send(WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
                        }
                    }
                }
                _ => panic!("{frame:?}"),
            }
            if frame.has(END_STREAM) {
                return (status, body, false);
            }
        }
    }

    /// Reads up to the end of the connection: the error of a GOAWAY if one arrived.
    fn end(&mut self) -> Option<u32> {
        let mut error = None;
        while let Some(frame) = self.frame() {
            if frame.kind == GOAWAY {
                error = Some(frame.number(4));
            }
        }
        error
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The output of `curl` for a request to this server over HTTP/2. One only: curl 7.88 fails at the second on a connection.
fn curl(server: &Server, arguments: &[&str], path: &str) -> Vec<u8> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*"])
        .args(["--max-time", "60", "--http2-prior-knowledge"])
        .args(arguments)
        .arg(format!("http://{}{path}", server.address))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output.stdout
}

fn curl_text(server: &Server, arguments: &[&str], path: &str) -> String {
    String::from_utf8(curl(server, arguments, path)).unwrap()
}

#[test]
fn curl_is_served_over_http2() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let written = ["-w", "%{http_version} %{http_code}\n"];
        let hello = curl_text(&server, &written, "/hello");
        assert_eq!(hello, "hello\n2 200\n", "{kind}");
        let status = curl_text(&server, &written, "/status?404");
        assert_eq!(status, "status\n2 404\n", "{kind}");
        let head = curl_text(&server, &["--head"], "/sized?77");
        assert!(head.starts_with("HTTP/2 200"), "{kind}: {head}");
        assert!(head.contains("content-length: 77\r\n"), "{kind}: {head}");
        let large = curl(&server, &[], "/sized?5000003");
        assert!(large == pattern(5_000_003), "{kind}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("body");
        std::fs::write(&file, pattern(2_000_001)).unwrap();
        let upload = format!("@{}", file.display());
        let echoed = curl(&server, &["--data-binary", &upload], "/echo");
        assert!(echoed == pattern(2_000_001), "{kind}");
        // Trailers of the response, which curl prints with the headers.
        let trailers = curl_text(&server, &["--dump-header", "-"], "/trailers");
        assert!(trailers.contains("x-end: yes"), "{kind}: {trailers}");
        let seen = curl_text(&server, &["-H", "X-One: 1"], "/request?a=b");
        let expected = format!("GET /request?a=b {}\n", server.address);
        assert!(seen.starts_with(&expected), "{kind}: {seen}");
        assert!(seen.contains("x-one: 1\n"), "{kind}: {seen}");
        let large = format!("X: {}", "x".repeat(40_000));
        let refused = curl_text(&server, &["-H", &large, "-w", "%{http_code}"], "/hello");
        assert_eq!(refused, "431", "{kind}");
        let trapped = curl_text(&server, &["-w", "%{http_code}"], "/trap");
        assert!(trapped.ends_with("500"), "{kind}: {trapped}");
        server.end();
    }
}

#[test]
fn requests_share_a_connection_up_to_a_limit() {
    for backend in backends() {
        let server = Server::start(backend, &[]);
        let mut peer = Peer::begin(&server, &[]);
        // Settings count once both ends know them.
        let first = peer.get("/hello");
        assert_eq!(peer.response(first), (200, b"hello\n".to_vec(), false));
        let waiting: Vec<_> = (0..100).map(|_| peer.get("/after?5000")).collect();
        let refused = peer.get("/hello");
        let frame = peer.frame().unwrap();
        assert_eq!(
            (frame.kind, frame.stream),
            (RST_STREAM, refused),
            "{backend}"
        );
        assert_eq!(frame.number(0), REFUSED_STREAM, "{backend}");
        let mut answered = Vec::new();
        while answered.len() < waiting.len() {
            let frame = peer.frame().expect("an answer");
            if frame.kind == HEADERS {
                assert_eq!(frame.status(), 200, "{backend}");
            }
            if frame.has(END_STREAM) {
                answered.push(frame.stream);
            }
        }
        answered.sort_unstable();
        assert_eq!(answered, waiting, "{backend}");
        // Trailers of a request.
        let stream = peer.ask("POST", "/trailers", &[("te", "trailers")], true);
        peer.send(DATA, 0, stream, b"body");
        let trailers = field(0, "x-last", "1");
        peer.send(HEADERS, END_HEADERS | END_STREAM, stream, &trailers);
        let expected = (200, b"x-last: 1\n".to_vec(), true);
        assert_eq!(peer.response(stream), expected, "{backend}");
        server.end();
    }
}

#[test]
fn a_peer_takes_a_response_at_its_own_speed() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let mut peer = Peer::begin(&server, &[(INITIAL_WINDOW_SIZE, 0)]);
        let stream = peer.get("/sized?100000");
        let frame = peer.frame().unwrap();
        assert_eq!((frame.kind, frame.status()), (HEADERS, 200), "{kind}");
        // Nothing arrives without a window, and nobody else waits.
        server.get("/hello").is(200, "hello\n");
        let other = peer.ask("HEAD", "/hello", &[], false);
        let frame = peer.frame().unwrap();
        assert_eq!((frame.kind, frame.stream), (HEADERS, other), "{kind}");
        let mut body = Vec::new();
        while body.len() < 100_000 {
            let more = 7000_u32.to_be_bytes();
            peer.send(WINDOW_UPDATE, 0, 0, &more);
            peer.send(WINDOW_UPDATE, 0, stream, &more);
            let before = body.len();
            while body.len() < (before + 7000).min(100_000) {
                let frame = peer.frame().unwrap();
                assert_eq!((frame.kind, frame.stream), (DATA, stream), "{kind}");
                body.extend(frame.payload);
            }
            assert!(body.len() <= before + 7000, "{kind}");
        }
        assert!(body == pattern(100_000), "{kind}");
        server.end();
    }
}

#[test]
fn invalid_http2_is_refused() {
    for backend in backends() {
        let server = Server::start(backend, &[]);
        // Not quite the preface.
        for preface in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"[..],
            b"PRI * HTTP/2.0\r\n\r\n\r\n",
        ] {
            let mut peer = server.peer();
            peer.send(preface);
            let mut answer = Vec::new();
            let _ = peer.0.read_to_end(&mut answer);
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{backend}");
        }
        // Something other than frames after it, a frame that is too large, one in the wrong place.
        let continuation = frame(CONTINUATION, 0, 1, b"x");
        // Nor fields that are invalid in every request.
        let flags = END_HEADERS | END_STREAM;
        let [upper, line] = [("Upper", "case"), ("x", "line\r\nend")]
            .map(|it| frame(HEADERS, flags, 1, &request("GET", "/hello", &[it])));
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"[..],
            &[255; 64],
            &continuation,
            &upper,
            &line,
        ] {
            let mut peer = Peer::begin(&server, &[]);
            peer.raw(bytes);
            assert!(peer.end().is_some_and(|error| error != 0), "{backend}");
        }
        // Requests that are not valid: only they end.
        let mut peer = Peer::begin(&server, &[]);
        let two_names = [("host", "other")];
        let stream = peer.ask("GET", "/hello", &two_names, false);
        assert_eq!(peer.response(stream).0, 400, "{backend}");
        let stream = peer.ask("GET", "*", &[], false);
        assert_eq!(peer.response(stream).0, 400, "{backend}");
        let stream = peer.ask("GET", "/hello", &[("host", "test")], false);
        assert_eq!(peer.response(stream).0, 200, "{backend}");
        for fields in [
            &[("connection", "close")][..],
            &[("transfer-encoding", "chunked")],
            &[(":path", "/other")],
            &[("te", "gzip")],
        ] {
            let stream = peer.ask("GET", "/hello", fields, false);
            let frame = peer.frame().unwrap();
            assert_eq!(
                (frame.kind, frame.stream),
                (RST_STREAM, stream),
                "{backend} {fields:?}"
            );
            assert_eq!(frame.number(0), PROTOCOL_ERROR, "{backend} {fields:?}");
        }
        // A body of another length than announced.
        let stream = peer.ask("POST", "/length", &[("content-length", "5")], true);
        peer.send(DATA, END_STREAM, stream, b"four");
        let frame = peer.frame().unwrap();
        assert_eq!(
            (frame.kind, frame.stream),
            (RST_STREAM, stream),
            "{backend}"
        );
        let stream = peer.get("/hello");
        assert_eq!(peer.response(stream).1, b"hello\n", "{backend}");
        server.get("/hello").is(200, "hello\n");
        server.end();
    }
}

#[test]
fn floods_of_frames_end_only_their_connection() {
    for backend in backends() {
        let server = Server::start(backend, &[]);
        // Requests that are cancelled as soon as they are made, many at a time.
        let mut peer = Peer::begin(&server, &[]);
        let mut flood = Vec::new();
        for stream in (1..4000).step_by(2) {
            let flags = END_HEADERS | END_STREAM;
            flood.extend(frame(
                HEADERS,
                flags,
                stream,
                &request("GET", "/after?9", &[]),
            ));
            flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        let _ = peer.connection.write_all(&flood);
        // The end may be a reset: then the GOAWAY is lost.
        assert!(
            matches!(peer.end(), None | Some(ENHANCE_YOUR_CALM)),
            "{backend}"
        );
        // One by one, each processed before it is cancelled.
        let mut peer = Peer::begin(&server, &[]);
        let mut given_up = 0;
        loop {
            let stream = peer.next;
            peer.next += 2;
            let flags = END_HEADERS | END_STREAM;
            let mut bytes = frame(HEADERS, flags, stream, &request("GET", "/after?60000", &[]));
            bytes.extend(frame(PING, 0, 0, b"before  "));
            if peer.connection.write_all(&bytes).is_err() || peer.frame().is_none() {
                break;
            }
            let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            if peer.connection.write_all(&reset).is_err() {
                break;
            }
            given_up += 1;
            assert!(given_up < 1000, "{backend}: resets without end");
        }
        assert!(given_up > 20, "{backend}: {given_up}");
        // Headers that do not end.
        let mut peer = Peer::begin(&server, &[]);
        let _ = peer.connection.write_all(&frame(
            HEADERS,
            END_STREAM,
            1,
            &request("GET", "/hello", &[]),
        ));
        let piece = frame(CONTINUATION, 0, 1, &field(0, "x", &"y".repeat(1000)));
        let begin = Instant::now();
        while peer.connection.write_all(&piece).is_ok() {
            assert!(begin.elapsed() < PATIENCE, "{backend}: headers without end");
        }
        // Pings and settings, faster than they are answered: the peer has to read.
        let mut peer = Peer::begin(&server, &[]);
        for _ in 0..20 {
            let pings = frame(PING, 0, 0, b"01234567").repeat(200);
            peer.raw(&pings);
            peer.raw(&frame(SETTINGS, 0, 0, &[]));
            let mut answered = 0;
            while answered < 200 {
                answered += usize::from(peer.frame().expect("an answer").kind == PING);
            }
        }
        let stream = peer.get("/hello");
        assert_eq!(peer.response(stream).1, b"hello\n", "{backend}");
        server.get("/hello").is(200, "hello\n");
        server.end();
    }
}

#[test]
fn a_server_that_ends_tells_its_peers() {
    for backend in backends() {
        let server = Server::start(backend, &["--grace", "50s"]);
        // A peer that ignores this has a second.
        let mut deaf = Peer::begin(&server, &[]);
        deaf.get("/hello");
        let mut idle = Peer::begin(&server, &[]);
        let stream = idle.get("/hello");
        assert_eq!(idle.response(stream).0, 200, "{backend}");
        let mut busy = Peer::begin(&server, &[]);
        let stream = busy.get("/begin?1000");
        assert_eq!(busy.frame().unwrap().status(), 200, "{backend}");
        let begin = Instant::now();
        server.signal();
        assert_eq!(idle.end(), Some(0), "{backend}");
        let (mut body, mut told, mut ended) = (Vec::new(), false, false);
        while let Some(frame) = busy.frame() {
            told |= frame.kind == GOAWAY;
            if frame.kind == DATA {
                assert_eq!(frame.stream, stream);
                ended |= frame.has(END_STREAM);
                body.extend(frame.payload);
            }
        }
        assert!(told && ended, "{backend}: {body:?}");
        assert_eq!(body, b"begun\ndone\n", "{backend}");
        let (code, said) = server.wait();
        assert_eq!((code, said.as_str()), (Some(0), ""), "{backend}");
        assert!(begin.elapsed() < Duration::from_secs(40), "{backend}");
    }
}
