// SPDX-License-Identifier: Apache-2.0

//! `poll_oneoff`: waiting for the clock and for descriptors.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::functions::{MONOTONIC, REALTIME};
use super::memory::{Memory, Result};
use super::state::Preview1;
use super::table::{Entry, Table};
use super::types;
use crate::error::Errno;

/// Bytes of a `subscription`.
const SUBSCRIPTION: u32 = 48;
/// Bytes of an `event`.
const EVENT: u32 = 32;
/// Most subscriptions of one call; bounds the allocations that a guest can cause.
const SUBSCRIPTIONS_MAX: u32 = 1 << 16;

const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// `subclockflags`: the timeout is a point in time.
const ABSOLUTE: u16 = 1;

enum Interest {
    /// Until this instant; never when there is none.
    Time(Option<Instant>),
    /// Standard input has something to read, or has ended.
    Input,
    /// A socket with this number has something to read, a connection to accept, or has ended.
    Readable(u32),
    /// A connection with this number has room for output, or has ended.
    Writable(u32),
    /// Ready at once, with this event.
    Ready { kind: u8, bytes: u64, hangup: bool },
}

struct Subscription {
    userdata: u64,
    wish: Interest,
}

/// The parts of an event: its kind, bytes, and whether the peer has ended.
type Ready = (u8, u64, bool);

/// The event of a socket that can be read, or that gives a connection. A failed one can be read: the read
/// returns the error.
fn readable(table: &mut Table, fd: u32, context: &mut Context<'_>) -> Option<Ready> {
    if let Ok(listener) = table.listener(fd) {
        let ready = listener.poll_ready(context).is_ready();
        return ready.then_some((FD_READ, 1, false));
    }
    match table.connection(fd).ok()?.poll_readable(context) {
        Poll::Pending => None,
        Poll::Ready(Ok(0) | Err(_)) => Some((FD_READ, 0, true)),
        Poll::Ready(Ok(count)) => Some((FD_READ, count as u64, false)),
    }
}

/// The event of a connection that can be written to. A failed one can: the write returns the error.
fn writable(table: &mut Table, fd: u32, context: &mut Context<'_>) -> Option<Ready> {
    match table.connection(fd).ok()?.poll_writable(context) {
        Poll::Pending => None,
        Poll::Ready(Ok(())) => Some((FD_WRITE, 1, false)),
        Poll::Ready(Err(_)) => Some((FD_WRITE, 0, true)),
    }
}

impl Preview1 {
    pub(super) fn poll_oneoff(
        &mut self,
        memory: &mut Memory<'_>,
        subscriptions: u32,
        events: u32,
        count: u32,
        result: u32,
    ) -> Result<()> {
        if count == 0 || count > SUBSCRIPTIONS_MAX {
            return Err(Errno::Invalid.into());
        }
        // Both arrays must lie in memory, however many events there will be.
        memory.slice(events, EVENT * count)?;
        memory.slice(subscriptions, SUBSCRIPTION * count)?;
        let mut wishes = Vec::with_capacity(count as usize);
        for index in 0..count {
            wishes.push(self.subscription(memory, subscriptions + SUBSCRIPTION * index)?);
        }
        for wish in &wishes {
            if let Interest::Readable(fd) = wish.wish
                && let Ok(listener) = self.table.listener(fd)
            {
                listener.resume();
            }
        }
        let Self {
            context,
            table,
            closing,
        } = self;
        let (stdin, port) = (&context.stdin, &context.port);
        let ready = port.block_on(std::future::poll_fn(|context| {
            // The rest of closed connections continues in the meantime.
            let _ = closing.look(port, context);
            let ready: Vec<[u8; EVENT as usize]> = wishes
                .iter()
                .filter_map(|subscription| {
                    let (kind, bytes, hangup) = match subscription.wish {
                        Interest::Time(Some(deadline)) if port.poll_deadline(deadline) => {
                            (CLOCK, 0, false)
                        }
                        Interest::Input if stdin.poll_ready() => (FD_READ, 1, false),
                        Interest::Readable(fd) => readable(table, fd, context)?,
                        Interest::Writable(fd) => writable(table, fd, context)?,
                        Interest::Ready {
                            kind,
                            bytes,
                            hangup,
                        } => (kind, bytes, hangup),
                        _ => return None,
                    };
                    Some(types::event(subscription.userdata, 0, kind, bytes, hangup))
                })
                .collect();
            if ready.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(ready)
            }
        }));
        for (event, pointer) in ready.iter().zip((events..).step_by(EVENT as usize)) {
            memory.write_record(pointer, event)?;
        }
        // At most `count`.
        memory.write_u32(
            result,
            u32::try_from(ready.len()).map_err(|_| Errno::Overflow)?,
        )
    }

    fn subscription(&self, memory: &Memory<'_>, pointer: u32) -> Result<Subscription> {
        let userdata = memory.read_u64(pointer)?;
        let wish = match memory.read_u8(pointer + 8)? {
            CLOCK => self.clock_wish(
                memory.read_u32(pointer + 16)?,
                memory.read_u64(pointer + 24)?,
                memory.read_u16(pointer + 40)?,
            )?,
            FD_READ => self.read_wish(memory.read_u32(pointer + 16)?)?,
            FD_WRITE => match self.table.get(memory.read_u32(pointer + 16)?)? {
                Entry::Stdout | Entry::Stderr | Entry::File(_) => Interest::Ready {
                    kind: FD_WRITE,
                    bytes: 1,
                    hangup: false,
                },
                Entry::Connection(_) => Interest::Writable(memory.read_u32(pointer + 16)?),
                _ => return Err(Errno::BadDescriptor.into()),
            },
            _ => return Err(Errno::Invalid.into()),
        };
        Ok(Subscription { userdata, wish })
    }

    fn clock_wish(&self, clock: u32, timeout: u64, flags: u16) -> Result<Interest> {
        if flags & !ABSOLUTE != 0 {
            return Err(Errno::Invalid.into());
        }
        let after = |duration| Instant::now().checked_add(Duration::from_nanos(duration));
        Ok(Interest::Time(match (clock, flags & ABSOLUTE != 0) {
            (MONOTONIC, true) => self.context.clocks.instant(timeout),
            (MONOTONIC | REALTIME, false) => after(timeout),
            (REALTIME, true) => after(timeout.saturating_sub(self.context.clocks.wall()?)),
            _ => return Err(Errno::Invalid.into()),
        }))
    }

    fn read_wish(&self, fd: u32) -> Result<Interest> {
        Ok(match self.table.get(fd)? {
            Entry::Stdin => Interest::Input,
            Entry::Listener(_) | Entry::Connection(_) => Interest::Readable(fd),
            Entry::File(file) => {
                let size = file.descriptor.stat()?.size;
                Interest::Ready {
                    kind: FD_READ,
                    bytes: 1,
                    hangup: size <= file.position,
                }
            }
            _ => return Err(Errno::BadDescriptor.into()),
        })
    }
}
