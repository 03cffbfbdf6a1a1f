// SPDX-License-Identifier: Apache-2.0

//! Responses without a body: those to HEAD, those whose status requires it, and those that promise one and have none.

use super::{Server, http2, kinds};

#[test]
fn a_response_without_a_body_ends_well() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        let mut peer = server.peer();
        for status in [204, 205, 304] {
            // The component writes one.
            peer.get(&format!("/status?{status}"));
            let response = peer.head();
            assert_eq!(response.status, status, "{kind}");
            let length = response.header("content-length");
            assert_eq!(length, (status == 205).then_some("0"), "{kind} {status}");
            peer.get("/hello");
            peer.response().is(200, "hello\n");
        }
        let mut peer = http2::Peer::begin(&server, &[]);
        for status in [204, 205, 304] {
            let stream = peer.get(&format!("/status?{status}"));
            let response = peer.response(stream);
            assert_eq!(response, (status, Vec::new(), false), "{kind}");
        }
        // The one of 0.3 traps if it learns that its body was not sent.
        assert_eq!(server.end(), "", "{kind}");
    }
}

/// Sends many HEAD requests, more than there are instances at a time, and disconnects.
fn ask_for_heads(server: &Server, path: &str) {
    for _ in 0..150 {
        let mut peer = server.peer();
        peer.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }
}

#[test]
fn an_endless_body_without_a_reader_is_given_up() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        ask_for_heads(&server, "/bytes?1000000000000000");
        server.get("/hello").is(200, "hello\n");
        assert_eq!(server.end(), "", "{kind}");
    }
    // The time is the same in every kind of Keep.
    let server = Server::start("process", &[]);
    ask_for_heads(&server, "/begin?1000000000");
    server.get("/hello").is(200, "hello\n");
    assert_eq!(server.end(), "");
}

#[test]
fn a_promised_but_missing_body_is_an_error() {
    for kind in kinds() {
        let server = Server::start(kind, &[]);
        server
            .get("/promise?5")
            .is(500, "500 Internal Server Error\n");
        server.get("/promise?0").is(200, "");
        let mut peer = server.peer();
        peer.send("HEAD /promise?5 HTTP/1.1\r\nHost: test\r\n\r\n");
        let response = peer.head();
        assert_eq!(response.status, 200, "{kind}");
        assert_eq!(response.header("content-length"), Some("5"), "{kind}");
        let mut peer = http2::Peer::begin(&server, &[]);
        let stream = peer.get("/promise?5");
        assert_eq!(peer.response(stream).0, 500, "{kind}");
        let said = server.end();
        let line = "the component promised a body and made none";
        assert_eq!(said.matches(line).count(), 2, "{kind}: {said}");
    }
}
