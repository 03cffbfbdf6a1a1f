// SPDX-License-Identifier: Apache-2.0

//! The first steps: every wrong word of the CPU, the firmware's pages or the host ends the Keep with
//! the matching reason.

use proptest::prelude::*;

use enarx_boot::address::Gpa;
use enarx_boot::boot_page::BootInfo;
use enarx_boot::first_state::{CR4, CR4_MCE, CR4_SMAP, CR4_SMEP, CR4_UMIP};
use enarx_boot::layout::{LARGE, LAUNCH_END, PAGE, USER_END};
use enarx_exits::{BootCheck, Reason};
use enarx_microkernel::fatal::Fatal;
use enarx_microkernel::launch::Launch;
use enarx_microkernel::random::Random;
use enarx_microkernel::snp::boot::{negotiate, register_ghcb, take_over};
use enarx_microkernel::snp::message::MessageKey;
use enarx_microkernel::snp::{Messages, Snp};
use enarx_snp::ghcb::PageOperation;
use enarx_snp::ghcb::msr::{Request, Response};

use crate::machine::{
    CPUID_PAGE, ENTRY, GHCB, Given, KEY, Machine, OTHER_KEYS, SECRETS_PAGE, boot_info, launch,
    snp_launch,
};

/// The requests of an honest boot to the host, in order.
const QUESTIONS: [Request; 4] = [
    Request::SevInfo,
    Request::HvFeatures,
    Request::PageState {
        gfn: GHCB / PAGE,
        operation: PageOperation::Shared,
    },
    Request::RegisterGhcb { gfn: GHCB / PAGE },
];

/// Negotiates with a host that answers request `at` with `answer`.
fn with_answer(at: usize, answer: u64) -> (Result<(), Fatal>, usize) {
    let mut machine = Machine::new();
    machine.msr = Box::new(move |request| (request == QUESTIONS[at]).then_some(answer));
    let result = negotiate(&mut machine, &launch(1), Gpa::new(GHCB));
    (result, machine.requests.len())
}

#[test]
fn an_honest_host_is_asked_four_questions() {
    let mut machine = Machine::new();
    assert_eq!(negotiate(&mut machine, &launch(1), Gpa::new(GHCB)), Ok(()));
    assert_eq!(machine.requests, QUESTIONS);
}

#[test]
fn every_wrong_answer_has_its_reason() {
    let info = |max, min, c_bit| Response::SevInfo { max, min, c_bit };
    let ghcb = |code| Fatal::new(Reason::Ghcb, code);
    for (at, answer, fatal) in [
        (0, info(1, 1, 51), ghcb(2)),
        (0, info(9, 3, 51), ghcb(2)),
        (0, info(2, 1, 50), ghcb(2)),
        (0, info(2, 1, 0), ghcb(2)),
        (0, Response::HvFeatures { bitmap: 3 }, ghcb(2)),
        (1, Response::HvFeatures { bitmap: 0 }, ghcb(0x80)),
        (1, Response::HvFeatures { bitmap: 1 }, ghcb(0x80)),
        (1, Response::HvFeatures { bitmap: 2 }, ghcb(0x80)),
        (1, info(2, 1, 51), ghcb(0x80)),
        (
            2,
            Response::PageState { error: 1 },
            Fatal::new(Reason::PageState, GHCB),
        ),
        (
            2,
            Response::RunVmpl { error: 0 },
            Fatal::new(Reason::PageState, GHCB),
        ),
        (
            3,
            Response::RegisterGhcb {
                gfn: GHCB / PAGE + 1,
            },
            ghcb(0x12),
        ),
        (3, Response::RegisterGhcb { gfn: (1 << 52) - 1 }, ghcb(0x12)),
        (3, Response::PreferredGhcb { gfn: GHCB / PAGE }, ghcb(0x12)),
    ] {
        let (result, asked) = with_answer(at, answer.encode());
        assert_eq!(result, Err(fatal), "{answer:?}");
        assert_eq!(asked, at + 1, "nothing more is asked after {answer:?}");
    }
    // Not answers of the protocol.
    for (at, code) in [(0, 2), (1, 0x80), (2, 0x14), (3, 0x12)] {
        for answer in [0, u64::MAX, QUESTIONS[at].encode()] {
            assert_eq!(with_answer(at, answer).0, Err(ghcb(code)));
        }
    }
}

proptest! {
    #[test]
    fn any_answer_is_correct_or_ends_the_keep(
        at in 0usize..4,
        code in prop_oneof![Just(1u64), Just(0x81), Just(0x15), Just(0x13), 0..0x1000u64],
        rest in prop_oneof![any::<u64>(), (0u64..4).prop_map(|bits| bits << 12)],
    ) {
        let answer = (rest & !0xfff) | code;
        let right = match Response::decode(answer) {
            Some(Response::SevInfo { max, min, c_bit }) => {
                at == 0 && min <= 2 && max >= 2 && c_bit == 51
            }
            Some(Response::HvFeatures { bitmap }) => at == 1 && bitmap & 3 == 3,
            Some(Response::PageState { error }) => at == 2 && error == 0,
            Some(Response::RegisterGhcb { gfn }) => at == 3 && gfn == GHCB / PAGE,
            _ => false,
        };
        prop_assert_eq!(with_answer(at, answer).0.is_ok(), right);
    }
}

#[test]
fn the_cpu_must_be_that_of_the_launch() {
    // Bits: SEV, SEV-ES, SNP, then vTOM, reflected #VC, restricted injection and so on.
    let mut wrong = vec![0, 1, 2, 3, 4, 5, 6, u64::MAX];
    wrong.extend((3..64).map(|bit| 7 | (1 << bit)));
    for status in wrong {
        let mut machine = Machine::new();
        machine.sev_status = status;
        assert_eq!(
            negotiate(&mut machine, &launch(1), Gpa::new(GHCB)),
            Err(Fatal::new(Reason::Features, status))
        );
        assert!(machine.requests.is_empty(), "the host is not asked");
    }
    // A launch for other features expects those.
    let mut machine = Machine::new();
    machine.sev_status = 7 | (1 << 5);
    let info = BootInfo {
        sev_features: 1 | (1 << 3),
        ..boot_info(1)
    };
    let launch = Launch::new(&Given(info)).unwrap();
    assert_eq!(negotiate(&mut machine, &launch, Gpa::new(GHCB)), Ok(()));
}

#[test]
fn a_boot_page_that_makes_no_sense_is_refused() {
    let snp: [fn(&mut BootInfo); 14] = [
        |info| info.c_bit = 3 << 50,
        |info| info.c_bit = 1 << 38,
        |info| info.c_bit = 1 << 52,
        |info| info.cpuid_page = CPUID_PAGE + 1,
        |info| info.cpuid_page = LAUNCH_END,
        |info| info.secrets_page = SECRETS_PAGE + 8,
        |info| info.secrets_page = !0xfff,
        |info| info.image_start += PAGE,
        |info| info.image_start = 0,
        |info| info.image_start -= LARGE,
        |info| info.image_start = info.free_start + LARGE,
        |info| info.free_start += PAGE,
        |info| info.loader_end += PAGE,
        |info| info.loader_end = info.heap_start + LARGE,
    ];
    let page: [fn(&mut BootInfo); 4] = [
        |info| info.magic += 1,
        |info| info.flags |= 1 << 31,
        |info| info.c_bit = 0,
        |info| info.flags = 0,
    ];
    let user: [fn(&mut BootInfo); 5] = [
        |info| info.user_entry = USER_END,
        |info| info.user_stack = USER_END,
        |info| info.random_bytes = 8,
        |info| info.random_bytes = info.free_start,
        |info| info.random_bytes = !0xf,
    ];
    let tables: [fn(&mut BootInfo); 3] = [
        |info| info.root += 8,
        |info| info.root = LAUNCH_END,
        |info| info.root = !0xfff,
    ];
    for (check, changes) in [
        (BootCheck::SnpLaunch, &snp[..]),
        (BootCheck::BootPage, &page),
        (BootCheck::UserState, &user),
        (BootCheck::Tables, &tables),
    ] {
        for (number, change) in changes.iter().enumerate() {
            let mut info = boot_info(1);
            change(&mut info);
            let refused = Launch::new(&Given(info)).unwrap_err();
            assert_eq!(refused, Fatal::boot(check), "change {number} of {check:?}");
            assert_eq!(refused, Fatal::new(Reason::Boot, check as u64));
        }
    }
    assert!(Launch::new(&Given(boot_info(1))).is_ok());
}

#[test]
fn a_launch_without_snp_is_not_negotiated() {
    let mut machine = Machine::new();
    let launch = Launch::new(&Given(BootInfo {
        flags: 0,
        c_bit: 0,
        ..boot_info(1)
    }));
    let fatal = Fatal::boot(BootCheck::SnpLaunch);
    let result = negotiate(&mut machine, &launch.unwrap(), Gpa::new(GHCB));
    assert_eq!(result, Err(fatal));
    assert!(machine.requests.is_empty());
}

#[test]
fn a_further_vcpu_registers_its_own_ghcb() {
    let mut machine = Machine::new();
    let ghcb = GHCB + 3 * PAGE;
    assert_eq!(register_ghcb(&mut machine, Gpa::new(ghcb)), Ok(()));
    let gfn = ghcb / PAGE;
    assert_eq!(machine.requests, [Request::RegisterGhcb { gfn }]);
}

/// Takes over the firmware's pages; returns the key and the resulting random numbers.
fn taken_over(machine: &mut Machine) -> (Result<Snp, Fatal>, MessageKey, Random) {
    let (key, mut random) = (MessageKey::new(), Random::new());
    let snp = take_over(machine, &snp_launch(1), &key, &mut random);
    (snp, key, random)
}

/// Random bytes where the CPU gives the same words each time.
fn bytes(random: &mut Random) -> [u8; 40] {
    let mut machine = Machine::new();
    machine.random = (1..=5).map(Some).collect();
    let mut bytes = [0; 40];
    random.fill(&mut machine, &mut bytes).unwrap();
    bytes
}

#[test]
fn the_secrets_are_taken_over_and_wiped() {
    let mut machine = Machine::new();
    let (snp, key, _) = taken_over(&mut machine);
    let snp = snp.unwrap();
    let protections = CR4_SMEP | CR4_SMAP | CR4_UMIP;
    let registers = (snp.control.cr4(), snp.control.xcr0());
    assert_eq!(registers, (CR4 | CR4_MCE | protections, 0xe7));
    // The vCPUs that it starts have the same as the first.
    let started = snp.first_state(ENTRY, launch(1).root, 0);
    assert_eq!((started.cr4, started.xcr0), registers);
    assert_eq!((snp.started, snp.image_released), (1, false));
    assert!(key.is_set() && snp.messages == Messages::Free);
    assert!(machine.is_zero(SECRETS_PAGE, PAGE));
}

/// An otherwise unused key is the second source of random numbers.
#[test]
fn random_numbers_depend_on_the_secrets() {
    let mut random = taken_over(&mut Machine::new()).2;
    let usual = bytes(&mut random);
    let mut plain = [0; 40];
    for (place, word) in plain.chunks_exact_mut(8).zip(1u64..) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    assert_ne!(usual, plain, "the CPU's words as they are");
    assert_ne!(bytes(&mut random), usual, "the same bytes a second time");
    assert_eq!(bytes(&mut taken_over(&mut Machine::new()).2), usual);
    for at in [0, 31] {
        let mut machine = Machine::new();
        let mut keys = OTHER_KEYS;
        keys[at] ^= 1;
        machine.put_bytes(SECRETS_PAGE + 64, &keys);
        assert_ne!(bytes(&mut taken_over(&mut machine).2), usual, "byte {at}");
    }
    // The key of the messages is not spent on it.
    let mut machine = Machine::new();
    machine.put_bytes(SECRETS_PAGE + 32, &[7; 32]);
    assert_eq!(bytes(&mut taken_over(&mut machine).2), usual);
    assert_eq!(bytes(&mut Random::new()), plain, "no second source");
}

/// The CPU's part affects the result whatever the secret is.
#[test]
fn random_numbers_depend_on_the_cpu() {
    let mut other = Machine::new();
    other.random = (11..=15).map(Some).collect();
    let mut bytes_of_other = [0; 40];
    taken_over(&mut Machine::new())
        .2
        .fill(&mut other, &mut bytes_of_other)
        .unwrap();
    let usual = bytes(&mut taken_over(&mut Machine::new()).2);
    for (index, (one, two)) in usual.chunks(8).zip(bytes_of_other.chunks(8)).enumerate() {
        assert_ne!(one, two, "word {index}");
    }
}

#[test]
fn a_generator_that_fails_ends_the_keep() {
    let good = || (1..=7).map(|word| Some(word * 0x1111));
    for (last, detail) in [
        (None, 0),
        (Some(0), 1),
        (Some(u64::MAX), 1),
        // The word before it.
        (Some(7 * 0x1111), 1),
    ] {
        let mut machine = Machine::new();
        machine.random = good().chain([last]).collect();
        let fatal = Fatal::new(Reason::NoRandomness, detail);
        assert_eq!(Random::new().test_generator(&mut machine), Err(fatal));
        // Later, too.
        machine.random = good().chain([last]).collect();
        let mut random = Random::new();
        random.add_secret(KEY);
        assert_eq!(random.fill(&mut machine, &mut [0; 64]), Err(fatal));
    }
    let mut machine = Machine::new();
    machine.random = good().chain([Some(5)]).collect();
    assert_eq!(Random::new().test_generator(&mut machine), Ok(()));
}

#[test]
fn invalid_secrets_are_refused_and_wiped() {
    for (version, key) in [(0u32, KEY), (1, KEY), (2, [0; 32]), (u32::MAX, [0; 32])] {
        let mut machine = Machine::new();
        machine.put_bytes(SECRETS_PAGE, &version.to_le_bytes());
        machine.put_bytes(SECRETS_PAGE + 32, &key);
        // The other keys and fields do not matter.
        machine.put_bytes(SECRETS_PAGE + 8, &[0xff; 24]);
        machine.put_bytes(SECRETS_PAGE + 64, &[0xff; 96]);
        let (snp, key, _) = taken_over(&mut machine);
        assert_eq!(
            snp.unwrap_err(),
            Fatal::new(Reason::Secrets, version.into())
        );
        assert!(!key.is_set());
        assert!(machine.is_zero(SECRETS_PAGE, PAGE));
    }
    // The oldest accepted version.
    let mut machine = Machine::new();
    machine.put_bytes(SECRETS_PAGE, &2u32.to_le_bytes());
    assert!(taken_over(&mut machine).0.is_ok());
}

#[test]
fn a_bad_cpuid_page_is_refused() {
    let mut machine = Machine::new();
    machine.put_bytes(CPUID_PAGE, &65u32.to_le_bytes());
    let fatal = taken_over(&mut machine).0.unwrap_err();
    assert_eq!(fatal, Fatal::new(Reason::Cpuid, 1));
}
