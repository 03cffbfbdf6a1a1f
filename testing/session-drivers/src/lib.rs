// SPDX-License-Identifier: Apache-2.0

//! Code shared by the tests and fuzz targets of the attested session: [`fixture`] has keys, contracts, reports and a
//! verifier, [`drivers`] play any peer from a script of bytes.

#![forbid(unsafe_code)]

pub mod drivers;
pub mod fixture;
