// SPDX-License-Identifier: Apache-2.0

//! Confinement tested on child processes: a forbidden call ends the process, an allowed one works.
//!
//! A child is this program again, with the name of its task.
#![allow(unsafe_code, reason = "forbidden system calls have no safe interface")]
#![expect(clippy::print_stdout, reason = "of a child, the test reads it")]

#[macro_use]
extern crate enarx_harness;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::{env, io, thread};

use enarx_confine::landlock::{Enforcement, Tcp, restrict};
use enarx_confine::report::report_violations;
use enarx_confine::seccomp::{Allow, apply, calls, compile, thread as any_thread};
use enarx_executor::grant::{Grant, NetworkGrant};
use enarx_vmm::vm::confinement::Confinement;
use landlock::Erratum;
use seccompiler::SeccompAction;

/// `FIONREAD` (Linux, include/uapi/asm-generic/ioctls.h).
const FIONREAD: u32 = 0x541b;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some("child") {
        child(&arguments.next().unwrap());
        return ExitCode::SUCCESS;
    }
    enarx_harness::main()
}

fn run_child(scenario: &str) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["child", scenario])
        .output()
        .unwrap()
}

fn filter(otherwise: SeccompAction) {
    let more = calls(&[libc::SYS_write, libc::SYS_close, libc::SYS_fcntl]);
    let allowed = any_thread().chain(more).chain([Allow::ioctl(&[FIONREAD])]);
    apply(&compile(allowed, otherwise).unwrap()).unwrap();
}

/// In the child: ends with 0 if nothing stopped it.
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
        "look for files" => look_for_files(),
        other => match other.strip_prefix("second thread: ") {
            Some(scenario) => second_thread(scenario),
            None => vcpu(other),
        },
    }
}

/// A grant of TCP only.
fn grant() -> Grant {
    let null = || File::open("/dev/null").unwrap().into();
    Grant {
        network: NetworkGrant {
            tcp: true,
            ..NetworkGrant::default()
        },
        ..Grant::of_streams([null(), null(), null()])
    }
}

/// The calls that a thread started by a process confined as a whole must not make; the process may.
const PROCESS_MUST_NOT: [&str; 12] = [
    "make a tcp socket",
    "connect",
    "signal init",
    "kill a thread",
    "make a unix socket",
    "map code",
    "make code",
    "handle a signal",
    "open a file",
    "execute",
    "trace",
    "fork",
];
const PROCESS_MAY: [&str; 3] = ["signal a thread", "map memory", "start a thread"];

/// In the child, on a second thread of a process that is confined like one that serves a Keep.
fn second_thread(scenario: &str) {
    let grant = Grant {
        network: NetworkGrant::default(),
        ..grant()
    };
    let mut confinement = Confinement::new(&grant, Vec::new()).unwrap();
    confinement.confine_process(Vec::new(), Vec::new()).unwrap();
    let scenario = scenario.to_owned();
    thread::spawn(move || attempt(&scenario)).join().unwrap();
}

/// In the child: looks files up by name, in a process that is confined like one that serves a Keep.
fn look_for_files() {
    use rustix::fs::{
        AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, readlinkat, statat, utimensat,
    };
    use rustix::io::Errno;

    // As in the supervisor; root may do without.
    // SAFETY: takes a number; this process has one thread.
    let own = unsafe { libc::unshare(libc::CLONE_NEWUSER) } == 0;
    if !own && !rustix::process::geteuid().is_root() {
        println!("no namespace");
        return;
    }
    let program = env::current_exe().unwrap();
    let mut confinement = Confinement::new(&grant(), Vec::new()).unwrap();
    confinement.confine_process(Vec::new(), Vec::new()).unwrap();
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    let none = AtFlags::empty();
    let found = [
        statat(CWD, "/etc/passwd", none).map(drop),
        statat(CWD, "/proc", none).map(drop),
        readlinkat(CWD, "/proc/self/exe", Vec::new()).map(drop),
        utimensat(CWD, &program, &times, none),
    ];
    assert_eq!(found, [Err(Errno::NOENT); 4]);
    println!("found nothing");
}

#[test]
fn a_process_that_serves_a_keep_finds_no_files() {
    let output = run_child("look for files");
    assert!(output.status.success(), "{output:?}");
    if output.stdout == b"no namespace\n" {
        enarx_harness::needs::lacking("NAMESPACES", "this user gets no user namespace");
    }
    assert_eq!(output.stdout, b"found nothing\n", "{output:?}");
}

#[test]
fn a_second_thread_of_the_vmm_can_do_only_what_it_needs() {
    for scenario in PROCESS_MAY {
        let output = run_child(&format!("second thread: {scenario}"));
        assert!(output.status.success(), "{scenario}: {output:?}");
    }
    for scenario in PROCESS_MUST_NOT {
        let output = run_child(&format!("second thread: {scenario}"));
        assert_eq!(
            output.status.signal(),
            Some(libc::SIGSYS),
            "{scenario}: {output:?}"
        );
    }
}

/// The calls that a vCPU thread of a Keep with `tcp` may make, and must not.
const VCPU_MAY: [&str; 4] = ["signal a thread", "make a tcp socket", "map memory", "grow"];
const VCPU_MUST_NOT: [&str; 15] = [
    "signal init",
    "kill a thread",
    "make a udp socket",
    "make a unix socket",
    "make a netlink socket",
    "make a raw socket",
    "map code",
    "make code",
    "move a mapping",
    "handle a signal",
    "own a signal",
    "open a file",
    "execute",
    "trace",
    "set a limit",
];

/// In the child, on a thread under the filter of vCPU threads.
fn vcpu(scenario: &str) {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeros are a valid action, with a handler that is set to "ignore".
    unsafe {
        action.assume_init_mut().sa_sigaction = libc::SIG_IGN;
        libc::sigaction(libc::SIGRTMIN(), action.as_ptr(), std::ptr::null_mut());
    }
    Confinement::new(&grant(), Vec::new())
        .unwrap()
        .apply()
        .unwrap();
    attempt(scenario);
}

/// Makes one call; a filter may end the process.
fn attempt(scenario: &str) {
    let action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    let socket = |family, kind| {
        // SAFETY: makes a descriptor; no memory is involved.
        unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) }
    };
    let map = |protection| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice.
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) }
    };
    let write = libc::PROT_READ | libc::PROT_WRITE;
    let signal = libc::SIGRTMIN();
    // SAFETY: calls that are not stopped change nothing that this process uses afterwards; addresses are
    // those of constants and of mappings made here.
    let result = unsafe {
        let (process, thread) = (libc::getpid(), libc::gettid());
        let tgkill = |process: libc::pid_t, signal: libc::c_int| {
            let thread = if process == 1 { 1 } else { thread };
            libc::syscall(libc::SYS_tgkill, process, thread, signal)
        };
        match scenario {
            "signal a thread" => tgkill(process, signal),
            "make a tcp socket" => socket(libc::AF_INET6, libc::SOCK_STREAM).into(),
            "map memory" => map(write) as i64,
            "grow" => i64::from(vec![1_u8; 64 << 20][1 << 20]),
            "signal init" => tgkill(1, signal),
            "kill a thread" => tgkill(process, libc::SIGTERM),
            "make a udp socket" => socket(libc::AF_INET, libc::SOCK_DGRAM).into(),
            "make a unix socket" => socket(libc::AF_UNIX, libc::SOCK_STREAM).into(),
            "make a netlink socket" => socket(libc::AF_NETLINK, libc::SOCK_RAW).into(),
            "make a raw socket" => socket(libc::AF_INET, libc::SOCK_RAW).into(),
            "map code" => map(libc::PROT_READ | libc::PROT_EXEC) as i64,
            "make code" => libc::mprotect(map(write), 4096, libc::PROT_EXEC).into(),
            "move a mapping" => {
                let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                libc::mremap(map(write), 4096, 4096, flags, map(write)) as i64
            }
            "handle a signal" => {
                libc::sigaction(libc::SIGSYS, action.as_ptr(), std::ptr::null_mut()).into()
            }
            "own a signal" => libc::fcntl(0, libc::F_SETOWN, 1).into(),
            "open a file" => libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY).into(),
            "execute" => libc::execv(c"/bin/true".as_ptr(), [std::ptr::null()].as_ptr()).into(),
            "trace" => libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1, 0, 0),
            "set a limit" => {
                let limit = libc::rlimit {
                    rlim_cur: 1,
                    rlim_max: 1,
                };
                libc::setrlimit(libc::RLIMIT_CPU, &raw const limit).into()
            }
            "connect" => {
                let nowhere = std::mem::MaybeUninit::<libc::sockaddr>::zeroed();
                libc::connect(0, nowhere.as_ptr(), 16).into()
            }
            "fork" => libc::fork().into(),
            "start a thread" => {
                thread::spawn(|| ()).join().unwrap();
                0
            }
            other => panic!("unknown scenario {other}"),
        }
    };
    assert!(result >= 0, "{scenario}: {}", io::Error::last_os_error());
}

#[test]
fn vcpu_threads_can_do_only_what_they_need() {
    for scenario in VCPU_MAY {
        let output = run_child(scenario);
        assert!(output.status.success(), "{scenario}: {output:?}");
    }
    for scenario in VCPU_MUST_NOT {
        let output = run_child(scenario);
        assert_eq!(
            output.status.signal(),
            Some(libc::SIGSYS),
            "{scenario}: {output:?}"
        );
    }
}

#[test]
fn forbidden_calls_end_the_process() {
    let allowed = run_child("allowed");
    assert!(allowed.status.success(), "{allowed:?}");
    assert_eq!(allowed.stdout, b"still here\n");
    assert_eq!(run_child("forbidden").status.signal(), Some(libc::SIGSYS));
}

#[test]
fn the_report_names_the_call() {
    let output = run_child("reported");
    assert_eq!(output.status.code(), Some(70));
    let text = String::from_utf8(output.stderr).unwrap();
    let number = format!("forbidden system call {:04};", libc::SYS_socket);
    assert!(text.contains(&number), "{text}");
}

#[test]
fn requests_are_distinguished() {
    let output = run_child("request");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        run_child("other request").status.signal(),
        Some(libc::SIGSYS)
    );
}

#[test]
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

#[test]
fn tcp_is_limited_to_the_named_ports() {
    use rustix::net::sockopt::set_socket_reuseaddr;
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};

    let [named, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [named, other] = [&named, &other].map(|it| it.local_addr().unwrap());
    // A socket that does not listen occupies the port: nobody else gets it, and this test can still listen there.
    let holder = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_reuseaddr(&holder, true).unwrap();
    bind(&holder, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = SocketAddr::try_from(getsockname(&holder).unwrap()).unwrap();
    let own_port = own.port();
    let tcp = Tcp::Ports {
        connect: Some(vec![named.port()]),
        bind: Some(vec![own_port, 0]),
    };
    let confined = thread::spawn(move || {
        let enforcement = restrict([], &tcp).unwrap();
        // Without Landlock there is nothing to test, and that is not success.
        assert_eq!(
            enforcement,
            Enforcement::Full,
            "this kernel has no Landlock of now"
        );
        TcpStream::connect(named).unwrap();
        TcpListener::bind(own).unwrap();
        TcpListener::bind("127.0.0.1:0").unwrap();
        let denied = |error: io::Error| {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        };
        denied(TcpStream::connect(other).map(drop).unwrap_err());
        denied(TcpListener::bind(other).map(drop).unwrap_err());
    });
    confined.join().unwrap();
    TcpStream::connect(other).unwrap();
}

#[test]
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
            let enforcement = restrict(granted, &Tcp::None).unwrap();
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
            // In the same kernels that distinguish a program's threads from other processes.
            if Erratum::current().contains(Erratum::ScopedSignalHandling) {
                denied(listener.map(|_| 0));
                let own = rustix::process::getpid();
                rustix::process::test_kill_process(own).unwrap();
                let init = rustix::process::Pid::INIT;
                let refused = rustix::process::test_kill_process(init);
                assert_eq!(refused, Err(rustix::io::Errno::PERM));
            }
        });
    });
    // The others of this program see everything.
    assert_eq!(read(&place("closed/file")).unwrap(), 6);
}
