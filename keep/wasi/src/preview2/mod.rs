// SPDX-License-Identifier: Apache-2.0

//! WASI 0.2: the world `wasi:cli/command` over the core.
//!
//! Trusted code facing the guest. Streams and pollables are those of `wasmtime-wasi-io` on our own
//! types. A command is offered everything synchronously, so that no fiber is needed: what waits, waits in the
//! [`Port`](crate::port::Port). Of many instances on one thread only the one that waits does so: [`add_to_linker_async`].

pub mod bindings;
mod cli;
mod clocks;
pub(crate) mod filesystem;
mod io;
pub(crate) mod opened;
pub(crate) mod random;
pub mod sockets;
mod state;
pub(crate) mod terminal;

use std::collections::BTreeSet;

use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime_wasi_io::bindings::wasi::io as async_io;

use self::bindings::wasi;
use self::io::Table;
use crate::interfaces::interfaces;
use crate::{View, preview3};

pub use bindings::{Command, CommandPre};
pub use state::Preview2;

/// The state of the interfaces.
type State = HasSelf<Preview2>;

interfaces! { linker, state:
    "wasi:cli/environment" => wasi::cli::environment::add_to_linker::<T, State>(linker, state);
    "wasi:cli/exit" => wasi::cli::exit::add_to_linker::<T, State>(linker, state);
    "wasi:cli/stdin" => wasi::cli::stdin::add_to_linker::<T, State>(linker, state);
    "wasi:cli/stdout" => wasi::cli::stdout::add_to_linker::<T, State>(linker, state);
    "wasi:cli/stderr" => wasi::cli::stderr::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-input" => wasi::cli::terminal_input::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-output" => wasi::cli::terminal_output::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-stdin" => wasi::cli::terminal_stdin::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-stdout" => wasi::cli::terminal_stdout::add_to_linker::<T, State>(linker, state);
    "wasi:cli/terminal-stderr" => wasi::cli::terminal_stderr::add_to_linker::<T, State>(linker, state);
    "wasi:clocks/monotonic-clock" => wasi::clocks::monotonic_clock::add_to_linker::<T, State>(linker, state);
    "wasi:clocks/wall-clock" => wasi::clocks::wall_clock::add_to_linker::<T, State>(linker, state);
    "wasi:filesystem/types" => wasi::filesystem::types::add_to_linker::<T, State>(linker, state);
    "wasi:filesystem/preopens" => wasi::filesystem::preopens::add_to_linker::<T, State>(linker, state);
    "wasi:io/error" => wasmtime_wasi_io::bindings::wasi::io::error::add_to_linker::<T, Table>(
        linker,
        |state| &mut state.wasi().table,
    );
    "wasi:io/poll" => wasi::io::poll::add_to_linker::<T, State>(linker, state);
    "wasi:io/streams" => wasi::io::streams::add_to_linker::<T, State>(linker, state);
    "wasi:random/random" => wasi::random::random::add_to_linker::<T, State>(linker, state);
    "wasi:random/insecure" => wasi::random::insecure::add_to_linker::<T, State>(linker, state);
    "wasi:random/insecure-seed" => wasi::random::insecure_seed::add_to_linker::<T, State>(linker, state);
    "wasi:sockets/network" => {
        let options = wasi::sockets::network::LinkOptions::default();
        wasi::sockets::network::add_to_linker::<T, State>(linker, &options, state)
    };
    "wasi:sockets/instance-network" => wasi::sockets::instance_network::add_to_linker::<T, State>(linker, state);
    "wasi:sockets/tcp" => wasi::sockets::tcp::add_to_linker::<T, State>(linker, state);
    "wasi:sockets/tcp-create-socket" => wasi::sockets::tcp_create_socket::add_to_linker::<T, State>(linker, state);
    "wasi:sockets/udp" => wasi::sockets::udp::add_to_linker::<T, State>(linker, state);
    "wasi:sockets/udp-create-socket" => wasi::sockets::udp_create_socket::add_to_linker::<T, State>(linker, state);
    "wasi:sockets/ip-name-lookup" => wasi::sockets::ip_name_lookup::add_to_linker::<T, State>(linker, state);
}

/// Links the interfaces that a component imports, and no others.
///
/// # Errors
/// When the linker has one of them already.
pub fn add_to_linker<T: View<Preview2>>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<()> {
    for interface in imports(linker.engine(), component) {
        link(linker, &interface)?;
    }
    Ok(())
}

/// As [`add_to_linker`], for instances that are called asynchronously: one that waits for a pollable or a stream
/// gives its thread away.
///
/// # Errors
/// When the linker has one of them already.
pub fn add_to_linker_async<T: View<Preview2>>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<()> {
    fn table<T: View<Preview2>>(state: &mut T) -> &mut ResourceTable {
        state.wasi().table()
    }
    for interface in imports(linker.engine(), component) {
        match &*interface {
            "wasi:io/poll" => async_io::poll::add_to_linker::<T, Table>(linker, table)?,
            "wasi:io/streams" => async_io::streams::add_to_linker::<T, Table>(linker, table)?,
            other => link(linker, other)?,
        }
    }
    Ok(())
}

/// Returns the interfaces that a component imports, without their versions, each once. Those of 0.3 are
/// [`preview3`]'s.
pub fn imports(engine: &Engine, component: &Component) -> BTreeSet<String> {
    let component_type = component.component_type();
    let imports = component_type.imports(engine);
    imports
        .filter(|(import, _)| !preview3::is_interface(import))
        .map(|(import, _)| import.split_once('@').map_or(import, |(name, _)| name))
        .map(str::to_owned)
        .collect()
}
