//! The exit codes of a Keep, in one place.
//!
//! | code | meaning |
//! |---|---|
//! | 0 to 125 | the application's own |
//! | 1 | also: the application could not be run; standard error says why |
//! | 70 | the Keep ended by a fault that is not the application's |
//! | 134 | the application trapped |

/// The application could not be run: not WebAssembly, a missing import, a wrong signature.
pub const FAILURE: i32 = 1;
/// The Keep ended by a fault that is not the application's (`EX_SOFTWARE` of sysexits.h).
pub const FAULT: i32 = 70;
/// The application trapped: 128 + SIGABRT, as `wasmtime run` has it.
pub const TRAP: i32 = 134;
