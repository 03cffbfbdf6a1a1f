// SPDX-License-Identifier: Apache-2.0

//! An interpreter for system call filters (classic BPF, as in seccomp(2)), to check their answers without
//! making the calls.

use seccompiler::BpfProgram;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_ALU | BPF_AND | BPF_K`, `BPF_JMP` with its comparisons, `BPF_RET | BPF_K`
/// (Linux, include/uapi/linux/bpf_common.h).
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// `AUDIT_ARCH_X86_64` (Linux, include/uapi/linux/audit.h).
const ARCHITECTURE: u32 = 0xc000_003e;

/// A filter's answer to a call: one of `libc::SECCOMP_RET_…`.
pub fn answer(program: &BpfProgram, number: i64, arguments: [u64; 6]) -> u32 {
    // `struct seccomp_data`: number, architecture, instruction pointer, arguments.
    let mut data = vec![u32::try_from(number).unwrap(), ARCHITECTURE, 0, 0];
    for argument in arguments {
        let bytes = argument.to_le_bytes();
        let (low, high) = bytes.split_at(4);
        data.extend([low, high].map(|half| u32::from_le_bytes(half.try_into().unwrap())));
    }
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let instruction = &program[at];
        let k = instruction.k;
        at += 1;
        let jump = match instruction.code {
            LOAD => {
                assert_eq!(k % 4, 0);
                accumulator = data[k as usize / 4];
                continue;
            }
            AND => {
                accumulator &= k;
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            JUMP_EQUAL => accumulator == k,
            JUMP_GREATER => accumulator > k,
            JUMP_AT_LEAST => accumulator >= k,
            JUMP_SET => accumulator & k != 0,
            RETURN => return k,
            code => panic!("an instruction that no filter has: {code:#x}"),
        };
        at += usize::from(if jump { instruction.jt } else { instruction.jf });
    }
}

/// True if a filter allows a call.
pub fn allows(program: &BpfProgram, number: i64, arguments: [u64; 6]) -> bool {
    answer(program, number, arguments) == libc::SECCOMP_RET_ALLOW
}
