// SPDX-License-Identifier: Apache-2.0

//! Canonical JSON: each value has exactly one encoding, so that bytes can be hashed and signed. The encoding is the one
//! that [`encode`] writes; [`decode`] encodes again what it has read and compares. Trusts nobody.
//!
//! No white space; fields in the declared order, none left out (an absent value is `null`), none unknown, none
//! repeated; no fractions; integers below 2^53, which every JSON reader holds exactly; bytes as lower-case hex, or as
//! base64 where they are long.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Integers from this one on are refused: a reader that stores numbers as IEEE 754 doubles cannot distinguish them.
pub const INTEGER_LIMIT: u64 = 1 << 53;

/// Longest text of a parser's message that an error keeps, in characters.
const MESSAGE_LIMIT: usize = 160;

/// Why bytes are not the canonical form of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// More bytes than such a document may have. Nothing of them was read.
    #[error("{length} bytes, the limit is {limit}")]
    TooLong {
        /// Length in bytes.
        length: usize,
        /// Largest length in bytes.
        limit: usize,
    },
    /// Not JSON, or not this kind of document. The text is printable ASCII.
    #[error("{0}")]
    Malformed(String),
    /// The right value in another form than the canonical one.
    #[error("not in canonical form")]
    NotCanonical,
}

/// `text` in printable ASCII, with `?` for everything else, cut to `limit` characters. For text that a peer chose.
pub fn printable(text: &str, limit: usize) -> String {
    text.chars()
        .take(limit)
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect()
}

/// The canonical form of `value`.
///
/// # Errors
/// [`CanonicalError::TooLong`] beyond `limit` bytes; [`CanonicalError::Malformed`] when a number is too large.
pub fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CanonicalError> {
    let bytes = serde_json::to_vec(value).map_err(|error| malformed(&error))?;
    if bytes.len() > limit {
        return Err(CanonicalError::TooLong {
            length: bytes.len(),
            limit,
        });
    }
    Ok(bytes)
}

/// The value whose canonical form is `bytes`.
///
/// # Errors
/// [`CanonicalError`] when there is none, or when `bytes` are more than `limit`.
pub fn decode<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    limit: usize,
) -> Result<T, CanonicalError> {
    if bytes.len() > limit {
        return Err(CanonicalError::TooLong {
            length: bytes.len(),
            limit,
        });
    }
    let value: T = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    let again = serde_json::to_vec(&value).map_err(|error| malformed(&error))?;
    if again != bytes {
        return Err(CanonicalError::NotCanonical);
    }
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> CanonicalError {
    CanonicalError::Malformed(printable(&error.to_string(), MESSAGE_LIMIT))
}

/// Integers below [`INTEGER_LIMIT`], for `#[serde(with = …)]`.
pub mod integer {
    use super::{Deserialize, Deserializer, INTEGER_LIMIT, Serializer};

    /// Writes `value`.
    ///
    /// # Errors
    /// When it is too large.
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde hands out references"
    )]
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        if *value >= INTEGER_LIMIT {
            return Err(serde::ser::Error::custom("a number of 2^53 or more"));
        }
        serializer.serialize_u64(*value)
    }

    /// Reads a number.
    ///
    /// # Errors
    /// When it is not a number, or 2^53 or more.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let value = u64::deserialize(deserializer)?;
        if value >= INTEGER_LIMIT {
            return Err(serde::de::Error::custom("a number of 2^53 or more"));
        }
        Ok(value)
    }
}

/// `N` bytes, lower-case hex in documents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", base16ct::HexDisplay(&self.0))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits<const N: usize>;
        impl<const N: usize> Visitor<'_> for Digits<N> {
            type Value = Hex<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} lower-case hexadecimal digits", 2 * N)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Hex<N>, E> {
                let mut bytes = [0; N];
                if text.len() != 2 * N || base16ct::lower::decode(text, &mut bytes).is_err() {
                    return Err(E::invalid_value(
                        serde::de::Unexpected::Other("other text"),
                        &self,
                    ));
                }
                Ok(Hex(bytes))
            }
        }
        deserializer.deserialize_str(Digits)
    }
}

/// Bytes of any number, standard base64 with padding in documents.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Base64(pub Vec<u8>);

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64ct::{Base64, Encoding};
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64ct::{Base64 as Standard, Encoding};
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Base64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Base64, E> {
                Standard::decode_vec(text)
                    .map(Base64)
                    .map_err(|_| E::custom("not base64 in canonical form"))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A name: 1 to 64 of `a`–`z`, `0`–`9`, `.`, `-`, `_`, `+`. Safe to print and to keep as a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// Longest [`Name`] in bytes.
pub const MAX_NAME: usize = 64;

impl Name {
    /// The name with this text; `None` when the text is not a name.
    pub fn new(text: &str) -> Option<Self> {
        ((1..=MAX_NAME).contains(&text.len()) && text.chars().all(is_name_char))
            .then(|| Self(text.to_string()))
    }

    /// A name like `text`: cut to [`MAX_NAME`], with `-` for each character that is not allowed and for an empty text.
    #[must_use]
    pub fn cleaned(text: &str) -> Self {
        let clean = |c| if is_name_char(c) { c } else { '-' };
        let cleaned: String = text.chars().take(MAX_NAME).map(clean).collect();
        Self(if cleaned.is_empty() {
            "-".to_string()
        } else {
            cleaned
        })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | '+')
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text)
            .ok_or_else(|| D::Error::custom("not a name of a-z, 0-9, '.', '-', '_', '+'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[serde(with = "integer")]
        number: u64,
        digest: Hex<2>,
        long: Base64,
        name: Option<Name>,
    }

    const CANONICAL: &str = r#"{"number":7,"digest":"0aff","long":"AQI=","name":null}"#;

    #[test]
    fn one_value_has_one_form() {
        let value = Example {
            number: 7,
            digest: Hex([0x0a, 0xff]),
            long: Base64(vec![1, 2]),
            name: None,
        };
        assert_eq!(encode(&value, 100).unwrap(), CANONICAL.as_bytes());
        assert_eq!(decode::<Example>(CANONICAL.as_bytes(), 100).unwrap(), value);
        for other in [
            CANONICAL.replace(':', ": "),
            CANONICAL.replace("0aff", "0aFF"),
            CANONICAL.replace("0aff", "0aff00"),
            CANONICAL.replace('7', "7.0"),
            CANONICAL.replace('7', "07"),
            CANONICAL.replace('7', "-7"),
            CANONICAL.replace('7', "9007199254740992"),
            CANONICAL.replace("AQI=", "AQI"),
            CANONICAL.replace("AQI=", "AQJ="),
            CANONICAL.replace("AQI=", r"\u0041QI="),
            CANONICAL.replace(r#","name":null"#, ""),
            CANONICAL.replace("null", r#""A""#),
            CANONICAL.replace("null", r#""""#),
            CANONICAL.replace('}', r#","x":1}"#),
            CANONICAL.replace('}', r#","name":null}"#),
            r#"{"digest":"0aff","number":7,"long":"AQI=","name":null}"#.to_string(),
            format!("{CANONICAL}\n"),
            format!("\u{feff}{CANONICAL}"),
        ] {
            assert!(decode::<Example>(other.as_bytes(), 100).is_err(), "{other}");
        }
    }

    #[test]
    fn long_documents_are_not_read() {
        assert_eq!(
            decode::<Example>(&[b'x'; 101], 100),
            Err(CanonicalError::TooLong {
                length: 101,
                limit: 100
            })
        );
    }

    #[test]
    fn messages_repeat_no_control_characters() {
        let hostile = CANONICAL.replace("number", "\u{1b}[2J\u{202e}");
        let Err(CanonicalError::Malformed(text)) = decode::<Example>(hostile.as_bytes(), 100)
        else {
            panic!("it was read");
        };
        assert!(
            text.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{text}"
        );
    }
}
