// SPDX-License-Identifier: Apache-2.0

//! How a request ended, as the host reports it.
//!
//! The host's word is not trusted: a number without a name here is a violation.

wire_enum! {
    /// The outcome of a request. Values up to 255 are Linux's error numbers (include/uapi/asm-generic/errno.h
    /// and errno-base.h), so that a host translates without a table; others are ours.
    Status: u16 {
        /// Done.
        Ok = 0,
        /// EPERM: not permitted.
        Permission = 1,
        /// ENOENT: no such file or directory.
        NoEntry = 2,
        /// EINTR: interrupted.
        Interrupted = 4,
        /// EIO: input or output failed.
        Io = 5,
        /// ENXIO: no such device or address.
        NoDeviceAddress = 6,
        /// E2BIG: too large an argument.
        TooBig = 7,
        /// EBADF: no such handle.
        BadHandle = 9,
        /// EAGAIN: try again.
        Again = 11,
        /// ENOMEM: out of memory.
        NoMemory = 12,
        /// EACCES: access denied.
        Access = 13,
        /// EFAULT: bad address.
        Fault = 14,
        /// EBUSY: in use.
        Busy = 16,
        /// EEXIST: exists already.
        Exists = 17,
        /// EXDEV: on different file systems.
        CrossDevice = 18,
        /// ENODEV: no such device.
        NoDevice = 19,
        /// ENOTDIR: not a directory.
        NotDirectory = 20,
        /// EISDIR: a directory.
        IsDirectory = 21,
        /// EINVAL: invalid argument.
        Invalid = 22,
        /// ENFILE: too many open files on the host.
        TooManyFiles = 23,
        /// EMFILE: too many open handles.
        TooManyHandles = 24,
        /// ENOTTY: not a terminal, or an unsuited operation.
        NotTerminal = 25,
        /// ETXTBSY: the program is running.
        TextBusy = 26,
        /// EFBIG: the file would be too large.
        FileTooLarge = 27,
        /// ENOSPC: no space left.
        NoSpace = 28,
        /// ESPIPE: cannot be positioned.
        IllegalSeek = 29,
        /// EROFS: read-only file system.
        ReadOnly = 30,
        /// EMLINK: too many links.
        TooManyLinks = 31,
        /// EPIPE: nobody reads.
        Pipe = 32,
        /// EDOM: out of the function's domain.
        Domain = 33,
        /// ERANGE: the result is out of range.
        Range = 34,
        /// EDEADLK: would deadlock.
        Deadlock = 35,
        /// ENAMETOOLONG: the name is too long.
        NameTooLong = 36,
        /// ENOLCK: no locks left.
        NoLocks = 37,
        /// ENOSYS: the host does not implement it.
        NotImplemented = 38,
        /// ENOTEMPTY: the directory is not empty.
        NotEmpty = 39,
        /// ELOOP: too many symbolic links, or one that must not be followed.
        Loop = 40,
        /// EPROTO: protocol error.
        Protocol = 71,
        /// EBADMSG: bad message.
        BadMessage = 74,
        /// EOVERFLOW: the value does not fit.
        Overflow = 75,
        /// EILSEQ: illegal byte sequence.
        IllegalSequence = 84,
        /// ENOTSOCK: not a socket.
        NotSocket = 88,
        /// EDESTADDRREQ: a destination is required.
        DestinationRequired = 89,
        /// EMSGSIZE: the message is too long.
        MessageSize = 90,
        /// EPROTOTYPE: wrong protocol for the socket.
        ProtocolType = 91,
        /// ENOPROTOOPT: no such option.
        ProtocolOption = 92,
        /// EPROTONOSUPPORT: no such protocol.
        ProtocolNotSupported = 93,
        /// EOPNOTSUPP: not supported.
        NotSupported = 95,
        /// EAFNOSUPPORT: no such address family.
        AddressFamily = 97,
        /// EADDRINUSE: the address is in use.
        AddressInUse = 98,
        /// EADDRNOTAVAIL: no such local address.
        AddressNotAvailable = 99,
        /// ENETDOWN: the network is down.
        NetworkDown = 100,
        /// ENETUNREACH: the network cannot be reached.
        NetworkUnreachable = 101,
        /// ENETRESET: the network dropped the connection.
        NetworkReset = 102,
        /// ECONNABORTED: connection aborted.
        ConnectionAborted = 103,
        /// ECONNRESET: connection reset by the peer.
        ConnectionReset = 104,
        /// ENOBUFS: no buffers left.
        NoBuffers = 105,
        /// EISCONN: connected already.
        AlreadyConnected = 106,
        /// ENOTCONN: not connected.
        NotConnected = 107,
        /// ETIMEDOUT: timed out.
        TimedOut = 110,
        /// ECONNREFUSED: connection refused.
        ConnectionRefused = 111,
        /// EHOSTUNREACH: the peer cannot be reached.
        HostUnreachable = 113,
        /// EALREADY: under way already.
        Already = 114,
        /// EINPROGRESS: under way.
        InProgress = 115,
        /// ESTALE: the file is gone from its file system.
        Stale = 116,
        /// EDQUOT: quota exceeded.
        Quota = 122,
        /// ECANCELED: ended by [`Call::Cancel`](crate::Call::Cancel).
        Cancelled = 125,
        /// The grant does not allow it (no Linux number).
        NotCapable = 256,
        /// The resolver knows no such name (no Linux number).
        NameUnresolvable = 257,
        /// The resolver cannot answer now (no Linux number).
        ResolverFailure = 258,
    }
}

impl Status {
    /// The status of a Linux error number; [`Status::Io`] when there is none of that number.
    pub fn from_errno(errno: i32) -> Self {
        match u16::try_from(errno) {
            Ok(number @ 1..=255) => Self::from_wire(number).unwrap_or(Self::Io),
            _ => Self::Io,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_known_once_and_no_other() {
        let known = (0..=u16::MAX).filter_map(Status::from_wire);
        assert!(known.eq(Status::ALL.iter().copied()));
        for status in Status::ALL {
            assert_eq!(Status::from_wire(status.to_wire()), Some(*status));
        }
    }

    #[test]
    fn error_numbers_never_become_success_or_our_own_values() {
        assert_eq!(Status::from_errno(2), Status::NoEntry);
        assert_eq!(Status::from_errno(125), Status::Cancelled);
        for errno in [0, -1, 256, 257, 133, i32::MIN, i32::MAX] {
            assert_eq!(Status::from_errno(errno), Status::Io);
        }
    }
}
