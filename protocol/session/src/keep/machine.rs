// SPDX-License-Identifier: Apache-2.0

//! A Keep, as its sessions see it: who may connect, what has to be done when, the application's streams, and the
//! receipt.

use super::output::Output;
use super::run::Run;
use crate::binding::Native;
use crate::bucket::Bucket;
use crate::document::{Exit, ExitKind, Started};
use crate::receipt::{self, Body, Receipt, Stream, Streams};
use crate::{Moment, time};
use alloc::vec::Vec;
use enarx_contract::canonical::{Base64, CanonicalError, Hex};
use enarx_contract::{Contract, ContractError, KeepFacts, PublicKey, Signature};
use sha2::Digest;

/// Most connections of a Keep at a time.
pub const MAX_CONNECTIONS: u32 = 2;

/// Reports that a Keep gives without a pause.
const REPORT_BURST: u64 = 4;

/// Handshakes that a Keep makes without a pause.
const HANDSHAKE_BURST: u64 = 10;

/// A Keep's duty when a time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The application should end by itself: close its listeners, fail its pending waits. Its standard input has
    /// ended.
    Stop,
    /// The application has to be ended now; its end is of this kind.
    Kill(ExitKind),
    /// Nothing is left to be done: the Keep ends.
    End,
}

/// A fault of the Keep itself. It ends with exit code 70 and this in its log, and sends nothing more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It was launched for other terms than those of its contract.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The secure processor's answer is not a report on the requested data.
    #[error("the report is not the one that was asked for")]
    Report,
    /// Evidence or a receipt that was not requested: a fault of the caller.
    #[error("nothing was asked for")]
    Unasked,
    /// A number that fits no document.
    #[error(transparent)]
    Document(#[from] CanonicalError),
}

/// The bytes to be signed for a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// To be signed by the Keep's key, ECDSA over P-256 with SHA-256.
    pub signing_input: Vec<u8>,
    /// REPORT_DATA of the receipt's report. For native code, that report was made earlier: [`Keep::last_report`].
    pub report_data: [u8; 64],
}

/// A Keep, as its sessions see it.
#[cfg_attr(feature = "copy", derive(Clone, Debug))]
pub struct Keep {
    pub(super) contract: Contract,
    pub(super) key: PublicKey,
    pub(super) own: KeepFacts,
    pub(super) created: Moment,
    /// The tenant that has taken the Keep, from the first RELEASE on.
    pub(super) owner: Option<PublicKey>,
    pub(super) next_connection: u64,
    pub(super) connections: u32,
    pub(super) handshakes: Bucket,
    pub(super) reports: Bucket,
    pub(super) report_id: Option<[u8; 32]>,
    pub(super) evidence_count: u64,
    /// The connection that delivers an application.
    pub(super) delivering: Option<u64>,
    /// Time since which a tenant has known this Keep and not released anything: its first evidence, or the end of a
    /// delivery that was cut.
    pub(super) awaited: Option<Moment>,
    pub(super) run: Option<Run>,
    pub(super) finished: bool,
}

impl Keep {
    /// A Keep with this contract, this key, and what it knows of itself.
    pub fn new(contract: Contract, key: PublicKey, own: KeepFacts, now: Moment) -> Self {
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
    pub fn may_start_handshake(&mut self, now: Moment) -> bool {
        !self.finished && self.connections < MAX_CONNECTIONS && self.handshakes.take(now)
    }

    /// True if the owner of this key may have a session; asked by the TLS handshake.
    pub fn admits(&self, tenant: &PublicKey) -> bool {
        self.contract.terms().admits(tenant, self.owner.as_ref())
    }

    /// Returns the current answers of [`Self::admits`], for a handshake that asks while the Keep is busy elsewhere.
    /// [`Self::connect`] asks again.
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

    pub(super) fn leave(&mut self, id: u64, now: Moment) {
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

    /// Deadline for the tenant that got evidence to release an application; `None` during a delivery.
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

    /// Takes output of the application, and returns how much was taken: less than given, or nothing, if the
    /// application has to wait until the tenant has read more.
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

    /// True if [`Self::write`] takes much at once: at least half of an output's buffer is free, or its oldest bytes
    /// are dropped for new ones. Half of it is free at the latest when the tenant has used what it was sent.
    pub fn has_room(&self, output: Output) -> bool {
        let Some(run) = &self.run else { return false };
        let written = match output {
            Output::Stdout => &run.stdout,
            Output::Stderr => &run.stderr,
        };
        written.retained.has_room() || run.drops_output()
    }

    /// Gives the application available standard input: a number of bytes, 0 at the end, `None` if it has to wait.
    pub fn read_stdin(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.run.as_mut()?.stdin.read(buffer)
    }

    /// True if [`Self::read_stdin`] would not make the application wait.
    pub fn has_stdin(&self) -> bool {
        self.run
            .as_ref()
            .is_some_and(|run| !run.stdin.buffer.is_empty() || run.stdin.ended || run.stdin.closed)
    }

    /// Milliseconds until the application is ended, once it was asked to end; `None` before.
    pub fn grace_left(&self, now: Moment) -> Option<u64> {
        let run = self.run.as_ref()?;
        run.stop_at.map(|at| at.since(now))
    }

    /// REPORT_DATA of the last report, which has to be made before native code runs: that of its receipt. `None` if
    /// the application is WebAssembly.
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

    /// Completes the receipt. `report` is `None` without a TEE, or if the host let none through in time.
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
