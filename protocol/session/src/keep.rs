// SPDX-License-Identifier: Apache-2.0

//! The Keep's end. A [`Keep`] lives as long as the Keep; a [`Connection`] belongs to one TLS connection and is handed the
//! Keep at each call. The caller carries bytes between TLS and the connection, gets reports when a connection asks for
//! them, stores what is delivered, runs the application, and moves its standard streams.
//!
//! A peer is nobody before it is the contract's tenant, and even that one is held to the protocol: a fault closes its
//! connection, never the Keep.

use crate::binding::{Binding, Exporter, Native, State};
use crate::bucket::Bucket;
use crate::deployment::{self, Deployment, Object, Part, WhenFull};
use crate::document::{
    self, Announcement, Attach, Attached, Attest, Bye, Evidence, Exit, ExitKind, Format, Refused,
    Started, Stop,
};
use crate::frame::{self, CONTROL, DELIVERY, Decoder, End, Frame, Kind, STDERR, STDIN, STDOUT};
use crate::outbox::Outbox;
use crate::receipt::{self, Body, Receipt, Stream, Streams};
use crate::retained::Retained;
use crate::{Moment, Refusal, VERSION, WINDOW, time};
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;
use enarx_contract::canonical::{Base64, CanonicalError, Hex};
use enarx_contract::{Contract, ContractError, Own, PublicKey, Signature};
use enarx_snp::report::Report;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Most connections of a Keep at a time.
pub const MAX_CONNECTIONS: u32 = 2;

/// Reports that a Keep gives without a pause.
const REPORT_BURST: u64 = 4;

/// Handshakes that a Keep makes without a pause.
const HANDSHAKE_BURST: u64 = 10;

/// An output of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A Keep's duty when a time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The application is to end by itself: close its listeners, fail what it waits for. Its standard input has ended.
    Stop,
    /// The application is to be ended now; its end is of this kind.
    Kill(ExitKind),
    /// Nothing is left to be done: the Keep ends.
    End,
}

/// A fault of the Keep itself. It ends, with exit code 70 and this in its log, and nothing more leaves it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It was launched for other terms than those of its contract.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The secure processor answered something else than a report on what was asked.
    #[error("the report is not the one that was asked for")]
    Report,
    /// Evidence or a receipt that nobody asked for: a fault of the caller.
    #[error("nothing was asked for")]
    Unasked,
    /// A number that fits no document.
    #[error(transparent)]
    Document(#[from] CanonicalError),
}

/// An event of a connection, for its caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing: the machine has dealt with it.
    Handled,
    /// The tenant wants evidence: get a report on this REPORT_DATA and call [`Connection::evidence`], or
    /// [`Connection::refuse`] with [`Refusal::Busy`] when there is none within [`time::EVIDENCE`].
    Attest([u8; 64]),
    /// This is going to be delivered: forget what an earlier connection began to deliver, make room, or
    /// [`Connection::refuse`] with [`Refusal::Release`].
    Release(&'a Deployment),
    /// Bytes of a part, in order. Nothing of a part may be interpreted before [`Self::PartComplete`].
    Part(Part, &'a [u8]),
    /// A part is complete, and is what the deployment names.
    PartComplete(Part),
    /// Everything is there: run it.
    Start(&'a Deployment),
    /// The application is to end by itself; see [`Order::Stop`].
    Stop,
    /// The connection has taken over the streams.
    Attached,
    /// The peer is done with this connection. Send what is left, then close.
    Bye,
}

/// The bytes to be signed for a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// To be signed by the Keep's key, ECDSA over P-256 with SHA-256.
    pub signing_input: Vec<u8>,
    /// REPORT_DATA of the receipt's report. Of native code, that report was made before: [`Keep::last_report`].
    pub report_data: [u8; 64],
}

/// A Keep, as its sessions see it.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub struct Keep {
    contract: Contract,
    key: PublicKey,
    own: Own,
    created: Moment,
    /// The tenant that has taken the Keep, from the first RELEASE on.
    owner: Option<PublicKey>,
    next_connection: u64,
    connections: u32,
    handshakes: Bucket,
    reports: Bucket,
    report_id: Option<[u8; 32]>,
    evidence_count: u64,
    /// The connection that delivers an application.
    delivering: Option<u64>,
    /// Since when a tenant has known what this Keep is, and not released anything: its first evidence, or the end of a
    /// delivery that was cut.
    awaited: Option<Moment>,
    run: Option<Run>,
    finished: bool,
}

/// An application, from START on.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
struct Run {
    deployment: Deployment,
    digest: [u8; 32],
    /// When the tenant's time was that of the deployment.
    anchor: Moment,
    start: Moment,
    started: Option<Started>,
    /// The connection that has the streams.
    attached: Option<u64>,
    detached_since: Moment,
    stdin: Input,
    stdout: Written,
    stderr: Written,
    stop_at: Option<Moment>,
    killed: bool,
    exit: Option<Exit>,
    body: Option<Body>,
    receipt: Option<Vec<u8>>,
}

/// An output of the application.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
struct Written {
    retained: Retained,
    hash: Sha256,
    /// It goes to the session, and not nowhere.
    wanted: bool,
}

/// Standard input of the application.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
struct Input {
    buffer: VecDeque<u8>,
    received: u64,
    /// Bytes that may still come.
    credit: u32,
    /// Bytes used since credit was given.
    used: u32,
    ended: bool,
    /// Nothing of what comes is kept: the application is to end.
    closed: bool,
    read: u64,
    hash: Sha256,
}

impl Input {
    fn new() -> Self {
        Self {
            buffer: VecDeque::new(),
            received: 0,
            credit: WINDOW,
            used: 0,
            ended: false,
            closed: false,
            read: 0,
            hash: Sha256::new(),
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.credit = self
            .credit
            .checked_sub(count)
            .ok_or_else(|| Refusal::protocol("standard input beyond its credit"))?;
        if self.ended && !self.closed {
            return Err(Refusal::protocol("standard input after its end"));
        }
        self.received += u64::from(count);
        if self.closed {
            self.used += count;
        } else {
            self.buffer.extend(bytes);
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let count = buffer.len().min(self.buffer.len());
        if count == 0 {
            return (self.ended || self.closed || buffer.is_empty()).then_some(0);
        }
        // In the two parts in which it lies, and not byte by byte.
        let (first, second) = self.buffer.as_slices();
        let first = first.get(..count.min(first.len()))?;
        let second = second.get(..count.checked_sub(first.len())?)?;
        let (to, rest) = buffer.split_at_mut_checked(first.len())?;
        to.copy_from_slice(first);
        rest.get_mut(..second.len())?.copy_from_slice(second);
        self.buffer.drain(..count);
        self.hash.update(buffer.get(..count)?);
        self.read += count as u64;
        self.used += u32::try_from(count).unwrap_or(u32::MAX);
        Some(count)
    }

    /// Begins on a new connection, and returns how much may come at first.
    fn resume(&mut self) -> u32 {
        let unread = u32::try_from(self.buffer.len()).unwrap_or(WINDOW);
        self.credit = WINDOW.saturating_sub(unread);
        self.used = 0;
        self.credit
    }
}

/// The credit to give, once half of the window is used.
fn grant(credit: &mut u32, used: &mut u32) -> Option<u32> {
    if *used < WINDOW / 2 {
        return None;
    }
    let granted = core::mem::take(used);
    *credit += granted;
    Some(granted)
}

impl Keep {
    /// A Keep with this contract, this key, and what it knows of itself.
    pub fn new(contract: Contract, key: PublicKey, own: Own, now: Moment) -> Self {
        Self {
            contract,
            key,
            own,
            created: now,
            owner: None,
            next_connection: 0,
            connections: 0,
            handshakes: Bucket::new(HANDSHAKE_BURST, time::BETWEEN_CONNECTIONS),
            reports: Bucket::new(REPORT_BURST, time::BETWEEN_REPORTS),
            report_id: None,
            evidence_count: 0,
            delivering: None,
            awaited: None,
            run: None,
            finished: false,
        }
    }

    /// The contract.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// True if a TLS handshake may begin now. Counts it.
    pub fn may_shake_hands(&mut self, now: Moment) -> bool {
        !self.finished && self.connections < MAX_CONNECTIONS && self.handshakes.take(now)
    }

    /// True if the owner of this key may have a session: the question of the TLS handshake.
    pub fn admits(&self, tenant: &PublicKey) -> bool {
        self.contract.terms().admits(tenant, self.owner.as_ref())
    }

    /// Returns [`Self::admits`] as it stands now, for a handshake that asks while the Keep is busy elsewhere. It is asked
    /// again by [`Self::connect`].
    pub fn admission(&self) -> impl Fn(&PublicKey) -> bool + Send + Sync + use<> {
        let (tenant, owner) = (self.contract.terms().tenant, self.owner);
        move |key| tenant.admits(key) && owner.is_none_or(|owner| owner == *key)
    }

    /// True if an application was started.
    pub fn has_run(&self) -> bool {
        self.run.is_some()
    }

    /// True if an application was started, and has ended or was ended.
    pub fn has_exited(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.exit.is_some())
    }

    /// A new connection, with the tenant's key and the exporter of the TLS connection. It must be given back to
    /// [`Self::disconnect`].
    ///
    /// # Errors
    /// [`Refusal::Tenant`] and [`Refusal::Full`].
    pub fn connect(
        &mut self,
        tenant: PublicKey,
        exporter: Exporter,
        now: Moment,
    ) -> Result<Connection, Refusal> {
        if !self.admits(&tenant) {
            return Err(Refusal::Tenant);
        }
        if self.finished || self.connections >= MAX_CONNECTIONS {
            return Err(Refusal::Full);
        }
        self.connections += 1;
        self.next_connection += 1;
        Ok(Connection {
            decoder: Decoder::new(End::Tenant),
            inner: Inner {
                id: self.next_connection,
                tenant,
                exporter,
                outbox: Outbox::default(),
                phase: Phase::Idle,
                sequence: 0,
                asked: None,
                attested: None,
                opened: now,
                heard: now,
                spoke: now,
                told: Told::default(),
                stdin_ended: false,
                closing: false,
            },
        })
    }

    /// Ends a connection, for whatever reason.
    #[allow(clippy::needless_pass_by_value, reason = "nobody uses it any more")]
    pub fn disconnect(&mut self, connection: Connection, now: Moment) {
        self.connections = self.connections.saturating_sub(1);
        self.leave(connection.inner.id, now);
    }

    fn leave(&mut self, id: u64, now: Moment) {
        if self.delivering == Some(id) {
            self.delivering = None;
            self.awaited = Some(now);
        }
        if let Some(run) = &mut self.run
            && run.attached == Some(id)
        {
            run.attached = None;
            run.detached_since = now;
        }
    }

    /// True if the tenant has everything, or will never fetch it: the Keep may end.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// True if the tenant that has had its evidence took [`time::RELEASE`] and released no application.
    pub fn is_release_overdue(&self, now: Moment) -> bool {
        self.run.is_none() && self.release_end().is_some_and(|end| now >= end)
    }

    /// When the tenant that has had its evidence is to have released an application; `None` while one is on its way.
    fn release_end(&self) -> Option<Moment> {
        let awaited = self.awaited.filter(|_| self.delivering.is_none())?;
        Some(awaited.after(time::RELEASE))
    }

    /// Returns the order that is due now. The caller asks at each [`Self::deadline`].
    pub fn tick(&mut self, now: Moment) -> Option<Order> {
        if self.finished {
            return Some(Order::End);
        }
        let deadline = self.deadline()?;
        if now < deadline {
            return None;
        }
        let expires = self.contract.terms().times.runtime_seconds_max;
        let Some(run) = &mut self.run else {
            self.finished = true;
            return Some(Order::End);
        };
        if run.exit.is_some() {
            self.finished = true;
            return Some(Order::End);
        }
        if now >= run.start.after_seconds(expires) {
            run.killed = true;
            return Some(Order::Kill(ExitKind::Expired));
        }
        if run.stop_at.is_some_and(|at| now >= at) {
            run.killed = true;
            return Some(Order::Kill(ExitKind::Stopped));
        }
        run.stop(time::OWN_GRACE, now);
        Some(Order::Stop)
    }

    /// When [`Self::tick`] has something to do next; `None`: not by the clock.
    pub fn deadline(&self) -> Option<Moment> {
        let times = &self.contract.terms().times;
        let Some(run) = &self.run else {
            let end = self.created.after_seconds(times.unprovisioned_seconds);
            let end = end.min(self.release_end().unwrap_or(end));
            return self.delivering.is_none().then_some(end);
        };
        let seconds = run.deployment.detached.seconds;
        let alone = run.attached.is_none();
        let left = alone.then(|| run.detached_since.after_seconds(seconds));
        if run.exit.is_some() {
            return left;
        }
        if run.killed {
            return None;
        }
        let expires = run.start.after_seconds(times.runtime_seconds_max);
        Some(expires.min(run.stop_at.or(left).unwrap_or(expires)))
    }

    /// The application runs.
    pub fn started(&mut self, timings: Started) {
        if let Some(run) = &mut self.run {
            run.started = Some(timings);
        }
    }

    /// Takes what the application writes, and returns how much: less than given, also nothing, when it has to wait until
    /// the tenant has taken more.
    pub fn write(&mut self, output: Output, bytes: &[u8]) -> usize {
        let Some(run) = &mut self.run else { return 0 };
        let drops = run.drops_output();
        let written = run.written(output);
        if !written.wanted {
            return bytes.len();
        }
        if drops {
            written.retained.drop_oldest(bytes.len());
        }
        let count = written.retained.push(bytes);
        written.hash.update(bytes.get(..count).unwrap_or_default());
        count
    }

    /// True if [`Self::write`] takes much at once: at least half of what is kept of an output is free, or the oldest of it
    /// gives way. Half of it is free at the latest when the tenant has used what it was sent.
    pub fn has_room(&self, output: Output) -> bool {
        let Some(run) = &self.run else { return false };
        let written = match output {
            Output::Stdout => &run.stdout,
            Output::Stderr => &run.stderr,
        };
        written.retained.has_room() || run.drops_output()
    }

    /// Gives the application what there is of its standard input: a number of bytes, 0 at the end, `None` when it has to
    /// wait.
    pub fn read_stdin(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.run.as_mut()?.stdin.read(buffer)
    }

    /// True if [`Self::read_stdin`] would not make the application wait.
    pub fn has_stdin(&self) -> bool {
        self.run
            .as_ref()
            .is_some_and(|run| !run.stdin.buffer.is_empty() || run.stdin.ended || run.stdin.closed)
    }

    /// Milliseconds until the application is ended, once it is to end by itself; `None` before.
    pub fn grace_left(&self, now: Moment) -> Option<u64> {
        let run = self.run.as_ref()?;
        run.stop_at.map(|at| at.since(now))
    }

    /// REPORT_DATA of the last report, which is to be made before native code runs: that of its receipt. `None` if the
    /// application is WebAssembly.
    pub fn last_report(&self) -> Option<[u8; 64]> {
        let run = self.run.as_ref()?;
        let native = Native {
            deployment: &run.digest,
            application: &run.deployment.application.digest.0,
            source: &run.deployment.source.as_ref()?.0,
            keep: &self.key,
            tenant: self.owner.as_ref()?,
            contract: self.contract.digest(),
        };
        Some(native.report_data())
    }

    /// The application has ended. Sign what is returned, then call [`Self::seal`].
    ///
    /// # Errors
    /// [`Fault::Unasked`] when none runs; [`Fault::Document`].
    pub fn exited(&mut self, exit: Exit, now: Moment) -> Result<Sealing, Fault> {
        let run = self.run.as_mut().ok_or(Fault::Unasked)?;
        if run.exit.is_some() {
            return Err(Fault::Unasked);
        }
        run.exit = Some(exit);
        run.stdin.closed = true;
        run.stdout.retained.finish();
        run.stderr.retained.finish();
        let time = |moment: Moment| {
            run.deployment
                .now
                .saturating_add(moment.since(run.anchor) / 1000)
        };
        let body = Body {
            version: receipt::VERSION,
            contract: *self.contract.digest(),
            deployment: Hex(run.digest),
            application: run.deployment.application.digest,
            source: run.deployment.source,
            keep_key: self.key,
            tenant_key: self.owner.ok_or(Fault::Unasked)?,
            report_id: self.report_id.map(Hex),
            started: time(run.start),
            ended: time(now),
            exit,
            streams: Streams {
                stdin: Stream {
                    bytes: run.stdin.read,
                    sha256: Hex(run.stdin.hash.clone().finalize().into()),
                    dropped: 0,
                },
                stdout: run.stdout.summary(),
                stderr: run.stderr.summary(),
            },
            evidence_count: self.evidence_count,
        };
        let sealing = Sealing {
            signing_input: body.signing_input()?,
            report_data: body.report_data()?,
        };
        run.body = Some(body);
        Ok(sealing)
    }

    /// Completes the receipt. `report` is `None` where there is no TEE, and when the host let none through in time.
    ///
    /// # Errors
    /// [`Fault::Unasked`] when there is none to complete; [`Fault::Document`].
    pub fn seal(&mut self, signature: Signature, report: Option<&[u8]>) -> Result<(), Fault> {
        let run = self.run.as_mut().ok_or(Fault::Unasked)?;
        let body = run.body.take().ok_or(Fault::Unasked)?;
        let receipt = Receipt {
            body,
            signature,
            report: report.map(|report| Base64(report.to_vec())),
        };
        run.receipt = Some(receipt.encode()?);
        Ok(())
    }
}

impl Run {
    /// True if the oldest output gives way to new output.
    fn drops_output(&self) -> bool {
        self.attached.is_none() && self.deployment.detached.when_full == WhenFull::Drop
    }

    fn is_native(&self) -> bool {
        self.deployment.source.is_some()
    }

    fn written(&mut self, output: Output) -> &mut Written {
        match output {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }

    fn stop(&mut self, grace: u32, now: Moment) {
        let at = now.after(u64::from(grace));
        self.stop_at = Some(self.stop_at.map_or(at, |earlier| earlier.min(at)));
        self.stdin.closed = true;
    }
}

impl Written {
    fn new(wanted: bool, buffer_bytes: u32) -> Self {
        Self {
            retained: Retained::new(buffer_bytes as usize),
            hash: Sha256::new(),
            wanted,
        }
    }

    fn summary(&self) -> Stream {
        Stream {
            bytes: self.retained.end(),
            sha256: Hex(self.hash.clone().finalize().into()),
            dropped: self.retained.dropped(),
        }
    }
}

/// One TLS connection of a Keep.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub struct Connection {
    decoder: Decoder,
    inner: Inner,
}

#[cfg_attr(feature = "copy", derive(Clone, Debug))]
struct Inner {
    id: u64,
    tenant: PublicKey,
    exporter: Exporter,
    outbox: Outbox,
    phase: Phase,
    sequence: u64,
    asked: Option<Asked>,
    /// The state that the last evidence named.
    attested: Option<State>,
    opened: Moment,
    heard: Moment,
    spoke: Moment,
    told: Told,
    /// END of standard input has come on this connection.
    stdin_ended: bool,
    closing: bool,
}

/// The news that an attached connection has been told already.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    started: bool,
    exit: bool,
    receipt: bool,
}

/// An ATTEST without its answer.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
struct Asked {
    report_data: [u8; 64],
    deployment: Option<[u8; 32]>,
}

#[allow(clippy::large_enum_variant, reason = "one or two exist")]
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
enum Phase {
    Idle,
    Delivering(Delivering),
    Attached,
}

/// An application on its way.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
struct Delivering {
    /// `None` while the deployment itself is on its way.
    deployment: Option<(Deployment, [u8; 32])>,
    /// When the deployment was complete: the moment of its time.
    anchor: Moment,
    /// The last part that has begun.
    part: Option<Part>,
    open: Option<Open>,
    /// Bytes of the deployment.
    document: Vec<u8>,
    credit: u32,
    used: u32,
}

/// Something that has been announced and is not complete.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
struct Open {
    hash: Sha256,
    left: u64,
    digest: [u8; 32],
}

impl Connection {
    /// Takes one frame, or as much of one as is there, from the front of `input`; `None` when `input` is used up. After
    /// an error the connection sends why, and everything that still comes is passed over.
    ///
    /// # Errors
    /// [`Refusal`]: this connection is over, the Keep is not.
    pub fn receive<'a>(
        &'a mut self,
        keep: &'a mut Keep,
        input: &mut &[u8],
        now: Moment,
    ) -> Result<Option<Event<'a>>, Refusal> {
        let inner = &mut self.inner;
        inner.notice_successor(keep, now)?;
        if inner.closing {
            *input = &[];
            return Ok(None);
        }
        let frame = match self.decoder.take(input) {
            Ok(None) => return Ok(None),
            Ok(Some(frame)) => frame,
            Err(error) => return Err(inner.refuse(keep, error.into(), now)),
        };
        inner.heard = now;
        // In two steps: an event borrows the connection, a refusal changes it.
        if let Err(refusal) = inner.handle(keep, &frame, now) {
            return Err(inner.refuse(keep, refusal, now));
        }
        Ok(Some(inner.event(keep, frame)))
    }

    /// The answer to [`Event::Attest`]: the report, `None` where there is no TEE. The contract is checked against this
    /// very report before it leaves.
    ///
    /// # Errors
    /// [`Fault`]: the Keep has to end.
    pub fn evidence(
        &mut self,
        keep: &mut Keep,
        report: Option<&[u8]>,
        now: Moment,
    ) -> Result<(), Fault> {
        let asked = self.inner.asked.take().ok_or(Fault::Unasked)?;
        let parsed = match report {
            Some(bytes) => Some(Report::parse(bytes).map_err(|_| Fault::Report)?),
            None => None,
        };
        keep.contract.check_keep(&keep.own, parsed)?;
        if let Some(parsed) = parsed {
            let same_launch = keep.report_id.is_none_or(|id| id == parsed.report_id);
            if parsed.report_data != asked.report_data || !same_launch {
                return Err(Fault::Report);
            }
            keep.report_id = Some(parsed.report_id);
        }
        keep.evidence_count += 1;
        keep.awaited.get_or_insert(now);
        if self.inner.closing {
            return Ok(());
        }
        let state = match asked.deployment {
            None => State::Unprovisioned,
            Some(_) => State::Provisioned,
        };
        let evidence = Evidence {
            seq: self.inner.sequence,
            state,
            format: if report.is_some() {
                Format::Snp
            } else {
                Format::None
            },
            report: report.map(|report| Base64(report.to_vec())),
            deployment: asked.deployment.map(Hex),
        };
        // Its parts have fixed lengths, far within the limit.
        let payload = document::encode(Kind::Evidence, &evidence).map_err(|_| Fault::Report)?;
        self.inner.outbox.put(Kind::Evidence, CONTROL, &payload);
        self.inner.attested = Some(state);
        Ok(())
    }

    /// Ends the connection for a reason of the Keep's own.
    pub fn refuse(&mut self, keep: &mut Keep, refusal: Refusal, now: Moment) {
        self.inner.refuse(keep, refusal, now);
    }

    /// Returns the bytes to send. Empty: nothing now. The caller tells with [`Self::sent`] how many have been sent;
    /// there are never more than a few frames, so a peer that does not read holds up itself.
    pub fn outgoing(&mut self, keep: &mut Keep, now: Moment) -> &[u8] {
        // The refusal is in the outbox then.
        let _ = self.inner.notice_successor(keep, now);
        if self.inner.outbox.is_empty() && !self.inner.closing {
            self.inner.fill(keep, now);
        }
        if !self.inner.outbox.is_empty() {
            self.inner.spoke = now;
        }
        self.inner.outbox.bytes()
    }

    /// Notes that the first `count` bytes of [`Self::outgoing`] have been sent.
    pub fn sent(&mut self, count: usize) {
        self.inner.outbox.sent(count);
    }

    /// True if the connection is over and everything has been sent: close it, with close_notify.
    pub fn is_closed(&self) -> bool {
        self.inner.closing && self.inner.outbox.is_empty()
    }

    /// When [`Self::tick`] has something to do next.
    pub fn deadline(&self) -> Moment {
        let silent = self.inner.spoke.after(time::KEEP_ALIVE);
        match self.inner.attested {
            _ if self.inner.sequence == 0 => self.inner.opened.after(time::ATTEST),
            Some(_) => silent.min(self.inner.heard.after(time::DEAD)),
            None => self.inner.heard.after(time::DEAD),
        }
    }

    /// Looks at the clock; after it, [`Self::outgoing`] may have something.
    ///
    /// # Errors
    /// [`Refusal::Timeout`]: the connection is over.
    pub fn tick(&mut self, keep: &mut Keep, now: Moment) -> Result<(), Refusal> {
        let inner = &mut self.inner;
        let late = if inner.sequence == 0 && now >= inner.opened.after(time::ATTEST) {
            Some("ATTEST")
        } else if now >= inner.heard.after(time::DEAD) {
            Some("sign of life")
        } else {
            None
        };
        match late {
            Some(what) if !inner.closing => Err(inner.refuse(keep, Refusal::Timeout(what), now)),
            _ => Ok(()),
        }
    }
}

impl Inner {
    /// Ends the connection and has the peer told why.
    fn refuse(&mut self, keep: &mut Keep, refusal: Refusal, now: Moment) -> Refusal {
        keep.leave(self.id, now);
        self.phase = Phase::Idle;
        if !self.closing
            && let Ok(payload) = document::encode(Kind::Refused, &Refused::new(&refusal))
        {
            self.outbox.put(Kind::Refused, CONTROL, &payload);
        }
        self.closing = true;
        refusal
    }

    /// A newer connection of the same tenant has taken over.
    fn notice_successor(&mut self, keep: &mut Keep, now: Moment) -> Result<(), Refusal> {
        let holder = match self.phase {
            Phase::Idle => return Ok(()),
            Phase::Delivering(_) => keep.delivering,
            Phase::Attached => keep.run.as_ref().and_then(|run| run.attached),
        };
        if holder == Some(self.id) {
            return Ok(());
        }
        Err(self.refuse(keep, Refusal::Replaced, now))
    }

    fn handle(&mut self, keep: &mut Keep, frame: &Frame<'_>, now: Moment) -> Result<(), Refusal> {
        if self.sequence == 0 && frame.kind != Kind::Attest {
            return Err(Refusal::protocol("something before ATTEST"));
        }
        // Under an open contract, somebody else was quicker.
        if !keep.admits(&self.tenant) {
            return Err(Refusal::Taken);
        }
        match frame.kind {
            Kind::Attest => self.attest(keep, frame.payload, now),
            Kind::Release => self.release(keep, frame.payload),
            Kind::Blob => self.blob(frame.payload),
            Kind::Start => self.start(keep, now),
            Kind::Data if frame.stream == DELIVERY => self.delivering()?.data(frame.payload),
            Kind::End if frame.stream == DELIVERY => {
                let contract = &keep.contract;
                self.delivering()?.end(contract, now)
            }
            Kind::Data => self.attached(keep)?.stdin.receive(frame.payload),
            Kind::End => self.end_stdin(keep),
            Kind::Credit => self.credit(keep, frame),
            Kind::Attach => self.attach(keep, frame.payload),
            Kind::Stop => self.stop(keep, frame.payload, now),
            Kind::Bye => self.bye(keep, frame.payload, now),
            Kind::Refused => {
                let refused = document::decode::<Refused>(frame.kind, frame.payload)?;
                Err(Refusal::Peer(refused))
            }
            // The decoder lets none of these through.
            Kind::Evidence | Kind::Started | Kind::Attached | Kind::Exit | Kind::Receipt => {
                Err(Refusal::protocol("a frame of the Keep's"))
            }
        }
    }

    /// Returns the meaning of a handled frame for the caller.
    fn event<'a>(&'a self, keep: &'a Keep, frame: Frame<'a>) -> Event<'a> {
        match (frame.kind, &self.phase) {
            (Kind::Attest, _) => self
                .asked
                .as_ref()
                .map_or(Event::Handled, |asked| Event::Attest(asked.report_data)),
            (Kind::Data, Phase::Delivering(delivering)) if frame.stream == DELIVERY => {
                match (&delivering.deployment, delivering.part) {
                    (Some(_), Some(part)) => Event::Part(part, frame.payload),
                    _ => Event::Handled,
                }
            }
            (Kind::End, Phase::Delivering(delivering)) if frame.stream == DELIVERY => {
                match (&delivering.deployment, delivering.part) {
                    (Some(_), Some(part)) => Event::PartComplete(part),
                    (Some((deployment, _)), None) => Event::Release(deployment),
                    (None, _) => Event::Handled,
                }
            }
            (Kind::Stop, _) => match &keep.run {
                Some(run) if run.exit.is_none() => Event::Stop,
                _ => Event::Handled,
            },
            (Kind::Start, _) => keep
                .run
                .as_ref()
                .map_or(Event::Handled, |run| Event::Start(&run.deployment)),
            (Kind::Attach, _) => Event::Attached,
            (Kind::Bye, _) => Event::Bye,
            _ => Event::Handled,
        }
    }

    fn delivering(&mut self) -> Result<&mut Delivering, Refusal> {
        match &mut self.phase {
            Phase::Delivering(delivering) => Ok(delivering),
            _ => Err(Refusal::protocol("nothing is being delivered")),
        }
    }

    fn attached<'a>(&self, keep: &'a mut Keep) -> Result<&'a mut Run, Refusal> {
        match (&self.phase, &mut keep.run) {
            (Phase::Attached, Some(run)) => Ok(run),
            _ => Err(Refusal::protocol("no application is attached")),
        }
    }

    fn attest(&mut self, keep: &mut Keep, payload: &[u8], now: Moment) -> Result<(), Refusal> {
        let attest: Attest = document::decode(Kind::Attest, payload)?;
        if attest.version != VERSION {
            return Err(Refusal::Version {
                found: attest.version,
            });
        }
        if self.asked.is_some() {
            return Err(Refusal::protocol("ATTEST before the last one was answered"));
        }
        if attest.seq != self.sequence + 1 {
            return Err(Refusal::Sequence {
                expected: self.sequence + 1,
                found: attest.seq,
            });
        }
        if keep.run.as_ref().is_some_and(Run::is_native) {
            return Err(Refusal::Native);
        }
        if !keep.reports.take(now) {
            return Err(Refusal::Busy);
        }
        self.sequence = attest.seq;
        let deployment = keep.run.as_ref().map(|run| run.digest);
        let binding = Binding {
            sequence: self.sequence,
            nonce: &attest.nonce.0,
            exporter: &self.exporter,
            keep: &keep.key,
            tenant: &self.tenant,
            contract: keep.contract.digest(),
            deployment: deployment.as_ref(),
        };
        self.asked = Some(Asked {
            report_data: binding.report_data(),
            deployment,
        });
        Ok(())
    }

    fn release(&mut self, keep: &mut Keep, payload: &[u8]) -> Result<(), Refusal> {
        let announcement: Announcement = document::decode(Kind::Release, payload)?;
        if !matches!(self.phase, Phase::Idle) || self.asked.is_some() {
            return Err(Refusal::protocol(
                "RELEASE at another time than after evidence",
            ));
        }
        match self.attested {
            None => return Err(Refusal::protocol("RELEASE before evidence")),
            Some(State::Provisioned) => return Err(Refusal::Taken),
            Some(State::Unprovisioned) => {}
        }
        // Another connection may have been quicker since the evidence.
        if keep.run.is_some() {
            return Err(Refusal::Taken);
        }
        let size = usize::try_from(announcement.size).unwrap_or(usize::MAX);
        if !(2..=deployment::MAX_ENCODED).contains(&size) {
            return Err(Refusal::protocol("a deployment of no such length"));
        }
        keep.owner = Some(self.tenant);
        keep.delivering = Some(self.id);
        self.phase = Phase::Delivering(Delivering {
            deployment: None,
            anchor: Moment::default(),
            part: None,
            open: Some(Open::new(
                Sha256::new(),
                announcement.size,
                announcement.digest.0,
            )),
            document: Vec::new(),
            credit: WINDOW,
            used: 0,
        });
        Ok(())
    }

    fn blob(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        let announcement: Announcement = document::decode(Kind::Blob, payload)?;
        let delivering = self.delivering()?;
        let Some((deployment, _)) = &delivering.deployment else {
            return Err(Refusal::protocol("BLOB before the deployment"));
        };
        if delivering.open.is_some() {
            return Err(Refusal::protocol("BLOB before the end of the last"));
        }
        let part = deployment
            .next(delivering.part)
            .ok_or_else(|| Refusal::protocol("BLOB after the last"))?;
        let expected = Object {
            digest: announcement.digest,
            size: announcement.size,
        };
        if deployment.object(part) != Some(expected) {
            return Err(Refusal::Protocol(
                alloc::format!("a BLOB that is not {part}").to_string(),
            ));
        }
        delivering.open = Some(Open::new(
            deployment.hash(part),
            announcement.size,
            announcement.digest.0,
        ));
        delivering.part = Some(part);
        Ok(())
    }

    fn start(&mut self, keep: &mut Keep, now: Moment) -> Result<(), Refusal> {
        let delivering = self.delivering()?;
        let complete = delivering.open.is_none()
            && delivering
                .deployment
                .as_ref()
                .is_some_and(|(deployment, _)| deployment.next(delivering.part).is_none());
        let anchor = delivering.anchor;
        let Some((deployment, digest)) = delivering.deployment.take_if(|_| complete) else {
            return Err(Refusal::protocol("START before everything is delivered"));
        };
        let detached = deployment.detached;
        keep.run = Some(Run {
            anchor,
            start: now,
            started: None,
            attached: Some(self.id),
            detached_since: now,
            stdin: Input::new(),
            stdout: Written::new(deployment.output.stdout.is_some(), detached.buffer_bytes),
            stderr: Written::new(deployment.output.stderr.is_some(), detached.buffer_bytes),
            stop_at: None,
            killed: false,
            exit: None,
            body: None,
            receipt: None,
            deployment,
            digest,
        });
        keep.delivering = None;
        self.phase = Phase::Attached;
        Ok(())
    }

    fn end_stdin(&mut self, keep: &mut Keep) -> Result<(), Refusal> {
        let run = self.attached(keep)?;
        if self.stdin_ended {
            return Err(Refusal::protocol("a second end of standard input"));
        }
        self.stdin_ended = true;
        run.stdin.ended = true;
        Ok(())
    }

    fn credit(&mut self, keep: &mut Keep, frame: &Frame<'_>) -> Result<(), Refusal> {
        let count = frame::credit(frame.payload)?;
        let output = match frame.stream {
            STDOUT => Output::Stdout,
            STDERR => Output::Stderr,
            _ if count == 0 => return Ok(()),
            _ => return Err(Refusal::protocol("credit for no stream")),
        };
        let written = self.attached(keep)?.written(output);
        if written.retained.acknowledge(count) {
            return Ok(());
        }
        Err(Refusal::protocol("credit for what was not sent"))
    }

    fn attach(&mut self, keep: &mut Keep, payload: &[u8]) -> Result<(), Refusal> {
        let attach: Attach = document::decode(Kind::Attach, payload)?;
        if !matches!(self.phase, Phase::Idle) || self.asked.is_some() {
            return Err(Refusal::protocol(
                "ATTACH at another time than after evidence",
            ));
        }
        let owned = keep.owner == Some(self.tenant);
        let run = match (self.attested, &mut keep.run) {
            (None, _) => return Err(Refusal::protocol("ATTACH before evidence")),
            (Some(State::Provisioned), Some(run)) if owned => run,
            _ => return Err(Refusal::NotStarted),
        };
        // Both or none: an ATTACH that is refused changes nothing.
        let stdout = run.stdout.retained.may_resume_after(attach.stdout);
        let stderr = run.stderr.retained.may_resume_after(attach.stderr);
        if !(stdout && stderr) {
            return Err(Refusal::Offset);
        }
        let attached = Attached {
            stdin: run.stdin.received,
            stdin_ended: run.stdin.ended || run.stdin.closed,
            credit: run.stdin.resume(),
            stdout: run.stdout.retained.resume_after(attach.stdout),
            stderr: run.stderr.retained.resume_after(attach.stderr),
        };
        run.attached = Some(self.id);
        self.phase = Phase::Attached;
        let payload = document::encode(Kind::Attached, &attached)?;
        self.outbox.put(Kind::Attached, CONTROL, &payload);
        Ok(())
    }

    fn stop(&mut self, keep: &mut Keep, payload: &[u8], now: Moment) -> Result<(), Refusal> {
        let stop: Stop = document::decode(Kind::Stop, payload)?;
        if stop.grace_ms > time::MAX_GRACE {
            return Err(Refusal::protocol(
                "STOP with a grace of more than 10 minutes",
            ));
        }
        let owned = keep.owner == Some(self.tenant);
        let seen =
            matches!(self.phase, Phase::Attached) || self.attested == Some(State::Provisioned);
        match &mut keep.run {
            Some(run) if owned && seen => {
                run.stop(stop.grace_ms, now);
                Ok(())
            }
            _ => Err(Refusal::NotStarted),
        }
    }

    fn bye(&mut self, keep: &mut Keep, payload: &[u8], now: Moment) -> Result<(), Refusal> {
        let bye: Bye = document::decode(Kind::Bye, payload)?;
        if let Some(digest) = bye.receipt {
            let receipt = keep.run.as_ref().and_then(|run| run.receipt.as_ref());
            let own = receipt.map(|receipt| Hex(Sha256::digest(receipt).into()));
            if !self.told.receipt || own != Some(digest) {
                return Err(Refusal::protocol("BYE for a receipt that was not sent"));
            }
            keep.finished = true;
        }
        keep.leave(self.id, now);
        self.outbox.put(Kind::Bye, CONTROL, payload);
        self.phase = Phase::Idle;
        self.closing = true;
        Ok(())
    }

    /// Puts the next frame of the streams into the outbox, if there is one to send.
    fn fill(&mut self, keep: &mut Keep, now: Moment) {
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Delivering(delivering) => {
                if let Some(count) = grant(&mut delivering.credit, &mut delivering.used) {
                    self.outbox
                        .put(Kind::Credit, DELIVERY, &count.to_le_bytes());
                    return;
                }
            }
            Phase::Attached => {
                if let Some(run) = &mut keep.run
                    && run.fill(&mut self.outbox, &mut self.told)
                {
                    return;
                }
            }
        }
        if self.attested.is_some() && now >= self.spoke.after(time::KEEP_ALIVE) {
            self.outbox.put(Kind::Credit, CONTROL, &[0; 4]);
        }
    }
}

impl Run {
    /// Puts the next frame into the outbox; false when there is none.
    fn fill(&mut self, outbox: &mut Outbox, told: &mut Told) -> bool {
        if let Some(count) = grant(&mut self.stdin.credit, &mut self.stdin.used) {
            outbox.put(Kind::Credit, STDIN, &count.to_le_bytes());
            return true;
        }
        if let Some(started) = &self.started
            && !told.started
        {
            told.started = true;
            if let Ok(payload) = document::encode(Kind::Started, started) {
                outbox.put(Kind::Started, CONTROL, &payload);
                return true;
            }
        }
        // Standard error first: it is little, and what explains a flood on standard output must not wait behind it.
        for (stream, output) in [(STDERR, Output::Stderr), (STDOUT, Output::Stdout)] {
            let retained = &mut self.written(output).retained;
            if let Some((first, second)) = retained.chunk() {
                let count = first.len() + second.len();
                outbox.put_parts(Kind::Data, stream, first, second);
                retained.advance(count);
                return true;
            }
            if retained.take_end() {
                outbox.put(Kind::End, stream, &[]);
                return true;
            }
        }
        let all_sent = self.stdout.retained.end_is_sent() && self.stderr.retained.end_is_sent();
        if let Some(exit) = &self.exit
            && all_sent
            && !told.exit
        {
            told.exit = true;
            if let Ok(payload) = document::encode(Kind::Exit, exit) {
                outbox.put(Kind::Exit, CONTROL, &payload);
                return true;
            }
        }
        if let Some(receipt) = &self.receipt
            && told.exit
            && !told.receipt
        {
            told.receipt = true;
            outbox.put(Kind::Receipt, CONTROL, receipt);
            return true;
        }
        false
    }
}

impl Open {
    fn new(hash: Sha256, left: u64, digest: [u8; 32]) -> Self {
        Self { hash, left, digest }
    }
}

impl Delivering {
    fn data(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| Refusal::protocol("bytes of nothing that was announced"))?;
        self.credit = self
            .credit
            .checked_sub(count)
            .ok_or_else(|| Refusal::protocol("a delivery beyond its credit"))?;
        open.left = open
            .left
            .checked_sub(u64::from(count))
            .ok_or_else(|| Refusal::protocol("more bytes than were announced"))?;
        self.used += count;
        open.hash.update(bytes);
        if self.deployment.is_none() {
            self.document.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self, contract: &Contract, now: Moment) -> Result<(), Refusal> {
        let open = self
            .open
            .take()
            .ok_or_else(|| Refusal::protocol("the end of nothing that was announced"))?;
        if open.left != 0 {
            return Err(Refusal::protocol("fewer bytes than were announced"));
        }
        let digest: [u8; 32] = open.hash.finalize().into();
        if !bool::from(digest.ct_eq(&open.digest)) {
            return Err(Refusal::Digest);
        }
        if self.deployment.is_none() {
            let deployment = Deployment::decode(&self.document)?;
            deployment.admit(contract)?;
            self.document = Vec::new();
            self.anchor = now;
            self.deployment = Some((deployment, digest));
        }
        Ok(())
    }
}
