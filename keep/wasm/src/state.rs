// SPDX-License-Identifier: Apache-2.0

//! The state of a store.

use enarx_http::ServerAccess;
use enarx_wasi::View;

use crate::limits::Limits;

/// A front end of WASI, and limits. Commands and servers have the same, so that the runtime has the
/// code that links them once.
pub struct State<S> {
    /// The front end.
    pub wasi: S,
    /// The limits.
    pub limits: Limits,
    /// The way to other servers.
    pub way: Option<ServerAccess>,
}

impl<S: Send + 'static> View<S> for State<S> {
    fn wasi(&mut self) -> &mut S {
        &mut self.wasi
    }
}
