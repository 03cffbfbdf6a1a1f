// SPDX-License-Identifier: Apache-2.0

//! A sequence of decisions, taken from bytes.

use std::borrow::Cow;

use enarx_sallyport::call::{Call, Operation};
use enarx_sallyport::types::{
    Handle, Level, Object, OpenFlags, ShutdownHow, SocketOption, Time, TimeChange,
};
use enarx_sallyport::{BUFFER_SIZE, SocketAddress};

/// Decisions, read from bytes; after the last byte every decision is zero.
pub struct Script<'a> {
    bytes: Cow<'a, [u8]>,
    /// How many of them are used.
    used: usize,
}

impl<'a> Script<'a> {
    /// Decisions from these bytes, which are borrowed or owned.
    pub fn new(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self {
            bytes: bytes.into(),
            used: 0,
        }
    }

    /// True if no byte is left.
    pub fn is_over(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// The next bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let left = &self.bytes[self.used..];
        let taken = left.len().min(N);
        out[..taken].copy_from_slice(&left[..taken]);
        self.used += taken;
        out
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next two bytes, the low one first.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// The lowest bit of the next byte.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// One of several.
    pub fn pick<'b, T>(&mut self, choices: &'b [T]) -> Option<&'b T> {
        let index = usize::from(self.byte());
        choices.get(index.checked_rem(choices.len())?)
    }

    /// A number that is often near the limits of the allowed range.
    pub fn length(&mut self) -> u32 {
        match self.byte() % 8 {
            0 => 0,
            1 => BUFFER_SIZE,
            2 => BUFFER_SIZE.wrapping_add(self.u32() % 64).wrapping_sub(32),
            3 => self.u32(),
            4 => 275,
            _ => u32::from(self.byte()),
        }
    }

    fn handle(&mut self) -> Handle {
        Handle(self.u32())
    }

    fn time(&mut self) -> TimeChange {
        match self.byte() % 3 {
            0 => TimeChange::Keep,
            1 => TimeChange::Now,
            _ => {
                let seconds = self.u64().cast_signed();
                let nanoseconds = u32::try_from(self.u64() % u64::from(Time::SECOND));
                let time = Time::new(seconds, nanoseconds.unwrap_or(0));
                TimeChange::At(time.unwrap_or_default())
            }
        }
    }

    /// An address of either family.
    pub fn address(&mut self) -> SocketAddress {
        if self.flag() {
            SocketAddress::V4 {
                address: self.array(),
                port: self.u16(),
            }
        } else {
            SocketAddress::V6 {
                address: self.array(),
                port: self.u16(),
                flow: self.u32(),
                scope: self.u32(),
            }
        }
    }

    /// Any call, its lengths not always allowed.
    pub fn call(&mut self) -> Call {
        let operation = *self.pick(Operation::ALL).expect("there are operations");
        self.call_of(operation)
    }

    /// Any call of one operation.
    pub fn call_of(&mut self, operation: Operation) -> Call {
        match operation {
            Operation::Load => Call::Load {
                object: *self.pick(Object::ALL).expect("not empty"),
                offset: self.u64(),
                length: self.length(),
            },
            Operation::StreamRead => Call::StreamRead {
                stream: self.handle(),
                length: self.length(),
            },
            Operation::StreamWrite => Call::StreamWrite {
                stream: self.handle(),
                length: self.length(),
            },
            Operation::LogWrite => Call::LogWrite {
                level: *self.pick(Level::ALL).expect("not empty"),
                length: self.length(),
            },
            Operation::ClockWall => Call::ClockWall,
            Operation::Evidence => Call::Evidence {
                length: self.length(),
            },
            Operation::Exit => Call::Exit {
                code: self.u32().cast_signed(),
            },
            Operation::Cancel => Call::Cancel { id: self.u32() },
            Operation::Open => Call::Open {
                dir: self.handle(),
                flags: OpenFlags::from_bits(u16::from(self.byte())).expect("all 8 bits are known"),
                path_length: self.length(),
            },
            Operation::Close => Call::Close {
                handle: self.handle(),
            },
            Operation::ReadAt => Call::ReadAt {
                handle: self.handle(),
                offset: self.u64(),
                length: self.length(),
            },
            Operation::WriteAt => Call::WriteAt {
                handle: self.handle(),
                offset: self.u64(),
                length: self.length(),
            },
            Operation::Append => Call::Append {
                handle: self.handle(),
                length: self.length(),
            },
            Operation::Stat => Call::Stat {
                handle: self.handle(),
            },
            Operation::StatAt => Call::StatAt {
                dir: self.handle(),
                follow: self.flag(),
                path_length: self.length(),
            },
            Operation::SetSize => Call::SetSize {
                handle: self.handle(),
                size: self.u64(),
            },
            Operation::SetTimes => Call::SetTimes {
                handle: self.handle(),
                atim: self.time(),
                mtim: self.time(),
            },
            Operation::SetTimesAt => Call::SetTimesAt {
                dir: self.handle(),
                follow: self.flag(),
                atim: self.time(),
                mtim: self.time(),
                path_length: self.length(),
            },
            Operation::Sync => Call::Sync {
                handle: self.handle(),
                data_only: self.flag(),
            },
            Operation::ReadDir => Call::ReadDir {
                handle: self.handle(),
                cookie: self.u64(),
                length: self.length(),
            },
            Operation::CreateDir => Call::CreateDir {
                dir: self.handle(),
                path_length: self.length(),
            },
            Operation::RemoveDir => Call::RemoveDir {
                dir: self.handle(),
                path_length: self.length(),
            },
            Operation::Unlink => Call::Unlink {
                dir: self.handle(),
                path_length: self.length(),
            },
            Operation::ReadLink => Call::ReadLink {
                dir: self.handle(),
                path_length: self.length(),
            },
            Operation::Rename => Call::Rename {
                from_dir: self.handle(),
                to_dir: self.handle(),
                from_length: self.length(),
                to_length: self.length(),
            },
            Operation::Link => Call::Link {
                from_dir: self.handle(),
                to_dir: self.handle(),
                follow: self.flag(),
                from_length: self.length(),
                to_length: self.length(),
            },
            Operation::Symlink => Call::Symlink {
                dir: self.handle(),
                target_length: self.length(),
                link_length: self.length(),
            },
            Operation::Poll => Call::Poll {
                count: self.length(),
            },
            Operation::Resolve => Call::Resolve {
                name_length: self.length(),
            },
            Operation::TcpOpen => Call::TcpOpen {
                ipv6: self.u32() & 1 != 0,
            },
            Operation::UdpOpen => Call::UdpOpen {
                ipv6: self.u32() & 1 != 0,
            },
            Operation::Bind => Call::Bind {
                handle: self.handle(),
                address: self.address(),
            },
            Operation::TcpConnect => Call::TcpConnect {
                handle: self.handle(),
                address: self.address(),
            },
            Operation::TcpListen => Call::TcpListen {
                handle: self.handle(),
                backlog: self.u32(),
            },
            Operation::TcpAccept => Call::TcpAccept {
                handle: self.handle(),
            },
            Operation::Shutdown => Call::Shutdown {
                handle: self.handle(),
                how: *self.pick(ShutdownHow::ALL).expect("not empty"),
            },
            Operation::UdpSend => Call::UdpSend {
                handle: self.handle(),
                address: self.address(),
                length: self.length(),
            },
            Operation::UdpReceive => Call::UdpReceive {
                handle: self.handle(),
                length: self.length(),
            },
            Operation::LocalAddress => Call::LocalAddress {
                handle: self.handle(),
            },
            Operation::PeerAddress => Call::PeerAddress {
                handle: self.handle(),
            },
            Operation::SetOption => Call::SetOption {
                handle: self.handle(),
                option: *self.pick(SocketOption::ALL).expect("not empty"),
                value: self.u64(),
            },
            Operation::GetOption => Call::GetOption {
                handle: self.handle(),
                option: *self.pick(SocketOption::ALL).expect("not empty"),
            },
        }
    }
}
