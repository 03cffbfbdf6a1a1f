// SPDX-License-Identifier: Apache-2.0

//! Why nothing was measured.

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be started or built.
    #[error("{what}: {source}")]
    System {
        /// The step that was tried.
        what: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Building what is measured failed; cargo has said why.
    #[error("cargo could not build {0}: see its message above")]
    Build(&'static str),
    /// The measured command did not end well.
    #[error("`{command}` ended with {code}: {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code.
        code: String,
        /// Its standard error.
        stderr: String,
    },
    /// The measured command printed what it must not, so its time means nothing.
    #[error("{0}")]
    Wrong(String),
}

impl Error {
    /// For `map_err`: the system's answer to what was tried.
    pub fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}
