// SPDX-License-Identifier: Apache-2.0

//! Commands that call servers over `wasi:http`, by `enarx run` and `enarx deploy`: our program (`tests/programs/client`),
//! and servers in Keeps.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use enarx_harness::needs;

use super::tls::Authority;
use super::{Server, backends, enarx, pattern, programs};
use crate::deploy::{self, Host};

fn program() -> PathBuf {
    programs().folder.join(CLIENT.program)
}

/// A command that calls servers.
pub struct Asker {
    /// The file of the program, and its arguments before the URLs.
    pub program: &'static str,
    pub words: &'static [&'static str],
}

impl Asker {
    /// Makes it request these; its output.
    pub fn ask(&self, backend: &str, flags: &[&str], urls: &[String]) -> Vec<u8> {
        let output = enarx()
            .args(["run", "--quiet", "--timeout", "120s", "--backend", backend])
            .args(flags)
            .arg(programs().folder.join(self.program))
            .args(self.words)
            .args(urls)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{backend}: {said}");
        assert_eq!(said, "", "{backend}");
        output.stdout
    }

    pub fn ask_text(&self, backend: &str, flags: &[&str], urls: &[String]) -> String {
        String::from_utf8(self.ask(backend, flags, urls)).unwrap()
    }
}

/// A command of 0.2.
pub const CLIENT: Asker = Asker {
    program: "client.wasm",
    words: &[],
};

#[test]
fn a_command_asks_permitted_servers_in_clear_and_over_tls() {
    let authority = Authority::new();
    let (identity, roots) = (authority.here(), authority.roots());
    let roots = ["--tls-roots", roots.to_str().unwrap()];
    for backend in backends() {
        let plain = Server::start(backend, &[]);
        let secure = Server::start(backend, &identity.flags());
        let http = |path: &str| format!("http://{}{path}", plain.address);
        let https = |path: &str| format!("https://{}{path}", secure.address);
        let one = format!("--allow-connect={}", plain.address);
        let other = format!("--allow-connect={}", secure.address);
        let both = [&roots[..], &[&one, &other]].concat();
        let urls = [http("/hello"), https("/hello"), https("/scheme")];
        let answers = CLIENT.ask_text(backend, &both, &urls);
        assert_eq!(answers, "200 hello\n200 hello\n200 https\n", "{backend}");
        // All are in progress at once.
        let urls: Vec<_> = (0..20).map(|_| https("/after?400")).collect();
        let answers = CLIENT.ask_text(backend, &both, &urls);
        assert_eq!(answers, "200 waited\n".repeat(20), "{backend}");
        for large in [http("/sized?3000003"), https("/bytes?3000003")] {
            let answer = CLIENT.ask(backend, &both, &[large]);
            assert_eq!(answer.len(), 4 + 3_000_003, "{backend}");
            assert!(answer[4..] == pattern(3_000_003), "{backend}");
        }
        // A body that was cut does not look whole.
        let cut = CLIENT.ask(backend, &both, &[https("/short?100000")]);
        // connection-terminated
        assert!(cut.ends_with(b"cut\nerror 7\n"), "{backend}");
        // HTTP-request-denied without a network, destination-IP-prohibited against a rule, TLS-certificate-error without the
        // issuer.
        let urls = [http("/hello"), https("/hello")];
        let denied = CLIENT.ask_text(backend, &[], &urls);
        assert_eq!(denied, "error 15\nerror 15\n", "{backend}");
        let ruled = CLIENT.ask_text(backend, &[&one, roots[0], roots[1]], &urls);
        assert_eq!(ruled, "200 hello\nerror 4\n", "{backend}");
        let unknown = CLIENT.ask_text(backend, &[&one, &other], &urls);
        assert_eq!(unknown, "200 hello\nerror 13\n", "{backend}");
        plain.end();
        secure.end();
    }
}

/// Without a file of issuers they are this machine's, for any form of program: the command looks for the names of imports.
#[test]
fn a_command_accepts_the_issuers_of_this_machine() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    for backend in backends() {
        let secure = Server::start(backend, &authority.here().flags());
        let rule = format!("--allow-connect={}", secure.address);
        let url = format!("https://{}/hello", secure.address);
        let answers = |program: &Path, flag: &[&str]| {
            let output = enarx()
                .args(["run", "--quiet", "--timeout", "120s", "--backend", backend])
                .args([rule.as_str()].iter().chain(flag))
                .arg(program)
                .arg(&url)
                .env("SSL_CERT_FILE", authority.roots())
                .env_remove("SSL_CERT_DIR")
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{backend}");
            assert_eq!(output.stdout, b"200 hello\n", "{backend}");
        };
        answers(&program(), &[]);
        // A process Keep refuses native code.
        if backend != "process" {
            let compiled = folder.path().join("client.cwasm");
            let made = enarx()
                .args(["compile", "--backend", backend, "--output"])
                .arg(&compiled)
                .arg(program())
                .output()
                .unwrap();
            assert!(made.status.success(), "{made:?}");
            answers(&compiled, &["--allow-precompiled"]);
        }
        secure.end();
    }
}

#[test]
fn a_file_of_issuers_without_certificates_is_refused() {
    let authority = Authority::new();
    let key = authority.here().key;
    let output = enarx()
        .args(["run", "--quiet", "-S", "inherit-network", "--tls-roots"])
        .arg(&key)
        .arg(program())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(65), "{said}");
    let why = format!("{}: it has no certificate in PEM", key.display());
    assert!(said.trim_end().ends_with(&why), "{said}");
}

/// Makes a deployment request these; its output.
fn deployed(command: &mut Command, flags: &[&str], urls: &[String]) -> Vec<u8> {
    let command = command
        .args(["--quiet", "--timeout", "120s"])
        .args(flags)
        .arg(program())
        .arg("--")
        .args(urls);
    let output = deploy::run(command, b"");
    let said = deploy::text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said, "");
    output.stdout
}

#[test]
fn a_deployed_command_asks_agreed_servers_and_trusts_its_issuers() {
    needs::kvm();
    let (authority, other) = (Authority::new(), Authority::new());
    let (roots, stranger) = (authority.roots(), other.roots());
    let roots = ["--tls-roots", roots.to_str().unwrap()];
    let secure = Server::start("kvm", &authority.here().flags());
    let plain = Server::start("kvm", &[]);
    let https = |path: &str| format!("https://{}{path}", secure.address);
    let rule = format!("--allow-connect={}", secure.address);
    let other = format!("--allow-connect={}", plain.address);
    let local = || {
        let mut command = enarx();
        command.args(["deploy", "--local"]);
        command
    };
    // The host offers more than the tenant requests.
    let host = Host::serving(&[], &[&rule, &other]);
    let policy = deploy::policy(host.folder());
    let sides: [&dyn Fn() -> Command; 2] = [&local, &|| host.deploy(&policy)];
    for side in sides {
        let ask = |flags: &[&str], urls: &[String]| {
            // The machine's issuers are the host's and the tenant's at the same time here, and count for neither.
            let mut command = side();
            command.env("SSL_CERT_FILE", authority.roots());
            String::from_utf8(deployed(&mut command, flags, urls)).unwrap()
        };
        let both = [&rule, roots[0], roots[1]];
        let urls = [https("/hello"), https("/scheme"), https("/after?100")];
        assert_eq!(ask(&both, &urls), "200 hello\n200 https\n200 waited\n");
        let large = deployed(&mut side(), &both, &[https("/bytes?1000003")]);
        assert!(large[4..] == pattern(1_000_003));
        // HTTP-request-denied without a door, destination-IP-prohibited at a shut one, TLS-certificate-error with another
        // issuer, internal-error without any.
        let url = [https("/hello")];
        assert_eq!(ask(&[], &url), "error 15\n");
        assert_eq!(ask(&[&other, roots[0], roots[1]], &url), "error 4\n");
        let strangers = [&rule, roots[0], stranger.to_str().unwrap()];
        assert_eq!(ask(&strangers, &url), "error 13\n");
        assert_eq!(ask(&[&rule], &url), "error 38\n");
    }
    secure.end();
    plain.end();
}

/// Standard input arrives over the session while requests are in progress.
#[test]
fn a_deployed_command_sends_requests_as_input_arrives() {
    needs::kvm();
    let authority = Authority::new();
    let server = Server::start("kvm", &authority.here().flags());
    let rule = format!("--allow-connect={}", server.address);
    let mut child = enarx()
        .args(["deploy", "--local", "--quiet", "--timeout", "120s", &rule])
        .arg("--tls-roots")
        .arg(authority.roots())
        .arg(program())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut from = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..10 {
        writeln!(to, "https://{}/after?20", server.address).unwrap();
        let mut answer = String::new();
        from.read_line(&mut answer).unwrap();
        assert_eq!(answer, "200 waited\n");
    }
    drop(to);
    assert!(child.wait().unwrap().success());
    server.end();
}
