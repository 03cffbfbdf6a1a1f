// SPDX-License-Identifier: Apache-2.0

//! Parts of the text of rules.

use crate::{Ports, Protocol, RuleError};

/// A number in decimal digits, without sign and leading zeros: others read those as octal.
pub(crate) fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading = text.len() > 1 && text.starts_with('0');
    (plain && !leading).then(|| text.parse().ok()).flatten()
}

/// Takes `/tcp` or `/udp` from the end.
pub(crate) fn split_protocol(text: &str) -> (&str, Option<Protocol>) {
    if let Some(rest) = text.strip_suffix("/tcp") {
        return (rest, Some(Protocol::Tcp));
    }
    if let Some(rest) = text.strip_suffix("/udp") {
        return (rest, Some(Protocol::Udp));
    }
    (text, None)
}

/// Takes `:PORTS` from the end. More colons are an address of IPv6, which stands in brackets before ports.
///
/// `None` when brackets do not match, or have something else than IPv6 in them.
pub(crate) fn split_ports(text: &str) -> Result<Option<(&str, Option<Ports>)>, RuleError> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((place, rest)) = rest.split_once(']') else {
            return Ok(None);
        };
        if !place.contains(':') {
            return Ok(None);
        }
        return match (rest, rest.strip_prefix(':')) {
            ("", _) => Ok(Some((place, None))),
            (_, Some(ports)) => Ok(Some((place, Some(ports.parse()?)))),
            _ => Ok(None),
        };
    }
    match text.split_once(':') {
        Some((place, ports)) if !ports.contains(':') => Ok(Some((place, Some(ports.parse()?)))),
        _ => Ok(Some((text, None))),
    }
}
