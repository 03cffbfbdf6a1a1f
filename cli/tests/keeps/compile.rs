// SPDX-License-Identifier: Apache-2.0

//! Native code that was compiled ahead of time: `enarx compile`, `--allow-precompiled`, and the compile cache.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use enarx_configuration::precompiled::Precompiled;
use enarx_harness::needs;

use super::common::{self, backends, terminal, with_room};
use super::memory::processor_time;

/// The kinds of Keep that run precompiled programs; without KVM the test ends here, as ignored.
const VIRTUAL: [&str; 2] = ["kvm", "sim"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn enarx(arguments: &[&str]) -> Command {
    let mut command = common::enarx();
    command.args(arguments).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Compiles a program in a kind of Keep into `folder`.
pub fn compile(backend: &str, program: &Path, folder: &Path, more: &[&str]) -> PathBuf {
    let to = folder.join(format!("{backend}.cwasm"));
    let output = enarx(&["compile", "--backend", backend, "--timeout", "300"])
        .args(more)
        .arg(program)
        .arg("--output")
        .arg(&to)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("", ""));
    to
}

fn run(backend: &str, program: &Path, flags: &[&str], arguments: &[&str]) -> Output {
    enarx(&["run", "--quiet", "--backend", backend, "--timeout", "300"])
        .args(flags)
        .arg(program)
        .args(arguments)
        .output()
        .unwrap()
}

/// Asserts the exit code and one sentence with all the words.
#[track_caller]
fn assert_sentence(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let said = text(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn compiled_programs_do_what_their_webassembly_does() {
    let folder = tempfile::tempdir().unwrap();
    let allow = "--allow-precompiled";
    for (program, flags, arguments) in [
        ("../examples/hello.wasm", &[][..], &[][..]),
        ("../examples/hello-component.wasm", &[], &[]),
        (
            "tests/programs/numbers.wat",
            &["--invoke", "add"],
            &["2", "3"],
        ),
        ("tests/programs/exit.wat", &[], &[]),
        ("tests/programs/trap.wat", &[], &[]),
    ] {
        let program = path(program);
        for backend in needs::kinds(&VIRTUAL, &[]) {
            let compiled = compile(backend, &program, folder.path(), &[]);
            let plain = run(backend, &program, flags, arguments);
            let native = run(backend, &compiled, &[flags, &[allow]].concat(), arguments);
            assert_eq!(native.status.code(), plain.status.code(), "{native:?}");
            assert_eq!(text(&native.stdout), text(&plain.stdout));
            let renamed = text(&plain.stderr).replace(
                program.file_name().unwrap().to_str().unwrap(),
                compiled.file_name().unwrap().to_str().unwrap(),
            );
            assert_eq!(text(&native.stderr), renamed);
        }
    }
}

#[test]
fn portable_code_runs_in_other_kinds_of_keep() {
    let folder = tempfile::tempdir().unwrap();
    let program = path("../examples/hello.wasm");
    let baseline = ["--target-cpu", "baseline"];
    for compiler in backends() {
        let compiled = compile(compiler, &program, folder.path(), &baseline);
        for backend in needs::kinds(&VIRTUAL, &[]) {
            let output = run(backend, &compiled, &["--allow-precompiled"], &[]);
            assert_eq!(text(&output.stdout), "Hello, world!\n", "{output:?}");
        }
    }
}

#[test]
fn native_code_runs_only_if_allowed_and_in_a_virtual_machine() {
    let folder = tempfile::tempdir().unwrap();
    let program = path("../examples/hello.wasm");
    let compiled = compile("process", &program, folder.path(), &[]);
    for backend in backends() {
        let output = run(backend, &compiled, &[], &[]);
        let words = ["native code", "virtual machine", "--allow-precompiled"];
        assert_sentence(&output, 2, &words);
    }
    let output = run("process", &compiled, &["--allow-precompiled"], &[]);
    assert_sentence(&output, 69, &["a process Keep", "--backend kvm"]);
    // A deployment names the WebAssembly.
    let output = enarx(&["deploy", "--local"])
        .arg(&compiled)
        .output()
        .unwrap();
    assert_sentence(&output, 2, &["is precompiled", "--allow-precompiled"]);
    // Where it is allowed, it is said what that means.
    for backend in needs::kinds(&["kvm"], &[]) {
        let output = enarx(&["run", "--backend", backend, "--allow-precompiled"])
            .arg(&compiled)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert!(
            said.contains("only the virtual machine confines it"),
            "{said}"
        );
    }
}

#[test]
fn a_truncated_damaged_or_foreign_compiled_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let program = path("../examples/hello.wasm");
    let compiled = compile("process", &program, folder.path(), &[]);
    let whole = fs::read(&compiled).unwrap();
    for backend in needs::kinds(&["kvm"], &[]) {
        let mut damaged = vec![whole[..whole.len() - 1].to_vec(), whole[..50].to_vec()];
        for place in [8, 30, 100, whole.len() / 2, whole.len() - 1] {
            let mut altered = whole.clone();
            altered[place] ^= 1;
            damaged.push(altered);
        }
        for bytes in damaged {
            fs::write(&compiled, bytes).unwrap();
            let output = run(backend, &compiled, &["--allow-precompiled"], &[]);
            assert_sentence(&output, 65, &["enarx compile"]);
        }
        // Matching digests, and code of another version: Wasmtime's own check finds it.
        let parts = Precompiled::decode(&whole).unwrap();
        let mut code = parts.code.to_vec();
        // The version of its form, and a text of two bytes: the version of Wasmtime.
        let version = code.windows(4).position(|it| it == b"\x00\x0248");
        code[version.unwrap() + 2] = b'3';
        let parts = Precompiled {
            code: &code,
            ..parts
        };
        fs::write(&compiled, [&parts.head()[..], &code].concat()).unwrap();
        let output = run(backend, &compiled, &["--allow-precompiled"], &[]);
        assert_sentence(&output, 1, &["another version", "enarx compile"]);
        // Wasmtime's file lacks our head.
        fs::write(&compiled, parts.code).unwrap();
        let output = run(backend, &compiled, &["--allow-precompiled"], &[]);
        assert_sentence(&output, 65, &["code of other compilers", "enarx compile"]);
    }
}

#[test]
fn a_failed_compilation_is_reported_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("out.cwasm");
    let wrong = folder.path().join("wrong.wasm");
    fs::write(&wrong, b"\0asm\x01\0\0\0\x63").unwrap();
    for backend in backends() {
        let output = enarx(&["compile", "--backend", backend, "--output"])
            .args([&to, &wrong])
            .output()
            .unwrap();
        assert_sentence(&output, 1, &["enarx: failed to compile `wrong.wasm`"]);
        assert!(!to.exists());
    }
    let output = enarx(&["compile", "--output", "/nonexistent/out.cwasm"])
        .arg(path("../examples/hello.wasm"))
        .output()
        .unwrap();
    assert_sentence(&output, 74, &["/nonexistent/out.cwasm", "--output"]);
    let output = enarx(&["compile", "--target-cpu", "z80", "a.wasm"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("baseline"), "{output:?}");
    // Without a name, the file is created here.
    let output = enarx(&["compile"])
        .current_dir(folder.path())
        .arg(path("../examples/hello.wasm"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(folder.path().join("hello.cwasm").exists());
}

#[test]
fn a_full_disk_is_not_reported_as_a_fault_of_the_program() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let mut compile = enarx(&["compile", "--backend", backend, "--output"]);
        compile
            .arg(folder.path().join("out.cwasm"))
            .arg(path("../examples/hello.wasm"));
        let output = with_room(8, folder.path(), &compile).output().unwrap();
        let words = ["failed to compile `hello.wasm`", "could not be written"];
        assert_sentence(&output, 74, &words);
    }
}

/// The native code of a program, whose first function is replaced by a system call with this number; its arguments are
/// free stack below. The function returns the result of the call.
pub fn with_system_call(compiled: &Path, number: u32) {
    const MARK: u64 = 0x0123_4567_89ab_cdef;
    let whole = fs::read(compiled).unwrap();
    let parts = Precompiled::decode(&whole).unwrap();
    let mut code = parts.code.to_vec();
    // The constant is the last part of a `movabs`, after two bytes.
    let mark = MARK.to_le_bytes();
    let at = code.windows(8).position(|it| it == mark).unwrap() - 2;
    let mut stub = vec![0xb8]; // mov eax, number
    stub.extend(number.to_le_bytes());
    stub.extend([0x48, 0x8d, 0xbc, 0x24, 0x00, 0xf8, 0xff, 0xff]); // lea rdi, [rsp - 2048]
    stub.extend([0x48, 0x8d, 0xb4, 0x24, 0x00, 0xf0, 0xff, 0xff]); // lea rsi, [rsp - 4096]
    stub.extend([0x0f, 0x05]); // syscall
    stub.extend([0x48, 0x89, 0xec, 0x5d, 0xc3]); // mov rsp, rbp; pop rbp; ret
    code[at..at + stub.len()].copy_from_slice(&stub);
    let parts = Precompiled {
        code: &code,
        ..parts
    };
    fs::write(compiled, [&parts.head()[..], &code].concat()).unwrap();
}

/// Native code is what SECURITY says: it makes system calls. But the Keep gives no more evidence, which could be about
/// another program.
#[test]
fn native_code_has_system_calls_and_no_evidence() {
    const GETPID: u32 = 39;
    const REPORT: u32 = 0x454e_0004;
    const DERIVED_KEY: u32 = 0x454e_0005;
    const EIO: &str = "-5";
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("marked.wat");
    // Space for the code that replaces it.
    let steps =
        "i64.const 0x5851f42d4c957f2d i64.mul i64.const 0x14057b7ef767814f i64.xor\n".repeat(8);
    let marked = format!(
        "(module (memory 1) (func (export \"call\") (result i64)
            i64.const 0x0123456789abcdef i32.const 0 i64.load i64.add {steps}))"
    );
    fs::write(&program, marked).unwrap();
    for backend in needs::kinds(&VIRTUAL, &[]) {
        for (number, is_right) in [
            (
                GETPID,
                (|said| said != "0" && !said.starts_with('-')) as fn(&str) -> bool,
            ),
            (REPORT, |said| said == EIO),
            (DERIVED_KEY, |said| said == EIO),
        ] {
            if backend == "kvm" && number != GETPID {
                // There is no secure processor.
                continue;
            }
            let compiled = compile(backend, &program, folder.path(), &[]);
            with_system_call(&compiled, number);
            let flags = ["--allow-precompiled", "--invoke", "call"];
            let output = run(backend, &compiled, &flags, &[]);
            let said = text(&output.stdout).trim_end();
            assert!(
                output.status.success() && is_right(said),
                "{number}: {output:?}"
            );
        }
    }
}

/// A number as in WebAssembly's binary form.
fn leb(mut number: usize, to: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            return to.push(low);
        }
        to.push(low | 0x80);
    }
}

fn section(id: u8, content: &[u8], to: &mut Vec<u8>) {
    to.push(id);
    leb(content.len(), to);
    to.extend(content);
}

/// A module of at least this many bytes that prints "ready\n" and ends: functions of some hundred bytes, as in programs.
fn large_module(bytes: usize) -> Vec<u8> {
    let mut number = 1_u32;
    let mut body = || {
        // Two locals more than the two parameters, all i32.
        let mut body = vec![1, 2, 0x7f];
        for _ in 0..24 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [a, b, c, d] = number.to_le_bytes();
            // local = (local * constant) ^ memory[other & 0xffff]
            body.extend([0x20, a & 3, 0x41, b | 0x80, c & 0x3f, 0x6c, 0x20, d & 3]);
            body.extend([
                0x41,
                0xff,
                0xff,
                0x03,
                0x71,
                0x28,
                0x02,
                0x00,
                0x73,
                0x21,
                c & 3,
            ]);
        }
        body.extend([0x20, 0, 0x0b]);
        body
    };
    let one = body();
    let count = bytes / (one.len() + 3) + 1;
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // fd_write, the functions, _start.
    let types = [
        3, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7f, 0x60, 0, 0,
    ];
    section(1, &types, &mut module);
    let import = b"\x01\x16wasi_snapshot_preview1\x08fd_write\0\0";
    section(2, import, &mut module);
    let mut functions = Vec::new();
    leb(count + 1, &mut functions);
    functions.extend(std::iter::repeat_n(1, count));
    functions.push(2);
    section(3, &functions, &mut module);
    section(5, &[1, 0, 2], &mut module);
    let mut exports = vec![2, 6];
    exports.extend(b"memory\x02\0\x06_start\0");
    leb(count + 1, &mut exports);
    section(7, &exports, &mut module);
    let mut code = Vec::new();
    leb(count + 1, &mut code);
    let mut add = |body: &[u8]| {
        leb(body.len(), &mut code);
        code.extend(body);
    };
    add(&one);
    for _ in 1..count {
        add(&body());
    }
    // fd_write(1, 8, 1, 0)
    add(&[0, 0x41, 1, 0x41, 8, 0x41, 1, 0x41, 0, 0x10, 0, 0x1a, 0x0b]);
    section(10, &code, &mut module);
    // At 8: the address and length of the text, and the text.
    let data = b"\x01\0\x41\x08\x0b\x0e\x10\0\0\0\x06\0\0\0ready\n";
    section(11, data, &mut module);
    module
}

/// Writes a large module, and gives its path.
fn written(bytes: usize, folder: &Path) -> PathBuf {
    let path = folder.join("large.wasm");
    fs::write(&path, large_module(bytes)).unwrap();
    path
}

/// The time of a run that prints the expected output.
fn timed(backend: &str, program: &Path, flags: &[&str]) -> Duration {
    let start = Instant::now();
    let output = run(backend, program, flags, &[]);
    assert_eq!(text(&output.stdout), "ready\n", "{output:?}");
    start.elapsed()
}

#[test]
fn a_compiled_program_starts_much_sooner_than_its_webassembly() {
    let folder = tempfile::tempdir().unwrap();
    let program = written(3_000_000, folder.path());
    for backend in needs::kinds(&["kvm"], &[]) {
        let compiled = compile(backend, &program, folder.path(), &[]);
        let spent = |program: &Path, flags: &[&str]| {
            let mut command = enarx(&["run", "--quiet", "--backend", backend]);
            let (output, time) = processor_time(command.args(flags).arg(program));
            assert_eq!(text(&output.stdout), "ready\n", "{output:?}");
            time
        };
        let native = spent(&compiled, &["--allow-precompiled"]);
        let plain = spent(&program, &[]);
        assert!(native * 2 < plain, "{backend}: {native:?} and {plain:?}");
    }
}

/// The figure that `enarx compile` prints on standard output.
#[test]
#[ignore = "a minute: it compiles 30 MB"]
fn thirty_megabytes_start_in_three_tenths_of_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let program = written(30_000_000, folder.path());
    for backend in needs::kinds(&["kvm"], &[]) {
        let start = Instant::now();
        let compiled = compile(backend, &program, folder.path(), &[]);
        let compiling = start.elapsed();
        let mut times = [(); 7].map(|()| timed(backend, &compiled, &["--allow-precompiled"]));
        times.sort();
        let size = fs::metadata(&compiled).unwrap().len();
        let median = times[3];
        #[expect(clippy::print_stdout, reason = "a figure for people")]
        {
            println!("{backend}: compiled in {compiling:?} to {size} bytes; starts in {times:?}");
        }
        assert!(median < Duration::from_millis(300), "{median:?}");
    }
}

/// A home with its own cache.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, backend: &str, program: &Path, flags: &[&str]) -> Output {
        enarx(&["run", "-v", "--quiet", "--backend", backend])
            .env_remove("ENARX_NO_CACHE")
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_STATE_HOME", self.path("state"))
            .args(flags)
            .arg(program)
            .output()
            .unwrap()
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("cache/enarx/compiled")).into_iter();
        entries
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

/// Asserts that a program ran, and that its code came from the cache, or did not.
#[track_caller]
fn assert_cached(output: &Output, cached: bool) {
    assert_eq!(text(&output.stdout), "ready\n", "{output:?}");
    let said = text(&output.stderr);
    assert_eq!(said.contains("comes from the cache"), cached, "{said}");
}

#[test]
fn compiled_code_is_kept_for_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let program = written(300_000, folder.path());
    for backend in needs::kinds(&["kvm"], &["process"]) {
        let home = Home::new();
        assert_cached(&home.run(backend, &program, &["--no-cache"]), false);
        assert!(home.entries().is_empty());
        assert_cached(&home.run(backend, &program, &[]), false);
        assert_eq!(home.entries().len(), 1);
        assert_cached(&home.run(backend, &program, &[]), true);
        assert_cached(&home.run(backend, &program, &["--no-cache"]), false);
        // Another module, and one that is too small for the cache.
        let other = folder.path().join("other.wasm");
        fs::write(&other, large_module(310_000)).unwrap();
        assert_cached(&home.run(backend, &other, &[]), false);
        let output = home.run(backend, &path("../examples/hello.wasm"), &[]);
        assert_eq!(text(&output.stdout), "Hello, world!\n");
        assert_eq!(home.entries().len(), 2);
        // Only its user can read it.
        for (file, mode) in [
            ("state/enarx/keys/cache-key", 0o600),
            ("cache/enarx/compiled", 0o700),
        ] {
            let found = fs::metadata(home.path(file)).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{file}");
        }
    }
}

#[test]
fn code_in_a_cache_of_others_is_not_executed() {
    let folder = tempfile::tempdir().unwrap();
    let program = written(300_000, folder.path());
    for backend in needs::kinds(&["kvm"], &["process"]) {
        let home = Home::new();
        assert_cached(&home.run(backend, &program, &[]), false);
        let [entry] = &home.entries()[..] else {
            panic!("no entry")
        };
        let whole = fs::read(entry).unwrap();
        for place in [0, whole.len() / 2, whole.len() - 1] {
            let mut altered = whole.clone();
            altered[place] ^= 1;
            fs::write(entry, altered).unwrap();
            let output = home.run(backend, &program, &[]);
            assert_cached(&output, false);
            assert!(
                text(&output.stderr).contains("damaged or foreign"),
                "{output:?}"
            );
            assert_cached(&home.run(backend, &program, &[]), true);
        }
        // An entry of another module under this name.
        let other = folder.path().join("other.wasm");
        fs::write(&other, large_module(310_000)).unwrap();
        assert_cached(&home.run(backend, &other, &[]), false);
        let entries = home.entries();
        let another = entries.iter().find(|it| *it != entry).unwrap();
        fs::copy(another, entry).unwrap();
        assert_cached(&home.run(backend, &program, &[]), false);
        // A cache authenticated with another key.
        fs::write(home.path("state/enarx/keys/cache-key"), [7; 32]).unwrap();
        assert_cached(&home.run(backend, &program, &[]), false);
        assert_cached(&home.run(backend, &program, &[]), true);
        // A folder that others can write to.
        let cache = home.path("cache/enarx/compiled");
        fs::set_permissions(&cache, PermissionsExt::from_mode(0o777)).unwrap();
        assert_cached(&home.run(backend, &program, &[]), false);
    }
}

#[test]
fn a_measured_keep_takes_nothing_from_the_cache_of_its_host() {
    let folder = tempfile::tempdir().unwrap();
    let program = written(300_000, folder.path());
    for backend in needs::kinds(&["sim"], &[]) {
        let home = Home::new();
        for _ in 0..2 {
            assert_cached(&home.run(backend, &program, &[]), false);
        }
        assert!(home.entries().is_empty());
    }
}

#[test]
fn the_cache_has_a_bound_and_the_oldest_entry_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let program = written(300_000, folder.path());
    for backend in needs::kinds(&["kvm"], &["process"]) {
        let home = Home::new();
        assert_cached(&home.run(backend, &program, &[]), false);
        let cache = home.path("cache/enarx/compiled");
        let age = |name: &str, length: u64, hours: u64| {
            let file = File::create(cache.join(name)).unwrap();
            file.set_len(length).unwrap();
            let then = std::time::SystemTime::now() - Duration::from_hours(hours);
            file.set_modified(then).unwrap();
        };
        age("oldest", 500 << 20, 3);
        age("middle", 500 << 20, 2);
        age("young", 100 << 20, 1);
        let other = folder.path().join("other.wasm");
        fs::write(&other, large_module(310_000)).unwrap();
        assert_cached(&home.run(backend, &other, &[]), false);
        assert!(!cache.join("oldest").exists());
        assert!(cache.join("middle").exists() && cache.join("young").exists());
        assert_eq!(home.entries().len(), 4);
    }
}

#[test]
fn an_invalid_program_is_reported_by_its_own_keep() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("large.wasm");
    let mut module = large_module(300_000);
    // An unknown opcode.
    let middle = module.len() / 2;
    module[middle..middle + 64].fill(0xff);
    fs::write(&wrong, module).unwrap();
    for backend in needs::kinds(&["kvm"], &["process"]) {
        let home = Home::new();
        let cached = home.run(backend, &wrong, &[]);
        let plain = home.run(backend, &wrong, &["--no-cache"]);
        assert_eq!(cached.status.code(), Some(1));
        assert_eq!(text(&cached.stderr), text(&plain.stderr));
        assert!(home.entries().is_empty());
    }
}

/// The compiler's memory does not count as the program's.
#[test]
fn a_compiler_may_need_more_memory_than_its_program_has() {
    let folder = tempfile::tempdir().unwrap();
    let program = written(3_000_000, folder.path());
    for backend in needs::kinds(&["kvm"], &[]) {
        let home = Home::new();
        let little = ["--memory", "64M", "--timeout", "300"];
        let output = home.run(backend, &program, &[&little[..], &["--no-cache"]].concat());
        assert_eq!(output.status.code(), Some(70), "{output:?}");
        assert_cached(&home.run(backend, &program, &little), false);
        assert_cached(&home.run(backend, &program, &little), true);
    }
}

#[test]
fn only_a_terminal_shows_that_compiling_takes_long() {
    let folder = tempfile::tempdir().unwrap();
    // Some twenty seconds of work, of which it gets six: two until the line, and the rest for a busy machine.
    let program = written(20_000_000, folder.path());
    let cut_off = |stderr: Stdio| {
        let mut command = enarx(&["compile", "--backend", "process", "--vcpus", "1"]);
        command
            .args(["--timeout", "6s", "--output"])
            .arg(folder.path().join("out.cwasm"))
            .arg(&program)
            .stderr(stderr);
        command.output().unwrap()
    };
    let line = "enarx: compiling large.wasm (20 MB)";
    let (mut ours, theirs) = terminal();
    let output = cut_off(theirs.into());
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    // In pieces; when the other side is closed and everything was read, reading fails.
    let mut said = String::new();
    while !said.ends_with('\n') {
        let mut piece = vec![0; 4096];
        let length = ours.read(&mut piece).expect(&said);
        said.push_str(text(&piece[..length]));
    }
    let (_, behind) = said.split_once(line).expect(&said);
    // Cleared, before the next message.
    let (_, message) = behind.split_once("\r\x1b[K").expect(&said);
    assert!(message.starts_with("enarx: the time limit"), "{said}");
    let output = cut_off(Stdio::piped());
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    assert!(!text(&output.stderr).contains("compiling"), "{output:?}");
}
