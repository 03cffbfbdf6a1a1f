// SPDX-License-Identifier: Apache-2.0

//! Handling of the exits that SEV-SNP adds: page state changes, termination requests, and accesses
//! that do not match a page's state.
//!
//! The guest chooses everything in an exit: ranges are checked against the memory map before
//! anything is done, and only requested ranges are converted.
#![forbid(unsafe_code)]

use enarx_boot::layout::{LARGE, PAGE};
use enarx_executor::fault::{KeepFault, MemoryFault, StrayExit, Termination};
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

/// Reason set of the microkernel's codes (56421, section 2.3.1: the guest defines sets above 0).
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

/// An exit that SEV-SNP adds, as reported by KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `KVM_EXIT_HYPERCALL`.
    Hypercall {
        /// Its number.
        number: u64,
        /// Its arguments.
        args: [u64; 6],
    },
    /// `KVM_EXIT_SYSTEM_EVENT`.
    SystemEvent {
        /// `system_event.type`.
        kind: u32,
        /// The first data word.
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
/// [`KeepFault`]: the Keep has ended, or has to.
pub fn serve(vm: &impl Vm, map: &Map, exit: Exit) -> Result<Answer, KeepFault> {
    match exit {
        Exit::Hypercall { number, args } => hypercall(vm, map, number, args),
        Exit::SystemEvent { kind, data } => Err(system_event(kind, data.as_slice())),
        Exit::MemoryFault { flags, gpa, size } => {
            Err(KeepFault::MemoryFault(memory_fault(map, flags, gpa, size)))
        }
    }
}

/// Returns the conversion that the arguments of a page state change ask for; `None` when they make no sense.
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
/// [`KeepFault`]: the Keep has to end.
pub fn hypercall(
    vm: &impl Vm,
    map: &Map,
    number: u64,
    args: [u64; 6],
) -> Result<Answer, KeepFault> {
    if number != MAP_GPA_RANGE {
        return Err(KeepFault::Exit(StrayExit::Hypercall(number)));
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
            return Err(KeepFault::kvm(step, errno.raw_os_error()));
        }
    }
    // The memory of the other side is returned to the host.
    let Place { slot, offset } = conversion.place;
    let (step, freed) = if conversion.private {
        let freed = vm.discard_shared(slot, offset, conversion.length);
        ("free shared pages", freed)
    } else {
        let freed = vm.discard_private(slot, offset, conversion.length);
        ("free private pages", freed)
    };
    freed.map_err(|errno| KeepFault::kvm(step, errno.raw_os_error()))?;
    Ok(Answer::Done)
}

/// The meaning of a `KVM_EXIT_SYSTEM_EVENT`, by which KVM says that the guest ended itself.
pub fn system_event(kind: u32, data: &[u64]) -> KeepFault {
    let value = match data {
        [value, ..] if kind == KVM_SYSTEM_EVENT_SEV_TERM => *value,
        _ => return KeepFault::Terminated(Termination::Event { kind }),
    };
    match msr::Request::decode(value) {
        Some(msr::Request::Terminate { set, reason }) => terminated(set, reason),
        _ => KeepFault::Terminated(Termination::Page { gpa: value }),
    }
}

/// The meaning of a termination code of the GHCB protocol.
pub fn terminated(set: u8, code: u8) -> KeepFault {
    if set == 0 {
        return KeepFault::Terminated(Termination::Protocol(code));
    }
    let own = (set == MICROKERNEL_SET).then(|| Reason::from_number(code.into()));
    match own.flatten() {
        Some(reason) => KeepFault::Reported {
            reason,
            detail: None,
        },
        None => KeepFault::Terminated(Termination::Unknown { set, code }),
    }
}

/// The meaning of the fields of a `KVM_EXIT_MEMORY_FAULT`.
pub fn memory_fault(map: &Map, flags: u64, gpa: u64, size: u64) -> MemoryFault {
    MemoryFault {
        gpa,
        size,
        as_private: flags & u64::from(KVM_MEMORY_EXIT_FLAG_PRIVATE) != 0,
        began_private: map.begins_private(gpa),
    }
}

#[cfg(test)]
mod tests {
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
            // Ranges: empty, unaligned, too long, permanently shared, wrapping.
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
        /// Whatever a guest requests, the granted range lies in the private slot, in whole pages.
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
    fn terminations_are_distinguished() {
        let msr = |set: u64, code: u64| 0x100 | set << 12 | code << 16;
        let unknown = |set, code| Termination::Unknown { set, code };
        for (kind, data, expected) in [
            (6, &[msr(1, 200)][..], unknown(1, 200)),
            (6, &[msr(2, 1)], unknown(2, 1)),
            (6, &[msr(0, 0)], Termination::Protocol(0)),
            (6, &[msr(0, 1)], Termination::Protocol(1)),
            (6, &[msr(0, 2)], Termination::Protocol(2)),
            (6, &[msr(0, 3)], Termination::Protocol(3)),
            (6, &[0x7000], Termination::Page { gpa: 0x7000 }),
            (6, &[], Termination::Event { kind: 6 }),
            (1, &[msr(1, 4)], Termination::Event { kind: 1 }),
        ] {
            assert_eq!(system_event(kind, data), KeepFault::Terminated(expected));
        }
        for reason in Reason::ALL {
            let found = system_event(6, &[msr(1, *reason as u64)]);
            let reason = *reason;
            let detail = None;
            assert_eq!(found, KeepFault::Reported { reason, detail });
        }
    }

    #[test]
    fn memory_faults_are_explained() {
        for (flags, gpa, words) in [
            (8, 4 * MIB, ["private memory", "began as shared"]),
            (0, 0, ["shared memory", "began as private"]),
            (8, 64 * MIB, ["private memory", "there is no memory"]),
        ] {
            let text = memory_fault(&map(), flags, gpa, PAGE).to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
}
