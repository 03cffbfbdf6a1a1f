// SPDX-License-Identifier: Apache-2.0

//! The forms of WebAssembly, distinguished by their first bytes.

/// Every WebAssembly binary starts with these bytes (core specification, 5.5.16).
const MAGIC: &[u8] = b"\0asm";
/// The version and layer of a core module.
const CORE: &[u8] = &[1, 0, 0, 0];
/// The layer of a component, after two bytes of version (component model, Binary.md).
const COMPONENT_LAYER: &[u8] = &[1, 0];

/// A form of WebAssembly.
pub enum Form {
    /// A core module.
    Core,
    /// A component.
    Component,
}

/// Returns the form of an application.
///
/// # Errors
/// When it is not WebAssembly, or of a version that is not known.
pub fn form(application: &[u8]) -> wasmtime::Result<Form> {
    let Some(version) = application.strip_prefix(MAGIC) else {
        wasmtime::bail!("not a WebAssembly file: it does not start with \\0asm");
    };
    if version.starts_with(CORE) {
        Ok(Form::Core)
    } else if version
        .get(2..)
        .is_some_and(|layer| layer.starts_with(COMPONENT_LAYER))
    {
        Ok(Form::Component)
    } else {
        wasmtime::bail!("not a WebAssembly file of a known version");
    }
}
