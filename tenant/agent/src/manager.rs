// SPDX-License-Identifier: Apache-2.0

//! The client of a host's manager (`protocol/manager-api`). Its answers are not believed: they are used to start a
//! Keep and to reach it, and evidence proves the rest.
//!
//! A request without an answer is repeated: a manager that is overloaded by strangers closes the connection that
//! has waited longest, before it has read a token. Every request of this client may be repeated, even one that was
//! processed and whose answer was lost:
//!
//! | request | made twice |
//! |---|---|
//! | offer, state of a Keep, certificates | only read |
//! | Keep of a contract, or the claim of an open one | finds the Keep of the first: a contract only ever has one Keep |
//! | end of a Keep | it has ended, or is ending |
//! | way to a Keep | a second connection to the same door; the first has said nothing there |

use crate::endorser::Endorser;
use crate::fault::Fault;
use crate::line::{Answer, Ask, Line, Stream};
use crate::pause::jittered;
use crate::target::Target;
use enarx_attestation::snp::MAX_LISTS;
use enarx_attestation::{AmdEndorsements, Endorsements};
use enarx_contract::canonical::{Base64, Hex, Name, printable};
use enarx_contract::{Contract, Countersignature, Signature, Tenant};
use enarx_manager_api::{
    Collateral, KeepAnswer, KeepInfo, KeepState, NewKeep, Offer, Problem, VERSION, code, limit,
    path,
};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

// With one more than the verifier accepts, the verifier reports that there are too many.
const _: () = assert!(limit::REVOCATION_LISTS == MAX_LISTS);

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Time for an answer that the manager may hold back for [`limit::WAIT_SECONDS`].
const LONG_ANSWER: Duration = Duration::from_secs(limit::WAIT_SECONDS + 10);

/// Time for a Keep to become ready.
const LAUNCH: Duration = Duration::from_mins(2);

/// Pause before the same question again, when a manager answers too early.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest pauses before a request that got no answer is made again, in milliseconds. Fifty tenants that come together have
/// all had their turn after a second.
const RETRY_PAUSES: [u64; 4] = [100, 200, 400, 800];

/// No request is made again later than this after the first time: each try may take its whole time.
const RETRY_WINDOW: Duration = Duration::from_secs(10);

/// Seconds of grace for a Keep that should end at once: nothing runs in it, or the tenant no longer needs it.
const NO_GRACE: u32 = 0;

/// Longest text of a JSON reader that an error keeps, in characters.
const MESSAGE: usize = 160;

/// A manager, and the connection to it when there is one.
pub(crate) struct Manager<'a> {
    target: &'a Target,
    line: Option<Line>,
}

fn get(path: impl Into<String>, what: &'static str) -> Ask {
    Ask {
        method: Method::GET,
        path: path.into(),
        body: Vec::new(),
        within: ANSWER,
        what,
    }
}

impl<'a> Manager<'a> {
    pub(crate) fn new(target: &'a Target) -> Self {
        Self { target, line: None }
    }

    /// Asks for the offer.
    ///
    /// # Errors
    /// [`Fault`], also for an offer of another version.
    pub(crate) async fn offer(&mut self) -> Result<Offer, Fault> {
        let offer: Offer = self.call(&get(path::OFFER, "offer")).await?;
        if offer.version != VERSION {
            return Err(Fault::Api(format!(
                "version {} of the offer, this program knows version {VERSION}",
                offer.version
            )));
        }
        Ok(offer)
    }

    /// Asks for the Keep of a contract, or claims it if the contract is open, and returns the host's signature on
    /// it, and the time that the host says it took to record this.
    ///
    /// # Errors
    /// [`Fault`], also for an answer about another contract, or an invalid signature.
    pub(crate) async fn create(
        &mut self,
        contract: &Contract,
        tenant: &Countersignature,
    ) -> Result<(Signature, Option<Duration>), Fault> {
        let body = serde_json::to_vec(&NewKeep {
            contract: Base64(contract.bytes().to_vec()),
            tenant_signature: tenant.signature,
            tenant_key: (contract.terms().tenant == Tenant::Open).then_some(tenant.key),
        });
        let ask = Ask {
            method: Method::POST,
            path: path::KEEPS.to_owned(),
            body: body.map_err(|error| unreadable(&error))?,
            within: ANSWER,
            what: "Keep",
        };
        let answer: KeepAnswer = self.call(&ask).await?;
        same_keep(&answer.keep, contract)?;
        contract.verify_host(&answer.host_signature)?;
        let commit = answer.commit_us.map(Duration::from_micros);
        Ok((answer.host_signature, commit))
    }

    /// Waits until the manager says that the Keep is ready.
    ///
    /// # Errors
    /// [`Fault::KeepEnded`]; [`Fault::Timeout`] after two minutes; every other [`Fault`] of a request.
    pub(crate) async fn ready(&mut self, contract: &Contract) -> Result<(), Fault> {
        let until = Instant::now() + LAUNCH;
        let path = path::keep_wait(&contract.keep_id(), KeepState::Ready);
        let ask = Ask {
            within: LONG_ANSWER,
            ..get(path, "state of the Keep")
        };
        loop {
            let info: KeepInfo = timeout_at(until, self.call(&ask))
                .await
                .map_err(|_| Fault::Timeout("Keep that is ready"))??;
            same_keep(&info, contract)?;
            match info.state {
                KeepState::Ready | KeepState::Provisioned => return Ok(()),
                KeepState::Ended => {
                    let reason = info.reason.as_deref();
                    return Err(Fault::KeepEnded(why(reason.unwrap_or("no reason given"))));
                }
                KeepState::Launching => sleep(PAUSE).await,
            }
        }
    }

    /// Gives the way to the Keep of a contract.
    ///
    /// # Errors
    /// [`Fault::Relay`]; those of the connection.
    pub(crate) async fn relay(&mut self, contract: &Contract) -> Result<Stream, Fault> {
        let ask = get(path::session(&contract.keep_id()), "way to the Keep");
        let mut tries = Tries::new(self.line.is_some());
        loop {
            let result = match self.line().await {
                Ok(line) => line.relay(self.target, &ask).await,
                Err(fault) => Err(fault),
            };
            match result {
                Ok(stream) => return Ok(stream),
                Err(fault) => tries.next(fault).await.map_err(|fault| match fault {
                    Fault::Unanswered(_) => {
                        Fault::Relay("the connection ended before an answer".into())
                    }
                    other => other,
                })?,
            }
        }
    }

    /// Fetches certificates and revocation lists.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn endorsements(&mut self, of: Endorser) -> Result<Endorsements, Fault> {
        let path = path::collateral(&Hex(of.chip), &Hex(of.tcb));
        let collateral: Collateral = self.call(&get(path, "collateral")).await?;
        Ok(Endorsements {
            amd: AmdEndorsements {
                vek: Some(collateral.vek.0),
                ask: Some(collateral.ask.0),
                ark: Some(collateral.ark.0),
                crls: collateral
                    .crls
                    .into_iter()
                    .map(|list| list.0.into())
                    .collect(),
            },
            intel: None,
        })
    }

    /// Asks for the Keep of a contract to be ended at once.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn end(&mut self, contract: &Contract) -> Result<(), Fault> {
        let ask = Ask {
            method: Method::DELETE,
            ..get(
                path::keep_delete(&contract.keep_id(), NO_GRACE),
                "end of the Keep",
            )
        };
        let _: KeepInfo = self.call(&ask).await?;
        Ok(())
    }

    /// The existing connection, or a new one. It is put back after use.
    async fn line(&mut self) -> Result<Line, Fault> {
        match self.line.take() {
            Some(line) => Ok(line),
            None => Line::open(self.target).await,
        }
    }

    async fn call<T: DeserializeOwned>(&mut self, ask: &Ask) -> Result<T, Fault> {
        let mut tries = Tries::new(self.line.is_some());
        loop {
            match self.exchange(ask).await {
                Ok(answer) => return read(&answer),
                Err(fault) => tries.next(fault).await?,
            }
        }
    }

    /// Makes a request once. Only a connection that has answered is kept.
    async fn exchange(&mut self, ask: &Ask) -> Result<Answer, Fault> {
        let mut line = self.line().await?;
        let answer = line.ask(self.target, ask).await?;
        self.line = Some(line);
        Ok(answer)
    }
}

/// The tries of one request.
struct Tries {
    /// The first attempt uses an idle connection. A manager may have closed it, which says nothing about the next
    /// one.
    is_kept: bool,
    pauses: std::array::IntoIter<u64, { RETRY_PAUSES.len() }>,
    until: Instant,
}

impl Tries {
    fn new(is_kept: bool) -> Self {
        Self {
            is_kept,
            pauses: RETRY_PAUSES.into_iter(),
            until: Instant::now() + RETRY_WINDOW,
        }
    }

    /// Waits for the next try after this fault.
    ///
    /// # Errors
    /// The fault itself, if it is another one than [`Fault::Unanswered`], or there were enough tries; [`Fault::Random`].
    async fn next(&mut self, fault: Fault) -> Result<(), Fault> {
        if !matches!(fault, Fault::Unanswered(_)) {
            return Err(fault);
        }
        if std::mem::take(&mut self.is_kept) {
            return Ok(());
        }
        let pause = self.pauses.next().filter(|_| Instant::now() < self.until);
        let Some(pause) = pause else {
            return Err(fault);
        };
        let pause = jittered(Duration::from_millis(pause))?;
        tracing::info!(%fault, pause_ms = pause.as_millis(), "no answer: asking again");
        sleep(pause).await;
        Ok(())
    }
}

/// The document in an answer.
fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, Fault> {
    if matches!(
        answer.status,
        StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED
    ) {
        return serde_json::from_slice(&answer.body).map_err(|error| unreadable(&error));
    }
    let status = answer.status.as_u16();
    match serde_json::from_slice::<Problem>(&answer.body) {
        Ok(problem) if answer.status.is_client_error() || answer.status.is_server_error() => {
            Err(Fault::Manager {
                status,
                code: Name::cleaned(&problem.code),
                sentence: problem.to_string(),
            })
        }
        _ => Err(Fault::Api(format!("status {status}"))),
    }
}

fn unreadable(error: &serde_json::Error) -> Fault {
    Fault::Api(printable(&error.to_string(), MESSAGE))
}

/// The reason of a Keep's end, as its manager gives it, for people.
fn why(reason: &str) -> String {
    let own = printable(reason, limit::TEXT);
    match code::end::meaning(reason) {
        Some(meaning) => format!("{meaning} ({own})"),
        None => own,
    }
}

/// Checks that an answer is about the Keep of this contract.
fn same_keep(keep: &KeepInfo, contract: &Contract) -> Result<(), Fault> {
    if keep.id == contract.keep_id() && keep.contract == *contract.digest() {
        return Ok(());
    }
    Err(Fault::Api("an answer about another Keep".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    fn unanswered() -> Fault {
        Fault::Unanswered(ErrorKind::ConnectionReset)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_an_answer_is_retried_a_few_times() {
        let begun = Instant::now();
        let mut tries = Tries::new(false);
        let mut number = 0;
        while tries.next(unanswered()).await.is_ok() {
            number += 1;
        }
        assert_eq!(number, RETRY_PAUSES.len());
        let longest = Duration::from_millis(RETRY_PAUSES.iter().sum());
        let all = begun.elapsed();
        assert!(all >= longest / 2 && all <= longest + PAUSE, "{all:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_that_was_closed_is_replaced_at_once() {
        let begun = Instant::now();
        let mut tries = Tries::new(true);
        assert!(tries.next(unanswered()).await.is_ok());
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(tries.next(unanswered()).await.is_ok());
        assert!(begun.elapsed() >= Duration::from_millis(RETRY_PAUSES[0] / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_and_slow_failures_are_not_retried() {
        let refused = Fault::Unreachable(ErrorKind::ConnectionRefused);
        for fault in [
            refused,
            Fault::Timeout("offer"),
            Fault::Relay(String::new()),
        ] {
            let code = fault.code().to_owned();
            let fault = Tries::new(true).next(fault).await.expect_err("no try");
            assert_eq!(fault.code(), code);
        }
        let mut tries = Tries::new(false);
        sleep(RETRY_WINDOW).await;
        assert!(tries.next(unanswered()).await.is_err());
    }
}
