// SPDX-License-Identifier: Apache-2.0

//! The WIT of `wit/`, as Rust. The types in its place that stand for resources are ours.

#![allow(missing_docs, clippy::pedantic, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "wit",
    world: "wasi:cli/command",
    imports: { default: trappable },
    trappable_error_type: {
        "wasi:io/streams.stream-error" => wasmtime_wasi_io::streams::StreamError,
        "wasi:filesystem/types.error-code" => crate::error::Fault,
        "wasi:sockets/network.error-code" => crate::preview2::sockets::failure::Failure,
    },
    with: {
        "wasi:io/error": wasmtime_wasi_io::bindings::wasi::io::error,
        "wasi:io/poll.pollable": wasmtime_wasi_io::poll::DynPollable,
        "wasi:io/streams.input-stream": wasmtime_wasi_io::streams::DynInputStream,
        "wasi:io/streams.output-stream": wasmtime_wasi_io::streams::DynOutputStream,
        "wasi:filesystem/types.descriptor": crate::preview2::opened::Opened,
        "wasi:filesystem/types.directory-entry-stream": crate::preview2::opened::Listing,
        "wasi:cli/terminal-input.terminal-input": crate::preview2::terminal::Terminal,
        "wasi:cli/terminal-output.terminal-output": crate::preview2::terminal::Terminal,
        "wasi:sockets/network.network": crate::preview2::sockets::resources::Network,
        "wasi:sockets/tcp.tcp-socket": crate::preview2::sockets::tcp_socket::TcpSocket,
        "wasi:sockets/udp.udp-socket": crate::preview2::sockets::udp_socket::UdpSocket,
        "wasi:sockets/udp.incoming-datagram-stream": crate::preview2::sockets::udp_socket::Incoming,
        "wasi:sockets/udp.outgoing-datagram-stream": crate::preview2::sockets::udp_socket::Outgoing,
        "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::preview2::sockets::resources::Addresses,
    },
});
