// SPDX-License-Identifier: Apache-2.0

//! Shared parts of the tests of Keeps: C programs in place of the runtime, launches, launch digests.
//!
//! `keep.c` is a Keep for the process backend; `hostile.h` is what Keeps of every kind do that were taken
//! over.

#![forbid(unsafe_code)]

mod digest;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use enarx_executor::grant::Grant;
use enarx_executor::launch::{Launch, Objects};
use enarx_executor::refused::RefusedCalls;

pub use digest::expected_digest;

/// Compiles a C program, static, with these more options; its bytes.
///
/// # Panics
/// If it does not compile.
pub fn compile(source: &Path, options: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a folder");
    let program = directory.path().join("program");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(compiler)
        .args(["-static", "-O1", "-pthread", "-Wall"])
        .args(options)
        .arg("-o")
        .arg(&program)
        .arg(source)
        .status()
        .expect("the tests need a C compiler");
    assert!(status.success(), "{} does not compile", source.display());
    std::fs::read(program).expect("the compiler has written it")
}

/// The test Keep for the process backend, built once.
pub static KEEP: LazyLock<Vec<u8>> = LazyLock::new(|| {
    compile(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/keep.c")),
        &[],
    )
});

/// `/dev/null`, for reading and writing.
///
/// # Panics
/// If it cannot be opened.
pub fn null() -> OwnedFd {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .expect("/dev/null")
        .into()
}

/// A Keep that runs `mode`, with only its streams granted, and half a minute of time.
pub fn launch(mode: &str, stdio: [OwnedFd; 3]) -> Launch {
    Launch {
        grant: Grant::of_streams(stdio),
        objects: Objects::program(mode.into(), Vec::new()),
        memory: 64 << 20,
        vcpus: 2,
        timeout: Some(Duration::from_mins(2)),
        timings: false,
        grace: Duration::ZERO,
        refused_calls: RefusedCalls::Count,
    }
}
