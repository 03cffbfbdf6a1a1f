// SPDX-License-Identifier: Apache-2.0

//! Drivers that turn bytes into behaviour, for property tests and fuzz targets.

pub mod directory;
pub mod hostile_host;
pub mod hostile_keep;
pub mod region;
pub mod request;
pub mod script;
