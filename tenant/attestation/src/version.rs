// SPDX-License-Identifier: Apache-2.0

//! Versions written as numbers divided by dots.

/// Exactly `N` numbers, each 0 to 255; `None` for any other text.
pub(crate) fn version<const N: usize>(text: &str) -> Option<[u8; N]> {
    let parts: Vec<u8> = text
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}
