// SPDX-License-Identifier: Apache-2.0

//! WASI 0.3: the world `wasi:cli/command` over the core. `wasi:http` is in a crate of its own.
//!
//! Trusted code facing the guest. The state of a component and its resources are those of 0.2, so that a component may
//! use both. A call that waits for a clock, for standard input or for the network lets the component's other tasks
//! continue; files and output are handled at once.

pub mod bindings;
mod cli;
mod clocks;
mod filesystem;
mod names;
mod random;
mod sockets;
mod state;
pub mod streams;

use std::collections::BTreeSet;

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use self::bindings::wasi;
use self::names::{is_compatible, of_0_3};
use self::state::State;
use crate::View;
use crate::interfaces::interfaces;
use crate::preview2::Preview2;

pub use bindings::{Command, CommandPre};
pub use names::{VERSION, is_interface};

interfaces! { linker, state:
    "wasi:cli/environment" => wasi::cli::environment::add_to_linker::<T, State>(linker, state);
    "wasi:cli/exit" => wasi::cli::exit::add_to_linker::<T, State>(linker, state);
    "wasi:cli/types" => wasi::cli::types::add_to_linker::<T, State>(linker, state);
    "wasi:cli/stdin" => wasi::cli::stdin::add_to_linker::<T, State>(linker, state);
    "wasi:cli/stdout" => wasi::cli::stdout::add_to_linker::<T, State>(linker, state);
    "wasi:cli/stderr" => wasi::cli::stderr::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-input" => wasi::cli::terminal_input::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-output" => wasi::cli::terminal_output::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-stdin" => wasi::cli::terminal_stdin::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-stdout" => wasi::cli::terminal_stdout::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-stderr" => wasi::cli::terminal_stderr::add_to_linker::<T, State>(linker, state);
    "wasi:clocks/types" => wasi::clocks::types::add_to_linker::<T, State>(linker, state);
    "wasi:clocks/monotonic-clock" => wasi::clocks::monotonic_clock::add_to_linker::<T, State>(linker, state);
    "wasi:clocks/system-clock" => wasi::clocks::system_clock::add_to_linker::<T, State>(linker, state);
    "wasi:filesystem/types" => wasi::filesystem::types::add_to_linker::<T, State>(linker, state);
    "wasi:filesystem/preopens" => wasi::filesystem::preopens::add_to_linker::<T, State>(linker, state);
    "wasi:random/random" => wasi::random::random::add_to_linker::<T, State>(linker, state);
    "wasi:random/insecure" => wasi::random::insecure::add_to_linker::<T, State>(linker, state);
    "wasi:random/insecure-seed" => wasi::random::insecure_seed::add_to_linker::<T, State>(linker, state);
    "wasi:sockets/types" => wasi::sockets::types::add_to_linker::<T, State>(linker, state);
    "wasi:sockets/ip-name-lookup" => wasi::sockets::ip_name_lookup::add_to_linker::<T, State>(linker, state);
}

/// Links the interfaces of 0.3 that a component imports, and no others. `elsewhere` are those that are linked
/// elsewhere.
///
/// # Errors
/// If one of them is not offered, or the linker has it already.
pub fn add_to_linker<T: View<Preview2>>(
    linker: &mut Linker<T>,
    component: &Component,
    elsewhere: &[&str],
) -> wasmtime::Result<()> {
    let component_type = component.component_type();
    for (import, _) in component_type.imports(&linker.engine().clone()) {
        let Some((interface, version)) = of_0_3(import) else {
            continue;
        };
        wasmtime::ensure!(
            is_compatible(version),
            "it imports {import}, a draft: Enarx has WASI {VERSION}; rebuild it for that"
        );
        wasmtime::ensure!(
            INTERFACES.contains(&interface) || elsewhere.contains(&interface),
            "it imports {import}, which Enarx does not have: of WASI 0.3 it has {}; the others it has of WASI 0.2",
            packages(elsewhere)
        );
        link(linker, interface)?;
    }
    Ok(())
}

/// Returns the interfaces of 0.3 that a component imports, without their versions, each once.
pub fn imports(engine: &Engine, component: &Component) -> BTreeSet<String> {
    let component_type = component.component_type();
    let imports = component_type.imports(engine);
    imports
        .filter_map(|(import, _)| of_0_3(import))
        .map(|(interface, _)| interface.to_owned())
        .collect()
}

/// The packages with offered interfaces, as text.
fn packages(elsewhere: &[&str]) -> String {
    let interfaces = INTERFACES.iter().chain(elsewhere);
    let packages: BTreeSet<_> = interfaces
        .filter_map(|interface| interface.split_once('/'))
        .map(|(package, _)| package)
        .collect();
    packages.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_0_3_are_recognized() {
        for name in ["wasi:cli/run@0.3.0", "wasi:cli/run@0.3.7"] {
            assert!(is_interface(name), "{name}");
        }
        for name in [
            "wasi:cli/run",
            "wasi:cli/run@0.2.12",
            "wasi:cli/run@0.30.0",
            "else:cli/run@0.3.0",
        ] {
            assert!(!is_interface(name), "{name}");
        }
        let draft = of_0_3("wasi:cli/run@0.3.0-rc-2026-03-15").unwrap();
        assert!(!is_compatible(draft.1) && is_compatible("0.3.7"));
    }

    #[test]
    fn packages_are_named_once() {
        assert_eq!(
            packages(&["wasi:http/types", "wasi:http/client"]),
            "wasi:cli, wasi:clocks, wasi:filesystem, wasi:http, wasi:random, wasi:sockets"
        );
    }
}
