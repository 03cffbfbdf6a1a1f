// SPDX-License-Identifier: Apache-2.0

//! Writes the few DER structures that certificates need (ITU-T X.690). Its input is this crate's own.

use der::asn1::ObjectIdentifier;
use der::{DateTime, Encode};
use std::time::Duration;

/// Tag, length, value.
pub fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = value.len().to_be_bytes();
    let significant = len
        .iter()
        .skip_while(|b| **b == 0)
        .copied()
        .collect::<Vec<_>>();
    match significant.as_slice() {
        [] => out.push(0),
        [short @ 0..=0x7F] => out.push(*short),
        // A length never has more than eight bytes.
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(value);
    out
}

/// SEQUENCE of these.
pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// SET of this one.
pub fn set(part: &[u8]) -> Vec<u8> {
    tlv(0x31, part)
}

/// Explicit context-specific tag.
pub fn context(number: u8, part: &[u8]) -> Vec<u8> {
    tlv(0xA0 | number, part)
}

/// INTEGER.
pub fn integer(value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|b| **b == 0).count().min(7);
    let significant = bytes.split_at(zeros).1;
    let sign = significant.first().is_some_and(|b| b & 0x80 != 0);
    tlv(
        0x02,
        &[if sign { &[0][..] } else { &[] }, significant].concat(),
    )
}

/// BOOLEAN.
pub fn boolean(value: bool) -> Vec<u8> {
    tlv(0x01, &[if value { 0xFF } else { 0 }])
}

/// OCTET STRING.
pub fn octet_string(value: &[u8]) -> Vec<u8> {
    tlv(0x04, value)
}

/// BIT STRING of whole bytes.
pub fn bit_string(value: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], value].concat())
}

/// UTF8String.
pub fn utf8(value: &str) -> Vec<u8> {
    tlv(0x0C, value.as_bytes())
}

/// OBJECT IDENTIFIER.
pub fn oid(id: ObjectIdentifier) -> Vec<u8> {
    tlv(0x06, id.as_bytes())
}

/// UTCTime until 2049, GeneralizedTime after it (RFC 5280 section 4.1.2.5).
pub fn time(unix: u64) -> Vec<u8> {
    let time = DateTime::from_unix_duration(Duration::from_secs(unix)).and_then(|date| {
        match der::asn1::UtcTime::from_date_time(date) {
            Ok(utc) => utc.to_der(),
            Err(_) => der::asn1::GeneralizedTime::from_date_time(date).to_der(),
        }
    });
    // Only times after the year 9999 have no form; they become the last one that has.
    time.unwrap_or_else(|_| tlv(0x18, b"99991231235959Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use der::Decode;
    use der::asn1::Uint;

    #[test]
    fn integers_and_lengths_are_der() {
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(0x7F), [2, 1, 0x7F]);
        assert_eq!(integer(0xDB), [2, 2, 0, 0xDB]);
        for value in [0, 1, 0x80, 0xFFFF, u64::MAX] {
            assert!(Uint::from_der(&integer(value)).is_ok(), "{value}");
        }
        assert_eq!(tlv(4, &[0; 0x7F])[..2], [4, 0x7F]);
        assert_eq!(tlv(4, &[0; 0x80])[..3], [4, 0x81, 0x80]);
        assert_eq!(tlv(4, &[0; 0x1234])[..4], [4, 0x82, 0x12, 0x34]);
    }

    #[test]
    fn times_change_their_format_in_2050() {
        assert_eq!(time(0)[0], 0x17);
        assert_eq!(time(2_524_607_999)[0], 0x17);
        assert_eq!(time(2_524_608_000)[0], 0x18);
        assert_eq!(time(u64::MAX), tlv(0x18, b"99991231235959Z"));
    }
}
