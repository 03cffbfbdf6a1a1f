// SPDX-License-Identifier: Apache-2.0

//! Why a process that serves a Keep could not be made.

use std::io;

use enarx_confine::process::remedy;

/// Why this program could not become two.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// The program's number of threads cannot be determined.
    #[error(
        "{0}: mount /proc (`mount -t proc proc /proc`), where the threads of this program are counted"
    )]
    Proc(io::Error),
    /// A child of several threads could hang in a lock that none of its own threads holds.
    #[error("this program has several threads")]
    Threads,
    /// The system makes no further process.
    #[error("{0}{remedy}", remedy = remedy(.0))]
    System(#[from] io::Error),
}

impl From<rustix::io::Errno> for ForkError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::System(errno.into())
    }
}

impl From<ForkError> for io::Error {
    fn from(error: ForkError) -> Self {
        match error {
            ForkError::System(error) if remedy(&error).is_empty() => error,
            error => Self::other(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_processes_is_named_with_its_remedy() {
        let full = ForkError::from(rustix::io::Errno::AGAIN);
        assert!(full.to_string().contains("`ulimit -u`"), "{full}");
        let text = io::Error::from(full).to_string();
        assert!(text.contains("`ulimit -u`"), "{text}");
        let other = ForkError::from(rustix::io::Errno::NOMEM);
        assert!(!other.to_string().contains("limit"), "{other}");
        assert_eq!(io::Error::from(other).kind(), io::ErrorKind::OutOfMemory);
    }
}
