// SPDX-License-Identifier: Apache-2.0

//! A Keep's sessions with real TLS over a real socket: the executor serves the door, the test is the tenant.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use enarx_configuration::precompiled::{Facts, Precompiled, PrecompiledError};
use enarx_contract::canonical::Hex;
use enarx_contract::{Contract, ContractError, PublicKey, Tenant, Term, Terms};
use enarx_keep_session::{Attester, Delivered, ReportError, Session, SessionError};
use enarx_sallyport::{Call, Handle};
use enarx_sallyport_host::liar::{Answer, Liar};
use enarx_sallyport_host::{InProcess, World};
use enarx_session::deployment::{Deployment, Object, WhenFull, commitment};
use enarx_session::document::{Exit, ExitKind, Refused};
use enarx_session::keep::{Fault, Output};
use enarx_session::receipt::{Claims, Receipt};
use enarx_session::tenant::{self, Channel, Event, Outcome, Released, Streams, Wanted};
use enarx_session::{Moment, Refusal, Unfit};
use enarx_session_drivers::fixture::{self, MEMORY, Marks, Values};
use enarx_tls::{Connection, Key};
use enarx_wasi::port::Port;
use enarx_wasi::stream::Standard;

/// Longest time of a test.
const PATIENCE: Duration = Duration::from_mins(1);

/// A secure processor that signs with a mark, which the verifier of the tests accepts as genuine.
struct Processor {
    contract: Contract,
    busy: AtomicBool,
    /// It is locked while a report is made.
    at_work: Mutex<()>,
    /// The number of requested reports.
    asked: AtomicU32,
}

impl Processor {
    fn new(contract: &Contract) -> Arc<Self> {
        Arc::new(Self {
            contract: contract.clone(),
            busy: AtomicBool::new(false),
            at_work: Mutex::new(()),
            asked: AtomicU32::new(0),
        })
    }

    /// Waits until this many reports have been requested.
    fn await_asked(&self, count: u32) {
        let start = Instant::now();
        while self.asked.load(Ordering::SeqCst) < count {
            assert!(start.elapsed() < PATIENCE, "nobody asks for a report");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A Keep's way to the processor.
struct ProcessorLink(Arc<Processor>);

impl Attester for ProcessorLink {
    fn report(&self, data: &[u8; 64]) -> Result<Option<Vec<u8>>, ReportError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let _turn = self.0.at_work.lock().unwrap();
        if self.0.busy.load(Ordering::Relaxed) {
            return Err(ReportError::Busy);
        }
        Ok(Some(fixture::report_bytes(&self.0.contract, *data, 1)))
    }

    fn free_memory(&self) -> u64 {
        64 << 20
    }
}

/// A Keep with an application that is a function.
struct Keep {
    path: PathBuf,
    _folder: tempfile::TempDir,
    contract: Contract,
    processor: Arc<Processor>,
    thread: JoinHandle<Result<(), SessionError>>,
}

/// The contract of a Keep for the owner of `key`.
fn contract(key: &PublicKey, change: impl FnOnce(&mut Terms)) -> Contract {
    let mut terms = fixture::terms(Tenant::Named(*key));
    change(&mut terms);
    Contract::new(terms).unwrap()
}

impl Keep {
    fn start(
        contract: Contract,
        application: impl FnOnce(&Port, &Standard, Delivered) -> Exit + Send + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let door = UnixListener::bind(&path).unwrap();
        door.set_nonblocking(true).unwrap();
        let door: OwnedFd = door.into();
        let processor = Processor::new(&contract);
        let (attester, bytes) = (
            ProcessorLink(Arc::clone(&processor)),
            contract.bytes().to_vec(),
        );
        let thread = thread::spawn(move || {
            let (port, _host) = InProcess::start(World {
                door: Some(door),
                ..World::default()
            });
            let session = Session::open(&port, &bytes, 2, MEMORY, Arc::new(attester))?;
            let delivered = session.receive()?;
            let serving = session.clone();
            let server = thread::spawn(move || serving.serve());
            session.conclude();
            let streams = Standard::Session(Arc::new(session.clone()));
            if let Standard::Session(session) = &streams {
                session.started(&[("compile", 7)]);
            }
            let exit = application(&port, &streams, delivered);
            session.exited(exit)?;
            server.join().unwrap()
        });
        Self {
            path,
            _folder: folder,
            contract,
            processor,
            thread,
        }
    }

    /// Waits for its end.
    fn join(self) -> Result<(), SessionError> {
        self.thread.join().unwrap()
    }
}

/// The tenant's end of a connection.
struct Wire {
    stream: UnixStream,
    tls: Connection,
    plaintext: Vec<u8>,
    start: Instant,
}

impl Wire {
    /// Connects and completes the handshake; `None` if the Keep refuses it.
    fn connect(keep: &Keep, key: &Key) -> Option<(Self, Channel)> {
        let stream = UnixStream::connect(&keep.path).unwrap();
        let timeout = Some(Duration::from_millis(2));
        stream.set_read_timeout(timeout).unwrap();
        let mut wire = Self {
            stream,
            tls: Connection::tenant(key).unwrap(),
            plaintext: Vec::new(),
            start: Instant::now(),
        };
        while wire.tls.facts().is_none() {
            if !wire.turn() {
                return None;
            }
        }
        let facts = wire.tls.facts().unwrap();
        let channel = Channel {
            keep: facts.peer,
            tenant: facts.own,
            exporter: facts.exporter.clone(),
        };
        Some((wire, channel))
    }

    fn now(&self) -> Moment {
        let elapsed = self.start.elapsed();
        assert!(elapsed < PATIENCE, "nothing happens");
        Moment(elapsed.as_millis().try_into().unwrap())
    }

    /// Moves bytes both ways; false once the Keep has closed, or refused.
    fn turn(&mut self) -> bool {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = self.tls.outgoing(&mut buffer);
            if count == 0 {
                break;
            }
            if self.stream.write_all(&buffer[..count]).is_err() {
                return false;
            }
        }
        self.now();
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => {
                return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            }
        };
        let mut input = &buffer[..count];
        let mut plaintext = vec![0; 64 << 10];
        loop {
            let before = input.len();
            if self.tls.receive(&mut input).is_err() {
                return false;
            }
            let count = self.tls.read(&mut plaintext);
            self.plaintext.extend_from_slice(&plaintext[..count]);
            if count == 0 && input.len() == before {
                return true;
            }
        }
    }

    /// Sends the bytes of a session, as many as fit. Returns their number.
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.tls.write(bytes)
    }
}

/// A session after the verdict, over its connection.
struct Attested {
    wire: Wire,
    session: tenant::Session<Released>,
}

/// A refusal by the Keep, as its tenant receives it.
fn of_peer(refusal: &Refusal) -> Refusal {
    Refusal::Peer(Refused::new(refusal))
}

/// Attests a Keep.
fn attest(keep: &Keep, key: &Key, wanted: Wanted) -> Result<Attested, Refusal> {
    let (mut wire, channel) = Wire::connect(keep, key).ok_or(Refusal::Tenant)?;
    let mut session = tenant::Session::attest(
        keep.contract.clone(),
        channel,
        wanted,
        None,
        [5; 32],
        wire.now(),
    );
    loop {
        let count = wire.send(session.outgoing());
        session.sent(count);
        let open = wire.turn();
        let plaintext = std::mem::take(&mut wire.plaintext);
        let mut input = &plaintext[..];
        if session.receive(&mut input)? {
            wire.plaintext = input.to_vec();
            let now = wire.now();
            let session = session.judge(&Marks, now, 3_600_000)?;
            return Ok(Attested { wire, session });
        }
        if !open {
            return Err(session.interrupted());
        }
    }
}

/// The application's end, as the tenant saw it.
#[derive(Debug)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: Exit,
    receipt: Receipt,
    phases: Vec<String>,
}

impl Attested {
    fn release(&mut self, deployment: &Deployment) {
        let now = self.wire.now();
        self.session.release(deployment, now).unwrap();
    }

    /// Begins to transfer the streams.
    fn start(self, values: &Values) -> Running<'_> {
        Running {
            wire: self.wire,
            session: self.session,
            values,
            stdin: Vec::new(),
            stdin_ends: false,
            stdout: Vec::new(),
            stderr: Vec::new(),
            exit: None,
            receipt: false,
            phases: Vec::new(),
        }
    }

    /// Continues until `until` accepts the outputs, or the Keep has said goodbye.
    fn run(
        self,
        values: &Values,
        stdin: &[u8],
        until: impl Fn(&[u8]) -> bool,
    ) -> Result<Result<Seen, Streams>, Refusal> {
        let mut running = self.start(values);
        running.feed(stdin);
        running.stdin_ends = true;
        while running.step()? {
            if until(&running.stdout) {
                return Ok(Err(running.session.into_streams()));
            }
        }
        running.end().map(Ok)
    }
}

/// A session whose streams are transferred.
struct Running<'a> {
    wire: Wire,
    session: tenant::Session<Released>,
    values: &'a Values,
    /// Standard input that has not been taken.
    stdin: Vec<u8>,
    stdin_ends: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: Option<Exit>,
    receipt: bool,
    phases: Vec<String>,
}

impl Running<'_> {
    fn feed(&mut self, stdin: &[u8]) {
        self.stdin.extend_from_slice(stdin);
    }

    /// Continues until a condition holds.
    #[track_caller]
    fn until(&mut self, so: impl Fn(&Self) -> bool) {
        while !so(self) {
            assert!(self.step().unwrap(), "the Keep has closed");
        }
    }

    /// Continues to the goodbye.
    fn end(mut self) -> Result<Seen, Refusal> {
        while self.step()? {}
        match self.session.finish()? {
            Outcome::Complete(receipt) => Ok(Seen {
                stdout: self.stdout,
                stderr: self.stderr,
                exit: self.exit.unwrap(),
                receipt: *receipt,
                phases: self.phases,
            }),
            Outcome::Detached => panic!("nobody has left"),
        }
    }

    /// Transfers what is available; false once the Keep has closed.
    fn step(&mut self) -> Result<bool, Refusal> {
        let now = self.wire.now();
        while let Some((part, offset, room)) = self.session.wanted(now) {
            let value = &self.values[index(part, self.values)];
            let offset = usize::try_from(offset).unwrap();
            let piece = &value[offset..value.len().min(offset + room)];
            if piece.is_empty() || self.session.supply(piece, now)? == 0 {
                break;
            }
        }
        let count = self.session.stdin(&self.stdin, now);
        self.stdin.drain(..count);
        if self.stdin.is_empty() && self.stdin_ends {
            self.session.end_stdin();
        }
        loop {
            let bytes = self.session.outgoing(now)?;
            let count = self.wire.send(bytes);
            if count == 0 {
                break;
            }
            self.session.sent(count);
        }
        let open = self.wire.turn();
        let plaintext = std::mem::take(&mut self.wire.plaintext);
        let mut input = &plaintext[..];
        let now = self.wire.now();
        while let Some(event) = self.session.receive(&mut input, now)? {
            let consumed = match event {
                Event::Output(output, bytes) => {
                    match output {
                        Output::Stdout => self.stdout.extend_from_slice(bytes),
                        Output::Stderr => self.stderr.extend_from_slice(bytes),
                    }
                    Some((output, bytes.len()))
                }
                Event::Started(started) => {
                    self.phases = started
                        .timings
                        .iter()
                        .map(|it| it.phase.as_str().to_owned())
                        .collect();
                    None
                }
                Event::Exit(found) => {
                    self.exit = Some(found);
                    None
                }
                Event::Receipt(_) => {
                    self.receipt = true;
                    None
                }
                _ => None,
            };
            if let Some((output, count)) = consumed {
                self.session.consumed(output, count);
            }
        }
        if self.receipt {
            self.session.bye();
        }
        Ok(open)
    }
}

/// The place of a part among the values.
fn index(part: enarx_session::deployment::Part, values: &Values) -> usize {
    use enarx_session::deployment::Part;
    match part {
        Part::Application => 0,
        Part::Configuration => 1,
        Part::File(index) => 2 + index,
        Part::Secret(index) => values.len() - 2 + index,
    }
}

const SUCCESS: Exit = Exit {
    kind: ExitKind::Exited,
    code: 0,
};

/// An application that writes its input in capitals, and reports its length on standard error.
fn shout(port: &Port, streams: &Standard, _: Delivered) -> Exit {
    let (stdin, stdout) = (streams.stdin(port), streams.stdout(port));
    let (mut buffer, mut total) = (vec![0; 10_000], 0);
    loop {
        let count = stdin.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        total += count;
        stdout
            .write_all(&buffer[..count].to_ascii_uppercase())
            .unwrap();
    }
    let text = format!("{total} bytes\n");
    streams.stderr(port).write_all(text.as_bytes()).unwrap();
    Exit { code: 7, ..SUCCESS }
}

#[test]
fn a_tenant_delivers_sends_input_reads_output_and_gets_a_receipt() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let keep = Keep::start(contract.clone(), |port, streams, delivered| {
        assert_eq!(delivered.application, b"program");
        assert!(delivered.configuration.env.is_empty());
        let [(name, value)] = &delivered.secrets.variables[..] else {
            panic!("{:?}", delivered.secrets);
        };
        assert_eq!((name.as_str(), value.as_str()), ("PASSWORD", "hunter2"));
        let [(path, contents)] = &delivered.secrets.files[..] else {
            panic!("{:?}", delivered.secrets);
        };
        assert_eq!(
            (path.as_str(), &contents[..]),
            ("run/secrets/empty.txt", &b""[..])
        );
        let files: Vec<(&str, &[u8])> = delivered
            .files
            .iter()
            .map(|(path, contents)| (path.as_str(), &contents[..]))
            .collect();
        let expected: [(&str, &[u8]); 2] = [("www/a.html", b"page"), ("www/empty", b"")];
        assert_eq!(files, expected);
        shout(port, streams, delivered)
    });
    let (deployment, values) = fixture::deployment(&contract, b"program");
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    // More than all buffers on the way together.
    let stdin: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    let seen = session.run(&values, &stdin, |_| false).unwrap().unwrap();
    assert!(seen.stdout == stdin.to_ascii_uppercase());
    assert_eq!(seen.stderr, b"3000000 bytes\n");
    assert_eq!(seen.exit, Exit { code: 7, ..SUCCESS });
    assert_eq!(seen.phases, ["compile"]);
    let body = &seen.receipt.body;
    assert_eq!(body.exit, seen.exit);
    assert_eq!(body.streams.stdout.bytes, 3_000_000);
    assert!(seen.receipt.report.is_some());
    keep.join().unwrap();
}

#[test]
fn strangers_and_noise_do_not_keep_the_tenant_out() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let keep = Keep::start(contract.clone(), shout);
    let stranger = Key::generate().unwrap();
    assert!(attest(&keep, &stranger, Wanted::Fresh).is_err());
    let mut noise = UnixStream::connect(&keep.path).unwrap();
    noise.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    noise.read_to_end(&mut answer).unwrap();
    // A silent peer delays nobody.
    let silent = UnixStream::connect(&keep.path).unwrap();
    let (deployment, values) = fixture::deployment(&contract, b"program");
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    let seen = session.run(&values, b"hello", |_| false).unwrap().unwrap();
    assert_eq!(seen.stdout, b"HELLO");
    drop(silent);
    keep.join().unwrap();
}

#[test]
fn output_resumes_where_a_connection_was_cut() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let keep = Keep::start(contract.clone(), |port, streams, _| {
        for line in 0..200_000 {
            let text = format!("line {line}\n");
            streams.stdout(port).write_all(text.as_bytes()).unwrap();
        }
        SUCCESS
    });
    let lines: Vec<String> = (0..200_000).map(|line| format!("line {line}\n")).collect();
    let expected = lines.concat();
    let (deployment, values) = fixture::deployment(&contract, b"program");
    let digest = sha256(&deployment.encode().unwrap());
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    let streams = session
        .run(&values, b"", |stdout| stdout.len() > 500_000)
        .unwrap()
        .unwrap_err();
    let first = usize::try_from(streams.seen(Output::Stdout)).unwrap();
    let mut session = attest(&keep, &key, Wanted::Running(digest)).unwrap();
    let now = session.wire.now();
    session.session.attach(streams, now).unwrap();
    let seen = session.run(&values, b"", |_| false).unwrap().unwrap();
    assert!(seen.stdout == expected.as_bytes()[first..]);
    assert_eq!(seen.exit, SUCCESS);
    keep.join().unwrap();
}

#[test]
fn a_blocked_program_continues_when_old_output_is_dropped() {
    const TOTAL: usize = 8 << 20;
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let written = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&written);
    let keep = Keep::start(contract.clone(), move |port, streams, _| {
        for _ in 0..TOTAL >> 16 {
            streams.stdout(port).write_all(&vec![1; 1 << 16]).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
        }
        SUCCESS
    });
    let (mut deployment, values) = fixture::deployment(&contract, b"program");
    deployment.detached.when_full = WhenFull::Drop;
    let digest = sha256(&deployment.encode().unwrap());
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    let mut running = session.start(&values);
    running.until(|it| it.stdout.len() > 100_000);
    // Nobody reads any more, and the connection stays open: the program has to wait.
    let mut before = 0;
    let stopped = loop {
        thread::sleep(Duration::from_millis(200));
        let now = written.load(Ordering::SeqCst);
        if now == before {
            break now;
        }
        before = now;
    };
    assert!((stopped as usize) < TOTAL >> 16, "{stopped}");
    let streams = running.session.into_streams();
    drop(running.wire);
    // Once the Keep has noticed.
    let start = Instant::now();
    while written.load(Ordering::SeqCst) == stopped {
        assert!(start.elapsed() < PATIENCE, "the program does not go on");
        thread::sleep(Duration::from_millis(2));
    }
    let mut session = attest(&keep, &key, Wanted::Running(digest)).unwrap();
    let now = session.wire.now();
    session.session.attach(streams, now).unwrap();
    let seen = session.run(&values, b"", |_| false).unwrap().unwrap();
    assert_eq!(seen.exit, SUCCESS);
    assert_eq!(seen.receipt.body.streams.stdout.bytes, TOTAL as u64);
    assert!(seen.receipt.body.streams.stdout.dropped > 0);
    keep.join().unwrap();
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

/// A deployment of a program with this configuration.
fn configured(contract: &Contract, configuration: &[u8]) -> (Deployment, Values) {
    let (mut deployment, mut values) = fixture::deployment(contract, b"program");
    deployment.configuration.digest = Hex(sha256(configuration));
    deployment.configuration.size = configuration.len() as u64;
    values[1] = configuration.to_vec();
    (deployment, values)
}

#[test]
fn a_computing_application_ends_in_time_and_has_a_receipt() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |terms| terms.times.runtime_seconds_max = 1);
    // It computes until the test is over, which is far longer than the Keep permits.
    let (over, is_over) = channel::<()>();
    let keep = Keep::start(contract.clone(), move |_, _, _| {
        let _ = is_over.recv();
        SUCCESS
    });
    let (deployment, values) = fixture::smallest(&contract, b"program");
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    let seen = session.run(&values, b"", |_| false).unwrap().unwrap();
    assert_eq!(seen.exit.kind, ExitKind::Expired);
    assert_eq!(seen.receipt.body.exit, seen.exit);
    drop(over);
    keep.join().unwrap();
}

#[test]
fn an_unclaimed_keep_ends_and_says_why() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |terms| terms.times.unprovisioned_seconds = 1);
    let start = Instant::now();
    let keep = Keep::start(contract, shout);
    assert_eq!(keep.join(), Err(SessionError::Unclaimed(1)));
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_configuration_beyond_the_contract_is_refused_by_name() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let keep = Keep::start(contract.clone(), shout);
    for (configuration, code) in [
        (&br#"{"network":{"tcp":true}}"#[..], "contract.doors"),
        (
            br#"{"directories":[{"guest_path":"/d","read_only":true}]}"#,
            "contract.doors",
        ),
        (br#"{"attest":[1,2,3]}"#, "release.refused"),
        (b"{", "release.refused"),
    ] {
        let (deployment, values) = configured(&contract, configuration);
        let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
        session.release(&deployment);
        let refusal = session.run(&values, b"", |_| false).unwrap_err();
        assert!(refusal.is_claimed_by_peer());
        assert_eq!(refusal.code(), code);
    }
    // Nothing was started, so the right one still can be.
    let (deployment, values) = fixture::deployment(&contract, b"program");
    // The burst is four reports.
    thread::sleep(Duration::from_millis(2_100));
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    let seen = session.run(&values, b"x", |_| false).unwrap().unwrap();
    assert_eq!(seen.stdout, b"X");
    keep.join().unwrap();
}

#[test]
fn an_oversized_delivery_or_a_non_text_variable_is_refused() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let keep = Keep::start(contract.clone(), |_, _, _| panic!("it is not to run"));
    let (mut large, values) = fixture::smallest(&contract, b"program");
    // One byte more than the free memory of the ground, with the two of the configuration.
    large.application.size = (64 << 20) - 1;
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&large);
    let refused = session.run(&values, b"", |_| false).unwrap_err();
    let (total, free) = ((64 << 20) + 1, 64 << 20);
    let expected = Unfit::TooLarge { total, free };
    assert_eq!(refused, of_peer(&expected.into()));
    for bad in [&b"\xff"[..], b"a\0b"] {
        let (mut deployment, mut values) = fixture::deployment(&contract, b"program");
        let secret = &mut deployment.secrets[0];
        secret.size = bad.len() as u64;
        secret.commitment = Hex(commitment(&deployment.salt.0, &secret.name, bad));
        values[4] = bad.to_vec();
        let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
        session.release(&deployment);
        let refused = session.run(&values, b"", |_| false).unwrap_err();
        let expected = Unfit::SecretIsNoText("PASSWORD".to_owned());
        assert_eq!(refused, of_peer(&expected.into()));
    }
}

#[test]
fn a_configuration_cannot_set_what_the_session_decides() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let keep = Keep::start(contract.clone(), |port, streams, delivered| {
        assert!(!delivered.is_native);
        let own = delivered.configuration.clone();
        assert!(!own.timings && !own.precompiled && own.compile.is_none());
        shout(port, streams, delivered)
    });
    let configuration =
        br#"{"timings":true,"precompiled":true,"compile":{"cpu":null,"turns":false}}"#;
    let (deployment, values) = configured(&contract, configuration);
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    let seen = session.run(&values, b"x", |_| false).unwrap().unwrap();
    assert_eq!(seen.stdout, b"X");
    keep.join().unwrap();
}

#[test]
fn a_configuration_may_use_only_doors_of_the_contract() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |terms| {
        terms.doors.connect = vec!["db.example:53/udp".parse().unwrap()];
    });
    let keep = Keep::start(contract.clone(), shout);
    let run = |configuration: &[u8]| {
        let (deployment, values) = configured(&contract, configuration);
        let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
        session.release(&deployment);
        session.run(&values, b"x", |_| false)
    };
    let refusal = run(br#"{"network":{"tcp":true}}"#).unwrap_err();
    assert_eq!(refusal.code(), "contract.doors");
    let seen = run(br#"{"network":{"udp":true,"name_lookup":true}}"#);
    assert_eq!(seen.unwrap().unwrap().stdout, b"X");
    keep.join().unwrap();
}

#[test]
fn a_delivered_server_needs_a_door_and_a_certificate_or_insecure() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |terms| {
        terms.doors.listen = vec!["127.0.0.1:443/tcp".parse().unwrap()];
    });
    let keep = Keep::start(contract.clone(), |port, streams, delivered| {
        let serve = delivered.configuration.serve.as_ref().unwrap();
        assert_eq!(serve.listen.as_ref().unwrap().port, 443);
        shout(port, streams, delivered)
    });
    let run = |rest: &str| {
        let serve = format!(r#""timeout":null,"grace":1,"connections":1,"requests":1{rest}"#);
        let configuration = format!(r#"{{"serve":{{{serve}}}}}"#);
        let (deployment, values) = configured(&contract, configuration.as_bytes());
        let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
        session.release(&deployment);
        session.run(&values, b"x", |_| false)
    };
    let insecure = r#","insecure_http":true"#;
    let listen = |at: &str| format!(r#","listen":{at}"#);
    let here = listen(r#"{"address":"127.0.0.1","port":443}"#);
    let doors = ContractError::Doors {
        wanted: "listening at port 443 (TCP)".to_owned(),
    };
    for (rest, expected) in [
        (insecure.to_owned(), Unfit::NoAddress.into()),
        (here.clone(), Unfit::NoCertificate.into()),
        (
            listen(r#"{"address":null,"port":443}"#) + insecure,
            doors.into(),
        ),
    ] {
        assert_eq!(run(&rest).unwrap_err(), of_peer(&expected));
    }
    let seen = run(&format!("{here}{insecure}")).unwrap().unwrap();
    assert_eq!(seen.stdout, b"X");
    keep.join().unwrap();
}

#[test]
fn a_program_that_waits_for_its_end_learns_its_grace_period() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let (sender, times) = channel();
    let keep = Keep::start(contract.clone(), move |port, streams, _| {
        streams.stdout(port).write_all(b"waits").unwrap();
        let left = port.block_on(streams.grace());
        sender.send(left).unwrap();
        SUCCESS
    });
    let (deployment, values) = fixture::deployment(&contract, b"program");
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    let mut run = session.start(&values);
    run.until(|run| run.stdout == b"waits");
    assert!(times.try_recv().is_err());
    run.session.stop(60_000).unwrap();
    let seen = run.end().unwrap();
    assert_eq!(seen.exit, SUCCESS);
    let left = times.recv().unwrap();
    // A busy machine takes some of it.
    let (least, most) = (Duration::from_secs(30), Duration::from_mins(1));
    assert!((least..=most).contains(&left), "{left:?}");
    keep.join().unwrap();
}

#[test]
fn a_throttled_secure_processor_is_busy_not_broken() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let keep = Keep::start(contract.clone(), shout);
    keep.processor.busy.store(true, Ordering::Relaxed);
    let refusal = attest(&keep, &key, Wanted::Fresh).map(drop).unwrap_err();
    assert_eq!(refusal.code(), "evidence.busy");
    keep.processor.busy.store(false, Ordering::Relaxed);
    let (deployment, values) = fixture::deployment(&contract, b"program");
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    session.run(&values, b"", |_| false).unwrap().unwrap();
    keep.join().unwrap();
}

#[test]
fn output_and_stop_continue_while_the_secure_processor_works() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    // It writes what it reads, and ends at the end of its standard input.
    let keep = Keep::start(contract.clone(), shout);
    let (deployment, values) = fixture::deployment(&contract, b"program");
    let mut session = attest(&keep, &key, Wanted::Fresh).unwrap();
    session.release(&deployment);
    let mut run = session.start(&values);
    run.feed(b"before");
    run.until(|run| run.stdout == b"BEFORE");
    let digest = sha256(&deployment.encode().unwrap());
    thread::scope(|scope| {
        let processor = Arc::clone(&keep.processor);
        let turn = processor.at_work.lock().unwrap();
        // Somebody attests the Keep again, and waits.
        let second = scope.spawn(|| attest(&keep, &key, Wanted::Running(digest)).map(drop));
        processor.await_asked(2);
        run.feed(b" during");
        run.until(|run| run.stdout == b"BEFORE DURING");
        // The receipt needs a report, too; the output and the end of the program do not.
        run.session.stop(10_000).unwrap();
        run.until(|run| run.exit == Some(Exit { code: 7, ..SUCCESS }));
        assert_eq!(run.stderr, b"13 bytes\n");
        assert!(!run.receipt && !second.is_finished());
        drop(turn);
        second.join().unwrap().unwrap();
    });
    let seen = run.end().unwrap();
    assert!(seen.receipt.report.is_some());
    keep.join().unwrap();
}

#[test]
fn a_keep_that_differs_from_its_contract_ends_and_shows_nothing() {
    let key = Key::generate().unwrap();
    let own = contract(&key.public(), |terms| terms.resources.memory = 2 * MEMORY);
    let keep = Keep::start(own, shout);
    assert!(attest(&keep, &key, Wanted::Fresh).is_err());
    let error = keep.join().unwrap_err();
    assert!(
        matches!(
            &error,
            SessionError::Fault(Fault::Contract(ContractError::Terms {
                term: Term::Memory,
                ..
            }))
        ),
        "{error}"
    );
}

#[test]
fn an_invalid_contract_and_a_missing_door_are_refused() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let attester = || Arc::new(ProcessorLink(Processor::new(&contract)));
    let (port, _host) = InProcess::start(World::default());
    let refused = Session::open(&port, b"{}", 2, MEMORY, attester()).map(drop);
    assert!(matches!(refused, Err(SessionError::Contract(_))));
    let session = Session::open(&port, contract.bytes(), 2, MEMORY, attester()).unwrap();
    assert_eq!(session.receive().map(drop), Err(SessionError::NoDoor));
}

/// The bytes that were not taken would be missing in the middle of the tenant's output.
#[test]
fn a_connection_is_given_up_after_a_short_write() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |terms| terms.times.unprovisioned_seconds = 1);
    for less in [0, 1] {
        let mut hello = vec![0; 64 << 10];
        let count = Connection::tenant(&key).unwrap().outgoing(&mut hello);
        hello.truncate(count);
        let (mut comes, mut says) = (true, Some(hello));
        let (port, host) = Liar::start(move |call, _| match call {
            // One peer, which sends one message.
            Call::TcpAccept { .. } => std::mem::take(&mut comes).then(|| Answer::value(50)),
            Call::StreamRead { .. } => says.take().map(|hello| Answer::bytes(&hello)),
            Call::StreamWrite { length, .. } => Some(Answer::value(u64::from(*length - less))),
            _ => Some(Answer::default()),
        });
        let attester = Arc::new(ProcessorLink(Processor::new(&contract)));
        let session = Session::open(&port, contract.bytes(), 2, MEMORY, attester).unwrap();
        let ended = session.receive().map(drop);
        assert_eq!(ended, Err(SessionError::Unclaimed(1)));
        let (calls, handle) = (host.calls(), Handle(50));
        let answered = |call: &Call| matches!(call, Call::StreamWrite { .. });
        assert!(calls.iter().any(answered), "{calls:?}");
        let is_closed = calls.contains(&Call::Close { handle });
        assert_eq!(is_closed, less > 0, "{calls:?}");
    }
}

/// A Keep that nobody claims for a second, behind a door to which these peers connect; each sends one message. The host's calls.
fn calls_of_a_door(peers: u32, says: &'static [u8]) -> Vec<Call> {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |terms| terms.times.unprovisioned_seconds = 1);
    let (mut handle, mut spoken) = (50, Vec::new());
    let (port, host) = Liar::start(move |call, _| match call {
        Call::TcpAccept { .. } if handle < 50 + peers => {
            handle += 1;
            Some(Answer::value(handle.into()))
        }
        Call::TcpAccept { .. } => None,
        Call::StreamRead { stream, .. } if says.is_empty() || spoken.contains(stream) => None,
        Call::StreamRead { stream, .. } => {
            spoken.push(*stream);
            Some(Answer::bytes(says))
        }
        Call::StreamWrite { length, .. } => Some(Answer::value((*length).into())),
        _ => Some(Answer::default()),
    });
    let attester = Arc::new(ProcessorLink(Processor::new(&contract)));
    let session = Session::open(&port, contract.bytes(), 2, MEMORY, attester).unwrap();
    let ended = session.receive().map(drop);
    assert_eq!(ended, Err(SessionError::Unclaimed(1)));
    host.calls()
}

#[test]
fn a_door_accepts_at_most_three_silent_peers() {
    let calls = calls_of_a_door(10, b"");
    let accepts = |call: &&Call| matches!(call, Call::TcpAccept { .. });
    assert_eq!(calls.iter().filter(accepts).count(), 3);
    let closes = |call: &Call| matches!(call, Call::Close { .. });
    assert!(!calls.iter().any(closes), "{calls:?}");
}

#[test]
fn a_door_serves_ten_at_once_and_refuses_others_for_a_while() {
    let calls = calls_of_a_door(12, b"GET / HTTP/1.1\r\n\r\n");
    for (peer, handle) in (1..=12).zip((51..).map(Handle)) {
        let hears =
            |call: &Call| matches!(call, Call::StreamRead { stream, .. } if *stream == handle);
        assert_eq!(calls.iter().any(hears), peer <= 10, "{peer}: {calls:?}");
        assert!(calls.contains(&Call::Close { handle }), "{peer}: {calls:?}");
    }
}

#[test]
fn a_peer_that_does_not_speak_tls_is_closed_at_once() {
    let calls = calls_of_a_door(1, b"GET / HTTP/1.1\r\n\r\n");
    let handle = Handle(51);
    assert!(calls.contains(&Call::Close { handle }), "{calls:?}");
}

/// A precompiled application whose WebAssembly was these bytes.
fn native(source: &[u8]) -> Vec<u8> {
    let facts = Facts {
        component: false,
        joined: false,
        turns: false,
        concurrent: false,
        memory: 0,
        table: 0,
    };
    let parts = Precompiled::new(facts, source, b"code");
    [&parts.head()[..], parts.code].concat()
}

/// A deployment of this precompiled application, which says what its WebAssembly was.
fn of_native(contract: &Contract, program: Vec<u8>, source: Option<&[u8]>) -> (Deployment, Values) {
    let (mut deployment, mut values) = configured(contract, b"{}");
    deployment.application = Object {
        digest: Hex(sha256(&program)),
        size: program.len() as u64,
    };
    deployment.source = source.map(|source| Hex(sha256(source)));
    deployment.detached.seconds = 0;
    values[0] = program;
    (deployment, values)
}

#[test]
fn native_code_runs_after_the_report_of_its_receipt() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let (deployment, values) = of_native(&contract, native(b"wasm"), Some(b"wasm"));
    let (say, said) = channel();
    let keep = Keep::start(contract, move |port, streams, delivered| {
        assert!(delivered.is_native && delivered.configuration.precompiled);
        say.send(()).unwrap();
        shout(port, streams, delivered)
    });
    let mut attested = attest(&keep, &key, Wanted::Fresh).unwrap();
    attested.release(&deployment);
    let mut running = attested.start(&values);
    running.until(|_| said.try_recv().is_ok());
    // One for the evidence, one before the code.
    assert_eq!(keep.processor.asked.load(Ordering::SeqCst), 2);
    let refused = attest(&keep, &key, Wanted::Running([0; 32])).err().unwrap();
    assert_eq!(refused.code(), "evidence.native");
    running.feed(b"abc");
    running.stdin_ends = true;
    let seen = running.end().unwrap();
    assert_eq!(seen.stdout, b"ABC");
    assert_eq!(keep.processor.asked.load(Ordering::SeqCst), 2);
    let claims = Claims {
        precompiled: true,
        ..Claims::default()
    };
    assert_eq!(seen.receipt.verify(&Marks, &claims), Ok(()));
    keep.join().unwrap();
}

#[test]
fn native_code_that_is_ended_before_its_last_report_does_not_run() {
    let key = Key::generate().unwrap();
    let contract = contract(&key.public(), |_| ());
    let (deployment, values) = of_native(&contract, native(b"wasm"), Some(b"wasm"));
    let (say, said) = channel();
    let keep = Keep::start(contract, move |_, _, _| {
        say.send(()).unwrap();
        SUCCESS
    });
    let mut attested = attest(&keep, &key, Wanted::Fresh).unwrap();
    let turn = keep.processor.at_work.lock().unwrap();
    attested.release(&deployment);
    let mut running = attested.start(&values);
    running.until(|_| keep.processor.asked.load(Ordering::SeqCst) == 2);
    running.session.stop(0).unwrap();
    running.until(|run| run.exit.is_some());
    drop(turn);
    let seen = running.end().unwrap();
    assert_eq!(seen.exit.kind, ExitKind::Stopped);
    // That of the receipt was asked for when it was ended.
    assert_eq!(keep.processor.asked.load(Ordering::SeqCst), 3);
    // Its thread waits forever, and the Keep has ended.
    let ran = said.recv_timeout(Duration::from_secs(1));
    assert_eq!(ran, Err(RecvTimeoutError::Timeout));
}

#[test]
fn native_code_that_contradicts_its_deployment_is_refused() {
    let source = Some(&b"wasm"[..]);
    let mut damaged = native(b"wasm");
    damaged.pop();
    let unreadable = PrecompiledError::Damaged.to_string();
    for (program, source, expected) in [
        (native(b"wasm"), None, Unfit::UndeclaredNativeCode),
        (b"\0asm".to_vec(), source, Unfit::NoNativeCode),
        (native(b"other"), source, Unfit::OtherSource),
        (damaged, source, Unfit::NativeCode(unreadable)),
    ] {
        let key = Key::generate().unwrap();
        let contract = contract(&key.public(), |_| ());
        let (deployment, values) = of_native(&contract, program, source);
        let keep = Keep::start(contract, |_, _, _| panic!("it is not to run"));
        let mut attested = attest(&keep, &key, Wanted::Fresh).unwrap();
        attested.release(&deployment);
        let refused = attested.run(&values, b"", |_| false).err().unwrap();
        assert_eq!(refused, of_peer(&expected.into()));
    }
}
