// SPDX-License-Identifier: Apache-2.0

//! The microkernel as a bare-metal program: entries, and the order of things at boot.
//!
//! Everything `unsafe` is in `machine/`; the logic is in the library of this crate.
#![no_std]
#![no_main]
// The host decides over the input of this code: it refuses, and does not panic.
#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]

// The memory functions that the compiler calls.
use enarx_bare as _;

use core::mem::offset_of;
use core::panic::PanicInfo;

use enarx_boot::boot_page::{BootInfo, FLAG_FAULT_ADDRESSES};
use enarx_exits::{BootCheck, ExitFunction, FaultReport, KICK_VECTOR, Reason, exit_code};
use enarx_microkernel::fatal::Fatal;
use enarx_microkernel::kernel::Guarded;
use enarx_microkernel::kind::HAS_SNP;
use enarx_microkernel::launch::Launch;
use enarx_microkernel::platform::Platform;
use enarx_microkernel::registers::{Registers, vector};
use enarx_microkernel::signal::{USER_CS, USER_SS, sanitise_flags};
use enarx_microkernel::syscall::{After, system_call};
use enarx_microkernel::threads::State;
use zerocopy::IntoBytes;

mod machine {
    pub mod cpu;
    pub mod end;
    pub mod entry;
    pub mod lock;
    pub mod platform;
    pub mod snp;
    pub mod stack;
    pub mod symbols;
    pub mod vdso;
}

use machine::cpu::{Machine, count, fault_address, forget_fault, host_facts, reset_fpu};
use machine::end::{EPOCH, KEY, begin_end, stop_if_ended};
use machine::lock::KernelLock;
use machine::snp;
use machine::stack::{boot_info, current_vcpu, set_clock};

static KERNEL: KernelLock = KernelLock::new();

/// The first code of every vCPU: fills `registers` with the values for entering user code.
pub extern "C" fn boot(registers: &mut Registers, vcpu: usize) {
    let mut machine = Machine::new(vcpu);
    forget_fault();
    if vcpu == 0 {
        if let Err(fatal) = boot_first(registers, &mut machine) {
            end_with(&mut machine, &fatal.0);
        }
    } else {
        if HAS_SNP && let Err(fatal) = snp::start_further(&mut machine, vcpu) {
            snp::terminate(fatal.0.reason);
        }
        next_thread(registers, &mut machine, vcpu);
    }
    to_user(&mut machine, vcpu);
}

fn boot_first(registers: &mut Registers, machine: &mut Machine) -> Result<(), Fatal> {
    let boot: BootInfo = boot_info();
    let launch = Launch::new(machine)?;
    if HAS_SNP != launch.snp.is_some() {
        return Err(Fatal::boot(BootCheck::Platform));
    }
    if HAS_SNP {
        snp::start(machine, &launch)?;
    }
    let (facts, tsc) = (host_facts(), machine.tsc());
    let mut random = [0; 3];
    let clock = KERNEL.with(|kernel| {
        kernel.boot(&launch, &facts, tsc)?;
        kernel.random.test_generator(machine)?;
        if HAS_SNP {
            kernel.boot_snp(machine, &launch, &KEY)?;
        }
        kernel.random.fill(machine, random.as_mut_bytes())?;
        kernel.space.randomise(random[2]);
        if let Some(snp) = kernel.tee.snp() {
            Machine::set_control(&snp.control);
        }
        Ok::<_, Fatal>(kernel.clock)
    })?;
    machine.write(launch.random_bytes[0], random[0]);
    machine.write(launch.random_bytes[1], random[1]);
    if HAS_SNP {
        machine.wipe_stack();
    }
    set_clock(&clock);
    #[cfg(feature = "plain")]
    if boot.flags & enarx_boot::boot_page::FLAG_SYSCALL_BY_UD != 0 {
        machine::symbols::detour();
    }
    #[cfg(feature = "simulated")]
    simulated_quirks();
    *registers = Registers {
        rip: boot.user_entry,
        cs: USER_CS,
        flags: sanitise_flags(0),
        rsp: boot.user_stack,
        ss: USER_SS,
        ..Registers::default()
    };
    Ok(())
}

/// Adapts to a host whose virtual CPUs enter the kernel by SYSCALL as those of `kvm_pvm` do. A
/// genuine SNP guest runs on no such host.
#[cfg(feature = "simulated")]
fn simulated_quirks() {
    use enarx_exits::simulated::QUIRK_SYSCALL;
    if snp::instructions::quirks() & QUIRK_SYSCALL != 0 {
        machine::cpu::Msr::Lstar.write(machine::symbols::detour());
    }
}

/// An exception.
pub extern "C" fn exception(registers: &mut Registers) {
    let vcpu = current_vcpu();
    let mut machine = Machine::new(vcpu);
    if registers.cs & 3 != 3 {
        let report = Fatal::at(Reason::Kernel, registers, fault_address()).0;
        end_with(&mut machine, &report);
    }
    EPOCH.enter_kernel(vcpu);
    stop_if_ended(&mut machine);
    if registers.vector != u64::from(KICK_VECTOR) {
        count(false);
        trap(registers, &mut machine, vcpu);
    } else if !EPOCH.take_kick(vcpu) {
        // The host would have a way from user code into the kernel and back at moments of its choice.
        let report = Fatal::at(Reason::Unexpected, registers, 0).0;
        end_with(&mut machine, &report);
    }
    to_user(&mut machine, vcpu);
}

/// A system call.
pub extern "C" fn call(registers: &mut Registers) {
    let vcpu = current_vcpu();
    let mut machine = Machine::new(vcpu);
    EPOCH.enter_kernel(vcpu);
    stop_if_ended(&mut machine);
    count(true);
    match system_call(&KERNEL, &EPOCH, &mut machine, vcpu, registers) {
        Ok(After::User) => {}
        Ok(After::Exit(code)) => {
            begin_end();
            machine.exit(ExitFunction::Exit, &[code]);
            halt(&mut machine);
        }
        Ok(After::ThreadEnded) => next_thread(registers, &mut machine, vcpu),
        Err(fatal) => end_with(&mut machine, &fatal.0),
    }
    to_user(&mut machine, vcpu);
}

#[inline(never)]
fn trap(registers: &mut Registers, machine: &mut Machine, vcpu: usize) {
    let cr2 = fault_address();
    if registers.vector == vector::PAGE_FAULT {
        forget_fault();
    }
    let result = KERNEL.with(|kernel| {
        #[cfg(feature = "simulated")]
        kernel.simulated_cpuid(machine, registers);
        kernel.exception(machine, vcpu, registers, cr2)
    });
    if let Err(fatal) = result {
        end_with(machine, &fatal.0);
    }
}

/// The last step before user code: no translation older than the epoch goes with it, and no vCPU once the
/// Keep has ended, which is an epoch of its own.
fn to_user(machine: &mut Machine, vcpu: usize) {
    if EPOCH.leave_kernel(vcpu) {
        stop_if_ended(machine);
        machine.flush();
    }
}

/// Sleeps until a thread is assigned to this vCPU.
fn next_thread(registers: &mut Registers, machine: &mut Machine, vcpu: usize) {
    loop {
        let thread = KERNEL.with(|kernel| {
            let thread = kernel.threads.get(vcpu);
            (thread.state == State::Starting).then(|| {
                thread.state = State::Running;
                *thread
            })
        });
        if let Some(thread) = thread {
            *registers = thread.start;
            machine.set_fs_base(thread.start_fs);
            // The thread that ran here before had its own GS base and rounding modes.
            machine.set_gs_base(0);
            reset_fpu();
            return;
        }
        machine.exit(ExitFunction::Park, &[u64::MAX]);
    }
}

/// Ends the Keep.
pub fn end(reason: Reason, detail: u64) -> ! {
    let mut machine = Machine::new(current_vcpu());
    end_with(&mut machine, &Fatal::new(reason, detail).0)
}

#[cold]
#[inline(never)]
fn end_with(machine: &mut Machine, report: &FaultReport) -> ! {
    // Another vCPU that ends the Keep unmaps this one's pages: such a fault is not reported.
    stop_if_ended(machine);
    begin_end();
    if !HAS_SNP {
        machine.exit(ExitFunction::Fault, &report.args());
        halt(machine);
    }
    if snp::has_ghcb() {
        let report = match boot_info().flags & FLAG_FAULT_ADDRESSES {
            0 => report.without_addresses(),
            _ => *report,
        };
        machine.exit(ExitFunction::Fault, &report.args());
    }
    snp::terminate(report.reason)
}

/// The host has been told that the Keep ended; returning here only wastes its time.
fn halt(machine: &mut Machine) -> ! {
    loop {
        machine.exit(ExitFunction::Exit, &[exit_code::FAULT.into()]);
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    end(
        Reason::Panic,
        info.location().map_or(0, |location| location.line().into()),
    )
}

const _: () = assert!(offset_of!(Registers, cs) == 18 * 8);
