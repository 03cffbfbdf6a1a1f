// SPDX-License-Identifier: Apache-2.0

//! Memory that is used up: the program gets an error, in every kind of Keep, and memory that it returns can be
//! used again. And memory that must not be used: that of many data segments.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use enarx_harness::needs;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::common::{backends, clean, enarx};
use super::counts::{counts, exits};
use super::programs::programs;

const PROGRAM: &str = "conformance-memory.wasm";

/// Memory of the Keeps, in MiB. Each page that is filled costs a virtual machine on `kvm_pvm` time.
const MEBI: i64 = 96;
/// The program gets at least this many MiB of them.
const MIN_MIB: i64 = 45;

/// Runs the program with [`MEBI`] of memory; every line is a word, a number and an error.
fn lines(what: &str, backend: &str, orders: &[&str]) -> Vec<(String, i64, String)> {
    let programs = programs();
    let output = enarx()
        .args(["run", "--quiet", "--backend", backend])
        .args(["--memory", &format!("{MEBI}M"), "--timeout", "300s"])
        .arg(programs.folder.join(PROGRAM))
        .arg("--")
        .args(orders)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && text.ends_with("done\n"),
        "{what}, {backend}: {}\n{text}{error}",
        output.status
    );
    let lines = text.lines().take_while(|line| *line != "done").map(|line| {
        let mut words = line.splitn(3, ' ');
        let word = words.next().unwrap().to_owned();
        let number = words.next().unwrap().parse().unwrap();
        (word, number, words.next().unwrap().to_owned())
    });
    lines.collect()
}

#[test]
fn a_full_file_system_is_reported_and_has_room_after_removal() {
    let what = "a_full_file_system_is_reported_and_has_room_after_removal";
    // Pieces that divide the file system's own, and some that do not.
    let orders = [
        "write=7777",
        "unlink",
        "write=100000",
        "truncate",
        "unlink",
        "write=65536",
        "unlink",
    ];
    for backend in backends() {
        let lines = lines(what, backend, &orders);
        let filled: Vec<_> = lines
            .iter()
            .filter(|(word, ..)| word.starts_with("write"))
            .collect();
        assert_eq!(filled.len(), 3);
        for (word, mebi, error) in filled {
            assert_eq!(error, "ENOSPC", "{backend}: {word}");
            assert!(
                (MIN_MIB..MEBI).contains(mebi),
                "{backend}: {word}: {mebi} MiB of {MEBI} MiB"
            );
        }
    }
}

#[test]
fn memory_of_removed_files_returns_to_the_program() {
    let what = "memory_of_removed_files_returns_to_the_program";
    for (fill, empty) in [
        ("write=65536", "unlink"),
        ("files=10000", "remove"),
        ("files=100", "remove"),
    ] {
        for backend in backends() {
            let lines = lines(what, backend, &[fill, empty, "malloc"]);
            // A file takes memory where it lies, and its descriptor takes some besides.
            let full: &[&str] = if fill.starts_with("files") {
                &["ENOSPC", "ENOMEM"]
            } else {
                &["ENOSPC"]
            };
            assert!(full.contains(&lines[0].2.as_str()), "{backend}: {lines:?}");
            assert_eq!(lines[1].2, "no error", "{backend}: {lines:?}");
            let (_, mebi, error) = &lines[2];
            assert_eq!(error, "ENOMEM", "{backend}: {lines:?}");
            assert!(
                (MIN_MIB..MEBI).contains(mebi),
                "{backend}: {fill}: {mebi} MiB of {MEBI} MiB"
            );
        }
    }
}

#[test]
fn a_program_without_memory_gets_errors_for_everything() {
    let what = "a_program_without_memory_gets_errors_for_everything";
    let orders = [
        "malloc",
        "write=7777",
        "unlink",
        "files=0",
        "links",
        "remove",
    ];
    for backend in backends() {
        let lines = lines(what, backend, &orders);
        let mut errors: Vec<&str> = lines.iter().map(|(.., error)| error.as_str()).collect();
        // For a file or its descriptor, memory may be lacking.
        assert!(["ENOSPC", "ENOMEM"].contains(&errors.remove(3)));
        assert_eq!(
            errors,
            ["ENOMEM", "ENOSPC", "no error", "ENOSPC", "no error"],
            "{backend}: {lines:?}"
        );
        // Links with long targets cost their size.
        assert!(lines[4].1 < MEBI << 20 >> 12, "{backend}: {lines:?}");
    }
}

/// A module whose memory grows this many times by this many pages of 64 KiB, and is written to at once.
fn growing(steps: u32, pages: u32) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 1)
          (func (export "_start") (local $step i32) (local $at i32) (local $end i32)
            (local.set $at (i32.const 65536))
            (loop $more
              (if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable))
              (local.set $end (i32.mul (memory.size) (i32.const 65536)))
              (loop $touch
                (i32.store (local.get $at) (i32.const 1))
                (local.set $at (i32.add (local.get $at) (i32.const 4096)))
                (br_if $touch (i32.lt_u (local.get $at) (local.get $end))))
              (local.set $step (i32.add (local.get $step) (i32.const 1)))
              (br_if $more (i32.lt_u (local.get $step) (i32.const {steps}))))))"#
    );
    wat::parse_str(text).unwrap()
}

/// Counted and not timed: an exception for each 64 KiB made growing 13 times slower than it is natively.
#[test]
fn memory_that_grows_in_steps_costs_few_exceptions() {
    needs::kvm();
    let exceptions = |steps, pages| {
        let program = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
        fs::write(&program, growing(steps, pages)).unwrap();
        counts(program.path(), &["--memory", "256M"], &[])["exceptions"]
    };
    // 64 MiB each, which has 1,024 times 64 KiB. Steps that begin with a new 2 MiB are filled by faults; there are two.
    for (steps, pages) in [(1024, 1), (256, 4), (60, 17), (2, 512)] {
        let found = exceptions(steps, pages);
        assert!(
            found <= 64,
            "{steps} steps of {pages} pages: {found} exceptions"
        );
    }
}

/// A module with this many data segments of 16 bytes each.
pub fn segments(count: u32) -> Vec<u8> {
    let mut text = format!("(module (memory (export \"memory\") {})", 1 + count / 1024);
    for index in 0..count {
        write!(
            text,
            "(data (i32.const {}) \"0123456789abcdef\")",
            index * 64
        )
        .unwrap();
    }
    let last = (count - 1) * 64 + 8;
    // It succeeds if the last of them is in its place.
    write!(
        text,
        "(func (export \"_start\") (if (i64.ne (i64.load (i32.const {last})) (i64.const 0x6665646362613938)) \
         (then unreachable))))"
    )
    .unwrap();
    wat::parse_str(text).unwrap()
}

/// The end of a command that prints little, and the processor time of its processes: unlike the time from start to
/// end, it grows little with what else the machine does.
pub fn processor_time(command: &mut Command) -> (Output, Duration) {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let id = Pid::from_child(&child);
    // Its counts exist from its end until a process has waited for it.
    waitid(
        WaitId::Pid(id),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    )
    .unwrap();
    let counts = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let output = child.wait_with_output().unwrap();
    // Behind the name, which is in parentheses: fields 14 to 17 of proc_pid_stat(5), which are its time in user mode and
    // in the kernel, and the same of the children that it has waited for.
    let (_, fields) = counts.rsplit_once(") ").unwrap();
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(4)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    let time = Duration::from_millis(ticks * 1000 / clock_ticks_per_second());
    (output, time)
}

#[test]
fn many_data_segments_cost_little() {
    let programs = programs();
    let file = |count| {
        let file = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
        fs::write(&file, segments(count)).unwrap();
        file
    };
    let (few, many) = (file(1), file(30_000));
    let run = |backend: Option<&str>, file: &tempfile::NamedTempFile| {
        let mut command = match backend {
            None => clean(&programs.native),
            Some(backend) => {
                let mut command = enarx();
                // Little memory: 30,000 of them took 260 MiB when each was compiled.
                command.args(["run", "--quiet", "--backend", backend, "--memory", "96M"]);
                command
            }
        };
        let (output, time) = processor_time(command.arg(file.path()));
        assert!(output.status.success(), "{backend:?}: {output:?}");
        time
    };
    let extra = |backend| run(backend, &many).saturating_sub(run(backend, &few));
    let native = (0..3).map(|_| extra(None)).min().unwrap();
    // 1.3 s when each was compiled, 0.03 s natively.
    let limit = native.mul_f32(1.5) + Duration::from_millis(400);
    for backend in backends() {
        // Other tests run beside this one and share the processor's caches, so that most tries may be slow.
        let mut tries = Vec::new();
        while tries.last().is_none_or(|last| *last >= limit) {
            tries.push(extra(Some(backend)));
            assert!(
                tries.len() < 10,
                "{backend}: {tries:?} more for 30,000 segments, natively {native:?}"
            );
        }
    }
}

/// Segments that lie apart are copied into an image of the memory in the Keep: with a data segment each, 30,000 of them were
/// 260 MiB of compiler's memory, which costs an exception for each 2 MiB at the least.
#[test]
fn many_data_segments_cost_few_exceptions_and_system_calls() {
    needs::kvm();
    let of = |count| {
        let file = tempfile::Builder::new().suffix(".wasm").tempfile().unwrap();
        fs::write(&file, segments(count)).unwrap();
        counts(file.path(), &["--vcpus", "1", "--memory", "96M"], &[])
    };
    let (few, many) = (of(1), of(30_000));
    let more = |name: &str| many[name].saturating_sub(few[name]);
    // The memory that they fill has 469 pages of 4 KiB: 61 exceptions, 8 system calls and 5 exits were seen.
    assert!(more("exceptions") <= 128, "{few:?} {many:?}");
    assert!(more("system calls") <= 64, "{few:?} {many:?}");
    assert!(exits(&many) <= exits(&few) + 32, "{few:?} {many:?}");
}

/// Runs a program that makes the runtime hold more and more for it: its exit code, and its output.
fn hoards(backend: &str, name: &str) -> (Option<i32>, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let output = enarx()
        .args(["run", "--quiet", "--backend", backend])
        .args(["--memory", "128M", "--timeout", "120s"])
        .arg(folder.join(name))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

/// A program that makes the runtime hold more and more for it, outside its memories, traps or gets an error; the Keep
/// ends as with every other program.
#[test]
fn a_program_that_exhausts_the_runtime_ends_with_a_sentence() {
    let trapped = |program: &str, why: &str| {
        let sentence = format!("enarx: failed to run main module `{program}`: it {why}\n");
        (Some(134), sentence)
    };
    for backend in backends() {
        for (program, why) in [
            (
                "hoard-handles.wat",
                "has more handles of resources, streams, futures and tasks than a program may have",
            ),
            (
                "hoard-fields.wat",
                "makes the Keep hold more for it (headers, bodies of messages, names) than there is memory: give it more with \
                 --memory",
            ),
        ] {
            assert_eq!(hoards(backend, program), trapped(program, why), "{backend}");
        }
        // `nomem` of WASI preview 1.
        let told = hoards(backend, "hoard-descriptors.wat");
        assert_eq!(told, (Some(48), String::new()), "{backend}");
    }
}
