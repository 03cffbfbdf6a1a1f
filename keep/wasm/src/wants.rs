// SPDX-License-Identifier: Apache-2.0

//! Requirements of a program that no Keep meets, to explain the engine's error: the engine names an import,
//! and this says what it means and how to continue. The program comes from the guest, and its names are
//! shown unchanged.

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use wasmtime::{Engine, Error, ExternType, Module};

use enarx_wasi::{preview1, preview2, preview3};

/// Packages whose interfaces components are offered.
const PACKAGES: [&str; 7] = [
    "wasi:cli",
    "wasi:clocks",
    "wasi:filesystem",
    "wasi:http",
    "wasi:io",
    "wasi:random",
    "wasi:sockets",
];
/// Interfaces of 0.2 that are offered to components in addition to those of [`preview2`].
const HTTP: [&str; 2] = ["wasi:http/types", "wasi:http/outgoing-handler"];
/// The interface by which a command is started.
const RUN: &str = "wasi:cli/run";
/// Names that a list shows; the others are counted.
const SHOWN: usize = 8;

/// An error with the program's requirement, if that is the reason.
pub fn explained(error: Error, wants: Option<String>) -> Error {
    match wants {
        Some(wants) => error.context(wants),
        None => error,
    }
}

/// The want of a module that could not be instantiated because of a memory of its own.
pub fn of_memory(error: &Error) -> Option<String> {
    // The engine has no kind for it, and a module does not tell of memories that it does not export.
    let shared = error.to_string().contains("shared memory");
    shared.then(without_threads)
}

/// The first import of a module that no Keep has.
pub fn of_module(module: &Module) -> Option<String> {
    let mut others = module
        .imports()
        .filter(|import| import.module() != preview1::MODULE);
    let import = others.next()?;
    let shared = matches!(import.ty(), ExternType::Memory(memory) if memory.is_shared());
    Some(match (import.module(), import.name()) {
        ("wasi", "thread-spawn") => without_threads(),
        _ if shared => without_threads(),
        ("wasi_unstable", _) => {
            "it was built for the WASI of 2019 (wasi_unstable): rebuild it for WASI preview 1"
                .to_owned()
        }
        (module, name) => format!(
            "it imports {name} of {module}, but modules are given only {}",
            preview1::MODULE
        ),
    })
}

fn without_threads() -> String {
    "it needs threads (wasi-threads, shared memory), which Keeps do not have: build it for one thread"
        .to_owned()
}

/// The first import of a component that no Keep has; of a command also the function that starts it, if that is missing.
pub fn of_component(engine: &Engine, component: &Component, is_command: bool) -> Option<String> {
    let component_type = component.component_type();
    let offered = |name: &str| {
        let package = name.split_once('/').map(|(package, _)| package);
        package.is_some_and(|package| PACKAGES.contains(&package))
    };
    let imports = || component_type.imports(engine).map(|(name, _)| name);
    if let Some(name) = imports().find(|name| !offered(name)) {
        return Some(format!(
            "it needs {name}, which Keeps do not have: components are given {}",
            PACKAGES.join(", ")
        ));
    }
    if let Some(wanted) = imports().find_map(within_a_package) {
        return Some(wanted);
    }
    if !is_command
        || component_type
            .exports(engine)
            .any(|(name, _)| name.starts_with(RUN))
    {
        return None;
    }
    let functions = functions_of(engine, component);
    let names: Vec<&str> = functions.iter().map(String::as_str).collect();
    Some(missing_start(RUN, &names))
}

/// The want of an interface whose package is offered, if it is not offered itself, or only in another version. Those of 0.3 are
/// looked after where they are linked.
fn within_a_package(name: &str) -> Option<String> {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    if preview3::is_interface(name) {
        return None;
    }
    // A draft has a word after its number.
    if !version.starts_with("0.2.") || version.contains('-') {
        return Some(format!(
            "it needs {name}, and Keeps have WASI 0.2 and {}: rebuild it for one of them",
            preview3::VERSION
        ));
    }
    let offered = || preview2::INTERFACES.iter().chain(&HTTP).copied();
    if offered().any(|it| it == interface) {
        return None;
    }
    let (package, _) = interface.split_once('/')?;
    let others: Vec<&str> = offered()
        .filter_map(|it| it.strip_prefix(package)?.strip_prefix('/'))
        .collect();
    Some(format!(
        "it needs {name}, which Keeps do not have: of {package} 0.2 components are given {}",
        others.join(", ")
    ))
}

/// The exported functions of a component, as `--invoke` names them.
pub fn functions_of(engine: &Engine, component: &Component) -> Vec<String> {
    let mut names = Vec::new();
    for (export, item) in component.component_type().exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) => names.push(export.to_owned()),
            ComponentItem::ComponentInstance(instance) => {
                for (name, item) in instance.exports(engine) {
                    if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                        names.push(format!("{export}#{name}"));
                    }
                }
            }
            _ => {}
        }
    }
    names
}

/// The sentence about a program that is not started by itself.
pub fn missing_start(start: &str, functions: &[&str]) -> String {
    let begin = format!("there is nothing to start: it exports no {start}");
    match functions {
        [] => begin,
        functions => format!(
            "{begin}; call a function with --invoke: {}",
            list(functions)
        ),
    }
}

/// The sentence about a function that is not there.
pub fn no_function(name: &str, functions: &[&str]) -> String {
    let none = format!("no func export named `{name}` found");
    if let Some((function, _)) = name.split_once('(') {
        return format!(
            "{none}: arguments follow the program, as in --invoke {function} PROGRAM ARGUMENT"
        );
    }
    match functions {
        [] => none,
        functions => format!("{none}; it exports {}", list(functions)),
    }
}

fn list(names: &[&str]) -> String {
    let shown: Vec<_> = names.iter().take(SHOWN).copied().collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
