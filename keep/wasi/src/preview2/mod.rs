// SPDX-License-Identifier: Apache-2.0

//! WASI 0.2: the world `wasi:cli/command` over the core.
//!
//! Trusted code facing the guest. Streams and pollables are those of `wasmtime-wasi-io` on our own
//! types. A command is offered everything synchronously, so that no fiber is needed: what waits, waits in the
//! [`Port`](crate::port::Port). Of many instances on one thread only the one that waits does so: [`add_to_linker_async`].

pub(crate) mod cli;
mod clocks;
pub(crate) mod filesystem;
mod io;
pub(crate) mod random;
pub mod sockets;

use std::collections::BTreeSet;

use wasmtime::Engine;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime_wasi_io::bindings::wasi::io as async_io;

use self::io::Table;
use crate::clock::Clocks;
use crate::context::Context;
use crate::{View, preview3};

/// The WIT of `wit/`, as Rust.
#[allow(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "wasi:cli/command",
        imports: { default: trappable },
        trappable_error_type: {
            "wasi:io/streams.stream-error" => wasmtime_wasi_io::streams::StreamError,
            "wasi:filesystem/types.error-code" => crate::error::Fault,
            "wasi:sockets/network.error-code" => crate::preview2::sockets::Failure,
        },
        with: {
            "wasi:io/error": wasmtime_wasi_io::bindings::wasi::io::error,
            "wasi:io/poll.pollable": wasmtime_wasi_io::poll::DynPollable,
            "wasi:io/streams.input-stream": wasmtime_wasi_io::streams::DynInputStream,
            "wasi:io/streams.output-stream": wasmtime_wasi_io::streams::DynOutputStream,
            "wasi:filesystem/types.descriptor": crate::preview2::filesystem::Opened,
            "wasi:filesystem/types.directory-entry-stream": crate::preview2::filesystem::Listing,
            "wasi:cli/terminal-input.terminal-input": crate::preview2::cli::Terminal,
            "wasi:cli/terminal-output.terminal-output": crate::preview2::cli::Terminal,
            "wasi:sockets/network.network": crate::preview2::sockets::Network,
            "wasi:sockets/tcp.tcp-socket": crate::preview2::sockets::tcp::TcpSocket,
            "wasi:sockets/udp.udp-socket": crate::preview2::sockets::udp::UdpSocket,
            "wasi:sockets/udp.incoming-datagram-stream": crate::preview2::sockets::udp::Incoming,
            "wasi:sockets/udp.outgoing-datagram-stream": crate::preview2::sockets::udp::Outgoing,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::preview2::sockets::Addresses,
        },
    });
}

use bindings::wasi;
pub use bindings::{Command, CommandPre};

/// The state of a component, which may use 0.3 as well.
pub struct Preview2 {
    context: Context,
    table: ResourceTable,
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

/// Defines what is offered: the names, and how each is linked.
macro_rules! interfaces {
    ($linker:ident, $state:ident: $($name:literal => $link:expr;)*) => {
        /// Names of all interfaces that are offered, without their version.
        pub const INTERFACES: &[&str] = &[$($name),*];

        /// Links the interface of this name, if it is offered.
        fn link<T: View<Preview2>>($linker: &mut Linker<T>, interface: &str) -> wasmtime::Result<()> {
            let $state = T::wasi;
            match interface {
                $($name => $link,)*
                _ => Ok(()),
            }
        }
    };
}

pub(crate) use interfaces;

/// The state behind the interfaces.
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
