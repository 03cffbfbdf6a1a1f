// SPDX-License-Identifier: Apache-2.0

//! Instances of a component that answers HTTP requests: a store for each request, and one budget of memory for all.

use std::sync::Arc;
use std::time::Duration;

use enarx_configuration::{Configuration, Serve};
use enarx_http::preview3::ServicePre;
use enarx_http::{Handler, Http, Kept, ProxyPre, Room, ServerAccess, Settings, Trust};
use enarx_tls::web;
use enarx_wasi::budget::Budget;
use enarx_wasi::clock::Clocks;
use enarx_wasi::context::{Context, Surroundings};
use enarx_wasi::port::{Port, Spawner};
use enarx_wasi::preview2::Preview2;
use enarx_wasi::preview3;
use wasmtime::component::{Component, Linker};
use wasmtime::error::Context as _;
use wasmtime::{Engine, Store};

use crate::bounds::Bounds;
use crate::pool::Pool;
use crate::state::State;

/// The interfaces by which a component answers requests: of WASI 0.2, and of 0.3.
const PROXY: &str = "wasi:http/incoming-handler";
const SERVICE: &str = "wasi:http/handler";

/// The interface by which a component answers HTTP requests, if it does: that of 0.3 if there are two.
pub fn handler(engine: &Engine, component: &Component) -> Option<&'static str> {
    let component_type = component.component_type();
    let exports = |interface: &&str| {
        let mut exports = component_type.exports(engine);
        exports.any(|(name, _)| {
            name.split_once('@')
                .is_some_and(|(name, _)| name == *interface)
        })
    };
    [SERVICE, PROXY].into_iter().find(exports)
}

/// The error for an application that should serve but cannot.
pub fn no_server() -> wasmtime::Error {
    wasmtime::format_err!(
        "it answers no HTTP requests: it exports neither {PROXY}@0.2 nor {SERVICE}@0.3; run programs with `enarx run`"
    )
}

/// The error for an application that should run but is a server, because of this interface.
pub fn not_a_command(handler: &str) -> wasmtime::Error {
    wasmtime::format_err!("it answers HTTP requests ({handler}): use `enarx serve`")
}

/// Instructions of a turn: some milliseconds.
const TURN: u64 = 5_000_000;

/// True if computing requests should take turns. Counting their instructions costs up to half of their speed, so it
/// is done only if a time limit has to be enforced.
pub fn takes_turns(bounds: &Serve) -> bool {
    bounds.timeout.is_some()
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The protocols that a server offers over TLS, the best first.
pub const PROTOCOLS: [&[u8]; 2] = [web::HTTP2, web::HTTP1];

/// The bounds of the configuration, and of the pool.
pub fn settings(bounds: &Serve, pool: &Pool, tls: Option<web::Server>) -> Settings {
    Settings {
        connections: count(bounds.connections),
        requests: count(bounds.requests),
        instances: pool.instances(),
        timeout: bounds.timeout.map(Duration::from_millis),
        grace: Duration::from_millis(bounds.grace),
        tls,
    }
}

/// Links a component, once for all instances.
///
/// # Errors
/// When it is not a server, or imports what is not offered.
pub fn link(engine: &Engine, component: &Component) -> wasmtime::Result<Handler<State<Preview2>>> {
    let handler = handler(engine, component).ok_or_else(no_server)?;
    let mut linker = Linker::new(engine);
    preview3::add_to_linker(&mut linker, component, enarx_http::preview3::INTERFACES)?;
    enarx_http::add_to_linker(&mut linker, component)?;
    let linked = linker.instantiate_pre(component)?;
    Ok(if handler == SERVICE {
        Handler::Service(ServicePre::new(linked)?)
    } else {
        Handler::Proxy(ProxyPre::new(linked)?)
    })
}

impl enarx_http::View for State<Preview2> {
    fn http(&mut self) -> Http<'_> {
        Http {
            table: self.wasi.table(),
            way: self.way.as_ref(),
            held: self.limits.held(),
        }
    }
}

/// The common parts of all instances.
pub struct Instances {
    engine: Engine,
    port: Port,
    configuration: Configuration,
    budget: Budget,
    bounds: Bounds,
    surroundings: Surroundings,
    trust: Arc<Trust>,
    room: Room,
}

impl Instances {
    /// Instances in these surroundings and bounds, which take memory from `budget`.
    pub fn new(
        engine: &Engine,
        port: &Port,
        configuration: &Configuration,
        budget: Budget,
        bounds: Bounds,
        surroundings: Surroundings,
    ) -> Self {
        let mut configuration = configuration.clone();
        let issuers = std::mem::take(&mut configuration.issuers);
        if let Some(serve) = &mut configuration.serve {
            // The server has it.
            serve.tls = None;
        }
        Self {
            engine: engine.clone(),
            port: port.clone(),
            trust: Trust::new(issuers, Clocks::new(port.clone())),
            configuration,
            room: Room::new(budget.clone()),
            budget,
            bounds,
            surroundings,
        }
    }
}

impl enarx_http::Instances for Instances {
    type State = State<Preview2>;

    fn budget(&self) -> &Budget {
        &self.budget
    }

    fn store(&self, spawner: &Spawner) -> wasmtime::Result<Store<State<Preview2>>> {
        let mut context = Context::new(
            &self.port,
            &self.configuration,
            &self.budget,
            self.surroundings.clone(),
        )
        .context("the delivered files do not fit in the Keep: give it more memory")?;
        context.answer_max = self.bounds.call();
        let limits = self
            .bounds
            .limits(&self.configuration.limits, &self.budget)
            .context("another instance does not fit in the Keep: give it more memory")?;
        let state = State {
            wasi: Preview2::new(context),
            way: Some(ServerAccess {
                port: self.port.clone(),
                network: self.configuration.network,
                spawner: spawner.clone(),
                trust: Arc::clone(&self.trust),
                kept: Kept::new(&self.room),
            }),
            limits,
        };
        let mut store = Store::new(&self.engine, state);
        self.bounds.apply(&mut store);
        store.limiter(|state| &mut state.limits);
        if self.configuration.serve.as_ref().is_some_and(takes_turns) {
            store.set_fuel(u64::MAX)?;
            store.fuel_async_yield_interval(Some(TURN))?;
        }
        Ok(store)
    }
}
