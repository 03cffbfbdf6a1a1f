// SPDX-License-Identifier: Apache-2.0

//! The error numbers of WASI: one type for the core and all front ends.
//!
//! Trusted code; the numbers a host answers with are mapped here, by name.

/// An error number; the values are those of `errno` in `wasi_snapshot_preview1`
/// (witx, `typenames.witx`), which the front ends of 0.2 and 0.3 map by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u16)]
pub enum Errno {
    /// Permission denied.
    #[error("permission denied")]
    Access = 2,
    /// Address in use.
    #[error("address in use")]
    AddressInUse = 3,
    /// Address not available.
    #[error("address not available")]
    AddressNotAvailable = 4,
    /// Resource unavailable, or operation would block.
    #[error("operation would block")]
    Again = 6,
    /// Connection already in progress.
    #[error("operation already in progress")]
    Already = 7,
    /// Bad file descriptor.
    #[error("bad descriptor")]
    BadDescriptor = 8,
    /// Device or resource busy.
    #[error("resource busy")]
    Busy = 10,
    /// Operation cancelled.
    #[error("operation cancelled")]
    Cancelled = 11,
    /// Connection aborted.
    #[error("connection aborted")]
    ConnectionAborted = 13,
    /// Connection refused.
    #[error("connection refused")]
    ConnectionRefused = 14,
    /// Connection reset.
    #[error("connection reset")]
    ConnectionReset = 15,
    /// File exists.
    #[error("file exists")]
    Exists = 20,
    /// File too large.
    #[error("file too large")]
    FileTooLarge = 22,
    /// Host is unreachable.
    #[error("host unreachable")]
    HostUnreachable = 23,
    /// Illegal byte sequence.
    #[error("illegal byte sequence")]
    IllegalByteSequence = 25,
    /// Operation in progress.
    #[error("operation in progress")]
    InProgress = 26,
    /// Interrupted.
    #[error("interrupted")]
    Interrupted = 27,
    /// Invalid argument.
    #[error("invalid argument")]
    Invalid = 28,
    /// Input/output error.
    #[error("input/output error")]
    Io = 29,
    /// Is a directory.
    #[error("is a directory")]
    IsDirectory = 31,
    /// Too many levels of symbolic links.
    #[error("too many symbolic links")]
    Loop = 32,
    /// Too many open descriptors.
    #[error("too many open descriptors")]
    TooManyDescriptors = 33,
    /// Too many links.
    #[error("too many links")]
    TooManyLinks = 34,
    /// Message too large.
    #[error("message too large")]
    MessageSize = 35,
    /// Name too long.
    #[error("name too long")]
    NameTooLong = 37,
    /// Network is unreachable.
    #[error("network unreachable")]
    NetworkUnreachable = 40,
    /// No such file or directory.
    #[error("no such file or directory")]
    NoEntry = 44,
    /// Not enough memory.
    #[error("not enough memory")]
    NoMemory = 48,
    /// No space left.
    #[error("no space left")]
    NoSpace = 51,
    /// Not connected.
    #[error("not connected")]
    NotConnected = 53,
    /// Not a directory.
    #[error("not a directory")]
    NotDirectory = 54,
    /// Directory not empty.
    #[error("directory not empty")]
    NotEmpty = 55,
    /// Not a socket.
    #[error("not a socket")]
    NotSocket = 57,
    /// Not supported.
    #[error("not supported")]
    NotSupported = 58,
    /// Value too large.
    #[error("value too large")]
    Overflow = 61,
    /// Operation not permitted.
    #[error("operation not permitted")]
    NotPermitted = 63,
    /// Broken pipe.
    #[error("broken pipe")]
    Pipe = 64,
    /// Result too large.
    #[error("result out of range")]
    Range = 68,
    /// Read-only file system.
    #[error("read-only file system")]
    ReadOnly = 69,
    /// Invalid seek.
    #[error("invalid seek")]
    InvalidSeek = 70,
    /// Timed out.
    #[error("timed out")]
    TimedOut = 73,
    /// Text file busy.
    #[error("text file busy")]
    TextBusy = 74,
    /// Cross-device link.
    #[error("cross-device link")]
    CrossDevice = 75,
}

impl Errno {
    /// The number that preview 1 programs see.
    pub fn code(self) -> u16 {
        self as u16
    }
}

/// Result of an operation of the core.
pub type Result<T, E = Errno> = std::result::Result<T, E>;

/// Why a function that the guest called did not succeed.
#[derive(Debug)]
pub enum Fault {
    /// The guest sees this error.
    Errno(Errno),
    /// The guest ends.
    Trap(wasmtime::Error),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<wasmtime::Error> for Fault {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

impl From<wasmtime::component::ResourceTableError> for Fault {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}
