// SPDX-License-Identifier: Apache-2.0

//! CPUID from the firmware's page.

use proptest::prelude::*;

use enarx_boot::first_state::{CR4_SMAP, CR4_SMEP, CR4_UMIP};
use enarx_exits::Reason;
use enarx_microkernel::fatal::Fatal;
use enarx_microkernel::frame::Frame;
use enarx_microkernel::snp::cpuid::{Features, answer, features};
use zerocopy::IntoBytes;

use crate::machine::{CPUID_PAGE, Line, Machine, cpuid_page, ordinary_cpuid, snp_launch};

/// The frame of the page.
fn page() -> Frame {
    snp_launch(1).cpuid
}

const VCPU: u32 = 5;

fn machine(lines: &[Line]) -> Machine {
    let mut machine = Machine::new();
    machine.put_bytes(CPUID_PAGE, cpuid_page(lines).as_bytes());
    machine
}

/// The ordinary functions, one of which is changed.
fn changed(leaf: u32, register: usize, value: u32) -> Vec<Line> {
    let mut lines = ordinary_cpuid();
    for line in &mut lines {
        if (line.0, line.1) == (leaf, 0) {
            line.2[register] = value;
        }
    }
    lines
}

#[test]
fn functions_are_answered_from_the_page() {
    let machine = machine(&ordinary_cpuid());
    let none = [0; 4];
    for (leaf, subleaf, expected) in [
        (0, 0, [0x10, 1, 2, 3]),
        // A function without sub-functions ignores ECX.
        (0, 9, [0x10, 1, 2, 3]),
        (0x8000_0008, u32::MAX, [0x3030, 0x1ad8_7207, 0x7007, 0]),
        // The host's APIC number is replaced, OSXSAVE is set.
        (1, 0, [0x00a1_0f11, 0x0504_0800, 0x7c00_0201, 0x0178_bfff]),
        (7, 0, [1, 0x0011_0081, 4, 0x10]),
        (7, 1, [0x20, 0, 0, 0]),
        (7, 2, none),
        (0xb, 0, [1, 2, 0x100, VCPU]),
        (0xb, 7, [0, 0, 0, VCPU]),
        (0x1f, 0, [0, 0, 0, VCPU]),
        (0xd, 0, [0xe7, 2432, 0x980, 0]),
        (0xd, 1, [0xf, 2432, 0x1800, 0]),
        (0xd, 2, [0x100, 0x240, 0, 0]),
        (0xd, 3, none),
        (0x8000_001e, 0, [VCPU, 0x100, 0, 0]),
        // No hypervisor leaves, and nothing beyond the range.
        (0x4000_0000, 0, none),
        (0x8000_001f, 0, none),
        (u32::MAX, u32::MAX, none),
    ] {
        assert_eq!(
            answer(&machine, page(), VCPU, 0xe7, leaf, subleaf),
            expected,
            "{leaf:#x}.{subleaf}"
        );
    }
}

#[test]
fn the_save_area_is_as_large_as_its_components() {
    let machine = machine(&ordinary_cpuid());
    for (xcr0, size) in [
        (0, 576),
        (3, 576),
        (7, 832),
        (0b10_0111, 0x380),
        (0xe7, 2432),
        // A component that is not in the page takes no space.
        (1 << 9, 576),
    ] {
        let [_, now, ..] = answer(&machine, page(), 0, xcr0, 0xd, 0);
        assert_eq!(now, size, "{xcr0:#x}");
    }
    let endless = [(0xd, 2, [u32::MAX, u32::MAX, 0, 0])];
    let machine = self::machine(&endless);
    assert_eq!(answer(&machine, page(), 0, 7, 0xd, 0)[1], u32::MAX);
}

#[test]
fn features_are_those_of_the_page() {
    let all = Features {
        cr4: CR4_SMEP | CR4_SMAP | CR4_UMIP,
        xcr0: 0xe0,
    };
    let of = |lines: &[Line]| features(&machine(lines), page());
    assert_eq!(of(&ordinary_cpuid()), Ok(all));
    // AVX-512 has all three components or is absent.
    for offered in [0, 7, 0x27, 0x67, 0xa7, 0xc7] {
        assert_eq!(
            of(&changed(0xd, 0, offered)),
            Ok(Features { xcr0: 0, ..all })
        );
    }
    let refused = |number| Err(Fatal::new(Reason::Cpuid, number));
    assert_eq!(of(&[]), refused(1));
    assert_eq!(of(&ordinary_cpuid()[..1]), refused(2));
    assert_eq!(of(&changed(1, 2, 1 << 26)), refused(2));
    assert_eq!(of(&changed(1, 2, 1 << 30)), refused(2));
    assert_eq!(of(&changed(7, 1, !1)), refused(3));
    // SMEP, SMAP, UMIP: the firmware lets a host leave them out.
    for (register, bit) in [(1, 7), (1, 20), (2, 2)] {
        assert_eq!(of(&changed(7, register, !(1 << bit))), refused(4));
    }
    assert_eq!(of(&changed(7, 2, 0)), refused(4));
    for count in [0u32, 65, u32::MAX] {
        let mut machine = machine(&ordinary_cpuid());
        machine.put_bytes(CPUID_PAGE, &count.to_le_bytes());
        assert_eq!(features(&machine, page()), refused(1));
    }
}

/// The last entry counts like the first.
#[test]
fn a_full_page_is_searched_to_its_end() {
    let mut lines: Vec<Line> = (0..63).map(|leaf| (0x1000 + leaf, 0, [0; 4])).collect();
    lines.push((0, 0, [1, 2, 3, 4]));
    assert_eq!(answer(&machine(&lines), page(), 0, 7, 0, 0), [1, 2, 3, 4]);
}

proptest! {
    #[test]
    fn any_page_gives_an_answer(
        mut bytes in proptest::collection::vec(any::<u8>(), 4096),
        count in prop_oneof![Just(None), (0u32..80).prop_map(Some)],
        leaf in prop_oneof![any::<u32>(), 0u32..0x20, 0x8000_0000u32..0x8000_0030],
        subleaf in prop_oneof![any::<u32>(), 0u32..64],
        xcr0 in any::<u64>(),
    ) {
        if let Some(count) = count {
            bytes[..4].copy_from_slice(&count.to_le_bytes());
            // An entry that matches the request.
            bytes[16..20].copy_from_slice(&leaf.to_le_bytes());
            bytes[20..24].copy_from_slice(&subleaf.to_le_bytes());
        }
        let mut machine = Machine::new();
        machine.put_bytes(CPUID_PAGE, &bytes);
        let count = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let result = features(&machine, page());
        prop_assert!(result.is_err() || (1..=64).contains(&count));
        if let Ok(features) = result {
            prop_assert!(features.xcr0 == 0 || features.xcr0 == 0xe0);
        }
        let answer = answer(&machine, page(), VCPU, xcr0, leaf, subleaf);
        if leaf == 1 {
            prop_assert_eq!(answer[1] >> 24, VCPU);
        }
    }
}
