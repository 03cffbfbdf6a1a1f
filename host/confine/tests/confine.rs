//! Confinement proven on children: a forbidden call ends the process, an allowed one works.
//!
//! Without the usual harness: a child is this program again, with the name of what it is to do.
#![expect(
    clippy::print_stdout,
    reason = "a test program without the usual harness"
)]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::{env, io, thread};

use enarx_confine::landlock::{Enforcement, Tcp, restrict};
use enarx_confine::report::report_violations;
use enarx_confine::seccomp::{Allow, THREAD_CALLS, apply, compile};
use seccompiler::SeccompAction;

/// `FIONREAD` (Linux, include/uapi/asm-generic/ioctls.h).
const FIONREAD: u32 = 0x541b;

fn main() {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some("child") {
        return child(&arguments.next().unwrap());
    }
    // What cargo passes on (a filter, `--nocapture`) does not matter: everything runs.
    forbidden_calls_end_the_process();
    the_report_names_the_call();
    requests_are_told_apart();
    only_the_confined_thread_is_confined();
    only_granted_directories_stay_open();
    println!("confine: 5 tests passed");
}

fn run_child(scenario: &str) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["child", scenario])
        .output()
        .unwrap()
}

fn filter(otherwise: SeccompAction) {
    let calls = THREAD_CALLS
        .iter()
        .chain(&[libc::SYS_write, libc::SYS_close, libc::SYS_fcntl]);
    let allowed = calls
        .map(|call| Allow::Call(*call))
        .chain([Allow::Argument {
            call: libc::SYS_ioctl,
            index: 1,
            values: &[FIONREAD],
        }]);
    apply(&compile(allowed, otherwise).unwrap()).unwrap();
}

/// In the child: ends with 0 when nothing stopped it.
fn child(scenario: &str) {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    match scenario {
        "allowed" => {
            filter(SeccompAction::KillProcess);
            println!("still here");
        }
        "forbidden" => {
            filter(SeccompAction::KillProcess);
            let _ = File::open("/dev/null");
        }
        "reported" => {
            report_violations(70).unwrap();
            filter(SeccompAction::Trap);
            let _ = rustix::net::socket(
                rustix::net::AddressFamily::INET,
                rustix::net::SocketType::STREAM,
                None,
            );
        }
        "request" => {
            let (reader, _writer) = io::pipe().unwrap();
            filter(SeccompAction::KillProcess);
            assert_eq!(rustix::io::ioctl_fionread(&reader).unwrap(), 0);
        }
        "other request" => {
            filter(SeccompAction::KillProcess);
            let _ = rustix::io::ioctl_fionbio(&null, true);
        }
        other => panic!("unknown scenario {other}"),
    }
}

fn forbidden_calls_end_the_process() {
    let allowed = run_child("allowed");
    assert!(allowed.status.success(), "{allowed:?}");
    assert_eq!(allowed.stdout, b"still here\n");
    assert_eq!(run_child("forbidden").status.signal(), Some(libc::SIGSYS));
}

fn the_report_names_the_call() {
    let output = run_child("reported");
    assert_eq!(output.status.code(), Some(70));
    let text = String::from_utf8(output.stderr).unwrap();
    let number = format!("forbidden system call {:04};", libc::SYS_socket);
    assert!(text.contains(&number), "{text}");
}

fn requests_are_told_apart() {
    let output = run_child("request");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        run_child("other request").status.signal(),
        Some(libc::SIGSYS)
    );
}

fn only_the_confined_thread_is_confined() {
    let refused = libc::EPERM.cast_unsigned();
    let confined = thread::spawn(move || {
        filter(SeccompAction::Errno(refused));
        File::open("/dev/null")
            .err()
            .and_then(|error| error.raw_os_error())
    });
    assert_eq!(confined.join().unwrap(), Some(libc::EPERM));
    File::open("/dev/null").unwrap();
}

fn only_granted_directories_stay_open() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    for name in ["writable", "readable", "closed"] {
        fs::create_dir(place(name)).unwrap();
        fs::write(place(name).join("file"), name).unwrap();
    }
    let read = |path: &Path| fs::read(path).map(|bytes| bytes.len());
    thread::scope(|scope| {
        scope.spawn(|| {
            let writable = File::open(place("writable")).unwrap();
            let readable = File::open(place("readable")).unwrap();
            let granted = [(writable.as_fd(), false), (readable.as_fd(), true)];
            let enforcement = restrict(granted, Tcp::None).unwrap();
            // Without Landlock there is nothing to test, and that is not success.
            assert_ne!(
                enforcement,
                Enforcement::None,
                "this kernel has no Landlock"
            );
            let denied = |result: io::Result<usize>| {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            };
            assert_eq!(read(&place("writable/file")).unwrap(), 8);
            assert_eq!(read(&place("readable/file")).unwrap(), 8);
            denied(read(&place("closed/file")));
            denied(read(Path::new("/etc/passwd")));
            fs::write(place("writable/new"), "x").unwrap();
            fs::rename(place("writable/new"), place("writable/moved")).unwrap();
            denied(fs::write(place("readable/new"), "x").map(|()| 0));
            denied(fs::remove_file(place("readable/file")).map(|()| 0));
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0));
            if enforcement == Enforcement::Full {
                denied(listener.map(|_| 0));
            }
        });
    });
    // The others of this program see everything.
    assert_eq!(read(&place("closed/file")).unwrap(), 6);
}
