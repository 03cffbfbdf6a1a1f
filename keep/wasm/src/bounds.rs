// SPDX-License-Identifier: Apache-2.0

//! Bounds on what the runtime holds for an instance, in addition to its memories and tables: handles, their
//! bytes, and the data that one call passes. An instance that exceeds a bound ends, and the Keep continues.
//!
//! A handle is a resource, a stream, a future, a task or a set of these. Wasmtime counts the handles of an instance,
//! and the bytes that a call copies out of a memory; an `Allowance` of [`Limits`] counts the bytes that stay. Each
//! bound is far above the needs of programs. Its memory is reserved before an instance begins, or taken from the common
//! budget.

use enarx_configuration::Limits as Configured;
use enarx_wasi::budget::{Budget, Full};
use wasmtime::Store;

use crate::ground::reserved;
use crate::limits::Limits;

/// Fewest and most handles of an instance of a server; between these, as many as a part in 512 of the memory pays. A hundred and
/// seventy requests to other servers at once have the most, with their bodies, headers and what is waited for. They are paid for
/// each instance, and of these there are a hundred at a time.
const SERVER_HANDLES: (u64, u64) = (256, 1024);

/// Most handles of a command: Wasmtime's default.
const COMMAND_HANDLES: usize = 100_000;

/// Memory that is counted for a handle, in bytes, in addition to its data: its entries in two tables, which double when
/// they grow, and a small object. The largest are streams, of which each has two.
const HANDLE_MEMORY: u64 = 512;

/// Fewest and most bytes that one instance of a server may hold; between these, an eighth of the memory. A thousand bodies that
/// are written at once are 64 MiB, and five hundred sets of headers of the largest size.
const HELD: (u64, u64) = (4 << 20, 64 << 20);

/// Fewest and most bytes that a call may pass. Streams move 64 KiB at a time, and headers have at most 128 KiB; a file
/// written with one call is passed as a whole. The maximum is Wasmtime's default.
const CALL: (u64, u64) = (1 << 20, 128 << 20);

/// The bounds of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    handles: usize,
    /// Bytes.
    call: u64,
    /// Bytes.
    held: u64,
}

impl Bounds {
    /// Those of an instance of a server with so much memory and so many threads.
    pub fn of_server(memory: u64, threads: usize) -> Self {
        let (least, most) = CALL;
        let (fewest, all) = HELD;
        let (few, many) = SERVER_HANDLES;
        let handles = (memory / 512 / HANDLE_MEMORY).clamp(few, many);
        let threads = (threads as u64).max(1);
        Self {
            handles: usize::try_from(handles).unwrap_or(usize::MAX),
            call: (memory / 32 / threads).clamp(least, most),
            held: (memory / 8).clamp(fewest, all),
        }
    }

    /// Those of a command, which has all of this memory. Its handles are paid by what stays with the runtime.
    pub fn of_command(memory: u64) -> Self {
        let (least, most) = CALL;
        let handles = reserved(memory) / HANDLE_MEMORY;
        Self {
            handles: usize::try_from(handles).map_or(COMMAND_HANDLES, |it| it.min(COMMAND_HANDLES)),
            call: (memory / 4).clamp(least, most),
            held: u64::MAX,
        }
    }

    /// Bytes for the calls of this many threads: a call's data exists until it returns, and a waiting call takes its
    /// memory from the budget.
    pub fn calls(&self, threads: usize) -> u64 {
        self.call.saturating_mul(threads as u64)
    }

    /// Most bytes that a call passes; its answer has the same limit.
    pub fn call(&self) -> u64 {
        self.call
    }

    /// The limits of an instance of a server, whose handles are paid out of `budget`; `None` if there is not enough.
    pub fn limits(&self, configured: &Configured, budget: &Budget) -> Option<Limits> {
        let mut limits = Limits::new(configured, budget.clone(), self.held);
        let handles = HANDLE_MEMORY.saturating_mul(self.handles as u64);
        limits.take(handles).then_some(limits)
    }

    /// Has a store keep them.
    pub fn apply<T>(&self, store: &mut Store<T>) {
        store.set_max_component_handles(self.handles);
        store.set_hostcall_fuel(usize::try_from(self.call).unwrap_or(usize::MAX));
    }
}

/// The end of an instance that went beyond its bounds, in a sentence; `None` if it ended by something else.
pub fn exceeded(error: &wasmtime::Error) -> Option<String> {
    if let Some(full) = error.downcast_ref::<Full>() {
        return Some(full.to_string());
    }
    // As Wasmtime writes it: it has no types for them.
    let cause = error.root_cause().to_string();
    if cause.contains("handle limit exceeded") {
        return Some(
            "it has more handles of resources, streams, futures and tasks than a program may have"
                .to_owned(),
        );
    }
    cause
        .contains("fuel allocated for hostcalls has been exhausted")
        .then(|| "it hands over more in one call than there is memory for".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::StoreContextMut;
    use wasmtime::component::{Component, Linker};

    const MIB: u64 = 1 << 20;

    #[test]
    fn bounds_follow_the_memory() {
        let small = Bounds::of_server(40 * MIB, 4);
        assert_eq!(small.handles, 256);
        assert_eq!((small.call, small.held), (MIB, 5 * MIB));
        assert_eq!(small.calls(4), 4 * MIB);
        let large = Bounds::of_server(4096 * MIB, 2);
        assert_eq!(large.handles, 1024);
        assert_eq!((large.call, large.held), (64 * MIB, 64 * MIB));
        let command = Bounds::of_command(480 * MIB);
        assert_eq!((command.handles, command.call), (61_440, 120 * MIB));
        assert_eq!(Bounds::of_command(u64::MAX).handles, COMMAND_HANDLES);
    }

    #[test]
    fn handles_count_against_an_instance_until_it_ends() {
        let bounds = Bounds::of_server(256 * MIB, 1);
        let budget = Budget::new(MIB);
        let two = [(); 2].map(|()| bounds.limits(&Configured::default(), &budget).unwrap());
        assert!(bounds.limits(&Configured::default(), &budget).is_none());
        drop(two);
        assert!(budget.take(MIB));
    }

    /// The error with which the function `run` of a component ends, within these bounds.
    fn ended(text: &str, handles: usize, call: u64) -> wasmtime::Error {
        let engine = wasmtime::Engine::default();
        let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let mut linker = Linker::new(&engine);
        let take = |_: StoreContextMut<'_, ()>, (_,): (Vec<u8>,)| Ok(());
        linker.root().func_wrap("take", take).unwrap();
        let mut store = Store::new(&engine, ());
        let held = u64::MAX;
        Bounds {
            handles,
            call,
            held,
        }
        .apply(&mut store);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let run = instance
            .get_typed_func::<(), ()>(&mut store, "run")
            .unwrap();
        run.call(&mut store, ()).unwrap_err()
    }

    /// Wasmtime has no types for these errors: a version that words them otherwise is noticed here.
    #[test]
    fn the_messages_of_wasmtime_are_recognized() {
        let hoards = ended(
            r#"(component
                (type $r (resource (rep i32)))
                (core func $new (canon resource.new $r))
                (core module $m
                    (import "" "new" (func $new (param i32) (result i32)))
                    (func (export "run")
                        (loop (drop (call $new (i32.const 0))) (br 0))))
                (core instance $i (instantiate $m
                    (with "" (instance (export "new" (func $new))))))
                (func (export "run") (canon lift (core func $i "run"))))"#,
            100,
            MIB,
        );
        let lends = ended(
            r#"(component
                (type $r' (resource (rep i32)))
                (export $r "r" (type $r'))
                (core func $new (canon resource.new $r'))
                (core module $inner (func (export "use") (param i32)))
                (core instance $inner (instantiate $inner))
                (func $use (param "it" (borrow $r)) (canon lift (core func $inner "use")))
                (core func $use' (canon lower (func $use)))
                (core module $m
                    (import "" "new" (func $new (param i32) (result i32)))
                    (import "" "use" (func $use (param i32)))
                    (func (export "run") (call $use (call $new (i32.const 0)))))
                (core instance $i (instantiate $m (with "" (instance
                    (export "new" (func $new))
                    (export "use" (func $use'))))))
                (func (export "run") (canon lift (core func $i "run"))))"#,
            1,
            MIB,
        );
        for error in [hoards, lends] {
            let told = exceeded(&error).unwrap_or_else(|| panic!("{error:?}"));
            assert!(told.contains("handles"), "{told}");
        }
        let hands_over = ended(
            r#"(component
                (import "take" (func $take (param "bytes" (list u8))))
                (core module $memory (memory (export "memory") 1))
                (core instance $memory (instantiate $memory))
                (core func $take (canon lower (func $take)
                    (memory (core memory $memory "memory"))))
                (core module $m
                    (import "" "take" (func $take (param i32 i32)))
                    (func (export "run") (call $take (i32.const 0) (i32.const 65536))))
                (core instance $i (instantiate $m
                    (with "" (instance (export "take" (func $take))))))
                (func (export "run") (canon lift (core func $i "run"))))"#,
            100,
            65_535,
        );
        let told = exceeded(&hands_over).unwrap_or_else(|| panic!("{hands_over:?}"));
        assert!(told.contains("one call"), "{told}");
    }

    #[test]
    fn exceeded_bounds_are_recognized() {
        let told = |error: wasmtime::Error| exceeded(&error.context("failed"));
        let full = Full::Allowance(4 * MIB);
        assert_eq!(told(full.into()), Some(full.to_string()));
        assert_eq!(told(wasmtime::format_err!("else")), None);
    }
}
