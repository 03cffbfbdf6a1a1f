// SPDX-License-Identifier: Apache-2.0

//! The simulated platform: the SEV-SNP path of a Keep on any KVM. It protects nothing from the host.
//!
//! Private and shared memory are different memory: guest physical addresses with the C-bit reach
//! one backing, those without it the shared windows. The simulator plays the secure processor, the
//! reverse map table and KVM's side of the GHCB; here its answers become registers and memory of a
//! virtual machine. After the launch, private memory is accessed only for what a CPU would do:
//! starting a vCPU from its VMSA, and clearing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use enarx_boot::layout::{DIRECT_MAP, LARGE, PAGE};
use enarx_exits::simulated::{CLEAR, PVALIDATE, QUIRK_SYSCALL, QUIRKS, REGISTERS, RMPADJUST};
use enarx_exits::{ExitFunction, PORT};
use enarx_launch::layout::Page;
use enarx_launch::measured::{self, Parameters, SIMULATED_C_BIT as C_BIT};
use enarx_simulator::{
    Action, Config, Fault, Hypervisor, Launching, SharedMemory, Status, Violation,
};
use enarx_snp::bits::GuestPolicy;
use enarx_snp::ghcb::msr::Request;
use enarx_snp::ghcb::{Field, MSR_GHCB, PROTOCOL_VERSION, exit};
use enarx_snp::launch::PageType;
use enarx_snp::vmsa::Vmsa;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use zerocopy::FromBytes;

use super::attack::{self, Attack};
use super::{CREATE_VCPU, ExitAction, Platform, SET_MEMORY, out_of_bounds};
use crate::error::{KvmError, refused};
use crate::launch::VmLaunch;
use crate::launched::{KeepSize, Launched, Timeline, create_vm, is_pvm};
use crate::snp::exits::terminated;
use crate::vm::cpuid::Cpu;
use crate::vm::entry::UnhandledExit;
use crate::vm::image::Load;
use crate::vm::limits::{self, Limits};
use crate::vm::memory::GuestMemory;
use crate::vm::registers::set_msrs;
use crate::vm::vcpu::Vcpu;
use crate::vm::vcpu_ops;
use enarx_confine::seccomp::Allow;
use enarx_executor::fault::{KeepFault, SimulatedFault};

/// The step of [`KeepFault::kvm`] at which registers are read.
const READ_REGISTERS: &str = "read the registers of a vCPU";

fn kvm_fault(step: &'static str, error: kvm_ioctls::Error) -> KeepFault {
    KeepFault::kvm(step, error.errno())
}

/// The machine that the simulated platform plays.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Where its keys are kept.
    pub folder: PathBuf,
    /// The properties of the machine.
    pub settings: enarx_simulator::Settings,
    /// Launch with the debug bit in the guest policy.
    pub debug: bool,
    /// The time after launch during which the host, like one that throttles reports, delivers none of the Keep's
    /// messages to the firmware; an end at [`Duration::MAX`] means forever.
    pub busy: Range<Duration>,
    /// Factor by which time in the Keep is slower than on this machine, because the host reports a counter frequency
    /// that is too high by this factor; 1 is the truth.
    pub slow: u32,
    /// Attacks that the VMM carries out while serving the Keep. Tests only.
    pub attack: Option<Arc<dyn Attack>>,
}

/// SEV_STATUS (AMD64 APM volume 2, section 15.34.10): SEV and SEV-ES, and SEV_FEATURES above them.
const SEV_STATUS: u32 = 0xc001_0131;
/// MSR_PLATFORM_INFO, bit 31: CPUID faulting is available; MSR_MISC_FEATURES_ENABLES, bit 0: it is
/// on (Intel SDM volume 4, table 2-2). CPUID traps in an SNP guest; this makes it trap here, except
/// on `kvm_pvm`, where CPL3 executes CPUID directly.
const CPUID_FAULTING: [(u32, u64); 2] = [(0xce, 1 << 31), (0x140, 1)];
/// `KVM_GET_VCPU_EVENTS` and `KVM_SET_VCPU_EVENTS`: a hostile VMM injects exceptions.
const VCPU_EVENTS: [u32; 2] = [0x8040_ae9f, 0x4040_aea0];

/// A simulated machine with one guest.
struct Guest {
    // Declared, and so dropped, before the memory that it uses.
    vm: VmFd,
    hypervisor: Hypervisor,
    memory: Arc<GuestMemory>,
    cpu: Cpu,
    /// VMSAs of the vCPUs: those of the launch, until the guest supplies others.
    states: Mutex<BTreeMap<u32, Box<Vmsa>>>,
    /// VMSAs of the launch. On hardware they stay runnable as long as the guest lives.
    measured: BTreeMap<u32, Box<Vmsa>>,
    quirks: u64,
    /// SEV_FEATURES of every vCPU.
    features: u64,
    launched: Instant,
    busy: Range<Duration>,
    slow: u32,
    attack: Option<Arc<dyn Attack>>,
    limits: Limits,
}

/// The shared windows, as the simulated host reaches them.
struct Windows<'a>(&'a GuestMemory);

impl SharedMemory for Windows<'_> {
    fn read(&self, gpa: u64, to: &mut [u8]) -> Option<()> {
        self.0.read_window(gpa, to)
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Option<()> {
        self.0.write_window(gpa, from)
    }
}

/// The fault of an instruction that hardware would not complete.
fn instruction_fault(fault: Fault) -> SimulatedFault {
    match fault {
        Fault::NotAssigned { gpa } => SimulatedFault::NotPrivate { gpa },
        Fault::NotValidated { gpa } => SimulatedFault::NotValidated { gpa },
    }
}

/// The fault of a guest that broke the GHCB protocol.
fn protocol_fault(violation: Violation) -> SimulatedFault {
    match violation {
        Violation::Msr { value } => SimulatedFault::GhcbRequest { value },
        Violation::NoVcpu { vcpu } => SimulatedFault::NoVcpu { vcpu },
        Violation::NotRegistered { gpa } => SimulatedFault::GhcbNotRegistered { gpa },
        Violation::Version { found } => SimulatedFault::GhcbVersion {
            found,
            needed: PROTOCOL_VERSION,
        },
        Violation::Private { gpa } => SimulatedFault::HostPagePrivate { gpa },
        Violation::NoMemory { gpa } => SimulatedFault::NoHostPage { gpa },
        Violation::NotVmsa { gpa } => SimulatedFault::NotVmsa { gpa },
    }
}

/// True if the guest asks for its end.
fn is_end(action: &Action) -> bool {
    match *action {
        Action::Terminate { .. } => true,
        Action::PortOut { port, value } => {
            port == PORT && [ExitFunction::Exit as u32, ExitFunction::Fault as u32].contains(&value)
        }
        _ => false,
    }
}

/// The address of the GHCB by which the guest, which wrote `value` to the GHCB register, sends the firmware a
/// message; `None` if it does something else.
fn message(value: u64, memory: &dyn SharedMemory) -> Option<u64> {
    let Some(Request::Ghcb { gpa }) = Request::decode(value) else {
        return None;
    };
    let mut code = [0; 8];
    memory.read(gpa + Field::SwExitCode as u64, &mut code)?;
    (u64::from_le_bytes(code) == exit::GUEST_REQUEST).then_some(gpa)
}

/// Answers that the firmware is busy (56421, SNP Guest Request: SW_EXITINFO2 bits 63:32).
fn say_busy(ghcb: u64, memory: &dyn SharedMemory) {
    memory.write(ghcb + Field::SwExitInfo1 as u64, &[0; 8]);
    memory.write(
        ghcb + Field::SwExitInfo2 as u64,
        &(2u64 << 32).to_le_bytes(),
    );
}

impl Guest {
    /// Answers a register of the simulated platform; the arguments lie in RBX and RSI.
    fn instruction(&self, register: u32, rbx: u64, rsi: u64) -> Result<u64, SimulatedFault> {
        let gpa = (rbx & !(PAGE - 1))
            .checked_sub(DIRECT_MAP)
            .ok_or(SimulatedFault::OutsideDirectMap)?;
        match register {
            PVALIDATE => {
                let (huge, validate) = (rbx & 1 != 0, rbx & 2 != 0);
                if let Some(attack) = &self.attack {
                    attack.pvalidate(gpa, &self.hypervisor);
                }
                let answer = self
                    .hypervisor
                    .pvalidate(gpa, huge, validate)
                    .map_err(instruction_fault)?;
                Ok(u64::from(answer.code) | (u64::from(answer.carry) << 32))
            }
            RMPADJUST => {
                let [vmpl, rights, flags, ..] = rsi.to_le_bytes();
                self.hypervisor
                    .rmpadjust(gpa, false, vmpl, rights, flags & 1 != 0)
                    .map(u64::from)
                    .map_err(instruction_fault)
            }
            _ => {
                if self.hypervisor.is_validated(gpa) && self.memory.discard(gpa, LARGE) {
                    Ok(0)
                } else {
                    Err(SimulatedFault::NotValidated { gpa })
                }
            }
        }
    }

    fn read_msr(&self, id: u32, vcpu: &mut VcpuFd, register: u32) -> ExitAction {
        let answer = match register {
            SEV_STATUS => 3 | (self.features << 2),
            MSR_GHCB => {
                let answer = self.hypervisor.msr_read(id);
                let attack = self.attack.as_ref();
                attack.map_or(answer, |attack| attack.msr(id, answer))
            }
            QUIRKS => self.quirks,
            PVALIDATE | RMPADJUST | CLEAR => {
                let registers = match vcpu.get_regs() {
                    Ok(registers) => registers,
                    Err(error) => return kvm_fault(READ_REGISTERS, error).into(),
                };
                match self.instruction(register, registers.rbx, registers.rsi) {
                    Ok(answer) => answer,
                    Err(fault) => return KeepFault::Simulated(fault).into(),
                }
            }
            _ => return out_of_bounds(&UnhandledExit::ReadMsr(register)),
        };
        vcpu_ops::answer_read_msr(vcpu, answer);
        ExitAction::Resume
    }

    fn perform(&self, id: u32, action: Action) -> ExitAction {
        if is_end(&action) && self.attack.as_ref().is_some_and(|h| h.ignores_end(id)) {
            return ExitAction::Resume;
        }
        match action {
            Action::Resume | Action::StopVcpu { .. } => ExitAction::Resume,
            Action::PortOut { port, value } if port == PORT => ExitAction::Port(value),
            Action::PortOut { port, .. } => KeepFault::Simulated(SimulatedFault::Port(port)).into(),
            Action::StartVcpu { id, vmsa_gpa } => match self.memory.read_private(vmsa_gpa) {
                Some(page) => {
                    let vmsa = Vmsa::read_from_bytes(&page[..]).map(Box::new);
                    if let Ok(vmsa) = vmsa {
                        self.states().insert(id, vmsa);
                    }
                    ExitAction::Resume
                }
                None => KeepFault::Simulated(SimulatedFault::NoVmsa { gpa: vmsa_gpa }).into(),
            },
            Action::PageState(changes) => {
                for change in changes {
                    let range = change.gpa..change.gpa + change.bytes;
                    if change.private
                        && let Err(error) = self.memory.withdraw_window(&self.vm, &range)
                    {
                        return kvm_fault("take shared memory away", error).into();
                    }
                }
                ExitAction::Resume
            }
            Action::Terminate { set, reason } => terminated(set, reason).into(),
            Action::Violation(violation) => KeepFault::Simulated(protocol_fault(violation)).into(),
        }
    }

    fn states(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Box<Vmsa>>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platform for Guest {
    fn limits(&self) -> Option<Limits> {
        Some(self.limits)
    }

    fn calls(&self) -> Vec<Allow> {
        let mut calls = vec![Allow::ioctl(&[SET_MEMORY]).descriptor(0, self.vm.as_raw_fd())];
        if self.attack.is_some() {
            calls.push(Allow::ioctl(&VCPU_EVENTS));
        }
        calls
    }

    fn control_calls(&self) -> Vec<Allow> {
        vec![Allow::ioctl(&[CREATE_VCPU]).descriptor(0, self.vm.as_raw_fd())]
    }

    fn frequency_for_keep(&self, khz: u64) -> u64 {
        khz.saturating_mul(self.slow.into())
    }

    fn before_run(&self, id: u32, vcpu: &mut VcpuFd) -> Result<(), KeepFault> {
        let Some(attack) = &self.attack else {
            return Ok(());
        };
        let read = |error| kvm_fault(READ_REGISTERS, error);
        let sregs = vcpu.get_sregs().map_err(read)?;
        let rip = vcpu.get_regs().map_err(read)?.rip;
        match attack.inject(id, sregs.cs.dpl, rip) {
            Some(exception) => attack::inject(vcpu, exception)
                .map_err(|error| kvm_fault("inject an exception", error)),
            None => Ok(()),
        }
    }

    fn vcpus_started_by_host(&self, vcpus: u32) -> Vec<u32> {
        let starts = |id: &u32| self.attack.as_ref().is_some_and(|h| h.starts(*id));
        (1..vcpus).filter(starts).collect()
    }

    fn vcpu_started_beside(&self, id: u32) -> Option<u32> {
        let double = self.attack.as_ref()?.double(id)?;
        let measured = self.measured.get(&id)?.clone();
        self.states().insert(double, measured);
        Some(double)
    }

    fn vcpu(&self, id: u32) -> Result<Vcpu, KvmError> {
        let states = self.states();
        let state = states
            .get(&id)
            .ok_or(KvmError::Plan("state for this vCPU"))?;
        let mut vcpu = vcpu_ops::create(&self.vm, id, &self.cpu.cpuid(id), state)?;
        set_msrs(id, &mut vcpu, &CPUID_FAULTING)?;
        Ok(vcpu)
    }

    fn serve(&self, id: u32, vcpu: &mut VcpuFd, exit: UnhandledExit) -> ExitAction {
        match exit {
            UnhandledExit::ReadMsr(register) => self.read_msr(id, vcpu, register),
            UnhandledExit::WriteMsr(MSR_GHCB, value) => {
                let windows = Windows(&self.memory);
                if let Some(ghcb) = message(value, &windows)
                    && (self.busy.contains(&self.launched.elapsed())
                        || self
                            .attack
                            .as_ref()
                            .is_some_and(|attack| !attack.carries(id)))
                {
                    say_busy(ghcb, &windows);
                    return ExitAction::Resume;
                }
                let action = self.hypervisor.msr_write(id, value, &windows);
                if let Some(attack) = &self.attack {
                    attack.answer(id, &windows);
                }
                self.perform(id, action)
            }
            exit => out_of_bounds(&exit),
        }
    }
}

// None of the registers that KVM handles belongs to the platform.
const _: () = assert!(
    limits::SEGMENT_BASES.0 + limits::SEGMENT_BASES.1 <= MSR_GHCB
        && limits::LSTAR.0 + limits::LSTAR.1 <= MSR_GHCB
        && SEV_STATUS < REGISTERS.0
);

/// Launches a Keep.
pub(crate) fn launch(
    simulated: &Simulated,
    kvm: &Kvm,
    launch: &VmLaunch,
    size: KeepSize,
    timeline: &mut Timeline,
) -> Result<Launched, KvmError> {
    let pvm = is_pvm();
    let mut cpu = Cpu::new(kvm, pvm)?;
    cpu.with_encryption(C_BIT);
    let parameters = Parameters {
        vcpus: size.vcpus,
        c_bit: C_BIT,
        fault_addresses: launch.measured.fault_addresses,
        variant: launch.measured.variant,
    };
    let layout = measured::launch(&launch.images, &parameters)?;
    size.check(layout.end)?;
    timeline.mark("plan");

    let mut settings = simulated.settings.clone();
    settings.cpuid = cpu.page()?.entries().to_vec();
    let machine = enarx_simulator::Machine::open(&simulated.folder, settings)?;
    timeline.mark("secure processor");
    let memory = Arc::new(GuestMemory::new(size.memory, &layout.shared).map_err(size.refused())?);
    let variant = launch.measured.variant;
    let debug = if simulated.debug {
        GuestPolicy::DEBUG.mask()
    } else {
        0
    };
    let policy = GuestPolicy(variant.policy().0 | debug);
    let mut launching =
        Launching::start(Arc::new(machine), policy, [0; 16]).map_err(|status| match status {
            Status::PolicyFailure => KvmError::Variant(variant),
            other => firmware("start the launch")(other),
        })?;
    let attack = simulated.attack.as_deref();
    let states = measure(&mut launching, &layout.pages, &cpu, attack, &memory)?;
    let running = launching
        .finish(None, launch.measured.host_data)
        .map_err(firmware("finish the launch"))?;
    Load::new(&memory, &layout.runtime, launch.images.runtime.bytes()).load_remaining()?;
    timeline.mark("image");

    let hypervisor = Hypervisor::new(
        running,
        Config {
            vcpus: size.vcpus,
            c_bit: u8::try_from(C_BIT).unwrap_or(0),
            ram: 0..size.memory,
            huge_pages: true,
        },
    );
    for range in private(&layout.shared, size.memory) {
        hypervisor.assign(range);
    }
    let vm = create_vm(kvm)?;
    // KVM does not handle the registers of the platform: it leaves them to us.
    let limits = Limits::set(&vm, &[limits::SEGMENT_BASES, limits::LSTAR]);
    if !limits.msrs {
        return Err(KvmError::Lacks("filters of MSRs"));
    }
    memory
        .register_aliased(&vm, 1 << C_BIT)
        .map_err(refused("map the Keep's memory twice"))?;
    let platform = Guest {
        vm,
        hypervisor,
        memory: Arc::clone(&memory),
        cpu,
        measured: states.clone(),
        states: Mutex::new(states),
        quirks: if pvm { QUIRK_SYSCALL } else { 0 },
        features: variant.features(),
        launched: Instant::now(),
        busy: simulated.busy.clone(),
        slow: simulated.slow,
        attack: simulated.attack.clone(),
        limits,
    };
    let first = platform.vcpu(0)?;
    timeline.mark("machine");
    Ok(Launched {
        memory,
        platform: Box::new(platform),
        first,
        corrections: Vec::new(),
    })
}

/// Has the secure processor measure the pages of a launch, and loads them; the states of the vCPUs, by their numbers.
fn measure(
    launching: &mut Launching,
    pages: &[Page],
    cpu: &Cpu,
    attack: Option<&dyn Attack>,
    memory: &GuestMemory,
) -> Result<BTreeMap<u32, Box<Vmsa>>, KvmError> {
    let mut states = BTreeMap::new();
    for page in pages {
        if page.kind == PageType::Vmsa {
            let vmsa =
                Vmsa::read_from_bytes(&page.bytes[..]).map_err(|_| KvmError::Plan("whole VMSA"))?;
            launching
                .update_vmsa(&vmsa)
                .map_err(firmware("measure a VMSA"))?;
            states.insert(u32::try_from(states.len()).unwrap_or(0), Box::new(vmsa));
            continue;
        }
        let mut bytes = page.bytes.clone();
        if page.kind == PageType::Cpuid {
            *bytes = zerocopy::transmute!(cpu.page()?);
        }
        launching
            .update(page.kind, page.gpa, &mut bytes)
            .map_err(firmware("take a page"))?;
        if let Some(attack) = attack {
            attack.page(page.kind, page.gpa, &mut bytes);
        }
        memory.load(page.gpa, &bytes[..]);
    }
    Ok(states)
}

fn firmware(step: &'static str) -> impl FnOnce(Status) -> KvmError {
    move |status| KvmError::Firmware { step, status }
}

/// Returns the ranges between the shared ones.
fn private(shared: &[Range<u64>], end: u64) -> impl Iterator<Item = Range<u64>> {
    let starts = std::iter::once(0).chain(shared.iter().map(|range| range.end));
    let ends = shared.iter().map(|range| range.start).chain([end]);
    starts.zip(ends).map(|(start, end)| start..end)
}
