// SPDX-License-Identifier: Apache-2.0

//! Error codes, which 0.2 and 0.3 name alike: the code that both share has those of 0.2.

use super::http::types::{DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload};
use crate::bindings::http::types as of_0_2;

/// Translates payloads by the names of their fields.
macro_rules! payloads {
    ($($payload:ident { $($field:ident)* })*) => {$(
        impl From<of_0_2::$payload> for $payload {
            fn from(it: of_0_2::$payload) -> Self {
                Self { $($field: it.$field,)* }
            }
        }

        impl From<$payload> for of_0_2::$payload {
            fn from(it: $payload) -> Self {
                Self { $($field: it.$field,)* }
            }
        }
    )*};
}

payloads! {
    FieldSizePayload { field_name field_size }
    DnsErrorPayload { rcode info_code }
    TlsAlertReceivedPayload { alert_id alert_message }
}

/// Translates codes by their names: those without a payload, those whose payload is the same, and the others.
macro_rules! codes {
    ($($plain:ident)*; $($same:ident)*; $($one:ident)*; $($maybe:ident)*) => {
        impl From<of_0_2::ErrorCode> for ErrorCode {
            fn from(code: of_0_2::ErrorCode) -> Self {
                use of_0_2::ErrorCode as From;
                match code {
                    $(From::$plain => Self::$plain,)*
                    $(From::$same(payload) => Self::$same(payload),)*
                    $(From::$one(payload) => Self::$one(payload.into()),)*
                    $(From::$maybe(payload) => Self::$maybe(payload.map(Into::into)),)*
                }
            }
        }

        impl From<ErrorCode> for of_0_2::ErrorCode {
            fn from(code: ErrorCode) -> Self {
                use ErrorCode as From;
                match code {
                    $(From::$plain => Self::$plain,)*
                    $(From::$same(payload) => Self::$same(payload),)*
                    $(From::$one(payload) => Self::$one(payload.into()),)*
                    $(From::$maybe(payload) => Self::$maybe(payload.map(Into::into)),)*
                }
            }
        }
    };
}

codes! {
    DnsTimeout DestinationNotFound DestinationUnavailable DestinationIpProhibited DestinationIpUnroutable ConnectionRefused
    ConnectionTerminated ConnectionTimeout ConnectionReadTimeout ConnectionWriteTimeout ConnectionLimitReached TlsProtocolError
    TlsCertificateError HttpRequestDenied HttpRequestLengthRequired HttpRequestMethodInvalid HttpRequestUriInvalid
    HttpRequestUriTooLong HttpResponseIncomplete HttpResponseTimeout HttpUpgradeFailed HttpProtocolError LoopDetected
    ConfigurationError;
    HttpRequestBodySize HttpRequestHeaderSectionSize HttpRequestTrailerSectionSize HttpResponseHeaderSectionSize
    HttpResponseBodySize HttpResponseTrailerSectionSize HttpResponseTransferCoding HttpResponseContentCoding InternalError;
    DnsError TlsAlertReceived HttpRequestTrailerSize HttpResponseHeaderSize HttpResponseTrailerSize;
    HttpRequestHeaderSize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_the_same_name_and_payload_in_both_versions() {
        let size = of_0_2::FieldSizePayload {
            field_name: Some("x".to_owned()),
            field_size: Some(5),
        };
        for code in [
            of_0_2::ErrorCode::DnsTimeout,
            of_0_2::ErrorCode::HttpResponseBodySize(Some(7)),
            of_0_2::ErrorCode::HttpRequestHeaderSize(Some(size.clone())),
            of_0_2::ErrorCode::HttpResponseTrailerSize(size),
            of_0_2::ErrorCode::DnsError(of_0_2::DnsErrorPayload {
                rcode: Some("refused".to_owned()),
                info_code: Some(1),
            }),
            of_0_2::ErrorCode::TlsAlertReceived(of_0_2::TlsAlertReceivedPayload {
                alert_id: Some(40),
                alert_message: None,
            }),
            of_0_2::ErrorCode::InternalError(Some("why".to_owned())),
        ] {
            let said = format!("{code:?}");
            let newer = ErrorCode::from(code);
            assert_eq!(format!("{newer:?}"), said);
            let older = of_0_2::ErrorCode::from(newer);
            assert_eq!(format!("{older:?}"), said);
        }
    }
}
