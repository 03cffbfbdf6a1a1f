//! The untrusted virtual machine monitor: launches a Keep and serves its exits.
#![forbid(unsafe_code)]
