// SPDX-License-Identifier: Apache-2.0

//! The WIT of `wit-0.3/`, as Rust. The types in its place that stand for resources are ours.

#![allow(missing_docs, clippy::pedantic, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "wit-0.3",
    world: "enarx:wasi/command@0.3.0",
    imports: {
        "wasi:cli/stdin": store | trappable,
        "wasi:cli/stdout": store | trappable,
        "wasi:cli/stderr": store | trappable,
        "wasi:filesystem/types.[method]descriptor.read-via-stream": store | trappable,
        "wasi:filesystem/types.[method]descriptor.write-via-stream": store | trappable,
        "wasi:filesystem/types.[method]descriptor.append-via-stream": store | trappable,
        "wasi:filesystem/types.[method]descriptor.read-directory": store | trappable,
        "wasi:sockets/types.[method]tcp-socket.listen": store | trappable,
        "wasi:sockets/types.[method]tcp-socket.send": store | trappable,
        "wasi:sockets/types.[method]tcp-socket.receive": store | trappable,
        default: trappable,
    },
    exports: { default: async | store },
    trappable_error_type: {
        "wasi:filesystem/types.error-code" => crate::error::Fault,
        "wasi:sockets/types.error-code" => crate::error::Fault,
    },
    with: {
        "wasi:cli/terminal-input.terminal-input": crate::preview2::terminal::Terminal,
        "wasi:cli/terminal-output.terminal-output": crate::preview2::terminal::Terminal,
        "wasi:filesystem/types.descriptor": crate::preview2::opened::Opened,
        "wasi:sockets/types.tcp-socket": crate::preview3::sockets::tcp_socket::TcpSocket,
        "wasi:sockets/types.udp-socket": crate::preview3::sockets::udp_socket::UdpSocket,
    },
});
