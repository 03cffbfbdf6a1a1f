//! The `enarx` command: arguments in, one call, result out.
#![forbid(unsafe_code)]

fn main() {}
