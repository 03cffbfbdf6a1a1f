// SPDX-License-Identifier: Apache-2.0

//! Servers made with third-party tools: in JavaScript, with ComponentizeJS, and in Python, with componentize-py
//! (`tests/programs/languages`).

use enarx_harness::needs;

use super::tls::Authority;
use super::{Server, compile, programs};
use crate::common::free_port;

#[test]
fn servers_of_other_tools_answer_and_ask_others() {
    let folder = tempfile::tempdir().unwrap();
    // The servers that they call; one has a certificate of an issuer that they are given.
    let authority = Authority::new();
    let (identity, roots) = (authority.here(), authority.roots());
    let kind = needs::kinds(&["kvm"], &[]).next().unwrap();
    let upstream = Server::start(kind, &[]);
    let secure = Server::start(kind, &identity.flags());
    let closed = free_port();
    for name in ["server-js.wasm", "server-python.wasm"] {
        let program = programs().folder.join(name);
        // Compiling is most of the time, and the code is the same for both kinds.
        let mut compiled = None;
        for backend in needs::kinds(&["kvm", "sim"], &[]) {
            let compiled = compiled.get_or_insert_with(|| {
                compile::compile(
                    backend,
                    &program,
                    folder.path(),
                    &["--target-cpu", "baseline"],
                )
            });
            let roots = roots.to_str().unwrap();
            let flags = [
                "--allow-precompiled",
                "-S",
                "inherit-network",
                "--tls-roots",
                roots,
            ];
            let server = Server::of(compiled, backend, &flags);
            server.get("/hello").is(200, "hello\n");
            let lines: Vec<String> = (0..1000).map(|line| format!("line {line}\n")).collect();
            let lines = lines.concat();
            server.get("/lines").is(200, &lines);
            let mut peer = server.peer();
            let body = "some text ".repeat(30_000);
            for (path, answer) in [("/length", "300000\n"), ("/echo", &body)] {
                peer.send(format!(
                    "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
                peer.response().is(200, answer);
            }
            peer.get("/nothing");
            assert_eq!(peer.head().status, 204, "{name} {backend}");
            let (clear, safe) = (upstream.address, secure.address);
            for (asked, answer) in [
                (format!("/fetch?http://{clear}/echo"), "200 a body"),
                (format!("/fetch?https://{safe}/echo"), "200 a body"),
                // The other server does not speak TLS, or there is none.
                (format!("/fetch?https://{clear}/echo"), "refused\n"),
                (format!("/fetch?http://127.0.0.1:{closed}/"), "refused\n"),
                (
                    format!("/all?http://{clear}/after?200"),
                    &"waited\n".repeat(5),
                ),
                (format!("/all?https://{safe}/scheme"), &"https\n".repeat(5)),
            ] {
                peer.get(&asked);
                peer.response().is(200, answer);
            }
            assert_eq!(server.get("/fails").status, 500, "{name} {backend}");
            server.get("/hello").is(200, "hello\n");
            // The tool's own code gives the reason, too.
            let said = server.end();
            assert!(said.contains("request "), "{name} {backend}: {said}");
        }
    }
    assert_eq!((upstream.end(), secure.end()), Default::default());
}
