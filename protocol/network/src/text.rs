// SPDX-License-Identifier: Apache-2.0

//! The parts of rules, read from text: networks, names, ports.

use alloc::string::ToString;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use crate::address::disguised;
use crate::error::RuleError;
use crate::name::{HostName, NameRule};
use crate::network::Network;
use crate::ports::{Ports, Protocol};

/// A number in decimal digits, without sign and leading zeros: others read those as octal.
fn number(text: &str) -> Option<u32> {
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

/// Takes `:PORTS` from the end. More colons mean an IPv6 address, which is in brackets before ports.
///
/// # Errors
/// [`RuleError::Brackets`] and [`RuleError::Ports`].
///
/// `None` if brackets do not match, or contain anything but an IPv6 address.
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
        _ => match unbracketed(text) {
            Some((address, port)) => Err(RuleError::Brackets(address, port)),
            None => Ok(Some((text, None))),
        },
    }
}

/// The address and port that are meant by an IPv6 address which would be IPv4 in disguise if its last part
/// were not a port.
fn unbracketed(text: &str) -> Option<(Ipv6Addr, u16)> {
    let is_disguised = |address: Ipv6Addr| disguised(&Network::one(address.into())).is_some();
    let whole: Ipv6Addr = text.parse().ok()?;
    let (address, port) = text.rsplit_once(':')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let port = number(port).and_then(|port| u16::try_from(port).ok())?;
    (port > 0 && is_disguised(whole) && !is_disguised(address)).then_some((address, port))
}

impl FromStr for Network {
    type Err = RuleError;

    /// Reads `ADDRESS` or `ADDRESS/BITS`.
    ///
    /// # Errors
    /// [`RuleError::Connect`] for what is neither; [`RuleError::Zone`], [`RuleError::Beyond`], [`RuleError::Disguised`].
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        if address.contains('%') {
            return Err(RuleError::Zone);
        }
        let address: IpAddr = address.parse().map_err(|_| RuleError::Connect)?;
        let network = match prefix {
            None => Self::one(address),
            Some(prefix) => {
                let prefix = number(prefix).and_then(|prefix| u8::try_from(prefix).ok());
                let whole = prefix.and_then(|prefix| Self::around(address, prefix));
                whole.ok_or(RuleError::Connect)?
            }
        };
        if network.address() != address {
            return Err(RuleError::Beyond(text.to_string(), network));
        }
        match disguised(&network) {
            Some(v4) => Err(RuleError::Disguised(v4)),
            None => Ok(network),
        }
    }
}

impl FromStr for Ports {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text| {
            let number = number(text).and_then(|number| u16::try_from(number).ok());
            number.ok_or(RuleError::Ports)
        };
        Self::between(port(first)?, port(last)?).ok_or(RuleError::Ports)
    }
}

impl FromStr for HostName {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        Self::new(text).ok_or(RuleError::Name)
    }
}

impl FromStr for NameRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(parent) => (parent, true),
            None => (text, false),
        };
        Ok(Self::new(name.parse()?, below))
    }
}
