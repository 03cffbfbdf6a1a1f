// SPDX-License-Identifier: Apache-2.0

//! The calls that a Keep can make: what each means, how many bytes it takes in its buffer, and the limits of its reply,
//! against which the Keep checks what a hostile host answers. [`crate::request`] defines their form in shared memory.

use crate::directory::ENTRY_MAX;
use crate::layout::BUFFER_SIZE;
use crate::poll::{ENTRY_SIZE, REPORTED_MAX};
use crate::types::{
    ADDRESS_SIZE, FileType, Handle, Level, Object, OpenFlags, STAT_SIZE, ShutdownHow,
    SocketAddress, SocketOption, TimeChange,
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
    /// Asks to end a pending request early; that request then completes, with `Cancelled` unless it finished first.
    Cancel {
        /// The pending request's id.
        id: u32,
    },
    /// Passes attestation evidence to the host for the Keep's owner. In: the evidence.
    Evidence {
        /// Bytes of it.
        length: u32,
    },
    /// Adds handles to the watch list, each until it is reported ready, and waits until a watched handle is ready or
    /// closed. In: entries to add ([`crate::poll`]); out: ready entries, which are no longer watched. A handle that
    /// is closed, or never waits, is ready. It fails only if it is cancelled.
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
    /// Closes a handle.
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
    /// Connects a TCP socket; completes when the connection is established.
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
    /// Waits for a TCP connection. Value: new handle.
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

/// Why a request record is not a call. The host completes such a request with an error status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No call has this number.
    #[error("request with unknown operation {0:#x}: the Keep speaks another version or is hostile")]
    UnknownOperation(u16),
    /// A field has a number without a meaning.
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
    /// No bytes; values have no meaning and are ignored.
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
            Self::TcpOpen { .. } | Self::UdpOpen { .. } | Self::TcpAccept { .. } => {
                ReplyLimits::NOTHING.value(HANDLE)
            }
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
}
