// SPDX-License-Identifier: Apache-2.0

//! One dialect: what all commands of `enarx` have in common. Usage errors, exit codes, JSON, variables, verbosity, version,
//! completions and man pages.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use enarx_snp::report::REPORT_LEN;

/// Every command that does something, as the user types it.
const COMMANDS: &[&[&str]] = &[
    &["run"],
    &["serve"],
    &["compile"],
    &["config", "init"],
    &["config", "check"],
    &["config", "schema"],
    &["deploy"],
    &["attach"],
    &["stop"],
    &["keeps", "list"],
    &["keeps", "show"],
    &["keeps", "end"],
    &["keeps", "forget"],
    &["host", "serve"],
    &["host", "show"],
    &["host", "token", "add"],
    &["host", "token", "list"],
    &["host", "token", "revoke"],
    &["doctor"],
    &["platform", "info"],
    &["verify"],
    &["ear", "verify"],
    &["inspect"],
    &["policy", "check"],
    &["policy", "explain"],
    &["policy", "new"],
    &["policy", "schema"],
    &["receipt", "verify"],
    &["contract", "show"],
    &["certs", "fetch"],
    &["certs", "import"],
    &["measure"],
    &["release", "keygen"],
    &["release", "add"],
    &["release", "sign"],
    &["release", "verify"],
    &["release", "list"],
    &["release", "schema"],
    &["completions"],
    &["man"],
];

/// The command without variables that could change what it does.
fn clean() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_enarx"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ENARX_") {
            command.env_remove(name);
        }
    }
    command.env("ENARX_STORE", "/nonexistent/store");
    command
}

fn enarx(arguments: &[&str]) -> Output {
    clean().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
fn assert_usage(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.starts_with("enarx: "), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[test]
fn a_wrong_command_line_is_answered_with_that_commands_usage() {
    for command in COMMANDS {
        let name = format!("Usage: enarx {}", command.join(" "));
        let output = enarx(&[*command, &["--frobnicate"]].concat());
        assert_usage(&output, &["--frobnicate", &name]);
        assert_eq!(text(&output.stdout), "", "{command:?}");
    }
    assert_usage(&enarx(&["verify"]), &["<FILE>", "Usage: enarx verify "]);
    // The tip names the word that was meant.
    assert_usage(
        &enarx(&["verify", "report.bin", "--jsn"]),
        &["tip: ", "'--json'"],
    );
    assert_usage(&enarx(&["ver-ify"]), &["'verify'"]);
    assert_usage(
        &enarx(&["hello.wasm"]),
        &["tip: to run a program: enarx run hello.wasm"],
    );
    assert_usage(
        &enarx(&["run", "-W", "max-memory-sze=1M", "x.wasm"]),
        &["did you mean max-memory-size?"],
    );
    let output = enarx(&["policy", "check", "de-fault"]);
    assert_eq!(output.status.code(), Some(66));
    assert!(text(&output.stderr).contains("did you mean the policy default?"));
    // No useless advice: after `--` an option would be the program.
    for option in ["-O", "-g", "--profile", "--argv0"] {
        let output = enarx(&["run", option, "x.wasm"]);
        assert_usage(&output, &["tip: Wasmtime has", option, "leave it out"]);
        assert!(!text(&output.stderr).contains("-- -"), "{output:?}");
    }
    let output = enarx(&["run", "--timeout", "-1", "x.wasm"]);
    assert_usage(&output, &["--timeout", "write a duration"]);
    assert!(!text(&output.stderr).contains("-- -1"), "{output:?}");
}

#[test]
fn the_flags_of_run_and_deploy_are_in_groups() {
    are_in_groups(
        "run",
        &[
            ("Program:", "--invoke <NAME>"),
            ("Files and network:", "--allow-connect <"),
            ("Keep:", "--memory <SIZE>"),
            ("Evidence:", "--attest-to <DIR>"),
            ("Messages:", "--quiet"),
            ("Options:", "--help"),
        ],
    );
    are_in_groups(
        "deploy",
        &[
            ("Host:", "--to <URL>"),
            ("Evidence:", "--policy <FILE|NAME>"),
            ("Program:", "--secret <NAME=FILE>"),
            ("Server of HTTP:", "--tls-cert <FILE>"),
            ("Network:", "--allow-listen <"),
            ("Keep:", "--memory <SIZE>"),
            ("Messages:", "--receipt <FILE>"),
            ("Options:", "--help"),
        ],
    );
}

/// Checks that a command's help has these groups, in this order, each with this flag in it.
fn are_in_groups(command: &str, groups: &[(&str, &str)]) {
    let help = enarx(&[command, "--help"]);
    let help = text(&help.stdout);
    let mut last = 0;
    for (group, flag) in groups {
        let place = help.find(&format!("\n{group}\n")).expect(group);
        let rest = &help[place + 1..];
        let of_group = rest.split("\n\n").take_while(|part| {
            // Blank lines separate flags; another heading ends the group.
            rest.starts_with(part) || part.starts_with(' ')
        });
        assert!(
            of_group.into_iter().any(|part| part.contains(flag)),
            "{command}: {group} {flag}"
        );
        assert!(*group == "Options:" || place > last, "{command}: {group}");
        last = place;
    }
}

/// Mistakes of people who know other commands, with the words that help them.
#[test]
fn a_typical_mistake_is_answered_with_a_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (state, public, hello) = (path("state"), path("key.pub"), path("hello.wasm"));
    fs::write(
        &public,
        "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
    )
    .unwrap();
    fs::write(&hello, b"\0asm\x01\0\0\0").unwrap();
    fs::write(
        path("releases.toml"),
        "format = 1\nserial = 0\nnot-after = \"2036-01-01T00:00:00Z\"\n",
    )
    .unwrap();
    let releases = path("releases.toml");
    let folder_path = folder.path().to_str().unwrap();
    let to = format!("https://127.0.0.1:1#sha256={}", "00".repeat(32));
    let hosts = path("hosts.toml");
    fs::write(path("token"), "enarx_token\n").unwrap();
    fs::write(&hosts, "[[host]]\nto = \"a:1\"\ntoken-file = \"token\"\n").unwrap();
    for (line, code, words) in [
        (
            &["rnu", "x.wasm"][..],
            2,
            "a similar subcommand exists: 'run'",
        ),
        (&["help", "rnu"], 2, "a similar subcommand exists: 'run'"),
        (
            &["run", "-memory", "1G", "x.wasm"],
            2,
            "tip: write --memory",
        ),
        (
            &["run", "--mapdir", "/a::b", "x.wasm"],
            2,
            "tip: write --dir HOST::GUEST",
        ),
        (
            &["run", "-S", "http", "x.wasm"],
            2,
            "--allow-connect: leave http out",
        ),
        (
            &["run", "-S", "cli=y", "x.wasm"],
            2,
            "cli is always on here: leave it out",
        ),
        (
            &["run", "-W", "gc=y", "x.wasm"],
            2,
            "gc is always on here: leave it out",
        ),
        (
            &["run", "--vcpus", "two", "x.wasm"],
            2,
            "write a number from 1 to 62",
        ),
        (
            &["run", "--dir", "a:quota=1G:ro", "x.wasm"],
            2,
            "write :ro alone",
        ),
        (
            &["serve", "--addr", "8081", "x.wasm"],
            2,
            "as in 127.0.0.1:8081 for this machine only",
        ),
        (
            &["serve", "--addr", "localhost:80", "x.wasm"],
            2,
            "an address in digits and a port",
        ),
        (
            &["serve", "--max-requests", "0", "x.wasm"],
            2,
            "write a number, at least 1",
        ),
        (
            &["host", "serve", "--listen", "9443"],
            2,
            "as in 127.0.0.1:9443",
        ),
        (&["deploy", "--local", "x.wasm", "a"], 2, "follow --: -- a"),
        (
            &["deploy", "--local", "--dir", "a::/a", "x.wasm"],
            2,
            "deliver files with --file",
        ),
        (
            &["deploy", "--local", "--file", "../a=/dev/null", "x.wasm"],
            2,
            "without ., ..",
        ),
        (
            &["deploy", "--local", "--file", "a\\b=/dev/null", "x.wasm"],
            2,
            "that the program sees, as in etc/app.conf",
        ),
        (
            &[
                "deploy",
                "--local",
                "--file",
                "a/b=/dev/null",
                "--file",
                "/a=/dev/null",
                &hello,
            ],
            2,
            "--file a/b: --file a is a file already",
        ),
        (
            &[
                "deploy",
                "--local",
                "--secret-file",
                "../a=/dev/null",
                "x.wasm",
            ],
            2,
            "is not a name for a file below /run/secrets",
        ),
        (
            &["host", "token", "add", "b o b", "--state", &state],
            2,
            "is not a name",
        ),
        (
            &["host", "token", "revoke", "bob", "--state", &state],
            2,
            "`enarx host token list` shows",
        ),
        (
            &["host", "token", "list", "--state", "/proc/x"],
            74,
            "set XDG_STATE_HOME to a folder of yours, or give another with --state",
        ),
        (
            &["policy", "new", "--local", "--sim", "state=/proc/x"],
            74,
            "name another folder with --sim state=DIR",
        ),
        (
            &["release", "sign", &releases, "--key", &public],
            65,
            "key.pub: not a private key",
        ),
        (
            &[
                "compile",
                &hello,
                "--output",
                folder.path().to_str().unwrap(),
            ],
            74,
            "is not a regular file: name another file with --output",
        ),
        (&["run", "-"], 65, "standard input is not WebAssembly"),
        (
            &["run", folder_path],
            66,
            "Is a directory: name a file in it",
        ),
        (
            &["contract", "show", &releases],
            65,
            ": give FILE.contract of `enarx deploy --receipt`",
        ),
        (
            &[
                "deploy",
                "--to",
                &to,
                "--token-file",
                &hello,
                "--policy",
                "default",
                &hello,
            ],
            65,
            "hello.wasm: the token is empty",
        ),
        (
            &["deploy", "--hosts", &hosts, "--policy", "default", &hello],
            65,
            "hosts.toml: `a:1` does not begin with https://",
        ),
        (
            &["deploy", "--local", "--receipt", "/dev/null/r", &hello],
            74,
            "name another place with --receipt",
        ),
    ] {
        let output = clean()
            .args(line)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line:?}: {said}");
        assert!(
            said.starts_with("enarx: ") && said.contains(words),
            "{line:?}: {said}"
        );
        // A system error is reported in words only, and an unknown flag without a flag that only looks similar.
        assert!(
            !said.contains("os error") && !said.contains("'--addr'"),
            "{line:?}: {said}"
        );
    }
}

/// A flag that has no effect beside another flag is refused; a variable, which may be set for all runs, is
/// not.
#[test]
fn a_flag_without_effect_is_refused() {
    let run = |flags: &[&'static str]| [&["run", "--backend", "process"], flags].concat();
    let serve = |flags: &[&'static str]| {
        [
            &["serve", "--addr", "127.0.0.1:0", "--backend", "process"],
            flags,
        ]
        .concat()
    };
    let deploy = |flags: &[&'static str]| {
        let host = ["deploy", "--to", "https://127.0.0.1:1#sha256=00"];
        [&host[..], flags].concat()
    };
    for (line, flag) in [
        (run(&["--sim", "generation=genoa"]), "--sim"),
        (serve(&["--sim", "generation=genoa"]), "--sim"),
        (run(&["--sev", "single-socket"]), "--sev"),
        (
            run(&["--insecure-fault-addresses"]),
            "--insecure-fault-addresses",
        ),
        (run(&["--tls-roots", "roots.pem"]), "--tls-roots"),
        (serve(&["--tls-roots", "roots.pem"]), "--tls-roots"),
        (run(&["--timeout", "5", "-W", "timeout=6"]), "-W timeout"),
        (
            run(&["-S", "tcp=n", "--allow-connect", "127.0.0.1:1"]),
            "--allow-connect",
        ),
        (
            run(&["-S", "inherit-network=n", "--allow-listen", "1234"]),
            "--allow-listen",
        ),
        (
            run(&[
                "-S",
                "allow-ip-name-lookup=n",
                "--allow-resolve",
                "a.example",
            ]),
            "--allow-resolve",
        ),
        (
            vec![
                "compile",
                "--backend",
                "process",
                "--sim",
                "generation=genoa",
            ],
            "--sim",
        ),
        (deploy(&["--sim", "generation=genoa"]), "--sim"),
        (deploy(&["--tls-roots", "roots.pem"]), "--tls-roots"),
    ] {
        let output = enarx(&[&line[..], &["missing.wasm"]].concat());
        assert_usage(&output, &[flag, "leave"]);
    }
    for (line, flag) in [
        (vec!["--sim", "generation=genoa"], "--sim"),
        (
            vec!["--backend", "sim", "--store", "certificates"],
            "--store",
        ),
    ] {
        let output = enarx(&[&["host", "serve"], &line[..]].concat());
        assert_usage(&output, &[flag, "leave it out"]);
    }
    // The same with variables: the error is about the missing file.
    let mut command = clean();
    command.env("ENARX_SIM", "generation=genoa");
    command.env("ENARX_INSECURE_FAULT_ADDRESSES", "1");
    let output = command
        .args(run(&["--timeout", "5", "-W", "timeout=5", "missing.wasm"]))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(66), "{output:?}");
    assert!(text(&output.stderr).contains("missing.wasm"), "{output:?}");
}

/// a table: codes by their meaning.
fn rows<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    lines
        .filter_map(|line| {
            let (codes, meaning) = line.split_once("  ")?;
            Some((codes.trim().to_owned(), meaning.trim().to_owned()))
        })
        .collect()
}

#[test]
fn the_table_of_exit_codes_is_the_same_in_help_and_readme() {
    let of_help = |arguments: &[&str], heading: &str| {
        let output = enarx(arguments);
        let help = text(&output.stdout).to_owned();
        let (_, table) = help.split_once(heading).expect(&help);
        rows(
            table
                .lines()
                .skip(1)
                .take_while(|line| !line.is_empty())
                .map(str::trim_start),
        )
    };
    let help = of_help(&["--help"], "Exit codes of all commands:");
    assert_eq!(help, of_help(&["run", "--help"], "Exit codes:"));
    let codes: Vec<_> = help.keys().map(String::as_str).collect();
    let all = "0,0 to 125,1,124,134,2,3,65,66,69,70,74,75";
    assert_eq!(codes.join(","), all);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, table) = readme.split_once("| exit code | meaning |").unwrap();
    let table = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let in_readme: Vec<String> = table
        .map(|row| row.trim_matches(['|', ' ']).replacen(" | ", "  ", 1))
        .collect();
    assert_eq!(rows(in_readme.iter().map(String::as_str)), help);
    // All other help texts say where the table is.
    for command in COMMANDS.iter().filter(|command| **command != ["run"]) {
        let output = enarx(&[*command, &["--help"]].concat());
        let help = text(&output.stdout);
        assert!(
            help.contains("Exit codes: see `enarx --help`"),
            "{command:?}: {help}"
        );
    }
}

#[test]
fn errors_have_one_form_and_are_json_if_json_was_requested() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (bad, report) = (path("bad.toml"), path("report.bin"));
    fs::write(&bad, "version = 1").unwrap();
    fs::write(&report, [0; REPORT_LEN]).unwrap();
    let none = "/nonexistent/file";
    for (arguments, code) in [
        (&["verify", none][..], 66),
        (&["verify", &report, "--policy", &bad], 65),
        (&["verify", &report, "--at", "yesterday"], 2),
        (&["verify"], 2),
        (&["ear", "verify", none, "--key", none], 66),
        (&["ear", "verify", &bad, "--key", &bad], 65),
        (&["inspect", none], 66),
        (&["inspect", &bad], 65),
        (&["policy", "check", none], 66),
        (&["policy", "check", &bad], 65),
        (&["certs", "fetch", none], 66),
        (&["certs", "fetch", &bad], 65),
        (&["certs", "import", none], 66),
        (&["certs", "import", &bad], 65),
        (&["contract", "show", none], 66),
        (&["contract", "show", &bad], 65),
        (&["release", "verify", none, "--key", none], 66),
        (&["release", "list", &bad, "--key", &bad], 65),
        (&["measure", "--vcpus", "63"], 2),
        (&["measure", "--insecure-fault-addresses"], 2),
        (&["doctor", "--wrong"], 2),
    ] {
        let asked = [arguments, &["--json"]].concat();
        let mut by_variable = clean();
        by_variable.args(arguments).env("ENARX_JSON", "1");
        for output in [enarx(&asked), by_variable.output().unwrap()] {
            assert_eq!(
                output.status.code(),
                Some(code),
                "{arguments:?}: {output:?}"
            );
            let said = text(&output.stderr);
            assert!(said.starts_with("enarx: "), "{arguments:?}: {said}");
            let json: serde_json::Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"));
            // Files that `certs import` does not keep are part of its result.
            if let Some(refused) = json.get("refused") {
                assert_eq!(refused.as_array().map(Vec::len), Some(1), "{json}");
                continue;
            }
            assert_eq!(json["exit_code"], code, "{json}");
            let error = json["error"].as_str().unwrap();
            let first = error.split(['\n', ':']).next().unwrap();
            assert!(said.contains(first), "{error}: {said}");
        }
        // Without it standard output stays empty.
        let output = enarx(arguments);
        if code != 2 || arguments.contains(&"--at") || arguments.len() == 1 {
            assert_eq!(text(&output.stdout), "", "{arguments:?}");
        }
    }
    // A program's own flag does not set ours.
    for before in [&["run"][..], &["-v", "run"], &["serve"]] {
        let output = enarx(&[before, &["--wrong", "x.wasm", "--json"]].concat());
        assert_usage(&output, &["--wrong"]);
        assert_eq!(text(&output.stdout), "");
    }
}

/// A command, arguments that it accepts and that fail, and the exit code and name of the failure; `None` if only
/// the command line can be wrong.
type FailureCase = (
    &'static [&'static str],
    &'static [&'static str],
    Option<(i32, &'static str)>,
);

/// Every command with `--json`.
const FAILURES: &[FailureCase] = &[
    (
        &["deploy"],
        &["/nonexistent/x.wasm"],
        Some((66, "file.unreadable")),
    ),
    (
        &["attach"],
        &["x", "--policy", "default"],
        Some((74, "output.unwritten")),
    ),
    (&["keeps", "list"], &[], Some((74, "output.unwritten"))),
    (&["keeps", "show"], &["x"], Some((74, "output.unwritten"))),
    (
        &["host", "serve"],
        &["--backend", "sim", "--state", "/dev/null/x"],
        Some((74, "output.unwritten")),
    ),
    (
        &["host", "show"],
        &["--state", "/dev/null/x"],
        Some((74, "output.unwritten")),
    ),
    (
        &["host", "token", "add"],
        &["x", "--state", "/dev/null/x"],
        Some((74, "output.unwritten")),
    ),
    (
        &["host", "token", "list"],
        &["--state", "/dev/null/x"],
        Some((74, "output.unwritten")),
    ),
    (
        &["host", "token", "revoke"],
        &["x", "--state", "/dev/null/x"],
        Some((74, "output.unwritten")),
    ),
    (&["doctor"], &[], None),
    (&["platform", "info"], &[], None),
    (
        &["verify"],
        &["/nonexistent/x"],
        Some((66, "file.unreadable")),
    ),
    (
        &["ear", "verify"],
        &["/nonexistent/x", "--key", "/nonexistent/x"],
        Some((66, "file.unreadable")),
    ),
    (
        &["inspect"],
        &["/nonexistent/x"],
        Some((66, "file.unreadable")),
    ),
    (
        &["policy", "check"],
        &["/nonexistent/x"],
        Some((66, "file.unreadable")),
    ),
    (
        &["receipt", "verify"],
        &["/nonexistent/x", "--policy", "default"],
        Some((66, "file.unreadable")),
    ),
    (
        &["contract", "show"],
        &["/nonexistent/x"],
        Some((66, "file.unreadable")),
    ),
    (
        &["certs", "fetch"],
        &["/nonexistent/x"],
        Some((66, "file.unreadable")),
    ),
    (
        &["certs", "import"],
        &["/nonexistent/x"],
        Some((66, "file.unreadable")),
    ),
    (
        &["measure"],
        &["--insecure-fault-addresses"],
        Some((2, "command.usage")),
    ),
    (
        &["release", "verify"],
        &["/nonexistent/x", "--key", "/nonexistent/x"],
        Some((66, "file.unreadable")),
    ),
    (
        &["release", "list"],
        &["/nonexistent/x", "--key", "/nonexistent/x"],
        Some((66, "file.unreadable")),
    ),
];

#[test]
fn every_command_with_json_reports_its_failure_in_json() {
    let with_json: Vec<_> = COMMANDS
        .iter()
        .filter(|command| {
            let output = enarx(&[**command, &["--help"]].concat());
            let mut lines = text(&output.stdout).lines();
            lines.any(|line| line.trim_start().starts_with("--json"))
        })
        .collect();
    let named: Vec<_> = FAILURES.iter().map(|(command, ..)| command).collect();
    assert_eq!(with_json, named);
    for (command, words, failure) in FAILURES {
        let of_program = ["deploy", "attach"].contains(&command[0]);
        let fails = |words: &[&str], variable: (&str, &str), code: i32, name: &str| {
            let mut enarx = clean();
            enarx.args(*command).args(words).arg("--json");
            // Nothing can be stored, and nothing exists.
            enarx.env("XDG_STATE_HOME", "/dev/null");
            let output = enarx.env(variable.0, variable.1).output().unwrap();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            let told = format!("{command:?} {words:?} {variable:?}: {stdout}{stderr}");
            assert_eq!(output.status.code(), Some(code), "{told}");
            let document = if of_program {
                assert_eq!(stdout, "", "{told}");
                stderr.lines().last().unwrap()
            } else {
                stdout
            };
            let document: serde_json::Value = serde_json::from_str(document).expect(&told);
            assert_eq!(document["exit_code"], code, "{told}");
            assert_eq!(document["code"], name, "{told}");
            assert!(
                document["error"].as_str().is_some_and(|it| !it.is_empty()),
                "{told}"
            );
        };
        let nothing = ("TZ", "");
        fails(
            &[*words, &["--frobnicate"]].concat(),
            nothing,
            2,
            "command.usage",
        );
        fails(words, ("ENARX_LOG", "enarx=loud"), 2, "command.usage");
        if let Some((code, name)) = failure {
            fails(words, nothing, *code, name);
        }
    }
}

#[test]
fn variables_take_the_words_that_people_write() {
    let doctor = |value: &str| {
        let mut command = clean();
        let output = command.arg("doctor").env("ENARX_JSON", value).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{value}: {output:?}");
        text(&output.stdout).starts_with('{')
    };
    for yes in ["1", "yes", "true", "on"] {
        assert!(doctor(yes), "{yes}");
    }
    for no in ["0", "no", "false", "off", ""] {
        assert!(!doctor(no), "{no}");
    }
    let run = |name: &str, value: &str| {
        let mut command = clean();
        command.args(["run", "/nonexistent.wasm"]).env(name, value);
        command.output().unwrap()
    };
    // An empty variable counts as unset.
    for name in [
        "ENARX_QUIET",
        "ENARX_BACKEND",
        "ENARX_MEMORY",
        "ENARX_VCPUS",
        "ENARX_TIMEOUT",
        "ENARX_WASM",
        "ENARX_LOG",
    ] {
        let output = run(name, "");
        assert_eq!(output.status.code(), Some(66), "{name}: {output:?}");
    }
    // The error names a variable that is not text, too, instead of ignoring it.
    for name in ["ENARX_ENV", "ENARX_DIR", "ENARX_LOG", "ENARX_MEMORY"] {
        let mut command = clean();
        let value = std::ffi::OsStr::from_bytes(b"\xff=1");
        command.args(["run", "/nonexistent.wasm"]).env(name, value);
        assert_usage(&command.output().unwrap(), &[name]);
    }
    // The error names a wrong one.
    for (name, value) in [
        ("ENARX_QUIET", "perhaps"),
        ("ENARX_BACKEND", "magic"),
        ("ENARX_MEMORY", "lots"),
        ("ENARX_VCPUS", "0"),
        ("ENARX_TIMEOUT", "soon"),
        ("ENARX_WASM", "fuel=1"),
        ("ENARX_LOG", "enarx=loud"),
    ] {
        assert_usage(&run(name, value), &[name]);
    }
}

#[test]
fn verbosity_changes_nothing_but_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.bin");
    fs::write(&report, [0; REPORT_LEN]).unwrap();
    let report = report.to_str().unwrap();
    let verify = ["verify", report, "--at", "2026-09-01T00:00:00Z"];
    let quiet = enarx(&verify);
    for flags in [&["-v"][..], &["-vv"], &["-v", "-v", "-v"]] {
        let output = enarx(&[flags, &verify].concat());
        assert_eq!(
            (output.status.code(), &output.stdout),
            (Some(3), &quiet.stdout)
        );
        // Also after the command.
        let output = enarx(&[&verify, flags].concat());
        assert_eq!(output.stdout, quiet.stdout);
    }
    // If standard error cannot be written, the exit code stays the same.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = clean();
    let status = command
        .args(["-vv", "verify", report])
        .env("ENARX_LOG", "trace")
        .stdout(std::process::Stdio::null())
        .stderr(full)
        .status();
    assert_eq!(status.unwrap().code(), Some(3));
}

#[test]
fn the_network_is_used_only_with_a_flag_and_has_its_own_code() {
    // A report that names a product and a chip: the store lacks what it needs, and there is no network.
    let folder = tempfile::tempdir().unwrap();
    let mut report = [0_u8; REPORT_LEN];
    report[0] = 3;
    report[0x188..0x18B].copy_from_slice(&[0x19, 0x01, 0x01]);
    report[0x1A0..0x1E0].fill(0xC1);
    report[0x34] = 1;
    let path = folder.path().join("report.bin");
    fs::write(&path, report).unwrap();
    let fetch = |flags: &[&str]| {
        let store = folder.path().join("store");
        let mut command = clean();
        command
            .args(flags)
            .args(["certs", "fetch", path.to_str().unwrap(), "--store"])
            .arg(store)
            // Nobody listens there.
            .env("HTTPS_PROXY", "http://127.0.0.1:9")
            .env("ALL_PROXY", "http://127.0.0.1:9");
        command.output().unwrap()
    };
    let output = fetch(&[]);
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert_eq!(text(&output.stderr).lines().count(), 1, "{output:?}");
    let output = fetch(&["-v"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("enarx: [info] asking for https://"), "{said}");
    let output = fetch(&["-vv"]);
    let said = text(&output.stderr);
    assert!(
        said.contains("enarx: [debug] the evidence needs a VCEK of Milan"),
        "{said}"
    );
}

#[test]
fn the_version_names_the_source_of_the_build() {
    let short = enarx(&["-V"]);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(text(&short.stdout), format!("enarx {version}\n"));
    let long = enarx(&["--version"]);
    let lines: Vec<_> = text(&long.stdout).lines().collect();
    let [first, commit, wasmtime, backends] = lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(first, format!("enarx {version}"));
    let commit = commit.strip_prefix("commit: ").unwrap();
    let digits = commit.len() >= 7 && commit.chars().all(|c| c.is_ascii_hexdigit());
    assert!(digits || commit == "unknown", "{commit}");
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap();
    let locked = wasmtime.strip_prefix("Wasmtime: ").unwrap();
    assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{locked}\"")));
    assert_eq!(backends, "backends: snp, sim, kvm, process");
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = enarx(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        let script = text(&output.stdout);
        for word in ["verify", "attest-to", "min-serial"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let output = enarx(&["completions", "bash"]);
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("enarx.bash");
    fs::write(&script, &output.stdout).unwrap();
    let status = Command::new("bash").arg("-n").arg(&script).status();
    assert!(status.unwrap().success(), "bash cannot read its script");

    let pages = folder.path().join("man1");
    assert_eq!(
        enarx(&["man", pages.to_str().unwrap()]).status.code(),
        Some(74)
    );
    fs::create_dir(&pages).unwrap();
    assert_eq!(
        enarx(&["man", pages.to_str().unwrap()]).status.code(),
        Some(0)
    );
    for command in COMMANDS {
        let page = pages.join(format!("enarx-{}.1", command.join("-")));
        let page = fs::read_to_string(&page).expect("a page for each command");
        assert!(page.contains(".SH NAME"), "{command:?}");
    }
    let first = fs::read_to_string(pages.join("enarx.1")).unwrap();
    assert!(first.contains("Exit codes"));
}
