//! Native Wasmtime, the yardstick for a Keep.
#![forbid(unsafe_code)]
fn main() {}
