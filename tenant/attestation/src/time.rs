// SPDX-License-Identifier: Apache-2.0

//! The clock that the caller gives: the verifier has none of its own.

use der::DateTime;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Seconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// 9999-12-31T23:59:59Z, the last time that RFC 3339 can write.
    pub const LAST_DATE: Self = Self(253_402_300_799);

    /// This time, `seconds` earlier; 0 at the least.
    #[must_use]
    pub fn earlier(self, seconds: u32) -> Self {
        Self(self.0.saturating_sub(u64::from(seconds)))
    }

    /// This time, `seconds` later.
    #[must_use]
    pub fn later(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(u64::from(seconds)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, or the number for years above 9999.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_unix_duration(Duration::from_secs(self.0)) {
            Ok(date) => date.fmt(f),
            Err(_) => write!(f, "{} s after 1970", self.0),
        }
    }
}

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a time after 1970 as RFC 3339 has it, such as 2026-01-31T12:00:00Z")]
pub struct TimestampError;

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// Reads RFC 3339; fractions of a second are cut off.
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let date = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| TimestampError)?;
        let seconds = u64::try_from(date.timestamp()).map_err(|_| TimestampError)?;
        Ok(Self(seconds))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl From<x509_cert::time::Time> for Timestamp {
    fn from(time: x509_cert::time::Time) -> Self {
        Self(time.to_unix_duration().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(Timestamp(1_736_460_861).to_string(), "2025-01-09T22:14:21Z");
        for good in [
            "2025-01-09T22:14:21Z",
            "2025-01-09T22:14:21.9Z",
            "2025-01-09T23:14:21+01:00",
        ] {
            assert_eq!(good.parse(), Ok(Timestamp(1_736_460_861)), "{good}");
        }
        for bad in [
            "",
            "2025-01-09",
            "1969-12-31T23:59:59Z",
            "2025-13-09T22:14:21Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(TimestampError), "{bad}");
        }
        assert_eq!(Timestamp::LAST_DATE.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp(0).earlier(1), Timestamp(0));
        assert!(
            Timestamp(u64::MAX)
                .later(1)
                .to_string()
                .ends_with("after 1970")
        );
    }
}
