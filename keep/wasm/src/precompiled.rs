// SPDX-License-Identifier: Apache-2.0

//! Code that is compiled in one Keep and executed in another.
//!
//! Executing such code means trusting whoever made it: nothing can determine what native code does. It is accepted only
//! if the configuration says so, and the digests in its header detect damage, not malice.

#![expect(
    unsafe_code,
    reason = "Wasmtime cannot check native code, so to load it is unsafe"
)]

use std::fmt;
use std::mem::ManuallyDrop;

use enarx_configuration::precompiled::{BASELINE, CPUS, Facts, Precompiled, is_precompiled};
use enarx_configuration::{Compile, Configuration};
use enarx_wasi::stream::Output;
use wasmtime::component::Component;
use wasmtime::error::Context as _;
use wasmtime::{Config, Engine, Module};

use crate::form::{Form, form};
use crate::ground::EngineEnvironment;
use crate::{concurrency, engine, room, segments, serve};

/// The triple that code is compiled for when its CPU is named; Wasmtime then asks nothing of the CPU it compiles on.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Cranelift's name for [`BASELINE`].
const BASELINE_LEVEL: &str = "x86-64-v2";

/// The compiled code could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten;

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the compiled code could not be written")
    }
}

/// A precompiled application that the configuration allows.
pub struct Allowed<'a>(Precompiled<'a>);

impl<'a> Allowed<'a> {
    /// The application, if it is a precompiled one.
    ///
    /// # Errors
    /// When it is not allowed, is damaged, or was compiled for another use.
    pub fn of(
        configuration: &Configuration,
        application: &'a [u8],
    ) -> wasmtime::Result<Option<Self>> {
        if !is_precompiled(application) {
            return Ok(None);
        }
        wasmtime::ensure!(
            configuration.precompiled,
            "it is precompiled: native code, which only the virtual machine confines; `enarx run` and `enarx serve` \
             take it with --allow-precompiled"
        );
        let precompiled = Precompiled::decode(application)?;
        let turns = configuration.serve.as_ref().is_some_and(serve::takes_turns);
        match (precompiled.facts.turns, turns) {
            (false, true) => wasmtime::bail!(
                "`enarx serve --timeout` needs requests that take turns: compile it again with `enarx compile --turns`"
            ),
            (true, false) => wasmtime::bail!(
                "it was compiled with --turns, which is for `enarx serve --timeout` alone: compile it again without"
            ),
            _ => Ok(Some(Self(precompiled))),
        }
    }

    /// The facts that its engine depends on.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Loads a core module.
    ///
    /// # Errors
    /// When it was compiled for another engine.
    pub fn module(&self, engine: &Engine) -> wasmtime::Result<Module> {
        // SAFETY: the digests show that these are the bytes that a compiler wrote, and the author of the configuration
        // vouches that this compiler was Wasmtime's, or that the virtual machine alone confines the code. Wasmtime
        // checks version, CPU and settings.
        unsafe { Module::deserialize(engine, self.0.code) }.map_err(|error| unfit(&error))
    }

    /// Loads a component.
    ///
    /// # Errors
    /// As [`Self::module`].
    pub fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: as for a module.
        unsafe { Component::deserialize(engine, self.0.code) }.map_err(|error| unfit(&error))
    }
}

fn unfit(error: &wasmtime::Error) -> wasmtime::Error {
    wasmtime::format_err!(
        "it was compiled for another version, CPU or settings ({error:#}): compile it again with `enarx compile`, for other \
         CPUs than this one with `--target-cpu {BASELINE}`"
    )
}

/// The facts about an application that is WebAssembly.
///
/// # Errors
/// When it is not.
pub fn facts(application: &[u8], turns: bool) -> wasmtime::Result<Facts> {
    let component = matches!(form(application)?, Form::Component);
    Ok(Facts {
        component,
        joined: segments::has_many(application),
        turns,
        concurrent: component && concurrency::is_used(application),
        memory: segments::largest_memory(application),
        table: segments::largest_table(application),
    })
}

/// Compiles an application with the settings that it would run with, and writes its precompiled form.
///
/// # Errors
/// If it cannot be compiled; [`Unwritten`] with the reason if it cannot be written.
pub fn compile(
    ground: &dyn EngineEnvironment,
    application: &[u8],
    wish: &Compile,
    to: &Output,
) -> wasmtime::Result<()> {
    wasmtime::ensure!(!is_precompiled(application), "it is compiled already");
    room::check(ground, application)?;
    let facts = facts(application, wish.turns)?;
    let mut config = engine::settings(&facts);
    config.parallel_compilation(engine::parallel(application.len(), ground)?);
    if let Some(cpu) = &wish.cpu {
        aim(&mut config, cpu)?;
    }
    // The Keep ends when the code is written: to give memory back piece by piece is only a cost.
    let engine = ManuallyDrop::new(Engine::new(&config)?);
    let code = if facts.component {
        engine.precompile_component(application)
    } else {
        engine.precompile_module(application)
    };
    let code = ManuallyDrop::new(code.map_err(room::explained)?);
    let head = Precompiled::new(facts, application, &code).head();
    for part in [&head[..], &code] {
        to.write_all(part).context(Unwritten)?;
    }
    to.flush().context(Unwritten)
}

/// Has code compiled for a CPU by its name.
fn aim(config: &mut Config, cpu: &str) -> wasmtime::Result<()> {
    wasmtime::ensure!(
        CPUS.contains(&cpu),
        "{cpu} is not a CPU that code can be compiled for: use {}",
        CPUS.join(", ")
    );
    let preset = if cpu == BASELINE { BASELINE_LEVEL } else { cpu };
    config.target(TARGET)?;
    // SAFETY: each of these names stands for features of CPUs, and for no other setting; whatever loads the code checks that
    // its CPU has them.
    unsafe { config.cranelift_flag_enable(preset) };
    Ok(())
}
