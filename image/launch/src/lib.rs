// SPDX-License-Identifier: Apache-2.0

//! The pages that a launch of a Keep loads, in their order: every launch executes this list, and every
//! measurement recomputes it. Pure: programs in, pages out.
#![forbid(unsafe_code)]

pub mod elf;
pub mod layout;
pub mod measured;
pub mod plain;
mod runtime;
mod tables;
pub mod variant;

pub use runtime::Runtime;
