// SPDX-License-Identifier: Apache-2.0

//! One TLS connection of a Keep. A peer is not trusted until it is the contract's tenant, and even the tenant has to
//! follow the protocol: a fault closes its connection, but never ends the Keep.

use super::delivery::{Delivering, Open};
#[cfg(doc)]
use super::machine::Order;
use super::machine::{Fault, Keep, MAX_CONNECTIONS};
use super::output::Output;
use super::run::{Input, ReportedEvents, Run, Written, grant};
use crate::binding::{Binding, Exporter, State};
use crate::deployment::{self, Deployment, Object, Part};
use crate::document::{
    self, Announcement, Attach, Attached, Attest, Bye, Evidence, Format, Refused, Stop,
};
use crate::frame::{self, CONTROL, DELIVERY, Decoder, End, Frame, Kind, STDERR, STDOUT};
use crate::outbox::Outbox;
use crate::{Moment, Refusal, VERSION, WINDOW, time};
use alloc::vec::Vec;
use enarx_contract::PublicKey;
use enarx_contract::canonical::{Base64, Hex};
use enarx_snp::report::Report;
use sha2::{Digest, Sha256};

/// An event of a connection, for its caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing: the machine has dealt with it.
    Handled,
    /// The tenant wants evidence: get a report on this REPORT_DATA and call [`Connection::evidence`], or
    /// [`Connection::refuse`] with [`Refusal::Busy`] if there is none within [`time::EVIDENCE`].
    Attest([u8; 64]),
    /// This is going to be delivered: discard what an earlier connection began to deliver, make room, or
    /// [`Connection::refuse`] with [`Refusal::Release`].
    Release(&'a Deployment),
    /// Bytes of a part, in order. Nothing of a part may be interpreted before [`Self::PartComplete`].
    Part(Part, &'a [u8]),
    /// A part is complete, and is what the deployment names.
    PartComplete(Part),
    /// Everything has arrived: run it.
    Start(&'a Deployment),
    /// The application should end by itself; see [`Order::Stop`].
    Stop,
    /// The connection has taken over the streams.
    Attached,
    /// The peer is done with this connection. Send what is left, then close.
    Bye,
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
    told: ReportedEvents,
    /// END of standard input has come on this connection.
    stdin_ended: bool,
    closing: bool,
}

/// An ATTEST that is not yet answered.
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

impl Keep {
    /// A new connection, with the tenant's key and the exporter of the TLS connection. It must be passed to
    /// [`Self::disconnect`] in the end.
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
                told: ReportedEvents::default(),
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
}

impl Connection {
    /// Takes one frame, or as much of one as is there, from the front of `input`; `None` when `input` is used up. After
    /// an error the connection sends the reason, and ignores all further input.
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

    /// Answers [`Event::Attest`] with the report, `None` without a TEE. The contract is checked against this very
    /// report before it leaves.
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

    /// Ends the connection for a reason of the Keep.
    pub fn refuse(&mut self, keep: &mut Keep, refusal: Refusal, now: Moment) {
        self.inner.refuse(keep, refusal, now);
    }

    /// Returns the bytes to send; empty if there are none now. The caller reports with [`Self::sent`] how many have
    /// been sent. There are never more than a few frames, so a peer that does not read delays only itself.
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

    /// Checks the time limits; afterwards [`Self::outgoing`] may have bytes.
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
    /// Ends the connection and tells the peer why.
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
        // Under an open contract, another tenant was faster.
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
                "RELEASE at a time other than after evidence",
            ));
        }
        match self.attested {
            None => return Err(Refusal::protocol("RELEASE before evidence")),
            Some(State::Provisioned) => return Err(Refusal::Taken),
            Some(State::Unprovisioned) => {}
        }
        // Another connection may have been faster since the evidence.
        if keep.run.is_some() {
            return Err(Refusal::Taken);
        }
        let size = usize::try_from(announcement.size).unwrap_or(usize::MAX);
        if !(2..=deployment::MAX_ENCODED).contains(&size) {
            return Err(Refusal::protocol("a deployment of an invalid length"));
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
            return Err(Refusal::Protocol(alloc::format!(
                "a BLOB that is not {part}"
            )));
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
            _ => return Err(Refusal::protocol("credit for an unknown stream")),
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
                "ATTACH at a time other than after evidence",
            ));
        }
        let owned = keep.owner == Some(self.tenant);
        let run = match (self.attested, &mut keep.run) {
            (None, _) => return Err(Refusal::protocol("ATTACH before evidence")),
            (Some(State::Provisioned), Some(run)) if owned => run,
            _ => return Err(Refusal::NotStarted),
        };
        // Both or neither: a refused ATTACH changes nothing.
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
