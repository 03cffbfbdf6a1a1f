// SPDX-License-Identifier: Apache-2.0

//! System calls that a Keep does not have but its runtime made. Users only see a program that fails
//! in a Keep and works elsewhere; this names the cause, for developers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use syscalls::{Errno, Sysno};

/// The consequence of a refused system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusedCalls {
    /// The runtime gets its error and goes on.
    #[default]
    Count,
    /// The Keep ends, and says which call it was: tests of Enarx ask for that.
    End,
}

/// Most different calls that are stored, so that a Keep cannot fill this machine's memory.
const MAX_CALLS: usize = 64;

/// A refused system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refused {
    /// Number of the call on Linux x86-64.
    pub number: u64,
    /// Error number that the runtime was given; `None` if it was given none.
    pub errno: Option<u64>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, errno } = *self;
        match usize::try_from(number).ok().and_then(Sysno::new) {
            Some(call) => write!(f, "{call} ({number})")?,
            None => write!(f, "{number}")?,
        }
        let Some(errno) = errno else { return Ok(()) };
        match i32::try_from(errno)
            .ok()
            .and_then(|errno| Errno::new(errno).name())
        {
            Some(name) => write!(f, ": {name}"),
            None => write!(f, ": error {errno}"),
        }
    }
}

/// The refused system calls of one Keep.
#[derive(Debug, Default)]
pub struct Refusals {
    end: bool,
    counts: Mutex<BTreeMap<Refused, u64>>,
}

impl Refusals {
    /// None so far.
    pub fn new(refused: RefusedCalls) -> Self {
        Self {
            end: refused == RefusedCalls::End,
            counts: Mutex::default(),
        }
    }

    /// Records a call. True if it must end the Keep.
    pub fn note(&self, call: Refused) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < MAX_CALLS || counts.contains_key(&call) {
            let count = counts.entry(call).or_default();
            *count = count.saturating_add(1);
        }
        self.end
    }

    /// The calls, and how often each was made.
    pub fn counts(&self) -> Vec<(Refused, u64)> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(call, count)| (*call, *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENAT: Refused = Refused {
        number: 257,
        errno: Some(2),
    };

    #[test]
    fn calls_and_errors_have_names() {
        assert_eq!(OPENAT.to_string(), "openat (257): ENOENT");
        let unknown = Refused {
            number: u64::MAX,
            errno: Some(u64::MAX),
        };
        let max = u64::MAX;
        assert_eq!(unknown.to_string(), format!("{max}: error {max}"));
    }

    #[test]
    fn only_the_strict_kind_ends_the_keep() {
        let counting = Refusals::new(RefusedCalls::Count);
        assert!(!counting.note(OPENAT));
        assert!(!counting.note(OPENAT));
        assert_eq!(counting.counts(), [(OPENAT, 2)]);
        let ending = Refusals::new(RefusedCalls::End);
        assert!(ending.note(OPENAT));
        assert_eq!(ending.counts(), [(OPENAT, 1)]);
    }

    #[test]
    fn a_keep_cannot_fill_the_hosts_memory() {
        let refusals = Refusals::new(RefusedCalls::Count);
        for number in 0..10_000 {
            let call = Refused {
                number,
                errno: Some(38),
            };
            assert!(!refusals.note(call));
        }
        assert_eq!(refusals.counts().len(), MAX_CALLS);
        let known = refusals.counts()[0].0;
        refusals.note(known);
        assert_eq!(refusals.counts()[0].1, 2);
    }
}
