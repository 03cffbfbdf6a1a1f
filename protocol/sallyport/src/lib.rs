//! The border between a Keep and its host: typed rings in shared memory.
#![forbid(unsafe_code)]
