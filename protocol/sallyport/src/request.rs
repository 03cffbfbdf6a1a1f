// SPDX-License-Identifier: Apache-2.0

//! The request records of calls, as they lie in shared memory. The host decodes what a hostile Keep wrote:
//! [`Request::decode`] is total, and accepts exactly the records that [`Call::encode`] makes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::call::{Call, Malformed, Operation};
use crate::layout::REQUEST_SIZE;
use crate::types::{
    Handle, Level, Object, OpenFlags, ShutdownHow, SocketAddress, SocketOption, Time, TimeChange,
};

/// A request record as it lies in the request table, [`REQUEST_SIZE`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Request {
    /// Number of an [`Operation`].
    pub op: u16,
    /// Flags of the call.
    pub flags: u16,
    /// Generation (upper 16 bits) and slot.
    pub id: u32,
    /// The handle the call is about.
    pub handle: u32,
    /// Bytes to read, bytes to write, or bytes of the first path.
    pub length: u32,
    /// Position, size or cookie.
    pub offset: u64,
    /// Further arguments.
    pub args: [u64; 5],
}

const _: () = assert!(size_of::<Request>() == REQUEST_SIZE as usize);
const _: () = assert!(core::mem::offset_of!(Request, flags) == 2);
const _: () = assert!(core::mem::offset_of!(Request, id) == 4);
const _: () = assert!(core::mem::offset_of!(Request, handle) == 8);
const _: () = assert!(core::mem::offset_of!(Request, length) == 12);
const _: () = assert!(core::mem::offset_of!(Request, offset) == 16);
const _: () = assert!(core::mem::offset_of!(Request, args) == 24);

/// Wire numbers of a [`TimeChange`]: two bits of the flags.
mod time {
    pub(super) const KEEP: u16 = 0;
    pub(super) const NOW: u16 = 1;
    pub(super) const AT: u16 = 2;
    pub(super) const MASK: u16 = 3;
    /// Position of the second time's bits.
    pub(super) const SECOND: u32 = 2;
}

/// Flag of [`Call::SetTimesAt`]: follow a symbolic link.
const TIMES_FOLLOW: u16 = 1 << 4;

/// The tag, the seconds and the nanoseconds of a change.
fn encode_time(change: TimeChange) -> (u16, u64, u64) {
    match change {
        TimeChange::Keep => (time::KEEP, 0, 0),
        TimeChange::Now => (time::NOW, 0, 0),
        TimeChange::At(at) => (
            time::AT,
            at.seconds().cast_unsigned(),
            at.nanoseconds().into(),
        ),
    }
}

fn decode_time(tag: u16, seconds: u64, nanoseconds: u64) -> Result<TimeChange, Malformed> {
    match tag & time::MASK {
        time::KEEP => Ok(TimeChange::Keep),
        time::NOW => Ok(TimeChange::Now),
        time::AT => Time::new(seconds.cast_signed(), low32(nanoseconds))
            .map(TimeChange::At)
            .ok_or(Malformed::UnknownValue),
        _ => Err(Malformed::UnknownValue),
    }
}

/// The lower 32 bits; decoding compares with the encoded result, so a lost bit is noticed.
fn low32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl Call {
    /// The call's record, with id 0. Fields that the call does not use are zero.
    pub fn encode(&self) -> Request {
        let request = Request {
            op: self.operation().to_wire(),
            flags: 0,
            id: 0,
            handle: 0,
            length: 0,
            offset: 0,
            args: [0; 5],
        };
        let at = |handle: Handle, length: u32| Request {
            handle: handle.0,
            length,
            ..request
        };
        match *self {
            Self::ClockWall => request,
            Self::Load {
                object,
                offset,
                length,
            } => Request {
                flags: object.to_wire(),
                offset,
                length,
                ..request
            },
            Self::LogWrite { level, length } => Request {
                flags: level.to_wire(),
                length,
                ..request
            },
            Self::Evidence { length } | Self::Poll { count: length } => {
                Request { length, ..request }
            }
            Self::Exit { code } => Request {
                args: [u64::from(code.cast_unsigned()), 0, 0, 0, 0],
                ..request
            },
            Self::Cancel { id } => Request {
                args: [u64::from(id), 0, 0, 0, 0],
                ..request
            },
            Self::Open {
                dir,
                flags,
                path_length,
            } => Request {
                flags: flags.bits(),
                ..at(dir, path_length)
            },
            Self::Close { handle }
            | Self::Stat { handle }
            | Self::TcpAccept { handle }
            | Self::LocalAddress { handle }
            | Self::PeerAddress { handle } => at(handle, 0),
            Self::StreamRead {
                stream: handle,
                length,
            }
            | Self::StreamWrite {
                stream: handle,
                length,
            }
            | Self::Append { handle, length }
            | Self::UdpReceive { handle, length } => at(handle, length),
            Self::ReadAt {
                handle,
                offset,
                length,
            }
            | Self::WriteAt {
                handle,
                offset,
                length,
            }
            | Self::ReadDir {
                handle,
                cookie: offset,
                length,
            } => Request {
                offset,
                ..at(handle, length)
            },
            Self::SetSize { handle, size } => Request {
                offset: size,
                ..at(handle, 0)
            },
            Self::StatAt {
                dir,
                follow,
                path_length,
            } => Request {
                flags: u16::from(follow),
                ..at(dir, path_length)
            },
            Self::SetTimes { handle, atim, mtim } => Self::encode_times(at(handle, 0), atim, mtim),
            Self::SetTimesAt {
                dir,
                follow,
                atim,
                mtim,
                path_length,
            } => {
                let times = Self::encode_times(at(dir, path_length), atim, mtim);
                Request {
                    flags: times.flags | if follow { TIMES_FOLLOW } else { 0 },
                    ..times
                }
            }
            Self::Sync { handle, data_only } => Request {
                flags: u16::from(data_only),
                ..at(handle, 0)
            },
            Self::CreateDir { dir, path_length }
            | Self::RemoveDir { dir, path_length }
            | Self::Unlink { dir, path_length }
            | Self::ReadLink { dir, path_length } => at(dir, path_length),
            Self::Rename {
                from_dir,
                to_dir,
                from_length,
                to_length,
            } => Request {
                args: [u64::from(to_dir.0), u64::from(to_length), 0, 0, 0],
                ..at(from_dir, from_length)
            },
            Self::Link {
                from_dir,
                to_dir,
                follow,
                from_length,
                to_length,
            } => Request {
                flags: u16::from(follow),
                args: [u64::from(to_dir.0), u64::from(to_length), 0, 0, 0],
                ..at(from_dir, from_length)
            },
            Self::Symlink {
                dir,
                target_length,
                link_length,
            } => Request {
                args: [0, u64::from(link_length), 0, 0, 0],
                ..at(dir, target_length)
            },
            Self::Resolve { name_length } => Request {
                length: name_length,
                ..request
            },
            Self::TcpOpen { ipv6 } | Self::UdpOpen { ipv6 } => Request {
                flags: u16::from(ipv6),
                ..request
            },
            Self::Bind { handle, address } | Self::TcpConnect { handle, address } => {
                Self::encode_address(at(handle, 0), address)
            }
            Self::TcpListen { handle, backlog } => Request {
                args: [u64::from(backlog), 0, 0, 0, 0],
                ..at(handle, 0)
            },
            Self::UdpSend {
                handle,
                address,
                length,
            } => Self::encode_address(at(handle, length), address),
            Self::Shutdown { handle, how } => Request {
                flags: how.to_wire(),
                ..at(handle, 0)
            },
            Self::SetOption {
                handle,
                option,
                value,
            } => Request {
                flags: option.to_wire(),
                offset: value,
                ..at(handle, 0)
            },
            Self::GetOption { handle, option } => Request {
                flags: option.to_wire(),
                ..at(handle, 0)
            },
        }
    }

    fn encode_times(request: Request, atim: TimeChange, mtim: TimeChange) -> Request {
        let (atim_tag, atim, atim_ns) = encode_time(atim);
        let (mtim_tag, mtim, mtim_ns) = encode_time(mtim);
        Request {
            flags: atim_tag | mtim_tag << time::SECOND,
            args: [atim, mtim, atim_ns, mtim_ns, 0],
            ..request
        }
    }

    fn encode_address(request: Request, address: SocketAddress) -> Request {
        let [head, low, high, flow] = address.to_words();
        Request {
            args: [head, low, high, flow, 0],
            ..request
        }
    }
}

impl Request {
    /// The record as words of the request table.
    pub fn to_words(self) -> [u64; 8] {
        zerocopy::transmute!(self)
    }

    /// The record of words of the request table.
    pub fn from_words(words: [u64; 8]) -> Self {
        zerocopy::transmute!(words)
    }

    /// The call of a record, which must be a private copy of the other side's bytes.
    ///
    /// The id is ignored. Total: every record gives a call or an error.
    ///
    /// # Errors
    /// [`Malformed`] for every record that [`Call::encode`] does not make, and for lengths that
    /// [`Call::check`] refuses.
    pub fn decode(&self) -> Result<Call, Malformed> {
        let call = self.decode_fields()?;
        // Everything else (unused flags, reserved fields) must be as encoded.
        let canonical = Self {
            id: self.id,
            ..call.encode()
        };
        if canonical != *self {
            return Err(Malformed::Reserved);
        }
        call.check()?;
        Ok(call)
    }

    fn address(&self) -> Result<SocketAddress, Malformed> {
        let [head, low, high, flow, _] = self.args;
        SocketAddress::from_words([head, low, high, flow]).ok_or(Malformed::UnknownValue)
    }

    /// The time changes for access and for contents.
    fn times(&self) -> Result<(TimeChange, TimeChange), Malformed> {
        let [atim, mtim, atim_ns, mtim_ns, _] = self.args;
        Ok((
            decode_time(self.flags, atim, atim_ns)?,
            decode_time(self.flags >> time::SECOND, mtim, mtim_ns)?,
        ))
    }

    /// Reads the fields of the call that the operation names; [`Self::decode`] checks the others.
    fn decode_fields(&self) -> Result<Call, Malformed> {
        let operation =
            Operation::from_wire(self.op).ok_or(Malformed::UnknownOperation(self.op))?;
        let handle = Handle(self.handle);
        let (length, offset) = (self.length, self.offset);
        let [arg0, arg1, ..] = self.args;
        let flag = self.flags & 1 != 0;
        Ok(match operation {
            Operation::Load => Call::Load {
                object: Object::from_wire(self.flags).ok_or(Malformed::UnknownValue)?,
                offset,
                length,
            },
            Operation::StreamRead => Call::StreamRead {
                stream: handle,
                length,
            },
            Operation::StreamWrite => Call::StreamWrite {
                stream: handle,
                length,
            },
            Operation::LogWrite => Call::LogWrite {
                level: Level::from_wire(self.flags).ok_or(Malformed::UnknownValue)?,
                length,
            },
            Operation::ClockWall => Call::ClockWall,
            Operation::Evidence => Call::Evidence { length },
            Operation::Poll => Call::Poll { count: length },
            Operation::Exit => Call::Exit {
                code: low32(arg0).cast_signed(),
            },
            Operation::Cancel => Call::Cancel { id: low32(arg0) },
            Operation::Open => Call::Open {
                dir: handle,
                flags: OpenFlags::from_bits(self.flags).ok_or(Malformed::UnknownValue)?,
                path_length: length,
            },
            Operation::Close => Call::Close { handle },
            Operation::ReadAt => Call::ReadAt {
                handle,
                offset,
                length,
            },
            Operation::WriteAt => Call::WriteAt {
                handle,
                offset,
                length,
            },
            Operation::Append => Call::Append { handle, length },
            Operation::Stat => Call::Stat { handle },
            Operation::StatAt => Call::StatAt {
                dir: handle,
                follow: flag,
                path_length: length,
            },
            Operation::SetSize => Call::SetSize {
                handle,
                size: offset,
            },
            Operation::SetTimes => {
                let (atim, mtim) = self.times()?;
                Call::SetTimes { handle, atim, mtim }
            }
            Operation::SetTimesAt => {
                let (atim, mtim) = self.times()?;
                Call::SetTimesAt {
                    dir: handle,
                    follow: self.flags & TIMES_FOLLOW != 0,
                    atim,
                    mtim,
                    path_length: length,
                }
            }
            Operation::Sync => Call::Sync {
                handle,
                data_only: flag,
            },
            Operation::ReadDir => Call::ReadDir {
                handle,
                cookie: offset,
                length,
            },
            Operation::CreateDir => Call::CreateDir {
                dir: handle,
                path_length: length,
            },
            Operation::RemoveDir => Call::RemoveDir {
                dir: handle,
                path_length: length,
            },
            Operation::Unlink => Call::Unlink {
                dir: handle,
                path_length: length,
            },
            Operation::ReadLink => Call::ReadLink {
                dir: handle,
                path_length: length,
            },
            Operation::Rename => Call::Rename {
                from_dir: handle,
                to_dir: Handle(low32(arg0)),
                from_length: length,
                to_length: low32(arg1),
            },
            Operation::Link => Call::Link {
                from_dir: handle,
                to_dir: Handle(low32(arg0)),
                follow: flag,
                from_length: length,
                to_length: low32(arg1),
            },
            Operation::Symlink => Call::Symlink {
                dir: handle,
                target_length: length,
                link_length: low32(arg1),
            },
            Operation::Resolve => Call::Resolve {
                name_length: length,
            },
            Operation::TcpOpen => Call::TcpOpen { ipv6: flag },
            Operation::UdpOpen => Call::UdpOpen { ipv6: flag },
            Operation::Bind => Call::Bind {
                handle,
                address: self.address()?,
            },
            Operation::TcpConnect => Call::TcpConnect {
                handle,
                address: self.address()?,
            },
            Operation::TcpListen => Call::TcpListen {
                handle,
                backlog: low32(arg0),
            },
            Operation::TcpAccept => Call::TcpAccept { handle },
            Operation::Shutdown => Call::Shutdown {
                handle,
                how: ShutdownHow::from_wire(self.flags).ok_or(Malformed::UnknownValue)?,
            },
            Operation::UdpSend => Call::UdpSend {
                handle,
                address: self.address()?,
                length,
            },
            Operation::UdpReceive => Call::UdpReceive { handle, length },
            Operation::LocalAddress => Call::LocalAddress { handle },
            Operation::PeerAddress => Call::PeerAddress { handle },
            Operation::SetOption => Call::SetOption {
                handle,
                option: SocketOption::from_wire(self.flags).ok_or(Malformed::UnknownValue)?,
                value: offset,
            },
            Operation::GetOption => Call::GetOption {
                handle,
                option: SocketOption::from_wire(self.flags).ok_or(Malformed::UnknownValue)?,
            },
        })
    }
}
