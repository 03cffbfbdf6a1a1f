// SPDX-License-Identifier: Apache-2.0

//! The microkernel of a Keep: it protects the application and its runtime from the host.
//!
//! It runs at CPL0 inside the TEE, is measured, and trusts only the CPU. It offers the one user
//! process (the runtime) memory, threads, time, randomness, signals for verified traps, and the
//! doorbell of the sallyport; nothing else. This library is the whole logic, free of `unsafe`
//! and tested on an ordinary machine against a fake [`platform::Platform`]; the binary
//! (`main.rs`) contains the instructions.
#![no_std]
#![forbid(unsafe_code)]
// The host decides over the input of this code: it refuses, and does not panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]
#![expect(
    clippy::inline_always,
    reason = "on hosts that emulate CPL0 every instruction of a call costs"
)]

pub mod address_space;
pub mod cause;
pub mod clock;
pub mod epoch;
pub mod fatal;
pub mod frame;
pub mod frames;
pub mod kernel;
pub mod kind;
pub mod launch;
pub mod linux;
pub mod paging;
pub mod platform;
pub mod random;
pub mod registers;
pub mod signal;
pub mod snp;
pub mod syscall;
pub mod table;
pub mod tee;
pub mod threads;
