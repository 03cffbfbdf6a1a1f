// SPDX-License-Identifier: Apache-2.0

//! `--json`, the same for every command that has it.

use clap::Args;

/// The form of the result.
#[derive(Args, Clone, Copy, Debug)]
pub struct Json {
    /// Print JSON; an error is an object with the members error, code and exit_code
    #[arg(long = "json", env = "ENARX_JSON")]
    pub on: bool,
}
