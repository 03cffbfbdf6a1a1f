// SPDX-License-Identifier: Apache-2.0

//! Random bytes of the tenant's system, which is trusted.

use crate::fault::Fault;

/// Random bytes of the system.
///
/// # Errors
/// [`Fault::Random`].
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Fault::Random)?;
    Ok(bytes)
}
