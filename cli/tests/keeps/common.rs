// SPDX-License-Identifier: Apache-2.0

//! Shared parts of these tests: the command without what could change it, and the available kinds of Keeps.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;

use enarx_harness::needs;

/// Where the simulated machine keeps its keys, which are made once for all tests.
pub const SIMULATED_STATE: &str =
    concat!("state=", env!("CARGO_TARGET_TMPDIR"), "/simulated-machine");

/// Kinds of Keeps, the best first: without KVM, the test ends as ignored after those that need none.
pub fn backends() -> impl Iterator<Item = &'static str> {
    needs::kinds(&["kvm", "sim"], &["process"])
}

/// A program without environment variables that could change what `enarx` does.
pub fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ENARX_") {
            command.env_remove(name);
        }
    }
    command.env("ENARX_SIM", SIMULATED_STATE);
    // Serial numbers and the like are stored separately from the user's.
    command.env(
        "XDG_STATE_HOME",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/state"),
    );
    // Nothing must depend on earlier runs.
    command.env("ENARX_NO_CACHE", "true");
    // A runtime that opens files or looks up symbols works on a developer's machine, and not in a Keep.
    command.env("ENARX_END_ON_REFUSED_CALLS", "true");
    command
}

/// The command.
pub fn enarx() -> Command {
    clean(Path::new(env!("CARGO_BIN_EXE_enarx")))
}

/// `command` with a file system of `room` KiB at `place`, which nobody else sees; the test ends here, as ignored, if users
/// cannot create namespaces for that.
pub fn with_room(room: u32, place: &Path, command: &Command) -> Command {
    let shell = || {
        let mut shell = clean(Path::new("unshare"));
        shell.args(["--user", "--map-root-user", "--mount", "sh", "-ec"]);
        shell
    };
    let mounts = shell().arg("mount -t tmpfs none /mnt").status();
    if !mounts.is_ok_and(|status| status.success()) {
        needs::lacking(
            "NAMESPACES",
            "this system gives users no namespaces for a small file system",
        );
    }
    let mut within = shell();
    within
        .arg(format!(
            "mount -t tmpfs -o size={room}k none \"$0\"; exec \"$@\""
        ))
        .arg(place)
        .arg(command.get_program())
        .args(command.get_args());
    within
}

/// A terminal: this side, and the other.
pub fn terminal() -> (File, File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let path = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options()
        .read(true)
        .write(true)
        .open(path.to_str().unwrap())
        .unwrap();
    (ours.into(), theirs)
}

/// A TCP port of this machine on which nobody listens. Until these tests end a socket that does not listen stays bound to it:
/// the system gives it to no other test that requests any port, but a test that names it may listen there.
pub fn free_port() -> u16 {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

    let holder = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let holder = ManuallyDrop::new(holder);
    sockopt::set_socket_reuseaddr(&*holder, true).unwrap();
    bind(&*holder, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddrV4::try_from(getsockname(&*holder).unwrap()).unwrap();
    address.port()
}
