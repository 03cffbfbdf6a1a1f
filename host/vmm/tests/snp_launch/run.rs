// SPDX-License-Identifier: Apache-2.0

//! The exits of a SEV-SNP guest against the fake kernel: the run loop's reaction to each result of `KVM_RUN`.

use std::collections::{BTreeMap, VecDeque};

use enarx_executor::fault::{HostFault, KeepFault, MemoryFault, StrayExit, Termination};
use enarx_exits::{KICK_VECTOR, PORT};
use enarx_launch::variant::Variant;
use enarx_snp::cpuid::CpuidPage;
use enarx_vmm::snp::device::{Device, Vm};
use enarx_vmm::snp::guest::{Guest, Request};
use enarx_vmm::vm::entry::{Enter, EntryOutcome, UnhandledExit, enter, kick};
use rustix::io::Errno;

use super::fake::{Event, Host, Machine, Memory, Processor, Script};
use super::played::Play;
use super::{MIB, WINDOW, plan, vcpus};

/// A launched Keep of two vCPUs that do this.
fn keep(runs: [Vec<Play>; 2]) -> (Host, Guest<Machine>, [Processor; 2]) {
    let runs: BTreeMap<usize, VecDeque<Play>> =
        runs.into_iter().map(VecDeque::from).enumerate().collect();
    let host = Host::new(Script {
        runs,
        ..Script::default()
    });
    let pages = plan();
    let cpuids = vcpus(&pages);
    let request = Request {
        pages,
        shared: &[WINDOW],
        cpuid_page: CpuidPage::default(),
        cpuids: &cpuids,
        size: 4 * MIB,
        memory: Memory(4 * MIB),
        identity: None,
        host_data: [0; 32],
        variant: Variant::PLAIN,
    };
    let guest = Guest::launch(&host, request).unwrap();
    let processors = [0, 1].map(|id| guest.vcpu(id).unwrap());
    (host, guest, processors)
}

/// Runs a vCPU, like the run loop, until its first call of a function or its end.
fn run(guest: &Guest<Machine>, vcpu: &mut Processor) -> Result<u32, KeepFault> {
    loop {
        match enter(vcpu) {
            EntryOutcome::Port(number) => return Ok(number),
            EntryOutcome::Again => {}
            EntryOutcome::Ended(fault) => return Err(fault),
            EntryOutcome::Unhandled(UnhandledExit::Snp(exit)) => guest.answer(vcpu, exit)?,
            EntryOutcome::Unhandled(other) => panic!("{other:?}"),
        }
    }
}

/// The end of a Keep whose first vCPU does this.
fn end(plays: Vec<Play>) -> KeepFault {
    let (_host, guest, [mut first, _second]) = keep([plays, vec![]]);
    run(&guest, &mut first).unwrap_err()
}

fn port(number: u32) -> Play {
    Play::Port(PORT, number.to_le_bytes().into())
}

#[test]
fn conversions_are_answered_when_the_guest_goes_on() {
    let change = |gpa, flags| Play::Hypercall([gpa, 1, flags, 0, 0, 0]);
    let (host, guest, [mut first, _second]) = keep([
        vec![change(0x1000, 0), change(64 * MIB, 0x10), port(7)],
        vec![],
    ]);
    let before = host.state().events.len();
    assert_eq!(run(&guest, &mut first), Ok(7));
    let shared = 0x1000..0x2000;
    let expected = [
        Event::Entered { vcpu: 0, vmsa: 0 },
        Event::Attributes {
            range: shared.clone(),
            private: false,
        },
        Event::DiscardPrivate {
            slot: 0,
            range: shared,
        },
        Event::Answered { vcpu: 0, value: 0 },
        // No memory: EINVAL, and nothing was done.
        Event::Answered { vcpu: 0, value: 22 },
    ];
    assert_eq!(host.state().events[before..], expected);
}

#[test]
fn a_second_vcpu_starts_from_the_page_that_the_first_one_names() {
    const VMSA: u64 = 0x7000;
    let (host, guest, [mut first, mut second]) =
        keep([vec![Play::Create(1, VMSA), port(1)], vec![port(2), port(3)]]);
    let before = host.state().events.len();
    assert_eq!(run(&guest, &mut first), Ok(1));
    // The request waits until the second one runs first, and is served once.
    assert_eq!(run(&guest, &mut second), Ok(2));
    assert_eq!(run(&guest, &mut second), Ok(3));
    let expected = [
        Event::Entered { vcpu: 0, vmsa: 0 },
        Event::Entered {
            vcpu: 1,
            vmsa: VMSA,
        },
    ];
    assert_eq!(host.state().events[before..], expected);
}

#[test]
fn a_kick_is_injected_at_once_or_by_the_window() {
    let interrupt = Event::Interrupt {
        vcpu: 0,
        vector: KICK_VECTOR.into(),
    };
    let taken = |host: &Host| host.state().events.last() == Some(&interrupt);

    // Interrupts on: the next entry takes it.
    let (host, guest, [mut first, _second]) = keep([vec![Play::Signal(true), port(1)], vec![]]);
    assert_eq!(enter(&mut first), EntryOutcome::Again);
    assert_eq!(kick(&mut first), Ok(true));
    assert_eq!(run(&guest, &mut first), Ok(1));
    assert!(taken(&host));

    // Interrupts off: the window is requested, opens, and then the interrupt is taken. A window that nobody
    // requested causes no exit.
    let (host, guest, [mut first, _second]) = keep([
        vec![Play::Signal(false), Play::Window, Play::Window, port(1)],
        vec![],
    ]);
    assert_eq!(enter(&mut first), EntryOutcome::Again);
    assert_eq!(kick(&mut first), Ok(false));
    assert_eq!(first.page().request_interrupt_window, 1);
    assert_eq!(enter(&mut first), EntryOutcome::Again, "the window");
    assert!(!taken(&host));
    assert_eq!(kick(&mut first), Ok(true));
    assert_eq!(first.page().request_interrupt_window, 0);
    assert_eq!(run(&guest, &mut first), Ok(1));
    assert!(taken(&host));

    // The kernel has space for one interrupt.
    let (_host, _guest, [mut first, _second]) = keep([vec![Play::Signal(true)], vec![]]);
    enter(&mut first);
    assert_eq!(kick(&mut first), Ok(true));
    let twice = KeepFault::kvm("inject an interrupt", libc::EEXIST);
    assert_eq!(kick(&mut first), Err(twice));
}

#[test]
fn an_immediate_exit_is_requested_and_cancelled() {
    let (_host, guest, [mut first, _second]) = keep([vec![port(1)], vec![]]);
    first.page().immediate_exit = 1;
    assert_eq!(enter(&mut first), EntryOutcome::Again);
    assert_eq!(run(&guest, &mut first), Ok(1));
}

#[test]
fn the_end_of_a_guest_is_reported_with_its_data() {
    let host = |fault| KeepFault::Host(fault);
    for (play, expected) in [
        (
            Play::MemoryFault(8, WINDOW.start),
            KeepFault::MemoryFault(MemoryFault {
                gpa: WINDOW.start,
                size: 4096,
                as_private: true,
                began_private: Some(false),
            }),
        ),
        (
            Play::SystemEvent(6, vec![0x1100]),
            KeepFault::Terminated(Termination::Unknown { set: 1, code: 0 }),
        ),
        (
            Play::Shutdown,
            KeepFault::TripleFault {
                context: None,
                history: None,
            },
        ),
        (
            Play::FailEntry(u64::MAX, 3),
            host(HostFault::Entry {
                reason: u64::MAX,
                processor: 3,
            }),
        ),
        (
            Play::Internal(4, vec![0x403, 3]),
            host(HostFault::Internal {
                suberror: 4,
                data: vec![0x403, 3],
                context: None,
            }),
        ),
        (
            Play::Port(PORT, vec![1, 0]),
            KeepFault::Exit(StrayExit::PortSize(2)),
        ),
    ] {
        assert_eq!(end(vec![play]), expected);
    }
    // Without an exit, EFAULT is the kernel's own error, even if the last exit was a memory fault.
    for errno in [Errno::INVAL, Errno::FAULT, Errno::BUSY, Errno::NOMEM] {
        let run = HostFault::Run {
            errno: errno.raw_os_error(),
            protected: true,
        };
        assert_eq!(end(vec![Play::Fails(errno)]), host(run));
    }
}

#[test]
fn a_guest_does_not_run_before_its_launch_is_finished() {
    let mut vm = Host::new(Script::default()).create_vm(4).unwrap();
    let mut vcpu = vm.create_vcpu(0).unwrap();
    let refused = EntryOutcome::Ended(KeepFault::Host(HostFault::Run {
        errno: libc::EINVAL,
        protected: true,
    }));
    assert_eq!(enter(&mut vcpu), refused);
}
