//! What these tests share: the command without what could change it, and the kinds of Keeps that there are.

use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Where the simulated machine keeps its keys, which are made once for all tests.
pub const SIMULATED_STATE: &str =
    concat!("state=", env!("CARGO_TARGET_TMPDIR"), "/simulated-machine");

/// Whether `variable` asks for what would otherwise be left out.
pub fn required(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "1")
}

/// Whether there is a usable `/dev/kvm`. Without one `what` is left out, by name; with
/// `ENARX_REQUIRE_KVM=1` this fails instead.
pub fn have_kvm(what: &str) -> bool {
    let kvm = File::options().read(true).write(true).open("/dev/kvm");
    if let Err(error) = &kvm {
        assert!(
            !required("ENARX_REQUIRE_KVM"),
            "{what}: ENARX_REQUIRE_KVM=1, but /dev/kvm: {error}"
        );
        eprintln!("SKIPPED {what}: /dev/kvm: {error}");
    }
    kvm.is_ok()
}

/// Kinds of Keeps to test.
pub fn backends() -> Vec<&'static str> {
    if have_kvm("kvm") {
        vec!["kvm", "sim", "process"]
    } else {
        vec!["process"]
    }
}

/// A program without anything of the environment that could change what `enarx` does.
pub fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ENARX_") {
            command.env_remove(name);
        }
    }
    command.env("ENARX_SIM", SIMULATED_STATE);
    // Serial numbers and the like are remembered apart from the user's.
    command.env(
        "XDG_STATE_HOME",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/state"),
    );
    // A runtime that opens files or looks up symbols works at its desk, and not in a Keep.
    command.env("ENARX_END_ON_REFUSED_CALLS", "true");
    command
}

/// The command.
pub fn enarx() -> Command {
    clean(Path::new(env!("CARGO_BIN_EXE_enarx")))
}
