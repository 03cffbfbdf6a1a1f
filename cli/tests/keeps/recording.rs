// SPDX-License-Identifier: Apache-2.0

//! Everything that a tenant delivers, and its program's output, contains a marker. The test searches everything that
//! the host has: both recordings of the session, outside and inside the manager's TLS, every file, the most verbose
//! log, and the arguments and variables of every process.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use base64ct::{Base64Unpadded, Encoding};
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey};

use super::common;
use super::deploy::{
    Host, Setup, children, descendants, policy, program, text, until_first_output, wait_until,
    with_digest,
};
use super::door::Door;
use super::programs::programs;
use super::serve::tls::Authority;
use super::services::{self, Service};

/// It may occur in names of files, variables and secrets.
const MARKER: &str = "MARKERq7x3v9k2";

/// The forms in which a marker might occur: as it is, in hexadecimal, and in Base64 at every offset.
fn forms(marker: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![
        marker.to_vec(),
        base16ct::lower::encode_string(marker).into_bytes(),
        base16ct::upper::encode_string(marker).into_bytes(),
    ];
    for offset in 0..3 {
        // The first digits of Base64 are mixed with what precedes, the last with what follows.
        let shifted = [&[0; 3][..offset], marker].concat();
        let digits = Base64Unpadded::encode_string(&shifted);
        let (from, to) = ([0, 2, 3][offset], shifted.len() / 3 * 4);
        forms.push(digits.as_bytes()[from..to].to_vec());
    }
    forms
}

/// A search for markers in all of their forms.
struct Search(Vec<Vec<u8>>);

impl Search {
    fn of(markers: &[&[u8]]) -> Self {
        Self(markers.iter().flat_map(|marker| forms(marker)).collect())
    }

    /// True if these bytes contain a marker.
    fn finds(&self, bytes: &[u8]) -> bool {
        let found = |form: &Vec<u8>| bytes.windows(form.len()).any(|part| part == form);
        self.0.iter().any(found)
    }
}

/// True if these bytes contain the marker, in one of its forms.
fn has_marker(bytes: &[u8]) -> bool {
    Search::of(&[MARKER.as_bytes()]).finds(bytes)
}

/// The files below a folder with a marker in their names or contents, and their number.
fn marked_files(folder: &Path, search: &Search) -> (Vec<String>, usize) {
    let (mut marked, mut seen) = (Vec::new(), 0);
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let name = path.display().to_string();
        if kind.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            paths.extend(entries.map(|entry| entry.unwrap().path()));
        } else if search.finds(name.as_bytes())
            || kind.is_file() && search.finds(&fs::read(&path).unwrap())
        {
            marked.push(name);
        }
        seen += usize::from(kind.is_file());
    }
    (marked, seen)
}

/// The files of /proc about these processes that contain a marker.
fn marked_processes(processes: &[u32], search: &Search) -> Vec<String> {
    let mut marked = Vec::new();
    for process in processes {
        for file in ["cmdline", "environ", "comm"] {
            let path = format!("/proc/{process}/{file}");
            let content = match fs::read(&path) {
                Ok(content) => content,
                // A process whose variables only root can read reveals nothing through them.
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{path}");
                    assert_eq!(file, "environ");
                    continue;
                }
            };
            if search.finds(&content) {
                marked.push(path);
            }
        }
    }
    marked
}

/// A relay before a manager that records all bytes.
struct Outer {
    to: String,
    recorded: Arc<Mutex<Vec<u8>>>,
}

impl Outer {
    fn before(host: &Host) -> Self {
        let (place, pin) = host.to.split_once('#').unwrap();
        let place = place.trim_start_matches("https://").to_owned();
        let (own, recorded) = Self::at(place);
        Self {
            to: format!("https://{own}#{pin}"),
            recorded,
        }
    }

    fn at(place: String) -> (std::net::SocketAddr, Arc<Mutex<Vec<u8>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let recorded = Arc::<Mutex<Vec<u8>>>::default();
        let all = recorded.clone();
        // It ends with the test's process, and its connections with those of the host.
        thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(&place).unwrap());
                let ends = [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far, near),
                ];
                for (mut from, mut to) in ends {
                    let all = all.clone();
                    thread::spawn(move || {
                        let mut chunk = [0; 16 << 10];
                        while let Ok(count @ 1..) = from.read(&mut chunk) {
                            all.lock().unwrap().extend_from_slice(&chunk[..count]);
                            if to.write_all(&chunk[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Write);
                    });
                }
            }
        });
        (own, recorded)
    }

    fn recorded(&self) -> Vec<u8> {
        self.recorded.lock().unwrap().clone()
    }
}

#[test]
fn delivered_data_appears_nowhere_on_the_host() {
    let host = Host::with(Setup {
        log: "trace",
        ..Setup::default()
    });
    let policy = policy(host.folder());
    let (door, outer) = (Door::of(&host), Outer::before(&host));
    let tenant = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = tenant.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let delivered = fs::read_to_string(program("delivered.wat")).unwrap();
    let with_marker = format!("(data (i32.const 1300) \"{MARKER} data\")\n\n  (func $print ");
    let module = file(
        &format!("{MARKER}-application.wat"),
        &delivered.replacen("(func $print ", &with_marker, 1),
    );
    let config = file(
        "Enarx.toml",
        &format!(
            "args = [\"{MARKER} replaced\"]\n[env]\nFROM_{MARKER} = \"{MARKER} configured\"\n\
             [[files]]\nkind = \"stdin\"\n[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"stderr\"\n"
        ),
    );
    let secret = file("key.txt", &format!("{MARKER} key"));
    let content = file("conf.txt", &format!("{MARKER} content"));
    let receipt = tenant.path().join("receipt");
    let mut command = common::enarx();
    command
        .args(["deploy", "--to", &outer.to, "--token-file"])
        .arg(host.path("token"))
        .arg("--policy")
        .arg(&policy)
        .args(["--config", &config])
        .args(["--env", &format!("PLAIN_{MARKER}={MARKER} variable")])
        .args(["--secret", &format!("SECRET_{MARKER}={secret}")])
        .args(["--secret-file", &format!("key={secret}")])
        .args(["--secret-file", &format!("{MARKER}.key={secret}")])
        .args(["--file", &format!("/etc/app.conf={content}")])
        .args(["--file", &format!("/etc/{MARKER}.conf={content}")])
        .arg("--receipt")
        .arg(&receipt)
        .arg(&module)
        .args(["--", &format!("{MARKER} argument")]);
    let mut child = until_first_output(&mut command);

    // While it runs.
    let processes = [vec![host.manager()], descendants(host.manager())].concat();
    assert!(processes.len() >= 3, "{processes:?}");
    let search = Search::of(&[MARKER.as_bytes()]);
    assert_eq!(marked_processes(&processes, &search), [""; 0]);
    let (marked, seen) = marked_files(host.folder(), &search);
    assert_eq!(marked, [""; 0]);
    assert!(seen >= 5, "{seen}");

    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(format!("{MARKER} input").as_bytes())
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    // It was everywhere it should be. Its first byte was read before.
    let stdout = format!("M{}", text(&output.stdout));
    for part in [
        "-application.wat\0",
        " argument\0",
        "= configured\0",
        " variable\0",
        " key\0",
        " content\n",
        " key\n",
        " input",
    ] {
        let part = part.replace("= ", &format!("={MARKER} "));
        assert!(stdout.contains(&format!("{MARKER}{part}")), "{stdout}");
    }
    assert!(
        stdout.contains(&format!("SECRET_{MARKER}={MARKER} key")),
        "{stdout}"
    );

    // After it, and after the manager.
    wait_until(|| children(host.manager()).is_empty());
    let sessions = door.sessions();
    assert_eq!(sessions.len(), 1);
    let inner = [&sessions[0].to_keep[..], &sessions[0].from_keep].concat();
    let outer = outer.recorded();
    let application = wat::parse_file(&module).unwrap();
    assert!(sessions[0].to_keep.len() > application.len());
    assert!(sessions[0].from_keep.len() > output.stdout.len());
    assert!(outer.len() > inner.len());
    assert!(!has_marker(&inner) && !has_marker(&outer));
    let log = host.log();
    assert!(log.contains("[debug] a session begins"), "{log}");
    drop(door);
    let (marked, _) = marked_files(host.folder(), &search);
    assert_eq!(marked, [""; 0]);
}

/// The same for a server: the key of its certificate, its requests and its responses.
#[test]
fn a_servers_key_and_requests_appear_nowhere_on_the_host() {
    let host = Host::with(Setup {
        log: "trace",
        arguments: ["--allow-listen", "127.0.0.1:1024-65535/tcp"]
            .map(str::to_owned)
            .to_vec(),
        ..Setup::default()
    });
    let policy = policy(host.folder());
    let (door, outer) = (Door::of(&host), Outer::before(&host));
    let authority = Authority::new();
    let identity = authority.here();
    let key = p256::SecretKey::read_pkcs8_pem_file(&identity.key).unwrap();
    let search = Search::of(&[MARKER.as_bytes(), &key.to_bytes()]);
    let der = key.to_pkcs8_der().unwrap();
    assert!(search.finds(der.as_bytes()));
    let digits = Base64Unpadded::encode_string(der.as_bytes());
    assert!(search.finds(digits.as_bytes()), "{digits}");

    let place = services::free_place();
    let mut command = common::enarx();
    command
        .args(["deploy", "--to", &outer.to, "--token-file"])
        .arg(host.path("token"))
        .arg("--policy")
        .arg(&policy)
        .args(["--addr", &place])
        .args(identity.flags())
        .arg(programs().folder.join("server.wasm"));
    let service = Service::start(&mut command, &place);
    // The host is between the server and its clients, too.
    let (own, asked) = Outer::at(place);
    let header = format!("x-mark: {MARKER} header");
    let ask = |arguments: &[&str], path: &str| {
        let output = services::curl(&own.to_string(), &authority, arguments, path);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    for version in ["--http1.1", "--http2"] {
        let body = format!("{MARKER} body");
        let echoed = ask(
            &[version, "--header", &header, "--data-binary", &body],
            "/echo",
        );
        assert_eq!(echoed, body);
        let request = ask(&[version, "--header", &header], "/request");
        assert!(request.contains(&header), "{request}");
        let unknown = ask(&[version], &format!("/{MARKER}"));
        assert_eq!(unknown, "there is no such path\n");
    }

    // While it runs.
    let processes = [vec![host.manager()], descendants(host.manager())].concat();
    assert!(processes.len() >= 3, "{processes:?}");
    assert_eq!(marked_processes(&processes, &search), [""; 0]);
    let (marked, seen) = marked_files(host.folder(), &search);
    assert_eq!(marked, [""; 0]);
    assert!(seen >= 5, "{seen}");
    service.end();

    // After it, and after the manager.
    wait_until(|| children(host.manager()).is_empty());
    let sessions = door.sessions();
    assert_eq!(sessions.len(), 1);
    let inner = [&sessions[0].to_keep[..], &sessions[0].from_keep].concat();
    let (outer, asked) = (outer.recorded(), asked.lock().unwrap().clone());
    assert!(outer.len() > inner.len() && inner.len() > der.as_bytes().len());
    assert!(asked.len() > 6 * MARKER.len(), "{}", asked.len());
    assert!(!search.finds(&inner) && !search.finds(&outer) && !search.finds(&asked));
    drop(door);
    let (marked, _) = marked_files(host.folder(), &search);
    assert_eq!(marked, [""; 0]);
}

/// A tenant who tries many hosts before one is accepted pays for each of them: both ways, for nothing.
#[test]
fn little_is_sent_before_a_verdict() {
    /// Bytes of the session: handshake, ATTEST and EVIDENCE; and of all, with three connections to the manager over its own
    /// TLS: for the offer, the contract and the session, for the certificates, and for the end of the Keep.
    const SESSION: usize = 6 << 10;
    const ALL: usize = 32 << 10;
    let host = Host::start(&[]);
    let refusing = with_digest(&policy(host.folder()), &"00".repeat(48));
    let (door, outer) = (Door::of(&host), Outer::before(&host));
    let mut command = common::enarx();
    command
        .args(["deploy", "--to", &outer.to, "--token-file"])
        .arg(host.path("token"))
        .arg("--policy")
        .arg(&refusing)
        .arg(program("exit.wat"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    wait_until(|| host.keeps().is_empty());
    let session = door.sessions().remove(0);
    let inner = session.to_keep.len() + session.from_keep.len();
    let all = outer.recorded().len();
    assert!(inner > 4096 && inner <= SESSION, "{inner} {all}");
    assert!(all > inner && all <= ALL, "{inner} {all}");
}

/// Each search of the test above finds a marker that is not encrypted.
#[test]
fn a_marker_in_the_clear_is_found() {
    assert!(!has_marker(b"MARKER, but not this one"));
    for before in ["", "a", "ab"] {
        let clear = format!("{before}{MARKER} and more");
        assert!(has_marker(clear.as_bytes()));
        let digits = Base64Unpadded::encode_string(clear.as_bytes());
        assert!(has_marker(digits.as_bytes()), "{digits}");
        assert!(has_marker(
            base16ct::lower::encode_string(clear.as_bytes()).as_bytes()
        ));
    }
    // Through the same recordings, to ends without TLS.
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("echo.sock");
    let echo = UnixListener::bind(&place).unwrap();
    let door = Door::before(folder.path());
    thread::spawn(move || {
        let (mut client, _) = echo.accept().unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        client.write_all(&all).unwrap();
    });
    wait_until(|| folder.path().join("echo.keep").exists() && place.exists());
    let mut client = UnixStream::connect(&place).unwrap();
    client.write_all(MARKER.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, MARKER.as_bytes());
    let session = door.sessions().remove(0);
    assert!(has_marker(&session.to_keep) && has_marker(&session.from_keep));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (own, recorded) = Outer::at(listener.local_addr().unwrap().to_string());
    let mut client = TcpStream::connect(own).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(MARKER.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    server.read_to_end(&mut all).unwrap();
    assert!(has_marker(&recorded.lock().unwrap()));

    // In files and their names, and in arguments and variables of processes.
    for (name, content) in [("a", MARKER), (MARKER, "")] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let search = Search::of(&[MARKER.as_bytes()]);
    assert_eq!(marked_files(folder.path(), &search).0.len(), 2);
    let mut by_argument = Command::new("/bin/sleep");
    by_argument.arg0(MARKER).arg("60");
    let mut by_variable = Command::new("/bin/sleep");
    by_variable.arg("60").env("NAME", MARKER);
    for (mut command, file) in [(by_argument, "cmdline"), (by_variable, "environ")] {
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        // The system reports a new process a little later than its start.
        let is_marked = || {
            let marked = marked_processes(&[child.id()], &search);
            marked.iter().any(|path| path.ends_with(file))
        };
        wait_until(is_marked);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
