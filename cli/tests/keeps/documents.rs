// SPDX-License-Identifier: Apache-2.0

//! The documents are correct: the `console` blocks of a page are one session in an empty folder with `examples/`, and
//! print what the page shows; the programs of `docs/first-program.md` run in every kind of Keep.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use enarx_harness::needs;

use super::common::{backends, clean, enarx};

/// Longer than any program here takes on a busy machine: a Keep that hangs fails its test.
const TIMEOUT: &str = "300s";
/// Printed after each command of a session.
const MARK: &str = "== end of the command ==";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A command of a document, and the output that the document shows for it.
#[derive(Debug, Default)]
struct Shown {
    command: String,
    output: String,
}

/// The commands of all `console` blocks of a Markdown text. `$ ` begins one; it continues after a backslash at the end
/// of a line, and to the end of a here-document.
fn commands(document: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let mut lines = document.lines();
    while lines.by_ref().any(|line| line == "```console") {
        let mut block = lines.by_ref().take_while(|line| *line != "```");
        while let Some(line) = block.next() {
            if let Some(command) = line.strip_prefix("$ ") {
                let mut command = command.to_owned();
                let mut here_document = command.ends_with("<<END");
                while here_document || command.ends_with('\\') {
                    let next = block.next().expect("a command goes on");
                    command = format!("{command}\n{next}");
                    here_document &= next != "END";
                }
                found.push(Shown {
                    command,
                    output: String::new(),
                });
            } else {
                let shown = found.last_mut().expect("output follows a command");
                shown.output.push_str(line);
                shown.output.push('\n');
            }
        }
    }
    found
}

/// A word of output; what differs from run to run is replaced by its kind.
fn kind(word: &str) -> String {
    let end = word.trim_end_matches([',', ')', ':', '…']).len();
    let (start, end) = word.split_at(end);
    let (open, start) = match start.strip_prefix('(') {
        Some(rest) => ("(", rest),
        None => ("", start),
    };
    let hexadecimal = start.len() >= 8 && start.chars().all(|c| c.is_ascii_hexdigit());
    let time = start.len() == "2026-11-23T02:30:09Z".len()
        && start.ends_with('Z')
        && start.as_bytes().get(10) == Some(&b'T');
    let start = match (hexadecimal, time) {
        (true, _) => "HEXADECIMAL",
        (_, true) => "TIME",
        _ => start,
    };
    // Documents abbreviate numbers.
    let end = if hexadecimal {
        end.replace('…', "")
    } else {
        end.to_owned()
    };
    format!("{open}{start}{end}")
}

/// Compares output with what a document shows: word by word, where `…` stands for any words, and `…` within a word for
/// that word.
fn matches(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((word, rest)) if word == "…" => {
            (0..=printed.len()).any(|skipped| matches(rest, &printed[skipped..]))
        }
        Some((word, rest)) => printed.split_first().is_some_and(|(other, others)| {
            (word == other || word.contains('…')) && matches(rest, others)
        }),
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(kind).collect()
}

#[test]
fn shown_output_is_compared() {
    let same = |shown: &str, printed: &str| matches(&words(shown), &words(printed));
    assert!(same("a b\n", "a b"));
    assert!(same("a … d", "a b c d") && same("a …", "a") && same("… d", "d"));
    assert!(same(
        "0123abcd…, at 2026-11-23T02:30:09Z",
        "fedcba9876543210, at 2027-01-01T00:00:00Z"
    ));
    assert!(same("(n: …)", "(n: 5)"));
    assert!(!same("a b", "a c") && !same("a", "a b") && !same("a b", "a"));
    assert!(!same("a … d", "a b c") && !same("a 0123abcd…", "a 0123abcg"));
    let found = commands(
        "text\n```console\n$ a \\\n b\nx\n$ c <<END\n1\nEND\n```\n```sh\n$ no\n```\n```console\n$ d\ny\n```\n",
    );
    let found: Vec<_> = found
        .iter()
        .map(|shown| (shown.command.as_str(), shown.output.as_str()))
        .collect();
    assert_eq!(
        found,
        [("a \\\n b", "x\n"), ("c <<END\n1\nEND", ""), ("d", "y\n")]
    );
}

#[test]
fn the_readme_is_true() {
    is_true("README.md", 20);
}

#[test]
fn the_sample_of_a_report_is_true() {
    is_true("docs/sample-report.md", 5);
}

#[test]
fn the_tutorial_of_deploying_is_true() {
    is_true("docs/deploy.md", 50);
}

/// The user and the group that play the hosts, where tenant and hosts are two users: a number that no system assigns
/// by default.
const HOST_USER: u32 = 59_999;

/// A command in place of `enarx`, which plays hosts as [`HOST_USER`] and the tenant as the user of the test. A host gets
/// a `/dev/kvm` that it may open, whatever the machine's users may do. [`two_users`] inserts its arguments.
const TWO_USERS: &str = r#"#!/bin/sh
# Hosts keep what they know in folders of their own.
case ${XDG_STATE_HOME:-/tenant} in
    */tenant) exec "ENARX" "$@" ;;
esac
chown USER:USER "$XDG_STATE_HOME"
exec unshare --mount sh -c '
    mount -t tmpfs -o mode=755 devices "$0" && mknod -m 600 "$0/kvm" c NUMBER && chown USER:USER "$0/kvm" &&
    mount --bind "$0/kvm" /dev/kvm && exec setpriv --reuid USER --regid USER --clear-groups -- "$@"
' "DEVICES" "ENARX" "$@"
"#;

/// Makes that command, in this folder. On a machine that does not allow two users, the test ends, as ignored.
fn two_users(folder: &Path) -> PathBuf {
    let binaries = folder.join("two-users");
    let (devices, enarx) = (binaries.join("devices"), binaries.join("real"));
    fs::create_dir_all(&devices).unwrap();
    // The build may be in a folder that other users cannot enter.
    fs::copy(env!("CARGO_BIN_EXE_enarx"), &enarx).unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o711)).unwrap();
    let kvm = fs::metadata("/dev/kvm").unwrap().rdev();
    let number = format!("{} {}", rustix::fs::major(kvm), rustix::fs::minor(kvm));
    let text = TWO_USERS
        .replace("USER", &HOST_USER.to_string())
        .replace("NUMBER", &number)
        .replace("DEVICES", devices.to_str().unwrap())
        .replace("ENARX", enarx.to_str().unwrap());
    let command = binaries.join("enarx");
    fs::write(&command, text).unwrap();
    fs::set_permissions(&command, Permissions::from_mode(0o755)).unwrap();
    let state = binaries.join("state");
    fs::create_dir(&state).unwrap();
    let tried = clean(&command)
        .arg("--version")
        .env("XDG_STATE_HOME", &state)
        .output();
    let reason = match tried {
        Ok(output) if output.status.success() => return binaries,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    needs::lacking("USERS", reason.trim())
}

/// From nothing to a verified deployment. The tutorial's host is another user than its tenant, and reads nothing of the tenant.
#[test]
fn the_tutorial_of_deploying_is_true_for_two_users() {
    needs::kvm();
    let document = "docs/deploy.md";
    let text = fs::read_to_string(root().join(document)).unwrap();
    let (text, _) = text.split_once("\n## 5. ").unwrap();
    let mut commands = commands(text);
    assert!(commands.len() >= 25, "{commands:?}");
    let as_host = format!("setpriv --reuid {HOST_USER} --regid {HOST_USER} --clear-groups");
    for (command, output) in [
        (
            "stat --format %u \"/proc/$(cat host/pid)\"".to_owned(),
            HOST_USER.to_string(),
        ),
        (
            format!("{as_host} cat host/to > copy; cmp copy host/to; echo $?"),
            "0".to_owned(),
        ),
        (
            format!("{as_host} cat tenant/token 2> /dev/null; echo $?"),
            "1".to_owned(),
        ),
        (
            format!("{as_host} ls tenant 2> /dev/null; echo $?"),
            "2".to_owned(),
        ),
        (
            format!("find host -user {HOST_USER} -name tokens.json | wc -l"),
            "1".to_owned(),
        ),
        (
            format!("find tenant -user {HOST_USER} | wc -l"),
            "0".to_owned(),
        ),
    ] {
        commands.push(Shown { command, output });
    }
    let folder = tempfile::tempdir().unwrap();
    let binaries = two_users(folder.path());
    types(document, &commands, folder.path(), &binaries);
}

/// Runs the commands of a document, at least this many, and compares their output with what it shows.
fn is_true(document: &str, least: usize) {
    needs::kvm();
    let text = fs::read_to_string(root().join(document)).unwrap();
    let commands = commands(&text);
    assert!(commands.len() >= least, "{commands:?}");
    let folder = tempfile::tempdir().unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_enarx")).parent().unwrap();
    types(document, &commands, folder.path(), binaries);
}

/// Runs these commands in this folder, with `enarx` from another one, and compares their output.
fn types(document: &str, commands: &[Shown], folder: &Path, binaries: &Path) {
    symlink(root().join("examples"), folder.join("examples")).unwrap();
    // Managers that a document leaves running end with it.
    let mut script = String::from("exec 2>&1\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n");
    for shown in commands {
        // The exit code is there for the next command.
        writeln!(
            script,
            "{}\nstatus=$?; printf '\\n{MARK}\\n'; (exit $status)",
            shown.command
        )
        .unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let output = clean(Path::new("bash"))
        .arg("-c")
        .arg(script)
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", binaries.display()))
        // Without a store of certificates.
        .env("HOME", folder)
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_STATE_HOME")
        // Each party of a document has its own simulated machine.
        .env_remove("ENARX_SIM")
        // Any port that is free.
        .env("ENARX_HOST_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<&str> = output.split(&format!("\n{MARK}\n")).collect();
    assert_eq!(printed.len(), commands.len() + 1, "{output}");
    for (shown, printed) in commands.iter().zip(printed) {
        assert!(
            matches(&words(&shown.output), &words(printed)),
            "$ {}\nprints\n{printed}\nand {document} shows\n{}",
            shown.command,
            shown.output
        );
    }
}

/// Builds the programs of the documents.
fn programs() -> PathBuf {
    // .../target/<profile>/enarx
    let target = Path::new(env!("CARGO_BIN_EXE_enarx")).ancestors().nth(2);
    let folder = target.unwrap().join("examples");
    let built = Command::new(root().join("examples/languages/build"))
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        needs::lacking("PROGRAMS", said.trim());
    }
    folder
}

/// The program in a language, in every kind of Keep: it greets its argument.
fn greets(file: &str, language: &str) {
    let folder = programs();
    for backend in backends() {
        let output = enarx()
            .args(["run", "--quiet", "--backend", backend, "--timeout", TIMEOUT])
            .arg(folder.join(file))
            .arg("Zoë")
            .output()
            .unwrap();
        assert!(output.status.success(), "{backend}: {output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("Hello, Zoë, from {language}!\n"),
            "{backend}"
        );
    }
}

#[test]
fn a_first_program_in_c() {
    greets("hello-c.wasm", "C");
}

#[test]
fn a_first_program_in_javascript() {
    greets("hello-js.wasm", "JavaScript");
}

#[test]
fn a_first_program_in_python() {
    greets("hello-py.wasm", "Python");
}

/// The files for a host as a service: systemd and udev parse what they contain and not what is meant.
#[test]
fn the_unit_and_the_rules_of_a_host_match_this_command() {
    let folder = root().join("host/manager/service");
    let unit = fs::read_to_string(folder.join("enarx-host.service")).unwrap();
    let mut section = "";
    let mut settings = Vec::new();
    for line in unit
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            assert!(["Unit", "Service", "Install"].contains(&name), "{line}");
            section = name;
            continue;
        }
        let (key, value) = line.split_once('=').expect(line);
        assert!(
            key.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{line}"
        );
        assert!(!value.is_empty() && !section.is_empty(), "{line}");
        settings.push((section, key, value));
    }
    let of = |key: &str| {
        let mut found = settings
            .iter()
            .filter(|(section, name, _)| *section == "Service" && *name == key);
        let (_, _, value) = found.next().expect(key);
        assert_eq!(found.next(), None, "{key} twice");
        *value
    };
    // Existing flags: for unknown flags the command says so before it shows its help.
    let mut words = of("ExecStart").split(' ');
    assert!(words.next().unwrap().ends_with("/enarx"));
    let output = enarx().args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let help = String::from_utf8(output.stdout).unwrap();
    for variable in of("Environment").split(' ') {
        let (name, value) = variable.split_once('=').unwrap();
        assert!(help.contains(&format!("[env: {name}=")), "{name}");
        assert!(
            value.starts_with(&format!("%S/{}/", of("StateDirectory"))),
            "{value}"
        );
    }
    // The cgroup that the manager moves into, and its controllers.
    let cgroup = fs::read_to_string(root().join("host/manager/src/cgroup.rs")).unwrap();
    for word in of("Delegate").split(' ').chain([of("DelegateSubgroup")]) {
        assert!(cgroup.contains(&format!("\"{word}\"")), "{word}");
    }

    let rules = fs::read_to_string(folder.join("70-enarx.rules")).unwrap();
    let mut devices = Vec::new();
    for line in rules.lines().filter(|line| !line.starts_with('#')) {
        let mut group = None;
        for part in line.split(", ") {
            let (key, value) = part.split_once('=').expect(line);
            let (operator, value) = match value.strip_prefix('=') {
                Some(value) => ("==", value),
                None => ("=", value),
            };
            let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            match (key, operator, value.expect(line)) {
                ("KERNEL", "==", device) => devices.push(device.to_owned()),
                ("SUBSYSTEM", "==", "misc") | ("MODE", "=", "0660") => {}
                ("GROUP", "=", name) => group = Some(name),
                _ => panic!("{line}"),
            }
        }
        assert_eq!(group, Some(of("SupplementaryGroups")), "{line}");
    }
    assert_eq!(devices, ["kvm", "sev"]);
    let page = fs::read_to_string(root().join("docs/deploy.md")).unwrap();
    for word in [
        "enarx-host.service",
        "70-enarx.rules",
        "ENARX_HOST_STATE=/var/lib/enarx-host/manager",
    ] {
        assert!(page.contains(word), "{word}");
    }
}
