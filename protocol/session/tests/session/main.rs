// SPDX-License-Identifier: Apache-2.0

//! Tests of the session from outside: whole runs, hostile peers, random peers, the bytes of this version, and SPEC.md.
//! Drivers and fixture are shared with the fuzz targets (testing/session-drivers).

mod hostile;
mod model;
mod pair;
mod properties;
mod runs;
mod spec;
mod vectors;
