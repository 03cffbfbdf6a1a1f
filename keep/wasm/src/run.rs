// SPDX-License-Identifier: Apache-2.0

//! Runs an application: determines its form, compiles it, links its imports, calls it.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::sync::Arc;

use enarx_configuration::Configuration;
use enarx_exits::exit_code;
use enarx_http::{Door, Kept, Room, ServerAccess, Serving, Settings, Trust};
use enarx_wasi::Exit;
use enarx_wasi::budget::Budget;
use enarx_wasi::clock::Clocks;
use enarx_wasi::context::{Context, Surroundings};
use enarx_wasi::error::Errno;
use enarx_wasi::port::{Port, Tasks};
use enarx_wasi::preview1::{self, Preview1};
use enarx_wasi::preview2::{self, Command, Preview2};
use enarx_wasi::preview3;
use enarx_wasi::sockets;
use enarx_wasi::stream::{Output, Standard};
use futures_channel::oneshot;
use wasmtime::component::{self, Component};
use wasmtime::error::Context as _;
use wasmtime::{Engine, Extern, Linker, Module, Store, Trap};

use crate::bounds::{self, Bounds};
use crate::ground::{EngineEnvironment, EnvironmentMemory};
use crate::limits::Limits;
use crate::pool::Pool;
use crate::precompiled::{self, Allowed, Unwritten};
use crate::serve::Instances;
use crate::state::State;
use crate::timings::Timings;
use crate::{engine, invoke, room, serve, wants};

/// The interface that a command is started by.
const RUN: &str = "wasi:cli/run";

/// The parts of a run.
struct Run<'a> {
    port: &'a Port,
    ground: &'a Arc<dyn EngineEnvironment>,
    configuration: &'a Configuration,
    engine: &'a Engine,
    /// The component has asynchronous functions, streams or futures.
    concurrent: bool,
    /// Given to the one store.
    surroundings: RefCell<Surroundings>,
    streams: Standard,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The kind of end.
    pub kind: EndKind,
    /// The exit code of the Keep.
    pub code: i32,
}

/// A kind of end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// The application ended by itself.
    Exited,
    /// It trapped.
    Trapped,
    /// It could not be compiled, linked or called.
    Failed,
}

/// Runs `application` to its end, or compiles it where the configuration says so.
pub fn run(
    port: &Port,
    ground: &Arc<dyn EngineEnvironment>,
    configuration: &Configuration,
    application: &[u8],
    surroundings: Surroundings,
    timings: &mut Timings,
) -> End {
    let name = configuration.args.first().map_or("", String::as_str);
    let streams = surroundings.streams.clone();
    let outcome = match &configuration.compile {
        Some(wish) => precompiled::compile(&**ground, application, wish, &streams.stdout(port))
            .with_context(|| format!("failed to compile `{name}`")),
        None => try_run(
            port,
            ground,
            configuration,
            application,
            surroundings,
            timings,
        )
        .with_context(|| format!("failed to run main module `{name}`")),
    };
    timings.phase("run");
    let stderr = streams.stderr(port);
    let unwritten = unwritten(&streams.stdout(port));
    let (kind, mut code, message) = match outcome {
        Ok(()) => (EndKind::Exited, 0, None),
        Err(error) => match error.downcast_ref::<Exit>() {
            Some(Exit(code)) => (EndKind::Exited, *code, None),
            None if error.is::<Trap>() => (
                EndKind::Trapped,
                exit_code::TRAP.into(),
                // As in Wasmtime; tools recognize a trap by it.
                Some(format!("Error: {error:?}\n")),
            ),
            None if let Some(sentence) = bounds::exceeded(&error) => (
                EndKind::Trapped,
                exit_code::TRAP.into(),
                Some(format!(
                    "enarx: failed to run main module `{name}`: {sentence}\n"
                )),
            ),
            None => {
                let code = if error.is::<Unwritten>() {
                    exit_code::UNWRITTEN
                } else {
                    exit_code::FAILURE
                };
                let message = format!("enarx: {error:#}\n");
                (EndKind::Failed, code.into(), Some(message))
            }
        },
    };
    if unwritten.is_some() && code == 0 {
        code = exit_code::UNWRITTEN.into();
    }
    for text in [unwritten, message, timings.report()].into_iter().flatten() {
        // When nobody reads standard error any more, the exit code still tells.
        let _ = stderr.write_all(text.as_bytes());
    }
    End { kind, code }
}

/// Waits for the last of the output. The program did not learn of an error of these writes, so it
/// is reported here; output that nobody wanted to read any more does not matter.
fn unwritten(stdout: &Output) -> Option<String> {
    let error = stdout.flush().err().filter(|error| *error != Errno::Pipe)?;
    Some(format!(
        "enarx: standard output could not be written: {error}\n"
    ))
}

fn try_run(
    port: &Port,
    ground: &Arc<dyn EngineEnvironment>,
    configuration: &Configuration,
    application: &[u8],
    surroundings: Surroundings,
    timings: &mut Timings,
) -> wasmtime::Result<()> {
    let serve = configuration.serve.as_ref();
    let tls = serve.and_then(|serve| serve.tls.as_ref()).map(|tls| {
        let clocks = Clocks::new(port.clone()).by(surroundings.told);
        sockets::server(tls, &serve::PROTOCOLS, &clocks)
    });
    let tls = tls.transpose()?;
    let code = Allowed::of(configuration, application)?;
    let turns = configuration.serve.as_ref().is_some_and(serve::takes_turns);
    let (facts, compiled) = if let Some(code) = &code {
        (*code.facts(), 0)
    } else {
        room::check(&**ground, application)?;
        (precompiled::facts(application, turns)?, application.len())
    };
    // The Keep ends with the application: to give memory back piece by piece is only a cost, here
    // and where a store is made.
    let pool = configuration.serve.is_some();
    let pool = pool.then(|| Pool::new(ground.free_memory(), &facts));
    let engine = ManuallyDrop::new(engine::engine(
        &configuration.limits,
        &facts,
        &**ground,
        pool.as_ref(),
        compiled,
    )?);
    let run = Run {
        port,
        ground,
        configuration,
        engine: &engine,
        concurrent: facts.concurrent,
        streams: surroundings.streams.clone(),
        surroundings: RefCell::new(surroundings),
    };
    if facts.component && !configuration.sockets.is_empty() {
        wasmtime::bail!(
            "it is a component, which gets no open sockets: it opens its own, as --allow-connect and --allow-listen permit; \
             listeners and connections of an Enarx.toml are for modules of WASI preview 1"
        );
    }
    if facts.component {
        let component = ManuallyDrop::new(match code {
            Some(code) => code.component(&engine)?,
            None => Component::new(&engine, application).map_err(room::explained)?,
        });
        timings.phase("compile");
        let ended = match (&configuration.serve, pool) {
            (Some(bounds), Some(pool)) => {
                let settings = serve::settings(bounds, &pool, tls);
                run.serve(&component, settings, &pool, timings)
            }
            _ => run.component(&component, timings),
        };
        // The error for running a server as a command says what to do.
        let is_command = configuration.serve.is_none()
            && configuration.invoke.is_none()
            && serve::handler(&engine, &component).is_none();
        return ended.map_err(|error| {
            // It began.
            if error.is::<Exit>() || error.is::<Trap>() {
                return error;
            }
            wants::explained(error, wants::of_component(&engine, &component, is_command))
        });
    }
    if configuration.serve.is_some() {
        return Err(serve::no_server());
    }
    let module = ManuallyDrop::new(match code {
        Some(code) => code.module(&engine)?,
        None => Module::new(&engine, application).map_err(room::explained)?,
    });
    timings.phase("compile");
    run.module(&module, timings)
}

impl Run<'_> {
    /// A store whose program has the front end that `front_end` makes.
    fn store<S: Send + 'static>(
        &self,
        front_end: impl FnOnce(Context) -> S,
    ) -> wasmtime::Result<ManuallyDrop<Store<State<S>>>> {
        let ground = Arc::clone(self.ground);
        let budget = Budget::asking(EnvironmentMemory(ground));
        let context = Context::new(
            self.port,
            self.configuration,
            &budget,
            self.surroundings.take(),
        )
        .context("the delivered files do not fit in the Keep: give it more memory")?;
        let mut store = Store::new(
            self.engine,
            State {
                wasi: front_end(context),
                limits: Limits::new(&self.configuration.limits, budget, u64::MAX),
                way: None,
            },
        );
        store.limiter(|state| &mut state.limits);
        Ok(ManuallyDrop::new(store))
    }

    /// A store whose program is a component, within its bounds.
    fn component_store(&self) -> wasmtime::Result<ManuallyDrop<Store<State<Preview2>>>> {
        let mut store = self.store(Preview2::new)?;
        Bounds::of_command(self.ground.free_memory()).apply(&mut store);
        Ok(store)
    }

    /// Reports to the other end of a session that the program runs.
    fn started(&self, timings: &mut Timings) {
        timings.phase("instantiate");
        if let Standard::Session(session) = &self.streams {
            session.started(timings.phases());
        }
    }

    /// Arguments of the function that is invoked.
    fn arguments(&self) -> &[String] {
        self.configuration.args.get(1..).unwrap_or_default()
    }

    fn print(&self, results: &str) -> wasmtime::Result<()> {
        self.streams
            .stdout(self.port)
            .write_all(results.as_bytes())
            .context("failed to print the results")
    }

    fn module(&self, module: &Module, timings: &mut Timings) -> wasmtime::Result<()> {
        let mut store = self.store(Preview1::new)?;
        store.data_mut().wasi.open_sockets(self.configuration)?;
        let ended = self.run_module(module, &mut store, timings);
        store.data_mut().wasi.close_sockets();
        ended
    }

    fn run_module(
        &self,
        module: &Module,
        store: &mut Store<State<Preview1>>,
        timings: &mut Timings,
    ) -> wasmtime::Result<()> {
        let mut linker = Linker::new(self.engine);
        let mut defined = Vec::new();
        for import in module.imports() {
            // Only imported functions: defining all of them takes longer than a small program
            // runs.
            if import.module() == preview1::MODULE && !defined.contains(&import.name()) {
                preview1::define(&mut linker, import.name())?;
                defined.push(import.name());
            }
        }
        let instance = linker.instantiate(&mut *store, module).map_err(|error| {
            let limits = &store.data().limits;
            let wants = limits.refused().or_else(|| wants::of_module(module));
            let wants = wants.or_else(|| wants::of_memory(&error));
            wants::explained(error, wants)
        })?;
        self.started(timings);
        if let Some(initialize) = instance.get_func(&mut *store, "_initialize") {
            initialize.typed::<(), ()>(&*store)?.call(&mut *store, ())?;
        }
        let Some(name) = &self.configuration.invoke else {
            let command = instance
                .get_func(&mut *store, "")
                .or_else(|| instance.get_func(&mut *store, "_start"));
            let Some(command) = command else {
                self.without_a_start(module);
                return Ok(());
            };
            return invoke::core(&mut *store, command, "_start", &[])
                .map(|_| ())
                .context("failed to invoke command default");
        };
        let function = match instance.get_export(&mut *store, name) {
            Some(Extern::Func(function)) => function,
            Some(_) => wasmtime::bail!("the export `{name}` is not a function"),
            None => wasmtime::bail!("{}", wants::no_function(name, &functions(module))),
        };
        let results = invoke::core(&mut *store, function, name, self.arguments())
            .with_context(|| format!("failed to invoke `{name}`"))?;
        self.print(&results)
    }

    /// A library, which is a success as in `wasmtime run`; if it was not even initialized, a
    /// message says so.
    fn without_a_start(&self, module: &Module) {
        if module.get_export("_initialize").is_none() {
            let sentence = wants::missing_start("_start", &functions(module));
            let stderr = self.streams.stderr(self.port);
            // If nobody reads standard error any more, there is nobody to inform.
            let _ = stderr.write_all(format!("enarx: {sentence}\n").as_bytes());
        }
    }

    /// The door of a server: the host's, or one that the Keep opens.
    fn door(&self) -> wasmtime::Result<Door> {
        let serve = self.configuration.serve.as_ref();
        let Some(listen) = serve.and_then(|serve| serve.listen.as_ref()) else {
            return Ok(Door::granted(self.port));
        };
        let socket = sockets::listen(self.port, listen.address, listen.port);
        let socket = socket.map_err(|cause| {
            let place = listen.address.map_or_else(
                || format!("port {}", listen.port),
                |address| SocketAddr::new(address, listen.port).to_string(),
            );
            wasmtime::format_err!("it cannot listen at {place}: {cause} ({})", cause.code())
        })?;
        Ok(Door::own(self.port, socket, &self.streams))
    }

    /// Serves requests until its door is shut.
    fn serve(
        &self,
        component: &Component,
        settings: Settings,
        pool: &Pool,
        timings: &mut Timings,
    ) -> wasmtime::Result<()> {
        let budget = Budget::asking(EnvironmentMemory(Arc::clone(self.ground)));
        let threads = engine::threads(&**self.ground)?;
        let bounds = Bounds::of_server(pool.memory(), threads);
        if !budget.take(pool.kept().saturating_add(bounds.calls(threads))) {
            wasmtime::bail!(
                "the instances of a server do not fit in the Keep: give it more memory"
            );
        }
        let instances = Instances::new(
            self.engine,
            self.port,
            self.configuration,
            budget,
            bounds,
            self.surroundings.take(),
        );
        let handler = serve::link(self.engine, component)?;
        let door = self.door()?;
        self.started(timings);
        let log = self.streams.stderr(self.port);
        let serving = Serving::new(self.port, handler, instances, settings, log);
        let serving = Arc::new(serving);
        for _ in 1..threads {
            let (serving, port) = (Arc::clone(&serving), self.port.clone());
            // The tenant learns of the end, and has a receipt: the thread that serves the session
            // ends a Keep that still computes.
            let ends_keep = matches!(self.streams, Standard::Host);
            rayon::spawn(move || {
                if serving.help() && ends_keep {
                    port.exit(0);
                }
            });
        }
        serving.run(door)?;
        Ok(())
    }

    /// Links a component whose functions wait among the tasks of this thread.
    fn link(&self, component: &Component) -> wasmtime::Result<component::Linker<State<Preview2>>> {
        let mut linker = component::Linker::new(self.engine);
        preview3::add_to_linker(&mut linker, component, enarx_http::preview3::INTERFACES)?;
        if enarx_http::is_imported(self.engine, component) {
            enarx_http::add_to_linker(&mut linker, component)?;
        } else {
            preview2::add_to_linker_async(&mut linker, component)?;
        }
        Ok(linker)
    }

    /// Runs a component that sends HTTP requests, which go on while it waits, or one with asynchronous functions: on fibers,
    /// among tasks.
    fn concurrent(&self, component: &Component, timings: &mut Timings) -> wasmtime::Result<()> {
        let function = match &self.configuration.invoke {
            Some(name) => name.clone(),
            None => run_function(self.engine, component),
        };
        let linker = self.link(component)?;
        let index = invoke::exported(self.engine, component, &function)?;
        let component = linker.instantiate_pre(component)?;
        let tasks = Tasks::default();
        let mut store = self.component_store()?;
        let issuers = self.configuration.issuers.clone();
        store.data_mut().way = Some(ServerAccess {
            port: self.port.clone(),
            network: self.configuration.network,
            spawner: tasks.spawner(),
            trust: Trust::new(issuers, store.data().wasi.clocks().clone()),
            kept: Kept::new(&Room::new(store.data().limits.budget().clone())),
        });
        let (mut store, instance) = self.among(&tasks, async move {
            let instance = component.instantiate_async(&mut *store).await;
            (store, instance)
        })?;
        let instance = instance?;
        self.started(timings);
        if self.configuration.invoke.is_some() {
            let failed = || format!("failed to invoke `{function}`");
            let called = instance.get_func(&mut *store, index);
            let (called, parameters, mut results) = self.callee(&store, called, &function)?;
            let results = self.among(&tasks, async move {
                let outcome = called.call_async(&mut *store, &parameters, &mut results);
                outcome.await.map(|()| results)
            })?;
            return self.print(&invoke::told(&results.with_context(failed)?)?);
        }
        let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, index)?;
        ended(self.among(&tasks, async move {
            let (outcome,) = run.call_async(&mut *store, ()).await?;
            Ok(outcome)
        })?)
    }

    /// Runs a future to its end, along with other tasks.
    fn among<T: Send + 'static>(
        &self,
        tasks: &Tasks,
        work: impl Future<Output = T> + Send + 'static,
    ) -> wasmtime::Result<T> {
        let (sender, mut receiver) = oneshot::channel();
        tasks.run(self.port, async move {
            // It is waited for below.
            let _ = sender.send(work.await);
        });
        let output = receiver.try_recv().ok().flatten();
        output.context("the work was given up")
    }

    fn component(&self, component: &Component, timings: &mut Timings) -> wasmtime::Result<()> {
        if self.configuration.invoke.is_none()
            && let Some(handler) = serve::handler(self.engine, component)
        {
            return Err(serve::not_a_command(handler));
        }
        let sends = enarx_http::is_imported(self.engine, component);
        if self.concurrent || (self.configuration.invoke.is_none() && sends) {
            return self.concurrent(component, timings);
        }
        let mut store = self.component_store()?;
        let mut linker = component::Linker::new(self.engine);
        preview3::add_to_linker(&mut linker, component, enarx_http::preview3::INTERFACES)?;
        preview2::add_to_linker(&mut linker, component)?;
        let Some(name) = &self.configuration.invoke else {
            let command = Command::instantiate(&mut *store, component, &linker)?;
            self.started(timings);
            return ended(command.wasi_cli_run().call_run(&mut *store));
        };
        let instance = linker.instantiate(&mut *store, component)?;
        self.started(timings);
        let index = invoke::exported(self.engine, component, name)?;
        let function = instance.get_func(&mut *store, index);
        let (function, parameters, mut results) = self.callee(&store, function, name)?;
        function
            .call(&mut *store, &parameters, &mut results)
            .with_context(|| format!("failed to invoke `{name}`"))?;
        self.print(&invoke::told(&results)?)
    }

    /// The component's function to invoke, with its parameters, and room for its results.
    fn callee(
        &self,
        store: &Store<State<Preview2>>,
        function: Option<component::Func>,
        name: &str,
    ) -> wasmtime::Result<(component::Func, Vec<component::Val>, Vec<component::Val>)> {
        let function =
            function.with_context(|| format!("the export `{name}` is not a function"))?;
        let parameters = invoke::parameters(store, function, name, self.arguments())
            .with_context(|| format!("failed to invoke `{name}`"))?;
        Ok((function, parameters, invoke::room(store, function)))
    }
}

/// The exported functions of a module.
fn functions(module: &Module) -> Vec<&str> {
    let exports = module.exports();
    exports
        .filter(|export| export.ty().func().is_some())
        .map(|export| export.name())
        .collect()
}

/// The outcome of a command whose function `run` has ended.
fn ended(outcome: wasmtime::Result<Result<(), ()>>) -> wasmtime::Result<()> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(())) => Err(Exit(exit_code::FAILURE.into()).into()),
        Err(error) => Err(error.context("failed to invoke `run` function")),
    }
}

/// The name of the function that starts a command, as [`invoke::exported`] finds it: that of 0.3 if there are two.
fn run_function(engine: &Engine, component: &Component) -> String {
    let component_type = component.component_type();
    let mut exports = component_type.exports(engine).map(|(name, _)| name);
    let newer = exports.find(|name| name.starts_with(RUN) && preview3::is_interface(name));
    format!("{}#run", newer.unwrap_or(RUN))
}
