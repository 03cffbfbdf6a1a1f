// SPDX-License-Identifier: Apache-2.0

//! Other servers that a component calls: those that break off, and those with odd answers. Each has its error code.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use super::client::CLIENT;
use super::{PATIENCE, backends, service};
use crate::common::free_port;

/// Numbers of `error-code`.
const CONNECTION_TERMINATED: &str = "error 7\n";
const CONNECTION_TIMEOUT: &str = "error 8\n";
const RESPONSE_TIMEOUT: &str = "error 33\n";
const RESPONSE_HEADER_SECTION_SIZE: &str = "error 26\n";
const RESPONSE_TRANSFER_CODING: &str = "error 31\n";

/// A server that answers each connection by the path of its request. It ends with the tests.
fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || answer(stream.unwrap()));
        }
    });
    address
}

fn answer(stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut peer = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if peer.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim_end().is_empty() {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let path = head[0].split(' ').nth(1).unwrap().to_owned();
    let mut stream = peer.into_inner();
    // Peers may have disconnected.
    let mut send = |text: &str| {
        let _ = stream.write_all(text.as_bytes());
    };
    let ok = "HTTP/1.1 200 OK\r\n";
    match path.as_str() {
        "/close" => {}
        "/close-in-head" => send("HTTP/1.1 200 OK\r\nContent-Le"),
        "/reset" | "/reset-in-head" => {
            if path == "/reset-in-head" {
                send("HTTP/1.1 200 OK\r\nContent-Le");
                // This part of the head must arrive before the reset.
                thread::sleep(Duration::from_millis(200));
            }
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            return;
        }
        "/silent" => thread::sleep(PATIENCE),
        "/slow" => {
            send(&format!("{ok}Content-Length: 5\r\n\r\nabc"));
            thread::sleep(PATIENCE);
        }
        "/cut" => send(&format!("{ok}Content-Length: 5\r\n\r\nabc")),
        "/cut-in-chunks" => send(&format!(
            "{ok}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        )),
        "/large" => send(&format!("{ok}X: {}\r\n\r\n", "x".repeat(100_000))),
        "/many" => send(&format!("{ok}{}\r\n", "X: y\r\n".repeat(300))),
        "/coded" => send(&format!(
            "{ok}Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        )),
        "/twice" => send(&format!(
            "{ok}Transfer-Encoding: chunked, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        )),
        "/both" => send(&format!(
            "{ok}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        )),
        _ => {
            let text = head.join("|");
            send(&format!("{ok}Content-Length: {}\r\n\r\n{text}", text.len()));
        }
    }
    // A connection that is closed with unread bytes is reset.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read(&mut [0]);
}

#[test]
fn broken_and_malformed_responses_have_their_own_errors() {
    let address = start();
    let expected = [
        ("/close", CONNECTION_TERMINATED),
        ("/close-in-head", CONNECTION_TERMINATED),
        ("/reset", CONNECTION_TERMINATED),
        ("/reset-in-head", CONNECTION_TERMINATED),
        ("/cut", "200 abccut\nerror 7\n"),
        ("/cut-in-chunks", "200 abccut\nerror 7\n"),
        ("/large", RESPONSE_HEADER_SECTION_SIZE),
        ("/many", RESPONSE_HEADER_SECTION_SIZE),
        ("/coded", RESPONSE_TRANSFER_CODING),
        ("/twice", RESPONSE_TRANSFER_CODING),
        ("/both", "200 x"),
    ];
    let urls = expected.map(|(path, _)| format!("http://{address}{path}"));
    let expected: String = expected.iter().map(|(_, answer)| *answer).collect();
    for backend in backends() {
        let answers = CLIENT.ask_text(backend, &["-S", "inherit-network"], &urls);
        assert_eq!(answers, expected, "{backend}");
    }
}

/// A small body is taken as a whole before its fate is known: the connection may not even exist.
#[test]
fn an_unanswered_request_is_reported_as_not_transmitted() {
    let address = start();
    let closed = format!("127.0.0.1:{}", free_port());
    let urls = [
        format!("http://{address}/close#body"),
        format!("http://{address}/reset#body"),
        format!("http://{closed}/#body"),
        format!("http://{address}/#body"),
    ];
    let cut = "error 7\ntransmission: error 7\n";
    let refused = "error 6\ntransmission: error 6\n";
    let expected = [cut, cut, refused, "200 "].concat();
    for backend in backends() {
        let flags = ["-S", "inherit-network"];
        let answers = service::CLIENT.ask_text(backend, &flags, &urls);
        assert!(answers.starts_with(&expected), "{backend}: {answers}");
    }
}

/// A listener that accepts no more connections: clients wait.
fn full() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let taken = std::iter::from_fn(|| {
        TcpStream::connect_timeout(&address, Duration::from_millis(500)).ok()
    });
    let taken = taken.take(64).collect();
    (listener, taken)
}

#[test]
fn a_component_sets_the_timeouts_of_its_requests() {
    let address = start();
    let (deaf, taken) = full();
    assert!(taken.len() < 64, "it takes all");
    let deaf = deaf.local_addr().unwrap();
    let limits = ["connect=2000", "first-byte=4000", "between-bytes=4000"].map(str::to_owned);
    let urls = [
        format!("http://{deaf}/"),
        format!("http://{address}/silent"),
        format!("http://{address}/slow"),
    ];
    let words = [limits, urls].concat();
    // connection-read-timeout
    let slow = "200 abccut\nerror 9\n";
    let expected = [CONNECTION_TIMEOUT, RESPONSE_TIMEOUT, slow].concat();
    for backend in backends() {
        let begin = Instant::now();
        let answers = CLIENT.ask_text(backend, &["-S", "inherit-network"], &words);
        assert_eq!(answers, expected, "{backend}");
        // Less than the system's buffers for a connection.
        assert!(begin.elapsed() < PATIENCE, "{backend}");
    }
}

/// A user name and a password are not forwarded: servers and their logs do not get them.
#[test]
fn a_server_is_reached_by_every_spelling_without_a_user() {
    let address = start();
    let port = address.port();
    let urls = [
        format!("http://me:word@{address}/a"),
        format!("http://{address}"),
        format!("http://[::ffff:127.0.0.1]:{port}/b"),
    ];
    let rule = format!("--allow-connect={address}");
    let seen = format!(
        "200 GET /a HTTP/1.1|host: {address}200 GET / HTTP/1.1|host: {address}\
         200 GET /b HTTP/1.1|host: [::ffff:127.0.0.1]:{port}"
    );
    for backend in backends() {
        for flags in [&["-S", "inherit-network"][..], &[&rule]] {
            let answers = CLIENT.ask_text(backend, flags, &urls);
            assert_eq!(answers, seen, "{backend} {flags:?}");
        }
    }
}
