// SPDX-License-Identifier: Apache-2.0

//! The calls a Keep can make, and their request records.
//!
//! The host decodes what a hostile Keep wrote: [`Request::decode`] is total, and accepts exactly the
//! records that [`Call::encode`] makes. The keep checks replies against [`Call::reply_limits`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::directory::ENTRY_MAX;
use crate::layout::{BUFFER_SIZE, REQUEST_SIZE};
use crate::poll::{ENTRY_SIZE, REPORTED_MAX};
use crate::types::{
    ADDRESS_SIZE, FileType, Handle, Level, Object, OpenFlags, STAT_SIZE, ShutdownHow,
    SocketAddress, SocketOption, Time, TimeChange,
};

/// Longest path in a call, in bytes (Linux `PATH_MAX` without its NUL, include/uapi/linux/limits.h).
pub const PATH_MAX: u32 = 4095;
/// Longest target that [`Call::ReadLink`] replies, in bytes (Linux `PATH_MAX`, include/uapi/linux/limits.h).
pub const LINK_MAX: u32 = 4096;
/// Bytes of one address that [`Call::Resolve`] replies: an IPv6 address, or an IPv4 address mapped to one
/// (RFC 4291, section 2.5.5.2).
pub const RESOLVED_SIZE: u32 = 16;
/// Most addresses that [`Call::Resolve`] replies.
pub const RESOLVED_MAX: u32 = 64;

wire_enum! {
    /// The number of a call.
    Operation: u16 {
        /// [`Call::Load`].
        Load = 0x01,
        /// [`Call::StreamRead`].
        StreamRead = 0x02,
        /// [`Call::StreamWrite`].
        StreamWrite = 0x03,
        /// [`Call::LogWrite`].
        LogWrite = 0x04,
        /// [`Call::ClockWall`].
        ClockWall = 0x05,
        /// [`Call::Exit`].
        Exit = 0x06,
        /// [`Call::Cancel`].
        Cancel = 0x07,
        /// [`Call::Evidence`].
        Evidence = 0x08,
        /// [`Call::Poll`].
        Poll = 0x09,
        /// [`Call::Open`].
        Open = 0x10,
        /// [`Call::Close`].
        Close = 0x11,
        /// [`Call::ReadAt`].
        ReadAt = 0x12,
        /// [`Call::WriteAt`].
        WriteAt = 0x13,
        /// [`Call::Append`].
        Append = 0x14,
        /// [`Call::Stat`].
        Stat = 0x15,
        /// [`Call::StatAt`].
        StatAt = 0x16,
        /// [`Call::SetSize`].
        SetSize = 0x17,
        /// [`Call::SetTimes`].
        SetTimes = 0x18,
        /// [`Call::SetTimesAt`].
        SetTimesAt = 0x19,
        /// [`Call::Sync`].
        Sync = 0x1a,
        /// [`Call::ReadDir`].
        ReadDir = 0x1b,
        /// [`Call::CreateDir`].
        CreateDir = 0x1c,
        /// [`Call::RemoveDir`].
        RemoveDir = 0x1d,
        /// [`Call::Unlink`].
        Unlink = 0x1e,
        /// [`Call::ReadLink`].
        ReadLink = 0x1f,
        /// [`Call::Rename`].
        Rename = 0x20,
        /// [`Call::Link`].
        Link = 0x21,
        /// [`Call::Symlink`].
        Symlink = 0x22,
        /// [`Call::Resolve`].
        Resolve = 0x40,
        /// [`Call::TcpConnect`].
        TcpConnect = 0x41,
        /// [`Call::TcpListen`].
        TcpListen = 0x42,
        /// [`Call::TcpAccept`].
        TcpAccept = 0x43,
        /// [`Call::Shutdown`].
        Shutdown = 0x44,
        /// [`Call::Bind`].
        Bind = 0x45,
        /// [`Call::UdpSend`].
        UdpSend = 0x46,
        /// [`Call::UdpReceive`].
        UdpReceive = 0x47,
        /// [`Call::LocalAddress`].
        LocalAddress = 0x48,
        /// [`Call::PeerAddress`].
        PeerAddress = 0x49,
        /// [`Call::SetOption`].
        SetOption = 0x4a,
        /// [`Call::GetOption`].
        GetOption = 0x4b,
        /// [`Call::TcpOpen`].
        TcpOpen = 0x4c,
        /// [`Call::UdpOpen`].
        UdpOpen = 0x4d,
    }
}

/// A request of the Keep to its host.
///
/// Lengths are in bytes. "In" are bytes that the Keep puts in the request's buffer, "out" bytes that the
/// host replies in it, "value" is the completion's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Loads a piece of the configuration or application. Out: the bytes; value: the object's whole size.
    Load {
        /// The object to load.
        object: Object,
        /// Where the piece starts.
        offset: u64,
        /// Most bytes to reply.
        length: u32,
    },
    /// Reads from a stream or socket. Out: the bytes; none = end of stream.
    StreamRead {
        /// The stream.
        stream: Handle,
        /// Most bytes to reply.
        length: u32,
    },
    /// Writes to a stream or socket. In: the bytes; value: how many were written (all, unless an error stopped it).
    StreamWrite {
        /// The stream.
        stream: Handle,
        /// Bytes to write.
        length: u32,
    },
    /// Writes a line to the host's log. In: UTF-8 text without line ends.
    LogWrite {
        /// How important it is.
        level: Level,
        /// Bytes of text.
        length: u32,
    },
    /// Asks for the host's wall clock. Value: nanoseconds since the UNIX epoch.
    ClockWall,
    /// Ends the Keep. Never completes.
    Exit {
        /// Exit code.
        code: i32,
    },
    /// Asks to end a pending request early; that one then completes, with `Cancelled` unless it was faster.
    Cancel {
        /// The pending request's id.
        id: u32,
    },
    /// Hands over attestation evidence for the Keep's owner. In: the evidence.
    Evidence {
        /// Bytes of it.
        length: u32,
    },
    /// Has handles watched, each until it was called ready, and waits until a handle that is watched is ready, or is
    /// closed. In: entries to add ([`crate::poll`]); out: entries that are ready, which are watched no more. A handle
    /// that does not exist, or never waits, is ready.
    Poll {
        /// Entries to add, at most [`ENTRIES_MAX`](crate::poll::ENTRIES_MAX).
        count: u32,
    },
    /// Opens a file or directory. In: path; value: new handle; second value: [`FileType`].
    Open {
        /// Directory in which the path starts.
        dir: Handle,
        /// How to open it.
        flags: OpenFlags,
        /// Bytes of the path.
        path_length: u32,
    },
    /// Gives up a handle.
    Close {
        /// The handle.
        handle: Handle,
    },
    /// Reads a file at a position. Out: the bytes; none = end of file.
    ReadAt {
        /// The file.
        handle: Handle,
        /// Where to read.
        offset: u64,
        /// Most bytes to reply.
        length: u32,
    },
    /// Writes a file at a position. In: the bytes; value: how many were written.
    WriteAt {
        /// The file.
        handle: Handle,
        /// Where to write.
        offset: u64,
        /// Bytes to write.
        length: u32,
    },
    /// Writes to a file's end. In: the bytes; value: how many were written.
    Append {
        /// The file.
        handle: Handle,
        /// Bytes to write.
        length: u32,
    },
    /// Asks for the attributes of an open file. Out: [`Stat`](crate::Stat).
    Stat {
        /// The file.
        handle: Handle,
    },
    /// Asks for the attributes of a path. In: path; out: [`Stat`](crate::Stat).
    StatAt {
        /// Directory in which the path starts.
        dir: Handle,
        /// True if a symbolic link at the end is followed.
        follow: bool,
        /// Bytes of the path.
        path_length: u32,
    },
    /// Cuts or extends a file.
    SetSize {
        /// The file.
        handle: Handle,
        /// The new size in bytes.
        size: u64,
    },
    /// Sets the times of an open file.
    SetTimes {
        /// The file.
        handle: Handle,
        /// Last access.
        atim: TimeChange,
        /// Last change.
        mtim: TimeChange,
    },
    /// Sets the times of a path. In: path.
    SetTimesAt {
        /// Directory in which the path starts.
        dir: Handle,
        /// True if a symbolic link at the end is followed.
        follow: bool,
        /// Last access.
        atim: TimeChange,
        /// Last change.
        mtim: TimeChange,
        /// Bytes of the path.
        path_length: u32,
    },
    /// Writes a file through to its storage.
    Sync {
        /// The file.
        handle: Handle,
        /// Contents only, without attributes that reading them does not need.
        data_only: bool,
    },
    /// Lists a directory. Out: packed entries ([`crate::directory`]), without `.` and `..`; none = end.
    ReadDir {
        /// The directory.
        handle: Handle,
        /// Where to go on; 0 = the start, otherwise an entry's `next_cookie`.
        cookie: u64,
        /// Most bytes to reply, at least [`ENTRY_MAX`].
        length: u32,
    },
    /// Creates a directory. In: path.
    CreateDir {
        /// Directory in which the path starts.
        dir: Handle,
        /// Bytes of the path.
        path_length: u32,
    },
    /// Removes an empty directory. In: path.
    RemoveDir {
        /// Directory in which the path starts.
        dir: Handle,
        /// Bytes of the path.
        path_length: u32,
    },
    /// Removes a name that is not a directory's. In: path.
    Unlink {
        /// Directory in which the path starts.
        dir: Handle,
        /// Bytes of the path.
        path_length: u32,
    },
    /// Reads a symbolic link. In: path; out: target, at most [`LINK_MAX`] bytes.
    ReadLink {
        /// Directory in which the path starts.
        dir: Handle,
        /// Bytes of the path.
        path_length: u32,
    },
    /// Renames. In: old path, then new path.
    Rename {
        /// Directory in which the old path starts.
        from_dir: Handle,
        /// Directory in which the new path starts.
        to_dir: Handle,
        /// Bytes of the old path.
        from_length: u32,
        /// Bytes of the new path.
        to_length: u32,
    },
    /// Makes a hard link. In: existing path, then new path.
    Link {
        /// Directory in which the existing path starts.
        from_dir: Handle,
        /// Directory in which the new path starts.
        to_dir: Handle,
        /// True if a symbolic link at the end of the existing path is followed.
        follow: bool,
        /// Bytes of the existing path.
        from_length: u32,
        /// Bytes of the new path.
        to_length: u32,
    },
    /// Makes a symbolic link. In: target, then the link's path.
    Symlink {
        /// Directory in which the link's path starts.
        dir: Handle,
        /// Bytes of the target.
        target_length: u32,
        /// Bytes of the link's path.
        link_length: u32,
    },
    /// Looks up a host name. In: name; out: at most [`RESOLVED_MAX`] addresses of [`RESOLVED_SIZE`] bytes.
    Resolve {
        /// Bytes of the name.
        name_length: u32,
    },
    /// Opens a TCP socket, which is neither bound nor connected. Value: new handle.
    TcpOpen {
        /// IPv6, and that only; else IPv4.
        ipv6: bool,
    },
    /// Opens a UDP socket, which is not bound. Value: new handle.
    UdpOpen {
        /// IPv6, and that only; else IPv4.
        ipv6: bool,
    },
    /// Gives a socket its local address.
    Bind {
        /// The socket.
        handle: Handle,
        /// The address; port 0 = the host chooses.
        address: SocketAddress,
    },
    /// Connects a TCP socket; completes when the connection stands.
    TcpConnect {
        /// The socket, which becomes the connection.
        handle: Handle,
        /// The peer.
        address: SocketAddress,
    },
    /// Lets a bound TCP socket listen; or changes how many connections may wait, when it does already.
    TcpListen {
        /// The socket.
        handle: Handle,
        /// Connections that may wait to be accepted.
        backlog: u32,
    },
    /// Waits for a TCP connection. Value: new handle; out: the peer's address.
    TcpAccept {
        /// The listening socket.
        handle: Handle,
    },
    /// Ends one or both directions of a connection.
    Shutdown {
        /// The connection.
        handle: Handle,
        /// Which directions.
        how: ShutdownHow,
    },
    /// Sends a datagram. In: the datagram; value: bytes sent.
    UdpSend {
        /// The socket.
        handle: Handle,
        /// The receiver.
        address: SocketAddress,
        /// Bytes of the datagram.
        length: u32,
    },
    /// Receives a datagram. Out: the sender's address ([`ADDRESS_SIZE`] bytes), then the datagram.
    UdpReceive {
        /// The socket.
        handle: Handle,
        /// Most bytes of the datagram; the rest of a longer one is lost.
        length: u32,
    },
    /// Asks for a socket's own address. Out: the address.
    LocalAddress {
        /// The socket.
        handle: Handle,
    },
    /// Asks for the peer's address. Out: the address.
    PeerAddress {
        /// The socket.
        handle: Handle,
    },
    /// Sets an option of a socket.
    SetOption {
        /// The socket.
        handle: Handle,
        /// The option.
        option: SocketOption,
        /// Its new value.
        value: u64,
    },
    /// Asks for an option of a socket. Value: the option's value.
    GetOption {
        /// The socket.
        handle: Handle,
        /// The option.
        option: SocketOption,
    },
}

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

/// Why a request record is not a call. The host completes such a request with an error status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No call has this number.
    #[error("request with unknown operation {0:#x}: the Keep speaks another version or is hostile")]
    UnknownOperation(u16),
    /// A field holds a number that stands for nothing.
    #[error(
        "request with an unknown value in a field: the Keep speaks another version or is hostile"
    )]
    UnknownValue,
    /// A length exceeds the buffer, or falls short of what the call needs.
    #[error("request with a length that its buffer does not allow: the Keep is faulty or hostile")]
    Length,
    /// A field or flag that the call does not use is not zero.
    #[error("request with a reserved field in use: the Keep speaks another version or is hostile")]
    Reserved,
}

/// Limits of a completion with status `Ok`. Other statuses come with length 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyLimits {
    /// Fewest bytes of reply.
    pub minimum: u32,
    /// Most bytes of reply.
    pub capacity: u32,
    /// Highest value.
    pub value: u64,
    /// Highest second value.
    pub value2: u64,
}

impl ReplyLimits {
    /// No bytes; values without meaning, which nobody looks at.
    pub(crate) const NOTHING: Self = Self {
        minimum: 0,
        capacity: 0,
        value: u64::MAX,
        value2: u64::MAX,
    };

    const fn exactly(length: u32) -> Self {
        Self {
            minimum: length,
            capacity: length,
            ..Self::NOTHING
        }
    }

    const fn up_to(capacity: u32) -> Self {
        Self {
            capacity,
            ..Self::NOTHING
        }
    }

    const fn value(self, value: u64) -> Self {
        Self { value, ..self }
    }
}

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

/// The lower 32 bits; decoding compares with the encoded result, so that a lost bit does not stay unnoticed.
fn low32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl Call {
    /// The call's number.
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Load { .. } => Operation::Load,
            Self::StreamRead { .. } => Operation::StreamRead,
            Self::StreamWrite { .. } => Operation::StreamWrite,
            Self::LogWrite { .. } => Operation::LogWrite,
            Self::ClockWall => Operation::ClockWall,
            Self::Exit { .. } => Operation::Exit,
            Self::Cancel { .. } => Operation::Cancel,
            Self::Evidence { .. } => Operation::Evidence,
            Self::Poll { .. } => Operation::Poll,
            Self::Open { .. } => Operation::Open,
            Self::Close { .. } => Operation::Close,
            Self::ReadAt { .. } => Operation::ReadAt,
            Self::WriteAt { .. } => Operation::WriteAt,
            Self::Append { .. } => Operation::Append,
            Self::Stat { .. } => Operation::Stat,
            Self::StatAt { .. } => Operation::StatAt,
            Self::SetSize { .. } => Operation::SetSize,
            Self::SetTimes { .. } => Operation::SetTimes,
            Self::SetTimesAt { .. } => Operation::SetTimesAt,
            Self::Sync { .. } => Operation::Sync,
            Self::ReadDir { .. } => Operation::ReadDir,
            Self::CreateDir { .. } => Operation::CreateDir,
            Self::RemoveDir { .. } => Operation::RemoveDir,
            Self::Unlink { .. } => Operation::Unlink,
            Self::ReadLink { .. } => Operation::ReadLink,
            Self::Rename { .. } => Operation::Rename,
            Self::Link { .. } => Operation::Link,
            Self::Symlink { .. } => Operation::Symlink,
            Self::Resolve { .. } => Operation::Resolve,
            Self::TcpConnect { .. } => Operation::TcpConnect,
            Self::TcpListen { .. } => Operation::TcpListen,
            Self::TcpAccept { .. } => Operation::TcpAccept,
            Self::Shutdown { .. } => Operation::Shutdown,
            Self::TcpOpen { .. } => Operation::TcpOpen,
            Self::UdpOpen { .. } => Operation::UdpOpen,
            Self::Bind { .. } => Operation::Bind,
            Self::UdpSend { .. } => Operation::UdpSend,
            Self::UdpReceive { .. } => Operation::UdpReceive,
            Self::LocalAddress { .. } => Operation::LocalAddress,
            Self::PeerAddress { .. } => Operation::PeerAddress,
            Self::SetOption { .. } => Operation::SetOption,
            Self::GetOption { .. } => Operation::GetOption,
        }
    }

    /// Bytes that the call's input takes in its buffer (`u32::MAX` when the sum overflows).
    pub const fn input_length(&self) -> u32 {
        match *self {
            Self::StreamWrite { length, .. }
            | Self::LogWrite { length, .. }
            | Self::Evidence { length }
            | Self::WriteAt { length, .. }
            | Self::Append { length, .. }
            | Self::UdpSend { length, .. } => length,
            Self::Open { path_length, .. }
            | Self::StatAt { path_length, .. }
            | Self::SetTimesAt { path_length, .. }
            | Self::CreateDir { path_length, .. }
            | Self::RemoveDir { path_length, .. }
            | Self::Unlink { path_length, .. }
            | Self::ReadLink { path_length, .. } => path_length,
            Self::Rename {
                from_length,
                to_length,
                ..
            }
            | Self::Link {
                from_length,
                to_length,
                ..
            } => from_length.saturating_add(to_length),
            Self::Symlink {
                target_length,
                link_length,
                ..
            } => target_length.saturating_add(link_length),
            Self::Resolve { name_length } => name_length,
            Self::Poll { count } => count.saturating_mul(ENTRY_SIZE),
            _ => 0,
        }
    }

    /// Returns the limits of a successful completion; `None` when the call never completes.
    pub const fn reply_limits(&self) -> Option<ReplyLimits> {
        const HANDLE: u64 = u32::MAX as u64;
        Some(match *self {
            Self::Exit { .. } => return None,
            Self::Load { length, .. }
            | Self::StreamRead { length, .. }
            | Self::ReadAt { length, .. }
            | Self::ReadDir { length, .. } => ReplyLimits::up_to(length),
            Self::StreamWrite { length, .. }
            | Self::WriteAt { length, .. }
            | Self::Append { length, .. }
            | Self::UdpSend { length, .. } => ReplyLimits::NOTHING.value(length as u64),
            Self::Open { .. } => ReplyLimits {
                value2: FileType::MAX as u64,
                ..ReplyLimits::NOTHING.value(HANDLE)
            },
            Self::Stat { .. } | Self::StatAt { .. } => ReplyLimits::exactly(STAT_SIZE),
            Self::Poll { .. } => ReplyLimits::up_to(REPORTED_MAX * ENTRY_SIZE),
            Self::ReadLink { .. } => ReplyLimits::up_to(LINK_MAX),
            Self::Resolve { .. } => ReplyLimits::up_to(RESOLVED_SIZE * RESOLVED_MAX),
            Self::TcpOpen { .. } | Self::UdpOpen { .. } => ReplyLimits::NOTHING.value(HANDLE),
            Self::TcpAccept { .. } => ReplyLimits::exactly(ADDRESS_SIZE).value(HANDLE),
            Self::LocalAddress { .. } | Self::PeerAddress { .. } => {
                ReplyLimits::exactly(ADDRESS_SIZE)
            }
            Self::UdpReceive { length, .. } => ReplyLimits {
                minimum: ADDRESS_SIZE,
                ..ReplyLimits::up_to(ADDRESS_SIZE.saturating_add(length))
            },
            _ => ReplyLimits::NOTHING,
        })
    }

    /// Checks that input and reply fit in the buffer, and that a listing has room for an entry.
    ///
    /// # Errors
    /// [`Malformed::Length`].
    pub fn check(&self) -> Result<(), Malformed> {
        let reply = self.reply_limits().unwrap_or(ReplyLimits::NOTHING);
        let listing_too_short = matches!(*self, Self::ReadDir { length, .. } if length < ENTRY_MAX);
        if self.input_length() > BUFFER_SIZE || reply.capacity > BUFFER_SIZE || listing_too_short {
            return Err(Malformed::Length);
        }
        Ok(())
    }

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

    /// The call of a record, which is the private copy of what the other side wrote.
    ///
    /// The id is not looked at. Total: every record gives a call or an error.
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
