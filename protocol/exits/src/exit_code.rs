// SPDX-License-Identifier: Apache-2.0

//! The exit codes of a Keep and of `enarx run`, in one place.
//!
//! | code | meaning |
//! |---|---|
//! | 0 to 125 | the application's own |
//! | 1 | also: the application could not be run; standard error says why |
//! | 70 | the Keep ended by a fault that is not the application's |
//! | 74 | standard output could not be written to its end, and the application does not know |
//! | 124 | the time limit was reached |
//! | 134 | the application trapped |

/// The application could not be run: not WebAssembly, a missing import, a wrong signature.
pub const FAILURE: u8 = 1;
/// The command line is wrong, as command-line tools have it.
pub const USAGE: u8 = 2;
/// The Keep ended by a fault that is not the application's (`EX_SOFTWARE` of sysexits.h).
pub const FAULT: u8 = 70;
/// Standard output, or what a compiler writes to it, could not be written (`EX_IOERR` of sysexits.h).
pub const UNWRITTEN: u8 = 74;
/// The time limit was reached (as in timeout(1)).
pub const TIMED_OUT: u8 = 124;
/// The application trapped: 128 + SIGABRT, as in `wasmtime run`.
pub const TRAP: u8 = 134;
