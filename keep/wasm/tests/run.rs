// SPDX-License-Identifier: Apache-2.0

//! Whole runs of core modules and components: output, exit codes, and one clear sentence for
//! everything that cannot run.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use enarx_configuration::precompiled::{HEAD, Precompiled};
use enarx_configuration::{Compile, Configuration, Limits, Listen, Serve};
use enarx_sallyport_host::{InProcess, World};
use enarx_wasi::context::Surroundings;
use enarx_wasm::{EngineEnvironment, Timings, run};
use rustix::net::sockopt::{set_socket_reuseaddr, socket_acceptconn};
use rustix::net::{AddressFamily, Shutdown, SocketType, bind, getsockname, shutdown, socket};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Free memory of the Keep, in bytes.
struct Memory(u64);

impl EngineEnvironment for Memory {
    fn free_memory(&self) -> u64 {
        self.0
    }

    fn release_heap(&self) {}

    fn processors(&self) -> NonZero<usize> {
        NonZero::new(2).unwrap()
    }
}

struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

fn run_with(application: &[u8], configuration: &Configuration, memory: u64) -> Outcome {
    let (port, host) = InProcess::start(World::default());
    let mut timings = Timings::start();
    if !configuration.timings {
        timings.silence();
    }
    let ground: Arc<dyn EngineEnvironment> = Arc::new(Memory(memory));
    let surroundings = Surroundings::default();
    let end = run(
        &port,
        &ground,
        configuration,
        application,
        surroundings,
        &mut timings,
    );
    Outcome {
        code: end.code,
        stdout: String::from_utf8(host.stdout()).unwrap(),
        stderr: String::from_utf8(host.stderr()).unwrap(),
    }
}

fn configuration(args: &[&str]) -> Configuration {
    Configuration {
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..Configuration::default()
    }
}

fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn run_text(text: &str) -> Outcome {
    run_with(&module(text), &configuration(&["app.wasm"]), 1 << 30)
}

fn invoke(text: &str, name: &str, args: &[&str]) -> Outcome {
    let mut configuration = configuration(&[&["app.wasm"], args].concat());
    configuration.invoke = Some(name.to_owned());
    run_with(&module(text), &configuration, 1 << 30)
}

fn example(name: &str) -> Vec<u8> {
    std::fs::read(format!(
        "{}/../../examples/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

#[test]
fn hello_in_both_forms() {
    for (name, text) in [
        ("hello.wasm", "Hello, world!\n"),
        ("hello-component.wasm", "Hello, component!\n"),
    ] {
        let outcome = run_with(&example(name), &configuration(&[name]), 1 << 30);
        assert_eq!(outcome.stderr, "");
        assert_eq!(outcome.stdout, text);
        assert_eq!(outcome.code, 0);
    }
}

#[test]
fn the_examples_are_built_from_their_sources() {
    for name in ["hello", "hello-component"] {
        let source = String::from_utf8(example(&format!("{name}.wat"))).unwrap();
        assert!(
            module(&source) == example(&format!("{name}.wasm")),
            "{name}"
        );
    }
}

#[test]
fn a_trap_prints_message_and_backtrace() {
    let outcome =
        run_text(r#"(module (func $inner unreachable) (func (export "_start") (call $inner)))"#);
    assert_eq!(outcome.code, 134);
    let lines: Vec<_> = outcome.stderr.lines().map(str::trim).collect();
    assert_eq!(lines[0], "Error: failed to run main module `app.wasm`");
    assert_eq!(lines[2], "Caused by:");
    assert_eq!(lines[3], "0: failed to invoke command default");
    assert!(lines[4].starts_with("1: error while executing at wasm backtrace:"));
    assert!(lines[5].ends_with("<unknown>!inner"), "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains("wasm trap: wasm `unreachable` instruction executed")
    );
}

#[test]
fn traps_of_the_processor_are_distinguished() {
    for (body, message) in [
        (
            "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
            "integer divide by zero",
        ),
        (
            "(drop (i32.load (i32.const -1)))",
            "out of bounds memory access",
        ),
        (
            "(call_indirect (i32.const 5))",
            "undefined element: out of bounds table access",
        ),
        ("(call 0)", "call stack exhausted"),
    ] {
        let text =
            format!(r#"(module (memory 1) (table 1 funcref) (func (export "_start") {body}))"#);
        let outcome = run_text(&text);
        assert_eq!(outcome.code, 134);
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    }
}

#[test]
fn output_before_a_trap_is_not_lost() {
    let outcome = run_text(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
              (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\08\00\00\00\04\00\00\00last")
            (func (export "_start")
              (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
              unreachable))"#,
    );
    assert_eq!((outcome.code, outcome.stdout.as_str()), (134, "last"));
}

#[test]
fn much_output_arrives_whole_and_in_order() {
    let outcome = run_text(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
              (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 64)
            (data (i32.const 0) "\00\01\00\00\00\00\30\00")
            (func (export "_start")
              (memory.fill (i32.const 256) (i32.const 97) (i32.const 0x300000))
              (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
              (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))))"#,
    );
    assert_eq!(outcome.code, 0);
    assert!(outcome.stdout == "a".repeat(0x30_0000));
    assert!(outcome.stderr == "a".repeat(0x30_0000));
}

/// Asserts that an application is refused in a sentence with this reason.
fn refused(application: &[u8], reason: &str) {
    let outcome = run_with(application, &configuration(&["app.wasm"]), 1 << 30);
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.stdout, "");
    assert!(
        outcome
            .stderr
            .starts_with("enarx: failed to run main module `app.wasm`: "),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
}

#[test]
fn an_unrunnable_program_is_refused_in_one_sentence() {
    refused(b"", "not a WebAssembly file");
    refused(b"#!/bin/sh\n", "not a WebAssembly file");
    refused(
        b"\0asm\x09\0\0\0",
        "not a WebAssembly file of a known version",
    );
    refused(b"\0asm\x01\0\0\0\xff", "failed to parse WebAssembly module");
    refused(
        &module(r#"(module (import "env" "missing" (func)))"#),
        "unknown import: `env::missing` has not been defined",
    );
    refused(
        &module(r#"(module (import "wasi_snapshot_preview1" "no_such" (func)))"#),
        "unknown import: `wasi_snapshot_preview1::no_such` has not been defined",
    );
    refused(
        &module(r#"(module (import "wasi_snapshot_preview1" "fd_close" (func)))"#),
        "incompatible import type for `wasi_snapshot_preview1::fd_close`",
    );
    refused(
        &module(r#"(module (import "env" "missing" (func)))"#),
        "it imports missing of env, but modules are given only wasi_snapshot_preview1: ",
    );
    for threads in [
        r#"(module (import "wasi" "thread-spawn" (func (param i32) (result i32))))"#,
        r#"(module (import "env" "memory" (memory 1 2 shared)))"#,
        r#"(module (memory 1 2 shared) (func (export "_start")))"#,
    ] {
        refused(
            &module(threads),
            "it needs threads (wasi-threads, shared memory), which Keeps do not have",
        );
    }
    refused(
        &module(r#"(module (import "wasi_unstable" "proc_exit" (func (param i32))))"#),
        "rebuild it for WASI preview 1: ",
    );
    refused(
        &module("(component)"),
        "there is nothing to start: it exports no wasi:cli/run: ",
    );
    refused(
        &module(COMPONENT),
        "it exports no wasi:cli/run; call a function with --invoke: add: ",
    );
    refused(
        &module(r#"(component (import "other:api/thing@1.0.0" (instance (export "f" (func)))))"#),
        "it needs other:api/thing@1.0.0, which Keeps do not have: components are given wasi:cli, ",
    );
    for (interface, wanted) in [
        (
            "wasi:cli/environment@0.4.0",
            ", and Keeps have WASI 0.2 and 0.3.0: rebuild it for one of them: ",
        ),
        (
            "wasi:sockets/tcp@0.2.0-rc-2023-11-10",
            ", and Keeps have WASI 0.2 and 0.3.0: rebuild it for one of them: ",
        ),
        (
            "wasi:clocks/timezone@0.2.0",
            ", which Keeps do not have: of wasi:clocks 0.2 components are given monotonic-clock, wall-clock: ",
        ),
    ] {
        let component =
            format!(r#"(component (import "{interface}" (instance (export "f" (func)))))"#);
        refused(
            &module(&component),
            &format!("it needs {interface}{wanted}"),
        );
    }
    refused(
        &module(r#"(module (func (export "_start") (param i32)))"#),
        "not enough arguments for `_start`",
    );
}

const ARITHMETIC: &str = r#"(module
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
    (func (export "both") (param i64) (result i64 f32) (local.get 0) (f32.const 1.5))
    (func (export "nothing"))
    (func (export "reference") (param externref))
    (global (export "number") i32 (i32.const 7)))"#;

#[test]
fn invoking_an_exported_function() {
    for (name, args, printed) in [
        ("add", &["3", "-4"][..], "-1\n"),
        ("add", &["0x10", "1"], "17\n"),
        ("half", &["5"], "2.5\n"),
        ("both", &["9000000000"], "9000000000\n1.5\n"),
        ("nothing", &["ignored"], ""),
    ] {
        let outcome = invoke(ARITHMETIC, name, args);
        assert_eq!((outcome.stderr.as_str(), outcome.code), ("", 0));
        assert_eq!(outcome.stdout, printed);
    }
    for (name, args, reason) in [
        (
            "add",
            &["1"][..],
            "not enough arguments for `add`: it takes 2, 1 given",
        ),
        ("add", &["1", "x"], "argument `x` is not of type i32"),
        (
            "missing",
            &[],
            "no func export named `missing` found; it exports add, half, both, nothing, reference",
        ),
        (
            "add(1, 2)",
            &[],
            "arguments follow the program, as in --invoke add PROGRAM ARGUMENT",
        ),
        ("number", &[], "the export `number` is not a function"),
        (
            "reference",
            &["1"],
            "unsupported argument type (ref null extern)",
        ),
    ] {
        let outcome = invoke(ARITHMETIC, name, args);
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.contains(reason), "{}", outcome.stderr);
    }
}

const COMPONENT: &str = r#"(component
    (core module $m (func (export "add") (param i32 i32) (result i32)
        (i32.add (local.get 0) (local.get 1))))
    (core instance $i (instantiate $m))
    (func (export "add") (param "a" u32) (param "b" u32) (result u32)
        (canon lift (core func $i "add"))))"#;

#[test]
fn invoking_a_function_of_a_component() {
    let outcome = invoke(COMPONENT, "add", &["20", "22"]);
    assert_eq!((outcome.stderr.as_str(), outcome.code), ("", 0));
    assert_eq!(outcome.stdout, "42\n");
    let outcome = invoke(COMPONENT, "add", &["20", "many"]);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains("argument `many` does not fit"),
        "{}",
        outcome.stderr
    );
    let outcome = invoke(COMPONENT, "missing", &[]);
    assert!(
        outcome
            .stderr
            .contains("no func export named `missing` found; it exports add")
    );
}

#[test]
fn a_module_without_a_start_function_says_so() {
    let outcome = run_text(ARITHMETIC);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""));
    assert_eq!(
        outcome.stderr,
        "enarx: there is nothing to start: it exports no _start; call a function with --invoke: add, half, both, \
         nothing, reference\n"
    );
    let mut many = String::new();
    for n in 0..10 {
        write!(many, r#"(func (export "f{n}"))"#).unwrap();
    }
    let outcome = run_text(&format!("(module {many})"));
    assert!(
        outcome.stderr.ends_with("f6, f7 and 2 more\n"),
        "{}",
        outcome.stderr
    );
    let outcome = run_text(r#"(module (func (export "_initialize")))"#);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
}

const GROWTH: &str = r#"(module (memory 1)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

#[test]
fn memory_ends_cleanly_at_the_limit_and_with_the_keep() {
    let grow = |pages: &str, limit, free| {
        let mut configuration = configuration(&["app.wasm", pages]);
        configuration.invoke = Some("grow".into());
        configuration.limits = Limits {
            max_memory: limit,
            ..Limits::default()
        };
        run_with(&module(GROWTH), &configuration, free).stdout
    };
    assert_eq!(grow("3", Some(4 << 16), 1 << 30), "1\n");
    assert_eq!(grow("4", Some(4 << 16), 1 << 30), "-1\n");
    // 64 MiB free: 8 MiB are reserved for the runtime.
    assert_eq!(grow("800", None, 64 << 20), "1\n");
    assert_eq!(grow("1000", None, 64 << 20), "-1\n");
    let outcome = run_with(
        &module(r#"(module (memory 1000) (func (export "_start")))"#),
        &configuration(&["app.wasm"]),
        16 << 20,
    );
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.contains(
            "its memory of 63 MiB does not fit in the Keep: give it more with --memory: "
        )
    );
    let mut limited = configuration(&["app.wasm"]);
    limited.limits.max_memory = Some(1 << 20);
    let outcome = run_with(&module("(module (memory 1000))"), &limited, 1 << 30);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome
            .stderr
            .contains("its memory of 63 MiB is more than -W max-memory-size allows: "),
        "{}",
        outcome.stderr
    );
}

#[test]
fn limits_of_tables_and_stack() {
    let table = r#"(module (table 1 funcref)
        (func (export "grow") (param i32) (result i32)
            (table.grow (ref.null func) (local.get 0))))"#;
    let mut limited = configuration(&["app.wasm", "10"]);
    limited.invoke = Some("grow".into());
    limited.limits.max_table_elements = Some(10);
    assert_eq!(run_with(&module(table), &limited, 1 << 30).stdout, "-1\n");
    limited.limits.max_table_elements = Some(11);
    assert_eq!(run_with(&module(table), &limited, 1 << 30).stdout, "1\n");
    limited.limits.max_wasm_stack = Some(1 << 40);
    let outcome = run_with(&module(table), &limited, 1 << 30);
    assert!(
        outcome.stderr.contains("the stack limit must be"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn timings_are_printed_on_request() {
    let mut configuration = configuration(&["hello.wasm"]);
    configuration.timings = true;
    let outcome = run_with(&example("hello.wasm"), &configuration, 1 << 30);
    for phase in ["compile", "instantiate", "run"] {
        let line = format!("enarx-runtime: {phase} ");
        assert!(outcome.stderr.contains(&line), "{}", outcome.stderr);
    }
}

/// The precompiled form of an application.
fn compiled(application: &[u8], compile: Compile) -> Vec<u8> {
    let configuration = Configuration {
        compile: Some(compile),
        ..configuration(&["app.wasm"])
    };
    let (port, host) = InProcess::start(World::default());
    let mut timings = Timings::start();
    timings.silence();
    let ground: Arc<dyn EngineEnvironment> = Arc::new(Memory(1 << 30));
    let surroundings = Surroundings::default();
    let end = run(
        &port,
        &ground,
        &configuration,
        application,
        surroundings,
        &mut timings,
    );
    assert_eq!(end.code, 0, "{}", String::from_utf8_lossy(&host.stderr()));
    host.stdout()
}

/// A run that allows precompiled code.
fn run_compiled(application: &[u8]) -> Outcome {
    let allowing = Configuration {
        precompiled: true,
        ..configuration(&["app.cwasm"])
    };
    run_with(application, &allowing, 1 << 30)
}

/// A precompiled application with a word of its code changed, and matching digests: no damage does this.
fn forged(application: &[u8], old: &str, new: &str) -> Vec<u8> {
    let parts = Precompiled::decode(application).unwrap();
    let places = parts.code.windows(old.len());
    let place = places.clone().position(|it| it == old.as_bytes());
    let place = place.unwrap_or_else(|| panic!("`{old}` is not in the code"));
    let mut code = parts.code.to_vec();
    code[place..place + new.len()].copy_from_slice(new.as_bytes());
    let parts = Precompiled {
        code: &code,
        ..parts
    };
    [&parts.head()[..], &code].concat()
}

#[test]
fn precompiled_code_does_what_its_webassembly_does() {
    for name in ["hello.wasm", "hello-component.wasm"] {
        let application = example(name);
        let plain = run_with(&application, &configuration(&["app.wasm"]), 1 << 30);
        for cpu in [None, Some("baseline"), Some("x86-64-v3")] {
            let compile = Compile {
                cpu: cpu.map(str::to_owned),
                turns: false,
            };
            let outcome = run_compiled(&compiled(&application, compile));
            assert_eq!(
                (outcome.code, outcome.stdout, outcome.stderr),
                (plain.code, plain.stdout.clone(), plain.stderr.clone()),
                "{name} {cpu:?}"
            );
        }
    }
    // The engine's settings follow the application: its segments are joined, or not.
    let mut text = String::from("(memory 1)");
    for index in 0..40 {
        let _ = write!(text, "(data (i32.const {index}) \"a\")");
    }
    let text = format!(
        "(module {text} (func (export \"_start\") (if (i32.ne (i32.load8_u (i32.const 39)) (i32.const 97)) (then unreachable))))"
    );
    let outcome = run_compiled(&compiled(&module(&text), Compile::default()));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    // A trap has its code and its location.
    let trap = module("(module (func $deep (export \"_start\") unreachable))");
    let outcome = run_compiled(&compiled(&trap, Compile::default()));
    assert_eq!(outcome.code, 134);
    assert!(outcome.stderr.contains("deep"), "{}", outcome.stderr);
}

#[test]
fn precompiled_code_that_is_not_allowed_or_damaged_is_refused() {
    let whole = compiled(&example("hello.wasm"), Compile::default());
    let outcome = run_with(&whole, &configuration(&["app.cwasm"]), 1 << 30);
    assert_eq!(outcome.code, 1);
    for words in ["native code", "--allow-precompiled"] {
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
    let head = (8..HEAD + 64).map(|place| {
        let mut altered = whole.clone();
        altered[place] ^= 0x40;
        altered
    });
    let cuts = [
        9,
        HEAD - 1,
        HEAD,
        HEAD + 1,
        whole.len() / 2,
        whole.len() - 1,
    ];
    let cuts = cuts.map(|length| whole[..length].to_vec());
    for bytes in head.chain(cuts) {
        let outcome = run_compiled(&bytes);
        assert_eq!((outcome.code, &*outcome.stdout), (1, ""));
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        assert!(
            outcome.stderr.contains("compile it again"),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn precompiled_code_of_another_version_cpu_or_use_is_refused_in_a_sentence() {
    let for_v2 = Compile {
        cpu: Some("baseline".to_owned()),
        turns: false,
    };
    let code = compiled(&example("hello.wasm"), for_v2);
    for (forged, words) in [
        // A text of two bytes.
        (forged(&code, "\x0248", "\x0238"), "version '38'"),
        (forged(&code, "has_sse42", "has_sse49"), "has_sse49"),
        (forged(&code, "\x7fELF", "\x7fELV"), "ELF"),
    ] {
        let outcome = run_compiled(&forged);
        assert_eq!(outcome.code, 1);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        for words in ["another version, CPU or settings", words, "--target-cpu"] {
            assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        }
    }
    let turns = Compile {
        cpu: None,
        turns: true,
    };
    let outcome = run_compiled(&compiled(&example("hello.wasm"), turns));
    assert!(outcome.stderr.contains("--turns"), "{}", outcome.stderr);
    let serving = Configuration {
        precompiled: true,
        serve: Some(Serve {
            timeout: Some(1000),
            ..Serve::default()
        }),
        ..configuration(&["app.cwasm"])
    };
    let outcome = run_with(&code, &serving, 1 << 30);
    assert!(outcome.stderr.contains("--turns"), "{}", outcome.stderr);
    // Only WebAssembly is compiled, for a CPU that has a name here.
    for (application, cpu, words) in [
        (&code, None, "compiled already"),
        (
            &example("hello.wasm"),
            Some("enable_pinned_reg"),
            "use baseline, ",
        ),
    ] {
        let compiling = Configuration {
            compile: Some(Compile {
                cpu: cpu.map(str::to_owned),
                turns: false,
            }),
            ..configuration(&["app.wasm"])
        };
        let outcome = run_with(application, &compiling, 1 << 30);
        assert_eq!((outcome.code, &*outcome.stdout), (1, ""));
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
}

/// A command of WASI 0.3 whose function is lifted synchronously, and returns this result.
fn newer_command(result: u32) -> Vec<u8> {
    module(&format!(
        r#"(component
            (core module $m (func (export "run") (result i32) (i32.const {result})))
            (core instance $i (instantiate $m))
            (type $run (func async (result (result))))
            (func $f (type $run) (canon lift (core func $i "run")))
            (instance $r (export "run" (func $f)))
            (export "wasi:cli/run@0.3.0" (instance $r)))"#
    ))
}

/// A function that is lifted asynchronously: it waits for nothing, and returns its argument by `task.return`.
const ASYNCHRONOUS: &str = r#"(component
    (core func $return (canon task.return (result u32)))
    (core module $m
        (import "" "return" (func $return (param i32)))
        (func (export "same") (param i32) (result i32)
            (call $return (local.get 0))
            (i32.const 0))
        (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $m
        (with "" (instance (export "return" (func $return))))))
    (func (export "same") async (param "a" u32) (result u32)
        (canon lift (core func $i "same") async (callback (core func $i "callback")))))"#;

#[test]
fn commands_of_0_3_run_and_asynchronous_functions_can_be_invoked() {
    for (result, code) in [(0, 0), (1, 1)] {
        let command = newer_command(result);
        let outcome = run_with(&command, &configuration(&["app.wasm"]), 1 << 30);
        assert_eq!((outcome.code, &*outcome.stderr), (code, ""));
        let outcome = run_compiled(&compiled(&command, Compile::default()));
        assert_eq!((outcome.code, &*outcome.stderr), (code, ""));
    }
    let outcome = invoke(ASYNCHRONOUS, "same", &["7"]);
    assert_eq!(
        (outcome.code, &*outcome.stdout, &*outcome.stderr),
        (0, "7\n", "")
    );
    let outcome = invoke(ASYNCHRONOUS, "same", &["seven"]);
    assert!(outcome.stderr.contains("`seven`"), "{}", outcome.stderr);
}

#[test]
fn missing_parts_of_0_3_are_named() {
    for (text, words) in [
        (
            r#"(component (import "wasi:sockets/tcp@0.3.0" (instance)))"#,
            [
                "wasi:sockets/tcp@0.3.0",
                "wasi:cli, wasi:clocks, wasi:filesystem, wasi:http, wasi:random, wasi:sockets",
            ],
        ),
        (
            r#"(component (import "wasi:http/handler@0.3.0" (instance)))"#,
            ["wasi:http/handler@0.3.0", "of WASI 0.2"],
        ),
        (
            r#"(component (import "wasi:cli/stdout@0.3.0-rc-2026-03-15" (instance)))"#,
            ["wasi:cli/stdout@0.3.0-rc-2026-03-15", "a draft"],
        ),
        (
            r#"(component (instance $i) (export "wasi:http/handler@0.3.0" (instance $i)))"#,
            ["wasi:http/handler", "use `enarx serve`"],
        ),
    ] {
        for words in words {
            refused(&module(text), words);
        }
    }
    let serving = Configuration {
        serve: Some(Serve::default()),
        ..configuration(&["app.wasm"])
    };
    let command = r#"(component (instance $i) (export "wasi:cli/run@0.3.0" (instance $i)))"#;
    let outcome = run_with(&module(command), &serving, 1 << 30);
    assert_eq!(outcome.code, 1);
    assert!(
        outcome
            .stderr
            .contains("neither wasi:http/incoming-handler@0.2 nor wasi:http/handler@0.3"),
        "{}",
        outcome.stderr
    );
}

/// The socket of this process that listens at this port.
fn listening_at(port: u16) -> OwnedFd {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let numbers = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = numbers.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let mut sockets = numbers.filter_map(|number| {
        let descriptor = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok()?;
        let address = SocketAddr::try_from(getsockname(&descriptor).ok()?).ok()?;
        (address.port() == port && socket_acceptconn(&descriptor).ok()?).then_some(descriptor)
    });
    sockets.next().expect("a socket")
}

#[test]
fn a_keeps_socket_ended_by_the_host_is_a_failure() {
    // A socket that does not listen occupies the port: nobody else gets it, and a test that names it may listen there.
    let holder = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_reuseaddr(&holder, true).unwrap();
    bind(&holder, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddr::try_from(getsockname(&holder).unwrap()).unwrap();
    let serving = |at: SocketAddr| Configuration {
        serve: Some(Serve {
            grace: 1000,
            connections: 10,
            requests: 10,
            listen: Some(Listen {
                address: Some(at.ip()),
                port: at.port(),
            }),
            ..Serve::default()
        }),
        ..configuration(&["server.wasm"])
    };
    let server = module(std::str::from_utf8(&example("server.wat")).unwrap());
    let (sender, outcome) = channel();
    let own = server.clone();
    std::thread::spawn(move || sender.send(run_with(&own, &serving(address), 1 << 30)));
    let patience = Instant::now() + Duration::from_mins(1);
    let mut peer = loop {
        match TcpStream::connect(address) {
            Ok(peer) => break peer,
            Err(error) => assert!(Instant::now() < patience, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    peer.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("Hello from a Keep!"), "{answer}");

    // Nobody else can have the port meanwhile.
    let taken = run_with(&server, &serving(address), 1 << 30);
    assert_eq!(taken.code, 1);
    let words = format!("it cannot listen at {address}: address in use");
    assert!(taken.stderr.contains(&words), "{}", taken.stderr);

    shutdown(listening_at(address.port()), Shutdown::Both).unwrap();
    let outcome = outcome.recv_timeout(Duration::from_mins(1)).unwrap();
    assert_eq!(outcome.code, 1);
    let words = "the host ended the socket at which the server listened";
    assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
}
