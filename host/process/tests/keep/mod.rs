//! Runs the test Keep `keep.c` as a process Keep.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use enarx_executor::grant::{Grant, NetworkGrant};
use enarx_executor::launch::{Confine, Launch};
use enarx_executor::refused::RefusedCalls;

/// The test Keep, built once.
pub static KEEP: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../process/tests/keep.c");
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("keep");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let status = Command::new(compiler)
        .args(["-static", "-O1", "-pthread", "-Wall", "-o"])
        .arg(&program)
        .arg(source)
        .status()
        .expect("the tests need a C compiler");
    assert!(status.success(), "the test Keep does not compile");
    std::fs::read(program).unwrap()
});

/// `/dev/null`, for reading and writing.
pub fn null() -> OwnedFd {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
        .into()
}

/// A process Keep with the test Keep, and nothing granted but its streams.
pub fn launch(mode: &str, stdio: [OwnedFd; 3]) -> Launch {
    Launch {
        grant: Grant {
            stdio,
            directories: Vec::new(),
            network: NetworkGrant::default(),
            evidence: None,
        },
        configuration: mode.into(),
        application: Vec::new(),
        memory: 64 << 20,
        vcpus: 2,
        timeout: Some(Duration::from_secs(30)),
        timings: false,
        refused_calls: RefusedCalls::Count,
        confine: Confine::Threads,
    }
}
