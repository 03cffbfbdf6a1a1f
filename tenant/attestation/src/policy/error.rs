// SPDX-License-Identifier: Apache-2.0

//! Why a policy cannot be used, in words for its author.

use super::rules::VERSION;

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, or a value of the wrong type.
    #[error("{0}")]
    Format(String),
    /// A key that does not exist.
    #[error("unknown key `{key}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// The key with its tables, by dots.
        key: String,
        /// The known key that resembles it most.
        nearest: Option<String>,
    },
    /// A key or value of an earlier version, or a weaker value in a place that has no `insecure` in its name.
    #[error("`{key}` is refused: {instead}")]
    Refused {
        /// The key with its tables, by dots; with the value where other values are good.
        key: String,
        /// The key or value to write instead.
        instead: &'static str,
    },
    /// A list or table that asks for something and has no entries.
    #[error("`{key}` is empty: leave it out, or give it entries")]
    Empty {
        /// The key with its tables, by dots.
        key: String,
    },
    /// No evidence could ever be accepted.
    #[error("the policy accepts no kind of evidence: add a table [snp], [tdx] or [sgx]")]
    AcceptsNothing,
    /// A value that no evidence can have, so that it would never be compared with anything.
    #[error("`{key}`: {value} can never match: {why}")]
    NeverMatches {
        /// The key with its tables, by dots.
        key: String,
        /// The value.
        value: String,
        /// Why.
        why: &'static str,
    },
    /// A value that names nothing.
    #[error("`{key}`: {value} is not one of {known}")]
    UnknownName {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The names that exist.
        known: String,
    },
    /// The file is of another version of the format.
    #[error("policy version {found} is not known, this program knows version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A value out of its range.
    #[error("`{key}` must be {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// The range.
        range: &'static str,
    },
}
