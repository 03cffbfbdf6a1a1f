//! The runtime as a process, with a host that speaks the doorbell's protocol over a socket.

#[path = "../../wasi/tests/host/mod.rs"]
mod host;

use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr::NonNull;
use std::time::Duration;

use enarx_contract::Configuration;
use enarx_sallyport::{Facts, HostEnd, REGION_SIZE, Region};
use host::{Host, World};

fn memory() -> (OwnedFd, Region) {
    // SAFETY: the name is a C string; the descriptor is new and owned by nobody else; the mapping
    // is new, REGION_SIZE bytes long, and stays for the life of the process.
    unsafe {
        let fd = libc::memfd_create(c"sallyport".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        let fd = OwnedFd::from_raw_fd(fd);
        let length = libc::off_t::try_from(REGION_SIZE).unwrap();
        assert_eq!(libc::ftruncate(fd.as_raw_fd(), length), 0);
        let address = libc::mmap(
            std::ptr::null_mut(),
            REGION_SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            0,
        );
        assert_ne!(address, libc::MAP_FAILED);
        let region = Region::from_raw(NonNull::new(address.cast()).unwrap());
        (fd, region)
    }
}

/// Runs the runtime to its end; its exit code and the world it leaves.
fn run(world: World) -> (i32, World) {
    let (memory, region) = memory();
    let end = HostEnd::initialise(region, Facts::default());
    let (mut socket, theirs) = UnixStream::pair().unwrap();
    socket
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    let (memory_fd, socket_fd) = (memory.as_raw_fd(), theirs.as_raw_fd());
    let mut command = Command::new(env!("CARGO_BIN_EXE_enarx-runtime"));
    command.arg("process").env_clear();
    // SAFETY: between fork and exec only system calls that are safe after a fork are made.
    unsafe {
        command.pre_exec(move || {
            // First out of the way, so that neither overwrites the other.
            let memory = libc::fcntl(memory_fd, libc::F_DUPFD, 10);
            let socket = libc::fcntl(socket_fd, libc::F_DUPFD, 10);
            if libc::dup2(memory, 3) != 3 || libc::dup2(socket, 4) != 4 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    drop(theirs);
    let mut host = Host::new(end, world);
    let mut kind = [0; 1];
    while socket.read(&mut kind).unwrap() == 1 {
        host.serve();
        if kind == *b"W" {
            let mut wait = [0; 12];
            socket.read_exact(&mut wait).unwrap();
            // Everything is answered: only a wait for time is left, and may end early.
            let _ = socket.write_all(b"!");
        } else {
            assert_eq!(kind, *b"R");
        }
    }
    host.serve();
    let code = child.wait().unwrap().code().expect("not killed");
    (code, host.world)
}

fn world(application: Vec<u8>, args: &[&str]) -> World {
    let configuration = Configuration {
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..Configuration::default()
    };
    World {
        configuration: configuration.encode().unwrap(),
        application,
        ..World::default()
    }
}

fn hello() -> Vec<u8> {
    std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/hello.wasm"
    ))
    .unwrap()
}

#[test]
fn hello_runs_to_its_end() {
    let (code, world) = run(world(hello(), &["hello.wasm"]));
    assert_eq!(String::from_utf8_lossy(&world.stderr), "");
    assert_eq!(String::from_utf8_lossy(&world.stdout), "Hello, world!\n");
    assert_eq!(code, 0);
    assert_eq!(world.exit, Some(0));
}

#[test]
fn what_is_no_webassembly_is_refused_in_one_sentence() {
    let (code, world) = run(world(b"#!/bin/sh".to_vec(), &["script"]));
    assert_eq!(code, 1);
    assert_eq!(
        String::from_utf8_lossy(&world.stderr),
        "Error: failed to run main module `script`: not a WebAssembly file: it does not start \
         with \\0asm\n"
    );
}

#[test]
fn a_configuration_that_does_not_decode_ends_the_keep() {
    let (code, world) = run(World {
        configuration: b"{".to_vec(),
        ..World::default()
    });
    assert_eq!(code, 70);
    assert!(
        String::from_utf8_lossy(&world.stderr)
            .starts_with("Error: the configuration is not readable")
    );
}
