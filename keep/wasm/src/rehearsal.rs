// SPDX-License-Identifier: Apache-2.0

//! A run of a tiny module before the application arrives, so that the application's start
//! finds the compiler's pages and tables in memory. Everything that it creates is dropped,
//! and the application sees nothing of it.
//!
//! Trusted; the module is this file's own.

use enarx_configuration::Limits;
use enarx_configuration::precompiled::Facts;
use wasmtime::{Caller, Linker, Module, Store};

use crate::engine;
use crate::ground::EngineEnvironment;

/// A module with a few features of every program: memory, data, a loop, an import, an
/// export. The test has it as text.
const TEST_MODULE: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x09\x02\x60\x01\x7f\x00\x60\x00\x01\x7f\
    \x02\x12\x01\x09rehearsal\x04note\x00\x00\
    \x03\x02\x01\x01\
    \x05\x03\x01\x00\x01\
    \x07\x07\x01\x03run\x00\x01\
    \x0a\x25\x01\x23\x01\x02\x7f\
    \x03\x40\x20\x01\x20\x00\x2d\x00\x08\x6a\x21\x01\
    \x20\x00\x41\x01\x6a\x22\x00\x41\x09\x49\x0d\x00\x0b\
    \x20\x01\x10\x00\x20\x01\x0b\
    \x0b\x0f\x01\x00\x41\x08\x0b\x09rehearsal";

/// Compiles and runs a module as [`crate::run`] would run an application that sets no limits.
///
/// # Errors
/// When the engine cannot run anything here; the application's run will say the same.
pub fn rehearse(ground: &dyn EngineEnvironment) -> wasmtime::Result<()> {
    let facts = Facts {
        component: false,
        joined: false,
        turns: false,
        concurrent: false,
        memory: 1 << 16,
        table: 0,
    };
    let engine = engine::engine(&Limits::default(), &facts, ground, None, TEST_MODULE.len())?;
    let module = Module::new(&engine, TEST_MODULE)?;
    let mut store = Store::new(&engine, 0_i32);
    let mut linker = Linker::new(&engine);
    let note = |mut caller: Caller<'_, i32>, sum: i32| *caller.data_mut() = sum;
    linker.func_wrap("rehearsal", "note", note)?;
    let instance = linker.instantiate(&mut store, &module)?;
    let run = instance.get_typed_func::<(), i32>(&mut store, "run")?;
    let sum = run.call(&mut store, ())?;
    wasmtime::ensure!(
        sum == *store.data(),
        "the engine computes wrongly on this machine"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZero;

    const TEXT: &str = r#"(module
        (import "rehearsal" "note" (func (param i32)))
        (memory 1)
        (data (i32.const 8) "rehearsal")
        (func (export "run") (result i32)
            (local i32 i32)
            (loop
                (local.set 1 (i32.add (local.get 1) (i32.load8_u offset=8 (local.get 0))))
                (br_if 0 (i32.lt_u
                    (local.tee 0 (i32.add (local.get 0) (i32.const 1)))
                    (i32.const 9))))
            (call 0 (local.get 1))
            (local.get 1)))"#;

    struct Desk;

    impl EngineEnvironment for Desk {
        fn free_memory(&self) -> u64 {
            1 << 30
        }

        fn release_heap(&self) {}

        fn processors(&self) -> NonZero<usize> {
            NonZero::<usize>::MIN
        }
    }

    #[test]
    fn the_module_matches_its_text() {
        assert_eq!(wat::parse_str(TEXT).unwrap(), TEST_MODULE);
    }

    #[test]
    fn the_module_runs_repeatedly() {
        for _ in 0..2 {
            rehearse(&Desk).unwrap();
        }
    }
}
