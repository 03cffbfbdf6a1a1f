// SPDX-License-Identifier: Apache-2.0

//! The account of a connection to a server: the requests that go over it, and the memory that it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::charge::Charge;

/// The account of a connection, as long as anybody has a part of it.
pub struct Account {
    /// Requests that go over it.
    uses: AtomicUsize,
    _memory: Charge,
}

impl Account {
    /// The account of a connection that uses this much memory.
    pub fn new(memory: Charge) -> Arc<Self> {
        Arc::new(Self {
            uses: AtomicUsize::new(0),
            _memory: memory,
        })
    }

    /// Requests that go over the connection.
    pub fn uses(&self) -> usize {
        self.uses.load(Ordering::Acquire)
    }
}

/// A request over a connection, until its response has come; clones are the same.
#[derive(Clone)]
pub struct Use {
    _one: Arc<OneUse>,
}

impl Use {
    /// One more request over the connection of this account.
    pub fn begin(account: &Arc<Account>) -> Self {
        account.uses.fetch_add(1, Ordering::AcqRel);
        Self {
            _one: Arc::new(OneUse(Arc::clone(account))),
        }
    }
}

struct OneUse(Arc<Account>);

impl Drop for OneUse {
    fn drop(&mut self) {
        self.0.uses.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The part of a connection and the memory of a request, until its response has been read.
pub struct Held {
    _connection: Use,
    _memory: Charge,
}

impl Held {
    /// A connection, and memory.
    pub fn new(connection: Use, memory: Charge) -> Self {
        Self {
            _connection: connection,
            _memory: memory,
        }
    }
}
