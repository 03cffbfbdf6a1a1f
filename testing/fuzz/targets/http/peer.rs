// SPDX-License-Identifier: Apache-2.0

//! A server against any peer: the bytes of one connection, in pieces, in HTTP/1.1 or HTTP/2. The component takes every
//! request and ends.

#![cfg_attr(fuzzing, no_main)]

use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use enarx_configuration::Configuration;
use enarx_http::{Handler, Http, Instances, ProxyPre, Serving, Settings, View};
use enarx_sallyport_host::{InProcess, World};
use enarx_wasi::View as WasiView;
use enarx_wasi::budget::{Allowance, Budget};
use enarx_wasi::context::{Context as Surrounded, Surroundings};
use enarx_wasi::port::{Port, Spawner};
use enarx_wasi::preview2::Preview2;
use enarx_wasi::stream::{Output, STDERR};
use hyper::rt::{Read, ReadBufCursor, Write};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store};

/// Ends at every request, which is no error that anybody logs.
const COMPONENT: &str = r#"(component
    (import "wasi:http/types@0.2.12" (instance $types
        (export "incoming-request" (type (sub resource)))
        (export "response-outparam" (type (sub resource)))))
    (import "wasi:cli/exit@0.2.12" (instance $exit (export "exit" (func (param "status" (result))))))
    (alias export $types "incoming-request" (type $request))
    (alias export $types "response-outparam" (type $outparam))
    (core func $exits (canon lower (func $exit "exit")))
    (core module $code
        (import "" "exit" (func $exit (param i32)))
        (func (export "handle") (param i32 i32) (call $exit (i32.const 0))))
    (core instance $instance (instantiate $code (with "" (instance (export "exit" (func $exits))))))
    (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
        (canon lift (core func $instance "handle")))
    (instance $handler (export "handle" (func $handle)))
    (export "wasi:http/incoming-handler@0.2.12" (instance $handler)))"#;

/// The preface of HTTP/2, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

struct State(Preview2, Allowance);

impl WasiView<Preview2> for State {
    fn wasi(&mut self) -> &mut Preview2 {
        &mut self.0
    }
}

impl View for State {
    fn http(&mut self) -> Http<'_> {
        Http {
            table: self.0.table(),
            way: None,
            held: &self.1,
        }
    }
}

struct Fresh {
    engine: Engine,
    port: Port,
    budget: Budget,
}

impl Instances for Fresh {
    type State = State;

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn store(&self, _spawner: &Spawner) -> wasmtime::Result<Store<State>> {
        let configuration = Configuration::default();
        let surroundings = Surroundings::default();
        let context = Surrounded::new(&self.port, &configuration, &self.budget, surroundings)?;
        let held = Allowance::new(&self.budget, u64::MAX);
        let state = State(Preview2::new(context), held);
        Ok(Store::new(&self.engine, state))
    }
}

/// The bytes of a peer, which takes whatever it is sent.
struct Peer {
    bytes: Vec<u8>,
    at: usize,
    /// Bytes that come at a time.
    piece: usize,
    waits: bool,
}

impl Read for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Other tasks have their turn between two pieces.
        self.waits = !self.waits;
        if self.waits {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let rest = &self.bytes[self.at..];
        let length = rest.len().min(self.piece).min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl Write for Peer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

static SERVING: LazyLock<Serving<Fresh>> = LazyLock::new(|| {
    let mut config = Config::new();
    config.concurrency_support(false);
    let engine = Engine::new(&config).expect("a machine that runs WebAssembly");
    let component = Component::new(&engine, COMPONENT).expect("our component");
    let mut linker = Linker::new(&engine);
    enarx_http::add_to_linker(&mut linker, &component).expect("it is offered");
    let linked = linker.instantiate_pre(&component).expect("it is offered");
    let proxy = ProxyPre::new(linked).expect("it is a server");
    let (port, _) = InProcess::start(World::default());
    let instances = Fresh {
        engine,
        port: port.clone(),
        budget: Budget::new(16 << 20),
    };
    let settings = Settings {
        connections: 1,
        requests: 40,
        instances: 4,
        timeout: None,
        grace: Duration::ZERO,
        tls: None,
    };
    let log = Output::new(port.clone(), STDERR);
    Serving::new(&port, Handler::Proxy(proxy), instances, settings, log)
});

enarx_fuzz::target!(|script: (bool, u16, &[u8])| {
    let (is_http2, piece, rest) = script;
    let bytes = if is_http2 {
        [PREFACE, rest].concat()
    } else {
        rest.to_vec()
    };
    let peer = Peer {
        bytes,
        at: 0,
        piece: usize::from(piece).max(1),
        waits: false,
    };
    SERVING.run_one(peer, is_http2);
});
