//! The WASI of a Keep: one heart, two faces (preview 1 and 0.2).
#![forbid(unsafe_code)]
