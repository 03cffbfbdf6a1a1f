// SPDX-License-Identifier: Apache-2.0

//! Identifiers of simulated chips. They are a hint for people and prove nothing, because a host
//! writes what it likes: only the root of its certificates says that a machine is simulated.

/// Begins the identifiers of simulated chips whose length leaves room for it.
pub const CHIP_PREFIX: &[u8] = b"SIMULATED";
/// Begins those of eight bytes (Turin).
pub const SHORT_CHIP_PREFIX: &[u8] = b"SIM";

/// True if a CHIP_ID is that of a simulated chip.
pub fn is_simulated(chip_id: &[u8; 64]) -> bool {
    let is_short = chip_id.iter().skip(8).all(|byte| *byte == 0);
    let prefix = if is_short {
        SHORT_CHIP_PREFIX
    } else {
        CHIP_PREFIX
    };
    chip_id.starts_with(prefix)
}
