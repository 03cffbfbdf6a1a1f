// SPDX-License-Identifier: Apache-2.0

//! The runtime as a process, with a host that speaks the doorbell's protocol over a socket.

#![expect(unsafe_code, reason = "the tests map memory that both sides share")]

use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::Duration;

use enarx_configuration::Configuration;
use enarx_sallyport::layout::{CQ_TAIL, completion_entry};
use enarx_sallyport::types::Object;
use enarx_sallyport::{
    Call, Facts, Handle, HostEnd, REGION_SIZE, Region, SharedMemory as _, Status, Until,
};
use enarx_sallyport_host::{Host, World};

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

/// The runtime as a process, with the host's end of its doorbell, and the preparation of the region.
fn start<H>(host: impl FnOnce(Region) -> H) -> (Child, UnixStream, Region, H) {
    let prepare = |runtime: &mut Command| {
        runtime.arg("process");
    };
    start_as(prepare, host)
}

/// Like [`start`], in another mode, for which its arguments and environment are prepared.
fn start_as<H>(
    prepare: impl FnOnce(&mut Command),
    host: impl FnOnce(Region) -> H,
) -> (Child, UnixStream, Region, H) {
    let (memory, region) = memory();
    let host = host(region);
    let (socket, theirs) = UnixStream::pair().unwrap();
    socket
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    let (memory_fd, socket_fd) = (memory.as_raw_fd(), theirs.as_raw_fd());
    let mut command = Command::new(env!("CARGO_BIN_EXE_enarx-runtime"));
    command.env_clear();
    prepare(&mut command);
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
    (command.spawn().unwrap(), socket, region, host)
}

/// A host that does nothing yet.
fn idle(region: Region) -> HostEnd<Region> {
    HostEnd::initialise(region, Facts::default())
}

/// Runs the runtime to its end; its exit code and its host.
fn run(world: World) -> (i32, Host) {
    let (mut child, mut socket, _, host) = start(|region| Host::new(region, world));
    let mut kind = [0; 1];
    while socket.read(&mut kind).unwrap() == 1 {
        host.serve();
        if kind == *b"W" {
            let mut wait = [0; 13];
            socket.read_exact(&mut wait).unwrap();
            let seen = u32::from_le_bytes(wait[..4].try_into().unwrap());
            // A wait may end early.
            let until = Until::from_number(wait[4]).unwrap();
            host.wait(seen, until, Some(Duration::from_millis(10)));
            let _ = socket.write_all(b"!");
        } else {
            assert_eq!(kind, *b"R");
        }
    }
    host.serve();
    let code = child.wait().unwrap().code().expect("not killed");
    (code, host)
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
    let (code, host) = run(world(hello(), &["hello.wasm"]));
    assert_eq!(String::from_utf8_lossy(&host.stderr()), "");
    assert_eq!(String::from_utf8_lossy(&host.stdout()), "Hello, world!\n");
    assert_eq!(code, 0);
    assert_eq!(host.exit(), Some(0));
}

#[test]
fn invalid_webassembly_is_refused_in_one_sentence() {
    let (code, host) = run(world(b"#!/bin/sh".to_vec(), &["script"]));
    assert_eq!(code, 1);
    assert_eq!(
        String::from_utf8_lossy(&host.stderr()),
        "enarx: failed to run main module `script`: not a WebAssembly file: it does not start \
         with \\0asm\n"
    );
}

#[test]
fn a_configuration_that_does_not_decode_ends_the_keep() {
    let (code, host) = run(World {
        configuration: b"{".to_vec(),
        ..World::default()
    });
    assert_eq!(code, 70);
    assert!(
        String::from_utf8_lossy(&host.stderr())
            .starts_with("enarx: the configuration is not readable")
    );
}

/// A piece of an object, with the size that the host claims for the object.
type Piece = Result<(Vec<u8>, u64), Status>;

/// Runs the runtime with a host that returns arbitrary pieces of the objects that the runtime loads, from an offset on and no more
/// than a length; the exit code, and standard error.
fn run_with_objects(mut gives: impl FnMut(Object, u64, u32) -> Piece) -> (Option<i32>, String) {
    let (mut child, mut socket, _, mut host) = start(idle);
    let (mut kind, mut said) = ([0; 1], Vec::new());
    while socket.read(&mut kind).unwrap() == 1 {
        let waits = kind == *b"W";
        if waits {
            socket.read_exact(&mut [0; 13]).unwrap();
        }
        while let Some(submission) = host.next().unwrap() {
            let (id, slot) = (submission.id, submission.slot);
            match submission.call.unwrap() {
                Call::Load {
                    object,
                    offset,
                    length,
                } => match gives(object, offset, length) {
                    Ok((bytes, size)) => {
                        host.write_output(slot, 0, &bytes).unwrap();
                        let length = u32::try_from(bytes.len()).unwrap();
                        host.complete(id, Status::Ok, length, size, 0).unwrap();
                    }
                    Err(status) => host.complete(id, status, 0, 0, 0).unwrap(),
                },
                Call::StreamWrite {
                    stream: Handle::STDERR,
                    length,
                } => {
                    let mut text = vec![0; length as usize];
                    host.read_input(slot, 0, &mut text).unwrap();
                    said.extend(text);
                    host.complete(id, Status::Ok, 0, length.into(), 0).unwrap();
                }
                Call::Exit { .. } => {}
                call => panic!("{call:?}"),
            }
        }
        if waits {
            let _ = socket.write_all(b"!");
        }
    }
    let code = child.wait().unwrap().code();
    (code, String::from_utf8(said).unwrap())
}

#[test]
fn an_object_of_another_size_than_announced_is_refused() {
    const MOST: u64 = enarx_configuration::MAX_ENCODED as u64;
    let spaces = |length: usize| vec![b' '; length];
    let configuration = |first: Piece, next: Piece| {
        let (mut first, mut next) = (Some(first), Some(next));
        run_with_objects(move |object, offset, _| {
            assert_eq!(object, Object::Configuration);
            let piece = if offset == 0 { &mut first } else { &mut next };
            piece.take().expect("asked for once")
        })
    };
    let none = || Err(Status::Io);
    let changed = "the host did not give the whole configuration";
    for (first, next, sentence) in [
        (
            Ok((spaces(10), MOST + 1)),
            none(),
            "the configuration is too large: 4194305 bytes, at most 4194304 are accepted",
        ),
        (
            Ok((spaces(10), u64::MAX)),
            none(),
            "the configuration is too large: 18446744073709551615 bytes, at most 4194304 are accepted",
        ),
        // More than announced, fewer, none, and another size than before.
        (Ok((spaces(11), 10)), none(), changed),
        (Ok((spaces(10), 20)), Ok((Vec::new(), 20)), changed),
        (Ok((spaces(10), 20)), Ok((spaces(10), 21)), changed),
        (Ok((spaces(10), 20)), Ok((spaces(10), 19)), changed),
        (
            Err(Status::NoEntry),
            none(),
            "the host did not give the configuration: no such file or directory",
        ),
        (
            Ok((spaces(10), 20)),
            none(),
            "the host did not give the configuration: input/output error",
        ),
    ] {
        let ended = configuration(first, next);
        assert_eq!(ended, (Some(70), format!("enarx: {sentence}\n")));
    }
    // The other objects have their own limits.
    for (object, configuration, sentence) in [
        (
            Object::Application,
            &b"{}"[..],
            "the application is too large: 536870913 bytes, at most 536870912 are accepted",
        ),
        (
            Object::Contract,
            b"",
            "the contract is too large: 536870913 bytes, ",
        ),
    ] {
        let (code, said) = run_with_objects(|asked, _, _| {
            if asked == Object::Configuration {
                return Ok((configuration.to_vec(), configuration.len() as u64));
            }
            assert_eq!(asked, object);
            Ok((Vec::new(), (512 << 20) + 1))
        });
        assert_eq!(code, Some(70));
        assert!(said.starts_with(&format!("enarx: {sentence}")), "{said}");
    }
    // In pieces of any size it is complete.
    let (code, said) = run_with_objects(|object, offset, length| {
        let whole: &[u8] = match object {
            Object::Configuration => br#"{"args":["hello"]}"#,
            _ => b"not WebAssembly",
        };
        let rest = &whole[usize::try_from(offset).unwrap()..];
        let piece = &rest[..rest.len().min(length as usize).min(4)];
        Ok((piece.to_vec(), whole.len() as u64))
    });
    assert_eq!(code, Some(1));
    assert!(said.contains("it does not start with \\0asm"), "{said}");
}

/// Lets a hostile host act once the runtime has made its first call; the exit code.
fn against(act: impl FnOnce(Region)) -> Option<i32> {
    let (mut child, mut socket, region, _) = start(idle);
    let mut ring = [0; 1];
    socket.read_exact(&mut ring).unwrap();
    act(region);
    // Wakes the runtime if it already sleeps; it may also have ended.
    let _ = socket.write_all(b"!");
    child.wait().unwrap().code()
}

/// Posts a completion that no host's end would.
fn complete(region: Region, words: [u64; 4]) {
    for (place, word) in completion_entry(0).into_iter().zip(words) {
        region.store_u64(place, word);
    }
    region.store_u32(CQ_TAIL, 1, Ordering::Release);
}

#[test]
fn a_hostile_host_ends_the_keep() {
    // The first request has generation 1 in one of the slots; its id is not guessed here.
    let unknown_slot = 0xffff;
    let code = against(|region| complete(region, [unknown_slot, 0, 0, 0]));
    assert_eq!(code, Some(70));
    let stale = 0x7777_0000;
    let code = against(|region| complete(region, [stale, 0, 0, 0]));
    assert_eq!(code, Some(70));
    let code = against(|region| region.store_u32(CQ_TAIL, 1000, Ordering::Release));
    assert_eq!(code, Some(70));
}

#[test]
fn a_host_that_goes_away_ends_the_keep() {
    let (mut child, socket, _, _) = start(idle);
    drop(socket);
    // By the runtime itself, or by the signal of a broken socket.
    let status = child.wait().unwrap();
    assert!(
        status.code() == Some(70) || status.code().is_none(),
        "{status}"
    );
}

/// Maps the region at the address of a Keep's launch, before the runtime begins.
const MAPPER: &str = "
#include <sys/mman.h>
__attribute__((constructor)) static void map(void) {
    mmap((void *)0x700000000000, 10 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, 3, 0);
}
";

/// On a microkernel that does not give up the key of the secure processor: Linux lacks such a call.
#[test]
fn no_native_program_starts_while_it_could_get_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let (source, mapper) = (folder.path().join("map.c"), folder.path().join("map.so"));
    std::fs::write(&source, MAPPER).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut compile = Command::new(compiler);
    compile
        .args(["-shared", "-fPIC", "-o"])
        .args([&mapper, &source]);
    assert!(compile.status().unwrap().success());
    let prepare = |runtime: &mut Command| {
        runtime
            .arg("keep:0x700000000000")
            .env("LD_PRELOAD", &mapper);
    };
    let (mut child, _, _, host) =
        start_as(prepare, |region| Host::new(region, world(hello(), &[])));
    let begin = std::time::Instant::now();
    let status = loop {
        host.serve();
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < Duration::from_mins(1), "it does not end");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(status.code(), Some(70));
    assert_eq!(String::from_utf8_lossy(&host.stdout()), "");
    assert_eq!(
        String::from_utf8_lossy(&host.stderr()),
        "enarx: the microkernel does not give up the key of the secure processor\n"
    );
}

#[test]
fn unmapped_memory_is_not_used() {
    for address in ["0x700000000001", "0x7", "0x0", "0x"] {
        let output = Command::new(env!("CARGO_BIN_EXE_enarx-runtime"))
            .arg(format!("keep:{address}"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}: {output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            "enarx-runtime: the memory shared with the host is missing\n"
        );
    }
}

#[test]
fn outside_of_a_keep_the_runtime_explains_itself() {
    let output = Command::new(env!("CARGO_BIN_EXE_enarx-runtime"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("start applications with `enarx run`"),
        "{message}"
    );
}
