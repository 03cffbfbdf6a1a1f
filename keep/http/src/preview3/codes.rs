// SPDX-License-Identifier: Apache-2.0

//! Error codes of 0.3: those of the core, by the same names.

use super::bindings::http::types;
use crate::error::{self, translate};

translate!(error => types);
translate!(types => error);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::http::types as of_0_2;
    use crate::error::{DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload};

    #[test]
    fn a_code_has_the_same_name_and_payload_in_both_versions() {
        let size = FieldSizePayload {
            field_name: Some("x".to_owned()),
            field_size: Some(5),
        };
        for code in [
            ErrorCode::DnsTimeout,
            ErrorCode::HttpResponseBodySize(Some(7)),
            ErrorCode::HttpRequestHeaderSize(Some(size.clone())),
            ErrorCode::HttpResponseTrailerSize(size),
            ErrorCode::DnsError(DnsErrorPayload {
                rcode: Some("refused".to_owned()),
                info_code: Some(1),
            }),
            ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload {
                alert_id: Some(40),
                alert_message: None,
            }),
            ErrorCode::InternalError(Some("why".to_owned())),
        ] {
            let said = code.to_string();
            let older = of_0_2::ErrorCode::from(code.clone());
            assert_eq!(format!("{older:?}"), said);
            let newer = types::ErrorCode::from(code);
            assert_eq!(format!("{newer:?}"), said);
            assert_eq!(ErrorCode::from(newer).to_string(), said);
        }
    }
}
