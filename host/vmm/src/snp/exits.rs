//! The exits that SEV-SNP adds, decided: page state changes, the guest's last word, and accesses
//! that fit no page state.
//!
//! Everything in an exit is the guest's to choose: ranges are checked against the memory map
//! before anything is done, and nothing is converted that was not asked for.
#![forbid(unsafe_code)]

use std::fmt;

use enarx_boot::layout::{LARGE, PAGE};
use enarx_exits::Reason;
use enarx_snp::ghcb::msr;
use kvm_bindings::{
    KVM_MEMORY_ATTRIBUTE_PRIVATE, KVM_MEMORY_EXIT_FLAG_PRIVATE, KVM_SYSTEM_EVENT_SEV_TERM,
    kvm_memory_attributes,
};
use rustix::io::Errno;

use super::abi::{MAP_GPA_RANGE, MAP_GPA_RANGE_2M, MAP_GPA_RANGE_ENCRYPTED};
use super::device::Vm;
use super::launcher::{repeatable, set_attributes};
use super::memory::{Map, Place};

/// Reason set of the microkernel's own codes (56421, section 2.3.1: sets above 0 are the guest's).
const MICROKERNEL_SET: u8 = 1;

/// A page state change that may be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// Guest physical address of the first byte.
    pub gpa: u64,
    /// Bytes.
    pub length: u64,
    /// Where it lies.
    pub place: Place,
    /// The new state: private or shared.
    pub private: bool,
}

/// The answer to the guest (`hypercall.ret` of `struct kvm_run`; KVM takes no other value).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// The request makes no sense.
    Invalid,
    /// The host could not, but may later.
    Again,
}

impl Answer {
    /// The value of `hypercall.ret`.
    pub fn value(self) -> u64 {
        // Numbers of errors are small and positive.
        let number = |errno: Errno| u64::from(errno.raw_os_error().unsigned_abs());
        match self {
            Self::Done => 0,
            Self::Invalid => number(Errno::INVAL),
            Self::Again => number(Errno::AGAIN),
        }
    }
}

/// An exit that SEV-SNP adds, as KVM tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `KVM_EXIT_HYPERCALL`.
    Hypercall {
        /// Which one.
        number: u64,
        /// Its arguments.
        args: [u64; 6],
    },
    /// `KVM_EXIT_SYSTEM_EVENT`.
    SystemEvent {
        /// `system_event.type`.
        kind: u32,
        /// The first word that comes with it.
        data: Option<u64>,
    },
    /// `KVM_EXIT_MEMORY_FAULT`.
    MemoryFault {
        /// `KVM_MEMORY_EXIT_FLAG_…`.
        flags: u64,
        /// Guest physical address.
        gpa: u64,
        /// Bytes.
        size: u64,
    },
}

/// Serves an exit; the answer is that to a hypercall, the only exit after which a Keep goes on.
///
/// # Errors
/// [`ExitError`]: the Keep has ended, or has to.
pub fn serve(vm: &impl Vm, map: &Map, exit: Exit) -> Result<Answer, ExitError> {
    match exit {
        Exit::Hypercall { number, args } => hypercall(vm, map, number, args),
        Exit::SystemEvent { kind, data } => {
            Err(ExitError::Ended(Termination::of(kind, data.as_slice())))
        }
        Exit::MemoryFault { flags, gpa, size } => {
            Err(ExitError::Fault(MemoryFault::of(map, flags, gpa, size)))
        }
    }
}

/// An exit that ends the Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExitError {
    /// KVM forwards a hypercall that it was not asked to forward.
    #[error("KVM forwarded hypercall {0}, which it was not asked for")]
    Hypercall(u64),
    /// The host refuses a step of a conversion; the memory is in between now.
    #[error("the host could not {step} for the Keep: {errno}")]
    Conversion {
        /// The step that was tried.
        step: &'static str,
        /// The answer.
        errno: Errno,
    },
    /// The guest ended itself.
    #[error("{0}")]
    Ended(Termination),
    /// It took pages for what they are not.
    #[error("{0}")]
    Fault(MemoryFault),
}

/// What the arguments of a page state change ask for; none when they make no sense.
pub fn conversion(map: &Map, args: [u64; 6]) -> Option<Conversion> {
    let [gpa, pages, flags, ..] = args;
    let length = pages.checked_mul(PAGE)?;
    // A page size other than 4 KiB and 2 MiB does not exist in the RMP.
    if flags & !(MAP_GPA_RANGE_2M | MAP_GPA_RANGE_ENCRYPTED) != 0 {
        return None;
    }
    let page = if flags & MAP_GPA_RANGE_2M == 0 {
        PAGE
    } else {
        LARGE
    };
    if !gpa.is_multiple_of(page) || !length.is_multiple_of(page) {
        return None;
    }
    Some(Conversion {
        gpa,
        length,
        place: map.convertible(gpa, length)?,
        private: flags & MAP_GPA_RANGE_ENCRYPTED != 0,
    })
}

/// Carries out a hypercall exit.
///
/// Under SEV-SNP, KVM turns any answer but [`Answer::Done`] into a failed page state change, which
/// ends a Keep; so the kernel is asked again here first.
///
/// # Errors
/// [`ExitError`]: the Keep has to end.
pub fn hypercall(
    vm: &impl Vm,
    map: &Map,
    number: u64,
    args: [u64; 6],
) -> Result<Answer, ExitError> {
    if number != MAP_GPA_RANGE {
        return Err(ExitError::Hypercall(number));
    }
    let Some(conversion) = conversion(map, args) else {
        return Ok(Answer::Invalid);
    };
    let request = kvm_memory_attributes {
        address: conversion.gpa,
        size: conversion.length,
        attributes: if conversion.private {
            KVM_MEMORY_ATTRIBUTE_PRIVATE.into()
        } else {
            0
        },
        flags: 0,
    };
    match set_attributes(vm, request) {
        Ok(()) => {}
        Err(errno) if repeatable(errno) => return Ok(Answer::Again),
        Err(errno) => {
            let step = "change the state of pages";
            return Err(ExitError::Conversion { step, errno });
        }
    }
    // The side that the guest left is given back to the host.
    let Place { slot, offset } = conversion.place;
    let (step, freed) = if conversion.private {
        let freed = vm.discard_shared(slot, offset, conversion.length);
        ("free shared pages", freed)
    } else {
        let freed = vm.discard_private(slot, offset, conversion.length);
        ("free private pages", freed)
    };
    freed.map_err(|errno| ExitError::Conversion { step, errno })?;
    Ok(Answer::Done)
}

/// How a guest ended itself through KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Termination {
    /// The microkernel, by one of its reasons.
    Microkernel(Reason),
    /// By a reason of GHCB protocol itself.
    Protocol(u8),
    /// By a reason that nobody here defines.
    Unknown {
        /// The reason set.
        set: u8,
        /// The reason.
        code: u8,
    },
    /// By the GHCB page instead of the MSR: KVM tells where the page is and keeps the reason to
    /// itself.
    Page {
        /// Guest physical address of the GHCB.
        gpa: u64,
    },
    /// Another kind of event, which does not happen to a SEV-SNP guest.
    Other {
        /// `system_event.type`.
        kind: u32,
    },
}

impl Termination {
    /// The meaning of a `KVM_EXIT_SYSTEM_EVENT`.
    pub fn of(kind: u32, data: &[u64]) -> Self {
        let value = match data {
            [value, ..] if kind == KVM_SYSTEM_EVENT_SEV_TERM => *value,
            _ => return Self::Other { kind },
        };
        match msr::Request::decode(value) {
            Some(msr::Request::Terminate { set, reason }) => Self::of_code(set, reason),
            _ => Self::Page { gpa: value },
        }
    }

    /// The meaning of a termination code.
    pub fn of_code(set: u8, code: u8) -> Self {
        if set == 0 {
            return Self::Protocol(code);
        }
        let own = (set == MICROKERNEL_SET).then(|| Reason::from_number(code.into()));
        let unknown = Self::Unknown { set, code };
        own.flatten().map_or(unknown, Self::Microkernel)
    }
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the Keep ended: ")?;
        match self {
            Self::Microkernel(reason) => f.write_str(reason.text()),
            // 56421, table 4.
            Self::Protocol(0) => f.write_str("it asked for it, without a reason"),
            Self::Protocol(1) => f.write_str(
                "this host does not speak its version of the GHCB protocol; use a newer kernel",
            ),
            Self::Protocol(2) => {
                f.write_str("this host lacks a SEV-SNP feature that it needs; use a newer kernel")
            }
            Self::Protocol(code) => write!(f, "reason {code} of the GHCB protocol"),
            Self::Unknown { set, code } => write!(f, "reason {code} of the unknown set {set}"),
            Self::Page { gpa } => write!(
                f,
                "it asked for it by its GHCB at {gpa:#x}; the reason is in the host's kernel log"
            ),
            Self::Other { kind } => write!(f, "KVM reports system event {kind}"),
        }
    }
}

/// An access to a page in another state than the guest thinks it is (`KVM_EXIT_MEMORY_FAULT`).
/// The microkernel asks before it converts, so this is its defect or an attack on it: the Keep
/// ends, and nothing is converted silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryFault {
    /// Guest physical address.
    pub gpa: u64,
    /// Bytes.
    pub size: u64,
    /// The guest took the page for private; else for shared.
    pub as_private: bool,
    /// What the page was at launch; none where there is no memory.
    pub began_private: Option<bool>,
}

impl MemoryFault {
    /// The meaning of the exit's fields.
    pub fn of(map: &Map, flags: u64, gpa: u64, size: u64) -> Self {
        Self {
            gpa,
            size,
            as_private: flags & u64::from(KVM_MEMORY_EXIT_FLAG_PRIVATE) != 0,
            began_private: map.begins_private(gpa),
        }
    }
}

impl fmt::Display for MemoryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |private| if private { "private" } else { "shared" };
        write!(
            f,
            "the Keep ended: it took {:#x} bytes at {:#x} for {} memory, ",
            self.size,
            self.gpa,
            name(self.as_private)
        )?;
        match self.began_private {
            Some(private) => write!(
                f,
                "which they are not (they began as {}), and had not asked to change them; please report this",
                name(private)
            ),
            None => write!(f, "but there is no memory; please report this"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::memory::Extent;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn map() -> Map {
        let extent = |gpa, size, private| Extent { gpa, size, private };
        let window = 4 * MIB..6 * MIB;
        Map::new(
            vec![extent(0, 8 * MIB, true), extent(8 * MIB, 2 * MIB, false)],
            &[window],
        )
        .unwrap()
    }

    #[test]
    fn conversions_are_checked_against_the_memory() {
        for (gpa, pages, flags, expected) in [
            (0, 1, 0x00, Some((PAGE, false))),
            (0, 1, 0x10, Some((PAGE, true))),
            (0x3000, 7, 0x10, Some((7 * PAGE, true))),
            (2 * MIB, 512, 0x11, Some((2 * MIB, true))),
            (4 * MIB, 1024, 0x01, Some((4 * MIB, false))),
            // Page sizes: 1 GiB, 2 MiB unaligned, 2 MiB in part.
            (0, 1, 0x02, None),
            (0, 1, 0x13, None),
            (PAGE, 512, 0x01, None),
            (2 * MIB, 511, 0x11, None),
            // Unknown flags.
            (0, 1, 0x20, None),
            (0, 1, 1 << 63, None),
            // Ranges: empty, unaligned, too long, shared for good, wrapping.
            (0, 0, 0x10, None),
            (0x800, 1, 0x10, None),
            (8 * MIB - PAGE, 2, 0x10, None),
            (8 * MIB, 1, 0x10, None),
            (12 * MIB, 1, 0, None),
            (0, u64::MAX, 0, None),
            (PAGE, 1 << 52, 0, None),
            (u64::MAX - PAGE + 1, 1, 0, None),
        ] {
            let found = conversion(&map(), [gpa, pages, flags, 0, 0, 0]);
            assert_eq!(
                found.map(|found| (found.length, found.private)),
                expected,
                "{gpa:#x} {pages} {flags:#x}"
            );
            assert!(found.is_none_or(|found| found.place.offset == gpa && found.gpa == gpa));
        }
    }

    proptest! {
        /// Whatever a guest asks for: what is granted lies in the private slot, in whole pages.
        #[test]
        fn conversions_never_leave_the_private_slot(
            gpa in prop_oneof![any::<u64>(), (0u64..0x1000).prop_map(|gfn| gfn << 12)],
            pages in prop_oneof![any::<u64>(), 0u64..0x1000],
            flags in prop_oneof![any::<u64>(), 0u64..0x20],
        ) {
            if let Some(found) = conversion(&map(), [gpa, pages, flags, 0, 0, 0]) {
                prop_assert!(found.length != 0 && found.length / PAGE == pages);
                prop_assert!((found.gpa | found.length).is_multiple_of(PAGE));
                prop_assert!(u128::from(found.gpa) + u128::from(found.length) <= u128::from(8 * MIB));
                prop_assert_eq!(found.place, Place { slot: 0, offset: gpa });
                prop_assert_eq!(found.private, flags & 0x10 != 0);
            }
        }
    }

    #[test]
    fn answers_are_the_three_that_kvm_takes() {
        let values = [Answer::Done, Answer::Invalid, Answer::Again].map(Answer::value);
        assert_eq!(values, [0, 22, 11]);
    }

    #[test]
    fn terminations_are_named() {
        let msr = |set: u64, code: u64| 0x100 | set << 12 | code << 16;
        for (kind, data, expected, text) in [
            (
                6,
                &[msr(1, 4)][..],
                Termination::Microkernel(Reason::OutOfMemory),
                "--memory",
            ),
            (
                6,
                &[msr(1, 9)],
                Termination::Microkernel(Reason::StackOverflow),
                "overflowed",
            ),
            (
                6,
                &[msr(1, 200)],
                Termination::Unknown { set: 1, code: 200 },
                "reason 200",
            ),
            (
                6,
                &[msr(2, 1)],
                Termination::Unknown { set: 2, code: 1 },
                "set 2",
            ),
            (
                6,
                &[msr(0, 0)],
                Termination::Protocol(0),
                "without a reason",
            ),
            (
                6,
                &[msr(0, 1)],
                Termination::Protocol(1),
                "version of the GHCB",
            ),
            (6, &[msr(0, 2)], Termination::Protocol(2), "SEV-SNP feature"),
            (6, &[msr(0, 3)], Termination::Protocol(3), "reason 3"),
            (6, &[0x7000], Termination::Page { gpa: 0x7000 }, "0x7000"),
            (6, &[], Termination::Other { kind: 6 }, "event 6"),
            (1, &[msr(1, 4)], Termination::Other { kind: 1 }, "event 1"),
        ] {
            let found = Termination::of(kind, data);
            assert_eq!(found, expected);
            assert!(found.to_string().contains(text), "{found}");
        }
        // Every reason of the microkernel has words of its own.
        let reasons = (0..=u8::MAX).filter(|&code| Reason::from_number(code.into()).is_some());
        let words: BTreeSet<String> = reasons
            .clone()
            .map(|code| Termination::of(6, &[msr(1, code.into())]))
            .inspect(|found| assert!(matches!(found, Termination::Microkernel(_))))
            .map(|found| found.to_string())
            .collect();
        assert_eq!(words.len(), reasons.count());
    }

    #[test]
    fn memory_faults_are_explained() {
        for (flags, gpa, words) in [
            (8, 4 * MIB, ["private memory", "began as shared"]),
            (0, 0, ["shared memory", "began as private"]),
            (8, 64 * MIB, ["private memory", "there is no memory"]),
        ] {
            let text = MemoryFault::of(&map(), flags, gpa, PAGE).to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
}
