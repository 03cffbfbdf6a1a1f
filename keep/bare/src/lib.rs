// SPDX-License-Identifier: Apache-2.0

//! The part of a C library that compiled Rust needs, for programs of a Keep that have none: memory
//! functions, written with string instructions.
//!
//! Trusted and measured as a part of the programs that link it. In tests they have other names, because
//! otherwise they would replace those of the C library.

#![expect(unsafe_code, reason = "the memory functions take raw pointers")]
#![cfg_attr(not(test), no_std)]

use core::arch::naked_asm;

/// `memcpy` (and `memmove` for non-overlapping or forward copies).
///
/// # Safety
/// As the C library's.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
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
///
/// # Safety
/// As the C library's.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
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
///
/// # Safety
/// As the C library's.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
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
///
/// # Safety
/// As the C library's.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    naked_asm!(
        "mov rcx, rdx",
        "xor eax, eax",
        "test rcx, rcx",
        "jz 2f",
        "repe cmpsb",
        "je 2f",
        "movzx eax, byte ptr [rdi - 1]",
        "movzx ecx, byte ptr [rsi - 1]",
        "sub eax, ecx",
        "2:",
        "ret"
    )
}

/// `bcmp`.
///
/// # Safety
/// As the C library's.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[unsafe(naked)]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    naked_asm!("jmp {}", sym memcmp)
}

/// Named by the precompiled `core`; nothing unwinds here (panic = abort).
#[cfg(not(test))]
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

#[cfg(test)]
mod tests {
    //! The memory functions behave like those of `core`, on any input.
    use std::cmp::Ordering;

    use super::{bcmp, memcmp, memcpy, memmove, memset};
    use proptest::prelude::*;

    /// Bytes around a target, which must stay as they are.
    const GUARD: usize = 16;

    fn guarded(length: usize) -> Vec<u8> {
        vec![0xa5; length + 2 * GUARD]
    }

    fn check_guards(buffer: &[u8]) {
        let (before, rest) = buffer.split_at(GUARD);
        let (_, after) = rest.split_at(rest.len() - GUARD);
        assert!(before.iter().chain(after).all(|&byte| byte == 0xa5));
    }

    fn order(result: i32) -> Ordering {
        result.cmp(&0)
    }

    fn compare(a: &[u8], b: &[u8]) {
        let length = a.len().min(b.len());
        // SAFETY: both slices have this many bytes.
        let (compared, same) = unsafe {
            (
                memcmp(a.as_ptr(), b.as_ptr(), length),
                bcmp(a.as_ptr(), b.as_ptr(), length),
            )
        };
        assert_eq!(
            order(compared),
            a[..length].cmp(&b[..length]),
            "{a:x?} {b:x?}"
        );
        assert_eq!(same == 0, a[..length] == b[..length]);
    }

    #[test]
    fn every_pair_of_bytes_is_compared_correctly() {
        for a in 0..=255u8 {
            for b in 0..=255 {
                compare(&[a], &[b]);
                compare(&[7, a, 255], &[7, b, 0]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn comparing(
            a in prop::collection::vec(any::<u8>(), 0..100),
            b in prop::collection::vec(any::<u8>(), 0..100),
            same in 0usize..100,
        ) {
            compare(&a, &b);
            // Equal up to some position.
            let mut b = b;
            let same = same.min(a.len()).min(b.len());
            b[..same].copy_from_slice(&a[..same]);
            compare(&a, &b);
            compare(&a, &a);
        }

        #[test]
        fn copying(from in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..8) {
            let from = &from[at.min(from.len())..];
            let mut to = guarded(from.len());
            // SAFETY: the target has this many bytes after the guard; the two are different vectors.
            let result = unsafe {
                memcpy(to[GUARD..].as_mut_ptr(), from.as_ptr(), from.len())
            };
            prop_assert_eq!(result.cast_const(), to[GUARD..].as_ptr());
            prop_assert_eq!(&to[GUARD..GUARD + from.len()], from);
            check_guards(&to);
        }

        #[test]
        fn moving(
            bytes in prop::collection::vec(any::<u8>(), 1..300),
            from in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
            length in any::<prop::sample::Index>(),
        ) {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let length = length.index(bytes.len() - from.max(to) + 1);
            let mut expected = bytes.clone();
            expected.copy_within(from..from + length, to);
            let mut moved = bytes;
            let base = moved.as_mut_ptr();
            // SAFETY: both ranges lie in the vector; they may overlap.
            let result = unsafe { memmove(base.add(to), base.add(from).cast_const(), length) };
            prop_assert_eq!(result, moved[to..].as_mut_ptr());
            prop_assert_eq!(moved, expected);
        }

        #[test]
        fn filling(length in 0usize..300, at in 0usize..8, value in any::<i32>()) {
            let mut to = guarded(length + at);
            // SAFETY: the target has this many bytes after the guard.
            let result = unsafe { memset(to[GUARD + at..].as_mut_ptr(), value, length) };
            prop_assert_eq!(result.cast_const(), to[GUARD + at..].as_ptr());
            let byte = value.to_le_bytes()[0];
            prop_assert!(to[GUARD + at..GUARD + at + length].iter().all(|&b| b == byte));
            check_guards(&to);
        }
    }
}
