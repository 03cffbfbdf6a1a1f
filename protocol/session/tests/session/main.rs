// SPDX-License-Identifier: Apache-2.0

//! Tests of the session from outside: whole runs, hostile peers, any peer at all, the bytes of this version, and SPEC.md.
//! The drivers are shared with the fuzz targets.

mod drivers;
mod fixture;
mod hostile;
mod pair;
mod properties;
mod runs;
mod spec;
mod vectors;
