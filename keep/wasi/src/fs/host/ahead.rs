// SPDX-License-Identifier: Apache-2.0

//! Reading ahead in a file of the host, and splitting a read that does not fit in one call: several calls at a time,
//! so that the host reads some parts while the program handles others.
//!
//! Other programs may change the file in the meantime, also through another descriptor, and the program must see this
//! as if nothing were read ahead. So the bytes are used only if the Keep has sent and received nothing since they were
//! requested ([`Port::exchanges`]), not even the time. Then, whatever changed the file, an infinitely fast program
//! could have read the same bytes, and neither the program nor an observer can notice a difference.

use enarx_sallyport::{Call, Handle};

use super::super::Node;
use crate::port::queue::{CALLS_MAX, Queue};
use crate::port::{MAX_TRANSFER, Port};

/// Most bytes in flight or not taken.
const WINDOW_MAX: usize = CALLS_MAX * MAX_TRANSFER;
/// The same at first, for a program that reads little at a time.
const WINDOW_MIN: usize = 32 * 1024;
/// Minimum number of calls that fill a window: the program takes the bytes of one while the host performs others.
const CALLS_IN_WINDOW: usize = 4;

/// A part of a file that was read.
pub struct Part {
    /// Its bytes.
    pub length: usize,
    /// It is shorter than asked: the file ends with it.
    pub is_last: bool,
}

/// The reads of one file, from where the program goes on.
#[derive(Default)]
pub struct Ahead {
    /// The file that was read last.
    node: Option<Node>,
    /// Offset after the last byte that was given to the program.
    position: u64,
    /// Offset after the last byte that was requested.
    asked: u64,
    /// In the order of the file.
    queue: Queue,
    /// Bytes of the first of them that were given.
    given: usize,
    /// Bytes that may be in flight or not taken. It grows as bytes that were read ahead are taken.
    window: usize,
    /// As the port had it when the first of the queue was started, or the last read ended.
    exchanges: u64,
}

impl Ahead {
    /// Begins a read at an offset. True if it follows the last one, and nothing has happened in between: then the
    /// bytes that were read ahead are valid.
    pub fn begin(&mut self, port: &Port, node: Node, offset: u64) -> bool {
        let follows = self.node == Some(node)
            && self.position == offset
            && self.exchanges == port.exchanges();
        if !follows {
            self.queue.clear();
            self.window = 0;
            (self.node, self.position) = (Some(node), offset);
        }
        follows
    }

    /// Where the next byte is to be read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The program was given this many bytes.
    pub fn advance(&mut self, length: usize) {
        self.position = self.position.saturating_add(length as u64);
    }

    /// Asks for the next `length` bytes, as much of them as fits in a window: they belong to one read.
    pub fn read_whole(&mut self, port: &Port, handle: Handle, length: usize) {
        let until = self.position.saturating_add(length as u64);
        self.window = WINDOW_MAX;
        self.fill(port, handle, until);
    }

    /// Ends a read that gave `length` bytes. If it is one of a sequence, the next bytes are requested.
    pub fn end(&mut self, port: &Port, handle: Handle, length: usize, goes_on: bool) {
        if !goes_on {
            self.queue.clear();
            self.window = 0;
            self.exchanges = port.exchanges();
            return;
        }
        if self.window == 0 {
            let window = length.saturating_mul(CALLS_IN_WINDOW);
            self.window = window.clamp(WINDOW_MIN, WINDOW_MAX);
        }
        self.fill(port, handle, u64::MAX);
    }

    /// Requests the bytes after those already requested, as far as there is room in the window.
    fn fill(&mut self, port: &Port, handle: Handle, until: u64) {
        if self.queue.is_empty() {
            self.asked = self.position;
            self.given = 0;
            self.exchanges = port.exchanges();
        }
        let window = self.position.saturating_add(self.window as u64);
        let most = (self.window / CALLS_IN_WINDOW).min(MAX_TRANSFER) as u64;
        while self.queue.len() < CALLS_MAX {
            let end = self.asked.saturating_add(most).min(until);
            let length = end.saturating_sub(self.asked);
            let Ok(size) = u32::try_from(length) else {
                return;
            };
            if size == 0 || end > window {
                return;
            }
            let call = Call::ReadAt {
                handle,
                offset: self.asked,
                length: size,
            };
            // If there is no slot for it now, it is requested when it is needed.
            let Some(operation) = port.read_ahead(&call) else {
                return;
            };
            self.queue.push(operation, size as usize);
            self.asked = end;
        }
    }

    /// Gives the next requested bytes, waiting for them. `None` if there are none: they have to be requested now.
    pub fn take(&mut self, output: &mut [u8]) -> Option<Part> {
        let first = self.queue.first()?;
        let Some(all) = first.operation.copy(self.given, output) else {
            // It fails again if the program wants it.
            self.queue.clear();
            return None;
        };
        let length = output.len().min(all.saturating_sub(self.given));
        self.given = self.given.saturating_add(length);
        let is_short = all < first.length;
        let is_taken = self.given >= all;
        if is_taken {
            self.queue.pop();
            self.given = 0;
            self.window = self.window.saturating_mul(2).min(WINDOW_MAX);
        }
        Some(Part {
            length,
            is_last: is_taken && is_short,
        })
    }

    /// Discards what was read of a file that is closed.
    pub fn forget(&mut self, node: Node) {
        if self.node == Some(node) {
            self.queue.clear();
            self.node = None;
        }
    }
}
