//! The measured image of a Keep: microkernel and runtime, built reproducibly.
#![forbid(unsafe_code)]
