// SPDX-License-Identifier: Apache-2.0

//! A host to deploy to, as the tenant names it: where its manager listens, and by which certificate that manager is
//! known. Written by the tenant, and trusted.

use enarx_contract::canonical::{Hex, printable};
use std::fmt;
use zeroize::Zeroizing;

/// Longest host name in bytes (RFC 1035 section 2.3.4, without the last dot).
const MAX_HOST: usize = 253;

/// Longest token in bytes; those that a manager makes are far shorter.
const MAX_TOKEN: usize = 1024;

/// Characters of a wrong text that an error repeats.
const SHOWN: usize = 120;

/// A host to deploy to.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    pin: Hex<32>,
    token: Zeroizing<String>,
}

/// Why a text names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not `https://…`.
    #[error(
        "`{0}` does not begin with https://; write https://HOST:PORT#sha256=DIGEST, as the host's manager prints it"
    )]
    Scheme(String),
    /// Without a host or a port, or with more than these.
    #[error(
        "`{0}` is not HOST:PORT; write https://HOST:PORT#sha256=DIGEST, as the host's manager prints it"
    )]
    Place(String),
    /// Without the digest of the manager's certificate.
    #[error(
        "`{0}` does not end in #sha256= and 64 hexadecimal digits; copy the line that the host's manager prints"
    )]
    Pin(String),
    /// A token that no manager makes.
    #[error(
        "the token is empty, too long, or has characters that tokens never have; copy it exactly as the host's owner gave it"
    )]
    Token,
}

impl TargetError {
    /// The name of the error, stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Scheme(_) | Self::Place(_) => "target.form",
            Self::Pin(_) => "target.pin",
            Self::Token => "target.token",
        }
    }
}

impl Target {
    /// The host with this address, `https://HOST:PORT#sha256=DIGEST`, and this token for its manager. The digest is
    /// SHA-256 of the manager's certificate as DER, in 64 hexadecimal digits; IPv6 addresses are in brackets.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(url: &str, token: Zeroizing<String>) -> Result<Self, TargetError> {
        let shown = || printable(url, SHOWN);
        let rest = url
            .strip_prefix("https://")
            .ok_or_else(|| TargetError::Scheme(shown()))?;
        let (place, fragment) = rest
            .split_once('#')
            .ok_or_else(|| TargetError::Pin(shown()))?;
        let pin = fragment
            .strip_prefix("sha256=")
            .and_then(|digits| digits.parse::<enarx_attestation::hex::Hex<32>>().ok())
            .ok_or_else(|| TargetError::Pin(shown()))?;
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = split(place).ok_or_else(|| TargetError::Place(shown()))?;
        check_token(&token)?;
        Ok(Self {
            host,
            port,
            pin: Hex(pin.0),
            token,
        })
    }

    /// Its name in messages: `HOST:PORT`.
    #[must_use]
    pub fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Its address with the pin, as [`Self::parse`] takes it.
    pub(crate) fn url(&self) -> String {
        format!("{self:?}")
    }

    /// The host, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port of the manager.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// SHA-256 of the manager's certificate.
    pub(crate) fn pin(&self) -> Hex<32> {
        self.pin
    }

    /// The token that the manager is shown.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }
}

/// Checks that a text can be the token for a manager.
///
/// # Errors
/// [`TargetError::Token`].
pub fn check_token(token: &str) -> Result<(), TargetError> {
    let legal = |byte: u8| byte.is_ascii_graphic();
    if (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(legal) {
        return Ok(());
    }
    Err(TargetError::Token)
}

/// Host and port of `HOST:PORT`.
fn split(place: &str) -> Option<(String, u16)> {
    let (host, port) = place.rsplit_once(':')?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| digits && *port != 0)?;
    if let Some(rest) = host.strip_prefix('[') {
        let address: std::net::Ipv6Addr = rest.strip_suffix(']')?.parse().ok()?;
        return Some((address.to_string(), port));
    }
    let legal = (1..=MAX_HOST).contains(&host.len())
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    legal.then(|| (host.to_owned(), port))
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}#sha256={}", self.name(), self.pin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, TargetError> {
        Target::parse(url, Zeroizing::new("token".to_owned()))
    }

    #[test]
    fn the_line_of_a_manager_names_its_host() {
        let digits = "aB".repeat(32);
        for (place, name) in [
            ("host.example:7443", "host.example:7443"),
            ("192.0.2.1:1/", "192.0.2.1:1"),
            ("[2001:DB8::1]:65535", "[2001:db8::1]:65535"),
        ] {
            let target = parse(&format!("https://{place}#sha256={digits}")).expect(place);
            assert_eq!(target.name(), name);
            assert_eq!(target.pin(), Hex([0xab; 32]));
            assert!(!format!("{target:?}").contains("token"));
        }
    }

    #[test]
    fn another_text_is_an_error_that_says_why() {
        let digits = "ab".repeat(32);
        for (url, code) in [
            (format!("http://a:1#sha256={digits}"), "target.form"),
            (format!("a:1#sha256={digits}"), "target.form"),
            (format!("https://a#sha256={digits}"), "target.form"),
            (format!("https://a:0#sha256={digits}"), "target.form"),
            (format!("https://a:+1#sha256={digits}"), "target.form"),
            (format!("https://a:65536#sha256={digits}"), "target.form"),
            (format!("https://:1#sha256={digits}"), "target.form"),
            (format!("https://a b:1#sha256={digits}"), "target.form"),
            (format!("https://u@a:1#sha256={digits}"), "target.form"),
            (format!("https://a:1/v1#sha256={digits}"), "target.form"),
            (
                format!("https://2001:db8::1:1#sha256={digits}"),
                "target.form",
            ),
            (format!("https://[a]:1#sha256={digits}"), "target.form"),
            ("https://a:1".to_owned(), "target.pin"),
            (format!("https://a:1#{digits}"), "target.pin"),
            (
                format!("https://a:1#sha256={}", "ab".repeat(31)),
                "target.pin",
            ),
            (
                format!("https://a:1#sha256={}", "ag".repeat(32)),
                "target.pin",
            ),
        ] {
            assert_eq!(
                parse(&url).map_err(|error| error.code()).err(),
                Some(code),
                "{url}"
            );
        }
        let hostile = parse("\u{1b}[2J").expect_err("no URL").to_string();
        assert!(hostile.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        for token in ["", "a b", "a\r\nHost: b", "ä"] {
            let url = format!("https://a:1#sha256={digits}");
            let error = Target::parse(&url, Zeroizing::new(token.to_owned()));
            assert_eq!(error.err(), Some(TargetError::Token), "{token:?}");
        }
    }
}
