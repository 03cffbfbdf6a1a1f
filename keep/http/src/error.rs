// SPDX-License-Identifier: Apache-2.0

//! The errors of HTTP: one type for the core and both front ends, whose bindings have a type of their own each.

use std::error::Error;
use std::{fmt, io};

use enarx_tls::web::WebError;
use enarx_wasi::budget::Full;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi_io::streams::StreamError;

/// An error code of `wasi:http`, which 0.2 and 0.3 name alike, after the registry of proxies' error types (RFC 9209, section 2.3).
/// Not all of them arise here: a component may pass those of another one on.
#[derive(Clone, Debug)]
pub enum ErrorCode {
    /// The look-up of a name took too long.
    DnsTimeout,
    /// A name could not be looked up.
    DnsError(DnsErrorPayload),
    /// The server has no address.
    DestinationNotFound,
    /// The server cannot be reached now.
    DestinationUnavailable,
    /// The address may not be connected to.
    DestinationIpProhibited,
    /// There is no way to the address.
    DestinationIpUnroutable,
    /// The server refused the connection.
    ConnectionRefused,
    /// The connection ended too early.
    ConnectionTerminated,
    /// The connection was not made in time.
    ConnectionTimeout,
    /// The peer did not send the next bytes in time.
    ConnectionReadTimeout,
    /// The peer did not take the next bytes in time.
    ConnectionWriteTimeout,
    /// There is no room for another connection or request.
    ConnectionLimitReached,
    /// The peer broke the rules of TLS.
    TlsProtocolError,
    /// The certificate of the server is not accepted.
    TlsCertificateError,
    /// The peer ended TLS by an alert.
    TlsAlertReceived(TlsAlertReceivedPayload),
    /// The configuration does not permit the request.
    HttpRequestDenied,
    /// The request has to say its length.
    HttpRequestLengthRequired,
    /// The body of the request does not have the length that was promised; its length in bytes.
    HttpRequestBodySize(Option<u64>),
    /// The method is not valid.
    HttpRequestMethodInvalid,
    /// The target of the request is not valid.
    HttpRequestUriInvalid,
    /// The target of the request is too long.
    HttpRequestUriTooLong,
    /// The headers of the request are too long; their length in bytes.
    HttpRequestHeaderSectionSize(Option<u32>),
    /// A header of the request is too long.
    HttpRequestHeaderSize(Option<FieldSizePayload>),
    /// The trailers of the request are too long; their length in bytes.
    HttpRequestTrailerSectionSize(Option<u32>),
    /// A trailer of the request is too long.
    HttpRequestTrailerSize(FieldSizePayload),
    /// The response ended too early.
    HttpResponseIncomplete,
    /// The headers of the response are too long; their length in bytes.
    HttpResponseHeaderSectionSize(Option<u32>),
    /// A header of the response is too long.
    HttpResponseHeaderSize(FieldSizePayload),
    /// The body of the response does not have the length that was promised; its length in bytes.
    HttpResponseBodySize(Option<u64>),
    /// The trailers of the response are too long; their length in bytes.
    HttpResponseTrailerSectionSize(Option<u32>),
    /// A trailer of the response is too long.
    HttpResponseTrailerSize(FieldSizePayload),
    /// The response is transferred in an unknown coding, which is named.
    HttpResponseTransferCoding(Option<String>),
    /// The response is in an unknown coding, which is named.
    HttpResponseContentCoding(Option<String>),
    /// The response did not come in time.
    HttpResponseTimeout,
    /// The connection did not change to another protocol.
    HttpUpgradeFailed,
    /// The peer broke the rules of HTTP.
    HttpProtocolError,
    /// The request came back to a server that it had passed.
    LoopDetected,
    /// The server is configured wrongly.
    ConfigurationError,
    /// Another error, in words.
    InternalError(Option<String>),
}

/// Most bytes of each text in an error that a component forwards: the text is kept until somebody reads it.
const TEXT_MAX: usize = 1024;

/// Cuts a text of a component's.
fn cut(text: Option<&mut String>) {
    if let Some(text) = text {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.shrink_to_fit();
    }
}

impl ErrorCode {
    /// The same with its texts cut, as it is forwarded.
    #[must_use]
    pub fn passed_on(mut self) -> Self {
        match &mut self {
            Self::DnsError(payload) => cut(payload.rcode.as_mut()),
            Self::TlsAlertReceived(payload) => cut(payload.alert_message.as_mut()),
            Self::HttpRequestHeaderSize(payload) => {
                cut(payload.as_mut().and_then(|it| it.field_name.as_mut()));
            }
            Self::HttpRequestTrailerSize(payload)
            | Self::HttpResponseHeaderSize(payload)
            | Self::HttpResponseTrailerSize(payload) => cut(payload.field_name.as_mut()),
            Self::HttpResponseTransferCoding(text)
            | Self::HttpResponseContentCoding(text)
            | Self::InternalError(text) => cut(text.as_mut()),
            _ => {}
        }
        self
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As the bindings have it.
        write!(f, "ErrorCode::{self:?}")
    }
}

impl Error for ErrorCode {}

/// The error of a look-up.
#[derive(Clone, Debug)]
pub struct DnsErrorPayload {
    /// The answer's code, or words in its place.
    pub rcode: Option<String>,
    /// The number of an extended error (RFC 8914).
    pub info_code: Option<u16>,
}

/// An alert of TLS.
#[derive(Clone, Debug)]
pub struct TlsAlertReceivedPayload {
    /// Its number (RFC 8446, section 6).
    pub alert_id: Option<u8>,
    /// Its name.
    pub alert_message: Option<String>,
}

/// A header or trailer that is too long.
#[derive(Clone, Debug)]
pub struct FieldSizePayload {
    /// Its name.
    pub field_name: Option<String>,
    /// Its length, in bytes.
    pub field_size: Option<u32>,
}

/// Why a function did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The component sees this code.
    Code(ErrorCode),
    /// The component ends.
    Trap(wasmtime::Error),
}

impl Failure {
    /// The code that the component sees, by the name of its bindings.
    ///
    /// # Errors
    /// The end of the component.
    pub fn code<C: From<ErrorCode>>(self) -> wasmtime::Result<C> {
        match self {
            Self::Code(code) => Ok(code.into()),
            Self::Trap(error) => Err(error),
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<Full> for Failure {
    fn from(full: Full) -> Self {
        Self::Trap(full.into())
    }
}

/// The error of a component's stream whose cause is this code, which `http-error-code` finds.
pub fn stream_error(code: ErrorCode) -> StreamError {
    StreamError::LastOperationFailed(wasmtime::Error::new(code))
}

/// The code of an error of TLS.
pub fn tls_error(error: &WebError) -> ErrorCode {
    match error {
        WebError::Untrusted(_) => ErrorCode::TlsCertificateError,
        WebError::Alert(alert) => ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload {
            alert_id: Some(alert.number()),
            alert_message: Some(alert.name().to_owned()),
        }),
        WebError::Protocol(_) => ErrorCode::TlsProtocolError,
        WebError::Cut => ErrorCode::ConnectionTerminated,
        WebError::Name => ErrorCode::HttpRequestUriInvalid,
        other => ErrorCode::InternalError(Some(other.to_string())),
    }
}

/// The code of an error of a connection.
pub fn connection_error(error: &hyper::Error) -> ErrorCode {
    let source = error.source();
    let http2: Option<&h2::Error> = source.and_then(|source| source.downcast_ref());
    let host: Option<&io::Error> = source.and_then(|source| source.downcast_ref());
    let host = host.or_else(|| http2?.get_io());
    let tls = host.and_then(|error| error.get_ref()?.downcast_ref());
    let is_cut = http2.is_some_and(|error| error.is_io() || error.is_remote());
    if let Some(tls) = tls {
        tls_error(tls)
    } else if let Some(code) = host.and_then(host_error) {
        code
    } else if is_cut {
        ErrorCode::ConnectionTerminated
    } else if error.is_timeout() {
        ErrorCode::ConnectionReadTimeout
    } else if error.is_parse_too_large() {
        ErrorCode::HttpResponseHeaderSectionSize(None)
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        ErrorCode::ConnectionTerminated
    } else {
        ErrorCode::HttpProtocolError
    }
}

/// The code of an error of the host's; hyper has some of its own of the same type, for messages that it cannot read.
fn host_error(error: &io::Error) -> Option<ErrorCode> {
    match error.kind() {
        // Only what is written has an end of its time where the host is.
        io::ErrorKind::TimedOut => Some(ErrorCode::ConnectionWriteTimeout),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Some(ErrorCode::ConnectionTerminated),
        _ => None,
    }
}

/// Translates error codes between two modules that have them: those without a payload, those whose payload is the same, and the
/// others by the names of its fields.
macro_rules! translate {
    ($from:ident => $to:ident) => {
        $crate::error::translate! { payloads $from => $to:
            FieldSizePayload { field_name field_size }
            DnsErrorPayload { rcode info_code }
            TlsAlertReceivedPayload { alert_id alert_message }
        }
        $crate::error::translate! { codes $from => $to:
            DnsTimeout DestinationNotFound DestinationUnavailable DestinationIpProhibited DestinationIpUnroutable
            ConnectionRefused ConnectionTerminated ConnectionTimeout ConnectionReadTimeout ConnectionWriteTimeout
            ConnectionLimitReached TlsProtocolError TlsCertificateError HttpRequestDenied HttpRequestLengthRequired
            HttpRequestMethodInvalid HttpRequestUriInvalid HttpRequestUriTooLong HttpResponseIncomplete
            HttpResponseTimeout HttpUpgradeFailed HttpProtocolError LoopDetected ConfigurationError;
            HttpRequestBodySize HttpRequestHeaderSectionSize HttpRequestTrailerSectionSize
            HttpResponseHeaderSectionSize HttpResponseBodySize HttpResponseTrailerSectionSize
            HttpResponseTransferCoding HttpResponseContentCoding InternalError;
            DnsError TlsAlertReceived HttpRequestTrailerSize HttpResponseHeaderSize HttpResponseTrailerSize;
            HttpRequestHeaderSize
        }
    };
    (payloads $from:ident => $to:ident: $($payload:ident { $($field:ident)* })*) => {$(
        impl From<$from::$payload> for $to::$payload {
            fn from(it: $from::$payload) -> Self {
                Self { $($field: it.$field,)* }
            }
        }
    )*};
    (
        codes $from:ident => $to:ident:
        $($plain:ident)*; $($same:ident)*; $($one:ident)*; $($maybe:ident)*
    ) => {
        impl From<$from::ErrorCode> for $to::ErrorCode {
            fn from(code: $from::ErrorCode) -> Self {
                match code {
                    $($from::ErrorCode::$plain => Self::$plain,)*
                    $($from::ErrorCode::$same(payload) => Self::$same(payload),)*
                    $($from::ErrorCode::$one(payload) => Self::$one(payload.into()),)*
                    $($from::ErrorCode::$maybe(payload) => Self::$maybe(payload.map(Into::into)),)*
                }
            }
        }
    };
}

pub(crate) use translate;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_components_text_in_an_error_is_truncated() {
        let long = "\u{e4}".repeat(TEXT_MAX);
        let payload = || FieldSizePayload {
            field_name: Some(long.clone()),
            field_size: None,
        };
        let text = |code: ErrorCode| match code.passed_on() {
            ErrorCode::DnsError(payload) => payload.rcode,
            ErrorCode::TlsAlertReceived(payload) => payload.alert_message,
            ErrorCode::HttpRequestHeaderSize(payload) => payload.unwrap().field_name,
            ErrorCode::HttpRequestTrailerSize(payload)
            | ErrorCode::HttpResponseHeaderSize(payload)
            | ErrorCode::HttpResponseTrailerSize(payload) => payload.field_name,
            ErrorCode::HttpResponseTransferCoding(text)
            | ErrorCode::HttpResponseContentCoding(text)
            | ErrorCode::InternalError(text) => text,
            other => panic!("{other}"),
        };
        for code in [
            ErrorCode::DnsError(DnsErrorPayload {
                rcode: Some(long.clone()),
                info_code: None,
            }),
            ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload {
                alert_id: None,
                alert_message: Some(long.clone()),
            }),
            ErrorCode::HttpRequestHeaderSize(Some(payload())),
            ErrorCode::HttpRequestTrailerSize(payload()),
            ErrorCode::HttpResponseHeaderSize(payload()),
            ErrorCode::HttpResponseTrailerSize(payload()),
            ErrorCode::HttpResponseTransferCoding(Some(long.clone())),
            ErrorCode::HttpResponseContentCoding(Some(long.clone())),
            ErrorCode::InternalError(Some(long.clone())),
        ] {
            assert_eq!(text(code).unwrap(), long[..TEXT_MAX]);
        }
    }
}
