// SPDX-License-Identifier: Apache-2.0

//! The resource of `wasi:cli/terminal-input` and `wasi:cli/terminal-output`.

/// A standard stream that is a terminal on the host.
pub struct Terminal;
