// SPDX-License-Identifier: Apache-2.0

//! Connections that the program has closed, until their peers have taken the rest.
//!
//! Trusted code; a peer that reads nothing is dropped.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::port::Port;
use crate::sockets::Connection;

/// How long a peer has to take the rest of a connection that was closed.
const LINGER: Duration = Duration::from_secs(10);

/// Connections that the program has closed, whose remaining output is still being sent.
#[derive(Default)]
pub struct Closing(Vec<(Box<Connection>, Instant)>);

impl Closing {
    /// Ends a connection's writing, and keeps it until its peer has taken the rest.
    pub fn begin(&mut self, mut connection: Box<Connection>) {
        connection.end_writing();
        let now = Instant::now();
        let until = now.checked_add(LINGER).unwrap_or(now);
        self.0.push((connection, until));
    }

    /// Goes on with all, and forgets those that have ended.
    pub fn look(&mut self, port: &Port, context: &Context<'_>) -> Poll<()> {
        self.0.retain_mut(|(connection, until)| {
            connection.poll_ended(context).is_pending() && !port.poll_deadline(*until)
        });
        if self.0.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
