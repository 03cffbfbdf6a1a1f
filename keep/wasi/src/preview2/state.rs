// SPDX-License-Identifier: Apache-2.0

//! The state of a component, which the interfaces share. Trusted code.

use wasmtime::component::ResourceTable;

use crate::clock::Clocks;
use crate::context::Context;

/// The state of a component, which may use 0.3 as well.
pub struct Preview2 {
    pub(super) context: Context,
    pub(super) table: ResourceTable,
}

impl Preview2 {
    /// A component that is given `context`.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            table: ResourceTable::new(),
        }
    }

    /// Everything that the component is given.
    pub(crate) fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    /// The clocks of the component.
    pub fn clocks(&self) -> &Clocks {
        &self.context.clocks
    }

    /// The resources of the component.
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}
