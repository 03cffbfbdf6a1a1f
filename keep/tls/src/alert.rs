// SPDX-License-Identifier: Apache-2.0

//! The TLS alerts, by number and name. The number comes from the other end.

use rustls::AlertDescription;
use std::fmt;

/// An alert (RFC 8446, section 6; others in the registry of TLS alerts at IANA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(u8);

impl Alert {
    /// Its number, as it is sent.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            42 => "bad_certificate",
            43 => "unsupported_certificate",
            44 => "certificate_revoked",
            45 => "certificate_expired",
            46 => "certificate_unknown",
            47 => "illegal_parameter",
            48 => "unknown_ca",
            49 => "access_denied",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            86 => "inappropriate_fallback",
            90 => "user_canceled",
            109 => "missing_extension",
            110 => "unsupported_extension",
            112 => "unrecognized_name",
            113 => "bad_certificate_status_response",
            115 => "unknown_psk_identity",
            116 => "certificate_required",
            120 => "no_application_protocol",
            121 => "ech_required",
            _ => "an alert without a name",
        }
    }
}

impl From<AlertDescription> for Alert {
    fn from(alert: AlertDescription) -> Self {
        Self(alert.into())
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_named_by_its_number() {
        for (alert, number, name) in [
            (AlertDescription::HandshakeFailure, 40, "handshake_failure"),
            (AlertDescription::UnknownCA, 48, "unknown_ca"),
            (
                AlertDescription::CertificateRequired,
                116,
                "certificate_required",
            ),
            (
                AlertDescription::Unknown(200),
                200,
                "an alert without a name",
            ),
        ] {
            let alert = Alert::from(alert);
            assert_eq!((alert.number(), alert.name()), (number, name));
            assert_eq!(alert.to_string(), name);
        }
    }
}
