// SPDX-License-Identifier: Apache-2.0

//! Servers that store files (`tests/programs/server/files.c`), in a directory that becomes full.

use super::super::common::{backends, enarx, with_room};
use super::super::programs::programs;
use super::super::serving::Serving;
use super::Server;
use super::load::held;

/// Room in the directory, in KiB.
const ROOM: u32 = 256;

/// Fills the directory over several connections, removes files, and fills it again.
fn fill(server: &Server, backend: &str) {
    let mut peer = server.peer();
    let mut ask = |path: &str| {
        peer.get(path);
        peer.response()
    };
    ask("/append?100000").is(200, "appended\n");
    let mut before = None;
    for _ in 0..3 {
        for _ in 0..20 {
            server.get("/append?400000").is(507, "full\n");
            ask("/append?400000").is(507, "full\n");
        }
        ask("/empty").is(200, "empty\n");
        ask("/append?100000").is(200, "appended\n");
        // Forty more requests leave none behind, except connections that are just ending.
        let (descriptors, _) = held(server);
        let before = *before.get_or_insert(descriptors);
        assert!(
            descriptors < before + 10,
            "{backend}: {before} {descriptors}"
        );
    }
}

#[test]
fn a_server_goes_on_when_its_quota_is_used_up() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let place = format!("{}::/:quota={ROOM}K", folder.path().display());
        let component = programs().folder.join("files.wasm");
        let server = Server::of(&component, backend, &["--dir", &place]);
        fill(&server, backend);
        assert_eq!(server.end(), "", "{backend}");
    }
}

#[test]
fn a_server_goes_on_when_its_disk_is_full() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let mut serve = enarx();
        serve
            .args(["serve", "--backend", backend, "--addr", "127.0.0.1:0"])
            .arg(format!("--dir={}::/", folder.path().display()))
            .arg(programs().folder.join("files.wasm"));
        let serving = Serving::start(&mut with_room(ROOM, folder.path(), &serve));
        let server = Server::serving(serving);
        fill(&server, backend);
        assert_eq!(server.end(), "", "{backend}");
    }
}
