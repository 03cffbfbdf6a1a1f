// SPDX-License-Identifier: Apache-2.0

//! Linking of the interfaces that a component imports: those of HTTP, of both versions, and those of `enarx_wasi`.

use enarx_wasi::preview2;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::bindings::LinkOptions;
use crate::bindings::http::{outgoing_handler, types};
use crate::preview3;
use crate::view::{Data, View};

/// True if a component imports something of HTTP, of any version.
pub fn is_imported(engine: &Engine, component: &Component) -> bool {
    let component_type = component.component_type();
    let mut imports = component_type.imports(engine);
    imports.any(|(interface, _)| interface.starts_with("wasi:http/"))
}

/// Links the interfaces that a component imports, those of HTTP among them, and no others.
///
/// # Errors
/// When the linker has one of them already.
pub fn add_to_linker<T: View>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<()> {
    preview2::add_to_linker_async(linker, component)?;
    for interface in preview2::imports(linker.engine(), component) {
        match &*interface {
            "wasi:http/types" => {
                let options = LinkOptions::default();
                types::add_to_linker::<T, Data>(linker, &(&options).into(), T::http)?;
            }
            "wasi:http/outgoing-handler" => {
                outgoing_handler::add_to_linker::<T, Data>(linker, T::http)?;
            }
            _ => {}
        }
    }
    preview3::add_to_linker(linker, component)
}
