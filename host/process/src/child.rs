// SPDX-License-Identifier: Apache-2.0

//! Starts the runtime as a confined process: what happens between fork(2) and the runtime's first
//! instruction.
//!
//! Between fork and exec only system calls are made: another thread of the parent may have held any
//! lock. Everything that needs memory is prepared before.

#![expect(
    unsafe_code,
    reason = "fork, exec and what lies between them have no safe interface"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use enarx_exits::process;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use seccompiler::BpfProgram;

/// Descriptor of the runtime's image; closed when it has started.
pub const IMAGE_FD: RawFd = 5;
/// Descriptor of the Landlock rules; closed when the runtime has started.
const LANDLOCK_FD: RawFd = 6;
/// The first thread's stack, in bytes: as in a Keep on the microkernel.
const STACK: u64 = 8 << 20;
/// The parent's copies lie above all numbers that the child assigns.
const COPIES_FROM: RawFd = 64;

/// First byte of the message that reports the confinement; a [`Report`] bit set follows.
pub const CONFINED: u8 = b'C';
/// First byte of the message that reports a failure; the [`Stage`] and the error number follow.
pub const FAILED: u8 = b'F';

/// The user namespace could be had.
pub const HAS_USER_NAMESPACE: u8 = 1;
/// The network, IPC, UTS and mount namespaces could be had.
pub const HAS_NAMESPACES: u8 = 2;
/// Landlock is in effect.
pub const HAS_LANDLOCK: u8 = 4;

/// The step at which the child failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Placing its descriptors.
    Descriptors = 1,
    /// Setting its limits.
    Limits = 2,
    /// Giving up privileges, Landlock, seccomp.
    Confinement = 3,
    /// Starting the image.
    Start = 4,
}

impl Stage {
    /// Describes the stage of this number.
    pub fn describe(number: u8) -> &'static str {
        const DESCRIPTORS: u8 = Stage::Descriptors as u8;
        const LIMITS: u8 = Stage::Limits as u8;
        const CONFINEMENT: u8 = Stage::Confinement as u8;
        match number {
            DESCRIPTORS => "its descriptors could not be placed",
            LIMITS => "its limits could not be set",
            CONFINEMENT => "it could not be confined",
            _ => "its image could not be executed",
        }
    }
}

/// Everything that the child needs.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The shared region.
    pub region: BorrowedFd<'a>,
    /// The child's end of the doorbell.
    pub socket: BorrowedFd<'a>,
    /// The runtime's image.
    pub image: BorrowedFd<'a>,
    /// `/dev/null`, for standard input and output.
    pub null: BorrowedFd<'a>,
    /// Standard error, for the last words of a runtime that fails.
    pub stderr: BorrowedFd<'a>,
    /// Landlock rules.
    pub landlock: Option<BorrowedFd<'a>>,
    /// Refuses some calls with an error number.
    pub refuse: &'a BpfProgram,
    /// Reports forbidden calls to a listener.
    pub notify: &'a BpfProgram,
    /// Kills at forbidden calls, where there can be no listener.
    pub kill: &'a BpfProgram,
    /// Bytes of writable private memory.
    pub memory: u64,
    /// Threads.
    pub threads: u64,
}

/// A running child. It is not reaped by itself.
#[derive(Debug)]
pub struct Child {
    /// Names the process, even after its end.
    pub pidfd: OwnedFd,
}

/// Starts the runtime.
///
/// It dies with the calling *thread*, which must therefore outlive it.
///
/// # Errors
/// The system's.
pub fn spawn(plan: &Plan<'_>) -> io::Result<Child> {
    let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, COPIES_FROM);
    let null = copy(plan.null)?;
    let stderr = copy(plan.stderr)?;
    let region = copy(plan.region)?;
    let socket = copy(plan.socket)?;
    let image = copy(plan.image)?;
    let landlock = plan.landlock.map(copy).transpose()?;
    let prepared = Prepared {
        places: [
            (null.as_raw_fd(), 0, 0),
            (null.as_raw_fd(), 1, 0),
            (stderr.as_raw_fd(), 2, 0),
            (region.as_raw_fd(), process::REGION_FD, 0),
            (socket.as_raw_fd(), process::DOORBELL_FD, 0),
            (image.as_raw_fd(), IMAGE_FD, libc::O_CLOEXEC),
        ],
        landlock: landlock.as_ref().map(|fd| fd.as_fd().as_raw_fd()),
        refuse: program(plan.refuse)?,
        notify: program(plan.notify)?,
        kill: program(plan.kill)?,
        memory: plan.memory,
        threads: plan.threads,
        parent: rustix::process::getpid(),
    };
    // SAFETY: the child makes system calls only (`run`) and never returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: this is the child of a fork, and `prepared` was made by the parent.
            unsafe { prepared.run() }
        }
        pid => {
            let pid =
                Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
            // It is our child and not reaped, so the number still names it.
            let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
            Ok(Child { pidfd })
        }
    }
}

fn program(filter: &BpfProgram) -> io::Result<libc::sock_fprog> {
    const _: () = assert!(size_of::<libc::sock_filter>() == size_of::<seccompiler::sock_filter>());
    Ok(libc::sock_fprog {
        len: filter
            .len()
            .try_into()
            .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        // The kernel only reads it.
        filter: filter.as_ptr().cast_mut().cast(),
    })
}

/// Everything as plain numbers and addresses.
struct Prepared {
    places: [(RawFd, RawFd, libc::c_int); 6],
    landlock: Option<RawFd>,
    refuse: libc::sock_fprog,
    notify: libc::sock_fprog,
    kill: libc::sock_fprog,
    memory: u64,
    threads: u64,
    parent: Pid,
}

impl Prepared {
    /// Becomes the runtime.
    ///
    /// # Safety
    /// Only in the child of a fork: it changes the whole process.
    unsafe fn run(&self) -> ! {
        // SAFETY: in here and in the functions below, all addresses are those of locals, constants and of
        // the filters, which the parent's memory (of which this is a copy) keeps alive; the numbers are
        // this process's own to change.
        unsafe {
            // Before this the parent may have died already: then the parent is another.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            if libc::getppid() != self.parent.as_raw_nonzero().get() {
                libc::_exit(1);
            }
            self.place_descriptors();
            prefer_for_oom_kill();
            let mut report = unshare();
            self.limit(report & HAS_USER_NAMESPACE != 0);
            report |= self.confine();
            self.filter(report);
            let empty: [*const libc::c_char; 1] = [std::ptr::null()];
            let arguments = [
                c"enarx-runtime".as_ptr(),
                c"process".as_ptr(),
                std::ptr::null(),
            ];
            libc::syscall(
                libc::SYS_execveat,
                IMAGE_FD,
                c"".as_ptr(),
                arguments.as_ptr(),
                empty.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
            fail(Stage::Start)
        }
    }

    /// Gives the descriptors the numbers that the runtime expects and closes all others; what else it would inherit
    /// (signal mask, umask, folder) becomes that of a new program.
    ///
    /// # Safety
    /// As [`Self::run`].
    unsafe fn place_descriptors(&self) {
        // SAFETY: the descriptors are this process's own copies; see `run`.
        unsafe {
            for (from, to, flags) in self.places {
                if libc::dup3(from, to, flags) < 0 {
                    fail(Stage::Descriptors);
                }
            }
            let mut first = LANDLOCK_FD;
            if let Some(landlock) = self.landlock {
                if libc::dup3(landlock, LANDLOCK_FD, libc::O_CLOEXEC) < 0 {
                    fail(Stage::Descriptors);
                }
                first += 1;
            }
            if libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) < 0 {
                fail(Stage::Descriptors);
            }
            // The parent's signal mask is inherited. Of it the runtime keeps the signals that end a server, which are
            // the supervisor's where it has blocked them.
            let mut inherited = MaybeUninit::<libc::sigset_t>::zeroed();
            libc::sigprocmask(libc::SIG_SETMASK, std::ptr::null(), inherited.as_mut_ptr());
            let mut kept = MaybeUninit::<libc::sigset_t>::zeroed();
            libc::sigemptyset(kept.as_mut_ptr());
            for signal in [libc::SIGINT, libc::SIGTERM] {
                if libc::sigismember(inherited.as_ptr(), signal) == 1 {
                    libc::sigaddset(kept.as_mut_ptr(), signal);
                }
            }
            libc::sigprocmask(libc::SIG_SETMASK, kept.as_ptr(), std::ptr::null_mut());
            libc::umask(0o077);
            if libc::chdir(c"/".as_ptr()) < 0 {
                fail(Stage::Descriptors);
            }
        }
    }

    /// Sets the limits of resources; those of threads only with `own_user`, a user namespace of its own.
    ///
    /// # Safety
    /// As [`Self::run`].
    unsafe fn limit(&self, own_user: bool) {
        // RLIMIT_DATA counts private writable memory (setrlimit(2)), the first stack excepted; the filters
        // leave no other kind. Address space is only reserved by Wasmtime, in gigabytes, so RLIMIT_AS says
        // nothing.
        let limits = [
            (libc::RLIMIT_DATA, Some(self.memory)),
            (libc::RLIMIT_CORE, Some(0)),
            (libc::RLIMIT_FSIZE, Some(0)),
            (libc::RLIMIT_NOFILE, Some(8)),
            (libc::RLIMIT_STACK, Some(STACK)),
            // Counts all processes of the user unless the user is this namespace's own.
            (libc::RLIMIT_NPROC, own_user.then_some(self.threads)),
        ];
        for (resource, value) in limits {
            let Some(value) = value else { continue };
            let limit = libc::rlimit {
                rlim_cur: value,
                rlim_max: value,
            };
            // SAFETY: `limit` lives during the call; see `run`.
            unsafe {
                if libc::setrlimit(resource, &raw const limit) < 0 {
                    fail(Stage::Limits);
                }
            }
        }
    }

    /// Permanently drops privileges and applies the Landlock rules. Returns [`HAS_LANDLOCK`], or 0 without rules.
    ///
    /// # Safety
    /// As [`Self::run`].
    unsafe fn confine(&self) -> u8 {
        // SAFETY: the calls take numbers; see `run`.
        unsafe {
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
                fail(Stage::Confinement);
            }
            if self.landlock.is_none() {
                return 0;
            }
            if libc::syscall(libc::SYS_landlock_restrict_self, LANDLOCK_FD, 0) < 0 {
                fail(Stage::Confinement);
            }
            HAS_LANDLOCK
        }
    }

    /// Sets the filters, and sends the report with the listener, if there is one. The last filter takes away
    /// what sending it needs.
    ///
    /// # Safety
    /// As [`Self::run`]; the three filters are valid.
    unsafe fn filter(&self, report: u8) {
        // SAFETY: `spawn` made the filters' addresses from programs that it borrows; see `run`.
        unsafe {
            let listener = seccomp(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, &self.notify);
            if listener < 0 && seccomp(0, &self.kill) < 0 {
                fail(Stage::Confinement);
            }
            send_report(report, listener);
            if seccomp(0, &self.refuse) < 0 {
                fail(Stage::Confinement);
            }
        }
    }
}

/// seccomp(2): sets a filter. Returns the listener if `flags` ask for one, otherwise 0; -1 when it is refused.
///
/// # Safety
/// `filter` has the address and the length of a program that lives during the call.
unsafe fn seccomp(flags: libc::c_ulong, filter: &libc::sock_fprog) -> RawFd {
    // SAFETY: the caller vouches for the filter; the kernel copies it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(filter),
        )
    };
    RawFd::try_from(result).unwrap_or(-1)
}

/// If the host's memory runs out, this process is killed before others. If this cannot be set, the kernel chooses as
/// usual.
///
/// # Safety
/// As [`Prepared::run`].
unsafe fn prefer_for_oom_kill() {
    // SAFETY: system calls with constants; the descriptor is this function's own.
    unsafe {
        let adjustment = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if adjustment >= 0 {
            libc::write(adjustment, c"1000".as_ptr().cast(), 4);
            libc::close(adjustment);
        }
    }
}

/// Leaves the host's namespaces as far as the host allows it, and returns how far.
///
/// # Safety
/// As [`Prepared::run`].
unsafe fn unshare() -> u8 {
    let others = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNS;
    // SAFETY: this process has one thread; it changes its own namespaces.
    unsafe {
        if libc::unshare(libc::CLONE_NEWUSER | others) == 0 {
            HAS_USER_NAMESPACE | HAS_NAMESPACES
        } else if libc::unshare(others) == 0 {
            HAS_NAMESPACES
        } else {
            0
        }
    }
}

/// Room for one descriptor as ancillary data, aligned as `cmsghdr` asks.
#[repr(C, align(8))]
struct Control([u8; 24]);

// SAFETY: CMSG_SPACE only computes.
const _: () = assert!(unsafe { libc::CMSG_SPACE(4) } as usize == size_of::<Control>());

/// A message of one part, with room for one descriptor if `control` is given.
fn message(vector: &mut libc::iovec, control: Option<&mut Control>) -> libc::msghdr {
    // SAFETY: zeros are a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_iov = std::ptr::from_mut(vector);
    message.msg_iovlen = 1;
    if let Some(control) = control {
        message.msg_control = std::ptr::from_mut(control).cast();
        message.msg_controllen = size_of::<Control>();
    }
    message
}

/// Sends the report to the parent, with the listener if there is one (not negative).
///
/// # Safety
/// As [`Prepared::run`], when the doorbell has its number.
unsafe fn send_report(report: u8, listener: RawFd) {
    let mut bytes = [CONFINED, report];
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 24]);
    let has_listener = listener >= 0;
    let message = message(&mut vector, has_listener.then_some(&mut control));
    // SAFETY: all addresses are those of the locals above, and the control buffer has exactly the room for
    // one descriptor (asserted above).
    unsafe {
        if has_listener {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(header)
                .cast::<RawFd>()
                .write_unaligned(listener);
        }
        let flags = libc::MSG_NOSIGNAL;
        if libc::sendmsg(process::DOORBELL_FD, &raw const message, flags) < 0 {
            fail(Stage::Confinement);
        }
        // The listener closes at exec; until then only this code runs.
    }
}

/// Reports the last error and ends.
///
/// # Safety
/// As [`Prepared::run`]: it writes to the doorbell's number, whatever has it.
unsafe fn fail(stage: Stage) -> ! {
    // SAFETY: system calls on a local buffer, and this thread's own error number.
    unsafe {
        let [a, b, c, d] = (*libc::__errno_location()).to_le_bytes();
        let message = [FAILED, stage as u8, a, b, c, d];
        libc::write(process::DOORBELL_FD, message.as_ptr().cast(), message.len());
        libc::_exit(1)
    }
}

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`: make the call (Linux, include/uapi/linux/seccomp.h).
const CONTINUE: u32 = 1;

/// A forbidden system call that was reported to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// Where it was made.
    pub rip: u64,
}

/// Takes one notification; the thread that made the call stays stopped until it is killed.
///
/// # Errors
/// The system's; `ENOENT` when that thread is gone already.
pub fn receive_notification(listener: BorrowedFd<'_>) -> io::Result<Forbidden> {
    Ok(receive(listener)?.1)
}

/// A notification's number, and the call.
fn receive(listener: BorrowedFd<'_>) -> io::Result<(u64, Forbidden)> {
    let mut notification = MaybeUninit::<libc::seccomp_notif>::zeroed();
    // SAFETY: the kernel wants a zeroed structure of this type and fills it in.
    let notification = unsafe {
        let result = libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            notification.as_mut_ptr(),
        );
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        notification.assume_init()
    };
    let call = Forbidden {
        number: i64::from(notification.data.nr),
        arguments: notification.data.args,
        rip: notification.data.instruction_pointer,
    };
    Ok((notification.id, call))
}

/// Lets the child continue that waits for the listener's decision: it is about to become the runtime, which is the
/// only time that it may start a program.
///
/// # Errors
/// The system's; `EACCES` when the child is about to do anything else.
pub fn allow_start(listener: BorrowedFd<'_>) -> io::Result<()> {
    let (id, call) = receive(listener)?;
    if call.number != libc::SYS_execveat {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    let answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: 0,
        flags: CONTINUE,
    };
    // SAFETY: the kernel reads a structure of this type.
    let result = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw const answer,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The report of a child, and its listener.
///
/// # Errors
/// The system's.
pub fn receive_report(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut vector = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut control = Control([0; 24]);
    let mut message = message(&mut vector, Some(&mut control));
    // SAFETY: all addresses are those of the locals above and of `bytes`, with their lengths. A descriptor that
    // the kernel put into the control buffer is ours to own.
    unsafe {
        let flags = libc::MSG_CMSG_CLOEXEC;
        let count = libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags);
        let Ok(count) = usize::try_from(count) else {
            return Err(io::Error::last_os_error());
        };
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let has_descriptor = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len == libc::CMSG_LEN(4) as usize;
        let listener = has_descriptor.then(|| {
            OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned())
        });
        Ok((count, listener))
    }
}
