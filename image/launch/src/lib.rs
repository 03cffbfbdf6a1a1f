// SPDX-License-Identifier: Apache-2.0

//! What a launch of a Keep loads, and in which order: every launch executes this list, and every
//! measurement recomputes it. Pure: programs in, pages out.
#![forbid(unsafe_code)]

pub mod elf;
pub mod layout;
pub mod measured;
pub mod plain;
mod tables;
