// SPDX-License-Identifier: Apache-2.0

//! The steps of the first day against the fake kernel: each passes if the guest behaves correctly, and otherwise
//! reports its observations.

use std::collections::{BTreeMap, VecDeque};

use enarx_boot_image::{LOADER, MICROKERNEL};
use enarx_exits::{KICK_VECTOR, PORT};
use enarx_launch::Runtime;
use enarx_launch::measured::Images;
use enarx_snp::ghcb::Ghcb;
use enarx_vmm::error::KvmError;
use enarx_vmm::first_day::{Parts, Step, StepError, take_on};
use enarx_vmm::snp::firmware::Status;
use rustix::io::Errno;

use super::fake::{C_BIT, Cpuid, Event, Host, Machine, Memory, Script};
use super::played::Play;
use super::{cpuid, cpuid_page, executable};

/// The page that toys share to report their progress.
const SHARED: u64 = 0x10_0000;

fn share() -> Play {
    Play::Hypercall([SHARED, 1, 0, 0, 0, 0])
}

/// The end with this code of the toys' own set.
fn end(code: u64) -> Play {
    Play::SystemEvent(6, vec![0x1100 | code << 16])
}

/// Takes a step on a host of that kind, on which the vCPUs do this.
fn take(step: Step, script: Script, runs: &[Vec<Play>]) -> (Host, Result<Vec<String>, StepError>) {
    let runs: BTreeMap<usize, VecDeque<Play>> = runs
        .iter()
        .cloned()
        .map(VecDeque::from)
        .enumerate()
        .collect();
    let host = Host::new(Script { runs, ..script });
    let parts = Parts {
        c_bit: C_BIT.trailing_zeros(),
        cpuid_page: zerocopy::transmute!(*cpuid_page(0).bytes),
        cpuids: vec![cpuid(); 3],
    };
    let runtime = executable();
    let images = Images {
        microkernel: MICROKERNEL,
        loader: LOADER,
        runtime: Runtime::of(&runtime),
    };
    let memory = |size, _: &[std::ops::Range<u64>], ghcb: Option<&Ghcb>| {
        // KVM wants a valid exit code and both words of information (`sev_es_validate_vmgexit`).
        assert!(
            ghcb.is_none_or(|ghcb| ghcb.valid_bitmap[14] == 0x1c && ghcb.ghcb_usage.get() == 0)
        );
        Ok::<_, KvmError>(Memory(size))
    };
    let result = take_on::<Host, Machine>(&host, step, &parts, &images, memory);
    (host, result)
}

/// The plays with which a step passes.
fn passing(step: Step) -> Vec<Vec<Play>> {
    match step {
        Step::Toy => vec![vec![share(), end(0xa1)]],
        Step::ToyDigest | Step::RealDigest => vec![],
        Step::Ghcb => vec![vec![
            Play::Port(PORT, 0x1234_5678u32.to_le_bytes().into()),
            end(0xa1),
        ]],
        Step::SecondVcpu => vec![vec![Play::Create(1, 0xa000), share()], vec![end(0xa5)]],
        // Two guests, one after the other: the second one turns interrupts on later.
        Step::Kicks => vec![vec![
            Play::On(Box::new(share())),
            end(0xa1),
            share(),
            Play::Signal(false),
            Play::Window,
            end(0xa1),
        ]],
    }
}

fn refusal(step: Step, script: Script, runs: &[Vec<Play>]) -> String {
    take(step, script, runs).1.unwrap_err().to_string()
}

#[test]
fn steps_pass_if_the_guest_does_what_it_should() {
    for step in Step::ALL {
        let (_host, result) = take(step, Script::default(), &passing(step));
        assert!(!result.unwrap().is_empty(), "{step:?}");
    }
    let (host, result) = take(
        Step::SecondVcpu,
        Script::default(),
        &passing(Step::SecondVcpu),
    );
    result.unwrap();
    let started = Event::Entered {
        vcpu: 1,
        vmsa: 0xa000,
    };
    assert!(host.state().events.contains(&started));
}

#[test]
fn corrections_of_the_first_launch_are_reported() {
    let script = Script {
        cpuid: Cpuid::Ebx(vec![(7, 0, 0x219c_078b)]),
        ..Script::default()
    };
    let (_host, result) = take(Step::Toy, script, &passing(Step::Toy));
    let lines = result.unwrap();
    assert_eq!(lines[0], "CPUID page with 2 entries");
    assert!(lines[1].contains("leaf 0x7"), "{lines:?}");
}

#[test]
fn failures_are_reported_with_what_was_seen() {
    let plays = |plays: &[Play]| vec![plays.to_vec()];
    for (step, runs, parts) in [
        (
            Step::Toy,
            plays(&[share(), Play::Shutdown]),
            ["triple fault", "registers cannot be read"],
        ),
        (
            Step::Toy,
            plays(&[Play::MemoryFault(8, 0x4000)]),
            ["private memory", "0x4000"],
        ),
        (
            Step::Ghcb,
            plays(&[end(0xa2)]),
            ["code 0xa2", "KVM did not register its GHCB"],
        ),
        (
            Step::Ghcb,
            plays(&[Play::Fails(Errno::INVAL)]),
            ["os error 22", "grep -e vmgexit"],
        ),
        (
            Step::SecondVcpu,
            plays(&[end(0xa3)]),
            ["code 0xa3", "RMPADJUST"],
        ),
        (
            Step::SecondVcpu,
            vec![vec![share()], vec![end(0xa4)]],
            ["code 0xa4", "started from its measured page"],
        ),
        (
            Step::Kicks,
            plays(&[share(), Play::Shutdown]),
            ["if_flag 0", "ready_for_interrupt_injection 0"],
        ),
    ] {
        let text = refusal(step, Script::default(), &runs);
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{step:?}: {text}"
        );
    }
    let mut script = Script::default();
    script.firmware.insert("start", Status(0x15));
    let text = refusal(Step::Toy, script, &[]);
    assert!(text.contains("UNSUPPORTED, 0x15"), "{text}");
}

#[test]
fn kicks_are_given_at_once_and_by_the_window() {
    let (host, result) = take(Step::Kicks, Script::default(), &passing(Step::Kicks));
    result.unwrap();
    let kick = Event::Interrupt {
        vcpu: 0,
        vector: KICK_VECTOR.into(),
    };
    let state = host.state();
    let kicks = state.events.iter().filter(|event| **event == kick);
    assert_eq!(kicks.count(), 2);
}

#[test]
fn a_firmware_that_accepts_any_digest_proves_nothing() {
    let script = Script {
        any_digest: true,
        ..Script::default()
    };
    let text = refusal(Step::ToyDigest, script, &[]);
    assert!(text.contains("proves nothing"), "{text}");
}
