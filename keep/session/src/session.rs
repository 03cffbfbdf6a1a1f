// SPDX-License-Identifier: Apache-2.0

//! All connections of a Keep, and the threads that drive them.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use enarx_contract::{Contract, ContractError, KeepFacts, Tenant};
use enarx_sallyport::{Call, Handle};
use enarx_session::document::{Exit, ExitKind, MAX_TIMINGS, Started, Timing};
use enarx_session::keep::{Fault, Keep, Order, Output};
use enarx_session::{Moment, time};
use enarx_tls::{Key, TlsError};
use enarx_wasi::error::Errno;
use enarx_wasi::port::{MAX_TRANSFER, Operation, Port};
use enarx_wasi::stream;

use crate::delivery::Delivered;
use crate::link::{Duties, Link};
use crate::report::{Asker, Attester, Report, ReportJob};

/// Most connections at a time, those in their handshake included.
const MAX_LINKS: usize = 3;

/// How long a Keep that has finished its work continues to send, in milliseconds.
const LAST_WORDS: u64 = 5_000;

/// Interval for checking expired time limits again, in milliseconds.
const LIMIT_CHECK_INTERVAL: u64 = 1_000;

/// Exit code of an application that the Keep stopped: that of a program that SIGTERM ended.
const STOPPED: u32 = 143;

/// Exit code of an application whose time was over: that of timeout(1).
const EXPIRED: u32 = 124;

/// Why a Keep ends without having run what its tenant wants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The contract is not valid.
    #[error("{0} ({code})", code = .0.code())]
    Contract(#[from] ContractError),
    /// There is no key, or no TLS.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The host gave no door.
    #[error("the host gave the Keep no door for its tenant")]
    NoDoor,
    /// Nobody delivered an application in time.
    #[error(
        "nobody delivered an application within {0} seconds, as the contract says (keep.unclaimed)"
    )]
    Unclaimed(u32),
    /// The tenant had evidence of this Keep, and released nothing to it.
    #[error(
        "no application was released within {} seconds of this Keep's evidence (keep.unreleased): deploy again",
        time::RELEASE / 1000
    )]
    Unreleased,
    /// The thread that asks for reports could not be started.
    #[error("the thread that asks for reports could not be started: {0}")]
    Thread(std::io::ErrorKind),
    /// The Keep is not what its contract says, or its secure processor gives no true report.
    #[error("{0}")]
    Fault(Fault),
}

struct State {
    keep: Keep,
    key: Key,
    /// The number of the next connection.
    number: u64,
    accepting: Option<Operation>,
    links: Vec<Link>,
    duties: Duties,
    /// The application's task that waits for standard input.
    reader: Option<Waker>,
    /// The application's task that waits for the tenant's request to end.
    ending: Option<Waker>,
    /// The bytes of the receipt that wait for its report.
    sealing: Option<Vec<u8>>,
    /// The outputs for whose room threads of the application wait, without having been notified yet.
    writers: Vec<Output>,
    /// The answer to the last request for a report, of a Keep that is about to run native code.
    last: Option<Report>,
    /// When everything was done.
    finished: Option<Moment>,
    over: Option<Result<(), SessionError>>,
}

/// A Keep's sessions with its tenant; clones share them.
#[derive(Clone)]
pub struct Session {
    port: Port,
    origin: Instant,
    shared: Arc<Shared>,
}

/// The part of a session that its clones share.
struct Shared {
    state: Mutex<State>,
    /// Notified to the application's threads that wait for room for their output.
    room: Condvar,
}

impl Session {
    /// Opens the door of a Keep with this contract, as the host gave it, and these properties.
    ///
    /// # Errors
    /// [`SessionError::Contract`], [`SessionError::Tls`], [`SessionError::NoDoor`].
    pub fn open(
        port: &Port,
        contract: &[u8],
        vcpus: u32,
        memory: u64,
        attester: Arc<dyn Attester>,
    ) -> Result<Self, SessionError> {
        let contract = Contract::decode(contract)?;
        let own = KeepFacts {
            // By design, a Keep cannot distinguish a simulated platform from a genuine one: the report's signature
            // shows it to the tenant. That there is a report at all is checked when there must be one.
            tee: contract.terms().platform.tee,
            vcpus,
            memory,
        };
        let key = Key::generate()?;
        let (report_jobs, to_be_done) = channel();
        let state = State {
            keep: Keep::new(contract.clone(), key.public(), own, Moment(0)),
            key,
            number: 0,
            accepting: None,
            links: Vec::new(),
            duties: Duties {
                contract,
                attester: Arc::clone(&attester),
                report_jobs,
                open: 0,
                delivery: None,
                delivered: None,
                fault: None,
                scratch: vec![0; MAX_TRANSFER],
                incoming: vec![0; MAX_TRANSFER],
            },
            reader: None,
            ending: None,
            sealing: None,
            writers: Vec::new(),
            last: None,
            finished: None,
            over: None,
        };
        let session = Self {
            port: port.clone(),
            origin: Instant::now(),
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                room: Condvar::new(),
            }),
        };
        let reporter = Reporter {
            port: port.clone(),
            origin: session.origin,
            shared: Arc::downgrade(&session.shared),
        };
        thread::Builder::new()
            .name("reports".to_owned())
            .spawn(move || reporter.run(&*attester, &to_be_done))
            .map_err(|error| SessionError::Thread(error.kind()))?;
        Ok(session)
    }

    /// True if the contract names no tenant, so that the Keep may have been started before anybody asked for it.
    pub fn is_open(&self) -> bool {
        self.lock().keep.contract().terms().tenant == Tenant::Open
    }

    /// Waits until the tenant has delivered an application and wants it run.
    ///
    /// # Errors
    /// [`SessionError`]: the Keep ends.
    pub fn receive(&self) -> Result<Delivered, SessionError> {
        self.port.block_on(std::future::poll_fn(|_| {
            let mut state = self.advance();
            match (state.duties.delivered.take(), &state.over) {
                (Some(delivered), _) => Poll::Ready(Ok(delivered)),
                (None, Some(over)) => {
                    Poll::Ready(over.clone().and(Err(SessionError::Fault(Fault::Unasked))))
                }
                (None, None) => Poll::Pending,
            }
        }))
    }

    /// Requests the last report, that of the receipt, if the application is native code, which could otherwise request
    /// reports of its own. From START on the Keep gives no more evidence, so the secure processor has no other work
    /// after this. Waits forever if the application is ended in the meantime; the thread that serves the session then
    /// ends the Keep.
    pub fn conclude(&self) {
        {
            let mut state = self.lock();
            let Some(data) = state.keep.last_report() else {
                return;
            };
            state.duties.request_report(Asker::Last, data);
        }
        self.port.block_on(std::future::poll_fn(|_| {
            if self.drive().last.is_some() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
    }

    /// Serves the tenant while the application runs and after it, until nothing is left to be done.
    ///
    /// # Errors
    /// [`SessionError::Fault`].
    pub fn serve(&self) -> Result<(), SessionError> {
        self.port
            .block_on(std::future::poll_fn(|_| match &self.advance().over {
                Some(over) => Poll::Ready(over.clone()),
                None => Poll::Pending,
            }))
    }

    /// Tells the tenant that the application has ended, and serves it until nothing is left to do.
    ///
    /// # Errors
    /// [`SessionError::Fault`].
    pub fn exited(&self, exit: Exit) -> Result<(), SessionError> {
        let now = self.now();
        self.lock().end(exit, now);
        self.serve()
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an output has enough room to justify waking the application.
    fn await_room<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        output: Output,
    ) -> MutexGuard<'a, State>
    where
        Self: 'a,
    {
        while !state.keep.has_room(output) {
            // Notified together: one entry serves all that want room in it.
            if !state.writers.contains(&output) {
                state.writers.push(output);
            }
            let woken = self.shared.room.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Does everything that can be done without waiting, for a thread that may not sleep next.
    fn drive(&self) -> MutexGuard<'_, State> {
        let state = self.advance();
        self.port.tell();
        state
    }

    /// Does everything that is possible without waiting, and makes the port check again when more is possible. The
    /// host is notified when the thread sleeps.
    fn advance(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        loop {
            let now = self.now();
            state.advance(&self.port, now);
            state.tell_writers(&self.shared.room);
            if state.keep.has_stdin()
                && let Some(reader) = state.reader.take()
            {
                reader.wake();
                self.port.rouse();
            }
            if state.keep.grace_left(now).is_some()
                && let Some(ending) = state.ending.take()
            {
                ending.wake();
                self.port.rouse();
            }
            let deadline = state.deadline(now);
            let at = deadline.and_then(|at| self.origin.checked_add(Duration::from_millis(at.0)));
            // A deadline that has passed in the meantime is handled at once.
            if !at.is_some_and(|at| self.port.poll_deadline(at)) {
                return state;
            }
        }
    }
}

impl State {
    fn advance(&mut self, port: &Port, now: Moment) {
        if self.over.is_some() {
            return;
        }
        // Before the connections, because they report the effects of the clock.
        self.tick(now);
        loop {
            let mut progress = self.accept(port, now);
            let mut open = Vec::with_capacity(self.links.len());
            for mut link in std::mem::take(&mut self.links) {
                progress |= link.advance(port, &mut self.keep, &mut self.duties, now);
                if link.is_over() {
                    link.close(port, &mut self.keep, now);
                } else {
                    open.push(link);
                }
            }
            self.links = open;
            if !progress {
                break;
            }
        }
        if let Some(fault) = self.duties.fault.take() {
            self.over = Some(Err(SessionError::Fault(fault)));
        } else if self.keep.is_finished() {
            let since = *self.finished.get_or_insert(now);
            if self.links.is_empty() || now >= since.after(LAST_WORDS) {
                self.over = Some(self.outcome(now));
            }
        }
    }

    /// Performs actions that are due by the clock.
    fn tick(&mut self, now: Moment) {
        if self.keep.is_finished() {
            return;
        }
        match self.keep.tick(now) {
            Some(Order::Kill(kind)) => {
                let code = match kind {
                    ExitKind::Expired => EXPIRED,
                    _ => STOPPED,
                };
                self.end(Exit { kind, code }, now);
            }
            Some(Order::End) => self.over = Some(self.outcome(now)),
            Some(Order::Stop) | None => {}
        }
    }

    /// The end of a Keep with nothing left to do.
    fn outcome(&self, now: Moment) -> Result<(), SessionError> {
        if self.keep.has_run() {
            return Ok(());
        }
        if self.keep.is_release_overdue(now) {
            return Err(SessionError::Unreleased);
        }
        let times = &self.keep.contract().terms().times;
        Err(SessionError::Unclaimed(times.unprovisioned_seconds))
    }

    fn accept(&mut self, port: &Port, now: Moment) -> bool {
        if self.links.len() >= MAX_LINKS || self.keep.is_finished() {
            return false;
        }
        let Some(mut accepting) = self.accepting.take() else {
            let call = Call::TcpAccept {
                handle: Handle::DOOR,
            };
            self.accepting = port.prepare(&call, &[]).ok();
            return self.accepting.is_some();
        };
        if !accepting.is_ready() {
            self.accepting = Some(accepting);
            return false;
        }
        let answer = match accepting.take(&mut []) {
            Ok(answer) => answer,
            Err(Errno::BadDescriptor) => {
                self.over = Some(Err(SessionError::NoDoor));
                return false;
            }
            // The peer is gone again, or the host has no room: the next check asks once more.
            Err(_) => return false,
        };
        // The port lets no other values through.
        let handle = Handle(u32::try_from(answer.value).unwrap_or(u32::MAX));
        let tls = if self.keep.may_start_handshake(now) {
            enarx_tls::Connection::keep(&self.key, Arc::new(self.keep.admission())).ok()
        } else {
            None
        };
        match tls {
            Some(tls) => {
                self.number = self.number.wrapping_add(1);
                self.links.push(Link::new(self.number, handle, tls, now));
            }
            None => port.post(&Call::Close { handle }),
        }
        true
    }

    /// Notifies the application's threads for whose output there is now room: once, because this is a system call and
    /// much may happen until they run.
    fn tell_writers(&mut self, room: &Condvar) {
        let before = self.writers.len();
        self.writers.retain(|output| !self.keep.has_room(*output));
        if self.writers.len() < before {
            room.notify_all();
        }
    }

    /// True if every connection has bytes with the host.
    fn is_sending(&self) -> bool {
        self.links.iter().all(Link::is_sending)
    }

    /// Ends the application's run, once, and has its receipt made.
    fn end(&mut self, exit: Exit, now: Moment) {
        // It was stopped before it ended by itself: that end counts.
        let Ok(sealing) = self.keep.exited(exit, now) else {
            return;
        };
        self.sealing = Some(sealing.signing_input);
        match self.last.take() {
            Some(report) => self.seal(report),
            None => self
                .duties
                .request_report(Asker::Receipt, sealing.report_data),
        }
    }

    /// Takes the answer to a request for a report.
    fn answer(&mut self, asker: Asker, report: Report, now: Moment) {
        self.duties.open = self.duties.open.saturating_sub(1);
        match asker {
            Asker::Receipt => self.seal(report),
            // An application that was ended in the meantime has its own receipt pending, and must not run.
            Asker::Last if self.keep.has_exited() => {}
            Asker::Last => self.last = Some(report),
            Asker::Link(number) => {
                // The connection may have ended.
                if let Some(link) = self.links.iter_mut().find(|link| link.number() == number) {
                    link.attest(report, &mut self.keep, &mut self.duties, now);
                }
            }
        }
    }

    /// Completes the receipt.
    fn seal(&mut self, report: Report) {
        let Some(signing_input) = self.sealing.take() else {
            return;
        };
        // A receipt without a report says so; it is the tenant's to judge.
        let report = report.ok().flatten();
        let sealed = self
            .key
            .sign(&signing_input)
            .map_err(SessionError::from)
            .and_then(|signature| {
                self.keep
                    .seal(signature, report.as_deref())
                    .map_err(SessionError::Fault)
            });
        if let Err(error) = sealed {
            self.over = Some(Err(error));
        }
    }

    /// The time of the next action that is due by the clock.
    fn deadline(&self, now: Moment) -> Option<Moment> {
        if self.over.is_some() {
            return None;
        }
        let links = self.links.iter().map(Link::deadline);
        let last = self.finished.map(|since| since.after(LAST_WORDS));
        // An answer without data to send, such as a fault, wakes nobody.
        let answered = (self.duties.open > 0).then(|| now.after(LIMIT_CHECK_INTERVAL));
        let own = self.keep.deadline().into_iter().chain(last).chain(answered);
        let earliest = links.chain(own).min()?;
        Some(if earliest > now {
            earliest
        } else {
            now.after(LIMIT_CHECK_INTERVAL)
        })
    }
}

/// The thread that asks the secure processor, one report after the other, for as long as there is a session.
struct Reporter {
    port: Port,
    origin: Instant,
    shared: Weak<Shared>,
}

impl Reporter {
    fn run(&self, attester: &dyn Attester, report_jobs: &Receiver<ReportJob>) {
        // Its other end belongs to the session.
        while let Ok(ReportJob { asker, data }) = report_jobs.recv() {
            let report = attester.report(&data);
            let Some(shared) = self.shared.upgrade() else {
                return;
            };
            let session = Session {
                port: self.port.clone(),
                origin: self.origin,
                shared,
            };
            let now = session.now();
            session.lock().answer(asker, report, now);
            // Sending wakes whoever waits for the session, once the host is told of it.
            drop(session.drive());
            self.port.rouse();
        }
    }
}

impl stream::Session for Session {
    fn write(&self, output: Handle, bytes: &[u8]) {
        let output = if output == Handle::STDERR {
            Output::Stderr
        } else {
            Output::Stdout
        };
        let mut rest = bytes;
        let mut state = self.lock();
        loop {
            let taken = state.keep.write(output, rest);
            rest = rest.get(taken..).unwrap_or_default();
            // Otherwise the answer wakes the session's own thread, which sends more.
            if !state.is_sending() {
                drop(state);
                state = self.drive();
            }
            if rest.is_empty() {
                return;
            }
            if taken == 0 {
                state = self.await_room(state, output);
            }
        }
    }

    fn poll_read(&self, buffer: &mut [u8]) -> Option<usize> {
        self.drive().keep.read_stdin(buffer)
    }

    fn poll_readable(&self) -> bool {
        self.drive().keep.has_stdin()
    }

    fn poll_readable_for(&self, context: &Context<'_>) -> bool {
        let mut state = self.drive();
        let readable = state.keep.has_stdin();
        state.reader = (!readable).then(|| context.waker().clone());
        readable
    }

    fn poll_grace_for(&self, context: &Context<'_>) -> Option<Duration> {
        let now = self.now();
        // The session's own thread drives it, and wakes this task.
        let mut state = self.lock();
        let left = state.keep.grace_left(now);
        state.ending = left.is_none().then(|| context.waker().clone());
        left.map(Duration::from_millis)
    }

    fn started(&self, phases: &[(&'static str, u64)]) {
        let timings = phases
            .iter()
            .take(MAX_TIMINGS)
            .map(|&(phase, us)| Timing {
                phase: enarx_contract::canonical::Name::cleaned(phase),
                us,
            })
            .collect();
        self.lock().keep.started(Started { timings });
        drop(self.drive());
    }
}
