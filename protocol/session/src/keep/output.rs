// SPDX-License-Identifier: Apache-2.0

//! The outputs of an application, as both ends name them.

/// An output of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
