//! The WebAssembly engine of a Keep: configuration, compilation, instantiation, limits.
#![forbid(unsafe_code)]
