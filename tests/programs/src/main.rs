// SPDX-License-Identifier: Apache-2.0

//! Tools that the test programs need besides a C compiler:
//!
//! * `componentize MODULE COMPONENT` makes a component of WASI 0.2 from a module of WASI preview 1.
//! * `bindings WORLD FOLDER WIT…` writes C bindings of a world of the WIT in these folders; later ones refer to
//!   earlier ones. Every import reports its first call with `void called(const char *interface, const char *function)`.
//!   Asynchronous functions are called and exported like others: the caller waits. The exception is `wasi:http` 0.3, where a
//!   body continues beside the call.
//! * `encode MODULE COMPONENT` makes a component from a module with such bindings, which needs no adapter.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_bindgen_core::{AsyncFilterSet, Files};
use wit_component::ComponentEncoder;
use wit_parser::Resolve;

const USAGE: &str =
    "usage: componentize MODULE COMPONENT | bindings WORLD FOLDER WIT… | encode MODULE COMPONENT";

/// Functions that continue while their caller runs.
const CONCURRENT: [&str; 2] = [
    "import:wasi:http/client@0.3.0#send",
    "export:wasi:http/handler@0.3.0#handle",
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["componentize", module, component] => {
            let encoder = encoder(module)?.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
            )?;
            encode(encoder, component)
        }
        ["encode", module, component] => encode(encoder(module)?, component),
        ["bindings", world, folder, ref wit @ ..] => bindings(world, folder.as_ref(), wit),
        _ => Err(USAGE.into()),
    }
}

fn encoder(module: &str) -> Result<ComponentEncoder> {
    let encoder = ComponentEncoder::default();
    Ok(encoder.module(&std::fs::read(module)?)?.validate(true))
}

fn encode(mut encoder: ComponentEncoder, component: &str) -> Result<()> {
    std::fs::write(component, encoder.encode()?)?;
    Ok(())
}

fn bindings(world: &str, folder: &Path, wit: &[&str]) -> Result<()> {
    let mut resolve = Resolve::default();
    let mut packages = Vec::new();
    for folder in wit {
        packages.push(resolve.push_dir(folder)?.0);
    }
    let world = resolve.select_world(&packages, Some(world))?;
    let mut files = Files::default();
    let mut asynchronous = AsyncFilterSet::default();
    for function in CONCURRENT.into_iter().chain(["-all"]) {
        asynchronous.push(function);
    }
    let options = wit_bindgen_c::Opts {
        async_: asynchronous,
        ..wit_bindgen_c::Opts::default()
    };
    options.build().generate(&mut resolve, world, &mut files)?;
    for (name, bytes) in files.iter() {
        let bytes = match name {
            source if source.ends_with(".c") => recorded(std::str::from_utf8(bytes)?)?.into_bytes(),
            _ => bytes.to_vec(),
        };
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

/// Adds a wrapper after the declaration of each import, which records the call.
fn recorded(source: &str) -> Result<String> {
    let mut output = String::from(
        "void called(const char *interface, const char *function);\n#include <stdbool.h>\n",
    );
    let mut import = None;
    for line in source.lines() {
        output += line;
        output += "\n";
        if let Some(names) = line.strip_prefix("__attribute__((__import_module__(\"") {
            import = Some(
                names
                    .strip_suffix("\")))")
                    .and_then(|names| names.split_once("\"), __import_name__(\"")),
            );
        } else if let Some(names) = import.take() {
            let (module, function) =
                names.ok_or_else(|| format!("not the names of an import: {line}"))?;
            let function = function.strip_prefix("[async-lower]").unwrap_or(function);
            if !is_built_in(function) {
                output += &wrapper(module, function, line)
                    .ok_or_else(|| format!("not the declaration of an import: {line}"))?;
            }
        }
    }
    Ok(output)
}

/// True for a function of the component model, like those of streams and futures, which belongs to no interface.
fn is_built_in(function: &str) -> bool {
    const RESOURCE_PREFIXES: [&str; 4] = ["[method]", "[static]", "[constructor]", "[resource-drop]"];
    function.starts_with('[') && !RESOURCE_PREFIXES.iter().any(|it| function.starts_with(it))
}

/// The name of an interface as in the coverage table: with its version from 0.3 on.
fn named(module: &str) -> &str {
    match module.split_once('@') {
        Some((name, version)) if version.starts_with("0.2.") => name,
        _ => module,
    }
}

/// The wrapper of the import that `declaration` declares: `extern TYPE NAME(TYPE, …);`.
fn wrapper(module: &str, function: &str, declaration: &str) -> Option<String> {
    let interface = named(module);
    let (head, parameters) = declaration.strip_prefix("extern ")?.split_once('(')?;
    let (result, name) = head.rsplit_once([' ', '*'])?;
    let types: Vec<&str> = match parameters.strip_suffix(");")? {
        "void" => Vec::new(),
        some => some
            .split(", ")
            .map(|one| one.trim_end_matches(" handle"))
            .collect(),
    };
    let named: Vec<String> = (0..)
        .zip(&types)
        .map(|(i, one)| format!("{one} a{i}"))
        .collect();
    let parameters = if named.is_empty() {
        "void".to_owned()
    } else {
        named.join(", ")
    };
    let passed: Vec<String> = (0..types.len()).map(|i| format!("a{i}")).collect();
    let passed = passed.join(", ");
    Some(format!(
        "static inline {result} recorded{name}({parameters}) {{\n  \
           static bool before;\n  \
           if (!before) {{\n    before = true;\n    called(\"{interface}\", \"{function}\");\n  }}\n  \
           return {name}({passed});\n}}\n#define {name} recorded{name}\n"
    ))
}
