// SPDX-License-Identifier: Apache-2.0

//! Confines the threads that serve a Keep: should a Keep take one over, it gains little.
//!
//! Everything here is for the calling thread, and for threads that it starts afterwards, so that a
//! program that uses this crate as a library stays as it is.

#[cfg(any(test, feature = "interpreter"))]
pub mod bpf;
pub mod landlock;
pub mod process;
pub mod report;
pub mod seccomp;

/// Why a thread could not be confined.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The filter of system calls was not accepted.
    #[error(
        "the filter of system calls could not be set: {0}; Linux needs seccomp, see `enarx doctor`"
    )]
    Seccomp(#[from] seccompiler::BackendError),
    /// A filter would compare half of an argument that counts as a whole: a defect.
    #[error(
        "the filter of system calls compares half of argument {index} of call {call}; please report this"
    )]
    Narrow {
        /// Number of the system call.
        call: i64,
        /// The argument's index, from 0.
        index: u8,
    },
    /// A filter would allow a call on conditions and without any: a defect.
    #[error(
        "the filter of system calls has conditions for call {call} that are void; please report this"
    )]
    Void {
        /// Number of the system call.
        call: i64,
    },
    /// The kernel refused the filter.
    #[error(
        "the filter of system calls could not be set: {0}; Linux needs seccomp, see `enarx doctor`"
    )]
    Install(#[from] seccompiler::Error),
    /// The rules for files were not accepted.
    #[error("the Landlock rules could not be set: {0}; see `enarx doctor`")]
    Landlock(#[from] ::landlock::RulesetError),
    /// Privileges could not be given up.
    #[error("the privileges of the process that serves the Keep could not be given up: {0}")]
    Privileges(#[source] std::io::Error),
    /// A granted directory cannot be duplicated.
    #[error("a granted directory cannot be used: {0}")]
    Directory(#[source] std::io::Error),
}
