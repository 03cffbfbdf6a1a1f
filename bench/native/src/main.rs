// SPDX-License-Identifier: Apache-2.0

//! Native Wasmtime of the same version, the yardstick for a Keep: same output, same exit code, and
//! the time that the engine takes outside of one.
//!
//! The engine's configuration is the default one, as in the `wasmtime` command.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "as the `wasmtime` command does it")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use http::{Request, Response};
use wasmtime::component::{Component, Linker as ComponentLinker, ResourceTable};
use wasmtime::error::Context as _;
use wasmtime::{Engine, Linker, Module, Store, Trap};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::{self, bindings::sync::Command};
use wasmtime_wasi::p3::{self, bindings::Command as NewerCommand};
use wasmtime_wasi::runtime::in_tokio;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

/// Exit code of a trap: 128 + SIGABRT.
const TRAP: u8 = 134;

/// Runs a WebAssembly module or component natively, as `wasmtime run` does.
#[derive(Parser)]
struct Arguments {
    /// Directory of the host that the program sees.
    #[arg(long, value_name = "HOST[::GUEST[:ro]]")]
    dir: Vec<String>,
    /// Let the program use the network, and look up names.
    #[arg(long)]
    network: bool,
    /// Variable of the environment: NAME=VALUE.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The module or component.
    module: PathBuf,
    /// Arguments of the program.
    #[arg(
        value_name = "ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    rest: Vec<String>,
}

struct ComponentState {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    requests: Requests,
    table: ResourceTable,
}

impl ComponentState {
    fn new(wasi: WasiCtx) -> Self {
        Self {
            wasi,
            http: WasiHttpCtx::new(),
            requests: Requests,
            table: ResourceTable::new(),
        }
    }
}

impl WasiView for ComponentState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for ComponentState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.requests,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// The requests of a program by `wasi:http`. Those that Wasmtime would send are denied: it brings TLS of its own for
/// that, and is no yardstick for it.
struct Requests;

/// The response to a request, and the fate of its body.
type Responded = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), HttpError>> + Send>,
);

impl WasiHttpHooks for Requests {
    fn send_request(
        &mut self,
        _request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _body: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<Responded, HttpError>> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }
}

fn context(arguments: &Arguments) -> wasmtime::Result<WasiCtxBuilder> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .inherit_stdio()
        .allow_blocking_current_thread(true)
        .arg(arguments.module.to_string_lossy())
        .args(&arguments.rest);
    for variable in &arguments.env {
        let (name, value) = variable
            .split_once('=')
            .with_context(|| format!("`{variable}` is not NAME=VALUE"))?;
        builder.env(name, value);
    }
    for directory in &arguments.dir {
        let (host, guest) = directory
            .split_once("::")
            .unwrap_or((directory.as_str(), directory.as_str()));
        let (guest, permissions) = match guest.strip_suffix(":ro") {
            Some(guest) => (guest, FsPerms::ReadOnly),
            None => (guest, FsPerms::ReadWrite),
        };
        builder.preopened_dir(host, guest, permissions)?;
    }
    if arguments.network {
        builder
            .inherit_network()
            .allow_tcp(true)
            .allow_udp(true)
            .allow_ip_name_lookup(true);
    }
    Ok(builder)
}

/// True if the layer of the binary says component (component model, Binary.md).
fn is_component(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm") && bytes.get(6..8) == Some(&[1, 0])
}

/// True for a command of WASI 0.3.
fn is_newer(component: &Component) -> bool {
    let component_type = component.component_type();
    let mut exports = component_type.exports(component.engine());
    exports.any(|(name, _)| name.starts_with("wasi:cli/run@0.3."))
}

/// Runs a command of WASI 0.3, which may use 0.2 as well.
async fn run_newer(component: &Component, wasi: WasiCtx) -> wasmtime::Result<()> {
    let mut linker = ComponentLinker::<ComponentState>::new(component.engine());
    p2::add_to_linker_async(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    let mut store = Store::new(component.engine(), ComponentState::new(wasi));
    let command = NewerCommand::instantiate_async(&mut store, component, &linker).await?;
    let ended = store
        .run_concurrent(async move |store| command.wasi_cli_run().call_run(store).await)
        .await??;
    ended.map_err(|()| I32Exit(1).into())
}

fn run(arguments: &Arguments) -> wasmtime::Result<()> {
    let bytes = std::fs::read(&arguments.module)
        .with_context(|| format!("failed to read `{}`", arguments.module.display()))?;
    let engine = Engine::default();
    let mut builder = context(arguments)?;
    if is_component(&bytes) {
        let component = Component::new(&engine, &bytes)?;
        if is_newer(&component) {
            return in_tokio(run_newer(&component, builder.build()));
        }
        let mut linker = ComponentLinker::<ComponentState>::new(&engine);
        p2::add_to_linker_sync(&mut linker)?;
        let mut store = Store::new(&engine, ComponentState::new(builder.build()));
        let command = Command::instantiate(&mut store, &component, &linker)?;
        return match command.wasi_cli_run().call_run(&mut store)? {
            Ok(()) => Ok(()),
            Err(()) => Err(I32Exit(1).into()),
        };
    }
    let module = Module::new(&engine, &bytes)?;
    let mut linker = Linker::<WasiP1Ctx>::new(&engine);
    p1::add_to_linker_sync(&mut linker, |state| state)?;
    let mut store = Store::new(&engine, builder.build_p1());
    let instance = linker.instantiate(&mut store, &module)?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    start
        .call(&mut store, ())
        .context("failed to invoke command default")
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = run(&arguments)
        .with_context(|| format!("failed to run main module `{}`", arguments.module.display()));
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return ExitCode::from(u8::try_from(exit.0).unwrap_or(u8::MAX));
    }
    eprintln!("Error: {error:?}");
    if error.is::<Trap>() {
        return ExitCode::from(TRAP);
    }
    ExitCode::FAILURE
}
