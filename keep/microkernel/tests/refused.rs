// SPDX-License-Identifier: Apache-2.0

//! System calls that a Keep lacks: the error that the runtime sees, and the report to the
//! VMM.

mod fake;

use enarx_microkernel::linux::flag;
use enarx_syscall as nr;
use fake::Keep;

const ENOENT: i64 = -2;
const EBADF: i64 = -9;
const EINVAL: i64 = -22;
const ENOTTY: i64 = -25;
const ENOSYS: i64 = -38;

/// The calls of Linux x86-64 that are answered; `exit`, `exit_group`, `rt_sigreturn` and `tgkill` end
/// something.
const ANSWERED: [u64; 32] = [
    nr::WRITE,
    nr::POLL,
    nr::MMAP,
    nr::MPROTECT,
    nr::MUNMAP,
    nr::BRK,
    nr::RT_SIGACTION,
    nr::RT_SIGPROCMASK,
    nr::RT_SIGRETURN,
    nr::SCHED_YIELD,
    nr::MADVISE,
    nr::NANOSLEEP,
    nr::GETPID,
    nr::CLONE,
    nr::EXIT,
    nr::GETTIMEOFDAY,
    nr::SYSINFO,
    nr::SIGALTSTACK,
    nr::PRCTL,
    nr::ARCH_PRCTL,
    nr::GETTID,
    nr::TIME,
    nr::FUTEX,
    nr::SCHED_GETAFFINITY,
    nr::SET_TID_ADDRESS,
    nr::CLOCK_GETTIME,
    nr::CLOCK_GETRES,
    nr::CLOCK_NANOSLEEP,
    nr::EXIT_GROUP,
    nr::TGKILL,
    nr::SET_ROBUST_LIST,
    nr::PRLIMIT64,
];

#[test]
fn every_unsupported_call_is_reported() {
    let keep = Keep::new(4, 1);
    let args = [0x11, 0x22, 0x33, 0x44];
    let absent = (0..600)
        .filter(|number| !ANSWERED.contains(number) && *number != nr::GETRANDOM)
        .filter(|number| ![nr::READLINK, nr::CLONE3, nr::MEMFD_CREATE].contains(number));
    let mut count = 0;
    for number in absent {
        let errno = match number {
            nr::OPENAT | nr::NEWFSTATAT => ENOENT,
            nr::READ | nr::CLOSE | nr::FSTAT => EBADF,
            nr::IOCTL => ENOTTY,
            _ => ENOSYS,
        };
        assert_eq!(keep.call(number, &args), errno, "{number}");
        let told = keep.world.borrow_mut().refused.pop();
        let told = told.unwrap_or_else(|| panic!("nobody was told of {number}"));
        let expected = [number, errno.unsigned_abs(), 0x40_1000];
        assert_eq!(told, [expected.as_slice(), &args].concat());
        count += 1;
    }
    assert!(count > 500);
    assert!(keep.world.borrow().refused.is_empty());
}

#[test]
fn calls_that_programs_can_do_without_are_not_reported() {
    let keep = Keep::new(4, 1);
    assert_eq!(keep.call(nr::READLINK, &[]), ENOENT);
    assert_eq!(keep.call(nr::CLONE3, &[]), ENOSYS);
    assert_eq!(keep.call(nr::MEMFD_CREATE, &[]), ENOSYS);
    // There is no secure processor.
    let page = keep.call(nr::MMAP, &[0, 4096, 3, 0x22]);
    let page = u64::try_from(page).unwrap();
    assert_eq!(keep.call(nr::REPORT, &[page, page]), ENOSYS);
    // Errors of existing calls.
    assert_eq!(keep.call(nr::MMAP, &[0, 4096, 7, 0x22]), -13);
    assert_eq!(keep.call(nr::PRCTL, &[flag::PR_SET_NAME]), 0);
    assert_eq!(keep.call(nr::PRCTL, &[u64::MAX]), EINVAL);
    assert!(keep.world.borrow().refused.is_empty());
}
