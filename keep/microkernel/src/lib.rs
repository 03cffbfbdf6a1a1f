//! The microkernel of a Keep: memory, threads, exceptions, TEE instructions.
#![forbid(unsafe_code)]
