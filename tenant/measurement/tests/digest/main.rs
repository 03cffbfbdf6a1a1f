//! The launch digest against three others: virtee's crate `sev`, the package `sev-snp-measure`, and a recomputation of
//! AMD's definition in Python.

mod definition;
mod firmware;
mod others;
