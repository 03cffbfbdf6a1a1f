//! The drivers of the property tests, for fuzz targets.

#![forbid(unsafe_code)]

#[path = "../../tests/protocol/drivers/mod.rs"]
pub mod drivers;
