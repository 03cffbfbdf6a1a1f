// SPDX-License-Identifier: Apache-2.0

//! The executor of one Keep: takes requests from the ring, performs them or lets them wait, and completes
//! them.
//!
//! Every request is hostile. Files are in [`crate::files`], sockets in [`crate::sockets`].

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use enarx_sallyport::poll::ENTRY_SIZE;
use enarx_sallyport::types::Object as Loadable;
use enarx_sallyport::{
    BUFFER_SIZE, Call, Handle, HostEnd, Malformed, Region, Slot, Status, Submission, Until,
};
use rustix::event::{PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::addresses::Judge;
use crate::answer::{Answer, Result, status};
use crate::buffer::Buffer;
use crate::error::ExecutorError;
use crate::grant::NetworkGrant;
use crate::handles::{Handles, Object};
use crate::launch::Objects;
use crate::log::{self, Log};
use crate::network;
use crate::pending::{Operation, Pending, Started, attempt, sync};
use crate::rate::Bucket;
use crate::resolver::Resolver;
use crate::sleep::timer;
use crate::step::{Progress, Step};
use crate::streams::{Direction, Stream};
use crate::watch::{self, Watches};

/// Most evidence that the host takes, in bytes.
const MAX_EVIDENCE: u32 = 16 << 10;

/// Shortest time between two looks at the handles of [`Call::Poll`] while the Keep makes other calls: a look
/// costs a system call. A Keep that sleeps is woken at once.
const WATCH_INTERVAL: Duration = Duration::from_micros(200);

/// The executor of one Keep, used by one thread at a time.
#[derive(Debug)]
pub struct Executor {
    pub end: HostEnd<Region>,
    pub region: Region,
    pub handles: Handles,
    pub network: NetworkGrant,
    pub judge: Judge,
    pub resolver: Option<Resolver>,
    /// Completions posted when the last one was that is more than a write's success ([`Until::News`]), modulo 2^32.
    pub news: u32,
    pub log: Arc<Log>,
    pub interrupted: Arc<AtomicBool>,
    /// The place to signal that the Keep accepts connections, until it does.
    pub serves: Option<OwnedFd>,
    /// Where evidence goes, until it has come.
    pub evidence: Option<OwnedFd>,
    pub objects: Objects,
    pub requests: Bucket,
    pub syncs: Bucket,
    /// Bytes of requests and replies so far, modulo 2^32.
    pub moved: u32,
    /// In the order in which they were made. As many as there are slots at most, with those of `watches`.
    pub pending: VecDeque<Pending>,
    /// Requests that wait for one of many handles.
    pub watches: Watches,
    /// Time of the last check of `watches`.
    pub watched: Instant,
    pub exit: Option<i32>,
    /// True while a thread polls the submission ring.
    pub polled: bool,
}

impl Executor {
    /// Takes posted requests and tries waiting ones, as many as fit into a step, so that a Keep that posts
    /// endlessly does not occupy its caller endlessly. `falls_asleep`: the caller sleeps when nothing is
    /// left.
    pub fn drain(&mut self, falls_asleep: bool) -> Result<Progress, ExecutorError> {
        let mut step = Step::new(&self.interrupted);
        let mut more = false;
        while let Some(submission) = self.end.next()? {
            self.perform(&submission)?;
            if step.is_over() {
                more = true;
                break;
            }
        }
        if !self.pending.is_empty() {
            more |= self.retry()?;
        }
        if !self.watches.is_empty() && (falls_asleep || self.watched.elapsed() >= WATCH_INTERVAL) {
            self.look()?;
        }
        // Output from before the exit is still printed.
        let printing = self.pending.iter().any(|request| {
            matches!(request.operation, Operation::Write { .. })
                && matches!(request.handle, Some(Handle::STDOUT | Handle::STDERR))
        });
        match self.exit {
            Some(code) if !printing => Ok(Progress::Exit(code)),
            _ if more => Ok(Progress::More),
            _ => Ok(Progress::Idle),
        }
    }

    /// Completes requests that wait for one of many handles, if such handles are ready.
    fn look(&mut self) -> Result<(), ExecutorError> {
        while let Some((request, reply)) = self.watches.next()? {
            let length = u32::try_from(reply.len()).unwrap_or(u32::MAX);
            let buffer = Buffer::new(self.region, request.slot, 0, length);
            let filled = buffer.and_then(|buffer| buffer.fill(&reply));
            self.complete(request.id, filled.map(Answer::bytes).map_err(status))?;
        }
        self.watched = Instant::now();
        Ok(())
    }

    /// Waits for one of many handles.
    fn watch(&mut self, id: u32, slot: Slot, count: u32) -> Result<(), ExecutorError> {
        let added = self
            .input(slot, 0, count.saturating_mul(ENTRY_SIZE))
            .and_then(|input| {
                let request = watch::Request { id, slot };
                self.watches.add(request, &input, &self.handles)
            });
        match added {
            Err(status) => self.complete(id, Err(status)),
            Ok(()) => self.look(),
        }
    }

    fn perform(&mut self, submission: &Submission) -> Result<(), ExecutorError> {
        let Submission { id, slot, call } = *submission;
        if let Ok(call) = &call {
            self.moved = self.moved.wrapping_add(call.input_length());
        }
        let step = match call {
            Ok(Call::Exit { code }) => {
                self.exit.get_or_insert(code);
                return Ok(());
            }
            Ok(Call::Poll { count }) => return self.watch(id, slot, count),
            Ok(Call::Cancel { id }) => self.cancel(id)?,
            Ok(Call::Close { handle }) => self.close(handle)?,
            Ok(call) => self
                .start(id, slot, &call)
                .unwrap_or_else(|status| Started::Done(Err(status))),
            Err(Malformed::UnknownOperation(_)) => Started::Done(Err(Status::NotImplemented)),
            Err(_) => Started::Done(Err(Status::Invalid)),
        };
        let write = match call {
            Ok(Call::StreamWrite { length, .. }) => Some(u64::from(length)),
            _ => None,
        };
        match step {
            Started::Done(Ok(answer)) if write == Some(answer.value) => {
                self.post(id, Ok(answer))?;
            }
            Started::Done(result) => self.complete(id, result)?,
            Started::Waits(pending) => self.pending.push_back(pending),
        }
        Ok(())
    }

    /// Posts a completion.
    fn complete(&mut self, id: u32, result: Result<Answer>) -> Result<(), ExecutorError> {
        self.post(id, result)?;
        self.news = self.end.completions_posted();
        Ok(())
    }

    /// Posts a completion that does not count as news.
    fn post(&mut self, id: u32, result: Result<Answer>) -> Result<(), ExecutorError> {
        let (status, answer) = match result {
            Ok(answer) => (Status::Ok, answer),
            Err(status) => (status, Answer::default()),
        };
        self.end
            .complete(id, status, answer.length, answer.value, answer.value2)?;
        self.moved = self.moved.wrapping_add(answer.length);
        Ok(())
    }

    fn start(&mut self, id: u32, slot: Slot, call: &Call) -> Result<Started> {
        let buffer = |length| Buffer::new(self.region, slot, 0, length).map_err(status);
        let answer = match *call {
            Call::StreamRead { stream, length } => {
                let object = self.stream(stream, Direction::Input)?;
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
                let object = self.stream(stream, Direction::Output)?;
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
                    Loadable::Configuration => &self.objects.configuration,
                    Loadable::Application => &self.objects.application,
                    Loadable::Contract => &self.objects.contract,
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
            Call::Sync { handle, data_only } => return self.sync(id, slot, handle, data_only),
            _ if network::is_network(call) => return self.network_call(id, slot, call),
            _ => self.file_call(slot, call)?,
        };
        Ok(Started::Done(Ok(answer)))
    }

    /// Writes a file through to its disk, at once or when its turn comes.
    fn sync(&mut self, id: u32, slot: Slot, handle: Handle, data_only: bool) -> Result<Started> {
        let file = Arc::clone(&self.handles.node(handle)?.fd);
        let wait = self.syncs.take_on_credit(1, Instant::now());
        if wait.is_zero() {
            return self
                .repeat(|| sync(&file, data_only))
                .map(|()| Started::Done(Ok(Answer::default())));
        }
        let timer = timer(wait).map_err(status)?;
        Ok(Started::Waits(Pending {
            id,
            slot,
            handle: Some(handle),
            fd: Arc::new(timer),
            events: PollFlags::IN,
            operation: Operation::Sync { file, data_only },
        }))
    }

    /// The stream of a handle; one of the other direction is no such handle, as read(2) and write(2) have it.
    fn stream(&self, handle: Handle, direction: Direction) -> Result<&Stream> {
        match self.handles.get(handle)? {
            Object::Stream(stream) | Object::Connection(stream) => {
                if stream.is_open_for(direction) {
                    Ok(stream)
                } else {
                    Err(Status::BadHandle)
                }
            }
            Object::Directory(_) => Err(Status::IsDirectory),
            Object::Tcp(_) | Object::Listener(_) => Err(Status::NotConnected),
            Object::File(_) | Object::Datagrams(_) => Err(Status::Invalid),
        }
    }

    /// Tries a request at once, unless an earlier one on the same stream waits.
    pub fn attempt_in_order(&mut self, mut request: Pending) -> Started {
        if self.pending.iter().any(|other| request.is_behind(other)) {
            return Started::Waits(request);
        }
        match attempt(self.region, &mut self.handles, &mut request) {
            Some(result) => Started::Done(result),
            None => Started::Waits(request),
        }
    }

    /// Tries the pending requests whose descriptors are ready, in their order, as many as fit into a
    /// step. True if there are more.
    fn retry(&mut self) -> Result<bool, ExecutorError> {
        let ready: Vec<bool> = {
            let mut fds: Vec<_> = self.pending.iter().map(Pending::poll_fd).collect();
            match poll(&mut fds, Some(&Timespec::default())) {
                Ok(0) | Err(Errno::INTR) => return Ok(false),
                Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
                Err(errno) => return Err(errno.into()),
            }
        };
        let mut step = Step::new(&self.interrupted);
        let mut over = false;
        let mut more = false;
        let mut waiting: VecDeque<Pending> = VecDeque::with_capacity(self.pending.len());
        for (mut request, ready) in std::mem::take(&mut self.pending).into_iter().zip(ready) {
            let turn = ready && !waiting.iter().any(|other| request.is_behind(other));
            let result = if turn && !over {
                over = step.is_over();
                attempt(self.region, &mut self.handles, &mut request)
            } else {
                more |= turn;
                None
            };
            match result {
                Some(result) => self.complete(request.id, result)?,
                None => waiting.push_back(request),
            }
        }
        self.pending = waiting;
        Ok(more)
    }

    /// True if there is a completion of this kind after the first `seen` ones.
    pub fn has_completed(&self, seen: u32, until: Until) -> bool {
        match until {
            Until::Completion => self.end.completions_posted() != seen,
            // After 2^31 writes and nothing else this is true too soon, which a Keep has to expect.
            Until::News => self.news.wrapping_sub(seen).cast_signed() > 0,
        }
    }

    /// The requests that were the last to wait, of either kind: another one makes sleepers look again.
    pub fn newest(&self) -> (Option<u32>, Option<u32>) {
        let pending = self.pending.back().map(|request| request.id);
        (pending, self.watches.newest())
    }

    /// Ends a pending request. It is no error if the request has already finished.
    fn cancel(&mut self, id: u32) -> Result<Started, ExecutorError> {
        if self.watches.cancel(id) {
            self.complete(id, Err(Status::Cancelled))?;
            return Ok(Started::Done(Ok(Answer::default())));
        }
        let Some(index) = self.pending.iter().position(|request| request.id == id) else {
            return Ok(Started::Done(Ok(Answer::default())));
        };
        if let Some(request) = self.pending.remove(index) {
            self.complete(id, request.cancelled())?;
        }
        Ok(Started::Done(Ok(Answer::default())))
    }

    /// Closes a handle, and cancels what waits for it.
    fn close(&mut self, handle: Handle) -> Result<Started, ExecutorError> {
        match self.handles.remove(handle) {
            Ok(Object::File(node)) => self.closed(&node),
            Ok(_) => {}
            Err(status) => return Ok(Started::Done(Err(status))),
        }
        let (ended, waiting) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<VecDeque<_>, _>(|request| request.handle == Some(handle));
        self.pending = waiting;
        for request in ended {
            self.complete(request.id, request.cancelled())?;
        }
        if self.watches.close(handle) {
            self.look()?;
        }
        Ok(Started::Done(Ok(Answer::default())))
    }

    /// Copies the input bytes of a request.
    pub fn input(&self, slot: Slot, offset: u32, length: u32) -> Result<Vec<u8>> {
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

    /// Accepts a line for the Keep's log.
    fn log(&self, slot: Slot, length: u32) -> Result<()> {
        let bytes = self.input(slot, 0, length.min(log::MAX_LINE))?;
        self.log.line(&bytes);
        Ok(())
    }

    /// Repeats a system call that a signal has ended, unless the Keep is being ended.
    pub fn repeat<T>(&self, mut call: impl FnMut() -> rustix::io::Result<T>) -> Result<T> {
        loop {
            match call() {
                Err(Errno::INTR) if !self.interrupted.load(Ordering::Acquire) => {}
                other => return other.map_err(status),
            }
        }
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
