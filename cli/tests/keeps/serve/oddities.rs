// SPDX-License-Identifier: Apache-2.0

//! Requests of HTTP/1.1 that two programs could read differently: refused, or read as RFC 9112 says.

use std::io::Read;

use super::{Server, backends};

/// Everything that the server sends, up to the end of the connection.
fn all_of(server: &Server, request: &str) -> String {
    let mut peer = server.peer();
    peer.send(request);
    let mut answer = Vec::new();
    let _ = peer.0.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn no_request_hides_a_second_one() {
    const HIDDEN: &str = "GET /count HTTP/1.1\r\nHost: hidden\r\n\r\n";
    let post = "POST /length HTTP/1.1\r\nHost: test\r\n";
    let chunk = "1\r\nx\r\n0\r\n\r\n";
    // Something in place of a transfer coding, and of a chunk, that other servers might overlook.
    let cases = [
        format!("{post}Transfer-Encoding: xchunked\r\n\r\n{chunk}{HIDDEN}"),
        format!("{post}Transfer-Encoding: chunked, gzip\r\n\r\n{chunk}{HIDDEN}"),
        format!("{post}Transfer-Encoding:\r\n chunked\r\n\r\n{chunk}{HIDDEN}"),
        format!("{post}Transfer-Encoding : chunked\r\n\r\n{chunk}{HIDDEN}"),
        format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n{chunk}{HIDDEN}"),
        format!("{post}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd{HIDDEN}"),
        format!("{post}Content-Length: 3, 3\r\n\r\nabc{HIDDEN}"),
        format!("{post}Content-Length: +3\r\n\r\nabc{HIDDEN}"),
        format!("{post}Content-Length: 0x3\r\n\r\nabc{HIDDEN}"),
        format!("{post}Content-Length: 3 4\r\n\r\nabc{HIDDEN}"),
        format!("{post}Content-Length: 99999999999999999999\r\n\r\nabc{HIDDEN}"),
        format!("{post}Content-Length: 3\r\nTransfer-Encoding: gzip, identity\r\n\r\nabc{HIDDEN}"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n1;\nx\r\n0\r\n\r\n{HIDDEN}"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n{HIDDEN}"),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n{HIDDEN}"),
        format!(
            "{post}Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\nx\r\n0\r\n\r\n{HIDDEN}"
        ),
        format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n{HIDDEN}"),
        format!(
            "{post}Transfer-Encoding: chunked\r\n\r\n{}\r\nx\r\n0\r\n\r\n{HIDDEN}",
            "0".repeat(200)
        ),
        // Coding and length in a version without chunks.
        format!("POST /length HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{HIDDEN}"),
        format!("GET /hello HTTP/1.1\r\nHost: test\r\nX: a\rb\r\n\r\n{HIDDEN}"),
        format!("GET /hello HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n{HIDDEN}"),
        format!("GET /hello HTTP/1.1\r\nHost: test\r\n\tfolded\r\n\r\n{HIDDEN}"),
        format!("GET /hello HTTP/1.1\r\n Host: test\r\n\r\n{HIDDEN}"),
        format!("GET /hello you HTTP/1.1\r\nHost: test\r\n\r\n{HIDDEN}"),
        format!("GET /hello\0 HTTP/1.1\r\nHost: test\r\n\r\n{HIDDEN}"),
        format!("GE(T /hello HTTP/1.1\r\nHost: test\r\n\r\n{HIDDEN}"),
    ];
    for backend in backends() {
        let server = Server::start(backend, &[]);
        for request in &cases {
            let answer = all_of(&server, request);
            // `/count` answers 1, and nothing else here does.
            assert!(
                answer.matches("HTTP/1.").count() <= 1,
                "{backend}: {request:?}: {answer}"
            );
            assert!(
                !answer.contains(" 200 "),
                "{backend}: {request:?}: {answer}"
            );
        }
        server.get("/hello").is(200, "hello\n");
        server.end();
    }
}

#[test]
fn unusual_forms_of_requests_are_understood() {
    for backend in backends() {
        let server = Server::start(backend, &[]);
        let mut peer = server.peer();
        // Empty lines before a request, the same length given twice, an offer to change the protocol.
        peer.send("\r\n\r\nGET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
        peer.response().is(200, "hello\n");
        peer.send("POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nabcde");
        peer.response().is(200, "5");
        for offer in ["h2c", "websocket"] {
            peer.send(format!(
                "GET /hello HTTP/1.1\r\nHost: test\r\nConnection: upgrade, http2-settings\r\nUpgrade: {offer}\r\n\
                 HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            ));
            peer.response().is(200, "hello\n");
        }
        // The whole server, and a whole URI beside another name.
        peer.send("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(peer.response().status, 404, "{backend}");
        peer.send("GET http://one/request HTTP/1.1\r\nHost: two\r\n\r\n");
        peer.response().is(200, "GET /request one\n");
        // A body where one is unusual; it is not a second request.
        peer.send("GET /length HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc");
        peer.response().is(200, "3");
        peer.send("DELETE /length HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\n\r\n");
        peer.response().is(200, "3");
        // The response to HEAD has none, whatever the component writes.
        peer.send("HEAD /bytes?100000 HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(peer.head().status, 200, "{backend}");
        peer.send("HEAD /count HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(peer.head().status, 200, "{backend}");
        peer.get("/hello");
        peer.response().is(200, "hello\n");
        // Trailers, if both sides have announced them.
        peer.send(
            "POST /trailers HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
             1\r\nx\r\n0\r\nX-Last: 1\r\n\r\n",
        );
        let response = peer.response();
        response.is(200, "x-last: 1\n");
        assert_eq!(
            response.trailers,
            [("x-end".to_owned(), "yes".to_owned())],
            "{backend}"
        );
        // HTTP/1.0: no chunks, and the end of the connection is the end of the body, unless the connection is kept.
        let answer = all_of(&server, "GET /bytes?100000 HTTP/1.0\r\n\r\n");
        assert!(
            answer.len() > 100_000 && !answer.contains("chunked"),
            "{backend}"
        );
        let mut peer = server.peer();
        peer.send("GET /sized?3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let mut kept = Vec::new();
        while let Some(line) = peer.line().filter(|line| !line.is_empty()) {
            kept.push(line.to_lowercase());
        }
        assert!(
            kept.contains(&"connection: keep-alive".to_owned()),
            "{backend}: {kept:?}"
        );
        server.end();
    }
}
