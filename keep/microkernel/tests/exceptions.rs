// SPDX-License-Identifier: Apache-2.0

//! Exceptions at CPL3: a signal is only caused by a verified fault, and only in compiled WebAssembly, whatever
//! a host injects.

mod fake;

use std::ops::Range;

use enarx_boot::layout::{
    MMAP_END, MMAP_START, NO_FAULT, PAGE, SALLYPORT_USER, STACK_SIZE, STACK_TOP, USER_END,
    USER_START, VDSO_USER,
};
use enarx_boot::page_table::Rights;
use enarx_exits::Reason;
use enarx_microkernel::fatal::Fatal;
use enarx_microkernel::kernel::Guarded;
use enarx_microkernel::linux::flag;
use enarx_microkernel::registers::{Registers, SYSTEM_CALL, vector};
use enarx_microkernel::signal::{ENTER_OFFSET, LEAVE_OFFSET, USER_CS, USER_SS};
use enarx_microkernel::syscall::After;
use enarx_syscall as nr;
use proptest::prelude::*;

use fake::Keep;

/// Linux `asm/signal.h`.
const SA_RESTORER: u64 = 0x0400_0000;
const RW: u64 = flag::PROT_READ | flag::PROT_WRITE;
const HANDLER: u64 = 0x40_2000;
const COMPILED: Range<u64> = MMAP_START..MMAP_END;
/// The addresses of the runtime's own code.
const RUNTIME: u64 = 0x40_1000;

/// Bits of a page fault's error code.
const WRITE: u64 = 2;
const USER: u64 = 4;
const FETCH: u64 = 16;

/// A Keep whose program has handlers, compiled code and pages of every kind.
struct Program {
    keep: Keep,
    /// Read and execute, with `ud2` at 0 and `div ecx` at 16.
    code: u64,
    /// Read and write, used as the stack.
    stack: u64,
    /// Reserved, read and write, without a frame.
    fresh: u64,
    read_only: u64,
    no_access: u64,
    unmapped: u64,
}

fn map(keep: &Keep, rights: u64) -> u64 {
    let at = keep.call(nr::MMAP, &[0, PAGE, RW, flag::MAP_ANONYMOUS]);
    assert!(at > 0);
    let at = at.cast_unsigned();
    if rights != RW {
        assert_eq!(keep.call(nr::MPROTECT, &[at, PAGE, rights]), 0);
    }
    at
}

impl Program {
    fn new() -> Self {
        let keep = Keep::new(4, 1);
        let code = map(&keep, RW);
        keep.touch(0, code, Some(0x0b0f));
        keep.touch(0, code + 16, Some(0xf1f7));
        let rights = flag::PROT_READ | flag::PROT_EXEC;
        assert_eq!(keep.call(nr::MPROTECT, &[code, PAGE, rights]), 0);
        let stack = map(&keep, RW);
        for (offset, word) in [HANDLER, SA_RESTORER, 0x40_3000, 0].into_iter().enumerate() {
            keep.touch(0, stack + offset as u64 * 8, Some(word));
        }
        for signal in [flag::SIGSEGV, flag::SIGILL, flag::SIGFPE] {
            assert_eq!(keep.call(nr::RT_SIGACTION, &[signal, stack, 0, 8]), 0);
        }
        // Larger than what is backed at once.
        let fresh = keep.call(nr::MMAP, &[0, 64 * PAGE, RW, flag::MAP_ANONYMOUS]);
        let unmapped = map(&keep, RW);
        let program = Self {
            code,
            stack,
            fresh: fresh.cast_unsigned(),
            read_only: map(&keep, flag::PROT_READ),
            no_access: map(&keep, 0),
            unmapped,
            keep,
        };
        assert_eq!(program.keep.call(nr::MUNMAP, &[unmapped, PAGE]), 0);
        program
    }

    fn registers(&self, vector: u64, error_code: u64, rip: u64) -> Registers {
        Registers {
            vector,
            error_code,
            rip,
            rsp: self.stack + PAGE - 64,
            rbx: 77,
            r15: 78,
            flags: 0x246,
            cs: USER_CS,
            ss: USER_SS,
            ..Registers::default()
        }
    }

    /// An exception with these registers.
    fn raise(&self, registers: &mut Registers, cr2: u64) -> Result<(), Fatal> {
        let mut machine = self.keep.machine(0);
        self.keep
            .kernel
            .with(|kernel| kernel.exception(&mut machine, 0, registers, cr2))
    }

    /// Decides about a page fault.
    fn fault(&self, error_code: u64, cr2: u64, rip: u64) -> FaultOutcome {
        let before = self.registers(vector::PAGE_FAULT, error_code, rip);
        let mut registers = before;
        match self.raise(&mut registers, cr2) {
            Ok(()) if registers == before => FaultOutcome::Resolved,
            Ok(()) => {
                assert_eq!(registers.rip, VDSO_USER + ENTER_OFFSET);
                assert_eq!(
                    (registers.rdi, registers.r8),
                    (flag::SIGSEGV, HANDLER),
                    "the handler"
                );
                FaultOutcome::Signal
            }
            Err(fatal) => FaultOutcome::End(fatal.0.reason),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultOutcome {
    Resolved,
    Signal,
    End(u64),
}

const UNEXPECTED: FaultOutcome = FaultOutcome::End(Reason::Unexpected as u64);
const UNHANDLED: FaultOutcome = FaultOutcome::End(Reason::Unhandled as u64);

#[test]
fn a_page_without_access_causes_a_signal_in_compiled_code() {
    let program = Program::new();
    for cr2 in [program.no_access, program.unmapped, 0, 8] {
        for error in [USER, USER | WRITE, USER | 1, USER | WRITE | 1] {
            assert_eq!(
                program.fault(error, cr2, program.code),
                FaultOutcome::Signal
            );
            // The runtime's own code does not fault on purpose.
            for rip in [RUNTIME, VDSO_USER, MMAP_START - 1, MMAP_END] {
                assert_eq!(program.fault(error, cr2, rip), UNHANDLED, "{rip:#x}");
            }
        }
    }
}

/// An injected page fault shows the address of the last genuine one, which was resolved: the page may be
/// read and written. Its error code is the host's choice.
#[test]
fn a_usable_page_never_causes_a_signal() {
    let program = Program::new();
    program.keep.touch(0, program.fresh, Some(1));
    for rip in [program.code, RUNTIME] {
        for (error, became) in [
            (USER, FaultOutcome::Resolved),
            (USER | WRITE, FaultOutcome::Resolved),
            (USER | FETCH, UNEXPECTED),
            (USER | FETCH | 1, UNEXPECTED),
            (USER | FETCH | WRITE | 1, UNEXPECTED),
        ] {
            assert_eq!(
                program.fault(error, program.fresh, rip),
                became,
                "{error:#x}"
            );
        }
        // A load that the host calls a store, and the reverse.
        assert_eq!(
            program.fault(USER | WRITE, program.read_only, rip),
            UNEXPECTED
        );
        assert_eq!(
            program.fault(USER, program.read_only, rip),
            FaultOutcome::Resolved
        );
        assert_eq!(
            program.fault(USER | FETCH, program.no_access, rip),
            UNEXPECTED
        );
        assert_eq!(
            program.fault(USER | FETCH, program.unmapped, rip),
            UNEXPECTED
        );
    }
}

#[test]
fn a_fault_that_did_not_happen_is_never_a_signal() {
    let program = Program::new();
    for error in 0..64 {
        for rip in [program.code, RUNTIME] {
            assert_eq!(
                program.fault(error, NO_FAULT, rip),
                UNEXPECTED,
                "{error:#x}"
            );
        }
    }
}

#[test]
fn an_overflow_of_the_first_stack_has_its_own_reason() {
    let program = Program::new();
    let guard = STACK_TOP - STACK_SIZE - 8;
    let overflow = FaultOutcome::End(Reason::StackOverflow as u64);
    assert_eq!(program.fault(USER | WRITE, guard, RUNTIME), overflow);
}

#[test]
fn traps_of_the_runtime_itself_end_the_keep() {
    let program = Program::new();
    for (vector, offset, signal) in [
        (vector::INVALID_OPCODE, 0, flag::SIGILL),
        (vector::DIVIDE, 16, flag::SIGFPE),
    ] {
        let mut registers = program.registers(vector, 0, program.code + offset);
        program.raise(&mut registers, NO_FAULT).unwrap();
        assert_eq!((registers.rdi, registers.r8), (signal, HANDLER));
        // The same instruction in the runtime's code, mapped there for this.
        let fixed = flag::MAP_FIXED | flag::MAP_ANONYMOUS;
        program
            .keep
            .call(nr::MMAP, &[RUNTIME & !(PAGE - 1), PAGE, RW, fixed]);
        program.keep.touch(0, RUNTIME, Some(0x0b0f));
        program.keep.touch(0, RUNTIME + 16, Some(0xf1f7));
        let rights = flag::PROT_READ | flag::PROT_EXEC;
        program
            .keep
            .call(nr::MPROTECT, &[RUNTIME & !(PAGE - 1), PAGE, rights]);
        let mut registers = program.registers(vector, 0, RUNTIME + offset);
        let fatal = program.raise(&mut registers, NO_FAULT).unwrap_err();
        assert_eq!(fatal.0.reason, Reason::Unhandled as u64);
    }
}

#[test]
fn signals_interrupt_and_return() {
    let program = Program::new();
    let before = program.registers(vector::PAGE_FAULT, USER | WRITE, program.code);
    let mut registers = before;
    program.raise(&mut registers, program.no_access).unwrap();
    let frame = registers.rsp;
    assert_eq!(
        program.keep.touch(0, frame, None),
        fake::Touch::Done(VDSO_USER + LEAVE_OFFSET),
        "the handler returns to the vDSO, not to the program's restorer"
    );
    assert!(registers.rcx.is_multiple_of(64) && registers.rcx > frame);
    assert!(registers.rcx + 2688 <= before.rsp - 128, "the red zone");
    // The vDSO calls rt_sigreturn after the handler's return.
    registers.rsp += 8;
    registers.rbx = 0;
    registers.rax = nr::RT_SIGRETURN;
    registers.vector = SYSTEM_CALL;
    assert_eq!(program.keep.call_with(0, &mut registers), After::User);
    let expected = Registers {
        vector: SYSTEM_CALL,
        error_code: registers.error_code,
        ..before
    };
    assert_eq!(registers, expected);
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Code,
    Stack,
    Fresh,
    ReadOnly,
    NoAccess,
    Unmapped,
    Other(u64),
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Code),
        Just(Place::Stack),
        Just(Place::Fresh),
        Just(Place::ReadOnly),
        Just(Place::NoAccess),
        Just(Place::Unmapped),
        prop_oneof![
            any::<u64>(),
            Just(NO_FAULT),
            Just(VDSO_USER),
            Just(SALLYPORT_USER),
            Just(RUNTIME),
            0..2 * USER_START,
            USER_END - 8..USER_END + 8,
            MMAP_START - 8..MMAP_START + 8,
            MMAP_END - 8..MMAP_END + 8,
        ]
        .prop_map(Place::Other),
    ]
}

impl Program {
    fn address(&self, place: Place, offset: u64) -> u64 {
        offset
            + match place {
                Place::Code => self.code,
                Place::Stack => self.stack,
                Place::Fresh => self.fresh,
                Place::ReadOnly => self.read_only,
                Place::NoAccess => self.no_access,
                Place::Unmapped => self.unmapped,
                Place::Other(address) => return address,
            }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the error code, the fault address and the instruction pointer are: only a page that may not be used
    /// at all, in compiled code, causes a signal; an access continues if the tables
    /// permit it.
    #[test]
    fn a_page_fault_is_judged_by_the_tables(
        error in prop_oneof![0u64..64, any::<u64>()],
        at in place(),
        offset in 0..PAGE,
        rip_at in place(),
    ) {
        let program = Program::new();
        let cr2 = program.address(at, offset);
        let rip = program.address(rip_at, 0);
        let rights = program.keep.rights(cr2);
        let became = program.fault(error, cr2, rip);
        let sane = error & USER != 0 && error & !(1 | WRITE | USER | FETCH) == 0;
        let data = sane && error & FETCH == 0 && cr2 < USER_END;
        let denied = matches!(rights, None | Some(Rights::None));
        prop_assert_eq!(became == FaultOutcome::Signal, data && denied && COMPILED.contains(&rip));
        let allowed = match rights {
            _ if !sane => false,
            None | Some(Rights::None) => false,
            Some(rights) if error & FETCH != 0 => rights == Rights::ReadExecute,
            Some(rights) if error & WRITE != 0 => rights == Rights::ReadWrite,
            Some(_) => true,
        };
        prop_assert_eq!(became == FaultOutcome::Resolved, allowed);
        program.keep.check();
    }
}
