//! What compiled Rust expects of a C library, for programs of a Keep that have none: memory
//! functions, written with string instructions.
//!
//! Trusted and measured as a part of the programs that link it.
#![no_std]

use core::arch::naked_asm;

/// `memcpy` (and `memmove` for non-overlapping or forward copies).
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "mov ecx, edx",
        "and ecx, 7",
        "rep movsb",
        "ret"
    )
}

/// `memmove`.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdx",
        "mov r8, rdi",
        "sub r8, rsi",
        "cmp r8, rdx",
        "jb 2f",
        "rep movsb",
        "ret",
        "2:",
        "lea rdi, [rdi + rcx - 1]",
        "lea rsi, [rsi + rcx - 1]",
        "std",
        "rep movsb",
        "cld",
        "ret"
    )
}

/// `memset`.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    naked_asm!(
        "mov r8, rdi",
        "movzx eax, sil",
        "mov rcx, 0x0101010101010101",
        "imul rax, rcx",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep stosq",
        "mov ecx, edx",
        "and ecx, 7",
        "rep stosb",
        "mov rax, r8",
        "ret"
    )
}

/// `memcmp`, and `bcmp` by the same code.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    naked_asm!(
        "mov rcx, rdx",
        "xor eax, eax",
        "test rcx, rcx",
        "jz 2f",
        "repe cmpsb",
        "je 2f",
        "movzx eax, byte ptr [rdi - 1]",
        "movzx ecx, byte ptr [rsi - 1]",
        "sub ecx, eax",
        "mov eax, ecx",
        "2:",
        "ret"
    )
}

/// `bcmp`.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    naked_asm!("jmp {}", sym memcmp)
}

/// Named by the precompiled `core`; nothing unwinds here (panic = abort).
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}
