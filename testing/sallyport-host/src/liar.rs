// SPDX-License-Identifier: Apache-2.0

//! A host that follows the protocol of the sallyport and gives the answers that its test wants: the tests check how the Keep
//! treats them. Nobody trusts it.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use enarx_sallyport::keep::Violation;
use enarx_sallyport::{Call, Doorbell, Facts, HostEnd, KeepEnd, Region, Slot, Status, Until};
use enarx_wasi::port::{Platform, Port};

/// An answer of the host. It has to be within what the call allows, as the sallyport lets nothing else through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The error, if it is one.
    pub error: Option<Status>,
    /// The bytes of the reply.
    pub bytes: Vec<u8>,
    /// The first value.
    pub value: u64,
    /// The second value.
    pub value2: u64,
}

impl Answer {
    /// Success, with these bytes.
    #[must_use]
    pub fn bytes(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            ..Self::default()
        }
    }

    /// Success, with this value.
    #[must_use]
    pub fn value(value: u64) -> Self {
        Self {
            value,
            ..Self::default()
        }
    }

    /// An error.
    #[must_use]
    pub fn error(status: Status) -> Self {
        Self {
            error: Some(status),
            ..Self::default()
        }
    }
}

/// How often the host is asked again for an answer before it counts as having none.
const MAX_CHECKS: usize = 10_000;

/// The host's answer to a call with its input; `None` as long as there is none. It is asked again at each look.
type AnswerFn = Box<dyn FnMut(&Call, &[u8]) -> Option<Answer> + Send>;

/// A call without an answer.
struct Open {
    id: u32,
    slot: Slot,
    call: Call,
    input: Vec<u8>,
}

struct State {
    end: HostEnd<Region>,
    says: AnswerFn,
    open: Vec<Open>,
    calls: Vec<Call>,
}

/// The host.
#[derive(Clone)]
pub struct Liar(Arc<(Mutex<State>, Condvar)>);

impl State {
    fn answer(&mut self, open: &Open, answer: &Answer) {
        self.end
            .write_output(open.slot, 0, &answer.bytes)
            .expect("an answer fits in the buffer");
        let length = u32::try_from(answer.bytes.len()).expect("it is short");
        let status = answer.error.unwrap_or(Status::Ok);
        self.end
            .complete(open.id, status, length, answer.value, answer.value2)
            .expect("an answer that the call allows");
    }

    /// Takes what was submitted, and answers as far as there is an answer. True if there was one.
    fn look(&mut self) -> bool {
        let before = self.end.completions_posted();
        while let Some(submission) = self.end.next().expect("the Keep keeps the protocol") {
            let call = submission.call.expect("the Keep encodes well");
            let mut input = vec![0; call.input_length() as usize];
            self.end
                .read_input(submission.slot, 0, &mut input)
                .expect("it fits in the buffer");
            let open = Open {
                id: submission.id,
                slot: submission.slot,
                call,
                input,
            };
            if let Call::Cancel { id } = call {
                if let Some(place) = self.open.iter().position(|open| open.id == id) {
                    let recalled = self.open.swap_remove(place);
                    self.answer(&recalled, &Answer::error(Status::Cancelled));
                }
                self.answer(&open, &Answer::default());
                continue;
            }
            self.calls.push(call);
            self.open.push(open);
        }
        for open in std::mem::take(&mut self.open) {
            match (self.says)(&open.call, &open.input) {
                Some(answer) => self.answer(&open, &answer),
                None => self.open.push(open),
            }
        }
        self.end.completions_posted() != before
    }
}

impl Liar {
    /// A port to a host that says this to calls; a call back ends what has no answer.
    ///
    /// # Panics
    /// At an answer that the call does not allow, and if the Keep breaks the protocol.
    pub fn start(
        says: impl FnMut(&Call, &[u8]) -> Option<Answer> + Send + 'static,
    ) -> (Port, Self) {
        let memory: &'static [_] = (0..enarx_sallyport::REGION_SIZE / 8)
            .map(|_| AtomicU64::new(0))
            .collect::<Vec<_>>()
            .leak();
        let region = Region::from_static(memory).expect("its length is right");
        Self::over(region, says)
    }

    /// The same over a region of the caller's.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn over(
        region: Region,
        says: impl FnMut(&Call, &[u8]) -> Option<Answer> + Send + 'static,
    ) -> (Port, Self) {
        let state = State {
            end: HostEnd::initialise(region, Facts::default()),
            says: Box::new(says),
            open: Vec::new(),
            calls: Vec::new(),
        };
        let host = Self(Arc::new((Mutex::new(state), Condvar::new())));
        let end = KeepEnd::attach(region).expect("the host has initialised it");
        (Port::new(end, Arc::new(host.clone())), host)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calls so far, in their order, without those that call others back.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let mut state = self.state();
        state.look();
        state.calls.clone()
    }

    /// Calls that wait for an answer.
    #[must_use]
    pub fn open(&self) -> usize {
        self.state().open.len()
    }
}

impl Doorbell for Liar {
    fn ring(&self) {
        self.state().look();
        self.0.1.notify_all();
    }

    fn wait(&self, seen: u32, _: Until, timeout: Option<Duration>) {
        let mut state = self.state();
        state.look();
        if state.end.completions_posted() != seen {
            return;
        }
        for _ in 0..MAX_CHECKS {
            if state.open.is_empty() {
                break;
            }
            if state.look() {
                return;
            }
        }
        let timeout = timeout.expect("nothing will ever end this sleep");
        // Another thread may ring meanwhile.
        let waited = self.0.1.wait_timeout(state, timeout);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Platform for Liar {
    /// A panic with the sentence, which a test can catch.
    fn violation(&self, violation: &Violation) -> ! {
        panic!("{violation}")
    }

    fn exit(&self, code: i32) -> ! {
        panic!("exit {code}")
    }
}
