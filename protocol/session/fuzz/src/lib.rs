// SPDX-License-Identifier: Apache-2.0

//! The drivers of the property tests, for fuzz targets.

#![forbid(unsafe_code)]

#[path = "../../tests/session/drivers.rs"]
pub mod drivers;
#[path = "../../tests/session/fixture.rs"]
mod fixture;
