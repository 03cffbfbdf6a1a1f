//! Filters of system calls (seccomp), as lists of what is allowed.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::ConfineError;

/// System calls that any Rust thread may make: memory, locks, time, its own end, and poll(2), which
/// [`super::report`] needs.
pub const THREAD_CALLS: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_poll,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
];

/// A system call that may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// With any arguments.
    Call(i64),
    /// Only when an argument has one of the values; compared in its lower 32 bits, which is what the
    /// kernel uses of descriptors, request numbers of ioctl(2) and flags.
    Argument {
        /// Number of the system call.
        call: i64,
        /// Which argument, from 0.
        index: u8,
        /// The values.
        values: &'static [u32],
    },
    /// Only when all bits of `bits` are set in an argument's lower 32 bits.
    Flags {
        /// Number of the system call.
        call: i64,
        /// Which argument, from 0.
        index: u8,
        /// The bits.
        bits: u32,
    },
}

impl Allow {
    /// ioctl(2) with one of these requests.
    #[must_use]
    pub const fn ioctl(requests: &'static [u32]) -> Self {
        Self::Argument {
            call: libc::SYS_ioctl,
            index: 1,
            values: requests,
        }
    }
}

/// Translates a list into a filter with this action for everything else. An action of
/// [`SeccompAction::Trap`] ends the process, with a sentence when
/// [`super::report::report_violations`] was called.
///
/// # Errors
/// [`ConfineError::Seccomp`] when the list is too long for one filter.
pub fn compile(
    allowed: impl IntoIterator<Item = Allow>,
    otherwise: SeccompAction,
) -> Result<BpfProgram, ConfineError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut any = Vec::new();
    for allow in allowed {
        match allow {
            Allow::Call(call) => any.push(call),
            Allow::Argument {
                call,
                index,
                values,
            } => {
                let chain = rules.entry(call).or_default();
                for value in values {
                    chain.push(rule(index, SeccompCmpOp::Eq, *value)?);
                }
            }
            Allow::Flags { call, index, bits } => {
                let operator = SeccompCmpOp::MaskedEq(u64::from(bits));
                rules
                    .entry(call)
                    .or_default()
                    .push(rule(index, operator, bits)?);
            }
        }
    }
    // An empty chain allows a call with any arguments, so these come last.
    rules.extend(any.into_iter().map(|call| (call, Vec::new())));
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

/// A filter that answers the calls of a list with an action, and leaves the others alone.
///
/// # Errors
/// [`ConfineError::Seccomp`] when the list is too long for one filter.
pub fn refuse(calls: &[i64], action: SeccompAction) -> Result<BpfProgram, ConfineError> {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

fn rule(index: u8, operator: SeccompCmpOp, value: u32) -> Result<SeccompRule, ConfineError> {
    let condition =
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value))?;
    Ok(SeccompRule::new(vec![condition])?)
}

/// Puts the calling thread under a filter, and under no-new-privileges. It cannot be taken back.
///
/// # Errors
/// [`ConfineError::Install`] when the kernel refuses.
pub fn apply(filter: &BpfProgram) -> Result<(), ConfineError> {
    Ok(seccompiler::apply_filter(filter)?)
}
