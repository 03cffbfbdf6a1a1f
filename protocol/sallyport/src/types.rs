// SPDX-License-Identifier: Apache-2.0

//! The values of which calls and replies consist.
//!
//! Decoding one of these from the other side's bytes gives a checked value or none.

use core::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A stream, file, directory or socket that the host keeps for the Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u32);

impl Handle {
    /// Standard input.
    pub const STDIN: Self = Self(0);
    /// Standard output.
    pub const STDOUT: Self = Self(1);
    /// Standard error.
    pub const STDERR: Self = Self(2);
    /// The door: a listener for sessions, if the grant has one.
    pub const DOOR: Self = Self(3);
    /// The listener of a server, if the grant has one. It fails permanently once the server has to end.
    pub const LISTENER: Self = Self(4);
    /// The first root directory of the grant; the others follow in the configuration's order.
    pub const FIRST_ROOT: Self = Self(16);
}

wire_enum! {
    /// The object that [`Call::Load`](crate::Call::Load) loads.
    Object: u16 {
        /// The configuration; empty in a Keep whose tenant delivers everything.
        Configuration = 0,
        /// The application, a WebAssembly module or component.
        Application = 1,
        /// The contract of a Keep whose tenant delivers everything.
        Contract = 2,
    }
}

wire_enum! {
    /// How important a line of the log is.
    Level: u16 {
        /// Something failed.
        Error = 1,
        /// Something is suspicious.
        Warn = 2,
        /// Something worth knowing happened.
        Info = 3,
        /// For developers.
        Debug = 4,
        /// For developers, in quantity.
        Trace = 5,
    }
}

wire_enum! {
    /// The type of a file. Numbers of WASI preview 1 (`filetype`).
    FileType: u8 {
        /// Another kind, for instance a FIFO.
        Unknown = 0,
        /// A block device.
        BlockDevice = 1,
        /// A character device.
        CharacterDevice = 2,
        /// A directory.
        Directory = 3,
        /// A regular file.
        RegularFile = 4,
        /// A datagram socket.
        SocketDatagram = 5,
        /// A stream socket.
        SocketStream = 6,
        /// A symbolic link.
        SymbolicLink = 7,
    }
}

impl FileType {
    /// The highest number on the wire; the numbers have no gap.
    pub const MAX: u8 = Self::SymbolicLink as u8;
}

wire_enum! {
    /// Which directions [`Call::Shutdown`](crate::Call::Shutdown) ends.
    ShutdownHow: u16 {
        /// Receiving.
        Receive = 1,
        /// Sending.
        Send = 2,
        /// Both.
        Both = 3,
    }
}

wire_enum! {
    /// An option of a socket. Booleans are 0 and 1.
    SocketOption: u16 {
        /// Send small segments at once (boolean).
        NoDelay = 1,
        /// Keep-alive probes (boolean).
        KeepAlive = 2,
        /// Idle time before the first keep-alive probe, in nanoseconds.
        KeepAliveIdle = 3,
        /// Time between keep-alive probes, in nanoseconds.
        KeepAliveInterval = 4,
        /// Keep-alive probes before the connection counts as lost.
        KeepAliveCount = 5,
        /// Time to live or hop limit.
        HopLimit = 6,
        /// Receive buffer, in bytes.
        ReceiveBuffer = 7,
        /// Send buffer, in bytes.
        SendBuffer = 8,
        /// An IPv6 socket takes IPv6 only (boolean).
        Ipv6Only = 9,
        /// Let a listening address be taken again at once (boolean).
        ReuseAddress = 10,
        /// Send to broadcast addresses (boolean).
        Broadcast = 11,
        /// The pending error of a socket, a [`Status`](crate::Status) number; read-only.
        PendingError = 12,
    }
}

bitflags::bitflags! {
    /// The ways in which [`Call::Open`](crate::Call::Open) opens a file, as on the wire.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct OpenFlags: u16 {
        /// For reading.
        const READ = 1 << 0;
        /// For writing.
        const WRITE = 1 << 1;
        /// Create it when it does not exist.
        const CREATE = 1 << 2;
        /// With `CREATE`: fail when it exists.
        const EXCLUSIVE = 1 << 3;
        /// Cut it to length 0.
        const TRUNCATE = 1 << 4;
        /// Fail unless it is a directory.
        const DIRECTORY = 1 << 5;
        /// Fail when the last component is a symbolic link.
        const NOFOLLOW = 1 << 6;
        /// Every write goes to the end.
        const APPEND = 1 << 7;
    }
}

/// A point of UNIX time, before or after the epoch; any that a file system can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    seconds: i64,
    nanoseconds: u32,
}

impl Time {
    /// Nanoseconds in a second.
    pub const SECOND: u32 = 1_000_000_000;

    /// This many nanoseconds after that second; `None` if they are a second or more.
    pub const fn new(seconds: i64, nanoseconds: u32) -> Option<Self> {
        if nanoseconds < Self::SECOND {
            Some(Self {
                seconds,
                nanoseconds,
            })
        } else {
            None
        }
    }

    /// Whole seconds since the UNIX epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after that second, below [`Self::SECOND`].
    pub const fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }
}

/// A change of one of a file's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeChange {
    /// Leave it.
    Keep,
    /// Set it to the host's current time.
    Now,
    /// Set it.
    At(Time),
}

/// The reply to [`Call::Stat`](crate::Call::Stat) and [`Call::StatAt`](crate::Call::StatAt), 80 bytes.
///
/// All values come from the host and are not trusted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Default, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Stat {
    /// Number of the file system.
    pub dev: u64,
    /// Number of the file in its file system.
    pub ino: u64,
    /// Number of hard links.
    pub nlink: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last access: seconds since the UNIX epoch.
    pub atim: i64,
    /// Last change of contents: seconds since the UNIX epoch.
    pub mtim: i64,
    /// Last change of attributes: seconds since the UNIX epoch.
    pub ctim: i64,
    /// Nanoseconds of the last access after its second.
    pub atim_ns: u32,
    /// Nanoseconds of the last change of contents after its second.
    pub mtim_ns: u32,
    /// Nanoseconds of the last change of attributes after its second.
    pub ctim_ns: u32,
    /// Wire number of a [`FileType`].
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 11],
}

/// Bytes of a [`Stat`].
pub const STAT_SIZE: u32 = 80;

const _: () = assert!(size_of::<Stat>() == STAT_SIZE as usize);
const _: () = assert!(core::mem::offset_of!(Stat, size) == 24);
const _: () = assert!(core::mem::offset_of!(Stat, ctim) == 48);
const _: () = assert!(core::mem::offset_of!(Stat, ctim_ns) == 64);
const _: () = assert!(core::mem::offset_of!(Stat, kind) == 68);

impl Stat {
    /// The record of a reply's bytes; `None` when its type is unknown, one of its times is not valid, or its
    /// reserved bytes are not zero, which the keep's side treats as
    /// [`keep::Violation::BadReply`](crate::keep::Violation).
    pub fn decode(bytes: &[u8; STAT_SIZE as usize]) -> Option<Self> {
        let stat: Self = zerocopy::transmute!(*bytes);
        (stat.file_type().is_some() && stat.times().is_some() && stat.reserved == [0; 11])
            .then_some(stat)
    }

    /// The times of last access, change of contents and change of attributes; `None` when the nanoseconds
    /// of one are a second or more.
    pub fn times(&self) -> Option<[Time; 3]> {
        Some([
            Time::new(self.atim, self.atim_ns)?,
            Time::new(self.mtim, self.mtim_ns)?,
            Time::new(self.ctim, self.ctim_ns)?,
        ])
    }

    /// The type of the file; `None` when the number is unknown.
    pub fn file_type(&self) -> Option<FileType> {
        FileType::from_wire(self.kind)
    }
}

/// An address of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SocketAddress {
    /// IPv4.
    V4 {
        /// Address, most significant byte first.
        address: [u8; 4],
        /// Port.
        port: u16,
    },
    /// IPv6.
    V6 {
        /// Address, most significant byte first.
        address: [u8; 16],
        /// Port.
        port: u16,
        /// Flow information.
        flow: u32,
        /// Scope.
        scope: u32,
    },
}

impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4 {
                address: address.ip().octets(),
                port: address.port(),
            },
            SocketAddr::V6(address) => Self::V6 {
                address: address.ip().octets(),
                port: address.port(),
                flow: address.flowinfo(),
                scope: address.scope_id(),
            },
        }
    }
}

impl From<SocketAddress> for SocketAddr {
    fn from(address: SocketAddress) -> Self {
        match address {
            SocketAddress::V4 { address, port } => SocketAddrV4::new(address.into(), port).into(),
            SocketAddress::V6 {
                address,
                port,
                flow,
                scope,
            } => SocketAddrV6::new(address.into(), port, flow, scope).into(),
        }
    }
}

/// Bytes of an encoded [`SocketAddress`].
pub const ADDRESS_SIZE: u32 = 32;

impl SocketAddress {
    /// Family number of IPv4.
    const V4_FAMILY: u16 = 4;
    /// Family number of IPv6.
    const V6_FAMILY: u16 = 6;

    /// The four words of a request's arguments: family, port and scope; the address; flow.
    pub(crate) fn to_words(self) -> [u64; 4] {
        let (family, port, scope, bytes, flow) = match self {
            Self::V4 { address, port } => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&address);
                (Self::V4_FAMILY, port, 0, bytes, 0)
            }
            Self::V6 {
                address,
                port,
                flow,
                scope,
            } => (Self::V6_FAMILY, port, scope, address, flow),
        };
        let [low, high]: [u64; 2] = zerocopy::transmute!(bytes);
        [
            u64::from(family) | u64::from(port) << 16 | u64::from(scope) << 32,
            low,
            high,
            u64::from(flow),
        ]
    }

    /// The address of four words; `None` when it is not what [`Self::to_words`] makes.
    pub(crate) fn from_words(words: [u64; 4]) -> Option<Self> {
        let [head, low, high, flow] = words;
        let bytes: [u8; 16] = zerocopy::transmute!([low, high]);
        let port = u16::try_from((head >> 16) & 0xffff).ok()?;
        let address = match u16::try_from(head & 0xffff).ok()? {
            Self::V4_FAMILY => Self::V4 {
                address: *bytes.first_chunk()?,
                port,
            },
            Self::V6_FAMILY => Self::V6 {
                address: bytes,
                port,
                flow: u32::try_from(flow).ok()?,
                scope: u32::try_from(head >> 32).ok()?,
            },
            _ => return None,
        };
        (address.to_words() == words).then_some(address)
    }

    /// The 32 bytes of a reply.
    pub fn to_bytes(self) -> [u8; ADDRESS_SIZE as usize] {
        zerocopy::transmute!(self.to_words())
    }

    /// The address of a reply's bytes; `None` when the family is unknown or an unused byte is not zero.
    pub fn from_bytes(bytes: &[u8; ADDRESS_SIZE as usize]) -> Option<Self> {
        Self::from_words(zerocopy::transmute!(*bytes))
    }
}
