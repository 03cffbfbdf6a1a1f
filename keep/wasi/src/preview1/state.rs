// SPDX-License-Identifier: Apache-2.0

//! The state of a program on preview 1, which the functions share. Trusted code.

use super::closing::Closing;
use super::table::Table;
use crate::context::Context;

/// The state of a preview 1 program.
pub struct Preview1 {
    pub(crate) context: Context,
    pub(super) table: Table,
    pub(super) closing: Closing,
}

impl Preview1 {
    /// A program with its standard streams and preopened directories.
    pub fn new(context: Context) -> Self {
        Self {
            table: Table::new(&context),
            closing: Closing::default(),
            context,
        }
    }
}
