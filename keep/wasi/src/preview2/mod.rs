//! WASI 0.2: the world `wasi:cli/command` over the heart.
//!
//! Trusted code facing the guest. Streams and pollables are those of `wasmtime-wasi-io` on our own
//! types; everything is offered synchronously, so that no fiber is needed: what waits, waits in the
//! [`Port`](crate::port::Port).

mod cli;
mod clocks;
mod filesystem;
mod io;
mod random;
pub mod sockets;

use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};

use self::io::Table;
use crate::View;
use crate::context::Context;

/// What the WIT of `wit/` says, as Rust.
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

pub use bindings::{Command, CommandPre};

/// The state of a component.
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
}

/// Links the interfaces that a component imports, and no others.
///
/// # Errors
/// When the linker has one of them already.
pub fn add_to_linker<T: View<Preview2>>(
    linker: &mut Linker<T>,
    component: &Component,
) -> wasmtime::Result<()> {
    use bindings::wasi::{cli, clocks, filesystem, io, random, sockets};

    let mut linked: Vec<&str> = Vec::new();
    let engine = linker.engine().clone();
    let component_type = component.component_type();
    for (import, _) in component_type.imports(&engine) {
        let interface = import.split_once('@').map_or(import, |(name, _)| name);
        if linked.contains(&interface) {
            continue;
        }
        linked.push(interface);
        let state = T::wasi;
        macro_rules! link {
            ($($module:ident)::+) => {
                $($module)::+::add_to_linker::<T, HasSelf<Preview2>>(linker, state)?
            };
        }
        match interface {
            "wasi:cli/environment" => link!(cli::environment),
            "wasi:cli/exit" => link!(cli::exit),
            "wasi:cli/stdin" => link!(cli::stdin),
            "wasi:cli/stdout" => link!(cli::stdout),
            "wasi:cli/stderr" => link!(cli::stderr),
            "wasi:cli/terminal-input" => link!(cli::terminal_input),
            "wasi:cli/terminal-output" => link!(cli::terminal_output),
            "wasi:cli/terminal-stdin" => link!(cli::terminal_stdin),
            "wasi:cli/terminal-stdout" => link!(cli::terminal_stdout),
            "wasi:cli/terminal-stderr" => link!(cli::terminal_stderr),
            "wasi:clocks/monotonic-clock" => link!(clocks::monotonic_clock),
            "wasi:clocks/wall-clock" => link!(clocks::wall_clock),
            "wasi:filesystem/types" => link!(filesystem::types),
            "wasi:filesystem/preopens" => link!(filesystem::preopens),
            "wasi:io/error" => {
                use wasmtime_wasi_io::bindings::wasi::io::error;
                error::add_to_linker::<T, Table>(linker, |state| &mut state.wasi().table)?;
            }
            "wasi:io/poll" => link!(io::poll),
            "wasi:io/streams" => link!(io::streams),
            "wasi:random/random" => link!(random::random),
            "wasi:random/insecure" => link!(random::insecure),
            "wasi:random/insecure-seed" => link!(random::insecure_seed),
            "wasi:sockets/network" => {
                let options = sockets::network::LinkOptions::default();
                sockets::network::add_to_linker::<T, HasSelf<Preview2>>(linker, &options, state)?;
            }
            "wasi:sockets/instance-network" => link!(sockets::instance_network),
            "wasi:sockets/tcp" => link!(sockets::tcp),
            "wasi:sockets/tcp-create-socket" => link!(sockets::tcp_create_socket),
            "wasi:sockets/udp" => link!(sockets::udp),
            "wasi:sockets/udp-create-socket" => link!(sockets::udp_create_socket),
            "wasi:sockets/ip-name-lookup" => link!(sockets::ip_name_lookup),
            _ => {}
        }
    }
    Ok(())
}
