// SPDX-License-Identifier: Apache-2.0

//! Calling an exported function with arguments from the command line.

use std::fmt::Write as _;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{self, Component, ComponentExportIndex, Type};
use wasmtime::error::Context as _;
use wasmtime::{AsContext, AsContextMut, Engine, Func, Val, ValType};

use crate::wants;

/// A number in decimal or, after `0x`, in hexadecimal notation.
macro_rules! integer {
    ($text:expr, $type:ty) => {{
        let text = $text;
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => <$type>::from_str_radix(digits, 16),
            None => text.parse::<$type>(),
        }
    }};
}

fn value(text: &str, wanted: &ValType) -> wasmtime::Result<Val> {
    let wrong = |reason: &dyn std::fmt::Display| {
        wasmtime::format_err!("argument `{text}` is not of type {wanted}: {reason}")
    };
    Ok(match wanted {
        ValType::I32 => Val::I32(integer!(text, i32).map_err(|error| wrong(&error))?),
        ValType::I64 => Val::I64(integer!(text, i64).map_err(|error| wrong(&error))?),
        ValType::F32 => Val::F32(
            text.parse::<f32>()
                .map_err(|error| wrong(&error))?
                .to_bits(),
        ),
        ValType::F64 => Val::F64(
            text.parse::<f64>()
                .map_err(|error| wrong(&error))?
                .to_bits(),
        ),
        other => wasmtime::bail!("unsupported argument type {other}"),
    })
}

/// Refuses fewer arguments than the function takes. More are no error, as in `wasmtime run`: a function can read them by WASI.
fn enough(name: &str, arguments: &[String], wanted: usize) -> wasmtime::Result<()> {
    if arguments.len() < wanted {
        wasmtime::bail!(
            "not enough arguments for `{name}`: it takes {wanted}, {} given",
            arguments.len()
        );
    }
    Ok(())
}

/// Finds a function that a component exports: by its name alone, or as `INTERFACE#FUNCTION` when an exported
/// interface has it. An interface is named with its version or without; the name alone does when one
/// interface only has such a function.
///
/// # Errors
/// When there is no such function, or more than one.
pub fn exported(
    engine: &Engine,
    component: &Component,
    name: &str,
) -> wasmtime::Result<ComponentExportIndex> {
    let (interface, function) = match name.split_once('#') {
        Some((interface, function)) => (Some(interface), function),
        None => (None, name),
    };
    let component_type = component.component_type();
    let none = || {
        let functions = wants::functions_of(engine, component);
        wants::no_function(
            name,
            &functions.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    };
    let mut found = Vec::new();
    for (export, item) in component_type.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) if interface.is_none() && export == function => {
                let index = component.get_export_index(None, export);
                return index.with_context(none);
            }
            ComponentItem::ComponentInstance(instance) => {
                let unversioned = export.split_once('@').map_or(export, |(name, _)| name);
                let meant =
                    interface.is_none_or(|wanted| wanted == export || wanted == unversioned);
                let has = |(export, item): (&str, component::types::ComponentExtern<'_>)| {
                    export == function && matches!(item.ty, ComponentItem::ComponentFunc(_))
                };
                if meant && instance.exports(engine).any(has) {
                    found.push(export);
                }
            }
            _ => {}
        }
    }
    match *found {
        [interface] => {
            let instance = component.get_export_index(None, interface);
            let index = component.get_export_index(instance.as_ref(), function);
            index.with_context(none)
        }
        [] => wasmtime::bail!("{}", none()),
        _ => {
            let names: Vec<String> = found
                .iter()
                .map(|interface| format!("`{interface}#{function}`"))
                .collect();
            wasmtime::bail!(
                "several interfaces export `{name}`; name one of {}",
                names.join(", ")
            )
        }
    }
}

/// The parameters of a component's function: `arguments` in WebAssembly Value Encoding (strings also without quotes).
///
/// # Errors
/// When the arguments do not fit the function.
pub fn parameters(
    store: impl AsContext,
    function: component::Func,
    name: &str,
    arguments: &[String],
) -> wasmtime::Result<Vec<component::Val>> {
    let signature = function.ty(&store);
    enough(name, arguments, signature.params().len())?;
    arguments
        .iter()
        .zip(signature.params())
        .map(|(text, (_, wanted))| match wanted {
            Type::String if !text.starts_with('"') => Ok(component::Val::String(text.clone())),
            wanted => component::Val::from_wave(&wanted, text)
                .map_err(|error| wasmtime::format_err!("argument `{text}` does not fit: {error}")),
        })
        .collect()
}

/// Room for the results of a component's function.
pub fn room(store: impl AsContext, function: component::Func) -> Vec<component::Val> {
    let results = function.ty(&store).results().len();
    vec![component::Val::Bool(false); results]
}

/// The results of a component's function in that encoding, one a line.
///
/// # Errors
/// When a result cannot be written.
pub fn told(results: &[component::Val]) -> wasmtime::Result<String> {
    let mut text = String::new();
    for result in results {
        text.push_str(&result.to_wave()?);
        text.push('\n');
    }
    Ok(text)
}

/// Calls `function` with `arguments`; returns its results, one a line.
///
/// # Errors
/// When the arguments do not fit the function, or when it fails.
pub fn core(
    mut store: impl AsContextMut,
    function: Func,
    name: &str,
    arguments: &[String],
) -> wasmtime::Result<String> {
    let signature = function.ty(&store);
    let wanted = signature.params().len();
    enough(name, arguments, wanted)?;
    let parameters = arguments
        .iter()
        .zip(signature.params())
        .map(|(text, wanted)| value(text, &wanted))
        .collect::<wasmtime::Result<Vec<_>>>()?;
    let mut results = vec![Val::null_func_ref(); signature.results().len()];
    function.call(&mut store, &parameters, &mut results)?;
    let mut text = String::new();
    for result in results {
        // Writing to a string does not fail.
        let _ = match result {
            Val::I32(value) => writeln!(text, "{value}"),
            Val::I64(value) => writeln!(text, "{value}"),
            Val::F32(bits) => writeln!(text, "{}", f32::from_bits(bits)),
            Val::F64(bits) => writeln!(text, "{}", f64::from_bits(bits)),
            Val::V128(value) => writeln!(text, "{}", value.as_u128()),
            Val::ExternRef(None) => writeln!(text, "<null externref>"),
            Val::ExternRef(Some(_)) => writeln!(text, "<externref>"),
            Val::FuncRef(None) => writeln!(text, "<null funcref>"),
            Val::FuncRef(Some(_)) => writeln!(text, "<funcref>"),
            Val::AnyRef(None) => writeln!(text, "<null anyref>"),
            Val::AnyRef(Some(_)) => writeln!(text, "<anyref>"),
            _ => writeln!(text, "<reference>"),
        };
    }
    Ok(text)
}
