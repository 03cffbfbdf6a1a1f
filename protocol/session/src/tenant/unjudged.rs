// SPDX-License-Identifier: Apache-2.0

//! A session before the verdict. It can send one ATTEST and nothing else, whatever its hostile peer sends.

use super::released::Released;
use super::session::{
    Channel, Core, Identity, Session, Wanted, peer, same_keep, wanted_deployment,
};
use crate::document::Format;
use crate::frame::{Decoder, End, Kind};
use crate::outbox::Outbox;
use crate::verdict::Verifier;
use crate::{Moment, Refusal, time};
use enarx_contract::{Contract, Tee};

/// Before the verdict.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub struct Unjudged {
    wanted: Wanted,
    known: Option<Identity>,
}

/// The tenant's statement that it will release to this Keep although nothing proves what the Keep is and its host can
/// read everything. The caller prints a warning.
#[derive(Clone, Copy, Debug)]
pub struct InsecureUnattested;

impl Session<Unjudged> {
    /// A session over this TLS connection with a Keep of this contract, which begins with ATTEST. `nonce` is random
    /// and never used again. `known` is the Keep of an earlier session, if it has to be the same.
    #[must_use]
    pub fn attest(
        contract: Contract,
        channel: Channel,
        wanted: Wanted,
        known: Option<Identity>,
        nonce: [u8; 32],
        now: Moment,
    ) -> Self {
        let mut core = Core {
            contract,
            channel,
            outbox: Outbox::default(),
            sequence: 0,
            asked: None,
            evidence: None,
            heard: now,
            spoke: now,
        };
        core.attest(nonce, None, now);
        Self {
            decoder: Decoder::new(End::Keep),
            core,
            stage: Unjudged { wanted, known },
        }
    }

    /// Returns the bytes to send: ATTEST, or the rest of it.
    pub fn outgoing(&self) -> &[u8] {
        self.core.outbox.bytes()
    }

    /// Notes that the first `count` bytes of [`Self::outgoing`] have been sent.
    pub fn sent(&mut self, count: usize) {
        self.core.outbox.sent(count);
    }

    /// Takes bytes from the front of `input` up to the evidence, and returns whether it has arrived; then it can be
    /// judged, and the bytes after it stay in `input`.
    ///
    /// # Errors
    /// [`Refusal`]: the session is over. Close the connection; nothing more is sent.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<bool, Refusal> {
        if self.core.evidence.is_some() {
            return Ok(true);
        }
        let Some(frame) = self.decoder.take(input)? else {
            return Ok(false);
        };
        match frame.kind {
            Kind::Evidence => {
                self.core.take_evidence(frame.payload)?;
                Ok(true)
            }
            Kind::Refused => Err(peer(&frame)),
            _ => Err(Refusal::protocol("something before EVIDENCE")),
        }
    }

    /// The refusal for a connection that has ended.
    pub fn interrupted(self) -> Refusal {
        Refusal::Truncated
    }

    /// The time at which [`Self::tick`] has to be called at the latest.
    pub fn deadline(&self) -> Moment {
        self.core.heard.after(time::EVIDENCE)
    }

    /// Checks the time limits.
    ///
    /// # Errors
    /// [`Refusal::Timeout`]: the session is over.
    pub fn tick(&self, now: Moment) -> Result<(), Refusal> {
        self.core.tick(now)
    }

    /// Judges the evidence. The verdict is valid for `max_age` milliseconds.
    ///
    /// # Errors
    /// [`Refusal`]: the session is over, and nothing but ATTEST was ever sent. In this order: missing evidence,
    /// its format, the Keep's state, everything that the verifier refuses or did not check, the contract's terms, and
    /// a Keep other than the known one.
    pub fn judge(
        mut self,
        verifier: &impl Verifier,
        now: Moment,
        max_age: u64,
    ) -> Result<Session<Released>, Refusal> {
        let evidence = self.core.evidence.as_ref();
        let evidence = evidence.ok_or(Refusal::Unchecked("evidence"))?;
        if evidence.format != Format::Snp {
            return Err(Refusal::Format(evidence.format));
        }
        let deployment = wanted_deployment(self.stage.wanted, evidence)?;
        let known = self.stage.known.as_ref();
        let identity = self.core.judge(verifier, deployment.as_ref(), known)?;
        Ok(self.released(identity, true, deployment, now, max_age))
    }

    /// Continues with a Keep that has no TEE, under a contract that says so: nothing proves what it is.
    ///
    /// # Errors
    /// [`Refusal`] as for [`Self::judge`]. A contract of a Keep with a TEE is never accepted without its evidence.
    pub fn accept_unattested(
        mut self,
        _: InsecureUnattested,
        now: Moment,
    ) -> Result<Session<Released>, Refusal> {
        let evidence = self.core.evidence.take();
        let evidence = evidence.ok_or(Refusal::Unchecked("evidence"))?;
        if evidence.format != Format::None || self.core.tee() != Tee::None {
            return Err(Refusal::Format(evidence.format));
        }
        let deployment = wanted_deployment(self.stage.wanted, &evidence)?;
        let identity = Identity {
            keep: self.core.channel.keep,
            report_id: None,
        };
        same_keep(self.stage.known.as_ref(), &identity)?;
        self.core.asked = None;
        Ok(self.released(identity, false, deployment, now, u64::MAX))
    }

    fn released(
        self,
        identity: Identity,
        attested: bool,
        deployment: Option<[u8; 32]>,
        now: Moment,
        max_age: u64,
    ) -> Session<Released> {
        let mut core = self.core;
        core.heard = now;
        Session {
            decoder: self.decoder,
            core,
            stage: Released::new(identity, attested, deployment, now, max_age),
        }
    }
}
