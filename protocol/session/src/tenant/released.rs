// SPDX-License-Identifier: Apache-2.0

//! A session after the verdict: it delivers, attaches, and moves the streams of a Keep that was judged, as long as the
//! verdict is valid. The Keep is trusted as far as the verdict goes; whatever carries its bytes is not trusted at all.

use super::delivery::Delivering;
use super::session::{Channel, Identity, Session, Wanted, peer, wanted_deployment};
use super::streams::Streams;
use crate::binding::State;
use crate::deployment::{Deployment, Part};
use crate::document::{self, Announcement, Attach, Attached, Bye, Exit, Started, Stop};
use crate::frame::{self, CONTROL, DATA_CHUNK, DELIVERY, Frame, Kind, STDERR, STDIN, STDOUT};
use crate::keep::Output;
use crate::receipt::{Claims, Receipt};
use crate::verdict::Verifier;
use crate::{Moment, Refusal, WINDOW, time};
use alloc::boxed::Box;
use enarx_contract::Contract;
use enarx_contract::canonical::Hex;
use sha2::{Digest, Sha256};

/// After the verdict.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub struct Released {
    identity: Identity,
    attested: bool,
    judged: Moment,
    max_age: u64,
    /// The Keep runs native code, and gives no more evidence.
    native: bool,
    phase: Phase,
    deployment: Option<[u8; 32]>,
    streams: Streams,
    exit: Option<Exit>,
    receipt: Option<Receipt>,
    ending: Ending,
}

/// How far a session is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It goes on.
    Open,
    /// The tenant has said goodbye.
    Left,
    /// So has the Keep.
    Ended,
    /// It is over, without success.
    Failed,
}

#[allow(clippy::large_enum_variant, reason = "there is one")]
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
enum Phase {
    /// Nothing has been asked for.
    Idle,
    Delivering(Delivering),
    /// ATTACH waits for its answer.
    Attaching,
    Attached,
}

/// An event of a released session, for its caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Nothing: the machine has dealt with it.
    Handled,
    /// The application runs.
    Started(Started),
    /// The streams continue; [`Streams::missing`] says what is lost.
    Attached,
    /// Output, in order, each byte once. Call [`Session::consumed`] when it is written.
    Output(Output, &'a [u8]),
    /// The end of an output.
    OutputEnd(Output),
    /// Evidence to be judged: [`Session::judge_again`].
    Evidence,
    /// The application has ended.
    Exit(Exit),
    /// The receipt. Its signature and its claims about this session are verified; verify its report, store it, then
    /// call [`Session::bye`].
    Receipt(&'a Receipt),
    /// The Keep is done with this connection.
    Bye,
}

/// How a session ended that was not cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The application ended, and the tenant has all of its output and the receipt.
    Complete(Box<Receipt>),
    /// The application runs on without this session.
    Detached,
}

impl Session<Released> {
    /// The Keep, to be recognized again.
    pub fn identity(&self) -> &Identity {
        &self.stage.identity
    }

    /// True if the Keep runs native code that this session delivered: it gives no more evidence, so the verdict is
    /// valid to the end of the session, and no other session can follow.
    pub fn is_native(&self) -> bool {
        self.stage.native
    }

    /// True if this session has a verdict; false after [`Session::accept_unattested`].
    pub fn is_attested(&self) -> bool {
        self.stage.attested
    }

    /// The Keep's state: whether to release, or to attach. After [`Self::release`] it is the state that the Keep has once
    /// START has reached it: a connection that is cut before STARTED leaves that open, so the next session wants
    /// [`Wanted::Either`].
    pub fn state(&self) -> State {
        match self.stage.deployment {
            None => State::Unprovisioned,
            Some(_) => State::Provisioned,
        }
    }

    /// Returns the streams as received and sent so far; for [`Self::attach`] on the next connection.
    pub fn into_streams(self) -> Streams {
        self.stage.streams
    }

    /// Returns the streams as received so far.
    pub fn streams(&self) -> &Streams {
        &self.stage.streams
    }

    /// When the verdict expires: before, call [`Self::reattest`].
    pub fn expires(&self) -> Moment {
        self.stage.judged.after(self.stage.max_age)
    }

    fn demand_fresh(&self, now: Moment) -> Result<(), Refusal> {
        if self.stage.ending != Ending::Open {
            return Err(Refusal::Truncated);
        }
        if now >= self.expires() {
            return Err(Refusal::MaxAge);
        }
        Ok(())
    }

    /// Begins to deliver a deployment. Its parts follow by [`Self::wanted`] and [`Self::supply`].
    ///
    /// # Errors
    /// [`Refusal`] when the deployment is not valid or not for this contract, when the Keep has one, or when the verdict has
    /// expired. Nothing is sent then.
    pub fn release(&mut self, deployment: &Deployment, now: Moment) -> Result<(), Refusal> {
        self.demand_fresh(now)?;
        if self.state() != State::Unprovisioned || !matches!(self.stage.phase, Phase::Idle) {
            return Err(Refusal::State(self.state()));
        }
        deployment.admit(&self.core.contract)?;
        let document = deployment.encode()?;
        let announcement = Announcement {
            digest: Hex(Sha256::digest(&document).into()),
            size: document.len() as u64,
        };
        let payload = document::encode(Kind::Release, &announcement)?;
        self.core.outbox.put(Kind::Release, CONTROL, &payload);
        self.stage.phase = Phase::Delivering(Delivering {
            deployment: deployment.clone(),
            document,
            part: None,
            offset: 0,
            hash: Sha256::new(),
            credit: WINDOW,
        });
        Ok(())
    }

    /// Begins to deliver a deployment again that an earlier session with this Keep did not get started: the Keep's evidence
    /// says that it is unused. Standard input that `streams` took in that session is sent in this one.
    ///
    /// # Errors
    /// [`Refusal`] as for [`Self::release`]; [`Refusal::Continuity`] when an application has had some of `streams`.
    pub fn release_again(
        &mut self,
        deployment: &Deployment,
        mut streams: Streams,
        now: Moment,
    ) -> Result<(), Refusal> {
        let received = streams.stdout.seen != 0 || streams.stderr.seen != 0;
        if received || !streams.stdin.resume_at(0, WINDOW) {
            return Err(Refusal::Continuity("application"));
        }
        self.release(deployment, now)?;
        self.stage.streams = streams;
        Ok(())
    }

    /// The part to supply next, from which offset, and how much of it at most; `None` when nothing is wanted now. Small
    /// parts may pass one by one between two calls of [`Self::outgoing`].
    pub fn wanted(&self, now: Moment) -> Option<(Part, u64, usize)> {
        let Phase::Delivering(delivering) = &self.stage.phase else {
            return None;
        };
        let part = delivering.part?;
        let object = delivering.deployment.object(part)?;
        let left = usize::try_from(object.size - delivering.offset).unwrap_or(usize::MAX);
        let room = left.min(delivering.credit as usize).min(DATA_CHUNK);
        let wanted = room > 0 && self.core.outbox.is_empty() && self.demand_fresh(now).is_ok();
        wanted.then_some((part, delivering.offset, room))
    }

    /// Supplies bytes of the part that [`Self::wanted`] names, and returns how many were taken.
    ///
    /// # Errors
    /// [`Refusal::Digest`] if the part does not match the deployment (it has changed in the meantime): the session is
    /// over.
    pub fn supply(&mut self, bytes: &[u8], now: Moment) -> Result<usize, Refusal> {
        let Some((_, _, room)) = self.wanted(now) else {
            return Ok(0);
        };
        let Phase::Delivering(delivering) = &mut self.stage.phase else {
            return Ok(0);
        };
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        if taken.is_empty() {
            return Ok(0);
        }
        delivering.send(taken, &mut self.core.outbox);
        match delivering.continue_delivery(&mut self.core.outbox) {
            Ok(Some(digest)) => self.start(digest),
            Ok(None) => {}
            Err(refusal) => {
                self.stage.ending = Ending::Failed;
                return Err(refusal);
            }
        }
        Ok(taken.len())
    }

    fn start(&mut self, digest: [u8; 32]) {
        if let Phase::Delivering(delivering) = &self.stage.phase
            && delivering.deployment.source.is_some()
        {
            self.stage.native = true;
            self.stage.max_age = u64::MAX;
        }
        self.core.outbox.put(Kind::Start, CONTROL, &[]);
        self.stage.deployment = Some(digest);
        self.stage.phase = Phase::Attached;
    }

    /// Takes over the streams of the application that the Keep runs. Output that `streams` already has is not sent
    /// again; standard input that the Keep has not received is.
    ///
    /// # Errors
    /// [`Refusal`] when the Keep runs nothing or the verdict has expired.
    pub fn attach(&mut self, streams: Streams, now: Moment) -> Result<(), Refusal> {
        self.demand_fresh(now)?;
        if self.state() != State::Provisioned || !matches!(self.stage.phase, Phase::Idle) {
            return Err(Refusal::State(self.state()));
        }
        let attach = Attach {
            stdout: streams.stdout.seen,
            stderr: streams.stderr.seen,
        };
        let payload = document::encode(Kind::Attach, &attach)?;
        self.core.outbox.put(Kind::Attach, CONTROL, &payload);
        self.stage.streams = streams;
        self.stage.phase = Phase::Attaching;
        Ok(())
    }

    /// Asks the application to end, and the Keep to end it after `grace_ms` milliseconds, at most [`time::MAX_GRACE`].
    ///
    /// # Errors
    /// [`Refusal::NotStarted`] when none runs.
    pub fn stop(&mut self, grace_ms: u32) -> Result<(), Refusal> {
        if self.state() != State::Provisioned || self.stage.ending != Ending::Open {
            return Err(Refusal::NotStarted);
        }
        let stop = Stop {
            grace_ms: grace_ms.min(time::MAX_GRACE),
        };
        let payload = document::encode(Kind::Stop, &stop)?;
        self.core.outbox.put(Kind::Stop, CONTROL, &payload);
        Ok(())
    }

    /// Takes standard input, and returns how many bytes: less than given, also none, when the application has to read
    /// first, or when the verdict has expired.
    pub fn stdin(&mut self, bytes: &[u8], now: Moment) -> usize {
        if self.demand_fresh(now).is_err() || self.stage.streams.stdin_ended {
            return 0;
        }
        self.stage.streams.stdin.push(bytes)
    }

    /// Ends standard input.
    pub fn end_stdin(&mut self) {
        self.stage.streams.stdin_ended = true;
        self.stage.streams.stdin.finish();
    }

    /// The caller has written this many bytes of an output: the Keep may discard them and send more.
    pub fn consumed(&mut self, output: Output, count: usize) {
        let received = self.stage.streams.received_mut(output);
        let open = WINDOW
            .saturating_sub(received.credit)
            .saturating_sub(received.used);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        received.used += count.min(open);
    }

    /// Asks for evidence again, under a new random nonce.
    ///
    /// # Errors
    /// [`Refusal::Busy`] before the last one is judged; [`Refusal::Truncated`] after the end; [`Refusal::Native`].
    pub fn reattest(&mut self, nonce: [u8; 32], now: Moment) -> Result<(), Refusal> {
        if self.stage.ending != Ending::Open {
            return Err(Refusal::Truncated);
        }
        if self.stage.native {
            return Err(Refusal::Native);
        }
        if self.core.asked.is_some() {
            return Err(Refusal::Busy);
        }
        self.core.attest(nonce, self.stage.deployment, now);
        Ok(())
    }

    /// Judges the evidence that [`Self::reattest`] requested. The new verdict replaces the old one.
    ///
    /// # Errors
    /// [`Refusal`] as for [`Session::judge`]: the session is over.
    pub fn judge_again(&mut self, verifier: &impl Verifier, now: Moment) -> Result<(), Refusal> {
        let asked = self.core.asked.as_ref();
        let deployment = asked.and_then(|asked| asked.deployment);
        let result = match &self.core.evidence {
            None => Err(Refusal::Unchecked("evidence")),
            Some(evidence) => {
                let wanted = deployment.map_or(Wanted::Fresh, Wanted::Running);
                wanted_deployment(wanted, evidence).and_then(|deployment| {
                    let known = self.stage.identity;
                    self.core.judge(verifier, deployment.as_ref(), Some(&known))
                })
            }
        };
        match result {
            Ok(_) => {
                self.stage.judged = now;
                Ok(())
            }
            Err(refusal) => {
                self.stage.ending = Ending::Failed;
                Err(refusal)
            }
        }
    }

    /// Says goodbye: after the receipt, that everything has been received and stored, and the Keep may end; before it,
    /// that the application should continue without this session.
    pub fn bye(&mut self) {
        if self.stage.ending != Ending::Open {
            return;
        }
        let receipt = self.stage.receipt.as_ref();
        let bytes = receipt.and_then(|receipt| receipt.encode().ok());
        let bye = Bye {
            receipt: bytes.map(|bytes| Hex(Sha256::digest(bytes).into())),
        };
        if let Ok(payload) = document::encode(Kind::Bye, &bye) {
            self.core.outbox.put(Kind::Bye, CONTROL, &payload);
            self.stage.ending = Ending::Left;
        }
    }

    /// Takes one frame, or as much of one as is there, from the front of `input`; `None` when `input` is used up.
    ///
    /// # Errors
    /// [`Refusal`]: the session is over, and the application goes on as the deployment says.
    pub fn receive<'a>(
        &'a mut self,
        input: &mut &[u8],
        now: Moment,
    ) -> Result<Option<Event<'a>>, Refusal> {
        if matches!(self.stage.ending, Ending::Ended | Ending::Failed) {
            *input = &[];
            return Ok(None);
        }
        let frame = match self.decoder.take(input) {
            Ok(None) => return Ok(None),
            Ok(Some(frame)) => frame,
            Err(error) => {
                self.stage.ending = Ending::Failed;
                return Err(error.into());
            }
        };
        self.core.heard = now;
        if frame.kind == Kind::Evidence {
            let taken = self.core.take_evidence(frame.payload);
            if taken.is_err() {
                self.stage.ending = Ending::Failed;
            }
            return taken.map(|()| Some(Event::Evidence));
        }
        match self
            .stage
            .handle(&self.core.channel, &self.core.contract, &frame)
        {
            Ok(()) => Ok(Some(self.stage.event(frame)?)),
            Err(refusal) => {
                self.stage.ending = Ending::Failed;
                Err(refusal)
            }
        }
    }

    /// Returns the bytes to send; see [`crate::keep::Connection::outgoing`].
    ///
    /// # Errors
    /// [`Refusal::Digest`] if an empty part does not match the deployment: the session is over.
    pub fn outgoing(&mut self, now: Moment) -> Result<&[u8], Refusal> {
        if self.core.outbox.is_empty() && self.stage.ending == Ending::Open {
            let fresh = self.demand_fresh(now).is_ok();
            self.fill(fresh, now)?;
        }
        if !self.core.outbox.is_empty() {
            self.core.spoke = now;
        }
        Ok(self.core.outbox.bytes())
    }

    /// Notes that the first `count` bytes of [`Self::outgoing`] have been sent.
    pub fn sent(&mut self, count: usize) {
        self.core.outbox.sent(count);
    }

    /// When [`Self::tick`] or [`Self::outgoing`] has something to do next.
    pub fn deadline(&self) -> Moment {
        let evidence = self
            .core
            .asked
            .as_ref()
            .map(|asked| asked.at.after(time::EVIDENCE));
        let silent = self.core.spoke.after(time::KEEP_ALIVE);
        let dead = self.core.heard.after(time::DEAD);
        silent.min(dead).min(evidence.unwrap_or(dead))
    }

    /// Checks the time limits.
    ///
    /// # Errors
    /// [`Refusal::Timeout`]: the session is over.
    pub fn tick(&mut self, now: Moment) -> Result<(), Refusal> {
        let dead = now >= self.core.heard.after(time::DEAD);
        let result = self.core.tick(now).and(if dead {
            Err(Refusal::Timeout("sign of life"))
        } else {
            Ok(())
        });
        if result.is_err() {
            self.stage.ending = Ending::Failed;
        }
        result
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// [`Refusal::Truncated`] unless everything has arrived: without the receipt, or the Keep's answer to a goodbye
    /// before it, a session that ended cannot be distinguished from one that was cut.
    pub fn finish(self) -> Result<Outcome, Refusal> {
        match (self.stage.receipt, self.stage.ending) {
            (_, Ending::Failed) => Err(Refusal::Truncated),
            (Some(receipt), _) => Ok(Outcome::Complete(Box::new(receipt))),
            (None, Ending::Ended) => Ok(Outcome::Detached),
            (None, _) => Err(Refusal::Truncated),
        }
    }

    /// Puts the next frame into the outbox, if there is one to send. Without a valid verdict, none with the tenant's
    /// data.
    fn fill(&mut self, fresh: bool, now: Moment) -> Result<(), Refusal> {
        let outbox = &mut self.core.outbox;
        match &mut self.stage.phase {
            Phase::Delivering(delivering) if fresh => {
                delivering.send_document(outbox);
                match delivering.continue_delivery(outbox) {
                    Ok(Some(digest)) => self.start(digest),
                    Ok(None) => {}
                    Err(refusal) => {
                        self.stage.ending = Ending::Failed;
                        return Err(refusal);
                    }
                }
                if !self.core.outbox.is_empty() {
                    return Ok(());
                }
            }
            Phase::Attached => {
                let streams = &mut self.stage.streams;
                for (stream, received) in
                    [(STDOUT, &mut streams.stdout), (STDERR, &mut streams.stderr)]
                {
                    if let Some(count) = received.grant() {
                        outbox.put(Kind::Credit, stream, &count.to_le_bytes());
                        return Ok(());
                    }
                }
                if fresh && let Some((first, second)) = streams.stdin.chunk() {
                    let count = first.len() + second.len();
                    outbox.put_parts(Kind::Data, STDIN, first, second);
                    streams.stdin.advance(count);
                    return Ok(());
                }
                if fresh && streams.stdin.take_end() {
                    outbox.put(Kind::End, STDIN, &[]);
                    return Ok(());
                }
            }
            _ => {}
        }
        if now >= self.core.spoke.after(time::KEEP_ALIVE) {
            self.core.outbox.put(Kind::Credit, CONTROL, &[0; 4]);
        }
        Ok(())
    }
}

impl Released {
    /// The stage that a verdict of `now` leads to, with the deployment that the evidence bound. For
    /// [`super::Session::judge`] and [`super::Session::accept_unattested`] alone.
    pub(super) fn new(
        identity: Identity,
        attested: bool,
        deployment: Option<[u8; 32]>,
        now: Moment,
        max_age: u64,
    ) -> Self {
        Self {
            identity,
            attested,
            judged: now,
            max_age,
            native: false,
            phase: Phase::Idle,
            deployment,
            streams: Streams::default(),
            exit: None,
            receipt: None,
            ending: Ending::Open,
        }
    }

    fn handle(
        &mut self,
        channel: &Channel,
        contract: &Contract,
        frame: &Frame<'_>,
    ) -> Result<(), Refusal> {
        match (frame.kind, frame.stream) {
            (Kind::Refused, _) => Err(peer(frame)),
            (Kind::Credit, CONTROL) => match frame::credit(frame.payload)? {
                0 => Ok(()),
                _ => Err(Refusal::protocol("credit for an unknown stream")),
            },
            (Kind::Credit, DELIVERY) => self.delivery_credit(frame::credit(frame.payload)?),
            (Kind::Credit, _) => {
                let count = frame::credit(frame.payload)?;
                self.attached()?;
                if self.streams.stdin.acknowledge(count) {
                    return Ok(());
                }
                Err(Refusal::protocol("credit for what was not sent"))
            }
            (Kind::Data, stream) => {
                self.attached()?;
                self.streams
                    .received_mut(output(stream))
                    .receive(frame.payload)
            }
            (Kind::End, stream) => {
                self.attached()?;
                let received = self.streams.received_mut(output(stream));
                if core::mem::replace(&mut received.ended, true) {
                    return Err(Refusal::protocol("a second end of an output"));
                }
                Ok(())
            }
            (Kind::Attached, _) => self.resume(&document::decode(frame.kind, frame.payload)?),
            (Kind::Started, _) => {
                self.attached()?;
                document::decode::<Started>(frame.kind, frame.payload)?.check()
            }
            (Kind::Exit, _) => {
                let exit: Exit = document::decode(frame.kind, frame.payload)?;
                if !(self.streams.stdout.ended && self.streams.stderr.ended) || self.exit.is_some()
                {
                    return Err(Refusal::protocol(
                        "EXIT before the end of the output, or twice",
                    ));
                }
                self.exit = Some(exit);
                Ok(())
            }
            (Kind::Receipt, _) => self.take_receipt(channel, contract, frame.payload),
            (Kind::Bye, _) => {
                let _: Bye = document::decode(frame.kind, frame.payload)?;
                if self.ending != Ending::Left {
                    return Err(Refusal::protocol("BYE without a goodbye"));
                }
                self.ending = Ending::Ended;
                Ok(())
            }
            _ => Err(Refusal::protocol("a frame at the wrong time")),
        }
    }

    /// Returns the meaning of a handled frame for the caller.
    fn event<'a>(&'a self, frame: Frame<'a>) -> Result<Event<'a>, Refusal> {
        Ok(match frame.kind {
            Kind::Data => Event::Output(output(frame.stream), frame.payload),
            Kind::End => Event::OutputEnd(output(frame.stream)),
            Kind::Attached => Event::Attached,
            Kind::Started => Event::Started(document::decode(frame.kind, frame.payload)?),
            Kind::Exit => self.exit.map_or(Event::Handled, Event::Exit),
            Kind::Receipt => self.receipt.as_ref().map_or(Event::Handled, Event::Receipt),
            Kind::Bye => Event::Bye,
            _ => Event::Handled,
        })
    }

    fn attached(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Attached => Ok(()),
            _ => Err(Refusal::protocol(
                "something of an application that is not attached",
            )),
        }
    }

    fn delivery_credit(&mut self, count: u32) -> Result<(), Refusal> {
        match &mut self.phase {
            Phase::Delivering(delivering) => {
                let credit = delivering.credit.checked_add(count);
                delivering.credit = credit
                    .filter(|credit| count != 0 && *credit <= WINDOW)
                    .ok_or_else(|| Refusal::protocol("credit for what was not sent"))?;
                Ok(())
            }
            // It may cross START.
            Phase::Attached if count != 0 && count <= WINDOW => Ok(()),
            _ => Err(Refusal::protocol("credit without a delivery")),
        }
    }

    fn resume(&mut self, attached: &Attached) -> Result<(), Refusal> {
        if !matches!(self.phase, Phase::Attaching) {
            return Err(Refusal::protocol("ATTACHED that nobody asked for"));
        }
        self.streams.stdout.resume(attached.stdout)?;
        self.streams.stderr.resume(attached.stderr)?;
        let streams = &mut self.streams;
        let taken = if core::mem::take(&mut streams.stdin_of_another) {
            streams.stdin.take_over(attached.stdin, attached.credit)
        } else {
            streams.stdin.resume_at(attached.stdin, attached.credit)
        };
        if !taken {
            return Err(Refusal::Continuity("standard input"));
        }
        if attached.stdin_ended {
            streams.stdin.close();
            streams.stdin_ended = true;
        }
        self.phase = Phase::Attached;
        Ok(())
    }

    fn take_receipt(
        &mut self,
        channel: &Channel,
        contract: &Contract,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        if self.exit.is_none() || self.receipt.is_some() {
            return Err(Refusal::protocol("RECEIPT before EXIT, or twice"));
        }
        let receipt = Receipt::decode(payload)?;
        receipt.check_signature()?;
        receipt.check_claims(&Claims {
            contract: Some(contract),
            deployment: self.deployment.as_ref(),
            tenant: Some(&channel.tenant),
            ..Claims::default()
        })?;
        let body = &receipt.body;
        let streams = body.streams;
        for (name, same) in [
            ("receipt.keep-key", body.keep_key == channel.keep),
            (
                "receipt.report-id",
                body.report_id.map(|id| id.0) == self.identity.report_id,
            ),
            ("receipt.precompiled", body.source.is_none() || self.native),
            ("receipt.exit", Some(body.exit) == self.exit),
            (
                "receipt.streams",
                self.streams.stdout.is(&streams.stdout) && self.streams.stderr.is(&streams.stderr),
            ),
        ] {
            if !same {
                return Err(Refusal::Receipt(name));
            }
        }
        self.receipt = Some(receipt);
        Ok(())
    }
}

/// The output on a stream on which the decoder lets data of a Keep through.
fn output(stream: u8) -> Output {
    if stream == STDERR {
        Output::Stderr
    } else {
        Output::Stdout
    }
}
