// SPDX-License-Identifier: Apache-2.0

//! TLS in the Keep: servers with a certificate, whose peers are `curl` and OpenSSL; and components that call other servers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::{PATIENCE, Server, backends, component, enarx, free_port, pattern};

// Numbers of `error-code`.
const TLS_PROTOCOL_ERROR: &str = "error 12\n";
const TLS_CERTIFICATE_ERROR: &str = "error 13\n";
const TLS_ALERT_RECEIVED: &str = "error 14\n";

/// An issuer of certificates, in a folder with all of its files.
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// Files of a certificate and its private key.
pub struct Identity {
    pub chain: PathBuf,
    pub key: PathBuf,
}

fn write_pem(path: &Path, label: &str, der: &[u8]) {
    let base64 = Base64::encode_string(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).collect();
    let body = String::from_utf8(lines.join(&b'\n')).unwrap();
    let text = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    std::fs::write(path, text).unwrap();
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let folder = tempfile::tempdir().unwrap();
        // No two have the same name.
        let own = folder.path().file_name().unwrap().to_str().unwrap();
        let name = &mut parameters.distinguished_name;
        name.push(DnType::CommonName, own);
        let certificate = parameters.self_signed(&key).unwrap();
        let authority = Self {
            folder,
            issuer: Issuer::new(parameters, key),
        };
        write_pem(&authority.roots(), "CERTIFICATE", certificate.der());
        authority
    }

    /// The file with the issuer's own certificate.
    pub fn roots(&self) -> PathBuf {
        self.folder.path().join("roots.pem")
    }

    /// A certificate for these names and addresses, valid until the beginning of a year.
    pub fn certify(&self, names: &[&str], until: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let file = format!("{}-{until}", names.join("-"));
        let mut parameters = CertificateParams::new(names).unwrap();
        let name = &mut parameters.distinguished_name;
        name.push(DnType::CommonName, "server");
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(until, 1, 1);
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            chain: self.folder.path().join(format!("{file}.pem")),
            key: self.folder.path().join(format!("{file}.key")),
        };
        write_pem(&identity.chain, "CERTIFICATE", certificate.der());
        write_pem(&identity.key, "PRIVATE KEY", key.serialized_der());
        identity
    }

    /// A certificate for this machine.
    pub fn here(&self) -> Identity {
        self.certify(&["127.0.0.1", "localhost"], 2090)
    }
}

impl Identity {
    /// The flags of a server with this identity.
    pub fn flags(&self) -> [&str; 4] {
        let (chain, key) = (self.chain.to_str().unwrap(), self.key.to_str().unwrap());
        ["--tls-cert", chain, "--tls-key", key]
    }
}

fn curl(authority: &Authority, server: &Server, arguments: &[&str], path: &str) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*"])
        .args(["--max-time", "60", "--cacert"])
        .arg(authority.roots())
        .args(arguments)
        .arg(format!("https://{}{path}", server.address))
        .output()
        .unwrap()
}

fn curl_bytes(authority: &Authority, server: &Server, arguments: &[&str], path: &str) -> Vec<u8> {
    let output = curl(authority, server, arguments, path);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} {path}: {said}");
    output.stdout
}

/// OpenSSL's client; it sends its standard input.
pub fn s_client(authority: &Authority, address: SocketAddr, arguments: &[&str]) -> Child {
    Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-connect"])
        .arg(address.to_string())
        .arg("-CAfile")
        .arg(authority.roots())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends a request with OpenSSL's client.
fn request_by_openssl(authority: &Authority, address: SocketAddr, arguments: &[&str]) -> Output {
    let mut child = s_client(authority, address, arguments);
    let request = "GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // A refused one accepts no input.
    let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn curl_and_openssl_are_served_over_tls() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = authority.here();
    for backend in backends() {
        let server = Server::start(backend, &identity.flags());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("body");
        std::fs::write(&file, pattern(2_000_001)).unwrap();
        let upload = format!("@{}", file.display());
        for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let get = |path| curl_bytes(&authority, &server, &[flag], path);
            let written = [flag, "-w", "%{http_version} %{http_code}\n"];
            let hello = curl_bytes(&authority, &server, &written, "/hello");
            let expected = format!("hello\n{version} 200\n");
            assert_eq!(String::from_utf8_lossy(&hello), expected, "{backend}");
            assert_eq!(get("/scheme"), b"https\n", "{backend} {version}");
            assert!(get("/sized?5000003") == pattern(5_000_003), "{backend}");
            assert!(get("/bytes?1000000") == pattern(1_000_000), "{backend}");
            let arguments = [flag, "--data-binary", &upload];
            let echoed = curl_bytes(&authority, &server, &arguments, "/echo");
            assert!(echoed == pattern(2_000_001), "{backend} {version}");
            // A truncated body does not look complete.
            let short = curl(&authority, &server, &[flag], "/short?100000");
            assert!(!short.status.success(), "{backend} {version}");
        }
        // Several on one connection, with a name.
        let by_name = format!("localhost:{}:127.0.0.1", server.address.port());
        let url = format!("https://localhost:{}/count", server.address.port());
        let arguments = ["--resolve", &by_name, &url, &url];
        let counted = curl_bytes(&authority, &server, &arguments, "/count");
        assert_eq!(counted, b"111", "{backend}");
        let other = curl(&stranger, &server, &[], "/hello");
        assert_eq!(other.status.code(), Some(60), "{backend}: {other:?}");

        let output = request_by_openssl(&authority, server.address, &["-alpn", "http/1.1"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{backend}: {said}");
        assert!(said.ends_with("hello\n"), "{backend}: {said}");
        // Older versions, and anything other than HTTP, get nothing.
        for refused in [["-tls1_2", "-tls1_2"], ["-alpn", "enarx-session/1"]] {
            let output = request_by_openssl(&authority, server.address, &refused);
            assert!(!output.status.success(), "{backend} {refused:?}");
            assert!(output.stdout.is_empty(), "{backend} {refused:?}");
        }
        let said = server.end();
        let trapped = said.lines().filter(|line| !line.contains("trapped"));
        assert_eq!(trapped.count(), 0, "{backend}: {said}");
    }
}

/// Waits for the end of a connection; the bytes before it.
fn rest(mut stream: &TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    rest
}

#[test]
fn an_unfinished_handshake_delays_no_others_and_is_given_up() {
    let authority = Authority::new();
    let identity = authority.here();
    for backend in backends() {
        let mut flags = identity.flags().to_vec();
        flags.extend(["--grace", "50s"]);
        let server = Server::start(backend, &flags);
        let start = Instant::now();
        let silent: Vec<_> = (0..100)
            .map(|number| {
                let mut stream = TcpStream::connect(server.address).unwrap();
                // Every second one begins: a record whose rest never arrives.
                if number % 2 == 0 {
                    stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).unwrap();
                }
                stream
            })
            .collect();
        for _ in 0..5 {
            let hello = curl_bytes(&authority, &server, &[], "/hello");
            assert_eq!(hello, b"hello\n", "{backend}");
        }
        for stream in &silent {
            assert_eq!(rest(stream), b"", "{backend}");
        }
        let taken = start.elapsed();
        assert!(taken > Duration::from_secs(5), "{backend}: {taken:?}");
        assert!(taken < Duration::from_secs(45), "{backend}: {taken:?}");
        let hello = curl_bytes(&authority, &server, &[], "/hello");
        assert_eq!(hello, b"hello\n", "{backend}");
        // One that never begins does not delay the end, either.
        let _silent = TcpStream::connect(server.address).unwrap();
        let start = Instant::now();
        assert_eq!(server.end(), "", "{backend}");
        assert!(start.elapsed() < Duration::from_secs(40), "{backend}");
    }
}

#[test]
fn clients_of_a_server_are_asked_for_certificates_and_judged_by_them() {
    let authority = Authority::new();
    let own = authority.here();
    let known = authority.certify(&["client.example"], 2090);
    let unknown = Authority::new().certify(&["client.example"], 2091);
    let shown = |identity: &Identity| {
        let [chain, key] = [&identity.chain, &identity.key].map(|it| it.display().to_string());
        ["--cert".to_owned(), chain, "--key".to_owned(), key]
    };
    let config = authority.folder.path().join("Enarx.toml");
    for backend in backends() {
        for (asks, without) in [("require", false), ("request", true)] {
            let text = format!(
                "[[files]]\nkind = \"listen\"\nname = \"web\"\ncertificate = \"{}\"\nkey = \"{}\"\n\
                 client-auth = \"{asks}\"\nroots = \"file:{}\"\n",
                own.chain.display(),
                own.key.display(),
                authority.roots().display()
            );
            std::fs::write(&config, text).unwrap();
            let server = Server::start(backend, &["--config", config.to_str().unwrap()]);
            let ask = |arguments: &[String]| {
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                let output = curl(&authority, &server, &arguments, "/hello");
                output.status.success() && output.stdout == b"hello\n"
            };
            assert!(ask(&shown(&known)), "{backend} {asks}");
            assert!(!ask(&shown(&unknown)), "{backend} {asks}");
            assert_eq!(ask(&[]), without, "{backend} {asks}");
            server.end();
        }
    }
}

#[test]
fn a_peer_in_clear_on_a_port_of_tls_is_refused() {
    let authority = Authority::new();
    let identity = authority.here();
    for backend in backends() {
        let server = Server::start(backend, &identity.flags());
        for sent in [
            &b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\0\0\0\0\0\0\0\0",
            &vec![0xff; 20_000],
        ] {
            let mut stream = TcpStream::connect(server.address).unwrap();
            // It may be closed before all of this is taken.
            let _ = stream.write_all(sent);
            let _ = stream.shutdown(Shutdown::Write);
            let told = rest(&stream);
            // An alert (RFC 8446, section 6), if anything: no answer, and nothing from the component.
            assert!(told.is_empty() || told[0] == 21, "{backend}: {told:?}");
            assert!(told.len() < 32, "{backend}: {told:?}");
        }
        let hello = curl_bytes(&authority, &server, &[], "/hello");
        assert_eq!(hello, b"hello\n", "{backend}");
        assert_eq!(server.end(), "", "{backend}");
    }
}

#[test]
fn a_mismatched_certificate_and_key_are_refused_at_the_start() {
    let authority = Authority::new();
    let (one, other) = (authority.here(), authority.certify(&["localhost"], 2089));
    let serve = |backend: &str, arguments: &[&str]| {
        let output = enarx()
            .args(["serve", "--quiet", "--addr", "127.0.0.1:0", "--backend"])
            .arg(backend)
            .args(arguments)
            .arg(component())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (chain, key) = (one.chain.to_str().unwrap(), other.key.to_str().unwrap());
    for backend in backends() {
        let (code, said) = serve(backend, &["--tls-cert", chain, "--tls-key", key]);
        assert_eq!(code, Some(1), "{backend}: {said}");
        let why = "the private key does not belong to the certificate: give the two that were made for each other";
        assert!(said.trim_end().ends_with(why), "{backend}: {said}");
        assert_eq!(said.lines().count(), 1, "{backend}: {said}");
    }
    // Faults that are found before there is a Keep.
    for (arguments, code, why) in [
        (
            ["--tls-cert", key, "--tls-key", key],
            65,
            "it has no certificate in PEM",
        ),
        (
            ["--tls-cert", chain, "--tls-key", chain],
            65,
            "has no unencrypted private key in PEM",
        ),
        (["--tls-cert", "none.pem", "--tls-key", key], 66, "none.pem"),
        (
            ["--tls-cert", chain, "--tls-key", "none.key"],
            66,
            "none.key",
        ),
    ] {
        let (found, said) = serve("process", &arguments);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(why), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let (code, said) = serve("process", &["--tls-cert", chain]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--tls-key"), "{said}");
}

/// OpenSSL's server. Ended when dropped.
pub struct OpenSsl {
    child: Child,
    pub address: SocketAddr,
}

impl OpenSsl {
    /// One that answers every request with its own page.
    fn with_pages(identity: &Identity, arguments: &[&str]) -> Self {
        Self::start(&["-www"], identity, arguments, Stdio::null)
    }

    /// One that returns lines reversed.
    pub fn in_reverse(identity: &Identity, arguments: &[&str]) -> Self {
        Self::start(&["-rev"], identity, arguments, Stdio::null)
    }

    /// One that forwards bytes, of one connection after the other.
    pub fn with_pipes(identity: &Identity, arguments: &[&str]) -> (Self, ChildStdin, ChildStdout) {
        let mut server = Self::start(&[], identity, arguments, Stdio::piped);
        let child = &mut server.child;
        let pipes = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        (server, pipes.0, pipes.1)
    }

    fn start(kind: &[&str], identity: &Identity, arguments: &[&str], stdio: fn() -> Stdio) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let child = Command::new("openssl")
            .args(["s_server", "-quiet"])
            .args(kind)
            .arg("-accept")
            .arg(address.to_string())
            .arg("-cert")
            .arg(&identity.chain)
            .arg("-key")
            .arg(&identity.key)
            .args(arguments)
            .stdin(stdio())
            .stdout(stdio())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, address };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "OpenSSL's server does not start");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_component_asks_servers_over_tls_and_trusts_only_its_issuers() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let roots = authority.roots();
    let here = authority.here();
    let good = OpenSsl::with_pages(&here, &[]);
    let elsewhere = OpenSsl::with_pages(&authority.certify(&["other.example"], 2090), &[]);
    let expired = OpenSsl::with_pages(&authority.certify(&["127.0.0.1"], 2025), &[]);
    let foreign = OpenSsl::with_pages(&stranger.certify(&["127.0.0.1"], 2090), &[]);
    let old = OpenSsl::with_pages(&here, &["-tls1_2"]);
    let demanding = OpenSsl::with_pages(&here, &["-Verify", "1"]);
    for backend in backends() {
        let in_clear = Server::start(backend, &[]);
        let mut flags = here.flags().to_vec();
        flags.extend([
            "-S",
            "inherit-network",
            "--tls-roots",
            roots.to_str().unwrap(),
        ]);
        let server = Server::start(backend, &flags);
        let ask = |address: SocketAddr| {
            let path = format!("/fetch?https://{address}");
            let output = curl(&authority, &server, &["-w", "%{http_code}"], &path);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{backend}: {said}");
            String::from_utf8(output.stdout).unwrap()
        };
        let page = ask(good.address);
        assert!(
            page.starts_with("<HTML>") && page.ends_with("200"),
            "{page}"
        );
        // It is also another server for itself.
        assert_eq!(ask(server.address), "hello\n200", "{backend}");
        for (what, address, error) in [
            ("the name", elsewhere.address, TLS_CERTIFICATE_ERROR),
            ("the time", expired.address, TLS_CERTIFICATE_ERROR),
            ("the issuer", foreign.address, TLS_CERTIFICATE_ERROR),
            ("the version", old.address, TLS_ALERT_RECEIVED),
            ("the client", demanding.address, TLS_ALERT_RECEIVED),
            ("the protocol", in_clear.address, TLS_PROTOCOL_ERROR),
        ] {
            assert_eq!(ask(address), format!("{error}502"), "{backend}: {what}");
        }
        assert!(ask(good.address).starts_with("<HTML>"), "{backend}");
        assert_eq!(server.end(), "", "{backend}");
        assert_eq!(in_clear.end(), "", "{backend}");
        // The machine's own issuers do not include ours.
        let server = Server::start(backend, &["-S", "inherit-network"]);
        let path = format!("/fetch?https://{}", good.address);
        server.get(&path).is(502, TLS_CERTIFICATE_ERROR);
        assert_eq!(server.end(), "", "{backend}");
    }
}
