// SPDX-License-Identifier: Apache-2.0

//! Frames: a header of 8 bytes, then the payload. The decoder takes bytes as they arrive, returns one frame at a time,
//! and refuses at the header whatever the sender may not send. Its allocations depend on the kind of frame, not on the
//! length that a peer claims.

use crate::refusal::Refusal;
use crate::wipe::wipe;
use alloc::vec::Vec;
use zeroize::Zeroize;

/// Length of the header in bytes: `length` u32, `kind` u8, `stream` u8, zero u16; little-endian.
pub const HEADER: usize = 8;

/// Largest payload in bytes.
pub const MAX_PAYLOAD: usize = 64 << 10;

/// Most bytes of data that our ends put into one frame: with its header, such a frame fills one TLS record (RFC 8446
/// section 5.1).
pub const DATA_CHUNK: usize = (16 << 10) - HEADER;

/// An end of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The tenant, TLS client.
    Tenant,
    /// The Keep, TLS server.
    Keep,
}

/// The stream of control frames.
pub const CONTROL: u8 = 0;
/// Standard input, from the tenant.
pub const STDIN: u8 = 1;
/// Standard output, from the Keep.
pub const STDOUT: u8 = 2;
/// Standard error, from the Keep.
pub const STDERR: u8 = 3;
/// The deployment and its blobs, one after the other, from the tenant.
pub const DELIVERY: u8 = 8;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $wire:literal, $from:pat, $least:expr, $most:expr;)*) => {
        /// The kind of a frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $number,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kind with this number.
            pub fn from_wire(number: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| *kind as u8 == number)
            }

            /// Its name in SPEC.md.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }

            /// True if `end` may send it.
            pub fn may_be_sent_by(self, end: End) -> bool {
                match self { $(Self::$name => matches!(end, $from),)* }
            }

            /// Least and most bytes of its payload.
            pub fn lengths(self) -> (usize, usize) {
                match self { $(Self::$name => ($least, $most),)* }
            }
        }
    };
}

kinds! {
    /// Asks for evidence.
    Attest = 0x01, "ATTEST", End::Tenant, 2, 256;
    /// The answer to ATTEST.
    Evidence = 0x02, "EVIDENCE", End::Keep, 2, 8 << 10;
    /// Announces the deployment.
    Release = 0x10, "RELEASE", End::Tenant, 2, 256;
    /// Announces a blob of the deployment.
    Blob = 0x11, "BLOB", End::Tenant, 2, 256;
    /// Everything has been delivered: run.
    Start = 0x12, "START", End::Tenant, 0, 0;
    /// The application runs.
    Started = 0x13, "STARTED", End::Keep, 2, 2 << 10;
    /// Bytes of a stream.
    Data = 0x20, "DATA", End::Tenant | End::Keep, 1, MAX_PAYLOAD;
    /// The end of a stream.
    End = 0x21, "END", End::Tenant | End::Keep, 0, 0;
    /// Further bytes that the other end may send, u32 little-endian.
    Credit = 0x22, "CREDIT", End::Tenant | End::Keep, 4, 4;
    /// Takes over the streams of an application that runs.
    Attach = 0x30, "ATTACH", End::Tenant, 2, 256;
    /// The answer to ATTACH.
    Attached = 0x31, "ATTACHED", End::Keep, 2, 256;
    /// Asks the application to end.
    Stop = 0x50, "STOP", End::Tenant, 2, 64;
    /// How the application ended.
    Exit = 0x60, "EXIT", End::Keep, 2, 128;
    /// The receipt.
    Receipt = 0x61, "RECEIPT", End::Keep, 2, 16 << 10;
    /// Nothing follows.
    Bye = 0x62, "BYE", End::Tenant | End::Keep, 2, 128;
    /// Why the session ends. Nothing follows.
    Refused = 0x7f, "REFUSED", End::Tenant | End::Keep, 2, 4 << 10;
}

impl Kind {
    /// True if `end` may send it on `stream`.
    pub fn may_be_sent_on(self, stream: u8, end: End) -> bool {
        let streams: &[u8] = match (self, end) {
            (Self::Data | Self::End, End::Tenant) => &[STDIN, DELIVERY],
            (Self::Data | Self::End, End::Keep) => &[STDOUT, STDERR],
            (Self::Credit, End::Tenant) => &[CONTROL, STDOUT, STDERR],
            (Self::Credit, End::Keep) => &[CONTROL, STDIN, DELIVERY],
            _ => &[CONTROL],
        };
        self.may_be_sent_by(end) && streams.contains(&stream)
    }
}

/// A frame, valid until the decoder is asked for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The kind.
    pub kind: Kind,
    /// The stream.
    pub stream: u8,
    /// The payload.
    pub payload: &'a [u8],
}

/// A header. `length` is one that the kind allows.
pub(crate) fn header(kind: Kind, stream: u8, length: usize) -> [u8; HEADER] {
    debug_assert!(length <= kind.lengths().1, "our own frames are legal");
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let [a, b, c, d] = length;
    [a, b, c, d, kind as u8, stream, 0, 0]
}

/// The frame as bytes; `None` when no end may send it.
#[must_use]
pub fn encode(kind: Kind, stream: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let (least, most) = kind.lengths();
    let legal = (least..=most).contains(&payload.len())
        && [End::Tenant, End::Keep]
            .iter()
            .any(|end| kind.may_be_sent_on(stream, *end));
    legal.then(|| {
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend_from_slice(&header(kind, stream, payload.len()));
        bytes.extend_from_slice(payload);
        bytes
    })
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No kind has this number.
    #[error("unknown kind of frame {0:#04x}")]
    Kind(u8),
    /// Not from this end, or not on this stream.
    #[error("{} on stream {stream} is not for this end to send", kind.name())]
    Place {
        /// The kind.
        kind: Kind,
        /// The stream.
        stream: u8,
    },
    /// The two bytes that must be zero are not.
    #[error("a header whose last two bytes are not zero")]
    Padding,
    /// Shorter or longer than such a frame can be.
    #[error("{} of {length} bytes", kind.name())]
    Length {
        /// The kind.
        kind: Kind,
        /// The length.
        length: u32,
    },
}

/// Decodes the frames in the other end's bytes.
#[cfg_attr(feature = "copy", derive(Clone))]
pub struct Decoder {
    from: End,
    header: [u8; HEADER],
    /// Bytes of the header received so far.
    filled: usize,
    /// The rest of the header, once it is complete and legal.
    awaited: Option<(Kind, u8, usize)>,
    /// Bytes of the payload received so far. Wiped before it is used again: secrets pass through here.
    payload: Vec<u8>,
    /// The last frame has been returned.
    handed_out: bool,
    failed: Option<FrameError>,
}

impl Decoder {
    /// A decoder for the bytes of `from`.
    #[must_use]
    pub fn new(from: End) -> Self {
        Self {
            from,
            header: [0; HEADER],
            filled: 0,
            awaited: None,
            payload: Vec::new(),
            handed_out: false,
            failed: None,
        }
    }

    /// True if no frame is incomplete: here a stream may end.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.filled == 0 || self.handed_out
    }

    /// Takes bytes from the front of `input` up to the end of a frame, and returns that frame; `None` if `input` ends
    /// before.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the header shows it; from then on always the same error.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.handed_out {
            wipe(&mut self.payload);
            self.filled = 0;
            self.awaited = None;
            self.handed_out = false;
        }
        let header = split(input, HEADER - self.filled);
        for (to, from) in self.header.iter_mut().skip(self.filled).zip(header) {
            *to = *from;
        }
        self.filled += header.len();
        if self.filled < HEADER {
            return Ok(None);
        }
        let (kind, stream, length) = match self.awaited {
            Some(awaited) => awaited,
            None => self
                .admit()
                .inspect_err(|error| self.failed = Some(*error))?,
        };
        let payload = split(input, length - self.payload.len());
        self.payload.extend_from_slice(payload);
        if self.payload.len() < length {
            return Ok(None);
        }
        self.handed_out = true;
        Ok(Some(Frame {
            kind,
            stream,
            payload: &self.payload,
        }))
    }

    /// Checks the complete header and makes room for the payload.
    fn admit(&mut self) -> Result<(Kind, u8, usize), FrameError> {
        let [a, b, c, d, kind, stream, padding @ ..] = self.header;
        let length = u32::from_le_bytes([a, b, c, d]);
        let kind = Kind::from_wire(kind).ok_or(FrameError::Kind(kind))?;
        if padding != [0, 0] {
            return Err(FrameError::Padding);
        }
        if !kind.may_be_sent_on(stream, self.from) {
            return Err(FrameError::Place { kind, stream });
        }
        let (least, most) = kind.lengths();
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if !(least..=most).contains(&bytes) {
            return Err(FrameError::Length { kind, length });
        }
        // Empty here, so nothing is left behind if it moves.
        self.payload.reserve_exact(most);
        let awaited = (kind, stream, bytes);
        self.awaited = Some(awaited);
        Ok(awaited)
    }
}

/// Takes at most `count` bytes from the front.
fn split<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    front
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.payload.zeroize();
    }
}

impl core::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Decoder")
            .field("from", &self.from)
            .field("awaited", &self.awaited)
            .finish_non_exhaustive()
    }
}

impl From<FrameError> for Refusal {
    fn from(error: FrameError) -> Self {
        Self::Protocol(alloc::format!("{error}"))
    }
}

/// The number of a CREDIT.
pub(crate) fn credit(payload: &[u8]) -> Result<u32, Refusal> {
    let bytes = payload
        .try_into()
        .map_err(|_| Refusal::protocol("a CREDIT of another length"))?;
    Ok(u32::from_le_bytes(bytes))
}
