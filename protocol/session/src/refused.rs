// SPDX-License-Identifier: Apache-2.0

//! The document of REFUSED.

use alloc::string::String;
use enarx_contract::canonical::{Name, printable};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// Longest sentence of REFUSED in bytes.
pub const MAX_SENTENCE: usize = 512;

/// REFUSED. All text in it is printable ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The name of the refusal.
    pub code: Name,
    /// One sentence.
    pub sentence: Sentence,
    /// The expected value, where that says something.
    pub expected: Option<Sentence>,
    /// The value that was found.
    pub actual: Option<Sentence>,
}

/// Printable ASCII, at most [`MAX_SENTENCE`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Sentence(String);

impl Sentence {
    /// `text` as a sentence: cut, and with `?` for what is not printable ASCII.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(printable(text, MAX_SENTENCE))
    }
}

impl core::fmt::Display for Sentence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Sentence {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let sentence = Self::new(&text);
        if sentence.0 == text {
            return Ok(sentence);
        }
        Err(D::Error::custom("not a sentence in printable ASCII"))
    }
}
