// SPDX-License-Identifier: Apache-2.0

//! The share of HTTP in the state of a store.

use enarx_wasi::View as WasiView;
use enarx_wasi::budget::Allowance;
use enarx_wasi::preview2::Preview2;
use wasmtime::component::{HasData, ResourceTable};

use crate::client::ServerAccess;

/// The share of HTTP that a component of a store is given.
pub struct Http<'a> {
    /// Its resources.
    pub table: &'a mut ResourceTable,
    /// The way to other servers, if there is one.
    pub way: Option<&'a ServerAccess>,
    /// The memory for the objects that it has created and holds: headers, bodies, names.
    pub held: &'a Allowance,
}

/// The state of a store whose component is given HTTP.
pub trait View: WasiView<Preview2> {
    /// The part of it that HTTP needs.
    fn http(&mut self) -> Http<'_>;
}

/// The data of the interfaces.
pub struct Data;

impl HasData for Data {
    type Data<'a> = Http<'a>;
}
