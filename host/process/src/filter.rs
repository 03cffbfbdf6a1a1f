// SPDX-License-Identifier: Apache-2.0

//! The system calls that the runtime's process and the thread that serves it may make.

use std::os::fd::{AsRawFd, BorrowedFd};

use seccompiler::{BpfProgram, SeccompAction};

use super::child::IMAGE_FD;
use enarx_confine::ConfineError;
use enarx_confine::process::{self, THREAD};
use enarx_confine::seccomp::{self, Allow, calls, compile, wide, word};
use enarx_executor::grant::Services;
use enarx_executor::interrupt;
use enarx_executor::refused::RefusedCalls;
use enarx_exits::process::{DOORBELL_FD, REGION_FD};

/// `BPF_RET | BPF_K`: return a constant (Linux, include/uapi/linux/bpf_common.h).
const RETURN_CONSTANT: u16 = 0x06;
/// Descriptor of standard error, for last words.
const STDERR: i32 = 2;
/// `PROT_GROWSDOWN | PROT_GROWSUP` (Linux, include/uapi/asm-generic/mman-common.h): mprotect(2) changes as
/// much of a growing mapping as there is.
const GROWING: u64 = 0x0300_0000;

/// The filters of the runtime's process.
#[derive(Debug)]
pub struct Filters {
    /// Allows the calls that the runtime needs, and reports everything else to a listener, including its own start.
    pub notify: BpfProgram,
    /// The same, kills at everything else; it allows the start.
    pub kill: BpfProgram,
    /// Set last: refuses calls that programs try and can do without, like the microkernel (`ENOSYS`), and calls
    /// that are needed only until then.
    pub refuse: BpfProgram,
}

/// Calls that the C library, the standard library and Wasmtime try and can do without. Those that name a file would
/// reveal which files exist: Landlock does not prevent this.
const REFUSED: &[i64] = &[
    libc::SYS_access,
    libc::SYS_clone3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_get_mempolicy,
    libc::SYS_io_uring_setup,
    libc::SYS_ioctl,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_sched_setaffinity,
    libc::SYS_set_mempolicy,
    libc::SYS_setrlimit,
    libc::SYS_socket,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_userfaultfd,
];

/// The calls of [`REFUSED`] that the C library, or Wasmtime in the case of the memory file, tries in every Keep and
/// is written to go on without.
const OPTIONAL_CALLS: &[i64] = &[libc::SYS_clone3, libc::SYS_memfd_create, libc::SYS_readlink];

/// True if a call is one that a Keep does not have, and not one that is forbidden.
pub fn is_refused(call: i64) -> bool {
    REFUSED.contains(&call)
}

/// Calls between the first filter and the last: the report with its descriptor, and the filter.
const STARTUP_CALLS: &[i64] = &[libc::SYS_seccomp, libc::SYS_sendmsg];

/// Calls of the runtime with any arguments: those of any thread, and queries of a C library and Wasmtime.
const RUNTIME: &[i64] = &[
    libc::SYS_arch_prctl,
    libc::SYS_clock_getres,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getrlimit,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_mincore,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_rt_sigaction,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_tid_address,
    libc::SYS_sysinfo,
    libc::SYS_time,
    libc::SYS_uname,
];

/// Calls of the runtime with certain arguments only.
fn runtime_arguments() -> [Allow; 13] {
    // Memory that a limit of private writable memory does not count, or that takes more than it says: it
    // grows by itself, is locked, or comes from the pool of huge pages.
    let uncounted = libc::MAP_GROWSDOWN | libc::MAP_HUGETLB | libc::MAP_LOCKED;
    let shape = wide(libc::MAP_TYPE | uncounted);
    [
        Allow::call(libc::SYS_clone).long(0, &[THREAD]),
        // Of its own descriptors; never `F_SETOWN` and `F_SETSIG`, which name any process.
        Allow::call(libc::SYS_fcntl).word(1, &[libc::F_GETFD, libc::F_GETFL].map(word)),
        // Private memory, which the limit counts.
        Allow::call(libc::SYS_mmap).bits(3, shape, wide(libc::MAP_PRIVATE)),
        // The region. With `MAP_ANONYMOUS` the descriptor would mean nothing.
        Allow::call(libc::SYS_mmap)
            .bits(3, shape | wide(libc::MAP_ANONYMOUS), wide(libc::MAP_SHARED))
            .descriptor(4, REGION_FD),
        Allow::call(libc::SYS_mprotect).bits(2, GROWING, 0),
        Allow::call(libc::SYS_mremap).long(3, &[wide(libc::MREMAP_MAYMOVE)]),
        Allow::call(libc::SYS_prctl).word(
            0,
            &[libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA].map(word),
        ),
        // Asking for limits of its own; setting one has an address in the third argument.
        Allow::call(libc::SYS_prlimit64).word(0, &[0]).long(2, &[0]),
        Allow::call(libc::SYS_read).descriptor(0, DOORBELL_FD),
        Allow::call(libc::SYS_recvfrom).descriptor(0, DOORBELL_FD),
        Allow::call(libc::SYS_sendto).descriptor(0, DOORBELL_FD),
        Allow::call(libc::SYS_write).word(0, &[DOORBELL_FD, STDERR].map(word)),
        Allow::call(libc::SYS_writev).descriptor(0, STDERR),
    ]
}

/// The calls of the runtime, before those that are refused are taken away.
fn runtime(refused: &'static [i64]) -> impl Iterator<Item = Allow> {
    seccomp::any_thread()
        .chain(calls(RUNTIME))
        .chain(calls(refused))
        .chain(calls(STARTUP_CALLS))
        .chain(runtime_arguments())
}

/// The start itself, where no listener can be asked. The address of the path cannot be looked into: what
/// keeps other programs from being started then is Landlock.
fn start() -> Allow {
    Allow::call(libc::SYS_execveat)
        .descriptor(0, IMAGE_FD)
        .word(4, &[word(libc::AT_EMPTY_PATH)])
}

impl Filters {
    /// Builds the filters.
    ///
    /// # Errors
    /// [`ConfineError`] when a list is too long for a filter.
    pub fn new(refused_calls: RefusedCalls) -> Result<Self, ConfineError> {
        // Calls that end the Keep instead go to the listener.
        let refused = match refused_calls {
            RefusedCalls::Count => REFUSED,
            RefusedCalls::End => OPTIONAL_CALLS,
        };
        let enosys = SeccompAction::Errno(word(libc::ENOSYS));
        let last: Vec<i64> = [refused, STARTUP_CALLS].concat();
        // Of all filters the strictest answer counts, but a refusal precedes a notification: so calls that the last
        // one refuses are allowed in the others.
        Ok(Self {
            notify: notify_instead_of_trap(compile(runtime(refused), SeccompAction::Trap)?),
            kill: compile(
                runtime(refused).chain([start()]),
                SeccompAction::KillProcess,
            )?,
            refuse: seccomp::refuse(&last, enosys)?,
        })
    }
}

/// Turns "trap" into "notify the listener", an action that the compiler of filters does not know.
fn notify_instead_of_trap(mut program: BpfProgram) -> BpfProgram {
    for instruction in &mut program {
        if instruction.code == RETURN_CONSTANT && instruction.k == libc::SECCOMP_RET_TRAP {
            instruction.k = libc::SECCOMP_RET_USER_NOTIF;
        }
    }
    program
}

/// The filter of the thread that serves the Keep.
///
/// # Errors
/// [`ConfineError`] when the list is too long for a filter.
pub fn server(
    services: Services,
    doorbell: BorrowedFd<'_>,
    listener: Option<BorrowedFd<'_>>,
) -> Result<BpfProgram, ConfineError> {
    let listener = listener.map(|listener| listener.as_raw_fd());
    compile(
        serving(services, doorbell.as_raw_fd(), listener),
        SeccompAction::Trap,
    )
}

/// The calls of the thread that serves the Keep.
fn serving(
    services: Services,
    doorbell: i32,
    listener: Option<i32>,
) -> impl Iterator<Item = Allow> {
    // With UDP it may send and receive on any socket.
    let doorbell = [libc::SYS_recvfrom, libc::SYS_sendto]
        .map(|call| Allow::call(call).descriptor(0, doorbell))
        .into_iter()
        .filter(move |_| !services.network.udp);
    // The listener's one request.
    let listener = listener.map(|listener| Allow::ioctl(NOTIFICATION).descriptor(0, listener));
    seccomp::thread()
        .chain(enarx_executor::allowed(services))
        .chain(doorbell)
        .chain(listener)
}

/// The calls of a process that serves a Keep: those of the serving thread, and those of the thread that starts it,
/// and ends and reaps the runtime.
pub fn serving_process(
    services: Services,
    doorbell: BorrowedFd<'_>,
    listener: Option<BorrowedFd<'_>>,
    runtime: BorrowedFd<'_>,
) -> impl Iterator<Item = Allow> {
    let listener = listener.map(|listener| listener.as_raw_fd());
    let runtime = runtime.as_raw_fd();
    // To threads of this process alone, and the one signal.
    let kick = Allow::call(libc::SYS_tgkill)
        .word(0, &[std::process::id()])
        .word(2, &[word(interrupt::signal())]);
    serving(services, doorbell.as_raw_fd(), listener)
        .chain(process::threads())
        .chain([
            kick,
            Allow::call(libc::SYS_pidfd_send_signal).descriptor(0, runtime),
            Allow::call(libc::SYS_waitid),
            Allow::call(libc::SYS_fcntl).word(1, &[word(libc::F_DUPFD_CLOEXEC)]),
        ])
}

/// The request number that takes a notification (32 bits, as the kernel reads it).
const NOTIFICATION: &[u32] = &[0xc050_2100];
const _: () = assert!(libc::SECCOMP_IOCTL_NOTIF_RECV == 0xc050_2100);

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_confine::bpf::{allows, answer};
    use enarx_confine::seccomp::checks::check;
    use enarx_executor::grant::NetworkGrant;

    /// An address whose lower half is 0.
    const ADDRESS: u64 = 0x7e00_0000_0000;

    #[test]
    fn the_runtime_reaches_no_other_process_and_no_uncounted_memory() {
        let program = check(runtime(REFUSED));
        let limit = |process, new| {
            allows(
                &program,
                libc::SYS_prlimit64,
                [process, 7, new, ADDRESS, 0, 0],
            )
        };
        assert!(limit(0, 0));
        assert!(!limit(0, ADDRESS) && !limit(1, 0) && !limit(1, ADDRESS));

        let fcntl =
            |command: i32| allows(&program, libc::SYS_fcntl, [4, wide(command), 1, 0, 0, 0]);
        assert!(fcntl(libc::F_GETFD) && fcntl(libc::F_GETFL));
        // `F_SETSIG`, `F_SETOWN_EX` (Linux, include/uapi/linux/fcntl.h), and others.
        for command in [
            libc::F_SETOWN,
            10,
            15,
            libc::F_SETFL,
            libc::F_DUPFD,
            libc::F_NOTIFY,
        ] {
            assert!(!fcntl(command), "{command}");
        }

        let map =
            |flags: i32, fd| allows(&program, libc::SYS_mmap, [0, 4096, 3, wide(flags), fd, 0]);
        let (private, shared) = (libc::MAP_PRIVATE, libc::MAP_SHARED);
        let anonymous = libc::MAP_ANONYMOUS;
        let none = u64::MAX;
        assert!(map(
            private | anonymous | libc::MAP_NORESERVE | libc::MAP_FIXED,
            none
        ));
        assert!(map(private | anonymous | libc::MAP_STACK, none));
        assert!(map(shared, wide(REGION_FD)));
        for flags in [
            shared | anonymous,
            libc::MAP_SHARED_VALIDATE | anonymous,
            private | anonymous | libc::MAP_GROWSDOWN,
            private | anonymous | libc::MAP_HUGETLB,
            private | anonymous | libc::MAP_LOCKED,
        ] {
            assert!(
                !map(flags, none) && !map(flags, wide(REGION_FD)),
                "{flags:x}"
            );
        }
        assert!(!map(shared, wide(DOORBELL_FD)));

        let clone = |flags| allows(&program, libc::SYS_clone, [flags, 0, 0, 0, 0, 0]);
        assert!(clone(THREAD));
        assert!(!clone(wide(libc::SIGCHLD)) && !clone(THREAD | wide(libc::CLONE_PIDFD)));
        assert!(!clone(THREAD | wide(libc::CLONE_NEWUSER)));
        for call in [
            libc::SYS_tgkill,
            libc::SYS_kill,
            libc::SYS_execve,
            libc::SYS_fork,
        ] {
            assert!(!allows(&program, call, [0; 6]), "{call}");
        }
    }

    #[test]
    fn the_start_is_supervised_and_its_calls_are_permitted() {
        let filters = Filters::new(RefusedCalls::Count).unwrap();
        let call = [wide(IMAGE_FD), ADDRESS, 0, 0, wide(libc::AT_EMPTY_PATH), 0];
        let execute = |program, arguments| answer(program, libc::SYS_execveat, arguments);
        // The listener decides: once.
        assert_eq!(execute(&filters.notify, call), libc::SECCOMP_RET_USER_NOTIF);
        assert_eq!(execute(&filters.kill, call), libc::SECCOMP_RET_ALLOW);
        for (index, other) in [
            (0, wide(libc::AT_FDCWD)),
            (4, 0),
            (4, wide(libc::AT_SYMLINK_NOFOLLOW)),
        ] {
            let mut arguments = call;
            arguments[index] = other;
            assert_eq!(
                execute(&filters.kill, arguments),
                libc::SECCOMP_RET_KILL_PROCESS
            );
        }
        for call in STARTUP_CALLS.iter().chain(REFUSED) {
            assert!(allows(&filters.notify, *call, [0; 6]), "{call}");
            assert!(allows(&filters.kill, *call, [0; 6]), "{call}");
            assert_eq!(
                answer(&filters.refuse, *call, [0; 6]),
                libc::SECCOMP_RET_ERRNO | word(libc::ENOSYS)
            );
        }
        check(runtime(REFUSED).chain([start()]));
    }

    #[test]
    fn the_serving_thread_uses_its_doorbell_and_notifications() {
        for (tcp, udp) in [(false, false), (true, false), (false, true), (true, true)] {
            let services = Services::from(NetworkGrant {
                tcp,
                udp,
                name_lookup: false,
            });
            let program = check(serving(services, 6, Some(9)));
            for call in [libc::SYS_recvfrom, libc::SYS_sendto] {
                assert!(allows(&program, call, [6, 0, 0, 0, 0, 0]));
                assert_eq!(allows(&program, call, [7, 0, 0, 0, 0, 0]), udp);
            }
            let request = u64::from(NOTIFICATION[0]);
            let ioctl = |fd, request| allows(&program, libc::SYS_ioctl, [fd, request, 0, 0, 0, 0]);
            assert!(ioctl(9, request) && !ioctl(8, request));
            // To let a forbidden call pass, or to put a descriptor into the runtime.
            assert!(!ioctl(9, libc::SECCOMP_IOCTL_NOTIF_SEND));
            assert!(!ioctl(9, libc::SECCOMP_IOCTL_NOTIF_ADDFD));
            for call in [libc::SYS_tgkill, libc::SYS_rt_sigaction, libc::SYS_execve] {
                assert!(!allows(&program, call, [0; 6]), "{call}");
            }
        }
    }
}
