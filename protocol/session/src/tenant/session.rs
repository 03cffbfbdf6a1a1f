// SPDX-License-Identifier: Apache-2.0

//! The tenant's session before and after the verdict: its connection, and the evidence
//! that it requests. The peer is hostile until the evidence is judged.

use crate::binding::{Binding, Exporter};
use crate::document::{self, Attest, Evidence, Format, Refused};
use crate::frame::{CONTROL, Decoder, Frame, Kind};
use crate::outbox::Outbox;
use crate::verdict::{Expected, Verifier, judge};
use crate::{Moment, Refusal, VERSION, time};
use enarx_contract::canonical::Hex;
use enarx_contract::{Contract, PublicKey, Tee};

/// The facts of the tenant's own TLS connection. Taken from there, never from the peer.
#[derive(Clone, Debug)]
pub struct Channel {
    /// The key of the TLS server.
    pub keep: PublicKey,
    /// The tenant's own key.
    pub tenant: PublicKey,
    /// The exporter.
    pub exporter: Exporter,
}

/// The expected state of the Keep. The digests are SHA-256 of the tenant's deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Unused.
    Fresh,
    /// It runs this deployment, or has run it.
    Running([u8; 32]),
    /// Either: the tenant does not know how far an earlier session came.
    Either([u8; 32]),
}

/// The facts by which a Keep is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its key.
    pub keep: PublicKey,
    /// REPORT_ID, the firmware's name for this launch; `None` without a TEE.
    pub report_id: Option<[u8; 32]>,
}

/// A session, in the stage `S`.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub struct Session<S> {
    pub(super) decoder: Decoder,
    pub(super) core: Core,
    pub(super) stage: S,
}

#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(super) struct Core {
    pub(super) contract: Contract,
    pub(super) channel: Channel,
    pub(super) outbox: Outbox,
    pub(super) sequence: u64,
    /// The ATTEST whose evidence has not been judged yet.
    pub(super) asked: Option<Asked>,
    pub(super) evidence: Option<Evidence>,
    pub(super) heard: Moment,
    pub(super) spoke: Moment,
}

#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub(super) struct Asked {
    pub(super) nonce: [u8; 32],
    pub(super) at: Moment,
    /// The deployment that was expected then, if any.
    pub(super) deployment: Option<[u8; 32]>,
}

impl<S> Session<S> {
    /// The report of evidence that is not judged yet, to find certificates for it; `None`
    /// if there is none. It is hostile: it may only determine which certificates are
    /// requested.
    #[must_use]
    pub fn report(&self) -> Option<&[u8]> {
        let report = self.core.evidence.as_ref()?.report.as_ref()?;
        Some(&report.0)
    }
}

impl Core {
    /// Encodes the next ATTEST.
    pub(super) fn attest(&mut self, nonce: [u8; 32], deployment: Option<[u8; 32]>, now: Moment) {
        self.sequence += 1;
        let attest = Attest {
            version: VERSION,
            seq: self.sequence,
            nonce: Hex(nonce),
        };
        self.asked = Some(Asked {
            nonce,
            at: now,
            deployment,
        });
        self.evidence = None;
        // Its parts have fixed lengths, far within the limit; a sequence of 2^53 is out of reach.
        if let Ok(payload) = document::encode(Kind::Attest, &attest) {
            self.outbox.put(Kind::Attest, CONTROL, &payload);
            self.spoke = now;
        }
    }

    /// Takes EVIDENCE, if it is the answer to the last ATTEST.
    pub(super) fn take_evidence(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        let evidence: Evidence = document::decode(Kind::Evidence, payload)?;
        if self.asked.is_none() || self.evidence.is_some() {
            return Err(Refusal::protocol("EVIDENCE that nobody asked for"));
        }
        if evidence.seq != self.sequence {
            return Err(Refusal::Sequence {
                expected: self.sequence,
                found: evidence.seq,
            });
        }
        evidence.check()?;
        self.evidence = Some(evidence);
        Ok(())
    }

    /// Judges the evidence for a Keep that should run `deployment`.
    pub(super) fn judge(
        &mut self,
        verifier: &impl Verifier,
        deployment: Option<&[u8; 32]>,
        known: Option<&Identity>,
    ) -> Result<Identity, Refusal> {
        let (Some(asked), Some(evidence)) = (self.asked.take(), self.evidence.take()) else {
            return Err(Refusal::Unchecked("evidence"));
        };
        let report = match (evidence.format, &evidence.report, self.tee()) {
            (Format::Snp, Some(report), Tee::Snp | Tee::Simulated) => report,
            (format, ..) => return Err(Refusal::Format(format)),
        };
        let binding = Binding {
            sequence: self.sequence,
            nonce: &asked.nonce,
            exporter: &self.channel.exporter,
            keep: &self.channel.keep,
            tenant: &self.channel.tenant,
            contract: self.contract.digest(),
            deployment,
        };
        let expected = Expected {
            report_data: binding.report_data(),
            host_data: self.contract.digest().0,
        };
        let report = judge(verifier, &report.0, &expected)?;
        self.contract.check_report(report)?;
        let identity = Identity {
            keep: self.channel.keep,
            report_id: Some(report.report_id),
        };
        same_keep(known, &identity)?;
        Ok(identity)
    }

    pub(super) fn tee(&self) -> Tee {
        self.contract.terms().platform.tee
    }

    pub(super) fn tick(&self, now: Moment) -> Result<(), Refusal> {
        let waits = self.asked.as_ref().filter(|_| self.evidence.is_none());
        if waits.is_some_and(|asked| now >= asked.at.after(time::EVIDENCE)) {
            return Err(Refusal::Timeout("EVIDENCE"));
        }
        Ok(())
    }
}

pub(super) fn same_keep(known: Option<&Identity>, identity: &Identity) -> Result<(), Refusal> {
    match known {
        Some(known) if known.keep != identity.keep => Err(Refusal::Continuity("key")),
        Some(known) if known.report_id != identity.report_id => Err(Refusal::Continuity("launch")),
        _ => Ok(()),
    }
}

/// Compares the state that evidence claims with the one that is wanted, and returns the deployment that it must bind.
pub(super) fn wanted_deployment(
    wanted: Wanted,
    evidence: &Evidence,
) -> Result<Option<[u8; 32]>, Refusal> {
    let found = evidence.deployment.map(|digest| digest.0);
    match (wanted, found) {
        (Wanted::Fresh | Wanted::Either(_), None) => Ok(None),
        (Wanted::Running(own) | Wanted::Either(own), Some(found)) if own == found => Ok(Some(own)),
        (Wanted::Running(_) | Wanted::Either(_), Some(_)) => {
            Err(Refusal::Continuity("application"))
        }
        (Wanted::Fresh, Some(_)) | (Wanted::Running(_), None) => {
            Err(Refusal::State(evidence.state))
        }
    }
}

/// The words of a peer that refuses.
pub(super) fn peer(frame: &Frame<'_>) -> Refusal {
    match document::decode::<Refused>(frame.kind, frame.payload) {
        Ok(refused) => Refusal::Peer(refused),
        Err(refusal) => refusal,
    }
}
