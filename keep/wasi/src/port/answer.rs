// SPDX-License-Identifier: Apache-2.0

//! The answer to a call. The host is not trusted; the sallyport has checked the form of the answer.

use enarx_sallyport::Status;

use crate::error::Errno;

/// A completed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Bytes that were copied to the caller's buffer.
    pub length: usize,
    /// First value of the reply; its meaning depends on the call.
    pub value: u64,
    /// Second value of the reply.
    pub value2: u64,
}

/// The error number of a host's answer.
pub(super) fn errno(status: Status) -> Errno {
    match status {
        // A way out of the directory is what Wasmtime calls not permitted.
        Status::Permission | Status::NotCapable => Errno::NotPermitted,
        Status::NoEntry | Status::Stale | Status::NameUnresolvable => Errno::NoEntry,
        Status::Interrupted => Errno::Interrupted,
        Status::BadHandle => Errno::BadDescriptor,
        Status::Again | Status::ResolverFailure => Errno::Again,
        Status::NoMemory | Status::NoBuffers => Errno::NoMemory,
        Status::Access => Errno::Access,
        Status::Busy => Errno::Busy,
        Status::Exists => Errno::Exists,
        Status::CrossDevice => Errno::CrossDevice,
        Status::NotDirectory => Errno::NotDirectory,
        Status::IsDirectory => Errno::IsDirectory,
        Status::Invalid => Errno::Invalid,
        Status::TooManyFiles | Status::TooManyHandles => Errno::TooManyDescriptors,
        Status::TextBusy => Errno::TextBusy,
        Status::FileTooLarge => Errno::FileTooLarge,
        Status::NoSpace | Status::Quota => Errno::NoSpace,
        Status::IllegalSeek => Errno::InvalidSeek,
        Status::ReadOnly => Errno::ReadOnly,
        Status::TooManyLinks => Errno::TooManyLinks,
        Status::Pipe => Errno::Pipe,
        Status::Range => Errno::Range,
        Status::NameTooLong => Errno::NameTooLong,
        Status::NotImplemented
        | Status::NotSupported
        | Status::ProtocolOption
        | Status::ProtocolNotSupported
        | Status::AddressFamily => Errno::NotSupported,
        Status::NotEmpty => Errno::NotEmpty,
        Status::Loop => Errno::Loop,
        Status::Overflow => Errno::Overflow,
        Status::IllegalSequence => Errno::IllegalByteSequence,
        Status::NotSocket => Errno::NotSocket,
        Status::MessageSize => Errno::MessageSize,
        Status::AddressInUse => Errno::AddressInUse,
        Status::AddressNotAvailable => Errno::AddressNotAvailable,
        Status::NetworkUnreachable | Status::NetworkDown => Errno::NetworkUnreachable,
        Status::ConnectionAborted => Errno::ConnectionAborted,
        Status::ConnectionReset | Status::NetworkReset => Errno::ConnectionReset,
        Status::NotConnected => Errno::NotConnected,
        Status::TimedOut => Errno::TimedOut,
        Status::ConnectionRefused => Errno::ConnectionRefused,
        Status::HostUnreachable => Errno::HostUnreachable,
        Status::Already => Errno::Already,
        Status::InProgress => Errno::InProgress,
        Status::Cancelled => Errno::Cancelled,
        _ => Errno::Io,
    }
}
