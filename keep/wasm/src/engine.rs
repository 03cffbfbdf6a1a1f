// SPDX-License-Identifier: Apache-2.0

//! The engine's configuration.

use std::sync::OnceLock;

use enarx_configuration::Limits;
use enarx_configuration::precompiled::Facts;
use wasmtime::{Config, Engine, OptLevel};

use crate::ground::EngineEnvironment;
use crate::pool::Pool;

/// From this size of an application on, in bytes, several threads compile it: below, starting them
/// costs more than they save.
const PARALLEL_FROM: usize = 96 * 1024;

/// Largest stack that may be requested, in bytes; half of the main thread's stack in a Keep.
const STACK_MAX: usize = 4 << 20;

/// Stack of the fiber that a component runs on, beyond the WebAssembly stack, in bytes.
const HOST_STACK: usize = 1 << 20;

/// WebAssembly stack of a server's instance unless it is said, in bytes: Wasmtime's default.
const WASM_STACK: usize = 512 << 10;

/// Creates the engine for an application, for this ground. The instances of a server come from a pool.
/// `compiled` is the size of the code to compile, in bytes.
///
/// # Errors
/// If the limits are out of range or the CPU lacks features that the compiler needs.
pub fn engine(
    limits: &Limits,
    facts: &Facts,
    ground: &dyn EngineEnvironment,
    pool: Option<&Pool>,
    compiled: usize,
) -> wasmtime::Result<Engine> {
    let mut config = settings(facts);
    config.parallel_compilation(parallel(compiled, ground)?);
    if let Some(bytes) = limits.max_wasm_stack {
        let bytes = usize::try_from(bytes)
            .ok()
            .filter(|bytes| (1..=STACK_MAX).contains(bytes))
            .ok_or_else(|| {
                wasmtime::format_err!("the stack limit must be 1 to {STACK_MAX} bytes, not {bytes}")
            })?;
        config.max_wasm_stack(bytes);
        config.async_stack_size(bytes + HOST_STACK);
    }
    if let Some(pool) = pool {
        config.allocation_strategy(pool.strategy());
        if limits.max_wasm_stack.is_none() {
            config.async_stack_size(WASM_STACK + HOST_STACK);
        }
    }
    Engine::new(&config)
}

/// The settings that compiled code depends on: the same for code that is executed at once and for code that is kept.
pub fn settings(facts: &Facts) -> Config {
    let mut config = Config::new();
    config
        // Guard pages and trapping instructions are what makes WebAssembly fast.
        .signals_based_traps(true)
        .memory_reservation(4 << 30)
        // Whole GiB before and after each memory: a reservation is a few entries of one page table.
        .memory_guard_size(1 << 30)
        // Joins the segments of a memory to an image. There is no memory file in a Keep (Wasmtime asks for
        // one, and is refused), so the image is copied.
        .memory_init_cow(facts.joined)
        .cranelift_opt_level(OptLevel::Speed)
        // Frames of the compiled code are walked by frame pointers; nobody else unwinds it.
        .native_unwind_info(false)
        .concurrency_support(facts.concurrent)
        // Only for servers: a computing request yields to others, and its time limit is checked.
        .consume_fuel(facts.turns);
    config
}

/// True if several threads are to compile; starts them.
pub fn parallel(size: usize, ground: &dyn EngineEnvironment) -> wasmtime::Result<bool> {
    Ok(size >= PARALLEL_FROM && threads(ground)? > 1)
}

/// The threads of this Keep's processors, as the global pool of rayon: they compile, and run a server's
/// instances. Started at the first request; the caller is one of them. Returns their number.
///
/// # Errors
/// When the system gives no threads.
pub fn threads(ground: &dyn EngineEnvironment) -> wasmtime::Result<usize> {
    static STARTED: OnceLock<()> = OnceLock::new();
    let threads = ground.processors().get();
    if threads > 1 && STARTED.set(()).is_ok() {
        ground.prepare_threads();
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .use_current_thread()
            .build_global()
            .map_err(|error| {
                wasmtime::format_err!("the threads of the Keep could not be started: {error}")
            })?;
    }
    Ok(threads)
}
