// SPDX-License-Identifier: Apache-2.0

//! The loader of a measured Keep.
//!
//! The secure processor measures the loader and its information page, not the runtime image: that
//! lies in memory shared with the host. The loader copies it into private memory, checks the
//! SHA-256 digest of the copy, and enters it. It runs at CPL3 and trusts the microkernel and its
//! own measured pages.
#![no_std]
#![forbid(unsafe_code)]

pub mod load;
