// SPDX-License-Identifier: Apache-2.0

//! Compromised Keeps try everything to outlive their time limit; they end within a second of it, in every
//! kind of Keep. Their attacks are in `hostile.h`.

#![allow(
    unsafe_code,
    reason = "a file system that does not answer is mounted by system calls"
)]

#[macro_use]
extern crate enarx_harness;

mod guest;

use std::fs::File;
use std::io::{ErrorKind, Read, Write, pipe};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use enarx_executor::grant::GrantedDirectory;
use enarx_executor::launch::{Confine, Launch, Outcome, Run};
use enarx_harness::needs;
use enarx_test_keeps::{KEEP, null};
use guest::{Options, Platform, alone, run_launch};

fn main() -> std::process::ExitCode {
    enarx_harness::main()
}

/// The time limit of these Keeps. On a busy machine it may expire before the attack begins: then the next try
/// has twice the time.
const LIMIT: Duration = Duration::from_millis(200);
/// The number of times that the time is doubled.
const TRIES: u32 = 8;
/// The longest time after its limit that a Keep may still exist.
const LATE: Duration = Duration::from_secs(5);

/// A kind of Keep.
#[derive(Clone, Copy)]
enum Kind {
    Kvm,
    Simulated,
    Process,
}

impl Kind {
    fn launch(self, mode: &str, stdio: [OwnedFd; 3]) -> Launch {
        match self.platform() {
            Some(platform) => guest::launch(&Options::on(platform), stdio),
            None => enarx_test_keeps::launch(mode, stdio),
        }
    }

    /// The platform of a virtual machine.
    fn platform(self) -> Option<Platform> {
        match self {
            Self::Kvm => Some(Platform::Kvm),
            Self::Simulated => Some(Platform::Simulated),
            Self::Process => None,
        }
    }

    fn run(self, mode: &str, launch: Launch) -> Run {
        match self.platform() {
            Some(platform) => run_launch(mode, &Options::on(platform), launch),
            None => enarx_process::run(KEEP.as_slice(), launch, Confine::Threads).unwrap(),
        }
    }
}

/// A test in every kind of Keep.
macro_rules! every_kind {
    ($name:ident, $body:expr) => {
        mod $name {
            use super::*;

            fn on(kind: Kind) {
                let _turn = alone();
                if !matches!(kind, Kind::Process) {
                    needs::kvm();
                }
                let body: fn(Kind) = $body;
                body(kind);
            }

            #[test]
            fn kvm() {
                on(Kind::Kvm);
            }

            #[test]
            fn simulated() {
                on(Kind::Simulated);
            }

            #[test]
            fn process() {
                on(Kind::Process);
            }
        }
    };
}

/// Runs a Keep in `mode`, with streams in addition to standard output, and directories. Asserts that it ends
/// in time; returns the threads that were left behind.
#[track_caller]
fn ends_in_time(
    kind: Kind,
    mode: &str,
    [stdin, stderr]: [&OwnedFd; 2],
    directory: Option<&OwnedFd>,
) -> Vec<String> {
    let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
    for limit in (0..TRIES).map(|n| LIMIT * 2_u32.pow(n)) {
        let (mut output, stdout) = pipe().unwrap();
        // When the attack begins; nothing is read after that.
        let begins = thread::spawn(move || {
            let mut word = [0; 3];
            let begins = output.read_exact(&mut word).map(|()| Instant::now());
            begins.ok().map(|begin| (begin, output))
        });
        let mut launch = kind.launch(mode, [copy(stdin), stdout.into(), copy(stderr)]);
        launch.timeout = Some(limit);
        let granted = directory.map(|directory| GrantedDirectory {
            directory: copy(directory),
            read_only: true,
            quota: None,
        });
        launch.grant.directories.extend(granted);
        let run = kind.run(mode, launch);
        let end = Instant::now();
        assert_eq!(run.outcome, Outcome::TimedOut);
        let Some((begin, _output)) = begins.join().unwrap() else {
            continue;
        };
        // The limit counts from before the attack.
        let late = (end - begin).saturating_sub(limit);
        assert!(late < LATE, "{late:?} after the limit");
        return run.report.left_behind;
    }
    panic!("the attack did not begin");
}

/// Like [`ends_in_time`], and every thread could be ended.
#[track_caller]
fn ends(kind: Kind, mode: &str, streams: [&OwnedFd; 2], directory: Option<&OwnedFd>) {
    assert_eq!(ends_in_time(kind, mode, streams, directory), [""; 0]);
}

every_kind!(endless_requests, |kind| {
    // Listing it takes longer than posting the next fifty requests to.
    let directory = tempfile::tempdir().unwrap();
    for n in 0..2000 {
        File::create(directory.path().join(format!("{n:0200}"))).unwrap();
    }
    let directory = File::open(directory.path()).unwrap().into();
    ends(kind, "H c", [&null(), &null()], Some(&directory));
});

every_kind!(a_log_that_nobody_reads, |kind| {
    let (_reader, writer) = pipe().unwrap();
    ends(kind, "H l", [&null(), &writer.into()], None);
});

every_kind!(a_standard_output_that_nobody_reads, |kind| {
    ends(kind, "H o", [&null(), &null()], None);
});

every_kind!(a_standard_error_that_nobody_reads, |kind| {
    let (_reader, writer) = pipe().unwrap();
    ends(kind, "H e", [&null(), &writer.into()], None);
});

// A socket cannot be reopened by name, so its description is shared and may block: another program takes the
// data that poll(2) has reported.
every_kind!(a_shared_standard_input_that_blocks, |kind| {
    let (stdin, mut typist) = UnixStream::pair().unwrap();
    let thief = stdin.try_clone().unwrap();
    typist.set_nonblocking(true).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let threads = [
        thread::spawn({
            let over = Arc::clone(&over);
            move || {
                while !over.load(Ordering::Relaxed) {
                    let flags = rustix::net::RecvFlags::DONTWAIT;
                    let _ = rustix::net::recv(&thief, &mut [0; 1], flags);
                }
            }
        }),
        thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let start = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    // In every other 10 ms nothing arrives: a read that sleeps then sleeps for long.
                    if (start.elapsed().as_millis() / 10).is_multiple_of(2) {
                        let _ = typist.write(b"x");
                    }
                    thread::yield_now();
                }
            }
        }),
    ];
    ends(kind, "H i", [&stdin.into(), &null()], None);
    over.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
});

/// A mounted file system that describes its root, and then nothing: looking for a file sleeps, and no
/// signal ends that.
struct Silent {
    directory: OwnedFd,
    /// When it is closed, the file system ends, and so does the sleep of those who wait.
    device: Arc<File>,
}

/// Operations of FUSE (Linux, include/uapi/linux/fuse.h).
const GETATTR: u32 = 3;
const INIT: u32 = 26;

/// Answers the requests before a file is looked up, and accepts everything else without an answer; ends with
/// the file system.
fn serve(device: &Weak<File>) {
    let mut request = vec![0; 1 << 20];
    while let Some(device) = device.upgrade() {
        match (&*device).read(&mut request) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                drop(device);
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(_) => return,
        }
        let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        let body = match word(4) {
            INIT => {
                // Version, read-ahead, flags, requests in the background, bytes written at once.
                let mut body = [7_u32, 31, 0, 0, 0, 4096].map(u32::to_le_bytes).concat();
                body.resize(64, 0);
                body
            }
            GETATTR => {
                // Valid forever; inode 1, a directory with two links.
                let mut body = u64::MAX.to_le_bytes().to_vec();
                body.resize(16, 0);
                body.extend(1_u64.to_le_bytes());
                body.resize(16 + 60, 0);
                body.extend([0o40_755_u32, 2].map(u32::to_le_bytes).concat());
                body.resize(16 + 88, 0);
                body
            }
            _ => continue,
        };
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut reply = [length, 0, word(8), word(12)]
            .map(u32::to_le_bytes)
            .concat();
        reply.extend(body);
        (&*device).write_all(&reply).unwrap();
    }
}

impl Silent {
    /// Mounts one where no other process sees it, which not every user may do.
    fn mount() -> Self {
        let mounting = || -> std::io::Result<Self> {
            let device = File::options()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open("/dev/fuse")?;
            let place = tempfile::tempdir()?;
            let path = std::ffi::CString::new(place.path().to_str().unwrap()).unwrap();
            let options = format!(
                "fd={},rootmode=40000,user_id=0,group_id=0",
                device.as_raw_fd()
            );
            let options = std::ffi::CString::new(options).unwrap();
            // SAFETY: system calls with strings that outlive them; this thread, which ends soon, has its own
            // mount namespace.
            unsafe {
                let succeeded = libc::unshare(libc::CLONE_NEWNS) == 0
                    && libc::mount(
                        c"none".as_ptr(),
                        c"/".as_ptr(),
                        std::ptr::null(),
                        libc::MS_REC | libc::MS_PRIVATE,
                        std::ptr::null(),
                    ) == 0
                    && libc::mount(
                        c"silent".as_ptr(),
                        path.as_ptr(),
                        c"fuse".as_ptr(),
                        0,
                        options.as_ptr().cast(),
                    ) == 0;
                if !succeeded {
                    return Err(std::io::Error::last_os_error());
                }
                let directory = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                assert!(directory >= 0);
                libc::umount2(path.as_ptr(), libc::MNT_DETACH);
                let directory = OwnedFd::from_raw_fd(directory);
                let device = Arc::new(device);
                let served = Arc::downgrade(&device);
                thread::spawn(move || serve(&served));
                Ok(Self { directory, device })
            }
        };
        match thread::spawn(mounting).join().unwrap() {
            Ok(mounted) => mounted,
            Err(error) => {
                needs::lacking("FUSE", &format!("no FUSE file system is mounted: {error}"))
            }
        }
    }
}

/// Threads of this program that serve a Keep.
fn serving() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    names
        .filter_map(Result::ok)
        .filter(|name| name.starts_with("vcpu") || name.trim() == "enarx-keep")
        .count()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

every_kind!(endless_look_ups, |kind| {
    for limit in (0..5).map(|n| Duration::from_secs(2) * 2_u32.pow(n)) {
        let (mut output, stdout) = pipe().unwrap();
        let mut launch = kind.launch("H n", [null(), stdout.into(), null()]);
        launch.timeout = Some(limit);
        launch.grant.network.name_lookup = true;
        let before = descriptors();
        let keep = thread::spawn(move || kind.run("H n", launch));
        let begins = output.read_exact(&mut [0; 3]).is_ok();
        let mut most = 0;
        while !keep.is_finished() {
            most = most.max(descriptors());
            thread::sleep(Duration::from_millis(1));
        }
        let run = keep.join().unwrap();
        assert_eq!(run.outcome, Outcome::TimedOut);
        assert_eq!(run.report.left_behind, [""; 0]);
        // The machine, its vCPUs and files of the C library; a descriptor a look-up would be thousands.
        assert!(most < before + 60, "{before} descriptors, then {most}");
        // The thread that looks up names ends with its last look-up.
        if begins {
            return;
        }
    }
    panic!("the attack did not begin");
});

every_kind!(standard_streams_have_a_direction, |kind| {
    // Sockets can be read and written at both ends, so only the direction of the stream limits the Keep.
    let (stdin, mut terminal) = UnixStream::pair().unwrap();
    let (stdout, mut reader) = UnixStream::pair().unwrap();
    reader.write_all(b"secret").unwrap();
    let mut launch = kind.launch("H d", [stdin.into(), stdout.into(), null()]);
    launch.timeout = Some(Duration::from_mins(1));
    assert_eq!(kind.run("H d", launch).outcome, Outcome::Exit(0));
    let mut written = Vec::new();
    terminal.read_to_end(&mut written).unwrap();
    assert_eq!(written, b"");
    let mut printed = Vec::new();
    // In the end it is reported that not everything sent was read.
    assert!(reader.read_to_end(&mut printed).is_err());
    // 9 is `BadHandle`.
    assert_eq!(printed, b"go\nstatus 9\nstatus 9\n");
});

every_kind!(a_directory_that_does_not_answer, |kind| {
    let Silent { directory, device } = Silent::mount();
    let left = ends_in_time(kind, "H f", [&null(), &null()], Some(&directory));
    assert_eq!(left.len(), 1, "{left:?}");
    // The thread that was left behind ends as soon as it can. The system still lists the others for a moment after they were
    // joined.
    let await_serving = |most| {
        let start = Instant::now();
        while serving() > most {
            assert!(start.elapsed() < Duration::from_mins(1), "it does not end");
            thread::sleep(Duration::from_millis(1));
        }
    };
    await_serving(1);
    assert_eq!(serving(), 1);
    drop(device);
    await_serving(0);
});
