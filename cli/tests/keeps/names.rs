// SPDX-License-Identifier: Apache-2.0

//! A hostile name server: its answers never allow anything that the rules do not name. `names.py` provides the
//! server and its network, separately for every Keep.

use std::path::Path;
use std::process::Command;

use enarx_harness::needs;

use super::common::{backends, clean};
use super::network::lines;
use super::programs::programs;

/// The name server.
const SERVER: &str = include_str!("names.py");

/// Runs `command` where the hostile server is the only one; the test ends here, as ignored, where users get no namespaces.
fn asking(folder: &Path, command: &Command) -> Command {
    let namespaces = || {
        let mut unshare = clean(Path::new("unshare"));
        unshare.args(["--user", "--map-root-user", "--mount", "--net"]);
        unshare
    };
    if !namespaces()
        .arg("true")
        .status()
        .is_ok_and(|it| it.success())
    {
        needs::lacking("NAMESPACES", "this system gives users no namespaces");
    }
    let mut within = namespaces();
    within.args(["python3", "-c", SERVER]).arg(folder);
    within.arg(command.get_program()).args(command.get_args());
    within
}

/// Compares what the program reports about each place, with these rules.
fn check(backend: &str, rules: &[&str], expected: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = clean(Path::new(env!("CARGO_BIN_EXE_enarx")));
    command
        .args(["run", "--quiet", "--timeout", "120s", "--backend", backend])
        .args(rules)
        .arg(programs().folder.join("conformance-preview2.wasm"))
        .arg("reach")
        .args(expected.iter().map(|(place, _)| place));
    let output = asking(folder.path(), &command).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{backend}: {said}{why}");
    let expected: Vec<_> = expected
        .iter()
        .map(|(place, answer)| format!("{place} {answer}"))
        .collect();
    assert_eq!(lines(&said), expected, "{backend} {rules:?}: {why}");
}

#[test]
fn a_hostile_name_server_cannot_bypass_the_rules() {
    let (ok, denied) = ("ok", "access-denied");
    // Names without any address, and names without a permitted one.
    let (none, guarded) = ("name-unresolvable", "permanent-resolver-failure");
    for backend in backends() {
        let names = [
            "plain", "other", "loop", "cut", "wrong", "many", "here", "clothes", "mixed", "rebind",
        ];
        let rules: Vec<_> = names
            .iter()
            .map(|name| format!("--allow-connect={name}.test:80/tcp"))
            .collect();
        let rules: Vec<_> = rules.iter().map(String::as_str).collect();
        check(
            backend,
            &rules,
            &[
                // Nobody has looked up a name yet.
                ("tcp/203.0.113.5.80", denied),
                ("name/other.test", none),
                ("name/victim.test", guarded),
                ("name/loop.test", none),
                ("name/cut.test", none),
                ("name/wrong.test", none),
                // Addresses of this machine, its link and metadata services, in every spelling.
                ("name/here.test", guarded),
                ("name/clothes.test", guarded),
                ("tcp/127.0.0.1.80", denied),
                ("tcp/0.0.0.0.80", "invalid-argument"),
                ("tcp/169.254.169.254.80", denied),
                ("tcp/0:0:0:0:0:0:0:1:50", denied),
                ("tcp/fe80:0:0:0:0:0:0:1:50", denied),
                ("tcp/203.0.113.5.80", denied),
                // Among others they are left out.
                ("name/mixed.test", ok),
                ("tcp/203.0.113.5.80", ok),
                ("tcp/203.0.113.5.81", denied),
                ("udp/203.0.113.5.80", denied),
                ("tcp/127.0.0.1.80", denied),
                ("tcp/169.254.169.254.80", denied),
                // Thousands, of which some are taken, and the Keep continues.
                ("name/many.test", ok),
                ("name/plain.test", ok),
            ],
        );
        // The first answer counts, and later look-ups get the same.
        check(
            backend,
            &["--allow-connect", "rebind.test:80"],
            &[
                ("name/rebind.test", ok),
                ("tcp/203.0.113.5.80", ok),
                ("name/rebind.test", ok),
                ("name/REBIND.test.", ok),
                ("tcp/203.0.113.6.80", denied),
                ("tcp/203.0.113.5.80", ok),
            ],
        );
        // A look-up by itself opens nothing, whatever the answer; nor does a silent server delay the rest for long.
        check(
            backend,
            &["--allow-resolve", "*.test", "--allow-connect", "10.0.0.1"],
            &[
                ("name/plain.test", ok),
                ("name/here.test", ok),
                ("tcp/203.0.113.5.80", denied),
                ("tcp/127.0.0.1.80", denied),
                ("name/silent.test", none),
                ("name/loop.test", none),
                ("name/localhost", guarded),
            ],
        );
    }
}
