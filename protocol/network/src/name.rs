// SPDX-License-Identifier: Apache-2.0

//! Names of hosts, in the one form in which they are compared.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

/// Longest name, in bytes (RFC 1035 section 2.3.4, without the last dot).
const MAX_NAME: usize = 253;
/// Longest label, in bytes (the same).
const MAX_LABEL: usize = 63;

/// A name of a host: letters in lower case, digits, hyphens and underscores (RFC 1123 section 2.1;
/// underscores are in use), other letters in IDNA form, without a trailing dot. Never an address in any
/// of its spellings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// `text` as a name; `None` if it is not a name, or is an address.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let ascii = ascii(text)?;
        // A trailing dot says that a name is complete, as all of these are.
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        let mut labels = name.split('.');
        let legal = name.len() <= MAX_NAME && labels.clone().all(is_label);
        // `127.1`, `0x7f.0.0.1` and `2130706433` are addresses to the C library (inet_aton(3)).
        let numeric = labels.next_back().is_none_or(is_number);
        (legal && !numeric).then(|| Self(name.to_ascii_lowercase()))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if it is this machine by definition (RFC 6761 section 6.3).
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_below("localhost") || self.0 == "localhost"
    }

    fn is_below(&self, parent: &str) -> bool {
        let rest = self.0.strip_suffix(parent);
        rest.is_some_and(|rest| rest.ends_with('.'))
    }
}

/// The name in ASCII; case is left as it is.
fn ascii(text: &str) -> Option<Cow<'_, str>> {
    if text.is_ascii() {
        return Some(text.into());
    }
    #[cfg(feature = "idna")]
    {
        idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::URL).ok()
    }
    #[cfg(not(feature = "idna"))]
    None
}

fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// True if a label is a number in any notation of C (URL Standard, "ends in a number").
fn is_number(label: &str) -> bool {
    let hexadecimal = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        || label.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names that may be looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NameRule {
    name: HostName,
    /// All names below it instead.
    below: bool,
}

impl NameRule {
    /// This name, or all names below it.
    pub(crate) fn new(name: HostName, below: bool) -> Self {
        Self { name, below }
    }

    /// True if it has this name.
    #[must_use]
    pub fn applies_to(&self, name: &HostName) -> bool {
        if self.below {
            name.is_below(&self.name.0)
        } else {
            *name == self.name
        }
    }

    /// True if it has every name that `other` has.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        match (self.below, other.below) {
            (true, true) => self.name == other.name || other.name.is_below(&self.name.0),
            (false, true) => false,
            (_, false) => self.applies_to(&other.name),
        }
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(f, "{below}{}", self.name)
    }
}
