// SPDX-License-Identifier: Apache-2.0

//! Sockets by Enarx.toml, in every kind of Keep: our program (`tests/programs/sockets`) that finds them open, unencrypted
//! and with TLS in the Keep; its peers are OpenSSL and this test. Every wait lasts at
//! most [`PATIENCE`].

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use enarx_harness::needs;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::common::{backends, enarx, free_port};
use super::programs::programs;
use super::serve::tls::{Authority, Identity, OpenSsl, s_client};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// The standard streams of a program.
const STREAMS: &str = "\
[[files]]
kind = \"stdin\"
[[files]]
kind = \"stdout\"
[[files]]
kind = \"stderr\"
";

/// An Enarx.toml in its own folder.
struct Config {
    _folder: TempDir,
    path: PathBuf,
}

impl Config {
    /// Standard streams, and then this.
    fn new(sockets: &str) -> Self {
        Self::whole(&format!("{STREAMS}{sockets}"))
    }

    fn whole(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Enarx.toml");
        std::fs::write(&path, text).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    fn run(&self, backend: &str, arguments: &[&str]) -> Command {
        self.run_with(backend, &[], arguments)
    }

    /// The same with flags of the command.
    fn run_with(&self, backend: &str, flags: &[&Path], arguments: &[&str]) -> Command {
        let mut command = enarx();
        command
            .args(["run", "--quiet", "--timeout", "60", "--backend", backend])
            .args(flags)
            .arg("--config")
            .arg(&self.path)
            .arg(programs().folder.join("sockets.wasm"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end: code, standard output and standard error.
    fn ends(&self, backend: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        said(&self.run(backend, arguments).output().unwrap())
    }
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Waits until somebody listens there.
fn connect(port: u16, child: &mut Child) -> TcpStream {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Ok(stream) = TcpStream::connect(here(port)) {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            return stream;
        }
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        assert!(Instant::now() < end, "nobody listens");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The keys of an identity in an Enarx.toml.
fn identity(identity: &Identity) -> String {
    format!(
        "certificate = \"{}\"\nkey = \"{}\"\n",
        identity.chain.display(),
        identity.key.display()
    )
}

fn listener(port: u16, rest: &str) -> Config {
    Config::new(&format!(
        "[[files]]\nkind = \"listen\"\nname = \"listener\"\nport = {port}\n{rest}\n"
    ))
}

fn server(host: &str, port: u16, rest: &str) -> Config {
    Config::new(&format!(
        "[[files]]\nkind = \"connect\"\nname = \"server\"\nhost = \"{host}\"\nport = {port}\n{rest}\n"
    ))
}

fn roots(file: &Path) -> String {
    format!("roots = \"file:{}\"\n", file.display())
}

/// Sends a text with OpenSSL's client: the bytes that return until the other end ends.
fn answer(authority: &Authority, port: u16, arguments: &[&str], text: &[u8]) -> Output {
    let mut child = s_client(authority, here(port), arguments);
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_vec();
    let writer = thread::spawn(move || {
        // A refused one accepts no input.
        let _ = stdin.write_all(&text);
        stdin
    });
    let output = child.wait_with_output().unwrap();
    drop(writer.join().unwrap());
    output
}

/// Waits for the end of a program; after the longest wait it is ended.
fn end(child: Child) -> (Option<i32>, String, String) {
    said(&child.wait_with_output().unwrap())
}

#[test]
fn a_program_finds_its_descriptors_by_name_and_its_files_behind_them() {
    for backend in backends() {
        let port = free_port();
        let config = listener(port, "prot = \"tcp\"\naddr = \"127.0.0.1\"");
        let (code, stdout, stderr) = config.ends(backend, &["names"]);
        assert_eq!(code, Some(0), "{backend}: {stderr}");
        assert_eq!(
            stdout, "4 stdin:stdout:stderr:listener\nwritten\ndone\n",
            "{backend}"
        );
    }
    // A socket can take the place of a stream, as in 0.7.
    let port = free_port();
    let config = Config::whole(&format!(
        "[[files]]\nkind = \"listen\"\nname = \"listener\"\nprot = \"tcp\"\nport = {port}\n[[files]]\nkind = \"stdout\"\n"
    ));
    let mut child = config.run("process", &["echo"]).spawn().unwrap();
    let mut stream = connect(port, &mut child);
    stream.write_all(b"bye\n").unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "bye\n");
    let (code, stdout, stderr) = end(child);
    assert_eq!((code, &*stdout), (Some(0), "done\n"), "{stderr}");
}

#[test]
fn a_program_serves_in_clear_one_by_one_and_many_at_a_time() {
    for backend in backends() {
        let port = free_port();
        let config = listener(port, "prot = \"tcp\"");
        let mut child = config.run(backend, &["echo", "2"]).spawn().unwrap();
        for _ in 0..2 {
            let mut stream = connect(port, &mut child);
            // More than the host accepts at once.
            let text = [vec![b'x'; 1_000_000], b"bye\n".to_vec()].concat();
            let mut writes = stream.try_clone().unwrap();
            let sent = text.clone();
            let writer = thread::spawn(move || writes.write_all(&sent).unwrap());
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            writer.join().unwrap();
            assert!(back == text, "{backend}: {}", back.len());
        }
        let (code, stdout, stderr) = end(child);
        assert_eq!((code, &*stdout), (Some(0), "done\n"), "{backend}: {stderr}");

        let mut child = config.run(backend, &["many", "12"]).spawn().unwrap();
        let streams: Vec<_> = (0..12).map(|_| connect(port, &mut child)).collect();
        // The last first, so none waits for another.
        for (number, mut stream) in streams.into_iter().enumerate().rev() {
            let text = format!("{number}\n");
            stream.write_all(text.as_bytes()).unwrap();
            let mut back = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            lines.read_line(&mut back).unwrap();
            assert_eq!(back, text, "{backend}");
            stream.write_all(b"bye\n").unwrap();
            lines.read_line(&mut back).unwrap();
            assert_eq!(lines.read(&mut [0]).unwrap(), 0, "{backend}");
        }
        let (code, stdout, stderr) = end(child);
        assert_eq!(code, Some(0), "{backend}: {stderr}");
        assert_eq!(stdout, "done\n", "{backend}");
    }
}

#[test]
fn openssl_is_served_over_tls_without_code_in_the_program() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = identity(&authority.here());
    for backend in backends() {
        let port = free_port();
        let config = listener(port, &own);
        for mode in ["echo", "many"] {
            let mut child = config.run(backend, &[mode, "3"]).spawn().unwrap();
            drop(connect(port, &mut child));
            // Refused connections never reach the program.
            let old = answer(&authority, port, &["-tls1_2"], b"bye\n");
            assert!(!old.status.success(), "{backend} {mode}");
            let other = answer(&stranger, port, &[], b"bye\n");
            assert!(!other.status.success(), "{backend} {mode}");
            let long = [vec![b'y'; 300_000], b"\nbye\n".to_vec()].concat();
            let named = ["-verify_hostname", "localhost", "-servername", "localhost"];
            for text in [&b"hello\nbye\n"[..], &long, b"bye\n"] {
                let output = answer(&authority, port, &named, text);
                let (code, _, stderr) = said(&output);
                assert_eq!(code, Some(0), "{backend} {mode}: {stderr}");
                assert!(output.stdout == text, "{backend} {mode}: {stderr}");
            }
            let (code, stdout, stderr) = end(child);
            assert_eq!(code, Some(0), "{backend} {mode}: {stdout}{stderr}");
            assert_eq!(stdout, "done\n", "{backend} {mode}");
        }
        // Everything written before the end arrives.
        let length = 3_000_000;
        let given = length.to_string();
        let mut child = config.run(backend, &["give", &given]).spawn().unwrap();
        drop(connect(port, &mut child));
        let output = answer(&authority, port, &[], b"");
        let whole = (0..251).cycle().take(length);
        assert!(whole.eq(output.stdout.iter().copied()), "{backend}");
        let (code, stdout, stderr) = end(child);
        assert_eq!((code, &*stdout), (Some(0), "done\n"), "{backend}: {stderr}");
    }
}

#[test]
fn a_peer_with_an_unfinished_handshake_does_not_delay_others() {
    let authority = Authority::new();
    let own = identity(&authority.here());
    for backend in backends() {
        let port = free_port();
        let config = listener(port, &own);
        let mut child = config.run(backend, &["echo", "2"]).spawn().unwrap();
        let begun = Instant::now();
        let silent: Vec<_> = (0..20)
            .map(|number| {
                let mut stream = connect(port, &mut child);
                // Every second one begins: a record whose rest never arrives.
                if number % 2 == 0 {
                    stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).unwrap();
                }
                stream
            })
            .collect();
        let start = Instant::now();
        let output = answer(&authority, port, &[], b"hello\nbye\n");
        assert_eq!(output.stdout, b"hello\nbye\n", "{backend}");
        assert!(start.elapsed() < Duration::from_secs(8), "{backend}");
        // The program waits at its listener, and silent connections are given up.
        for mut stream in silent {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert_eq!(rest, b"", "{backend}");
        }
        let taken = begun.elapsed();
        assert!(taken > Duration::from_secs(5), "{backend}: {taken:?}");
        assert!(taken < Duration::from_secs(45), "{backend}: {taken:?}");
        let output = answer(&authority, port, &[], b"bye\n");
        assert_eq!(output.stdout, b"bye\n", "{backend}");
        let (code, stdout, stderr) = end(child);
        assert_eq!((code, &*stdout), (Some(0), "done\n"), "{backend}: {stderr}");
    }
}

#[test]
fn truncated_tls_does_not_look_complete() {
    let authority = Authority::new();
    let own = identity(&authority.here());
    for backend in backends() {
        let port = free_port();
        let config = listener(port, &own);
        let mut child = config.run(backend, &["echo"]).spawn().unwrap();
        drop(connect(port, &mut child));
        let mut peer = s_client(&authority, here(port), &[]);
        peer.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
        let mut back = [0; 6];
        peer.stdout.as_mut().unwrap().read_exact(&mut back).unwrap();
        peer.kill().unwrap();
        peer.wait().unwrap();
        let (code, stdout, stderr) = end(child);
        assert_eq!(code, Some(0), "{backend}: {stderr}");
        assert_eq!(
            stdout, "read: Connection reset by peer\ndone\n",
            "{backend}"
        );
    }
}

#[test]
fn clients_are_asked_for_certificates_and_judged_by_them() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = identity(&authority.here());
    let client = authority.certify(&["client.example"], 2090);
    let other = stranger.certify(&["client.example"], 2091);
    let shows = |identity: &Identity| {
        ["-cert", "-key"]
            .into_iter()
            .zip([&identity.chain, &identity.key])
            .flat_map(|(flag, path)| [flag.to_owned(), path.display().to_string()])
            .collect::<Vec<_>>()
    };
    for backend in backends() {
        for (asks, without) in [("require", false), ("request", true)] {
            let port = free_port();
            let rest = format!(
                "{own}client-auth = \"{asks}\"\n{}",
                roots(&authority.roots())
            );
            let config = listener(port, &rest);
            let number = if without { "2" } else { "1" };
            let mut child = config.run(backend, &["echo", number]).spawn().unwrap();
            drop(connect(port, &mut child));
            let ask = |arguments: &[String]| {
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                answer(&authority, port, &arguments, b"bye\n").stdout
            };
            assert_eq!(ask(&shows(&other)), b"", "{backend} {asks}");
            let expected = if without { &b"bye\n"[..] } else { b"" };
            assert_eq!(ask(&[]), expected, "{backend} {asks}");
            assert_eq!(ask(&shows(&client)), b"bye\n", "{backend} {asks}");
            let (code, stdout, stderr) = end(child);
            assert_eq!((code, &*stdout), (Some(0), "done\n"), "{backend}: {stderr}");
        }
    }
}

#[test]
fn a_program_asks_servers_whose_certificates_the_keep_has_judged() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = OpenSsl::in_reverse(&authority.here(), &[]);
    let other_name = OpenSsl::in_reverse(&authority.certify(&["other.example"], 2090), &[]);
    let expired = OpenSsl::in_reverse(&authority.certify(&["localhost"], 2021), &[]);
    let client = authority.certify(&["client.example"], 2090);
    let ca = authority.roots().display().to_string();
    let asks = ["-Verify", "1", "-CAfile", &ca, "-verify_return_error"];
    let demanding = OpenSsl::in_reverse(&authority.here(), &asks);
    let known = roots(&authority.roots());
    for backend in backends() {
        for host in ["localhost", "127.0.0.1"] {
            let config = server(host, good.address.port(), &known);
            let (code, stdout, stderr) = config.ends(backend, &["ask", "abc"]);
            assert_eq!(code, Some(0), "{backend} {host}: {stdout}{stderr}");
            assert_eq!(stdout, "first: c\ncba\ndone\n", "{backend} {host}");
        }
        for (rest, expected) in [
            (
                format!("{known}{}", identity(&client)),
                "first: c\ncba\ndone\n",
            ),
            // A server refuses after the handshake: then there is nothing to read.
            (known.clone(), "\ndone\n"),
        ] {
            let config = server("localhost", demanding.address.port(), &rest);
            let (code, stdout, stderr) = config.ends(backend, &["ask", "abc"]);
            assert_eq!(code, Some(0), "{backend}: {stderr}");
            assert!(stdout.ends_with(expected), "{backend}: {stdout}");
            let is_known = rest.contains("certificate");
            assert_eq!(stdout.contains("cba"), is_known, "{backend}: {stdout}");
            assert_eq!(
                stdout.contains("read: Connection "),
                !is_known,
                "{backend}: {stdout}"
            );
        }
        let unknown = roots(&stranger.roots());
        for (port, roots, why) in [
            (
                other_name.address.port(),
                &known,
                "certificate not valid for name \"localhost\"",
            ),
            (expired.address.port(), &known, "expired"),
            (good.address.port(), &unknown, "UnknownIssuer"),
        ] {
            let config = server("localhost", port, roots);
            let (code, stdout, stderr) = config.ends(backend, &["ask", "abc"]);
            assert_eq!((code, &*stdout), (Some(1), ""), "{backend}: {stderr}");
            let place = format!(
                "descriptor 3 (connect to localhost:{port}): the server's certificate is not accepted: "
            );
            assert!(stderr.contains(&place), "{backend}: {stderr}");
            assert!(stderr.contains(why), "{backend} {why}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{backend}: {stderr}");
        }
    }
}

/// They are this machine's, or those of a file given to the command.
#[test]
fn the_trusted_issuers_are_those_of_the_machine_or_the_command() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = OpenSsl::in_reverse(&authority.here(), &[]);
    for backend in backends() {
        for rest in ["roots = \"web\"\n", ""] {
            let config = server("localhost", good.address.port(), rest);
            let ask = |machine: &Authority, command: Option<&Authority>| {
                let file = command.map(Authority::roots);
                let flag = file
                    .iter()
                    .flat_map(|file| [Path::new("--tls-roots"), file]);
                let flags: Vec<_> = flag.collect();
                let mut run = config.run_with(backend, &flags, &["ask", "abc"]);
                run.env("SSL_CERT_FILE", machine.roots());
                run.env_remove("SSL_CERT_DIR");
                said(&run.output().unwrap())
            };
            for (machine, command) in [(&authority, None), (&stranger, Some(&authority))] {
                let (code, stdout, stderr) = ask(machine, command);
                assert_eq!(code, Some(0), "{backend} {rest}: {stderr}");
                assert_eq!(stdout, "first: c\ncba\ndone\n", "{backend} {rest}");
            }
            for (machine, command) in [(&stranger, None), (&authority, Some(&stranger))] {
                let (code, stdout, stderr) = ask(machine, command);
                assert_eq!((code, &*stdout), (Some(1), ""), "{backend}: {stderr}");
                assert!(stderr.contains("UnknownIssuer"), "{backend}: {stderr}");
            }
        }
    }
}

#[test]
fn a_socket_that_cannot_be_opened_ends_the_start() {
    let taken = free_port();
    for backend in backends() {
        let held = TcpListener::bind(here(taken)).unwrap();
        let config = listener(taken, "prot = \"tcp\"\naddr = \"127.0.0.1\"");
        let (code, stdout, stderr) = config.ends(backend, &["echo"]);
        assert_eq!((code, &*stdout), (Some(1), ""), "{backend}: {stderr}");
        let why = format!(
            "descriptor 3 (listen at 127.0.0.1:{taken}): address in use: name another port, or end the program that has it\n"
        );
        assert!(stderr.ends_with(&why), "{backend}: {stderr}");
        drop(held);
        let port = free_port();
        let config = server("127.0.0.1", port, "prot = \"tcp\"");
        let (code, _, stderr) = config.ends(backend, &["ask", "abc"]);
        assert_eq!(code, Some(1), "{backend}: {stderr}");
        let why = format!(
            "descriptor 3 (connect to 127.0.0.1:{port}): connection refused: nobody listens there\n"
        );
        assert!(stderr.ends_with(&why), "{backend}: {stderr}");
    }
}

#[test]
fn a_file_with_excess_or_missing_keys_is_refused_by_position() {
    let authority = Authority::new();
    let own = identity(&authority.here());
    let listen = "[[files]]\nkind = \"listen\"\nname = \"l\"\n";
    let connect = "[[files]]\nkind = \"connect\"\nhost = \"localhost\"\n";
    for (text, code, words) in [
        (
            "[[files]]\nkind = \"lisen\"".to_owned(),
            65,
            "files[0]: there is no kind lisen: did you mean listen?",
        ),
        (
            format!("{listen}prt = \"tls\""),
            65,
            "there is no key files.prt: did you mean files.prot?",
        ),
        (
            format!("{listen}prot = \"tlss\""),
            65,
            "files[0].prot: there is no protocol tlss: did you mean tls?",
        ),
        (format!("{listen}port = 70000"), 65, "70000"),
        (
            format!("{listen}port = 0"),
            65,
            "files[0].port: 0 is not a port",
        ),
        (
            format!("{listen}port = 1"),
            65,
            "files[0] uses TLS and has no certificate",
        ),
        (
            format!("{listen}host = \"x\""),
            65,
            "files[0].host: a listener has no host",
        ),
        (
            "[[files]]\nkind = \"listen\"\nprot = \"tcp\"".to_owned(),
            65,
            "files[0] is listen and has no name",
        ),
        (
            format!("{listen}prot = \"tcp\"\n{own}"),
            65,
            "files[0].certificate: prot is tcp",
        ),
        (
            format!("{listen}{own}client-auth = \"require\""),
            65,
            "files[0].client-auth: everybody can",
        ),
        (
            format!("{listen}{own}roots = \"web\""),
            65,
            "files[0].roots: a listener accepts",
        ),
        (
            format!("{listen}certificate = \"none.pem\"\nkey = \"none.key\""),
            66,
            "none.key",
        ),
        (
            format!("{listen}certificate = \"none.pem\""),
            65,
            "files[0].certificate: it needs its private key",
        ),
        (
            "[[files]]\nkind = \"connect\"".to_owned(),
            65,
            "files[0] is connect and has no host",
        ),
        (
            "[[files]]\nkind = \"connect\"\nhost = \"example.org:80\"".to_owned(),
            65,
            "files[0].host: example.org:80 has its port in it: write host = \"example.org\" and port = 80",
        ),
        (
            "[[files]]\nkind = \"connect\"\nhost = \"[::1]:80\"".to_owned(),
            65,
            "write host = \"::1\" and port = 80",
        ),
        (
            "[[files]]\nkind = \"connect\"\nhost = \"[::1]\"".to_owned(),
            65,
            "files[0].host: write [::1] without its brackets",
        ),
        (
            format!("{connect}roots = \"mesh\""),
            65,
            "files[0].roots: there are no issuers of a mesh yet",
        ),
        (
            format!("{connect}roots = \"wbe\""),
            65,
            "files[0].roots: wbe does not name issuers",
        ),
        (
            format!("{connect}peers = [\"spiffe://x\"]"),
            65,
            "files[0].peers: nothing issues",
        ),
        (
            format!("{connect}pin = \"x\""),
            65,
            "files[0].pin: it is not offered yet",
        ),
        (
            format!("{connect}addr = \"127.0.0.1\""),
            65,
            "files[0].addr: it is for listeners",
        ),
        (
            format!("{connect}name = \"a:b\""),
            65,
            "files[0]: the name a:b has a colon",
        ),
        (
            "[[files]]\nkind = \"stdin\"\nport = 1".to_owned(),
            65,
            "files[0].port: stdin is not a socket",
        ),
        (
            "[[files]]\nkind = \"connect\"\nhost = \"not a host\"\nprot = \"tcp\"".to_owned(),
            65,
            "files[0].host: write a peer",
        ),
    ] {
        let config = Config::whole(&text);
        let mut check = enarx();
        check.args(["config", "check"]).arg(&config.path);
        for output in [
            check.output().unwrap(),
            config.run("process", &["names"]).output().unwrap(),
        ] {
            let (found, _, stderr) = said(&output);
            assert_eq!(found, Some(code), "{text}: {stderr}");
            assert!(stderr.contains(words), "{words}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{text}: {stderr}");
        }
    }
}

#[test]
fn a_component_learns_that_it_opens_its_own_sockets() {
    let config = listener(free_port(), "prot = \"tcp\"");
    let output = enarx()
        .args(["run", "--quiet", "--backend", "process", "--config"])
        .arg(&config.path)
        .arg(programs().folder.join("conformance-preview2.wasm"))
        .output()
        .unwrap();
    let (code, _, stderr) = said(&output);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("it is a component, which gets no open sockets"),
        "{stderr}"
    );
}

#[test]
fn a_template_file_can_be_created_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let config = |arguments: &[&str]| {
        let mut command = enarx();
        command.arg("config").args(arguments);
        said(&command.current_dir(folder.path()).output().unwrap())
    };
    let (code, _, stderr) = config(&["check"]);
    assert_eq!(code, Some(66), "{stderr}");
    assert_eq!(
        config(&["init"]),
        (Some(0), "Enarx.toml\n".into(), String::new())
    );
    let (code, _, stderr) = config(&["init"]);
    assert_eq!(code, Some(74), "{stderr}");
    assert!(stderr.contains("exists already"), "{stderr}");
    let checked = "Enarx.toml: descriptors 3, sockets 0\n".to_owned();
    assert_eq!(config(&["check"]), (Some(0), checked, String::new()));
    let (code, schema, stderr) = config(&["schema"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(schema.contains("\"client-auth\""), "{schema}");
}

#[test]
fn a_deployed_program_has_the_sockets_and_the_key_that_its_tenant_named() {
    needs::kvm();
    let authority = Authority::new();
    let port = free_port();
    let config = listener(port, &identity(&authority.here()));
    let deploy = |config: &Config| {
        let mut command = enarx();
        command
            .args(["deploy", "--local", "--quiet", "--timeout", "60"])
            .arg("--config")
            .arg(&config.path)
            .arg(programs().folder.join("sockets.wasm"))
            .args(["--", "echo"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    let mut child = deploy(&config).spawn().unwrap();
    drop(connect(port, &mut child));
    let output = answer(&authority, port, &[], b"hello\nbye\n");
    assert_eq!(output.stdout, b"hello\nbye\n", "{output:?}");
    let (code, stdout, stderr) = end(child);
    assert_eq!((code, &*stdout), (Some(0), "done\n"), "{stderr}");
    // The tenant does not send the machine's issuers.
    let web = server("localhost", port, "");
    let (code, _, stderr) = said(&deploy(&web).output().unwrap());
    assert_eq!(code, Some(65), "{stderr}");
    assert!(stderr.contains("no issuers of the web"), "{stderr}");
}

#[test]
fn a_server_takes_its_address_and_its_certificate_from_an_enarx_toml() {
    let authority = Authority::new();
    let own = identity(&authority.here());
    let port = free_port();
    let entry = format!("[[files]]\nkind = \"listen\"\nname = \"https\"\nport = {port}\n");
    let server = |config: &Config| {
        let mut command = enarx();
        command.args(["serve", "--backend", "process"]);
        command.arg("--config").arg(&config.path);
        command.arg(programs().folder.join("server.wasm"));
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let config = Config::new(&format!("{entry}addr = \"127.0.0.1\"\n{own}"));
    let mut child = server(&config).spawn().unwrap();
    drop(connect(port, &mut child));
    let request = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let output = answer(&authority, port, &["-alpn", "http/1.1"], request);
    let (_, stdout, _) = said(&output);
    assert!(stdout.ends_with("hello\n"), "{stdout}");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let (code, _, stderr) = end(child);
    assert_eq!(code, Some(0), "{stderr}");
    let serves = format!("enarx: serving HTTPS on https://127.0.0.1:{port}/");
    assert!(stderr.contains(&serves), "{stderr}");
    for (text, words) in [
        (
            format!("{entry}prot = \"tcp\"\n{entry}prot = \"tcp\"\n"),
            "more than one socket",
        ),
        (
            "[[files]]\nkind = \"connect\"\nhost = \"localhost\"\nprot = \"tcp\"\n".to_owned(),
            "it names a connection",
        ),
    ] {
        let output = server(&Config::new(&text)).output().unwrap();
        let (code, _, stderr) = said(&output);
        assert_eq!(code, Some(65), "{stderr}");
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
}
