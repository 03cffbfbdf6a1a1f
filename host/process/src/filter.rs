//! Which system calls the runtime's process and the thread that serves it may make.

use seccompiler::{BpfProgram, SeccompAction};

use super::child::IMAGE_FD;
use enarx_confine::ConfineError;
use enarx_confine::seccomp::{Allow, THREAD_CALLS, compile};
use enarx_executor::grant::NetworkGrant;
use enarx_executor::refused::RefusedCalls;
use enarx_exits::process::DOORBELL_FD;

/// `BPF_RET | BPF_K`: return a constant (Linux, include/uapi/linux/bpf_common.h).
const RETURN_CONSTANT: u16 = 0x06;
/// Descriptors as a filter compares them.
const SOCKET: u32 = DOORBELL_FD.cast_unsigned();
const IMAGE: u32 = IMAGE_FD.cast_unsigned();
const STDERR: u32 = 2;

/// The filters of the runtime's process.
#[derive(Debug)]
pub struct Filters {
    /// Refuses what programs try and can do without: `ENOSYS`, as the microkernel answers. What ends the
    /// Keep instead, [`RefusedCalls::End`], is left to the next filter.
    pub refuse: BpfProgram,
    /// Allows what the runtime needs, reports everything else to a listener.
    pub notify: BpfProgram,
    /// The same, kills at everything else.
    pub kill: BpfProgram,
}

/// Calls that the C library, the standard library and Wasmtime try and can do without.
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

/// Those of [`REFUSED`] that the C library tries in every Keep and is written to go on without.
const TRIED: &[i64] = &[libc::SYS_clone3, libc::SYS_readlink];

/// Whether a call is one that a Keep does not have, and not one that is forbidden.
pub fn is_refused(call: i64) -> bool {
    REFUSED.contains(&call)
}

/// Calls of the runtime besides those of any thread, with any arguments.
const RUNTIME: &[i64] = &[
    libc::SYS_arch_prctl,
    libc::SYS_clock_getres,
    libc::SYS_close,
    libc::SYS_fcntl,
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
    libc::SYS_newfstatat,
    libc::SYS_ppoll,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_tid_address,
    libc::SYS_sysinfo,
    libc::SYS_time,
    libc::SYS_uname,
];

/// Calls of the runtime with certain arguments only.
const RUNTIME_ARGUMENTS: &[Allow] = &[
    // New threads, never new processes.
    Allow::Flags {
        call: libc::SYS_clone,
        index: 0,
        bits: libc::CLONE_THREAD.cast_unsigned(),
    },
    // The start itself; the descriptor closes with it.
    Allow::Argument {
        call: libc::SYS_execveat,
        index: 0,
        values: &[IMAGE],
    },
    Allow::Argument {
        call: libc::SYS_prctl,
        index: 0,
        values: &[
            libc::PR_SET_NAME.cast_unsigned(),
            libc::PR_GET_NAME.cast_unsigned(),
            libc::PR_SET_VMA.cast_unsigned(),
        ],
    },
    // Asking for limits; setting one has an address in the third argument.
    Allow::Argument {
        call: libc::SYS_prlimit64,
        index: 2,
        values: &[0],
    },
    Allow::Argument {
        call: libc::SYS_read,
        index: 0,
        values: &[SOCKET],
    },
    Allow::Argument {
        call: libc::SYS_recvfrom,
        index: 0,
        values: &[SOCKET],
    },
    Allow::Argument {
        call: libc::SYS_sendmsg,
        index: 0,
        values: &[SOCKET],
    },
    Allow::Argument {
        call: libc::SYS_sendto,
        index: 0,
        values: &[SOCKET],
    },
    Allow::Argument {
        call: libc::SYS_write,
        index: 0,
        values: &[SOCKET, STDERR],
    },
    Allow::Argument {
        call: libc::SYS_writev,
        index: 0,
        values: &[STDERR],
    },
];

impl Filters {
    /// Builds the filters.
    ///
    /// # Errors
    /// [`ConfineError`] when a list is too long for a filter.
    pub fn new(refused_calls: RefusedCalls) -> Result<Self, ConfineError> {
        let refused = match refused_calls {
            RefusedCalls::Count => REFUSED,
            RefusedCalls::End => TRIED,
        };
        let allowed = || {
            let calls = THREAD_CALLS.iter().chain(RUNTIME).chain(refused);
            calls
                .map(|call| Allow::Call(*call))
                .chain(RUNTIME_ARGUMENTS.iter().copied())
        };
        // In each program of a stack the strictest action counts: what the first refuses is allowed in
        // the second, so that the refusal is not a kill.
        let enosys = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        Ok(Self {
            refuse: enarx_confine::seccomp::refuse(refused, enosys)?,
            notify: notify_instead_of_trap(compile(allowed(), SeccompAction::Trap)?),
            kill: compile(allowed(), SeccompAction::KillProcess)?,
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
pub fn server(network: NetworkGrant) -> Result<BpfProgram, ConfineError> {
    let any = THREAD_CALLS.iter().map(|call| Allow::Call(*call));
    let allowed = any.chain(enarx_executor::allowed(network)).chain([
        // The doorbell.
        Allow::Call(libc::SYS_recvfrom),
        Allow::Call(libc::SYS_sendto),
        // The listener's one request.
        Allow::Argument {
            call: libc::SYS_ioctl,
            index: 1,
            values: NOTIFICATION,
        },
    ]);
    compile(allowed, SeccompAction::Trap)
}

/// The request number that takes a notification (32 bits, as the kernel reads it).
const NOTIFICATION: &[u32] = &[0xc050_2100];
const _: () = assert!(libc::SECCOMP_IOCTL_NOTIF_RECV == 0xc050_2100);
