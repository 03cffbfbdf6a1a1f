// SPDX-License-Identifier: Apache-2.0

//! The frame of a Linux x86-64 signal, as glibc and Wasmtime read it.
//!
//! The vector registers are saved and restored at CPL3, by code in the vDSO on the way to the handler and
//! back: the microkernel never loads state that user code could have changed, and uses none itself.
//!
//! Source: Linux `asm/sigcontext.h`, `asm/ucontext.h`, `asm-generic/ucontext.h`.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::registers::Registers;
use enarx_boot::layout::USER_END;

/// User code segment, with privilege level 3.
pub const USER_CS: u64 = 0x23;
/// User stack segment, with privilege level 3.
pub const USER_SS: u64 = 0x1b;

/// Offset in the vDSO of the code that saves the vector registers at RCX and calls the handler in R8.
pub const ENTER_OFFSET: u64 = 0xe00;
/// Offset in the vDSO of the code that a handler returns to: it restores the vector registers and calls
/// `rt_sigreturn`.
pub const LEAVE_OFFSET: u64 = 0xe80;
/// State components that are saved: all that a Keep's XCR0 can have (x87, SSE, AVX, AVX-512).
pub const SAVED: u32 = 0xe7;
/// Bytes of the XSAVE area of [`SAVED`] in the standard format where it is largest (Intel SDM volume 1,
/// section 13.5: the last component ends at 1664 + 1024); that of AMD's CPUs is smaller.
const SAVE_AREA: u64 = 2688;

/// Flags that user code may set itself: CF PF AF ZF SF DF OF AC ID.
pub const USER_FLAGS: u64 = 0x0024_0cd5;
/// Flags always set at CPL3: the reserved one, and IF for the kick vector.
pub const FIXED_FLAGS: u64 = 0x202;

/// Flags as they are entered at CPL3: IF on, IOPL 0, no TF, no NT.
#[must_use]
pub const fn sanitise_flags(flags: u64) -> u64 {
    (flags & USER_FLAGS) | FIXED_FLAGS
}

/// `struct rt_sigframe`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SignalFrame {
    restorer: u64,
    uc_flags: u64,
    uc_link: u64,
    stack_pointer: u64,
    stack_flags: u64,
    stack_size: u64,
    context: Context,
    mask: u64,
    info: Info,
}

/// `struct sigcontext_64`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Context {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    flags: u64,
    segments: u64,
    error_code: u64,
    vector: u64,
    old_mask: u64,
    cr2: u64,
    fpu: u64,
    reserved: [u64; 8],
}

/// `siginfo_t`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Info {
    signal: i32,
    errno: i32,
    code: i32,
    padding: i32,
    address: u64,
    rest: [u64; 13],
}

const _: () = assert!(size_of::<Context>() == 256);
const _: () = assert!(size_of::<Info>() == 128);
const _: () = assert!(size_of::<SignalFrame>() == 8 + 304 + 128);
const _: () = assert!(offset_of!(SignalFrame, context) == 8 + 40);
const _: () = assert!(offset_of!(SignalFrame, info) == 8 + 304);

/// A verified trap to deliver to the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// `SIGSEGV`, `SIGILL` or `SIGFPE`.
    pub number: u64,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
    /// Exception vector.
    pub vector: u64,
    /// Error code of the exception.
    pub error_code: u64,
}

/// An alternate signal stack (`sigaltstack`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlternateStack {
    /// Lowest address.
    pub base: u64,
    /// Size in bytes; 0 = none.
    pub size: u64,
}

impl AlternateStack {
    /// True if a stack pointer lies on it.
    #[must_use]
    pub fn contains(&self, pointer: u64) -> bool {
        pointer > self.base && pointer - self.base <= self.size
    }
}

/// Where a signal frame goes: the addresses of the frame and of the XSAVE area.
#[must_use]
pub fn place(registers: &Registers, stack: AlternateStack, use_stack: bool) -> Option<(u64, u64)> {
    let on_stack = stack.contains(registers.rsp);
    let top = if use_stack && stack.size != 0 && !on_stack {
        stack.base.checked_add(stack.size)?
    } else {
        // The red zone below the stack pointer belongs to the interrupted function.
        registers.rsp.checked_sub(128)?
    };
    let fpu = top.checked_sub(SAVE_AREA)? & !63;
    // At the entry of a function, RSP + 8 is a multiple of 16.
    let frame = (fpu.checked_sub(size_of::<SignalFrame>() as u64)? & !15).checked_sub(8)?;
    Some((frame, fpu))
}

impl SignalFrame {
    /// Offset of the `ucontext_t` in the frame.
    pub const CONTEXT_OFFSET: u64 = 8;
    /// Offset of the `siginfo_t` in the frame.
    pub const INFO_OFFSET: u64 = 8 + 304;
    /// Offset of the address of the XSAVE area from the stack pointer after the handler's return.
    pub const FPU_OFFSET: usize = offset_of!(Self, context) + offset_of!(Context, fpu) - 8;

    /// The frame for `signal`, with the interrupted registers in it.
    #[must_use]
    pub fn new(
        signal: &Signal,
        registers: &Registers,
        stack: AlternateStack,
        restorer: u64,
        fpu: u64,
    ) -> Self {
        Self {
            restorer,
            uc_flags: 0,
            uc_link: 0,
            stack_pointer: stack.base,
            stack_flags: if stack.size == 0 { 2 } else { 0 },
            stack_size: stack.size,
            context: Context {
                r8: registers.r8,
                r9: registers.r9,
                r10: registers.r10,
                r11: registers.r11,
                r12: registers.r12,
                r13: registers.r13,
                r14: registers.r14,
                r15: registers.r15,
                rdi: registers.rdi,
                rsi: registers.rsi,
                rbp: registers.rbp,
                rbx: registers.rbx,
                rdx: registers.rdx,
                rax: registers.rax,
                rcx: registers.rcx,
                rsp: registers.rsp,
                rip: registers.rip,
                flags: registers.flags,
                segments: USER_CS | (USER_SS << 48),
                error_code: signal.error_code,
                vector: signal.vector,
                old_mask: 0,
                cr2: signal.address,
                fpu,
                reserved: [0; 8],
            },
            mask: 0,
            info: Info {
                signal: i32::try_from(signal.number).unwrap_or(0),
                errno: 0,
                code: signal.code,
                padding: 0,
                address: signal.address,
                rest: [0; 13],
            },
        }
    }

    /// Restores the frame's registers, as far as user code may set them; `None` if the instruction
    /// pointer is not a user address.
    #[must_use]
    pub fn restore(&self, registers: &mut Registers) -> Option<()> {
        let c = &self.context;
        if c.rip >= USER_END {
            return None;
        }
        *registers = Registers {
            r8: c.r8,
            r9: c.r9,
            r10: c.r10,
            r11: c.r11,
            r12: c.r12,
            r13: c.r13,
            r14: c.r14,
            r15: c.r15,
            rdi: c.rdi,
            rsi: c.rsi,
            rbp: c.rbp,
            rbx: c.rbx,
            rdx: c.rdx,
            rax: c.rax,
            rcx: c.rcx,
            rsp: c.rsp,
            rip: c.rip,
            flags: sanitise_flags(c.flags),
            cs: USER_CS,
            ss: USER_SS,
            vector: registers.vector,
            error_code: registers.error_code,
        };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNAL: Signal = Signal {
        number: 11,
        code: 2,
        address: 0x5000,
        vector: 14,
        error_code: 6,
    };

    #[test]
    fn a_frame_is_aligned_and_below_the_red_zone() {
        let registers = Registers {
            rsp: 0x7000_0123,
            ..Registers::default()
        };
        let (frame, fpu) = place(&registers, AlternateStack::default(), true).unwrap();
        assert_eq!(frame % 16, 8);
        assert_eq!(fpu % 64, 0);
        assert!(frame + 440 <= fpu && fpu + SAVE_AREA <= 0x7000_0123 - 128);
        let stack = AlternateStack {
            base: 0x10_0000,
            size: 0x4000,
        };
        let (frame, _) = place(&registers, stack, true).unwrap();
        assert!(stack.contains(frame));
        let nested = Registers {
            rsp: frame,
            ..Registers::default()
        };
        assert!(place(&nested, stack, true).unwrap().0 < frame);
        assert_eq!(
            place(&Registers::default(), AlternateStack::default(), false),
            None
        );
    }

    #[test]
    fn restoring_a_frame_gives_no_privilege() {
        let mut registers = Registers {
            rip: 0x4000,
            rsp: 0x8000,
            flags: 0x246,
            r9: 77,
            ..Registers::default()
        };
        let mut frame = SignalFrame::new(&SIGNAL, &registers, AlternateStack::default(), 1, 2);
        frame.context.flags = u64::MAX;
        frame.context.segments = 0;
        frame.restore(&mut registers).unwrap();
        assert_eq!(registers.flags, USER_FLAGS | FIXED_FLAGS);
        assert_eq!(registers.flags & 0x3000, 0, "IOPL stays 0");
        assert_eq!(
            (registers.cs, registers.ss, registers.r9),
            (USER_CS, USER_SS, 77)
        );
        frame.context.rip = USER_END;
        assert_eq!(frame.restore(&mut registers), None);
        frame.context.rip = 0xffff_ffff_8000_0000;
        assert_eq!(frame.restore(&mut registers), None);
    }
}
