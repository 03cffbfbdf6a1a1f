// SPDX-License-Identifier: Apache-2.0

//! Names that a program has looked up. The host says which it may, and its answers are not trusted.

use std::net::IpAddr;

use enarx_sallyport::call::{RESOLVED_MAX, RESOLVED_SIZE};

use crate::error::{Errno, Result};
use crate::port::{Operation, Port};

/// Longest name that can be looked up, in bytes (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 253;

/// Memory that a look-up is counted as, in bytes: the name and the answer.
pub const LOOK_UP_MEMORY: usize = 2 * (RESOLVED_MAX * RESOLVED_SIZE) as usize;

/// True if no domain name has this character (URL Standard, "forbidden domain code point").
fn is_forbidden(character: char) -> bool {
    character.is_ascii_control() || " #%/:<>?@[\\]^|".contains(character)
}

/// The address, if the name is an address, which needs no look-up. An IPv6 address may be in brackets.
pub fn literal(name: &str) -> Option<IpAddr> {
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    literal.parse().ok()
}

/// Begins to look a name up.
///
/// # Errors
/// [`Errno::Invalid`] for an invalid name.
pub fn look_up(port: &Port, name: &str) -> Result<Operation> {
    if name.is_empty() || name.len() > NAME_MAX || name.contains(is_forbidden) {
        return Err(Errno::Invalid);
    }
    port.resolve(name)
}
