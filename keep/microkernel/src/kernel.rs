// SPDX-License-Identifier: Apache-2.0

//! The state of the microkernel, and its handling of exceptions.
//!
//! One lock (in the binary) guards [`Kernel`]; a vCPU never sleeps while it holds it.

use crate::address_space::{AddressSpace, Failed, Removal};
use crate::cause;
use crate::clock::Clock;
use crate::epoch::Epoch;
use crate::fatal::{CallError, Fatal};
use crate::launch::{Launch, check};
use crate::linux::{Errno, flag};
use crate::paging::{Change, Fault, Stale, UserRange};
use crate::platform::Platform;
use crate::random::Random;
use crate::registers::{Registers, vector};
use crate::signal::{self, Signal, SignalFrame};
use crate::snp::message::{Channel, MessageKey};
use crate::snp::{Messages, cpuid, vcpu};
use crate::tee::Tee;
use crate::threads::Threads;
use enarx_boot::address::{Gpa, VirtAddr};
use enarx_boot::layout::{
    DIRECT_MAP_SIZE, IMAGE_USER, LARGE, MAX_VCPUS, MMAP_END, MMAP_START, SHARED_END,
    SHARED_PHYSICAL, STACK_SIZE, STACK_TOP, USER_END, VDSO_USER,
};
use enarx_boot::page_table::{Access, Rights};
use enarx_exits::{BootCheck, HostFacts, Reason};

use enarx_snp::ghcb::{PageOperation, exit};
use zerocopy::{FromBytes, IntoBytes};

/// A handler installed by `rt_sigaction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// Address of the handler; 0 = default, 1 = ignore.
    pub handler: u64,
    /// `SA_…` flags.
    pub flags: u64,
    /// Address of the code that calls `rt_sigreturn`.
    pub restorer: u64,
    /// Blocked signals; kept, not acted upon.
    pub mask: u64,
}

/// Bits of a page fault's error code (AMD64 APM volume 2, section 8.4.2): R/W, U/S, I/D. Bit 0, P, is not
/// used: the tables are more reliable.
const WRITE: u64 = 2;
const USER: u64 = 4;
const FETCH: u64 = 16;

/// The CPUID instruction.
const CPUID: [u8; 2] = [0x0f, 0xa2];

/// The low half of a register.
const fn low(register: u64) -> u32 {
    let [a, b, c, d, ..] = register.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Where compiled WebAssembly lies: code that traps on purpose. The runtime itself and its C library lie
/// below and never do.
const COMPILED: core::ops::Range<u64> = MMAP_START..MMAP_END;

/// The unmapped addresses below the runtime's first stack.
const FIRST_STACK_GUARD: core::ops::Range<u64> =
    STACK_TOP - STACK_SIZE - LARGE..STACK_TOP - STACK_SIZE;

/// Signals that can have a handler: numbers below this.
pub const SIGNALS: usize = 32;

/// Everything the microkernel knows.
#[derive(Debug)]
pub struct Kernel {
    /// User memory.
    pub space: AddressSpace,
    /// Threads, one per vCPU.
    pub threads: Threads,
    /// Time.
    pub clock: Clock,
    /// Random numbers.
    pub random: Random,
    /// Signal handlers.
    pub actions: [Action; SIGNALS],
    /// Processors that the runtime may count on.
    pub processors: u64,
    /// All memory of the Keep, in bytes.
    pub memory: u64,
    /// The trusted execution environment.
    pub tee: Tee,
    /// Why the Keep cannot go on, as a system call found out that ends by [`CallError::Fatal`].
    failed: Option<Fatal>,
}

/// Exclusive use of the kernel, for the length of a closure.
pub trait Guarded {
    /// Runs `f` with the kernel locked.
    fn with<R>(&self, f: impl FnOnce(&mut Kernel) -> R) -> R;
    /// The key of the messages to the firmware, which needs no lock.
    fn key(&self) -> &MessageKey;
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel {
    /// The kernel before boot: nothing is mapped, nothing can run.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            space: AddressSpace::none(),
            threads: Threads::none(),
            clock: Clock {
                start: 0,
                multiplier: 0,
                wall_ns: 0,
            },
            random: Random::new(),
            actions: [Action {
                handler: 0,
                flags: 0,
                restorer: 0,
                mask: 0,
            }; SIGNALS],
            processors: 0,
            memory: 0,
            tee: Tee::None,
            failed: None,
        }
    }

    /// Notes why the Keep cannot go on, for [`Self::failure`]; the first reason counts.
    pub fn fail(&mut self, fatal: Fatal) -> CallError {
        self.failed.get_or_insert(fatal);
        CallError::Fatal
    }

    /// The end of the Keep after [`CallError::Fatal`].
    #[must_use]
    pub fn failure(&self) -> Fatal {
        let unknown = || self.space.end(Fatal::new(Reason::OutOfMemory, 0));
        self.failed.unwrap_or_else(unknown)
    }

    /// Takes over the launch's preparations and the host's facts; called once.
    ///
    /// # Errors
    /// [`Reason::Boot`] with the [`BootCheck`] that failed.
    pub fn boot(&mut self, launch: &Launch, facts: &HostFacts, tsc: u64) -> Result<(), Fatal> {
        let boot = &launch.boot;
        let heap = boot.heap_start.is_multiple_of(LARGE) && boot.heap_mapped.is_multiple_of(LARGE);
        check(BootCheck::Heap, heap)?;
        let (end, ends) = (facts.memory_end, boot.free_start..=DIRECT_MAP_SIZE);
        let memory = end.is_multiple_of(LARGE) && ends.contains(&end);
        check(BootCheck::MemoryEnd, memory)?;
        let vcpus = (1..=MAX_VCPUS as u64).contains(&facts.vcpus);
        check(BootCheck::Vcpus, vcpus)?;
        let processors = (1..=facts.vcpus).contains(&facts.processors);
        check(BootCheck::Processors, processors)?;
        self.clock =
            Clock::new(tsc, facts.tsc_khz, facts.wall_ns).ok_or(Fatal::boot(BootCheck::Clock))?;
        self.space.boot(launch, Gpa::new(facts.memory_end));
        self.threads.boot(usize::try_from(facts.vcpus).unwrap_or(1));
        self.processors = facts.processors;
        self.memory = facts.memory_end;
        Ok(())
    }

    /// The SNP-specific part of the boot, after [`Self::boot`]: shares the memory that the host has to see,
    /// takes over the firmware's pages and `key`, and prepares the direct map.
    ///
    /// # Errors
    /// [`Reason::PageState`], [`Reason::Cpuid`], [`Reason::Secrets`], [`Reason::OutOfMemory`];
    /// [`Reason::Boot`] for another launch.
    pub fn boot_snp<P: Platform>(
        &mut self,
        platform: &mut P,
        launch: &Launch,
        key: &MessageKey,
    ) -> Result<(), Fatal> {
        let launch = launch.snp.as_ref();
        let ledger = self.space.frames().ledger();
        let (Some(launch), Some(ledger)) = (launch, ledger) else {
            return Err(Fatal::boot(BootCheck::SnpLaunch));
        };
        let exits = (Gpa::new(SHARED_PHYSICAL), Gpa::new(SHARED_END));
        for (start, end) in [exits, launch.image] {
            ledger.change_state(platform, start, end, PageOperation::Shared)?;
        }
        let snp = crate::snp::boot::take_over(platform, launch, key, &mut self.random)?;
        self.tee = Tee::Snp(snp);
        let (frames, end) = (self.space.frames(), Gpa::new(self.memory));
        frames.extend_ledger(platform, end)
    }

    /// Starts vCPU `vcpu` unless it has been started; under plain KVM the host does.
    ///
    /// # Errors
    /// As [`vcpu::start`].
    pub fn start_vcpu<P: Platform>(&mut self, platform: &mut P, vcpu: usize) -> Result<(), Fatal> {
        match self.tee.snp_mut() {
            Some(snp) => vcpu::start(platform, snp, self.space.frames(), vcpu),
            None => Ok(()),
        }
    }

    /// The runtime image has been copied: its shared pages become private and free, and the loader, which is
    /// not needed any more, is unmapped. Its pages are constants and stay unused.
    ///
    /// # Errors
    /// [`Reason::PageState`], [`Reason::Validation`].
    pub fn release_image<P: Platform>(
        &mut self,
        platform: &mut P,
        epoch: &Epoch,
        me: usize,
    ) -> Result<(), Fatal> {
        let Some(snp) = self.tee.snp_mut().filter(|snp| !snp.image_released) else {
            return Ok(());
        };
        snp.image_released = true;
        let launch = snp.launch;
        let ((start, end), loader_end) = (launch.image, launch.loader_end);
        let window = VirtAddr::new(IMAGE_USER);
        let length = end.get() - start.get();
        self.space.withdraw(platform, window, window.offset(length));
        self.space.withdraw(platform, VirtAddr::new(0), loader_end);
        self.shoot_down(platform, epoch, me);
        if let Some(ledger) = self.space.frames().ledger() {
            ledger.change_state(platform, start, end, PageOperation::Private)?;
        }
        self.space.add_memory(&launch);
        Ok(())
    }

    /// Takes the channel to the firmware, which must be given back; `None` while another vCPU has it.
    ///
    /// # Errors
    /// [`Errno::NoSys`] without SNP, [`Errno::Io`] once something went wrong with it.
    pub fn take_channel(&mut self) -> Result<Option<Channel>, Errno> {
        let snp = self.tee.snp_mut().ok_or(Errno::NoSys)?;
        match snp.messages {
            Messages::Broken => Err(Errno::Io),
            Messages::Taken => Ok(None),
            Messages::Free => {
                snp.messages = Messages::Taken;
                Ok(Some(snp.channel))
            }
        }
    }

    /// Gives the channel back; `None`: it is not to be used any more.
    pub fn give_channel(&mut self, channel: Option<&Channel>) {
        let Some(snp) = self.tee.snp_mut() else {
            return;
        };
        snp.messages = Messages::Broken;
        if let Some(channel) = channel {
            snp.messages = Messages::Free;
            snp.channel = *channel;
        }
    }

    /// True if the runtime is about to execute CPUID.
    fn at_cpuid<P: Platform>(&mut self, platform: &mut P, registers: &Registers) -> bool {
        let mut code = [0; CPUID.len()];
        let read = self.space.read_code(platform, registers.rip, &mut code);
        read == CPUID.len() && code == CPUID
    }

    /// On the simulated platform CPUID at CPL3 raises #GP (CPUID faulting), where it raises #VC on an
    /// SNP CPU.
    #[cfg(feature = "simulated")]
    pub fn simulated_cpuid<P: Platform>(&mut self, platform: &mut P, registers: &mut Registers) {
        const GENERAL_PROTECTION: u64 = 13;
        if self.tee.snp().is_some()
            && registers.vector == GENERAL_PROTECTION
            && registers.error_code == 0
            && self.at_cpuid(platform, registers)
        {
            registers.vector = vector::VMM_COMMUNICATION;
            registers.error_code = exit::CPUID;
        }
    }

    /// Answers the runtime's CPUID instruction; `None` if the current instruction is a different one.
    fn cpuid<P: Platform>(
        &mut self,
        platform: &mut P,
        me: usize,
        registers: &mut Registers,
    ) -> Option<()> {
        if registers.error_code != exit::CPUID || !self.at_cpuid(platform, registers) {
            return None;
        }
        let snp = self.tee.snp()?;
        let [leaf, subleaf] = [registers.rax, registers.rcx].map(low);
        let number = u32::try_from(me).ok()?;
        let (page, xcr0) = (snp.launch.cpuid, snp.control.xcr0());
        let [eax, ebx, ecx, edx] = cpuid::answer(platform, page, number, xcr0, leaf, subleaf);
        registers.rax = eax.into();
        registers.rbx = ebx.into();
        registers.rcx = ecx.into();
        registers.rdx = edx.into();
        registers.rip += CPUID.len() as u64;
        Some(())
    }

    /// Deals with an exception at CPL3. A host can inject any, with any error code, and deliver a genuine
    /// one late or with another error code; but it cannot write CR2.
    ///
    /// # Errors
    /// [`Fatal`] unless the cause is verified and either resolved or delivered as a signal.
    pub fn exception<P: Platform>(
        &mut self,
        platform: &mut P,
        me: usize,
        registers: &mut Registers,
        cr2: u64,
    ) -> Result<(), Fatal> {
        let unexpected = Fatal::at(Reason::Unexpected, registers, cr2);
        let signal = match registers.vector {
            vector::PAGE_FAULT => {
                let fault = self.page_fault(platform, registers.error_code, cr2);
                match fault.ok_or(unexpected)? {
                    Fault::Resolved => return Ok(()),
                    Fault::NoFrame => {
                        let out_of_memory = Fatal::at(Reason::OutOfMemory, registers, cr2);
                        return Err(self.space.end(out_of_memory));
                    }
                    Fault::Denied => Signal {
                        number: flag::SIGSEGV,
                        code: self.no_access(platform, registers, cr2).ok_or(unexpected)?,
                        address: cr2,
                        vector: registers.vector,
                        error_code: registers.error_code,
                    },
                }
            }
            vector::INVALID_OPCODE | vector::DIVIDE => {
                let mut code = [0; cause::MAX_INSTRUCTION];
                let length = self.space.read_code(platform, registers.rip, &mut code);
                let code = code.get(..length).unwrap_or(&[]);
                let (verified, number, si_code) = if registers.vector == vector::INVALID_OPCODE {
                    // ILL_ILLOPN = 2.
                    (cause::is_ud2(code), flag::SIGILL, 2)
                } else {
                    let load = |address, size: usize| {
                        let mut bytes = [0; 8];
                        let part = bytes.get_mut(..size)?;
                        self.space.read(platform, address, part).ok()?;
                        Some(u64::from_le_bytes(bytes))
                    };
                    // FPE_INTDIV = 1.
                    (cause::divide_error(code, registers, load), flag::SIGFPE, 1)
                };
                if !verified {
                    return Err(unexpected);
                }
                Signal {
                    number,
                    code: si_code,
                    address: registers.rip,
                    vector: registers.vector,
                    error_code: registers.error_code,
                }
            }
            vector::VMM_COMMUNICATION => {
                return self.cpuid(platform, me, registers).ok_or(unexpected);
            }
            _ => return Err(unexpected),
        };
        let reason = if signal.number == flag::SIGSEGV && FIRST_STACK_GUARD.contains(&cr2) {
            Reason::StackOverflow
        } else {
            Reason::Unhandled
        };
        self.deliver(platform, me, registers, &signal)
            .ok_or_else(|| self.space.end(Fatal::at(reason, registers, cr2)))
    }

    /// A page fault at CPL3; `None` if the error code makes no sense.
    fn page_fault<P: Platform>(&mut self, platform: &mut P, error: u64, cr2: u64) -> Option<Fault> {
        if error & USER == 0 || error & !(1 | WRITE | USER | FETCH) != 0 {
            return None;
        }
        let access = match (error & FETCH != 0, error & WRITE != 0) {
            (true, _) => Access::Execute,
            (false, true) => Access::Write,
            (false, false) => Access::Read,
        };
        Some(self.space.fault(platform, cr2, access))
    }

    /// The `si_code` of a fault at `cr2`; `None` unless the tables deny both loads and stores. With the
    /// error code, a host can make a load look like a store or an instruction fetch, so a page that allows
    /// one of them is not a cause.
    fn no_access<P: Platform>(&self, platform: &P, registers: &Registers, cr2: u64) -> Option<i32> {
        const MAPERR: i32 = 1;
        const ACCERR: i32 = 2;
        if cr2 >= USER_END || registers.error_code & FETCH != 0 {
            return None;
        }
        match self.space.rights(platform, cr2) {
            None => Some(MAPERR),
            Some(Rights::None) => Some(ACCERR),
            Some(_) => None,
        }
    }

    /// Enters the runtime's handler; `None` if the current code never traps on purpose, or there is no
    /// handler, or its stack is unusable.
    fn deliver<P: Platform>(
        &mut self,
        platform: &mut P,
        me: usize,
        registers: &mut Registers,
        signal: &Signal,
    ) -> Option<()> {
        let action = *self.actions.get(usize::try_from(signal.number).ok()?)?;
        let has_handler = action.handler > 1 && action.handler < USER_END;
        if !COMPILED.contains(&registers.rip) || !has_handler {
            return None;
        }
        let stack = self.threads.get(me).stack;
        let use_stack = action.flags & flag::SA_ONSTACK != 0;
        let (frame_at, fpu_at) = signal::place(registers, stack, use_stack)?;
        // Code in the vDSO saves the vector registers, calls the handler, and restores them.
        let restorer = VDSO_USER + signal::LEAVE_OFFSET;
        let frame = SignalFrame::new(signal, registers, stack, restorer, fpu_at);
        self.space
            .write(platform, frame_at, frame.as_bytes())
            .ok()?;
        registers.rdi = signal.number;
        registers.rsi = frame_at + SignalFrame::INFO_OFFSET;
        registers.rdx = frame_at + SignalFrame::CONTEXT_OFFSET;
        registers.rcx = fpu_at;
        registers.r8 = action.handler;
        registers.rax = 0;
        registers.rip = VDSO_USER + signal::ENTER_OFFSET;
        registers.rsp = frame_at;
        registers.flags = signal::sanitise_flags(0);
        Some(())
    }

    /// `rt_sigreturn`: restores the interrupted state, except the vector registers, which the code in the
    /// vDSO has restored.
    ///
    /// # Errors
    /// [`Reason::Unhandled`] if the frame is not readable or not one.
    pub fn signal_return<P: Platform>(
        &mut self,
        platform: &mut P,
        registers: &mut Registers,
    ) -> Result<(), Fatal> {
        let fatal = Fatal::at(Reason::Unhandled, registers, 0);
        let mut bytes = [0; size_of::<SignalFrame>()];
        // The handler's `ret` took the restorer's address off.
        let frame_at = registers.rsp.wrapping_sub(8);
        self.space
            .read(platform, frame_at, &mut bytes)
            .map_err(|_| self.space.end(fatal))?;
        let frame = SignalFrame::read_from_bytes(&bytes).map_err(|_| fatal)?;
        frame.restore(registers).ok_or(fatal)
    }

    /// Makes a reduction of rights known: flushes this vCPU and, if others run user code, waits
    /// until they have flushed.
    pub fn shoot_down<P: Platform>(&self, platform: &mut P, epoch: &Epoch, me: usize) {
        platform.flush();
        let new = epoch.advance(me);
        if !self.threads.others_running(me) {
            return;
        }
        let behind = epoch.behind(me, new);
        if behind != 0 {
            epoch.expect_kicks(behind);
            platform.exit(enarx_exits::ExitFunction::Kick, &[behind]);
            while epoch.behind(me, new) != 0 && !platform.ended() {
                core::hint::spin_loop();
            }
        }
    }

    /// Changes the tables by `change`, and makes it known where rights were reduced; also when it
    /// failed, because part of it may have been done.
    ///
    /// # Errors
    /// The error of `change`.
    pub fn with_shootdown<P: Platform>(
        &mut self,
        platform: &mut P,
        epoch: &Epoch,
        me: usize,
        change: impl FnOnce(&mut AddressSpace, &mut P) -> Result<Stale, CallError>,
    ) -> Result<(), CallError> {
        let result = change(&mut self.space, platform);
        if result.map_or(true, |stale| stale.reduced) {
            self.shoot_down(platform, epoch, me);
        }
        result.map(|_| ())
    }

    /// Removes the remains of a failed mapping; returns why it failed.
    pub fn undo<P: Platform>(
        &mut self,
        platform: &mut P,
        epoch: &Epoch,
        me: usize,
        failed: Failed,
    ) -> CallError {
        if let Some(part) = failed.part {
            // The mapped part is whole entries, so this cannot fail.
            let _ = self.remove(platform, epoch, me, Removal::Unmap, part);
        }
        failed.error
    }

    /// Unmaps or discards a range: in one step where no other vCPU can get to user code before this
    /// ends, in two where one could still write to frames about to be freed.
    ///
    /// # Errors
    /// As [`AddressSpace::finish`].
    pub fn remove<P: Platform>(
        &mut self,
        platform: &mut P,
        epoch: &Epoch,
        me: usize,
        removal: Removal,
        range: UserRange,
    ) -> Result<(), CallError> {
        if self.threads.others_running(me) {
            self.with_shootdown(platform, epoch, me, |space, platform| {
                space.change(platform, range, Change::Hide)
            })?;
        }
        self.with_shootdown(platform, epoch, me, |space, platform| {
            space.finish(platform, removal, range)
        })
    }
}
