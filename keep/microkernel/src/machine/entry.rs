// SPDX-License-Identifier: Apache-2.0

//! Entries into the microkernel: boot, exceptions, SYSCALL; and the one way out.
//!
//! Every IDT entry switches to the top of the vCPU's kernel stack (IST1 = RSP0), so that an
//! exception which a host injects while the SYSCALL entry still has the user's stack pointer does
//! no harm: it comes from CPL0 and ends the Keep.

#![expect(unsafe_code, reason = "the entries are assembly")]

use core::arch::global_asm;
use core::mem::offset_of;

use enarx_boot::boot_page::{IMAGE_MAGIC, VECTOR_STRIDE, VECTORS};
use enarx_boot::layout::{EXIT_VIRTUAL, STACK_RECORD, USER_END};
use enarx_exits::{COUNTERS_OFFSET, ExitFunction, PORT, Reason};
use enarx_microkernel::kind::HAS_SNP;
use enarx_microkernel::registers::{Registers, SYSTEM_CALL, vector};
use enarx_microkernel::signal::{FIXED_FLAGS, USER_CS, USER_FLAGS, USER_SS};
use enarx_snp::ghcb::MSR_GHCB;
use enarx_syscall as nr;

use super::symbols::{DOORBELL, SYSCALL_PAGE};

global_asm!(
    r#"
    // The registers of `Registers` that the CPU does not push.
    .macro push_registers
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    .endm
    .macro pop_registers
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    .endm

    .section .header, "ax"
    .quad {image_magic}
    .quad enarx_entry
    .quad enarx_syscall
    .quad enarx_vectors
    .quad enarx_user_code
    .quad enarx_user_data
    .quad enarx_boot_page
    .quad enarx_unexpected_vcpu

    .section .entry, "ax"
    .balign 16
    .globl enarx_entry
enarx_entry:
    // RSP is below the stack record, RDI the number of this vCPU.
    sub rsp, {registers_size}
    mov rsi, rdi
    mov rdi, rsp
    call {boot}
    jmp enarx_return

    // A vCPU in its launch state that only the host has started: the launch measures one for each,
    // but the microkernel writes the state of those that it starts itself. There is no stack here.
    .balign 16
enarx_unexpected_vcpu:
    mov ecx, {msr_ghcb}
    mov eax, {unexpected}
    xor edx, edx
    wrmsr
    rep vmmcall
    jmp enarx_unexpected_vcpu

    .balign {vector_stride}
enarx_vectors:
    .set vector, 0
    .rept {vectors}
    .balign {vector_stride}
    // #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX push an error code.
    .if {detour} && vector == {invalid_opcode}
    jmp enarx_invalid_opcode
    .elseif (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push 0
    .endif
    push vector
    jmp enarx_exception
    .set vector, vector + 1
    .endr

    // A system call on hosts where SYSCALL raises no privilege: it goes to the system-call page, whose
    // instruction is invalid, with RCX and R11 as SYSCALL left them. A program can jump there with any
    // RCX; where that is no user address, the jump is the invalid opcode that it looks like. No page
    // is address 0, where no instruction is. Not under SEV-SNP, where a host can inject the exception anywhere.
    .if {detour}
    .balign 16
enarx_invalid_opcode:
    push rdx
    mov rdx, [rip + {system_call_page}]
    cmp rdx, [rsp + 8]
    jne 1f
    movabs rdx, {user_end}
    cmp rcx, rdx
    jae 1f
    // Known flags, as below.
    push 2
    popfq
    mov [rsp + 8], rcx
    mov [rsp + 24], r11
    .if {plain}
    cmp rax, {ring}
    je 3f
    .endif
2:
    pop rdx
    push 0
    push {system_call_vector}
    push_registers
    mov rdi, rsp
    call {system_call}
    jmp enarx_return
    // The doorbell: the one call that a program makes thousands of times a second, on hosts where
    // every instruction at CPL0 counts. Under plain KVM only: on the simulated platform it goes through
    // the GHCB, the whole way. It changes nothing in here, so the vCPU counts as one in user code
    // throughout; it does not sleep.
    .if {plain}
3:
    cmp byte ptr [rip + {doorbell}], 0
    je 2b
    lock inc qword ptr [{counter}]
    mov edx, r11d
    and edx, {user_flags}
    or edx, {fixed_flags}
    mov [rsp + 24], rdx
    mov edx, {port}
    mov eax, {ring_function}
    out dx, eax
    xor eax, eax
    pop rdx
    iretq
    .endif
1:
    pop rdx
    push 0
    push {invalid_opcode}
    jmp enarx_exception
    .endif

    .balign 16
enarx_exception:
    push_registers
    // Known flags: an interrupt gate keeps the user's DF, AC and NT.
    push 2
    popfq
    mov rdi, rsp
    call {exception}
enarx_return:
    pop_registers
    add rsp, 16
    iretq

    .balign 16
enarx_syscall:
    swapgs
    mov gs:[8], rsp
    mov rsp, gs:[0]
    push {user_ss}
    push gs:[8]
    swapgs
    push r11
    push {user_cs}
    push rcx
    push 0
    push {system_call_vector}
    push_registers
    mov rdi, rsp
    call {system_call}
    // SYSRET cannot enter what SYSCALL did not leave: only a signal's return or a new thread does.
    mov rcx, [rsp + {rip}]
    cmp rcx, [rsp + {rcx}]
    jne enarx_return
    mov rcx, [rsp + {flags}]
    cmp rcx, [rsp + {r11}]
    jne enarx_return
    pop_registers
    // RCX and R11 are SYSCALL's to destroy; the instruction pointer is a checked user address.
    mov rcx, [rsp + 16]
    mov r11, [rsp + 32]
    mov rsp, [rsp + 40]
    sysretq

    .section .boot_page, "a"
    .globl enarx_boot_page
enarx_boot_page:
    .skip 4096
    "#,
    image_magic = const IMAGE_MAGIC,
    registers_size = const size_of::<Registers>(),
    rip = const offset_of!(Registers, rip),
    rcx = const offset_of!(Registers, rcx),
    flags = const offset_of!(Registers, flags),
    r11 = const offset_of!(Registers, r11),
    vector_stride = const VECTOR_STRIDE,
    vectors = const VECTORS,
    user_cs = const USER_CS,
    user_ss = const USER_SS,
    system_call_vector = const SYSTEM_CALL,
    invalid_opcode = const vector::INVALID_OPCODE,
    detour = const DETOUR,
    plain = const !HAS_SNP as u8,
    ring = const nr::RING,
    system_call_page = sym SYSCALL_PAGE,
    doorbell = sym DOORBELL,
    user_end = const USER_END,
    counter = const EXIT_VIRTUAL + COUNTERS_OFFSET as u64,
    user_flags = const USER_FLAGS,
    fixed_flags = const FIXED_FLAGS,
    port = const PORT,
    ring_function = const ExitFunction::Ring as u32,
    boot = sym crate::boot,
    exception = sym crate::exception,
    system_call = sym crate::call,
    msr_ghcb = const MSR_GHCB,
    unexpected = const TERMINATE_UNEXPECTED,
);

/// System calls may arrive as invalid opcodes.
const DETOUR: u8 = cfg!(any(feature = "plain", feature = "simulated")) as u8;

// Immediates of 64-bit instructions are sign-extended 32-bit ones.
const _: () = assert!(nr::RING < 1 << 31 && USER_FLAGS < 1 << 31 && FIXED_FLAGS < 1 << 31);

// The entry pushes whole registers below the record; RSP must be 16-byte aligned at each call.
const _: () = assert!(size_of::<Registers>().is_multiple_of(16) && STACK_RECORD.is_multiple_of(16));

/// The GHCB MSR protocol's request to terminate (56421 section 2.3.1): 100h, reason set 1, the
/// reason in bits 23:16.
const TERMINATE_UNEXPECTED: u32 = 0x100 | (1 << 12) | ((Reason::Vcpu as u32) << 16);
