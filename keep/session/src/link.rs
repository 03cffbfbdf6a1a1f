// SPDX-License-Identifier: Apache-2.0

//! One connection through the door: bytes of the sallyport, TLS, frames. Its peer may be anybody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use enarx_contract::Contract;
use enarx_sallyport::{Call, Handle};
use enarx_session::keep::{Connection, Event, Fault, Keep};
use enarx_session::{Moment, Refusal, time};
use enarx_wasi::port::{MAX_TRANSFER, Operation, Port};
use zeroize::Zeroize;

use crate::delivery::{Delivered, Delivery};
use crate::report::{Asker, Attester, Report, ReportError, ReportJob};

/// Most writes that are with the host at a time: together the window of a stream, and what surrounds its frames.
const MAX_WRITES: usize = 8;

/// The duties of a Keep towards a connected peer, apart from the frames themselves.
pub struct Duties {
    /// The contract, by which deliveries are judged.
    pub contract: Contract,
    /// The ground, for its memory.
    pub attester: Arc<dyn Attester>,
    /// The way to the secure processor.
    pub report_jobs: Sender<ReportJob>,
    /// Wishes without an answer. There is at most one of each connection, and one or two of the receipt.
    pub open: usize,
    /// The delivery in progress.
    pub delivery: Option<Delivery>,
    /// A delivery that is complete, until somebody takes it.
    pub delivered: Option<Delivered>,
    /// A fault of the Keep itself: it has to end.
    pub fault: Option<Fault>,
    /// Bytes in transit between TLS and its users.
    pub scratch: Vec<u8>,
    /// Bytes in transit from the sallyport to TLS.
    pub incoming: Vec<u8>,
}

/// The answer that an event asks for.
enum Reaction {
    Nothing,
    Attest([u8; 64]),
    Refuse(Refusal),
}

impl Duties {
    /// Has a report made.
    pub fn request_report(&mut self, asker: Asker, data: [u8; 64]) {
        // The other end lives as long as the session.
        if self.report_jobs.send(ReportJob { asker, data }).is_ok() {
            self.open += 1;
        } else {
            self.fault = Some(Fault::Report);
        }
    }

    fn handle(&mut self, event: &Event<'_>) -> Reaction {
        let result = match event {
            Event::Attest(data) => return Reaction::Attest(*data),
            Event::Release(deployment) => {
                // The room of an earlier one that was cut is free first.
                self.delivery = None;
                Delivery::begin(deployment, self.attester.free_memory())
                    .map(|delivery| self.delivery = Some(delivery))
            }
            Event::Part(part, bytes) => {
                if let Some(delivery) = &mut self.delivery {
                    delivery.append(*part, bytes);
                }
                Ok(())
            }
            Event::PartComplete(part) => match &mut self.delivery {
                Some(delivery) => delivery.complete(*part, &self.contract),
                None => Ok(()),
            },
            Event::Start(_) => {
                self.delivered = self.delivery.take().and_then(Delivery::finish);
                Ok(())
            }
            Event::Handled | Event::Stop | Event::Attached | Event::Bye => Ok(()),
        };
        result.map_or_else(Reaction::Refuse, |()| Reaction::Nothing)
    }
}

/// A connection.
pub struct Link {
    number: u64,
    handle: Handle,
    tls: enarx_tls::Connection,
    /// `None` until the handshake is complete.
    session: Option<Connection>,
    opened: Moment,
    reading: Option<Operation>,
    /// Writes and their bytes, in their order.
    writing: VecDeque<(Operation, usize)>,
    /// Nothing more is taken: it ends once everything is sent.
    closing: bool,
    over: bool,
}

impl Link {
    /// A connection that was just accepted, with a number that no other has.
    pub fn new(number: u64, handle: Handle, tls: enarx_tls::Connection, now: Moment) -> Self {
        Self {
            number,
            handle,
            tls,
            session: None,
            opened: now,
            reading: None,
            writing: VecDeque::new(),
            closing: false,
            over: false,
        }
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// True if the host has not answered yet what was sent last.
    pub fn is_sending(&self) -> bool {
        !self.writing.is_empty()
    }

    /// True if nothing more happens on it.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Gives it up.
    pub fn close(self, port: &Port, keep: &mut Keep, now: Moment) {
        // Operations first: the host would call them back with an error.
        drop((self.reading, self.writing));
        port.post(&Call::Close {
            handle: self.handle,
        });
        if let Some(session) = self.session {
            keep.disconnect(session, now);
        }
    }

    /// The time at which it has something to do by itself.
    pub fn deadline(&self) -> Moment {
        let session = self.session.as_ref().map(Connection::deadline);
        session.unwrap_or_else(|| self.opened.after(time::ATTEST))
    }

    /// Does everything that can be done without waiting; true if that was anything.
    pub fn advance(
        &mut self,
        port: &Port,
        keep: &mut Keep,
        duties: &mut Duties,
        now: Moment,
    ) -> bool {
        if now >= self.opened.after(time::ATTEST) && self.session.is_none() {
            self.over = true;
        }
        if let Some(session) = &mut self.session {
            // The refusal is among the outgoing bytes then.
            let _ = session.tick(keep, now);
        }
        let received = !self.over && self.receive(port, keep, duties, now);
        let sent = !self.over && self.send(port, keep, duties, now);
        received || sent
    }

    /// Takes what has come.
    fn receive(&mut self, port: &Port, keep: &mut Keep, duties: &mut Duties, now: Moment) -> bool {
        if self.closing {
            self.reading = None;
            return false;
        }
        let Some(mut reading) = self.reading.take() else {
            let call = Call::StreamRead {
                stream: self.handle,
                length: u32::try_from(MAX_TRANSFER).unwrap_or(u32::MAX),
            };
            self.reading = port.prepare(&call, &[]).ok();
            self.over = self.reading.is_none();
            return !self.over;
        };
        if !reading.is_ready() {
            self.reading = Some(reading);
            return false;
        }
        let mut bytes = std::mem::take(&mut duties.incoming);
        match reading.take(&mut bytes) {
            Ok(answer) if answer.length > 0 => {
                let received = bytes.get(..answer.length).unwrap_or_default();
                self.decrypt(received, keep, duties, now);
            }
            // Its end, or an error: the same to a session, which knows by itself whether it was complete.
            _ => self.over = true,
        }
        duties.incoming = bytes;
        true
    }

    /// Takes ciphertext.
    fn decrypt(&mut self, mut input: &[u8], keep: &mut Keep, duties: &mut Duties, now: Moment) {
        loop {
            let before = input.len();
            if self.tls.receive(&mut input).is_err() {
                // An alert may be among the outgoing bytes.
                self.closing = true;
                return;
            }
            if self.session.is_none()
                && let Some(facts) = self.tls.facts()
            {
                let Ok(session) = keep.connect(facts.peer, facts.exporter.clone(), now) else {
                    self.tls.close();
                    self.closing = true;
                    return;
                };
                self.session = Some(session);
            }
            let mut plaintext = std::mem::take(&mut duties.scratch);
            let count = self.tls.read(&mut plaintext);
            let heard = plaintext.get_mut(..count).unwrap_or_default();
            self.receive_frames(heard, keep, duties, now);
            // Secrets may be among it.
            heard.zeroize();
            duties.scratch = plaintext;
            if count == 0 && input.len() == before {
                return;
            }
        }
    }

    /// Takes frames.
    fn receive_frames(
        &mut self,
        mut input: &[u8],
        keep: &mut Keep,
        duties: &mut Duties,
        now: Moment,
    ) {
        let Some(session) = &mut self.session else {
            return;
        };
        while !input.is_empty() {
            let reaction = match session.receive(keep, &mut input, now) {
                Ok(Some(event)) => duties.handle(&event),
                // The refusal is among the outgoing bytes, and further input is ignored.
                Ok(None) | Err(_) => Reaction::Nothing,
            };
            match reaction {
                Reaction::Nothing => {}
                Reaction::Refuse(refusal) => {
                    duties.delivery = None;
                    session.refuse(keep, refusal, now);
                }
                Reaction::Attest(data) => duties.request_report(Asker::Link(self.number), data),
            }
        }
    }

    /// Gives the peer the requested evidence, or the reason why there is none.
    pub fn attest(&mut self, report: Report, keep: &mut Keep, duties: &mut Duties, now: Moment) {
        let Some(session) = &mut self.session else {
            return;
        };
        match report {
            Ok(report) => {
                if let Err(fault) = session.evidence(keep, report.as_deref(), now) {
                    duties.fault = Some(fault);
                }
            }
            Err(ReportError::Busy) => session.refuse(keep, Refusal::Busy, now),
            Err(ReportError::Failed) => duties.fault = Some(Fault::Report),
        }
    }

    /// Sends pending bytes.
    fn send(&mut self, port: &Port, keep: &mut Keep, duties: &mut Duties, now: Moment) -> bool {
        let mut progress = false;
        while let Some((first, length)) = self.writing.front_mut()
            && first.is_ready()
        {
            progress = true;
            // Bytes that the host has not taken would be missing in the middle.
            let is_whole = first
                .take(&mut [])
                .is_ok_and(|answer| answer.value == *length as u64);
            if !is_whole {
                self.over = true;
                return true;
            }
            self.writing.pop_front();
        }
        while self.writing.len() < MAX_WRITES {
            let count = self.fill(keep, duties, now);
            if count == 0 {
                self.over = self.closing && self.writing.is_empty();
                return progress || self.over;
            }
            let bytes = duties.scratch.get(..count).unwrap_or_default();
            let call = Call::StreamWrite {
                stream: self.handle,
                length: u32::try_from(count).unwrap_or(u32::MAX),
            };
            let Ok(writing) = port.prepare(&call, &[bytes]) else {
                self.over = true;
                return true;
            };
            self.writing.push_back((writing, count));
            progress = true;
        }
        progress
    }

    /// Puts bytes for the peer into the scratch, as many as one call carries, and returns how many; 0: none.
    fn fill(&mut self, keep: &mut Keep, duties: &mut Duties, now: Moment) -> usize {
        if let Some(session) = &mut self.session {
            loop {
                let bytes = session.outgoing(keep, now);
                let count = self.tls.write(bytes);
                if count == 0 {
                    break;
                }
                session.sent(count);
            }
            if session.is_closed() {
                self.tls.close();
                self.closing = true;
            }
        }
        self.tls.outgoing(&mut duties.scratch)
    }
}
