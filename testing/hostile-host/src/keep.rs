// SPDX-License-Identifier: Apache-2.0

//! A Keep in the test: the Keep's own state machine over the Keep's own TLS, with reports of [`Chip`], and every way in
//! which a host could replace it.

use crate::chip::Chip;
use crate::record::Log;
use enarx_contract::canonical::{Base64, Hex};
use enarx_contract::{Contract, KeepFacts, PublicKey};
use enarx_session::binding::{Binding, Exporter, State};
use enarx_session::document::{Attest, Evidence, Exit, ExitKind, Format, Refused, Started, decode};
use enarx_session::frame::{self, Decoder, End, HEADER, Kind};
use enarx_session::keep::{Connection, Event, Fault, Keep, Order, Output};
use enarx_session::receipt::Receipt;
use enarx_session::{Moment, Refusal};
use enarx_snp::report::Report;
use enarx_tls::{Connection as Tls, Facts, Key};
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A new key.
///
/// # Panics
/// Without random bytes of the system.
pub fn key() -> Key {
    Key::generate().expect("a key")
}

/// The application's behaviour.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// Echoes standard input to standard output; at its end it says "done" on standard error and exits with 7.
    Echo,
    /// Writes so many bytes ([`flood`]) and exits with 0.
    Flood(usize),
    /// Waits until it is stopped.
    Wait,
}

/// The trick that the Keep plays, or that something in its place plays.
#[derive(Clone, Copy)]
pub enum Misbehaviour {
    /// It is a Keep.
    None,
    /// The report is changed before it is signed.
    Report(fn(&mut Report)),
    /// The report is changed after it was signed.
    Forged(fn(&mut Report)),
    /// The report is about an earlier session, with another nonce and another exporter.
    Earlier,
    /// The number of the evidence is another.
    Sequence,
    /// There is no report.
    FormatNone,
    /// A frame that says it has 4 GiB.
    Length,
    /// The Keep is given another contract than it was launched for.
    OtherContract,
    /// It is said to run something.
    Provisioned,
    /// No answer at all.
    Silent,
    /// It says that it gets no report.
    Busy,
    /// It sends something else than evidence.
    Babble,
    /// An older report again, in answer to the second ATTEST.
    RepeatSecond,
    /// Sends so many frames on its first connection, and half of the next, and is cut.
    Cut(usize),
    /// Everything after the first evidence is lost, and the connection cut.
    Deaf,
    /// It claims to run one deployment and binds another, after a change of the report.
    Running {
        /// SHA-256 of the deployment that it names.
        claimed: [u8; 32],
        /// SHA-256 of the deployment that its report binds.
        bound: [u8; 32],
        /// The change, before the report is signed.
        change: fn(&mut Report),
    },
    /// The receipt has a signature of another key.
    ReceiptSignature,
    /// The receipt has a report on something else.
    ReceiptReport,
    /// The receipt has no report.
    ReceiptWithoutReport,
    /// The receipt claims other output.
    ReceiptStreams,
    /// No receipt.
    ReceiptDropped,
}

/// A Keep that can be started again and again.
#[derive(Clone)]
pub struct Guest {
    /// Its reports are of this chip.
    pub chip: Chip,
    /// The Keep's key.
    pub key: Key,
    /// Its application.
    pub program: Program,
    /// Its trick.
    pub misbehaviour: Misbehaviour,
    /// The record of everything that it saw.
    pub log: Log,
    /// The Keeps that live.
    pub rooms: Rooms,
    /// After how many frames each of the next connections is cut.
    pub cuts: Arc<Mutex<VecDeque<usize>>>,
    /// True once [`Misbehaviour::Deaf`] has played its trick.
    pub deaf: Arc<AtomicBool>,
}

/// Keeps that live, by their contracts.
pub type Rooms = Arc<Mutex<HashMap<[u8; 32], Arc<Mutex<Room>>>>>;

/// A Keep that lives, with its application.
pub struct Room {
    keep: Keep,
    /// HOST_DATA: the digest of the contract for which it was launched.
    launched: [u8; 32],
    running: Option<Running>,
}

/// One end of a TLS connection over a stream.
pub struct Link<S> {
    stream: S,
    tls: Tls,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// The end of a connection that has not begun.
    pub fn new(stream: S, tls: Tls) -> Self {
        Self { stream, tls }
    }

    async fn flush(&mut self) -> Option<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = self.tls.outgoing(&mut buffer);
            if count == 0 {
                return self.stream.flush().await.ok();
            }
            self.stream.write_all(&buffer[..count]).await.ok()?;
        }
    }

    /// Receives plaintext; `None` at the end. Empty when the handshake went on.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        self.receive_until(std::future::pending()).await
    }

    /// The same, but gives up with nothing when `over` is ready.
    async fn receive_until(&mut self, over: impl Future<Output = ()>) -> Option<Vec<u8>> {
        let mut over = pin!(over);
        let mut wire = vec![0; 16 << 10];
        let mut plain = vec![0; 64 << 10];
        loop {
            let count = self.tls.read(&mut plain);
            if count > 0 {
                plain.truncate(count);
                return Some(plain);
            }
            if self.tls.is_closed_by_peer() {
                return None;
            }
            let count = tokio::select! {
                count = self.stream.read(&mut wire) => count.ok()?,
                () = &mut over => return Some(Vec::new()),
            };
            let mut rest = &wire[..count];
            if rest.is_empty() {
                return None;
            }
            let mut all = Vec::new();
            while !rest.is_empty() {
                let result = self.tls.receive(&mut rest);
                let count = self.tls.read(&mut plain);
                all.extend_from_slice(&plain[..count]);
                if result.is_err() {
                    let _ = self.flush().await;
                    return None;
                }
            }
            self.flush().await?;
            if !all.is_empty() || self.tls.facts().is_some() && !self.tls.has_outgoing() {
                return Some(all);
            }
        }
    }

    /// Completes the handshake, and returns its facts and the plaintext that came with it.
    pub async fn handshake(&mut self) -> Option<(Facts, Vec<u8>)> {
        self.flush().await?;
        let mut plain = Vec::new();
        while self.tls.facts().is_none() {
            plain.extend(self.receive().await?);
        }
        Some((self.tls.facts()?.clone(), plain))
    }

    /// Sends plaintext; `None` if nobody takes it.
    pub async fn send(&mut self, mut bytes: &[u8]) -> Option<()> {
        while !bytes.is_empty() {
            let count = self.tls.write(bytes);
            bytes = &bytes[count..];
            self.flush().await?;
        }
        Some(())
    }

    async fn close(&mut self) {
        self.tls.close();
        let _ = self.flush().await;
    }
}

/// Time of the Keep, in milliseconds since the first Keep of this process.
fn now() -> Moment {
    use std::sync::OnceLock;
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let start = *START.get_or_init(std::time::Instant::now);
    Moment(u64::try_from(start.elapsed().as_millis()).expect("a short test"))
}

/// Puts the launch digest of a contract's image into a report.
fn measure(report: &mut Report, contract: &Contract) {
    if let Some(image) = &contract.terms().image {
        report.measurement = image.measurement.0;
    }
}

/// Another contract of the same parties.
fn other(contract: &Contract) -> Contract {
    let mut terms = contract.terms().clone();
    terms.id.0[0] ^= 1;
    Contract::new(terms).expect("a contract")
}

/// A sender of frames that is cut after so many.
struct Frames {
    left: usize,
    bytes: Vec<u8>,
}

impl Frames {
    /// Of `bytes`, those that are still sent; `None` after them: cut.
    fn pass(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        self.bytes.extend_from_slice(bytes);
        let mut passed = Vec::new();
        while let Some(header) = self.bytes.first_chunk::<HEADER>() {
            let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let length = HEADER + length as usize;
            if self.bytes.len() < length {
                break;
            }
            if self.left == 0 {
                passed.extend(self.bytes.drain(..length / 2));
                return (passed, true);
            }
            self.left -= 1;
            passed.extend(self.bytes.drain(..length));
        }
        (passed, false)
    }
}

impl Guest {
    /// The tenant that the contract names, or nobody.
    fn admits(contract: &Contract) -> Arc<dyn Fn(&PublicKey) -> bool + Send + Sync> {
        let terms = contract.terms().clone();
        Arc::new(move |key| terms.admits(key, None))
    }

    /// Serves one connection of the tenant.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S, contract: Contract) {
        let tls = Tls::keep(&self.key, Self::admits(&contract)).expect("a configuration");
        let mut link = Link::new(stream, tls);
        let Some((facts, first)) = link.handshake().await else {
            return;
        };
        let result = match self.misbehaviour {
            Misbehaviour::None
            | Misbehaviour::OtherContract
            | Misbehaviour::Cut(_)
            | Misbehaviour::Deaf
            | Misbehaviour::RepeatSecond
            | Misbehaviour::ReceiptSignature
            | Misbehaviour::ReceiptReport
            | Misbehaviour::ReceiptWithoutReport
            | Misbehaviour::ReceiptStreams
            | Misbehaviour::ReceiptDropped => self.run(&mut link, facts, first, contract).await,
            _ => self.deceive(&mut link, &facts, first, &contract).await,
        };
        if result.is_some() {
            link.close().await;
        }
    }

    /// Sends self-made evidence, and records the tenant's bytes.
    async fn deceive<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        link: &mut Link<S>,
        facts: &Facts,
        first: Vec<u8>,
        contract: &Contract,
    ) -> Option<()> {
        let mut decoder = Decoder::new(End::Tenant);
        let mut plain = first;
        loop {
            self.log.plain(&plain);
            let mut input = &plain[..];
            while let Ok(Some(frame)) = decoder.take(&mut input) {
                self.log.frame(frame.kind);
                if frame.kind == Kind::Attest {
                    let attest: Attest = decode(Kind::Attest, frame.payload).expect("ATTEST");
                    if let Some(answer) = self.evidence(&attest, facts, contract) {
                        link.send(&answer).await?;
                    }
                }
            }
            plain = link.receive().await?;
        }
    }

    /// A frame that is said to be a Keep's evidence.
    fn evidence(&self, attest: &Attest, facts: &Facts, contract: &Contract) -> Option<Vec<u8>> {
        let other = Exporter::new([9; 32]).expect("not zeros");
        let earlier = matches!(self.misbehaviour, Misbehaviour::Earlier);
        let binding = Binding {
            sequence: attest.seq,
            nonce: if earlier { &[9; 32] } else { &attest.nonce.0 },
            exporter: if earlier { &other } else { &facts.exporter },
            keep: &facts.own,
            tenant: &facts.peer,
            contract: contract.digest(),
            deployment: match &self.misbehaviour {
                Misbehaviour::Running { bound, .. } => Some(bound),
                _ => None,
            },
        };
        let report_data = binding.report_data();
        let host_data = contract.digest().0;
        let mut evidence = Evidence {
            seq: attest.seq,
            state: State::Unprovisioned,
            format: Format::Snp,
            report: Some(Base64(self.chip.report(report_data, host_data, |report| {
                measure(report, contract);
                if let Misbehaviour::Report(change) | Misbehaviour::Running { change, .. } =
                    self.misbehaviour
                {
                    change(report);
                }
            }))),
            deployment: None,
        };
        match self.misbehaviour {
            Misbehaviour::Sequence => evidence.seq += 1,
            Misbehaviour::FormatNone => {
                evidence.format = Format::None;
                evidence.report = None;
            }
            Misbehaviour::Provisioned => {
                evidence.state = State::Provisioned;
                evidence.deployment = Some(Hex([1; 32]));
            }
            Misbehaviour::Running { claimed, .. } => {
                evidence.state = State::Provisioned;
                evidence.deployment = Some(Hex(claimed));
            }
            Misbehaviour::Forged(change) => {
                let bytes = self
                    .chip
                    .report(report_data, host_data, |report| measure(report, contract));
                let mut report = *Report::parse(&bytes).expect("a report");
                change(&mut report);
                let bytes = zerocopy::IntoBytes::as_bytes(&report).to_vec();
                evidence.report = Some(Base64(bytes));
            }
            Misbehaviour::Silent => return None,
            Misbehaviour::Length => {
                let mut frame = frame::encode(Kind::Evidence, frame::CONTROL, b"{}")?;
                frame[..4].fill(0xff);
                return Some(frame);
            }
            Misbehaviour::Busy => {
                let refused = Refused::new(&Refusal::Busy);
                let payload = serde_json::to_vec(&refused).expect("a document");
                return frame::encode(Kind::Refused, frame::CONTROL, &payload);
            }
            Misbehaviour::Babble => return frame::encode(Kind::Data, frame::STDOUT, b"trust me"),
            _ => {}
        }
        let payload = serde_json::to_vec(&evidence).expect("a document");
        frame::encode(Kind::Evidence, frame::CONTROL, &payload)
    }

    /// The Keep of a contract, created if there is none, and launched for another contract if that is its trick.
    fn room(&self, contract: &Contract) -> Arc<Mutex<Room>> {
        let own = KeepFacts {
            tee: contract.terms().platform.tee,
            vcpus: contract.terms().resources.vcpus,
            memory: contract.terms().resources.memory,
        };
        let mut rooms = self.rooms.lock().expect("a lock");
        let room = rooms.entry(contract.digest().0).or_insert_with(|| {
            let given = match self.misbehaviour {
                Misbehaviour::OtherContract => other(contract),
                _ => contract.clone(),
            };
            Arc::new(Mutex::new(Room {
                keep: Keep::new(given, self.key.public(), own, now()),
                launched: contract.digest().0,
                running: None,
            }))
        });
        Arc::clone(room)
    }

    /// True if the Keep of this contract lived and has ended.
    pub fn has_ended(&self, contract: &Contract) -> bool {
        let rooms = self.rooms.lock().expect("a lock");
        let Some(room) = rooms.get(&contract.digest().0) else {
            return false;
        };
        let mut room = room.lock().expect("a lock");
        self.step(&mut room);
        room.keep.is_finished()
    }

    fn report(&self, room: &Room, report_data: [u8; 64]) -> Option<Vec<u8>> {
        let contract = room.keep.contract();
        (contract.terms().platform.tee != enarx_contract::Tee::None).then(|| {
            self.chip.report(report_data, room.launched, |report| {
                measure(report, contract);
            })
        })
    }

    /// Checks the time limits, and continues the application.
    fn step(&self, room: &mut Room) {
        let order = room.keep.tick(now());
        let Some(running) = &mut room.running else {
            return;
        };
        let exit = match order {
            Some(Order::Kill(kind)) => {
                running.over = true;
                Some(Exit { kind, code: 0 })
            }
            other => {
                running.stopped |= other == Some(Order::Stop);
                running.step(self.program, &mut room.keep)
            }
        };
        let Some(exit) = exit else {
            return;
        };
        let sealing = room.keep.exited(exit, now()).expect("it ran");
        let key = match self.misbehaviour {
            Misbehaviour::ReceiptSignature => Key::generate().expect("a key"),
            _ => self.key.clone(),
        };
        let signature = key.sign(&sealing.signing_input).expect("a signature");
        let data = match self.misbehaviour {
            Misbehaviour::ReceiptReport => [1; 64],
            _ => sealing.report_data,
        };
        let report = match self.misbehaviour {
            Misbehaviour::ReceiptWithoutReport => None,
            _ => self.report(room, data),
        };
        if !matches!(self.misbehaviour, Misbehaviour::ReceiptDropped) {
            room.keep
                .seal(signature, report.as_deref())
                .expect("a receipt");
        }
    }

    /// Runs the application as a Keep does.
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        link: &mut Link<S>,
        facts: Facts,
        first: Vec<u8>,
        contract: Contract,
    ) -> Option<()> {
        let room = self.room(&contract);
        let connection = {
            let mut room = room.lock().expect("a lock");
            room.keep.connect(facts.peer, facts.exporter, now())
        };
        let mut connection = connection.ok()?;
        let result = self.converse(link, &room, &mut connection, first).await;
        let mut room = room.lock().expect("a lock");
        room.keep.disconnect(connection, now());
        result
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        link: &mut Link<S>,
        room: &Mutex<Room>,
        connection: &mut Connection,
        first: Vec<u8>,
    ) -> Option<()> {
        let mut frames = Frames {
            left: self
                .cuts
                .lock()
                .expect("a lock")
                .pop_front()
                .unwrap_or(usize::MAX),
            bytes: Vec::new(),
        };
        let mut first_report = None;
        let mut plain = first;
        loop {
            self.log.plain(&plain);
            let mut extra = Vec::new();
            let outgoing = {
                let room = &mut *room.lock().expect("a lock");
                self.take(room, connection, &plain, &mut first_report, &mut extra)?;
                self.step(room);
                let mut all = Vec::new();
                loop {
                    let outgoing = connection.outgoing(&mut room.keep, now()).to_vec();
                    if outgoing.is_empty() {
                        break all;
                    }
                    connection.sent(outgoing.len());
                    all.extend(self.falsify(&outgoing));
                }
            };
            link.send(&extra).await?;
            let (passed, cut) = frames.pass(&outgoing);
            link.send(&passed).await?;
            if cut {
                return None;
            }
            if connection.is_closed() {
                self.log.ended();
                return Some(());
            }
            let over = {
                let room = room.lock().expect("a lock");
                room.running.as_ref().is_some_and(|running| running.over)
            };
            if matches!(self.misbehaviour, Misbehaviour::ReceiptDropped) && over {
                return Some(());
            }
            // Another connection may have changed something.
            let pause = tokio::time::sleep(Duration::from_millis(10));
            plain = link.receive_until(pause).await?;
            if matches!(self.misbehaviour, Misbehaviour::Deaf) && !plain.is_empty() {
                // ATTEST was the first thing that came.
                if first_report.is_some() && !self.deaf.swap(true, Ordering::SeqCst) {
                    return None;
                }
            }
        }
    }

    /// Takes the tenant's bytes; `None`: the Keep ends. `extra` is sent without the Keep.
    fn take(
        &self,
        room: &mut Room,
        connection: &mut Connection,
        mut input: &[u8],
        first_report: &mut Option<Vec<u8>>,
        extra: &mut Vec<u8>,
    ) -> Option<()> {
        while !input.is_empty() {
            let event = match connection.receive(&mut room.keep, &mut input, now()) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(refusal) => {
                    self.log.refusal(refusal.code());
                    break;
                }
            };
            match event {
                Event::Attest(report_data) => {
                    let repeat = matches!(self.misbehaviour, Misbehaviour::RepeatSecond);
                    self.log.frame(Kind::Attest);
                    if let (true, Some(first)) = (repeat, &first_report) {
                        let evidence = Evidence {
                            seq: 2,
                            state: State::Provisioned,
                            format: Format::Snp,
                            report: Some(Base64(first.clone())),
                            deployment: self.log.deployment().map(Hex),
                        };
                        let payload = serde_json::to_vec(&evidence).expect("a document");
                        let bytes = frame::encode(Kind::Evidence, frame::CONTROL, &payload);
                        extra.extend(bytes.expect("a frame"));
                        continue;
                    }
                    let fresh = self.report(room, report_data);
                    if let Err(fault) = connection.evidence(&mut room.keep, fresh.as_deref(), now())
                    {
                        let code = match &fault {
                            Fault::Contract(error) => error.code(),
                            _ => "",
                        };
                        self.log.refusal(code);
                        return None;
                    }
                    *first_report = fresh;
                }
                Event::Release(deployment) => {
                    use sha2::{Digest, Sha256};
                    let bytes = deployment.encode().expect("a deployment");
                    self.log.released(Sha256::digest(bytes).into());
                }
                Event::Part(part, bytes) => self.log.part(part, bytes),
                Event::Start(_) => {
                    self.log.frame(Kind::Start);
                    room.running = Some(Running::default());
                    room.keep.started(Started::default());
                }
                Event::Stop => {
                    self.log.frame(Kind::Stop);
                    if let Some(running) = &mut room.running {
                        running.stopped = true;
                    }
                }
                Event::Attached => self.log.frame(Kind::Attach),
                _ => {}
            }
        }
        Some(())
    }

    /// Changes the receipt on its way, where that is asked for.
    fn falsify(&self, outgoing: &[u8]) -> Vec<u8> {
        if !matches!(self.misbehaviour, Misbehaviour::ReceiptStreams)
            || outgoing.get(4) != Some(&0x61)
        {
            return outgoing.to_vec();
        }
        let mut receipt = Receipt::decode(&outgoing[HEADER..]).expect("a receipt");
        receipt.body.streams.stdout.bytes += 1;
        let input = receipt.body.signing_input().expect("a body");
        receipt.signature = self.key.sign(&input).expect("a signature");
        let payload = receipt.encode().expect("a receipt");
        frame::encode(Kind::Receipt, frame::CONTROL, &payload).expect("a frame")
    }
}

/// Bytes of [`Program::Flood`]: none is like its neighbours, so that none can be lost or doubled unseen.
pub fn flood(range: std::ops::Range<usize>) -> Vec<u8> {
    let byte = |at| u8::try_from(at % 251).expect("less than 251");
    range.map(byte).collect()
}

/// An application that runs.
#[derive(Default)]
struct Running {
    /// Bytes to write before anything is read.
    waiting: Vec<u8>,
    written: usize,
    input_ended: bool,
    stopped: bool,
    over: bool,
}

impl Running {
    /// Continues as far as possible; returns the exit when it has ended.
    fn step(&mut self, program: Program, keep: &mut Keep) -> Option<Exit> {
        if self.over {
            return None;
        }
        let exit = |kind, code| Some(Exit { kind, code });
        let done = match program {
            Program::Echo => loop {
                let count = keep.write(Output::Stdout, &self.waiting);
                self.waiting.drain(..count);
                if !self.waiting.is_empty() {
                    break None;
                }
                if self.input_ended {
                    assert_eq!(keep.write(Output::Stderr, b"done"), 4);
                    break exit(ExitKind::Exited, 7);
                }
                let mut buffer = vec![0; 32 << 10];
                match keep.read_stdin(&mut buffer) {
                    None => break None,
                    Some(0) => self.input_ended = true,
                    Some(count) => self.waiting.extend_from_slice(&buffer[..count]),
                }
            },
            Program::Flood(total) => loop {
                if self.written == total {
                    break exit(ExitKind::Exited, 0);
                }
                let chunk = flood(self.written..total.min(self.written + (32 << 10)));
                let count = keep.write(Output::Stdout, &chunk);
                self.written += count;
                if count == 0 {
                    break None;
                }
            },
            Program::Wait => self.stopped.then_some(Exit {
                kind: ExitKind::Stopped,
                code: 0,
            }),
        };
        self.over = done.is_some();
        done
    }
}

/// A man in the middle: terminates the tenant's TLS with `key`, and talks to a genuine Keep as that tenant, with the
/// tenant's key.
pub async fn relay_between<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    key: Key,
    stolen: Key,
    guest: Guest,
    contract: Contract,
) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let log = guest.log.clone();
    tokio::spawn(async move {
        let _ = tokio::time::timeout(Duration::from_secs(30), guest.serve(far, contract)).await;
    });
    let admits: Arc<dyn Fn(&PublicKey) -> bool + Send + Sync> = Arc::new(|_| true);
    let mut tenant = Link::new(stream, Tls::keep(&key, admits).expect("TLS"));
    let mut keep = Link::new(near, Tls::tenant(&stolen).expect("TLS"));
    let Some((_, mut from_tenant)) = tenant.handshake().await else {
        return;
    };
    if keep.handshake().await.is_none() {
        return;
    }
    // Relays ATTEST to the Keep, and its evidence back, unchanged.
    while from_tenant.is_empty() {
        match tenant.receive().await {
            Some(plain) => from_tenant.extend(plain),
            None => return,
        }
    }
    log.relayed(&from_tenant);
    let mut evidence = Vec::new();
    if keep.send(&from_tenant).await.is_none() {
        return;
    }
    while evidence.is_empty() {
        match keep.receive().await {
            Some(plain) => evidence.extend(plain),
            None => return,
        }
    }
    if tenant.send(&evidence).await.is_none() {
        return;
    }
    while let Some(plain) = tenant.receive().await {
        log.relayed(&plain);
        if keep.send(&plain).await.is_none() {
            return;
        }
    }
}
