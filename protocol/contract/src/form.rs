// SPDX-License-Identifier: Apache-2.0

//! The form of a contract: its version, its bounds, and the digest that names it.

use crate::canonical::Hex;

/// Version of the contract.
pub const VERSION: u32 = 1;

/// Largest encoded contract, in bytes.
pub const MAX_ENCODED: usize = 64 << 10;

/// SHA-256 of a contract's bytes: HOST_DATA of its Keep, and the key under which a manager finds it again.
pub type ContractDigest = Hex<32>;
