//! Attestation evidence in, verdict with reasons out.
#![forbid(unsafe_code)]
