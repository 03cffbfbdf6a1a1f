// SPDX-License-Identifier: Apache-2.0

//! The user pages of the microkernel: a vDSO with `__vdso_clock_gettime`, so that reading the
//! clock is no system call, the code around signal handlers, the invalid opcode that stands for SYSCALL
//! on `kvm_pvm`, and the clock page.
//!
//! The vDSO is an ELF image written out by the assembler; glibc finds it by `AT_SYSINFO_EHDR` and
//! the symbol by `DT_HASH`. The clock page holds, as 64-bit words: counter at boot, multiplier
//! (nanoseconds per tick in 2^-32), wall-clock time at boot, last monotonic time given out.

#![expect(unsafe_code, reason = "the vDSO is assembly")]

use core::arch::global_asm;

use enarx_boot::boot_page::SYSCALL_OFFSET;
use enarx_microkernel::clock::MOST;
use enarx_microkernel::signal::{ENTER_OFFSET, LEAVE_OFFSET, SAVED, SignalFrame};
use enarx_syscall as nr;

global_asm!(
    r#"
    .section .user, "ax"
    .balign 4096
    .globl enarx_user_code
enarx_user_code:
    // ELF header: 64-bit, little-endian, ET_DYN, x86-64.
    .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0
    .quad 0
    .short 3, 62
    .long 1
    .quad 0, 64, 0
    .long 0
    .short 64, 56, 2, 0, 0, 0
    // PT_LOAD: the page, read and execute.
    .long 1, 5
    .quad 0, 0, 0, 4096, 4096, 4096
    // PT_DYNAMIC.
    .long 2, 4
    .quad vdso_dynamic - enarx_user_code, vdso_dynamic - enarx_user_code, vdso_dynamic - enarx_user_code
    .quad vdso_dynamic_end - vdso_dynamic, vdso_dynamic_end - vdso_dynamic, 8
vdso_dynamic:
    .quad 4, vdso_hash - enarx_user_code       // DT_HASH
    .quad 5, vdso_strings - enarx_user_code    // DT_STRTAB
    .quad 6, vdso_symbols - enarx_user_code    // DT_SYMTAB
    .quad 10, vdso_strings_end - vdso_strings  // DT_STRSZ
    .quad 11, 24                               // DT_SYMENT
    .quad 14, 1                                // DT_SONAME
    .quad 0x6ffffff0, vdso_versions - enarx_user_code     // DT_VERSYM
    .quad 0x6ffffffc, vdso_definitions - enarx_user_code  // DT_VERDEF
    .quad 0x6ffffffd, 2                        // DT_VERDEFNUM
    .quad 0, 0
vdso_dynamic_end:
vdso_hash:
    .long 1, 2, 1, 0, 0
vdso_strings:
    .byte 0
    .asciz "linux-vdso.so.1"
vdso_name:
    .asciz "__vdso_clock_gettime"
vdso_version_name:
    .asciz "LINUX_2.6"
vdso_strings_end:
    .balign 8
vdso_symbols:
    .quad 0, 0, 0
    .long vdso_name - vdso_strings
    .byte 0x12, 0
    .short 1
    .quad vdso_clock_gettime - enarx_user_code, vdso_end - vdso_clock_gettime
vdso_versions:
    .short 0, 2
    .balign 4
vdso_definitions:
    .short 1, 1, 1, 1
    .long 0x0, 20, 28
    .long 1, 0
    .short 1, 0, 2, 1
    .long 0x3ae75f6, 20, 0
    .long vdso_version_name - vdso_strings, 0

    // int clock_gettime(clockid_t clock = EDI, struct timespec *time = RSI)
    .balign 16
vdso_clock_gettime:
    cmp edi, 1
    ja 2f
    lfence
    rdtsc
    shl rdx, 32
    or rax, rdx
    // A counter before the start (another vCPU's, or a lying host's) is the start.
    xor ecx, ecx
    sub rax, [rip + enarx_user_data]
    cmovc rax, rcx
    mul qword ptr [rip + enarx_user_data + 8]
    shrd rax, rdx, 32
    // Bounded, whatever the host makes of the counter.
    movabs rcx, {most}
    shr rdx, 32
    cmovnz rax, rcx
    cmp rax, rcx
    cmova rax, rcx
    // Never back: not even when the host changes the counter, not between threads, not after a system call.
    mov rcx, rax
    mov rax, [rip + enarx_user_data + 24]
3:  cmp rcx, rax
    jbe 4f
    lock cmpxchg [rip + enarx_user_data + 24], rcx
    jne 3b
    mov rax, rcx
4:  test edi, edi
    jnz 1f
    add rax, [rip + enarx_user_data + 16]
1:  xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [rsi], rax
    mov [rsi + 8], rdx
    xor eax, eax
    ret
2:  mov eax, 228
    syscall
    ret
vdso_end:

    // On the way to a signal handler, with its arguments in RDI, RSI and RDX: the vector registers are
    // saved at RCX, where the header after the legacy area must be zero; then R8 is entered.
    .org enarx_user_code + {enter_offset}
    xor eax, eax
    .irp offset, 512, 520, 528, 536, 544, 552, 560, 568
    mov [rcx + \offset], rax
    .endr
    mov r9, rdx
    mov eax, {saved}
    xor edx, edx
    xsave64 [rcx]
    mov rdx, r9
    xor eax, eax
    jmp r8

    // Where the handler returns to.
    .org enarx_user_code + {leave_offset}
    mov rcx, [rsp + {fpu_offset}]
    mov eax, {saved}
    xor edx, edx
    xrstor64 [rcx]
    mov eax, {sigreturn}
    syscall
    ud2

    .org enarx_user_code + {syscall_offset}
    ud2

    .section .user_data, "aw"
    .balign 4096
    .globl enarx_user_data
enarx_user_data:
    .skip 4096
    "#,
    syscall_offset = const SYSCALL_OFFSET,
    most = const MOST,
    enter_offset = const ENTER_OFFSET,
    leave_offset = const LEAVE_OFFSET,
    fpu_offset = const SignalFrame::FPU_OFFSET,
    saved = const SAVED,
    sigreturn = const nr::RT_SIGRETURN,
);
