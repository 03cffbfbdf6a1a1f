//! Performs the requests of one Keep: the host's end of the sallyport.
//!
//! Trusts nothing that the Keep says. Every request is checked against the [`Grant`]; what is malformed
//! or not granted completes with a status, and a Keep that breaks the ring's rules is ended.
//!
//! There is no thread here: whichever thread of the VMM has work calls [`SharedExecutor::drain`] or
//! [`SharedExecutor::wait`]. No thread sleeps with the lock held.

#![deny(unsafe_code)]

mod buffer;
mod files;
pub mod grant;
mod handles;
pub mod launch;
mod network;
pub mod refused;
mod resolver;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use enarx_sallyport::host::{CompleteError, Violation};
use enarx_sallyport::types::Object as Loadable;
use enarx_sallyport::{
    BUFFER_SIZE, Call, Facts, Handle, HostEnd, Malformed, Region, Slot, Status, Submission,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::grant::{Grant, NetworkGrant};
use buffer::Buffer;
use enarx_confine::seccomp::Allow;
use handles::{Handles, Node, Object};
use resolver::Resolver;
use streams::Stream;

/// Most evidence that the host takes, in bytes.
const MAX_EVIDENCE: u32 = 16 << 10;

/// Longest line that the host takes into its log, in bytes.
const MAX_LOG_LINE: usize = 4096;

/// What the threads that use an executor with these permissions may do, besides what any thread may
/// ([`enarx_confine::seccomp::THREAD_CALLS`]).
pub fn allowed(network: NetworkGrant) -> impl Iterator<Item = Allow> {
    let network = if network == NetworkGrant::default() {
        &[]
    } else {
        NETWORK_CALLS
    };
    let calls = SYSTEM_CALLS.iter().chain(network);
    // A debug build of the standard library asks for a descriptor's flags before it closes it.
    calls
        .map(|call| Allow::Call(*call))
        .chain([Allow::Argument {
            call: libc::SYS_fcntl,
            index: 1,
            values: DESCRIPTOR_FLAGS,
        }])
}

/// `F_GETFD`, as a filter compares it.
const DESCRIPTOR_FLAGS: &[u32] = &[libc::F_GETFD.cast_unsigned()];

/// System calls that the executor makes in any case.
const SYSTEM_CALLS: &[i64] = &[
    libc::SYS_close,
    libc::SYS_eventfd2,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_linkat,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
];

/// System calls that the executor makes besides, when the grant names the network.
const NETWORK_CALLS: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socket,
];

/// How far a Keep is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything that was posted is performed or waits for somebody else.
    Idle,
    /// The Keep asked to end with this code.
    Exit(i32),
}

/// Why a Keep cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The Keep broke the rules of the ring.
    #[error("the Keep broke the protocol with its host and was ended: {0}")]
    Violation(#[from] Violation),
    /// The executor replied what the request does not allow: its own fault.
    #[error("the host answered a request of the Keep wrongly: {0}; please report this")]
    Answer(#[from] CompleteError),
    /// A system call of the executor itself failed.
    #[error("the host could not wait for the Keep's input and output: {0}")]
    System(#[from] Errno),
}

/// What is replied to a request that succeeded.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    length: u32,
    value: u64,
    value2: u64,
}

impl Answer {
    fn bytes(length: u32) -> Self {
        Self {
            length,
            ..Self::default()
        }
    }

    fn value(value: impl Into<u64>) -> Self {
        Self {
            value: value.into(),
            ..Self::default()
        }
    }
}

type Result<T, E = Status> = std::result::Result<T, E>;

/// The status of a failed system call.
fn status(errno: Errno) -> Status {
    Status::from_errno(errno.raw_os_error())
}

/// A request that waits until a descriptor is ready.
#[derive(Debug)]
struct Pending {
    id: u32,
    slot: Slot,
    /// Whose turn it is waited for; none for a request that makes a handle.
    handle: Option<Handle>,
    fd: Arc<OwnedFd>,
    events: PollFlags,
    operation: Operation,
}

/// What a pending request does once its descriptor is ready.
#[derive(Debug)]
enum Operation {
    Read {
        stream: Stream,
        length: u32,
    },
    Write {
        stream: Stream,
        length: u32,
        written: u32,
    },
    Network(network::Operation),
}

impl Pending {
    /// Whether this request has to wait until `earlier` is done.
    fn is_behind(&self, earlier: &Self) -> bool {
        self.handle.is_some() && self.handle == earlier.handle && self.events == earlier.events
    }

    /// How it ends when it is not waited for any longer.
    fn cancelled(&self) -> Result<Answer> {
        match self.operation {
            // Bytes that are out cannot be called back.
            Operation::Write { written, .. } if written > 0 => Ok(Answer::value(written)),
            _ => Err(Status::Cancelled),
        }
    }

    fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&*self.fd, self.events)
    }
}

/// How far a request came.
enum Step {
    Done(Result<Answer>),
    Wait(Pending),
}

/// The executor of one Keep, used by one thread at a time.
#[derive(Debug)]
struct Executor {
    end: HostEnd<Region>,
    region: Region,
    handles: Handles,
    network: NetworkGrant,
    resolver: Option<Resolver>,
    log: Arc<OwnedFd>,
    /// Where evidence goes, until it has come.
    evidence: Option<OwnedFd>,
    configuration: Vec<u8>,
    application: Vec<u8>,
    /// In the order in which they were made. As many as there are slots at most.
    pending: VecDeque<Pending>,
    exit: Option<i32>,
}

impl Executor {
    /// Takes everything that is posted and tries everything that waits.
    fn drain(&mut self) -> Result<Progress, ExecutorError> {
        while let Some(submission) = self.end.next()? {
            self.perform(&submission)?;
        }
        if !self.pending.is_empty() {
            self.retry()?;
        }
        // What was printed before the exit is printed.
        let printing = self.pending.iter().any(|request| {
            matches!(request.operation, Operation::Write { .. })
                && matches!(request.handle, Some(Handle::STDOUT | Handle::STDERR))
        });
        match self.exit {
            Some(code) if !printing => Ok(Progress::Exit(code)),
            _ => Ok(Progress::Idle),
        }
    }

    fn perform(&mut self, submission: &Submission) -> Result<(), ExecutorError> {
        let Submission { id, slot, call } = *submission;
        let step = match call {
            Ok(Call::Exit { code }) => {
                self.exit.get_or_insert(code);
                return Ok(());
            }
            Ok(Call::Cancel { id }) => Step::Done(self.cancel(id)?),
            Ok(Call::Close { handle }) => Step::Done(self.close(handle)?),
            Ok(call) => self
                .start(id, slot, &call)
                .unwrap_or_else(|status| Step::Done(Err(status))),
            Err(Malformed::UnknownOperation(_)) => Step::Done(Err(Status::NotImplemented)),
            Err(_) => Step::Done(Err(Status::Invalid)),
        };
        match step {
            Step::Done(result) => self.complete(id, result)?,
            Step::Wait(pending) => self.pending.push_back(pending),
        }
        Ok(())
    }

    fn complete(&mut self, id: u32, result: Result<Answer>) -> Result<(), ExecutorError> {
        let (status, answer) = match result {
            Ok(answer) => (Status::Ok, answer),
            Err(status) => (status, Answer::default()),
        };
        self.end
            .complete(id, status, answer.length, answer.value, answer.value2)?;
        Ok(())
    }

    fn start(&mut self, id: u32, slot: Slot, call: &Call) -> Result<Step> {
        let buffer = |length| Buffer::new(self.region, slot, 0, length).map_err(status);
        let answer = match *call {
            Call::StreamRead { stream, length } => {
                let object = self.stream(stream)?;
                let operation = Operation::Read {
                    stream: object.clone(),
                    length,
                };
                let request = Pending {
                    id,
                    slot,
                    handle: Some(stream),
                    fd: Arc::clone(&object.fd),
                    events: PollFlags::IN,
                    operation,
                };
                return Ok(self.attempt_in_order(request));
            }
            Call::StreamWrite { stream, length } => {
                let object = self.stream(stream)?;
                let operation = Operation::Write {
                    stream: object.clone(),
                    length,
                    written: 0,
                };
                let request = Pending {
                    id,
                    slot,
                    handle: Some(stream),
                    fd: Arc::clone(&object.fd),
                    events: PollFlags::OUT,
                    operation,
                };
                return Ok(self.attempt_in_order(request));
            }
            Call::Load {
                object,
                offset,
                length,
            } => {
                let bytes = match object {
                    Loadable::Configuration => &self.configuration,
                    Loadable::Application => &self.application,
                };
                let start = usize::try_from(offset)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let end = start.saturating_add(length as usize).min(bytes.len());
                Answer {
                    length: buffer(length)?.fill(&bytes[start..end]).map_err(status)?,
                    value: bytes.len() as u64,
                    value2: 0,
                }
            }
            Call::LogWrite { level: _, length } => {
                self.log(slot, length)?;
                Answer::default()
            }
            Call::ClockWall => Answer::value(wall_clock_ns()),
            Call::Evidence { length } => {
                self.evidence(slot, length)?;
                Answer::default()
            }
            _ if network::is_network(call) => return self.network_call(id, slot, call),
            _ => self.file_call(slot, call)?,
        };
        Ok(Step::Done(Ok(answer)))
    }

    fn stream(&self, handle: Handle) -> Result<&Stream> {
        match self.handles.get(handle)? {
            Object::Stream(stream) | Object::Connection(stream) => Ok(stream),
            Object::Directory(_) => Err(Status::IsDirectory),
            Object::Listener(_) => Err(Status::NotConnected),
            Object::File(_) | Object::Datagrams(_) => Err(Status::Invalid),
        }
    }

    /// Tries a request at once, unless an earlier one on the same stream waits.
    fn attempt_in_order(&mut self, mut request: Pending) -> Step {
        if self.pending.iter().any(|other| request.is_behind(other)) {
            return Step::Wait(request);
        }
        match attempt(self.region, &mut self.handles, &mut request) {
            Some(result) => Step::Done(result),
            None => Step::Wait(request),
        }
    }

    /// Tries the pending requests whose descriptors are ready, in their order.
    fn retry(&mut self) -> Result<(), ExecutorError> {
        let ready: Vec<bool> = {
            let mut fds: Vec<_> = self.pending.iter().map(Pending::poll_fd).collect();
            match poll(&mut fds, Some(&Timespec::default())) {
                Ok(0) | Err(Errno::INTR) => return Ok(()),
                Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
                Err(errno) => return Err(errno.into()),
            }
        };
        let mut waiting: VecDeque<Pending> = VecDeque::with_capacity(self.pending.len());
        for (mut request, ready) in std::mem::take(&mut self.pending).into_iter().zip(ready) {
            let behind = waiting.iter().any(|other| request.is_behind(other));
            let result = if ready && !behind {
                attempt(self.region, &mut self.handles, &mut request)
            } else {
                None
            };
            match result {
                Some(result) => self.complete(request.id, result)?,
                None => waiting.push_back(request),
            }
        }
        self.pending = waiting;
        Ok(())
    }

    /// Ends a pending request. One that has ended already is no error: it was faster.
    fn cancel(&mut self, id: u32) -> Result<Result<Answer>, ExecutorError> {
        let Some(index) = self.pending.iter().position(|request| request.id == id) else {
            return Ok(Ok(Answer::default()));
        };
        if let Some(request) = self.pending.remove(index) {
            self.complete(id, request.cancelled())?;
        }
        Ok(Ok(Answer::default()))
    }

    /// Closes a handle, and cancels what waits for it.
    fn close(&mut self, handle: Handle) -> Result<Result<Answer>, ExecutorError> {
        if let Err(status) = self.handles.remove(handle) {
            return Ok(Err(status));
        }
        let (ended, waiting) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<VecDeque<_>, _>(|request| request.handle == Some(handle));
        self.pending = waiting;
        for request in ended {
            self.complete(request.id, request.cancelled())?;
        }
        Ok(Ok(Answer::default()))
    }

    /// Copies the input bytes of a request.
    fn input(&self, slot: Slot, offset: u32, length: u32) -> Result<Vec<u8>> {
        if length > BUFFER_SIZE {
            return Err(Status::Invalid);
        }
        let mut bytes = vec![0; length as usize];
        self.end
            .read_input(slot, offset, &mut bytes)
            .map_err(|_| Status::Invalid)?;
        Ok(bytes)
    }

    /// Takes the Keep's evidence; a second time, or where none is wanted, it is refused.
    fn evidence(&mut self, slot: Slot, length: u32) -> Result<()> {
        if length > MAX_EVIDENCE {
            return Err(Status::Invalid);
        }
        let bytes = self.input(slot, 0, length)?;
        let file = self.evidence.take().ok_or(Status::Permission)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest).map_err(status)?;
            rest = rest.get(written..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Prints a line of the Keep's log. Control characters could steer a terminal, so they are replaced.
    fn log(&self, slot: Slot, length: u32) -> Result<()> {
        let length = length.min(u32::try_from(MAX_LOG_LINE).unwrap_or(0));
        let bytes = self.input(slot, 0, length)?;
        let text: String = String::from_utf8_lossy(&bytes)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let line = format!("enarx: keep: {text}\n");
        // A log that nobody can take is not worth waiting for.
        let _ = rustix::io::write(&*self.log, line.as_bytes());
        Ok(())
    }
}

/// Tries an operation; nothing when its descriptor is not ready.
fn attempt(region: Region, handles: &mut Handles, request: &mut Pending) -> Option<Result<Answer>> {
    let slot = request.slot;
    let buffer = |length| Buffer::new(region, slot, 0, length);
    let result = match &mut request.operation {
        Operation::Read { stream, length } => buffer(*length)
            .and_then(|buffer| stream.read(buffer))
            .map(Answer::bytes),
        Operation::Write {
            stream,
            length,
            written,
        } => match buffer(*length).and_then(|buffer| stream.write(buffer, *length, written)) {
            Err(Errno::AGAIN) => Err(Errno::AGAIN),
            // The error comes back at the next write; what is out now counts.
            Err(errno) if *written == 0 => Err(errno),
            Ok(()) | Err(_) => Ok(Answer::value(*written)),
        },
        Operation::Network(operation) => {
            let space = match buffer(BUFFER_SIZE) {
                Ok(space) => space,
                Err(errno) => return Some(Err(status(errno))),
            };
            return operation.attempt(&request.fd, space, handles);
        }
    };
    match result {
        Err(Errno::AGAIN) => None,
        other => Some(other.map_err(status)),
    }
}

/// The wall clock in nanoseconds since the UNIX epoch; 0 before it.
fn wall_clock_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0)
}

/// The executor of one Keep, shared by the VMM's threads.
#[derive(Debug)]
pub struct SharedExecutor {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    executor: Executor,
    interrupted: bool,
    /// The last words so far do not end a line.
    in_line: bool,
    /// Eventfds of the threads that sleep now.
    sleeping: Vec<Arc<OwnedFd>>,
    /// Eventfds that no thread uses.
    spare: Vec<Arc<OwnedFd>>,
}

impl SharedExecutor {
    /// Prepares the shared region and serves it.
    ///
    /// `region` must stay mapped for as long as the executor lives (the promise of
    /// [`Region::from_raw`]).
    ///
    /// # Errors
    /// The system's, when standard error cannot be duplicated for the log, or the thread for look-ups
    /// of names (which exists only if the grant has them) cannot be started.
    pub fn new(
        region: Region,
        facts: Facts,
        grant: Grant,
        configuration: Vec<u8>,
        application: Vec<u8>,
    ) -> std::io::Result<Self> {
        let Grant {
            stdio: [stdin, stdout, stderr],
            directories,
            network,
            evidence,
        } = grant;
        let log = stderr.try_clone()?;
        let streams = [
            Stream::input(stdin),
            Stream::output(stdout),
            Stream::output(stderr),
        ];
        let directories = directories
            .into_iter()
            .map(|granted| Node {
                fd: Arc::new(granted.directory),
                read_only: granted.read_only,
            })
            .collect();
        Ok(Self {
            state: Mutex::new(State {
                executor: Executor {
                    end: HostEnd::initialise(region, facts),
                    region,
                    handles: Handles::new(streams, directories),
                    network,
                    evidence,
                    resolver: network.name_lookup.then(Resolver::start).transpose()?,
                    log: Arc::new(log),
                    configuration,
                    application,
                    pending: VecDeque::new(),
                    exit: None,
                },
                interrupted: false,
                in_line: false,
                sleeping: Vec::new(),
                spare: Vec::new(),
            }),
        })
    }

    /// Performs everything that the Keep has posted, and what waited and can go on. Does not sleep.
    ///
    /// # Errors
    /// [`ExecutorError`]: the Keep cannot go on.
    pub fn drain(&self) -> Result<Progress, ExecutorError> {
        self.lock().drain()
    }

    /// Performs what can be performed, then sleeps until a completion past `seen` is posted (`seen` is
    /// the number that the Keep has taken), the Keep asks to end, or `timeout` is over; `None` is
    /// without limit. A signal to the thread, or [`Self::interrupt`], ends the sleep early.
    ///
    /// # Errors
    /// [`ExecutorError`]: the Keep cannot go on.
    pub fn wait(&self, seen: u32, timeout: Option<Duration>) -> Result<Progress, ExecutorError> {
        self.wait_beside(seen, timeout, &[])
    }

    /// As [`Self::wait`]; also returns when one of `beside` is readable.
    ///
    /// # Errors
    /// [`ExecutorError`]: the Keep cannot go on.
    pub fn wait_beside(
        &self,
        seen: u32,
        timeout: Option<Duration>,
        beside: &[BorrowedFd<'_>],
    ) -> Result<Progress, ExecutorError> {
        // A time too far away to be told is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let (waker, waited) = {
                let mut state = self.lock();
                let progress = state.drain()?;
                let posted = state.executor.end.completions_posted();
                if progress != Progress::Idle || posted != seen || state.interrupted {
                    return Ok(progress);
                }
                let waker = match state.spare.pop() {
                    Some(waker) => waker,
                    None => Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?),
                };
                state.sleeping.push(Arc::clone(&waker));
                let waited: Vec<_> = state
                    .executor
                    .pending
                    .iter()
                    .map(|request| (Arc::clone(&request.fd), request.events))
                    .collect();
                (waker, waited)
            };
            let mut fds = vec![PollFd::new(&*waker, PollFlags::IN)];
            fds.extend(
                beside
                    .iter()
                    .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)),
            );
            let own = fds.len();
            fds.extend(
                waited
                    .iter()
                    .map(|(fd, events)| PollFd::new(&**fd, *events)),
            );
            let polled = sleep(&mut fds, deadline);
            let beside_ready = fds
                .get(1..own)
                .is_some_and(|fds| fds.iter().any(|fd| !fd.revents().is_empty()));

            let mut state = self.lock();
            state.sleeping.retain(|other| !Arc::ptr_eq(other, &waker));
            // Empties the eventfd for its next user; it does not block.
            let _ = rustix::io::read(&*waker, &mut [0; 8]);
            state.spare.push(waker);
            match polled {
                Ok(0) | Err(Errno::INTR) => return state.drain(),
                Ok(_) if beside_ready => return state.drain(),
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Ends every sleep, now and later: the Keep is being ended.
    pub fn interrupt(&self) {
        let mut state = self.lock();
        state.interrupted = true;
        state.wake();
    }

    /// Tells the Keep whether a host thread polls the submission ring, so that it need not ring.
    pub fn set_polling(&self, polling: bool) {
        self.lock().executor.end.set_polling(polling);
    }

    /// Prints last words of the Keep's C library, which come past the ring; control characters
    /// other than line ends could steer a terminal, so they are replaced.
    pub fn log_last_words(&self, bytes: &[u8]) {
        let text: Vec<u8> = bytes
            .iter()
            .map(|&byte| {
                if byte.is_ascii_graphic() || byte == b'\n' {
                    byte
                } else {
                    b' '
                }
            })
            .collect();
        let Some(last) = text.last() else { return };
        let mut state = self.lock();
        state.in_line = *last != b'\n';
        let log = Arc::clone(&state.executor.log);
        drop(state);
        // A log that nobody can take is not worth waiting for.
        let _ = rustix::io::write(&*log, &text);
    }

    /// Ends the line of last words that a Keep has not ended itself, because another of its threads
    /// ended all of them.
    pub fn end_last_words(&self) {
        if self.lock().in_line {
            self.log_last_words(b"\n");
        }
    }

    /// Submissions taken so far, modulo 2^32, and whether requests wait for a descriptor.
    pub fn activity(&self) -> (u32, bool) {
        let state = self.lock();
        let executor = &state.executor;
        (
            executor.end.submissions_taken(),
            !executor.pending.is_empty(),
        )
    }

    /// Completions posted so far, modulo 2^32: what [`Self::wait`] compares with.
    pub fn completions_posted(&self) -> u32 {
        self.lock().executor.end.completions_posted()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked left a table that is still well formed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drains, and wakes the sleepers when there is something new for them.
    fn drain(&mut self) -> Result<Progress, ExecutorError> {
        let posted = self.executor.end.completions_posted();
        let newest = self.executor.pending.back().map(|request| request.id);
        let progress = self.executor.drain();
        let news = self.executor.end.completions_posted() != posted
            || self.executor.pending.back().map(|request| request.id) != newest
            || !matches!(progress, Ok(Progress::Idle));
        if news {
            self.wake();
        }
        progress
    }

    fn wake(&self) {
        for waker in &self.sleeping {
            // Fails only when the counter is full, and then it wakes already.
            let _ = rustix::io::write(&**waker, &1_u64.to_ne_bytes());
        }
    }
}

/// poll(2) until the deadline.
fn sleep(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> rustix::io::Result<usize> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // A duration that poll(2) cannot express is longer than any Keep lives.
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    poll(fds, timeout.as_ref())
}
