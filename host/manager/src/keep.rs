// SPDX-License-Identifier: Apache-2.0

//! One Keep, from its contract to its end, as the manager sees it: a process that reports little, of which only its
//! end is believed.

use crate::cgroup::KeepCgroup;
use crate::keep_process::{ControlError, Order, Report, Reports};
use crate::log::Log;
use crate::process::{Process, Started, Starter};
use crate::record::{Claim, End, Id, Record};
use crate::tokens::Owner;
use bytes::BytesMut;
use enarx_contract::canonical::{Base64, printable};
use enarx_contract::{Contract, Signature};
use enarx_manager_api::code::end;
use enarx_manager_api::{KeepInfo, KeepState, limit};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

/// Longest time from the start of a process to its report that the Keep runs: launches of large Keeps on SEV-SNP take
/// seconds.
const LAUNCH_LIMIT: Duration = Duration::from_mins(2);
/// How long a process may take to accept its order.
const ORDER_LIMIT: Duration = Duration::from_secs(10);
/// How long a process may take to end once it has said that its Keep has, or has closed the control socket.
const EXIT_LIMIT: Duration = Duration::from_secs(2);
/// How long the last words of an ended process are waited for. Its pipe may live on in another process.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long a killed process is waited for: it ends when its memory is given back.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// The state of a Keep.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub state: KeepState,
    pub end: Option<End>,
}

/// A wish that a Keep ends.
#[derive(Clone, Copy, Debug)]
struct Ending {
    at: Instant,
    reason: &'static str,
}

/// The tenant of a Keep, recorded.
#[derive(Clone, Copy, Debug)]
struct Holder {
    owner: Owner,
    /// The time at which it was requested or claimed, in seconds since 1970.
    since: u64,
}

/// A Keep that has not ended yet, or whose end is not recorded yet.
pub(crate) struct Keep {
    pub id: Id,
    pub contract: Contract,
    pub host_signature: Signature,
    /// Unset until somebody claims a Keep under an open contract.
    holder: OnceLock<Holder>,
    /// When it was launched, in seconds since 1970, and by the clock that never goes back.
    launched: (u64, Instant),
    /// True once a session has begun.
    used: AtomicBool,
    /// The path of its door.
    pub door: PathBuf,
    /// Permits for sessions.
    pub sessions: Arc<Semaphore>,
    status: watch::Sender<Status>,
    ending: watch::Sender<Option<Ending>>,
    log: Mutex<Log>,
}

impl Keep {
    /// A Keep that is about to be launched, `now` in seconds since 1970; without an owner one that waits for a claim.
    pub(crate) fn new(
        contract: Contract,
        owner: Option<Owner>,
        host_signature: Signature,
        now: u64,
        door: PathBuf,
    ) -> Self {
        let holder = owner.map(|owner| Holder { owner, since: now });
        Self {
            id: contract.keep_id(),
            contract,
            host_signature,
            holder: holder.map_or_else(OnceLock::new, OnceLock::from),
            launched: (now, Instant::now()),
            used: AtomicBool::new(false),
            door,
            sessions: Arc::new(Semaphore::new(limit::CONNECTIONS)),
            status: watch::Sender::new(Status {
                state: KeepState::Launching,
                end: None,
            }),
            ending: watch::Sender::default(),
            log: Mutex::default(),
        }
    }

    /// True if it is this token's.
    pub(crate) fn is_of(&self, owner: &Owner) -> bool {
        self.holder
            .get()
            .is_some_and(|holder| holder.owner == *owner)
    }

    /// True if nobody has claimed it.
    pub(crate) fn is_unclaimed(&self) -> bool {
        self.holder.get().is_none()
    }

    /// Makes it the tenant's whose claim is recorded. The first one stays.
    pub(crate) fn hold(&self, claim: &Claim) {
        self.holder.get_or_init(|| Holder {
            owner: claim.owner,
            since: claim.at,
        });
    }

    /// True if it has ended, or its end was requested.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.borrow().is_some() || self.state() == KeepState::Ended
    }

    /// Time since its launch, by the clock that has advanced more: on a machine that slept, one clock stopped.
    pub(crate) fn age(&self) -> Duration {
        let by_clock = crate::clock::now().saturating_sub(self.launched.0);
        self.launched.1.elapsed().max(Duration::from_secs(by_clock))
    }

    /// Notes that a session has begun.
    pub(crate) fn used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// True if a session has begun.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// The time at which it was requested or claimed, and before that at which it was launched, in seconds since 1970.
    pub(crate) fn created(&self) -> u64 {
        self.holder
            .get()
            .map_or(self.launched.0, |holder| holder.since)
    }

    /// Its state now.
    pub(crate) fn state(&self) -> KeepState {
        self.status.borrow().state
    }

    /// The manager's information about it.
    pub(crate) fn info(&self) -> KeepInfo {
        let status = self.status.borrow().clone();
        info(
            self.id,
            *self.contract.digest(),
            self.created(),
            status.state,
            status.end,
        )
    }

    /// The last words of its process.
    pub(crate) fn log(&self) -> String {
        self.with_log(|log| log.text())
    }

    fn with_log<T>(&self, with: impl FnOnce(&mut Log) -> T) -> T {
        with(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a line of the manager to the log.
    fn note(&self, line: &str) {
        self.with_log(|log| log.push(format!("manager: {line}\n").as_bytes()));
    }

    /// Waits until it is in this state or a later one.
    pub(crate) async fn wait(&self, state: KeepState) {
        let mut status = self.status.subscribe();
        // The sender is `self`'s.
        let _ = status.wait_for(|status| status.state >= state).await;
    }

    /// Waits until it is in this state or a later one, for [`limit::WAIT_SECONDS`] at most.
    pub(crate) async fn wait_bounded(&self, state: KeepState) {
        let limit = Duration::from_secs(limit::WAIT_SECONDS);
        // Reached or not, the caller reads the state.
        let _ = timeout(limit, self.wait(state)).await;
    }

    /// Ends it after `grace`, or earlier if that was requested before.
    pub(crate) fn end_after(&self, grace: Duration, reason: &'static str) {
        let now = Instant::now();
        let at = now.checked_add(grace).unwrap_or(now);
        self.ending.send_if_modified(|ending| {
            let sooner = ending.is_none_or(|ending| at < ending.at);
            if sooner {
                *ending = Some(Ending { at, reason });
            }
            sooner
        });
    }

    /// Goes on to this state, never back.
    pub(crate) fn advance(&self, state: KeepState) {
        self.status.send_if_modified(|status| {
            let later = status.state < state;
            if later {
                status.state = state;
                tracing::info!(keep = %self.id, state = state.name(), "a Keep changed its state");
            }
            later
        });
    }

    /// Tells everybody that it has ended.
    pub(crate) fn ended(&self, end: End) {
        self.status.send_modify(|status| status.end = Some(end));
        self.advance(KeepState::Ended);
    }

    /// Starts its process and serves it to its end. The door is gone afterwards.
    pub(crate) async fn live(self: &Arc<Self>, starter: &Starter) -> End {
        let (reason, code) = match self.start(starter).await {
            Ok(running) => running.serve(self).await,
            Err(error) => {
                let remedy = enarx_confine::process::remedy(&error);
                tracing::error!(
                    keep = %self.id,
                    error = %format_args!("{error}{remedy}"),
                    "the process of a Keep could not be started"
                );
                self.note("the process could not be started");
                (end::START.to_string(), None)
            }
        };
        if let Err(error) = std::fs::remove_file(&self.door)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(keep = %self.id, %error, "the door of an ended Keep could not be removed");
        }
        End {
            reason: printable(&reason, limit::TEXT),
            code,
            at: crate::clock::now(),
        }
    }

    async fn start(&self, starter: &Starter) -> io::Result<Running> {
        let Started {
            process,
            control,
            errors,
            cgroup,
        } = starter
            .start(self.id, self.contract.terms().resources)
            .await?;
        control.set_nonblocking(true)?;
        let (from, to) = UnixStream::from_std(control)?.into_split();
        Ok(Running {
            process,
            control: Incoming {
                socket: from,
                bytes: BytesMut::new(),
                reports: Reports::default(),
            },
            order: to,
            errors: pipe::Receiver::from_owned_fd(errors)?,
            cgroup,
        })
    }

    /// The moment by which it has ended of itself, once it runs: its contract's times one after the other, and the
    /// longest grace.
    fn latest_end(&self) -> Instant {
        let times = &self.contract.terms().times;
        let most = u64::from(times.unprovisioned_seconds)
            + u64::from(times.runtime_seconds_max)
            + u64::from(limit::GRACE_SECONDS);
        let now = Instant::now();
        now.checked_add(Duration::from_secs(most)).unwrap_or(now)
    }
}

/// The manager's information about a Keep.
fn info(
    id: Id,
    contract: enarx_contract::ContractDigest,
    created: u64,
    state: KeepState,
    end: Option<End>,
) -> KeepInfo {
    let (reason, code, ended) = match end {
        Some(end) => (Some(end.reason), end.code, Some(end.at)),
        None => (None, None, None),
    };
    KeepInfo {
        id,
        contract,
        state,
        reason,
        code,
        created,
        ended,
    }
}

impl Record {
    /// The manager's information about a Keep that has ended.
    pub(crate) fn info(&self, id: Id) -> KeepInfo {
        info(
            id,
            self.digest,
            self.created,
            KeepState::Ended,
            self.end.clone(),
        )
    }
}

/// The receiving side of the control socket.
struct Incoming {
    socket: OwnedReadHalf,
    bytes: BytesMut,
    reports: Reports,
}

impl Incoming {
    /// The next report. Nothing is lost when this is dropped before it returns.
    async fn next(&mut self) -> Result<Report, ControlError> {
        loop {
            if let Some(report) = self.reports.take()? {
                return Ok(report);
            }
            self.bytes.clear();
            self.bytes.reserve(4096);
            match self.socket.read_buf(&mut self.bytes).await {
                Ok(1..) => self.reports.push(&self.bytes),
                Ok(0) => return Err(ControlError::End),
                // The end of a process that had not read its order yet.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ControlError::End);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A Keep whose process was started.
struct Running {
    process: Process,
    control: Incoming,
    order: OwnedWriteHalf,
    errors: pipe::Receiver,
    cgroup: Option<KeepCgroup>,
}

/// Why a Keep ended: a reason and an exit code.
type Reason = (String, Option<i32>);

fn reason(name: &str) -> Reason {
    (name.to_string(), None)
}

impl Running {
    async fn serve(mut self, keep: &Arc<Keep>) -> Reason {
        let words = tokio::spawn(keep_last_words(self.errors, keep.clone()));
        let found = serve(&self.process, &mut self.control, self.order, keep).await;
        self.process.kill();
        let how = timeout(KILL_LIMIT, self.process.ended()).await.ok();
        tracing::info!(
            keep = %keep.id, reason = found.0, code = found.1, process = how, "a Keep has ended"
        );
        if how.is_none() {
            tracing::error!(keep = %keep.id, "the process of a Keep was killed and does not end");
        }
        // Whatever the process has started ends too. That waits, so it has a thread.
        let _ = spawn_blocking(move || drop(self.cgroup)).await;
        let abort = words.abort_handle();
        // Nothing is lost but words.
        if timeout(LAST_WORDS, words).await.is_err() {
            abort.abort();
        }
        if found.0 == end::DIED {
            keep.note(&format!(
                "the process ended without a message: {}",
                how.as_deref().unwrap_or("unknown")
            ));
        }
        found
    }
}

/// Keeps the last words of a process.
async fn keep_last_words(mut errors: pipe::Receiver, keep: Arc<Keep>) {
    let mut bytes = BytesMut::with_capacity(4096);
    while let Ok(1..) = errors.read_buf(&mut bytes).await {
        keep.with_log(|log| log.push(&bytes));
        bytes.clear();
        bytes.reserve(4096);
    }
}

/// Gives the order and takes reports, until the Keep has ended or has to end.
async fn serve(
    process: &Process,
    control: &mut Incoming,
    mut order: OwnedWriteHalf,
    keep: &Keep,
) -> Reason {
    let line = Order {
        contract: Base64(keep.contract.bytes().to_vec()),
        door: keep.door.clone(),
    }
    .line();
    let sent = match line {
        Ok(line) => timeout(ORDER_LIMIT, order.write_all(&line)).await,
        Err(error) => {
            keep.note(&error.to_string());
            return reason(end::START);
        }
    };
    if !matches!(sent, Ok(Ok(()))) {
        keep.note("the process did not take its order");
        return reason(end::DIED);
    }
    let mut ending = keep.ending.subscribe();
    let mut deadline = Instant::now() + LAUNCH_LIMIT;
    let mut late = end::LAUNCH_TIMEOUT;
    loop {
        let wanted = *ending.borrow_and_update();
        let report = tokio::select! {
            // In this order: messages of the process count before requests.
            biased;
            report = control.next() => report,
            _ = process.ended() => return last_report(control).await,
            () = sleep_until(deadline) => return reason(late),
            () = sleep_until(wanted.map_or(deadline, |ending| ending.at)), if wanted.is_some() => {
                return reason(wanted.map_or(late, |ending| ending.reason));
            }
            // Notified of a new or changed request. The Keep owns the sender.
            Ok(()) = ending.changed() => continue,
        };
        match report {
            Ok(Report::Ready) if keep.state() == KeepState::Launching => {
                keep.advance(KeepState::Ready);
                deadline = keep.latest_end();
                late = end::OVERDUE;
            }
            Ok(Report::Ended { reason, code }) => {
                // It ends by itself, with its last messages.
                let _ = timeout(EXIT_LIMIT, process.ended()).await;
                return (reason, code);
            }
            Err(ControlError::End) => {
                let _ = timeout(EXIT_LIMIT, process.ended()).await;
                return reason(end::DIED);
            }
            Ok(Report::Ready) => {
                keep.note("the process reported twice that its Keep runs");
                return reason(end::PROTOCOL);
            }
            Err(error) => {
                keep.note(&error.to_string());
                return reason(end::PROTOCOL);
            }
        }
    }
}

/// The reason given by a process that has ended.
async fn last_report(control: &mut Incoming) -> Reason {
    let last = async {
        loop {
            match control.next().await {
                Ok(Report::Ready) => {}
                Ok(Report::Ended { reason, code }) => return Some((reason, code)),
                Err(_) => return None,
            }
        }
    };
    match timeout(LAST_WORDS, last).await {
        Ok(Some(told)) => told,
        _ => reason(end::DIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_paused as run;
    use enarx_contract::canonical::{Hex, Name};
    use enarx_contract::{Backend, Doors, Host, Platform, Resources, Tee, Tenant, Terms, Times};

    fn keep() -> Keep {
        let key = enarx_contract::PublicKey::from_coordinates(&[1; 32], &[2; 32]);
        let name = Name::new("a").unwrap();
        let contract = Contract::new(Terms {
            version: enarx_contract::VERSION,
            id: Hex([1; 16]),
            host: Host {
                key,
                name: name.clone(),
            },
            tenant: Tenant::Named(key),
            platform: Platform {
                tee: Tee::None,
                backend: Backend::Process,
                product: None,
                guest_policy: None,
                min_tcb: None,
            },
            image: None,
            resources: Resources {
                vcpus: 1,
                memory: 1,
            },
            doors: Doors::default(),
            times: Times {
                not_before: 1,
                not_after: 2,
                unprovisioned_seconds: 10,
                detached_seconds_max: 0,
                runtime_seconds_max: 20,
            },
            class: name,
        });
        Keep::new(
            contract.unwrap(),
            Some(Hex([0; 32])),
            Hex([0; 64]),
            1,
            PathBuf::new(),
        )
    }

    #[test]
    fn waiting_has_an_end_of_its_own() {
        run(async {
            let keep = keep();
            let start = Instant::now();
            keep.wait_bounded(KeepState::Ready).await;
            assert_eq!(start.elapsed().as_secs(), limit::WAIT_SECONDS);
            keep.advance(KeepState::Ready);
            keep.wait_bounded(KeepState::Ready).await;
            assert_eq!(start.elapsed().as_secs(), limit::WAIT_SECONDS);
        });
    }

    /// Serves a Keep whose process lives on and at whose control socket `act` sits. Returns the reason of the end, and
    /// after how many seconds it came.
    fn served(act: impl AsyncFnOnce(&Keep, &mut std::os::unix::net::UnixStream)) -> (Reason, u64) {
        let mut found = None;
        run(async {
            let (here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
            here.set_nonblocking(true).unwrap();
            let (socket, order) = UnixStream::from_std(here).unwrap().into_split();
            let mut control = Incoming {
                socket,
                bytes: BytesMut::new(),
                reports: Reports::default(),
            };
            let process = Process::of_test().unwrap();
            let keep = keep();
            let start = Instant::now();
            let serve = serve(&process, &mut control, order, &keep);
            let (reason, ()) = tokio::join!(serve, act(&keep, &mut there));
            found = Some((reason, start.elapsed().as_secs()));
        });
        found.unwrap()
    }

    #[test]
    fn a_keep_that_does_not_start_in_time_is_ended() {
        let (found, seconds) = served(async |_, _| {});
        assert_eq!(found, reason(end::LAUNCH_TIMEOUT));
        assert_eq!(seconds, LAUNCH_LIMIT.as_secs());
    }

    /// A tenant whose session is cut has the Keep ended; the Keep's process says at the same time why it ended.
    #[test]
    fn a_reported_reason_takes_precedence_over_a_request() {
        use std::io::Write;
        for _ in 0..20 {
            let (found, _) = served(async |keep, socket| {
                socket.write_all(b"{\"event\":\"ready\"}\n").unwrap();
                keep.wait(KeepState::Ready).await;
                let report = b"{\"event\":\"ended\",\"reason\":\"why\",\"code\":70}\n";
                socket.write_all(report).unwrap();
                keep.end_after(Duration::ZERO, end::DELETED);
            });
            assert_eq!(found, ("why".to_string(), Some(70)));
        }
    }

    #[test]
    fn a_keep_that_outlives_its_contract_is_ended() {
        use std::io::Write;
        let (found, seconds) = served(async |keep, socket| {
            socket.write_all(b"{\"event\":\"ready\"}\n").unwrap();
            keep.wait(KeepState::Ready).await;
        });
        assert_eq!(found, reason(end::OVERDUE));
        assert_eq!(seconds, 10 + 20 + u64::from(limit::GRACE_SECONDS));
    }
}
