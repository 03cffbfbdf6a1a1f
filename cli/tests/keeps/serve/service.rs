// SPDX-License-Identifier: Apache-2.0

//! Servers and requests of `wasi:http` 0.3 (`tests/programs/server/service.c`, `tests/programs/conformance/http.c`), beyond what they
//! have in common with those of 0.2.

use super::client::Asker;
use super::tls::Authority;
use super::{Kind, PROXY, SERVICE, Server, backends, pattern};

/// Every kind of Keep with the component of 0.3.
fn services() -> impl Iterator<Item = Kind> {
    backends().map(|backend| Kind {
        backend,
        component: SERVICE,
    })
}

/// A request with a chunked body and a trailer.
fn with_trailers(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\nTE: trailers\r\n\r\n{:x}\r\n",
        body.len()
    );
    [head.as_bytes(), body, b"\r\n0\r\nX-End: yes\r\n\r\n"].concat()
}

fn x_end() -> [(String, String); 1] {
    [("x-end".to_owned(), "yes".to_owned())]
}

#[test]
fn bodies_and_trailers_pass_through_a_service_read_or_unread() {
    for kind in services() {
        let server = Server::start(kind, &[]);
        let body = pattern(1_000_003);
        for path in ["/echo", "/pass"] {
            // The response is read while the request is sent.
            let mut peer = server.peer();
            let mut sender = peer.0.get_ref().try_clone().unwrap();
            let request = with_trailers(path, &body);
            let sending = std::thread::spawn(move || {
                std::io::Write::write_all(&mut sender, &request).unwrap();
            });
            let response = peer.response();
            sending.join().unwrap();
            assert!(response.whole && response.body == body, "{kind} {path}");
            assert_eq!(response.trailers, x_end(), "{kind} {path}");
        }
        let mut peer = server.peer();
        peer.send(with_trailers("/trailers", b"body"));
        let response = peer.response();
        response.is(200, "x-end: yes\n");
        assert_eq!(response.trailers, x_end(), "{kind}");
        // Without a body, and with one that the service stops reading.
        for (path, status) in [
            ("/empty?200", 200),
            ("/empty?204", 204),
            ("/empty?404", 404),
        ] {
            let mut peer = server.peer();
            peer.get(path);
            peer.response().is(status, "");
            peer.get("/hello");
            peer.response().is(200, "hello\n");
        }
        let mut peer = server.peer();
        peer.send("POST /drop HTTP/1.1\r\nHost: test\r\nContent-Length: 100000000\r\n\r\nabc");
        peer.response().is(200, "1");
        assert!(peer.is_closed(), "{kind}");
        server.get("/hello").is(200, "hello\n");
        assert_eq!(server.end(), "", "{kind}");
    }
}

#[test]
fn a_service_asks_other_servers_and_passes_their_answers_on() {
    for kind in services() {
        let far = Server::start(kind.backend, &[]);
        let server = Server::start(kind, &["-S", "inherit-network"]);
        let (far_away, itself) = (far.address, server.address);
        // A body and a trailer go to the other server, and come back.
        for other in [far_away, itself] {
            let mut peer = server.peer();
            peer.send(format!(
                "GET /send?{other} HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n"
            ));
            let response = peer.response();
            response.is(200, "x-last: word\n");
            assert_eq!(response.trailers, x_end(), "{kind}");
        }
        // A request is forwarded as it arrived, and its response returns unchanged.
        let body = pattern(300_003);
        for other in [far_away, itself] {
            let mut peer = server.peer();
            peer.send(format!(
                "POST /forward?{other} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            peer.send(&body);
            let response = peer.response();
            assert!(response.whole && response.body == body, "{kind}");
        }
        server.get(&format!("/forward?{itself}")).is(200, "");
        // connection-refused
        server.get("/forward?127.0.0.1:1").is(502, "error 6\n");
        assert_eq!(server.end(), "", "{kind}");
        assert_eq!(far.end(), "", "{kind}");
    }
}

/// A command of 0.3.
pub const CLIENT: Asker = Asker {
    program: "conformance-http.wasm",
    words: &["ask"],
};

#[test]
fn a_command_of_0_3_asks_permitted_servers() {
    let authority = Authority::new();
    let (identity, roots) = (authority.here(), authority.roots());
    let roots = ["--tls-roots", roots.to_str().unwrap()];
    for backend in backends() {
        for component in [PROXY, SERVICE] {
            let kind = Kind { backend, component };
            let plain = Server::start(kind, &[]);
            let secure = Server::start(kind, &identity.flags());
            let http = |path: &str| format!("http://{}{path}", plain.address);
            let https = |path: &str| format!("https://{}{path}", secure.address);
            let one = format!("--allow-connect={}", plain.address);
            let other = format!("--allow-connect={}", secure.address);
            let both = [&roots[..], &[&one, &other]].concat();
            let urls = [
                http("/hello"),
                https("/hello"),
                https("/scheme"),
                https("/echo#some text"),
                http("/trailers#body"),
            ];
            let answers = CLIENT.ask_text(backend, &both, &urls);
            let expected = "200 hello\n200 hello\n200 https\n200 some text";
            let answers = answers.strip_prefix(expected).expect(&answers);
            let last = "200 x-last: word\ntrailers: \"x-end\"=\"yes\"\n";
            assert!(answers.ends_with(last), "{kind}: {answers}");
            for large in [http("/sized?300003"), https("/bytes?300003")] {
                let answer = CLIENT.ask(backend, &both, &[large]);
                assert_eq!(answer.len(), 4 + 300_003, "{kind}");
                assert!(answer[4..] == pattern(300_003), "{kind}");
            }
            // connection-terminated
            let cut = CLIENT.ask(backend, &both, &[https("/short?100000")]);
            assert!(cut.ends_with(b"cut 7\n"), "{kind}");
            // HTTP-request-denied without a network, destination-IP-prohibited against a rule, TLS-certificate-error without the
            // issuer.
            let urls = [http("/hello"), https("/hello")];
            let denied = CLIENT.ask_text(backend, &[], &urls);
            assert_eq!(denied, "error 15\nerror 15\n", "{kind}");
            let ruled = CLIENT.ask_text(backend, &[&one, roots[0], roots[1]], &urls);
            assert_eq!(ruled, "200 hello\nerror 4\n", "{kind}");
            let unknown = CLIENT.ask_text(backend, &[&one, &other], &urls);
            assert_eq!(unknown, "200 hello\nerror 13\n", "{kind}");
            plain.end();
            secure.end();
        }
    }
}
