// SPDX-License-Identifier: Apache-2.0

//! A hostile VMM against a Keep on the simulated SEV-SNP platform: every attack ends the Keep with the
//! documented reason, or the runtime notices it; none gets further.

#![expect(unsafe_code, reason = "the attack writes memory that the guest reads")]

#[macro_use]
extern crate enarx_harness;

mod guest;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use enarx_boot::layout::{EXIT_PHYSICAL, SHARED_END};
use enarx_executor::fault::{KeepFault, SimulatedFault};
use enarx_executor::launch::Outcome;
use enarx_exits::{COUNTERS_OFFSET, GHCB_OFFSET, MESSAGE_OFFSET, Reason};
use enarx_harness::needs;
use enarx_simulator::{Hypervisor, SharedMemory};
use enarx_snp::ghcb::msr::Request;
use enarx_snp::ghcb::{Field, PageOperation, exit};
use enarx_snp::launch::PageType;
use enarx_vmm::is_pvm;
use enarx_vmm::platform::attack::{Attack, Injected};
use guest::{Options, Platform, alone, run_with};

fn main() -> std::process::ExitCode {
    enarx_harness::main()
}

/// Runs a guest program against an attack.
fn run_against(mode: &str, attack: impl Attack + 'static) -> (Outcome, String) {
    run_against_for(mode, attack, Duration::from_mins(3))
}

/// As [`run_against`], with a time limit.
fn run_against_for(
    mode: &str,
    attack: impl Attack + 'static,
    timeout: Duration,
) -> (Outcome, String) {
    let options = Options {
        attack: Some(Arc::new(attack)),
        timeout,
        ..Options::on(Platform::Simulated)
    };
    run_with(mode, &options)
}

/// A fault ends the Keep.
#[track_caller]
fn ends(mode: &str, attack: impl Attack + 'static) -> KeepFault {
    match run_against(mode, attack) {
        (Outcome::Fault(fault), _) => fault,
        other => panic!("the Keep goes on: {other:?}"),
    }
}

/// The Keep ends for this reason of its microkernel.
#[track_caller]
fn ends_with(mode: &str, attack: impl Attack + 'static, reason: Reason) {
    let fault = ends(mode, attack);
    assert_eq!(fault.reason(), Some(reason), "{fault}");
}

macro_rules! attack_test {
    ($name:ident, $body:block) => {
        #[test]
        fn $name() {
            let _turn = alone();
            needs::kvm();
            $body
        }
    };
}

const REPLY: u64 = EXIT_PHYSICAL + MESSAGE_OFFSET as u64 + 4096;
const GHCB: u64 = EXIT_PHYSICAL + GHCB_OFFSET as u64;
/// The part of the guest program with only CPUID instructions (`guest.c`).
const CPUIDS: Range<u64> = 0x2000_0000..0x2000_1ffe;
/// An address that the guest validates early, and one that it validates as a large page.
const FIRST_FREE: u64 = SHARED_END;

// ---- pages

/// Validates pages itself before the guest does, so that they look like replayed pages.
#[derive(Debug)]
struct EarlyValidation;

impl Attack for EarlyValidation {
    fn pvalidate(&self, gpa: u64, hypervisor: &Hypervisor) {
        let _ = hypervisor.pvalidate(gpa, gpa >= FIRST_FREE, true);
    }
}

attack_test!(a_page_that_was_validated_before_ends_the_keep, {
    ends_with("h", EarlyValidation, Reason::Validation);
});

/// Only large pages: those of the program's memory.
#[derive(Debug)]
struct EarlyMemoryValidation;

impl Attack for EarlyMemoryValidation {
    fn pvalidate(&self, gpa: u64, hypervisor: &Hypervisor) {
        if gpa >= FIRST_FREE {
            let _ = hypervisor.pvalidate(gpa, true, true);
        }
    }
}

attack_test!(replayed_memory_ends_the_keep, {
    ends_with("M", EarlyMemoryValidation, Reason::Validation);
});

/// A host that removes the page that the guest is about to validate, and gives shared memory instead.
#[derive(Debug)]
struct SharedSubstitute;

impl Attack for SharedSubstitute {
    fn pvalidate(&self, gpa: u64, hypervisor: &Hypervisor) {
        let request = Request::PageState {
            gfn: gpa / 4096,
            operation: PageOperation::Shared,
        };
        let _ = hypervisor.msr_write(1, request.encode(), &Nothing);
    }
}

struct Nothing;

impl SharedMemory for Nothing {
    fn read(&self, _: u64, _: &mut [u8]) -> Option<()> {
        None
    }
    fn write(&self, _: u64, _: &[u8]) -> Option<()> {
        None
    }
}

attack_test!(shared_memory_in_place_of_private_ends_the_keep, {
    let fault = ends("h", SharedSubstitute);
    let shared = matches!(
        fault,
        KeepFault::Simulated(SimulatedFault::NotPrivate { .. })
    );
    assert!(shared, "{fault:?}");
});

/// A host that says that page states were not changed.
#[derive(Debug)]
struct PageStateRefusal;

impl Attack for PageStateRefusal {
    fn answer(&self, _: u32, memory: &dyn SharedMemory) {
        let mut code = [0; 8];
        let at = GHCB + Field::SwExitCode as u64;
        if memory.read(at, &mut code).is_some()
            && u64::from_le_bytes(code) == exit::PAGE_STATE_CHANGE
        {
            memory.write(GHCB + Field::SwExitInfo2 as u64, &[1; 8]);
        }
    }
}

attack_test!(a_page_state_that_is_not_changed_ends_the_keep, {
    ends_with("h", PageStateRefusal, Reason::PageState);
});

// ---- what the firmware left

/// Changes a page of the launch on its way into the guest.
#[derive(Debug)]
struct Changes {
    kind: PageType,
    change: fn(&mut [u8; 4096]),
}

impl Attack for Changes {
    fn page(&self, kind: PageType, _: u64, bytes: &mut [u8; 4096]) {
        if kind == self.kind {
            (self.change)(bytes);
        }
    }
}

attack_test!(an_empty_secrets_page_ends_the_keep, {
    let zeroed = Changes {
        kind: PageType::Secrets,
        change: |bytes| bytes.fill(0),
    };
    ends_with("h", zeroed, Reason::Secrets);
});

attack_test!(lies_in_the_cpuid_page_end_the_keep, {
    let changes: [fn(&mut [u8; 4096]); 3] = [
        |bytes| bytes.fill(0),
        |bytes| bytes[..4].copy_from_slice(&65u32.to_le_bytes()),
        |bytes| bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes()),
    ];
    for change in changes {
        let kind = PageType::Cpuid;
        ends_with("h", Changes { kind, change }, Reason::Cpuid);
    }
    // RDRAND denied: leaf 1 is present, with ECX zero.
    let without_rdrand = Changes {
        kind: PageType::Cpuid,
        change: |bytes| {
            for entry in bytes[16..].chunks_exact_mut(48).take(64) {
                if entry[..4] == [1, 0, 0, 0] {
                    entry[32..36].fill(0);
                }
            }
        },
    };
    let lacking = KeepFault::Reported {
        reason: Reason::Cpuid,
        detail: Some(2),
    };
    assert_eq!(ends("h", without_rdrand), lacking);
});

attack_test!(the_sizes_of_caches_do_not_come_from_the_host, {
    // A page without the cache leaves: glibc would treat every copy as large, and never finish those of less than
    // two pages.
    let without_caches = Changes {
        kind: PageType::Cpuid,
        change: |bytes| {
            for entry in bytes[16..].chunks_exact_mut(48).take(64) {
                let leaf = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
                if matches!(leaf, 2 | 4 | 0x8000_0005 | 0x8000_0006 | 0x8000_001d) {
                    entry.fill(0xff);
                }
            }
        },
    };
    let (outcome, output) = run_against("W", without_caches);
    assert_eq!(outcome, Outcome::Exit(0), "{output}");
    // On hosts where CPL3 executes CPUID directly, only this shows it.
    assert_eq!(output, "large copies have 25165824 bytes\n");
});

// ---- the GHCB

/// A host that refuses port writes, after the microkernel has begun to trust the GHCB.
#[derive(Debug, Default)]
struct PortWriteRefusal(AtomicU32);

impl Attack for PortWriteRefusal {
    fn answer(&self, _: u32, memory: &dyn SharedMemory) {
        let mut code = [0; 8];
        memory.read(GHCB + Field::SwExitCode as u64, &mut code);
        if u64::from_le_bytes(code) == exit::IOIO && self.0.fetch_add(1, Ordering::Relaxed) > 3 {
            memory.write(GHCB + Field::SwExitInfo1 as u64, &[2, 0, 0, 0, 0, 0, 0, 0]);
        }
    }
}

attack_test!(a_host_that_refuses_exits_ends_the_keep, {
    ends_with("T", PortWriteRefusal::default(), Reason::Ghcb);
});

/// A host that answers the MSR protocol with one bit changed.
#[derive(Debug)]
struct AlteredMsrAnswer(u32);

impl Attack for AlteredMsrAnswer {
    fn msr(&self, _: u32, answer: u64) -> u64 {
        answer ^ (1 << self.0)
    }
}

attack_test!(changed_answers_of_the_msr_protocol_end_the_keep, {
    for bit in [0, 1, 11, 24, 32, 63] {
        let (outcome, _) = run_against("h", AlteredMsrAnswer(bit));
        assert!(
            matches!(outcome, Outcome::Fault(_)),
            "bit {bit}: {outcome:?}"
        );
    }
});

/// Rewrites the whole exit memory all the time, also between check and use.
#[derive(Debug, Default)]
struct ExitMemoryScribbler(Arc<AtomicBool>);

impl Attack for ExitMemoryScribbler {
    fn answer(&self, vcpu: u32, memory: &dyn SharedMemory) {
        let ghcb = GHCB + u64::from(vcpu) * 4096;
        let mut page = [0; 4096];
        // Not before the first exits, so that the Keep gets to run.
        if !self.0.swap(true, Ordering::Relaxed) || memory.read(ghcb, &mut page).is_none() {
            return;
        }
        for (index, byte) in page.iter_mut().enumerate() {
            *byte ^= u8::try_from(index % 251).unwrap_or(0);
        }
        memory.write(ghcb, &page);
    }
}

attack_test!(a_rewritten_ghcb_ends_the_keep, {
    let (outcome, _) = run_against("h", ExitMemoryScribbler::default());
    assert!(matches!(outcome, Outcome::Fault(_)), "{outcome:?}");
});

// ---- exceptions

/// Injects an event at the `at`th entry at this privilege level.
#[derive(Debug)]
struct Injection {
    injected: Injected,
    cpl: u8,
    at: u32,
    seen: AtomicU32,
    done: Arc<AtomicBool>,
    /// Inject it at every entry from then on, until the Keep has ended.
    again: bool,
    /// The required instruction pointer.
    place: Option<Range<u64>>,
    /// Numbers of the vCPUs' threads, which are interrupted in user code until the event is injected.
    threads: Arc<Mutex<BTreeSet<libc::pid_t>>>,
}

fn injects(vector: u8, error_code: Option<u32>, cpl: u8, at: u32) -> Injection {
    injects_event(Injected::Exception { vector, error_code }, cpl, at)
}

fn injects_event(injected: Injected, cpl: u8, at: u32) -> Injection {
    let threads = Arc::new(Mutex::new(BTreeSet::<libc::pid_t>::new()));
    if cpl == 3 {
        let threads = Arc::clone(&threads);
        // The vCPU's own thread may not start others.
        std::thread::spawn(move || {
            // As long as the attack continues.
            while Arc::strong_count(&threads) > 1 {
                std::thread::sleep(Duration::from_millis(20));
                for thread in threads.lock().unwrap().iter() {
                    // SAFETY: takes numbers; an ended thread does not belong to this process.
                    unsafe {
                        libc::syscall(libc::SYS_tgkill, libc::getpid(), *thread, libc::SIGRTMIN())
                    };
                }
            }
        });
    }
    Injection {
        injected,
        cpl,
        at,
        seen: AtomicU32::new(0),
        done: Arc::default(),
        again: false,
        place: None,
        threads,
    }
}

impl Attack for Injection {
    fn inject(&self, _: u32, cpl: u8, rip: u64) -> Option<Injected> {
        let here = cpl == self.cpl && self.place.as_ref().is_none_or(|place| place.contains(&rip));
        let seen = if here {
            Some(self.seen.fetch_add(1, Ordering::Relaxed))
        } else {
            None
        };
        let hit = seen.is_some_and(|seen| seen == self.at || self.again && seen > self.at);
        self.done.fetch_or(hit && !self.again, Ordering::Relaxed);
        let mut threads = self.threads.lock().unwrap();
        if self.done.load(Ordering::Relaxed) {
            threads.clear();
        } else {
            // SAFETY: has no effect.
            threads.insert(unsafe { libc::gettid() });
        }
        hit.then_some(self.injected)
    }
}

attack_test!(exceptions_in_the_microkernel_end_the_keep, {
    for at in [1, 5, 12] {
        for (vector, code) in [
            (29, Some(0x72)),
            (29, Some(0x404)),
            (6, None),
            (14, Some(4)),
            (0, None),
            (18, None),
            (28, None),
        ] {
            let (outcome, _) = run_against("h", injects(vector, code, 0, at));
            assert!(
                matches!(outcome, Outcome::Fault(_)),
                "{vector}: {outcome:?}"
            );
        }
    }
});

attack_test!(exceptions_without_a_cause_end_the_keep, {
    for (vector, code) in [
        (29, Some(0x72)),
        (29, Some(0x404)),
        (29, Some(0x7b)),
        (6, None),
        (0, None),
        (3, None),
        (4, None),
        (13, Some(0)),
        (28, None),
    ] {
        // Once is not enough: an event that happens to hit an instruction of its own (CPUID, in the loader) has a
        // cause. Then the next one ends the Keep.
        let attack = Injection {
            again: true,
            ..injects(vector, code, 3, 1)
        };
        ends_with("l", attack, Reason::Unexpected);
    }
});

attack_test!(an_unrequested_interrupt_ends_the_keep, {
    for vector in [32, 33, 255] {
        let injects = injects_event(Injected::Interrupt(vector), 3, 1);
        ends("l", injects);
    }
});

/// Addresses of the guest program's code that the microkernel takes for compiled WebAssembly, and of other code
/// (`guest.c`).
const COMPILED: Range<u64> = 0x1f00_0000_0000..0x1f00_0000_1000;
const RUNTIME: Range<u64> = 0x2000_0000..0x2000_1000;

/// The effects of `z` of the guest program, as bits.
const AFTER_A_FAULT: u32 = 1;
const IN_COMPILED_CODE: u32 = 2;
const COPYING: u32 = 4;
const ON_A_NEW_VCPU: u32 = 8;

// The guest program has a handler for SIGSEGV, and data in the vector registers.
attack_test!(injected_page_faults_do_not_become_traps, {
    let mut gone_on = Vec::new();
    for how in [
        0,
        AFTER_A_FAULT,
        IN_COMPILED_CODE,
        IN_COMPILED_CODE | AFTER_A_FAULT,
        IN_COMPILED_CODE | AFTER_A_FAULT | COPYING,
        AFTER_A_FAULT | COPYING,
        IN_COMPILED_CODE | ON_A_NEW_VCPU,
    ] {
        // A load and a store of a missing page, an instruction fetch of one and of data.
        for code in [4, 6, 0x14, 0x15] {
            let mut injects = injects(14, Some(code), 3, 0);
            injects.place = Some(if how & IN_COMPILED_CODE == 0 {
                RUNTIME
            } else {
                COMPILED
            });
            let done = Arc::clone(&injects.done);
            let (outcome, output) = run_against(&format!("z {how:x}"), injects);
            assert!(
                done.load(Ordering::Relaxed),
                "{how}: never there: {outcome:?} {output}"
            );
            match outcome {
                Outcome::Fault(fault)
                    if fault.reason() == Some(Reason::Unexpected) && output.is_empty() => {}
                other => gone_on.push(format!("{how:#x}, code {code:#x}: {other:?} {output}")),
            }
        }
    }
    assert!(gone_on.is_empty(), "{gone_on:#?}");
});

/// The host has no business knowing the application's location and addresses; but it can bring about a
/// fault at any time.
#[track_caller]
fn tells_no_addresses(mode: &str, attack: Option<Arc<dyn Attack>>, numbers: &[&str]) {
    let options = Options {
        addresses: false,
        attack,
        ..Options::on(Platform::Simulated)
    };
    let (outcome, _) = run_with(mode, &options);
    let Outcome::Fault(fault) = outcome else {
        panic!("{mode}: {outcome:?}");
    };
    let exception = fault.exception().expect("an exception ends it");
    assert_eq!(exception.context, None, "{fault}");
    let text = fault.to_string();
    // Vectors are numbers, too; addresses are hexadecimal.
    for number in numbers.iter().chain(&["RIP", "RSP", "CR2", "0x"]) {
        assert!(!text.contains(number), "{text}");
    }
}

attack_test!(fault_reports_of_a_measured_keep_have_no_addresses, {
    tells_no_addresses("r 12345678", None, &["12345678"]);
    tells_no_addresses(
        "l",
        Some(Arc::new(injects(13, Some(0x678), 3, 1))),
        &["678"],
    );
    let in_kernel = injects(6, None, 0, 12);
    tells_no_addresses("h", Some(Arc::new(in_kernel)), &[]);
});

/// Reads the counters of plain KVM at every exit.
#[derive(Debug, Default)]
struct Counts(Arc<AtomicU32>);

impl Attack for Counts {
    fn answer(&self, _: u32, memory: &dyn SharedMemory) {
        let mut counters = [0; 16];
        let at = EXIT_PHYSICAL + COUNTERS_OFFSET as u64;
        memory.read(at, &mut counters).unwrap();
        let seen = counters.iter().any(|&byte| byte != 0);
        self.0.fetch_add(u32::from(seen), Ordering::Relaxed);
    }
}

// Threads, system calls and page faults.
attack_test!(a_measured_keep_counts_nothing_in_view_of_its_host, {
    let counts = Counts::default();
    let seen = Arc::clone(&counts.0);
    let (outcome, output) = run_against("T", counts);
    assert_eq!(outcome, Outcome::Exit(0), "{output}");
    assert_eq!(seen.load(Ordering::Relaxed), 0);
});

// ---- messages to the firmware

/// Changes the `at`th answer of the firmware.
#[derive(Debug)]
struct Replies {
    at: u32,
    seen: AtomicU32,
    first: Mutex<Option<[u8; 4096]>>,
    change: fn(&mut [u8; 4096], &[u8; 4096]),
}

fn replies(at: u32, change: fn(&mut [u8; 4096], &[u8; 4096])) -> Replies {
    Replies {
        at,
        seen: AtomicU32::new(0),
        first: Mutex::new(None),
        change,
    }
}

impl Attack for Replies {
    fn answer(&self, _: u32, memory: &dyn SharedMemory) {
        let mut code = [0; 8];
        memory.read(GHCB + Field::SwExitCode as u64, &mut code);
        if u64::from_le_bytes(code) != exit::GUEST_REQUEST {
            return;
        }
        let mut reply = [0; 4096];
        memory.read(REPLY, &mut reply).unwrap();
        let mut first = self.first.lock().unwrap();
        let first = first.get_or_insert(reply);
        if self.seen.fetch_add(1, Ordering::Relaxed) == self.at {
            (self.change)(&mut reply, first);
            memory.write(REPLY, &reply).unwrap();
        }
    }
}

/// After `good` answers the runtime gets the error, and no more messages are sent.
fn is_noticed(good: u32, change: fn(&mut [u8; 4096], &[u8; 4096])) {
    let (outcome, output) = run_against(&format!("e {good:x}"), replies(good, change));
    assert_eq!(outcome, Outcome::Exit(0), "{output}");
}

attack_test!(changed_answers_of_the_firmware_are_detected, {
    // Tag, sequence number, algorithm, type, size, payload.
    is_noticed(0, |reply, _| reply[0] ^= 1);
    is_noticed(1, |reply, _| reply[0x20] ^= 2);
    is_noticed(0, |reply, _| reply[0x30] = 0);
    is_noticed(0, |reply, _| reply[0x34] ^= 1);
    is_noticed(0, |reply, _| reply[0x36] ^= 0x20);
    is_noticed(0, |reply, _| reply[0x60] ^= 1);
    is_noticed(0, |reply, _| reply[0x60 + 0x20 + 0x90] ^= 0x80);
});

attack_test!(truncated_answers_are_detected, {
    is_noticed(0, |reply, _| reply[0x200..].fill(0));
    is_noticed(0, |reply, _| reply.fill(0));
});

attack_test!(repeated_and_reordered_answers_are_detected, {
    is_noticed(1, |reply, first| *reply = *first);
    is_noticed(3, |reply, first| *reply = *first);
});

/// A host that carries a message only after this many attempts, like one that limits requests.
#[derive(Debug)]
struct Throttles {
    tries: u32,
    seen: AtomicU32,
}

impl Attack for Throttles {
    fn carries(&self, _: u32) -> bool {
        self.seen.fetch_add(1, Ordering::Relaxed) >= self.tries
    }
}

attack_test!(a_host_that_limits_messages_only_delays_them, {
    // Each attempt is 100 ms after the previous one; after 300 the program gets the error.
    for (tries, mode) in [(5, "E"), (300, "B")] {
        let seen = AtomicU32::new(0);
        let started = Instant::now();
        // Attempts that a busy machine delays take longer.
        let throttles = Throttles { tries, seen };
        let (outcome, output) = run_against_for(mode, throttles, Duration::from_mins(5));
        assert_eq!(outcome, Outcome::Exit(0), "{output}");
        assert!(started.elapsed() >= Duration::from_millis(100) * tries);
    }
});

attack_test!(honest_messages_arrive, {
    let (outcome, output) = run_with("E", &Options::on(Platform::Simulated));
    assert_eq!(outcome, Outcome::Exit(0), "{output}");
});

attack_test!(cpuid_comes_from_the_checked_page, {
    if is_pvm() {
        // CPL3 executes CPUID directly there, so the exception has to be caused: among CPUID instructions only
        // it is answered, and the program continues to its end.
        let mut injects = injects(29, Some(0x72), 3, 0);
        injects.place = Some(CPUIDS);
        let done = Arc::clone(&injects.done);
        let (outcome, output) = run_against("I", injects);
        assert_eq!(outcome, Outcome::Exit(0), "{output}");
        assert!(done.load(Ordering::Relaxed), "the vCPU was never there");
    } else {
        let (outcome, output) = run_with("C", &Options::on(Platform::Simulated));
        assert_eq!(outcome, Outcome::Exit(0), "{output}");
    }
});

// ---- vCPUs

/// Stops running one of the guest's vCPUs for longer than the Keep's time limit.
#[derive(Debug, Default)]
struct Stops(AtomicU32);

impl Attack for Stops {
    fn inject(&self, vcpu: u32, _: u8, _: u64) -> Option<Injected> {
        if vcpu != 0 && self.0.fetch_add(1, Ordering::Relaxed) == 2 {
            std::thread::sleep(Duration::from_secs(4));
        }
        None
    }
}

attack_test!(a_vcpu_stopped_by_the_host_only_delays_the_keep, {
    // Threads that wait for each other.
    let (outcome, output) = run_against_for("T", Stops::default(), Duration::from_secs(3));
    assert_eq!((outcome, output.as_str()), (Outcome::TimedOut, ""));
});

/// A host that runs a vCPU which the guest did not start.
#[derive(Debug)]
struct Starts;

impl Attack for Starts {
    fn starts(&self, vcpu: u32) -> bool {
        vcpu == 1
    }
}

attack_test!(a_vcpu_that_the_host_starts_ends_the_keep, {
    ends_with("l", Starts, Reason::Vcpu);
});

/// Once the guest has started vCPU 1, also runs the state that the launch measured for it, and interrupts it
/// before its first instruction: nothing on hardware prevents a host from that.
#[derive(Debug, Default)]
struct DoubleStart {
    /// Exits through the GHCB since then, by vCPU.
    exits: Arc<Mutex<Vec<u32>>>,
    done: AtomicBool,
    /// The number of the live vCPU's thread, once it has run.
    live: AtomicI32,
    /// Entries of the live vCPU into user code, one after the other.
    in_user_code: AtomicU32,
}

const DOUBLE: u32 = 3;

impl Attack for DoubleStart {
    fn double(&self, vcpu: u32) -> Option<u32> {
        (vcpu == 1).then_some(DOUBLE)
    }

    fn inject(&self, vcpu: u32, cpl: u8, _: u64) -> Option<Injected> {
        if vcpu == 1 {
            // SAFETY: has no effect.
            self.live
                .store(unsafe { libc::gettid() }, Ordering::Relaxed);
            if cpl == 3 {
                self.in_user_code.fetch_add(1, Ordering::Relaxed);
            } else {
                self.in_user_code.store(0, Ordering::Relaxed);
            }
        }
        if vcpu != DOUBLE || self.done.swap(true, Ordering::Relaxed) {
            return None;
        }
        // The live one is interrupted until it is seen in user code again and again: it stays there.
        let end = Instant::now() + Duration::from_secs(20);
        while self.in_user_code.load(Ordering::Relaxed) < 5 {
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
            let live = self.live.load(Ordering::Relaxed);
            // SAFETY: takes numbers alone; 0, before the vCPU has a thread, names no thread and fails.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), live, libc::SIGRTMIN()) };
        }
        Some(Injected::Interrupt(32))
    }

    fn answer(&self, vcpu: u32, _: &dyn SharedMemory) {
        self.exits.lock().unwrap().push(vcpu);
    }
}

attack_test!(a_second_copy_of_a_measured_vcpu_takes_no_event, {
    let doubles = DoubleStart::default();
    let exits = Arc::clone(&doubles.exits);
    match run_against("z 28", doubles) {
        (Outcome::Fault(KeepFault::TripleFault { history, .. }), output) => {
            assert_eq!(output, "");
            let history = history.expect("a Keep's vCPU has a history");
            assert_eq!((history.vcpu, history.calls), (DOUBLE, 0));
        }
        other => panic!("the Keep goes on: {other:?}"),
    }
    assert!(
        !exits.lock().unwrap().contains(&DOUBLE),
        "it ran code of the microkernel"
    );
});

/// Injects an exception into vCPU `victim`, ignores its requests to end, and records the Keep's further actions.
#[derive(Debug)]
struct IgnoredEnd {
    injects: Injection,
    victim: u32,
    /// The victim has requested the end.
    asked: Arc<AtomicBool>,
    /// Messages to the firmware that came after that.
    messages: Arc<AtomicU32>,
}

impl Attack for IgnoredEnd {
    fn inject(&self, vcpu: u32, cpl: u8, rip: u64) -> Option<Injected> {
        (vcpu == self.victim)
            .then(|| self.injects.inject(vcpu, cpl, rip))
            .flatten()
    }

    fn ignores_end(&self, vcpu: u32) -> bool {
        self.asked.fetch_or(vcpu == self.victim, Ordering::Relaxed);
        // It requests again and again, and must not slow the others down.
        std::thread::sleep(Duration::from_millis(100));
        true
    }

    fn answer(&self, vcpu: u32, memory: &dyn SharedMemory) {
        let mut code = [0; 8];
        let ghcb = GHCB + u64::from(vcpu) * 4096;
        memory.read(ghcb + Field::SwExitCode as u64, &mut code);
        let message = u64::from_le_bytes(code) == exit::GUEST_REQUEST;
        if vcpu != self.victim && message && self.asked.load(Ordering::Relaxed) {
            self.messages.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// Ends on one vCPU, and checks the others if the host ignores it.
attack_test!(an_end_that_the_host_ignores_ends_every_vcpu, {
    for (victim, mode) in [(1, "o 0"), (0, "o 1")] {
        let is_asked_within = |limit| {
            let asked = Arc::new(AtomicBool::new(false));
            let messages = Arc::new(AtomicU32::new(0));
            let attack = IgnoredEnd {
                injects: injects(13, Some(0), 3, 5),
                victim,
                asked: Arc::clone(&asked),
                messages: Arc::clone(&messages),
            };
            let (outcome, output) = run_against_for(mode, attack, limit);
            // No vCPU continues until the time limit expires; one message may have been on its way.
            assert_eq!((outcome, output.as_str()), (Outcome::TimedOut, ""));
            let messages = messages.load(Ordering::Relaxed);
            assert!(messages <= 1, "{messages} messages after the end");
            asked.load(Ordering::Relaxed)
        };
        // On a busy machine the first times may be too short.
        let mut limits = [5, 10, 20, 40].map(Duration::from_secs).into_iter();
        assert!(limits.any(is_asked_within), "{mode}: it did not end");
    }
});
