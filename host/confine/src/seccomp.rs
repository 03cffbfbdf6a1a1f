// SPDX-License-Identifier: Apache-2.0

//! System call filters (seccomp), as lists of allowed calls. The kernel enforces them on this process's own
//! threads, which are not trusted once a guest has run.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::ConfineError;

/// System calls that any Rust thread may make with any arguments: memory, locks, time, its own end, and
/// poll(2), which [`super::report`] needs.
const ANY_THREAD: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_munmap,
    libc::SYS_poll,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
];

/// `MADV_GUARD_INSTALL`, `MADV_GUARD_REMOVE` (Linux, include/uapi/asm-generic/mman-common.h).
const GUARDS: [libc::c_int; 2] = [102, 103];

/// Advice on memory (madvise(2)): what the C library, Wasmtime and the VMM give back, large pages, and guards of stacks, which the
/// C library makes so from version 2.42 on. No other: by merging pages, or having them written out, a program learns what
/// others have in theirs.
fn advice() -> Allow {
    let [install, remove] = GUARDS;
    let used = [libc::MADV_DONTNEED, libc::MADV_HUGEPAGE, install, remove];
    Allow::call(libc::SYS_madvise).word(2, &used.map(word))
}

/// The calls of any thread of a program in Rust: those of `ANY_THREAD`, and advice on memory.
pub fn any_thread() -> impl Iterator<Item = Allow> {
    calls(ANY_THREAD).chain([advice()])
}

/// The same, and memory that is not executed.
pub fn thread() -> impl Iterator<Item = Allow> {
    let execute = wide(libc::PROT_EXEC);
    any_thread().chain([
        Allow::call(libc::SYS_mmap).bits(2, execute, 0),
        Allow::call(libc::SYS_mprotect).bits(2, execute, 0),
        // As the allocator does: never to an address that the caller chooses.
        Allow::call(libc::SYS_mremap).long(3, &[wide(libc::MREMAP_MAYMOVE)]),
    ])
}

/// These calls, with any arguments.
pub fn calls(calls: &[i64]) -> impl Iterator<Item = Allow> {
    calls.iter().map(|&call| Allow::call(call))
}

/// A constant of the C library as a filter compares it: there it is signed.
pub const fn word(constant: libc::c_int) -> u32 {
    constant.cast_unsigned()
}

/// The same for an argument that is compared whole.
pub const fn wide(constant: libc::c_int) -> u64 {
    word(constant) as u64
}

/// A system call that is allowed if all its conditions match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    call: i64,
    conditions: Vec<Condition>,
}

/// A condition on an argument, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    index: u8,
    test: Test,
}

/// A comparison with an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// The lower 32 bits are one of these. Only for [`WORDS`].
    Word(Vec<u32>),
    /// All 64 bits are one of these.
    Long(Vec<u64>),
    /// The bits of the mask have this value.
    Bits { mask: u64, value: u64 },
}

/// The arguments of which Linux uses the lower 32 bits and drops the others (`int`, `unsigned int` and `pid_t`
/// in its `SYSCALL_DEFINE`s, and the descriptor of mmap(2)). A filter that compared more would refuse callers
/// that leave something there, as the ABI lets them. Everything else is an address, a length or a `long`, in
/// which the upper bits count: if only half were compared, an address could pass for 0.
const WORDS: &[(i64, &[u8])] = &[
    (libc::SYS_accept4, &[0, 3]),
    (libc::SYS_execveat, &[0, 4]),
    (libc::SYS_fallocate, &[0, 1]),
    (libc::SYS_fcntl, &[0, 1]),
    (libc::SYS_getsockopt, &[0, 1, 2]),
    (libc::SYS_ioctl, &[0, 1]),
    (libc::SYS_madvise, &[2]),
    (libc::SYS_mmap, &[4]),
    (libc::SYS_pidfd_send_signal, &[0, 1, 3]),
    (libc::SYS_prctl, &[0]),
    (libc::SYS_prlimit64, &[0, 1]),
    (libc::SYS_read, &[0]),
    (libc::SYS_recvfrom, &[0, 3]),
    (libc::SYS_sendmsg, &[0, 2]),
    (libc::SYS_sendto, &[0, 3]),
    (libc::SYS_setsockopt, &[0, 1, 2]),
    (libc::SYS_socket, &[0, 1, 2]),
    (libc::SYS_tgkill, &[0, 1, 2]),
    (libc::SYS_write, &[0]),
    (libc::SYS_writev, &[0]),
];

/// True if Linux uses only the lower 32 bits of an argument.
fn is_word(call: i64, index: u8) -> bool {
    WORDS
        .iter()
        .any(|(known, indices)| *known == call && indices.contains(&index))
}

impl Allow {
    /// A call with any arguments.
    #[must_use]
    pub const fn call(call: i64) -> Self {
        Self {
            call,
            conditions: Vec::new(),
        }
    }

    /// ioctl(2) with one of these requests.
    #[must_use]
    pub fn ioctl(requests: &[u32]) -> Self {
        Self::call(libc::SYS_ioctl).word(1, requests)
    }

    /// Only when an argument of 32 bits has one of these values.
    #[must_use]
    pub fn word(self, index: u8, values: &[u32]) -> Self {
        self.when(index, Test::Word(values.into()))
    }

    /// Only when an argument is a descriptor.
    #[must_use]
    pub fn descriptor(self, index: u8, descriptor: libc::c_int) -> Self {
        self.word(index, &[word(descriptor)])
    }

    /// Only when an argument has one of these values, in all of its bits.
    #[must_use]
    pub fn long(self, index: u8, values: &[u64]) -> Self {
        self.when(index, Test::Long(values.into()))
    }

    /// Only when the bits of `mask` have this value in an argument.
    #[must_use]
    pub fn bits(self, index: u8, mask: u64, value: u64) -> Self {
        self.when(index, Test::Bits { mask, value })
    }

    fn when(mut self, index: u8, test: Test) -> Self {
        self.conditions.push(Condition { index, test });
        self
    }

    /// The rules for the filter compiler, one of which must match: every combination of the conditions'
    /// alternatives. An empty list means any arguments.
    fn rules(&self) -> Result<Vec<SeccompRule>, ConfineError> {
        if self.conditions.is_empty() {
            return Ok(Vec::new());
        }
        let mut ways: Vec<Vec<SeccompCondition>> = vec![Vec::new()];
        for condition in &self.conditions {
            let alternatives = condition.alternatives(self.call)?;
            ways = ways
                .iter()
                .flat_map(|way| {
                    alternatives.iter().map(|alternative| {
                        let mut way = way.clone();
                        way.push(alternative.clone());
                        way
                    })
                })
                .collect();
        }
        let rules = ways.into_iter().map(SeccompRule::new);
        Ok(rules.collect::<Result<_, _>>()?)
    }
}

impl Condition {
    /// The conditions for the filter compiler, one of which must match.
    fn alternatives(&self, call: i64) -> Result<Vec<SeccompCondition>, ConfineError> {
        let Self { index, test } = self;
        let equal = |length: SeccompCmpArgLen, value| {
            SeccompCondition::new(*index, length, SeccompCmpOp::Eq, value)
        };
        let alternatives: Result<Vec<_>, _> = match test {
            Test::Word(_) if !is_word(call, *index) => {
                return Err(ConfineError::Narrow {
                    call,
                    index: *index,
                });
            }
            Test::Word(values) => values
                .iter()
                .map(|&value| equal(SeccompCmpArgLen::Dword, value.into()))
                .collect(),
            Test::Long(values) => values
                .iter()
                .map(|&value| equal(SeccompCmpArgLen::Qword, value))
                .collect(),
            Test::Bits { mask, value } => {
                let operator = SeccompCmpOp::MaskedEq(*mask);
                SeccompCondition::new(*index, SeccompCmpArgLen::Qword, operator, *value)
                    .map(|condition| vec![condition])
            }
        };
        Ok(alternatives?)
    }
}

/// Translates a list into a filter with this action for everything else. Of several entries for a call,
/// one must match. An action of [`SeccompAction::Trap`] ends the process, with a sentence when
/// [`super::report::report_violations`] was called.
///
/// # Errors
/// [`ConfineError::Seccomp`] when the list is too long for one filter, [`ConfineError::Narrow`] when it
/// compares half of an argument, [`ConfineError::Void`] when it has a call with conditions and without.
pub fn compile(
    allowed: impl IntoIterator<Item = Allow>,
    otherwise: SeccompAction,
) -> Result<BpfProgram, ConfineError> {
    // `None`: with any arguments.
    let mut rules: BTreeMap<i64, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for allow in allowed {
        let call = allow.call;
        let own = Some(allow.rules()?).filter(|rules| !rules.is_empty());
        match (rules.remove(&call), own) {
            (None, own) => rules.insert(call, own),
            (Some(None), None) => rules.insert(call, None),
            (Some(Some(mut all)), Some(own)) => {
                all.extend(own);
                rules.insert(call, Some(all))
            }
            (Some(None), Some(_)) | (Some(Some(_)), None) => {
                return Err(ConfineError::Void { call });
            }
        };
    }
    // An empty chain allows a call with any arguments.
    let chains = rules
        .into_iter()
        .map(|(call, rules)| (call, rules.unwrap_or_default()))
        .collect();
    let filter = SeccompFilter::new(chains, otherwise, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

/// A filter that answers the calls of a list with an action, and does not affect others.
///
/// # Errors
/// [`ConfineError::Seccomp`] when the list is too long for one filter.
pub fn refuse(calls: &[i64], action: SeccompAction) -> Result<BpfProgram, ConfineError> {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

/// Puts the calling thread under a filter, and under no-new-privileges. It cannot be taken back.
///
/// # Errors
/// [`ConfineError::Install`] when the kernel refuses.
pub fn apply(filter: &BpfProgram) -> Result<(), ConfineError> {
    Ok(seccompiler::apply_filter(filter)?)
}

/// Checks that tests of filters share.
#[cfg(any(test, feature = "interpreter"))]
pub mod checks {
    use super::super::bpf;
    use super::{Allow, BpfProgram, Condition, SeccompAction, Test, compile, is_word};

    impl Condition {
        /// True if the condition matches the argument as Linux sees it.
        fn matches(&self, call: i64, argument: u64) -> bool {
            match &self.test {
                Test::Word(values) => {
                    assert!(is_word(call, self.index));
                    let [a, b, c, d, ..] = argument.to_le_bytes();
                    values.contains(&u32::from_le_bytes([a, b, c, d]))
                }
                Test::Long(values) => values.contains(&argument),
                Test::Bits { mask, value } => argument & mask == *value,
            }
        }

        /// Arguments for which it holds.
        fn examples(&self) -> Vec<u64> {
            match &self.test {
                Test::Word(values) => values.iter().map(|&value| value.into()).collect(),
                Test::Long(values) => values.clone(),
                Test::Bits { value, .. } => vec![*value],
            }
        }
    }

    impl Allow {
        fn matches(&self, call: i64, arguments: [u64; 6]) -> bool {
            let hold = |condition: &Condition| {
                condition.matches(call, arguments[usize::from(condition.index)])
            };
            self.call == call && self.conditions.iter().all(hold)
        }

        /// Arguments with which it is allowed, every combination of what its conditions name.
        fn examples(&self) -> Vec<[u64; 6]> {
            let mut all = vec![[0; 6]];
            for condition in &self.conditions {
                let index = usize::from(condition.index);
                let examples = condition.examples();
                all = all
                    .into_iter()
                    .flat_map(|arguments: [u64; 6]| {
                        examples.iter().map(move |&example| {
                            let mut arguments = arguments;
                            arguments[index] = example;
                            arguments
                        })
                    })
                    .collect();
            }
            all
        }
    }

    /// Runs a list's filter: what each rule names is allowed; with any one bit of any argument changed, exactly
    /// what the rules say. Calls that no rule names are refused.
    pub fn check(allowed: impl IntoIterator<Item = Allow>) -> BpfProgram {
        let allowed: Vec<Allow> = allowed.into_iter().collect();
        let program = compile(allowed.iter().cloned(), SeccompAction::KillProcess).unwrap();
        for rule in &allowed {
            let call = rule.call;
            for arguments in rule.examples() {
                assert!(
                    bpf::allows(&program, call, arguments),
                    "{call} {arguments:x?}"
                );
                for index in 0..6 {
                    for bit in 0..64 {
                        let mut arguments = arguments;
                        arguments[index] ^= 1 << bit;
                        let expected = allowed.iter().any(|rule| rule.matches(call, arguments));
                        assert_eq!(
                            bpf::allows(&program, call, arguments),
                            expected,
                            "{call} {arguments:x?}"
                        );
                    }
                }
            }
        }
        for call in 0..1000 {
            let known = allowed.iter().any(|rule| rule.call == call);
            assert!(known || !bpf::allows(&program, call, [0; 6]), "{call}");
        }
        program
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpf;
    use super::*;

    const KILL: SeccompAction = SeccompAction::KillProcess;

    #[test]
    fn an_address_is_never_compared_by_its_low_half() {
        // The third argument of prlimit64(2) is the address of a limit that is set.
        let half = Allow::call(libc::SYS_prlimit64).word(2, &[0]);
        let error = compile([half], KILL).unwrap_err();
        assert!(matches!(
            error,
            ConfineError::Narrow {
                call: libc::SYS_prlimit64,
                index: 2
            }
        ));
        let whole = Allow::call(libc::SYS_prlimit64).long(2, &[0]);
        let program = checks::check([whole]);
        let with = |address| {
            let arguments = [0, 0, address, 0, 0, 0];
            bpf::allows(&program, libc::SYS_prlimit64, arguments)
        };
        assert!(with(0) && !with(0x7e00_0000_0000) && !with(1));
    }

    #[test]
    fn a_condition_beside_an_unconditional_rule_is_an_error() {
        let any = || Allow::call(libc::SYS_ioctl);
        for list in [[any(), Allow::ioctl(&[1])], [Allow::ioctl(&[1]), any()]] {
            let error = compile(list, KILL).unwrap_err();
            assert!(matches!(
                error,
                ConfineError::Void {
                    call: libc::SYS_ioctl
                }
            ));
        }
        compile([any(), any()], KILL).unwrap();
        checks::check([Allow::ioctl(&[1]), Allow::ioctl(&[2, 3])]);
    }

    #[test]
    fn memory_is_given_back_and_guarded_and_shared_with_nobody() {
        let program = checks::check(any_thread());
        let with = |advice: libc::c_int| {
            let arguments = [0x7e00_0000_0000, 0x1000, wide(advice), 0, 0, 0];
            bpf::allows(&program, libc::SYS_madvise, arguments)
        };
        let allowed: Vec<libc::c_int> = (-1..200).filter(|advice| with(*advice)).collect();
        let [install, remove] = GUARDS;
        assert_eq!(
            allowed,
            [libc::MADV_DONTNEED, libc::MADV_HUGEPAGE, install, remove]
        );
        // The kernel takes its lower half, whatever stands above it.
        let above = [0, 0x1000, 1 << 32 | wide(libc::MADV_DONTNEED), 0, 0, 0];
        assert!(bpf::allows(&program, libc::SYS_madvise, above));
    }

    #[test]
    fn the_threads_of_this_program_make_no_code() {
        let program = checks::check(thread());
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            let with = |protection: libc::c_int| {
                let arguments = [0, 0x1000, wide(protection), 0x22, u64::MAX, 0];
                bpf::allows(&program, call, arguments)
            };
            assert!(with(libc::PROT_READ | libc::PROT_WRITE) && with(libc::PROT_NONE));
            assert!(!with(libc::PROT_EXEC) && !with(libc::PROT_READ | libc::PROT_EXEC));
        }
    }
}
