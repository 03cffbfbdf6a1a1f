// SPDX-License-Identifier: Apache-2.0

//! The first day on SEV-SNP hardware: launches so small that each failure has few possible causes, in the order in
//! which a Keep needs the proved features.
//!
//! Every guest is a handful of instructions (`program`). The answers of firmware, kernel and guest are reported with
//! their data words. A misbehaving guest may run forever: the caller limits the time. The host runs this for itself; no
//! tenant relies on it.
#![forbid(unsafe_code)]

mod identity;
mod program;

use std::slice::from_ref;

use enarx_boot::layout::PAGE;
use enarx_executor::fault::KeepFault;
use enarx_exits::PORT;
use enarx_launch::layout::{LaunchError, Page};
use enarx_launch::measured::{self, Images, Parameters, SPARE_VCPUS};
use enarx_launch::variant::Variant;
use enarx_snp::cpuid::CpuidPage;
use enarx_snp::ghcb::{Field, Ghcb, exit};
use enarx_snp::launch::{PageInfo, PageType, VMSA_GPA};
use enarx_snp::vmsa::{Segment, Vmsa};
use kvm_bindings::CpuId;
use sha2::{Digest, Sha384};
use zerocopy::{FromZeros, IntoBytes};

use crate::error::KvmError;
use crate::snp::device::{Device, Vm};
use crate::snp::exits::{Exit, hypercall};
use crate::snp::firmware::Status;
use crate::snp::guest::{Guest, Request};
use crate::snp::ioctl::{Host, Machine};
use crate::snp::launcher::{Identity, Launcher, Sealed, Settings, SnpError};
use crate::snp::memory::{Extent, Slot};
use crate::vm::cpuid::Cpu;
use crate::vm::entry::{Enter, EntryOutcome, UnhandledExit, enter, kick};
use crate::vm::memory::GuestMemory;
pub use identity::identity;
use program::{CODE, Program, SHARED_PAGE};

/// Memory of a toy, in bytes: the first half is private.
pub const TOY_MEMORY: u64 = 4 << 20;
/// The GHCB of a toy, in the half that is shared from the start.
const GHCB: u64 = 2 << 20;
/// Memory of the real page list's guest, which is never run, in bytes.
pub const REAL_MEMORY: u64 = 256 << 20;
/// Entries into a guest after which a toy counts as failed.
const MOST_ENTRIES: u32 = 1000;
/// HOST_DATA of these launches.
const HOST_DATA: [u8; 32] = [0xa5; 32];

// The pages of a toy, by their guest physical addresses.
const TABLES: u64 = 0x1000;
const CPUID: u64 = 0x5000;
const SECRETS: u64 = 0x6000;
const INTERRUPTS: u64 = 0x7000;
const STACK: u64 = 0x8000;
const SEGMENTS: u64 = 0x9000;
/// The page from which the second vCPU starts. Not at the beginning of a large page, which KVM refuses.
const SECOND: u64 = 0xa000;

/// A launch of the first day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A guest is launched with this host's CPUID page, shares a page and ends itself.
    Toy,
    /// The firmware measures it as a tenant does: it accepts an ID block for that digest, and none for another.
    ToyDigest,
    /// The same for the page list of a Keep of one processor, with its two spare vCPUs.
    RealDigest,
    /// A guest registers its GHCB and writes four bytes to a port by it.
    Ghcb,
    /// A second vCPU starts from a page that the first one made, without a local APIC.
    SecondVcpu,
    /// The kick vector reaches a vCPU with interrupts on, and one with interrupts off by the window.
    Kicks,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 6] = [
        Self::Toy,
        Self::ToyDigest,
        Self::RealDigest,
        Self::Ghcb,
        Self::SecondVcpu,
        Self::Kicks,
    ];

    /// The name, stable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Toy => "toy",
            Self::ToyDigest => "toy-digest",
            Self::RealDigest => "real-digest",
            Self::Ghcb => "ghcb",
            Self::SecondVcpu => "second-vcpu",
            Self::Kicks => "kicks",
        }
    }

    /// Its proof, in words for a report.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Toy => "a guest of a few instructions is launched, shares a page and ends itself",
            Self::ToyDigest => "the firmware measures that guest as a tenant does (ID block)",
            Self::RealDigest => {
                "the firmware measures a Keep with 3 vCPUs as a tenant does (ID block)"
            }
            Self::Ghcb => "a guest registers its GHCB and writes to a port by it",
            Self::SecondVcpu => "a second vCPU starts from the page that the first one made",
            Self::Kicks => "interrupts reach a vCPU, at once and by the window",
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The launch failed.
    #[error(transparent)]
    Launch(#[from] SnpError),
    /// The machine cannot be prepared.
    #[error(transparent)]
    Host(#[from] KvmError),
    /// The page list of the Keep cannot be made.
    #[error(transparent)]
    Plan(#[from] LaunchError),
    /// The guest ended, or had to be ended, otherwise than it should.
    #[error("{0}")]
    Ended(KeepFault),
    /// The guest did something else.
    #[error(
        "the guest {found}, where {expected} was expected; please report this, with `sudo dmesg | grep -e vmgexit -e SEV`"
    )]
    Other {
        /// The expectation.
        expected: &'static str,
        /// The finding.
        found: String,
    },
    /// The firmware took an ID block for another measurement.
    #[error(
        "the firmware accepted an ID block for another measurement, so its success proves nothing here; please report \
        this, with the firmware's version"
    )]
    AnyDigest,
}

/// The parts of the guests on this host.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Number of the C-bit.
    pub c_bit: u32,
    /// Contents of the CPUID page.
    pub cpuid_page: CpuidPage,
    /// CPUID of the vCPUs, three at least.
    pub cpuids: Vec<CpuId>,
}

impl Parts {
    /// The parts that this host's KVM offers.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn of(host: &Host) -> Result<Self, KvmError> {
        let mut cpu = Cpu::new(host.kvm(), false)?;
        let c_bit = cpu.with_own_encryption();
        Ok(Self {
            c_bit,
            cpuid_page: cpu.page()?,
            cpuids: (0..=SPARE_VCPUS).map(|id| cpu.cpuid(id)).collect(),
        })
    }
}

/// Runs one step on this host; returns lines for the report.
///
/// # Errors
/// [`StepError`].
pub fn take(step: Step, images: &Images<'_>) -> Result<Vec<String>, StepError> {
    let host = Host::open().map_err(KvmError::from)?;
    take_with(&host, step, &Parts::of(&host)?, images)
}

/// Takes one step on this host, with these parts.
///
/// # Errors
/// [`StepError`].
pub fn take_with(
    host: &Host,
    step: Step,
    parts: &Parts,
    images: &Images<'_>,
) -> Result<Vec<String>, StepError> {
    let memory = |size, shared: &[std::ops::Range<u64>], ghcb: Option<&Ghcb>| {
        let memory = GuestMemory::in_place(size, shared).map_err(|source| KvmError::Memory {
            size: size >> 20,
            source,
        })?;
        if let Some(ghcb) = ghcb {
            memory.load(GHCB, ghcb.as_bytes());
        }
        Ok(memory.backing())
    };
    take_on::<Host, Machine>(host, step, parts, images, memory)
}

/// Takes one step on a device, whose guests have the memory that `memory` makes: of this size, with these ranges shared,
/// and a GHCB where one is given.
///
/// # Errors
/// [`StepError`].
pub fn take_on<D, V>(
    device: &D,
    step: Step,
    parts: &Parts,
    images: &Images<'_>,
    memory: impl Fn(u64, &[std::ops::Range<u64>], Option<&Ghcb>) -> Result<V::Memory, KvmError>,
) -> Result<Vec<String>, StepError>
where
    D: Device<Vm = V>,
    V: Vm<Vcpu: Enter>,
{
    let shared = GHCB..TOY_MEMORY;
    let toys = Toys {
        device,
        parts,
        memory: |ghcb: Option<&Ghcb>| memory(TOY_MEMORY, from_ref(&shared), ghcb),
    };
    match step {
        Step::Toy => toys.share(),
        Step::ToyDigest => {
            let pages = toys.pages(&Program::shares_and_ends());
            compare_digests(&pages, |identity| {
                toys.launch(&pages, 1, None, Some(identity)).map(|_| ())
            })
        }
        Step::RealDigest => {
            let plan = measured::launch(
                images,
                &Parameters {
                    vcpus: 1 + SPARE_VCPUS,
                    c_bit: parts.c_bit,
                    fault_addresses: false,
                    variant: Variant::PLAIN,
                },
            )?;
            compare_digests(&plan.pages, |identity| {
                let request = Request {
                    pages: plan.pages.clone(),
                    shared: &plan.shared,
                    cpuid_page: parts.cpuid_page,
                    cpuids: &parts.cpuids,
                    size: REAL_MEMORY,
                    memory: memory(REAL_MEMORY, &plan.shared, None)?,
                    identity: Some(identity),
                    host_data: HOST_DATA,
                    variant: Variant::PLAIN,
                };
                Ok(Guest::launch(device, request).map(|_| ())?)
            })
        }
        Step::Ghcb => toys.port(),
        Step::SecondVcpu => toys.second(),
        Step::Kicks => toys.kicks(),
    }
}

/// The launch digest of a page list (56860, section 8.17.2).
fn digest(pages: &[Page]) -> [u8; 48] {
    let sha = |bytes: &[u8]| -> [u8; 48] { Sha384::digest(bytes).into() };
    pages.iter().fold([0; 48], |digest, page| {
        let info = PageInfo::new(digest, page.kind, sha(&page.bytes[..]), page.gpa);
        sha(info.as_bytes())
    })
}

/// Launches with an ID block for the digest of `pages`, which proves it, and for another one, which proves the proof.
fn compare_digests(
    pages: &[Page],
    launch: impl Fn(Identity<'_>) -> Result<(), StepError>,
) -> Result<Vec<String>, StepError> {
    let expected = digest(pages);
    let attempt = |digest| {
        let (block, auth) = identity(digest, Variant::PLAIN.policy())
            .ok_or(KvmError::Plan("keys for its ID block"))?;
        launch(Identity {
            block: &block,
            auth: &auth,
            author_key: true,
        })
    };
    attempt(expected)?;
    match attempt([0; 48]) {
        Ok(()) => return Err(StepError::AnyDigest),
        Err(StepError::Launch(SnpError::Refused { source, .. }))
            if source.firmware == Status::BAD_MEASUREMENT => {}
        Err(other) => return Err(other),
    }
    let hex = expected.map(|byte| format!("{byte:02x}")).concat();
    Ok(vec![
        format!("pages {}, digest {hex}", pages.len()),
        "an ID block for another digest was refused (BAD_MEASUREMENT)".into(),
    ])
}

/// The deeds of a toy.
#[derive(Debug, PartialEq, Eq)]
enum ToyAction {
    /// It shared the page at this address.
    Shared(u64),
    /// It wrote this to the port of the functions.
    Wrote(u32),
    /// It ended itself with this code.
    Ended(u8),
    /// Nothing yet: a signal, or the window.
    Nothing,
}

impl std::fmt::Display for ToyAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shared(gpa) => write!(f, "shared the page at {gpa:#x}"),
            Self::Wrote(number) => write!(f, "wrote {number:#x} to its port"),
            Self::Ended(code) => {
                write!(f, "ended with code {code:#x} ({})", program::meaning(*code))
            }
            Self::Nothing => f.write_str("did nothing for a long time"),
        }
    }
}

/// The toys of a device.
struct Toys<'a, D, M> {
    device: &'a D,
    parts: &'a Parts,
    memory: M,
}

impl<D, V, M> Toys<'_, D, M>
where
    D: Device<Vm = V>,
    V: Vm<Vcpu: Enter>,
    M: Fn(Option<&Ghcb>) -> Result<V::Memory, KvmError>,
{
    /// The page list of a guest of one vCPU that runs `program`.
    fn pages(&self, program: &Program) -> Vec<Page> {
        let c_bit = 1u64 << self.parts.c_bit;
        let entry = |target: u64, flags: u64| (target | flags).to_le_bytes();
        let tables = [
            entry(TABLES + PAGE, c_bit | 3),
            entry(TABLES + 2 * PAGE, c_bit | 3),
        ];
        // The first 2 MiB are private, the others shared; both are writable large pages.
        let large = [entry(0, c_bit | 0x83), entry(GHCB, 0x83)].concat();
        let page = |gpa, kind, start: &[u8]| {
            let mut bytes = Box::new([0; 4096]);
            for (byte, value) in bytes.iter_mut().zip(start) {
                *byte = *value;
            }
            Page { gpa, kind, bytes }
        };
        let normal = |gpa, start: &[u8]| page(gpa, PageType::Normal, start);
        vec![
            normal(TABLES, &tables[0]),
            normal(TABLES + PAGE, &tables[1]),
            normal(TABLES + 2 * PAGE, &large),
            normal(CODE, &program.page()),
            page(CPUID, PageType::Cpuid, self.parts.cpuid_page.as_bytes()),
            page(SECRETS, PageType::Secrets, &[]),
            normal(INTERRUPTS, &program::interrupts()),
            page(STACK, PageType::Zero, &[]),
            normal(SEGMENTS, &program::segments()),
            normal(SECOND, self.state(program::SECOND_CODE).as_bytes()),
            page(VMSA_GPA, PageType::Vmsa, self.state(CODE).as_bytes()),
        ]
    }

    /// The state of a vCPU that begins at `rip`.
    fn state(&self, rip: u64) -> Vmsa {
        let flat = Segment::new(0x10, 0xc93, 0xffff_ffff, 0);
        Vmsa {
            cs: Segment::new(0x08, 0xa9b, 0xffff_ffff, 0),
            ss: flat,
            ds: flat,
            es: flat,
            fs: flat,
            gs: flat,
            gdtr: Segment::new(0, 0, 23, SEGMENTS),
            idtr: Segment::new(0, 0, 0xfff, INTERRUPTS),
            tr: Segment::new(0x28, 0x8b, 103, 0),
            efer: 0x1d01.into(),
            cr0: 0x8005_0033.into(),
            cr3: (TABLES | 1 << self.parts.c_bit).into(),
            cr4: 0x6e0.into(),
            dr6: 0xffff_0ff0.into(),
            dr7: 0x400.into(),
            rflags: 2.into(),
            rip: rip.into(),
            rsp: (STACK + PAGE).into(),
            g_pat: 0x0007_0406_0007_0406.into(),
            sev_features: Variant::PLAIN.features().into(),
            xcr0: 1.into(),
            mxcsr: 0x1f80.into(),
            x87_fcw: 0x37f.into(),
            ..Vmsa::default()
        }
    }

    fn launch(
        &self,
        pages: &[Page],
        vcpus: usize,
        ghcb: Option<&Ghcb>,
        identity: Option<Identity<'_>>,
    ) -> Result<Sealed<V>, StepError> {
        let slot = Slot {
            extent: Extent {
                gpa: 0,
                size: TOY_MEMORY,
                private: true,
            },
            memory: (self.memory)(ghcb)?,
        };
        let settings = Settings {
            policy: Variant::PLAIN.policy(),
            vmsa_features: 0,
        };
        let cpuids = self.parts.cpuids.get(..vcpus).unwrap_or_default();
        Ok(Launcher::create(self.device, settings)?
            .start(vec![slot], from_ref(&(GHCB..TOY_MEMORY)))?
            .load(pages, cpuids)?
            .seal(identity, HOST_DATA)?)
    }

    /// Launches `program` on one vCPU.
    fn start(&self, program: &Program, ghcb: Option<&Ghcb>) -> Result<Sealed<V>, StepError> {
        self.launch(&self.pages(program), 1, ghcb, None)
    }

    fn share(&self) -> Result<Vec<String>, StepError> {
        let mut toy = self.start(&Program::shares_and_ends(), None)?;
        expect(
            &mut toy,
            0,
            &ToyAction::Shared(SHARED_PAGE),
            "a shared page",
        )?;
        expect(
            &mut toy,
            0,
            &ToyAction::Ended(program::DONE),
            "the guest's end",
        )?;
        let mut lines = vec![format!(
            "CPUID page with {} entries",
            self.parts.cpuid_page.entries().len()
        )];
        lines.extend(toy.corrections.iter().map(ToString::to_string));
        Ok(lines)
    }

    fn port(&self) -> Result<Vec<String>, StepError> {
        // The host fills the GHCB in, which the guest would do otherwise: a write of four bytes (56421, section 4.1.2).
        const OUT_OF_FOUR_BYTES: u64 = 1 << 6;
        const NUMBER: u32 = 0x1234_5678;
        let ghcb = request(
            exit::IOIO,
            u64::from(PORT) << 16 | OUT_OF_FOUR_BYTES,
            0,
            NUMBER.into(),
        );
        let mut toy = self.start(&Program::registers_and_exits(GHCB), Some(&ghcb))?;
        let expected = "four bytes at the port";
        expect(&mut toy, 0, &ToyAction::Wrote(NUMBER), expected)?;
        expect(
            &mut toy,
            0,
            &ToyAction::Ended(program::DONE),
            "the guest's end",
        )?;
        Ok(vec![format!("{NUMBER:#x} at port {PORT:#x}")])
    }

    fn second(&self) -> Result<Vec<String>, StepError> {
        // Create at once, VMPL 0, APIC id 1 (56421, section 4.1.6).
        const CREATE: u64 = 1;
        let ghcb = request(
            exit::AP_CREATION,
            1 << 32 | CREATE,
            SECOND,
            Variant::PLAIN.features(),
        );
        let program = Program::starts_second(GHCB, SECOND);
        let mut pages = self.pages(&program);
        // The state that the launch measures for the second vCPU must not be the one that it starts from.
        pages.push(Page {
            gpa: VMSA_GPA,
            kind: PageType::Vmsa,
            bytes: Box::new(zerocopy::transmute!(self.state(program::STRAY_CODE))),
        });
        let mut toy = self.launch(&pages, 2, Some(&ghcb), None)?;
        expect(
            &mut toy,
            0,
            &ToyAction::Shared(SHARED_PAGE),
            "a created vCPU",
        )?;
        let expected = "the end of the second vCPU";
        expect(
            &mut toy,
            1,
            &ToyAction::Ended(program::SECOND_RUNS),
            expected,
        )?;
        Ok(vec![
            "the measured state of the second vCPU was not entered".into(),
        ])
    }

    fn kicks(&self) -> Result<Vec<String>, StepError> {
        for (program, at_once) in [
            (Program::waits_with_interrupts(true), true),
            (Program::waits_with_interrupts(false), false),
        ] {
            let mut toy = self.start(&program, None)?;
            expect(
                &mut toy,
                0,
                &ToyAction::Shared(SHARED_PAGE),
                "a shared page",
            )?;
            let Some(vcpu) = toy.vcpus.first_mut() else {
                continue;
            };
            let injected = kick(vcpu).map_err(StepError::Ended)?;
            if injected != at_once {
                let expected = if at_once {
                    "a vCPU that takes interrupts"
                } else {
                    "a vCPU that takes no interrupts"
                };
                let page = vcpu.page();
                let (flag, ready) = (page.if_flag, page.ready_for_interrupt_injection);
                let found =
                    format!("left with if_flag {flag} and ready_for_interrupt_injection {ready}");
                return Err(StepError::Other { expected, found });
            }
            if !injected {
                open_window(&mut toy)?;
            }
            let handled = "the handler of the interrupt";
            expect(&mut toy, 0, &ToyAction::Ended(program::DONE), handled)?;
        }
        Ok(vec!["at once, and by the window".into()])
    }
}

/// Enters the first vCPU until it can take the kick.
fn open_window<V: Vm<Vcpu: Enter>>(toy: &mut Sealed<V>) -> Result<(), StepError> {
    let expected = "the window for an interrupt";
    for _ in 0..MOST_ENTRIES {
        expect(toy, 0, &ToyAction::Nothing, expected)?;
        let Some(vcpu) = toy.vcpus.first_mut() else {
            break;
        };
        if kick(vcpu).map_err(StepError::Ended)? {
            return Ok(());
        }
    }
    let found = ToyAction::Nothing.to_string();
    Err(StepError::Other { expected, found })
}

/// A GHCB with a request, valid as KVM wants it (56421, table 3).
fn request(code: u64, info_1: u64, info_2: u64, rax: u64) -> Ghcb {
    let mut ghcb = Ghcb::new_zeroed();
    ghcb.sw_exit_code.set(code);
    ghcb.sw_exit_info_1.set(info_1);
    ghcb.sw_exit_info_2.set(info_2);
    ghcb.rax.set(rax);
    for field in [
        Field::SwExitCode,
        Field::SwExitInfo1,
        Field::SwExitInfo2,
        Field::Rax,
    ] {
        ghcb.set_valid(field, true);
    }
    ghcb.protocol_version.set(enarx_snp::ghcb::PROTOCOL_VERSION);
    ghcb
}

/// Enters vCPU `vcpu` until it does something, which must be `wanted`.
fn expect<V: Vm<Vcpu: Enter>>(
    toy: &mut Sealed<V>,
    vcpu: usize,
    wanted: &ToyAction,
    expected: &'static str,
) -> Result<(), StepError> {
    let mut found = ToyAction::Nothing;
    for _ in 0..MOST_ENTRIES {
        found = once(toy, vcpu)?;
        if found == *wanted {
            return Ok(());
        }
        if found != ToyAction::Nothing {
            break;
        }
    }
    let found = found.to_string();
    Err(StepError::Other { expected, found })
}

/// Enters a vCPU once.
fn once<V: Vm<Vcpu: Enter>>(toy: &mut Sealed<V>, vcpu: usize) -> Result<ToyAction, StepError> {
    let Some(vcpu) = toy.vcpus.get_mut(vcpu) else {
        return Err(KvmError::Plan("such vCPU").into());
    };
    match enter(vcpu) {
        EntryOutcome::Port(number) => Ok(ToyAction::Wrote(number)),
        EntryOutcome::Again => Ok(ToyAction::Nothing),
        EntryOutcome::Ended(fault) => Err(StepError::Ended(fault)),
        EntryOutcome::Unhandled(UnhandledExit::Snp(Exit::Hypercall { number, args })) => {
            let answer = hypercall(&toy.vm, &toy.map, number, args).map_err(StepError::Ended)?;
            vcpu.answer_hypercall(answer.value());
            Ok(ToyAction::Shared(args[0]))
        }
        EntryOutcome::Unhandled(UnhandledExit::Snp(exit)) => {
            if let Exit::SystemEvent {
                data: Some(value), ..
            } = exit
                && let Some(code) = program::code_of(value)
            {
                return Ok(ToyAction::Ended(code));
            }
            match crate::snp::exits::serve(&toy.vm, &toy.map, exit) {
                Ok(_) => Ok(ToyAction::Nothing),
                Err(fault) => Err(StepError::Ended(fault)),
            }
        }
        EntryOutcome::Unhandled(other) => Err(StepError::Other {
            expected: "an exit of SEV-SNP",
            found: format!("left by {other:x?}"),
        }),
    }
}
