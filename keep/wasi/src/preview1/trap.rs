// SPDX-License-Identifier: Apache-2.0

//! The calls that end a preview 1 program, because the interface has no error number for them.
//! Pointers and numbers come from the guest.

/// Exit codes from here on are the engine's own (traps, signals).
pub const EXIT_CODES: u32 = 126;

/// Why a call ended the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallTrap {
    /// A pointer to bytes that are not all in the memory.
    #[error("a pointer passed to WASI is out of bounds: {length} bytes at {pointer:#x}")]
    OutOfBounds {
        /// Address in the memory of the guest.
        pointer: u32,
        /// Bytes.
        length: u32,
    },
    /// A pointer to a value that would not be aligned.
    #[error("a pointer passed to WASI is not aligned to {alignment} bytes: {pointer:#x}")]
    Misaligned {
        /// Address in the memory of the guest.
        pointer: u32,
        /// Bytes that the address must be a multiple of.
        alignment: u32,
    },
    /// An exit code that is not below [`EXIT_CODES`]. The text is Wasmtime's.
    #[error("exit with invalid exit status outside of [0..{EXIT_CODES})")]
    ExitCode,
    /// The memory of the program is shared.
    #[error("WASI preview 1 does not work on a shared memory")]
    SharedMemory,
    /// The program shows no memory.
    #[error("the module does not export its memory as `memory`")]
    NoMemory,
}
