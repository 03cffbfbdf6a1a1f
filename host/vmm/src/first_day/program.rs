// SPDX-License-Identifier: Apache-2.0

//! The programs of the first day's guests: a few machine instructions around VMGEXIT, in 64-bit mode, without a stack of
//! their own. They are trusted with nothing.
#![forbid(unsafe_code)]

use enarx_boot::layout::PAGE;
use enarx_exits::KICK_VECTOR;
use enarx_snp::ghcb::msr::Request;
use enarx_snp::ghcb::{MSR_GHCB, PageOperation};

/// Where the program of the first vCPU begins.
pub const CODE: u64 = 0x4000;
/// The handler of the kick vector: the guest was successful.
pub const HANDLER: u64 = CODE + 0x200;
/// Where the second vCPU begins if it is started from the page that the first one made.
pub const SECOND_CODE: u64 = CODE + 0x300;
/// Where it begins if it is started from its measured page.
pub const STRAY_CODE: u64 = CODE + 0x400;
/// The page that a guest shares to show its progress; it contains nothing else.
pub const SHARED_PAGE: u64 = 0x10_0000;

/// Reason set of these codes: one defined by the guest (56421, section 2.3.1).
const SET: u8 = 1;
/// The guest was successful.
pub const DONE: u8 = 0xa1;
/// KVM did not register the GHCB.
const NOT_REGISTERED: u8 = 0xa2;
/// RMPADJUST did not make a VMSA of the page.
const NOT_ADJUSTED: u8 = 0xa3;
/// The second vCPU runs from its measured page.
const STRAY: u8 = 0xa4;
/// The second vCPU runs from the page that the first one made.
pub const SECOND_RUNS: u8 = 0xa5;

/// The meaning of a code.
pub fn meaning(code: u8) -> &'static str {
    match code {
        DONE => "it has done what it should",
        NOT_REGISTERED => "KVM did not register its GHCB",
        NOT_ADJUSTED => "RMPADJUST did not make a VMSA of its page",
        STRAY => {
            "the second vCPU was started from its measured page, not from the one that the first vCPU made"
        }
        SECOND_RUNS => "the second vCPU runs",
        _ => "of no meaning here",
    }
}

/// The code with which a guest ended itself, if it is one of these.
pub fn code_of(value: u64) -> Option<u8> {
    match Request::decode(value) {
        Some(Request::Terminate { set: SET, reason }) => Some(reason),
        _ => None,
    }
}

/// Machine instructions (AMD64 APM volume 3).
pub struct Program(Vec<u8>);

impl Program {
    const fn new() -> Self {
        Self(Vec::new())
    }

    fn then(mut self, instructions: &[u8]) -> Self {
        self.0.extend_from_slice(instructions);
        self
    }

    /// Puts a number into EAX.
    fn eax(self, number: u32) -> Self {
        self.then(&[0xb8]).then(&number.to_le_bytes())
    }

    /// Puts a number into ECX.
    fn ecx(self, number: u32) -> Self {
        self.then(&[0xb9]).then(&number.to_le_bytes())
    }

    /// Puts a number into EDX.
    fn edx(self, number: u32) -> Self {
        self.then(&[0xba]).then(&number.to_le_bytes())
    }

    /// WRMSR of the GHCB MSR, and VMGEXIT.
    fn say(self, request: Request) -> Self {
        let value = request.encode();
        let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0);
        self.ecx(MSR_GHCB)
            .eax(half(value))
            .edx(half(value >> 32))
            .then(&[0x0f, 0x30])
            .then(&[0xf3, 0x0f, 0x01, 0xd9])
    }

    /// Ends the guest.
    fn end(self, reason: u8) -> Self {
        let set = SET;
        self.say(Request::Terminate { set, reason }).then(&[0xf4])
    }

    /// Ends the guest with this code unless EAX has this number.
    fn require_eax(self, number: u32, code: u8) -> Self {
        let end = Self::new().end(code).0;
        let over = u8::try_from(end.len()).unwrap_or(u8::MAX);
        // CMP EAX, and JE over the end.
        self.then(&[0x3d])
            .then(&number.to_le_bytes())
            .then(&[0x74, over])
            .then(&end)
    }

    /// Shares [`SHARED_PAGE`].
    fn share(self) -> Self {
        self.say(Request::PageState {
            gfn: SHARED_PAGE / PAGE,
            operation: PageOperation::Shared,
        })
    }

    /// Registers the GHCB at `gpa`, below 4 GiB, and sees that KVM did it.
    fn register(self, gpa: u64) -> Self {
        let response = u32::try_from(gpa | 0x013).unwrap_or(u32::MAX);
        // RDMSR.
        self.say(Request::RegisterGhcb { gfn: gpa / PAGE })
            .then(&[0x0f, 0x32])
            .require_eax(response, NOT_REGISTERED)
    }

    /// A program that shares a page and ends.
    pub fn shares_and_ends() -> Self {
        Self::new().share().end(DONE)
    }

    /// A program that registers its GHCB at `gpa`, makes the request in it, and ends.
    pub fn registers_and_exits(gpa: u64) -> Self {
        Self::new()
            .register(gpa)
            .say(Request::Ghcb { gpa })
            .end(DONE)
    }

    /// A program that makes a VMSA of the page at `vmsa`, below 4 GiB, then as [`Self::registers_and_exits`], but shares a
    /// page before it ends.
    pub fn starts_second(gpa: u64, vmsa: u64) -> Self {
        /// VMPL 1 as the target, without rights, and the page becomes a VMSA (AMD64 APM volume 3, RMPADJUST).
        const VMSA_OF_VMPL_1: u32 = 1 << 16 | 1;
        Self::new()
            .register(gpa)
            .eax(u32::try_from(vmsa).unwrap_or(u32::MAX))
            .ecx(0)
            .edx(VMSA_OF_VMPL_1)
            .then(&[0xf3, 0x0f, 0x01, 0xfe])
            .require_eax(0, NOT_ADJUSTED)
            .say(Request::Ghcb { gpa })
            .share()
            .end(DONE)
    }

    /// A program that shares a page and waits for an interrupt. Interrupts are on before, or after.
    pub fn waits_with_interrupts(on: bool) -> Self {
        const STI: &[u8] = &[0xfb];
        /// JMP to itself.
        const WAIT: &[u8] = &[0xeb, 0xfe];
        let program = Self::new();
        if on {
            program.then(STI).share().then(WAIT)
        } else {
            program.share().then(STI).then(WAIT)
        }
    }

    /// The page at [`CODE`]: this program, the handler, and the second vCPU's code.
    pub fn page(&self) -> Vec<u8> {
        let mut page = vec![0xcc; 4096];
        for (start, program) in [
            (CODE, self),
            (HANDLER, &Self::new().end(DONE)),
            (SECOND_CODE, &Self::new().end(SECOND_RUNS)),
            (STRAY_CODE, &Self::new().end(STRAY)),
        ] {
            let at = usize::try_from(start - CODE).unwrap_or(0);
            for (byte, value) in page.iter_mut().skip(at).zip(&program.0) {
                *byte = *value;
            }
        }
        page
    }
}

/// The interrupt descriptor table: a gate for the kick vector (AMD64 APM volume 2, section 4.8.4).
pub fn interrupts() -> Vec<u8> {
    /// A present 64-bit interrupt gate.
    const GATE: u8 = 0x8e;
    let mut table = vec![0; 16 * usize::from(KICK_VECTOR)];
    // Bits 15:0 of the address; code segment, no other stack, kind; bits 63:16; reserved.
    let address = HANDLER.to_le_bytes();
    let (low, high) = address.split_at(2);
    table.extend([low, &[0x08, 0, 0, GATE], high, &[0; 4]].concat());
    table
}

/// The global descriptor table: code at 0x08, data at 0x10 (AMD64 APM volume 2, section 4.8).
pub fn segments() -> Vec<u8> {
    [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffffu64]
        .map(u64::to_le_bytes)
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_matches_the_known_bytes() {
        // As GNU as writes it.
        let known = [
            0xb9, 0x30, 0x01, 0x01, 0xc0, // mov ecx, 0xc0010130
            0xb8, 0x14, 0x00, 0x10, 0x00, // mov eax, 0x100014
            0xba, 0x00, 0x00, 0x20, 0x00, // mov edx, 0x200000
            0x0f, 0x30, // wrmsr
            0xf3, 0x0f, 0x01, 0xd9, // vmgexit
            0xb9, 0x30, 0x01, 0x01, 0xc0, // mov ecx, 0xc0010130
            0xb8, 0x00, 0x11, 0xa1, 0x00, // mov eax, 0xa11100
            0xba, 0x00, 0x00, 0x00, 0x00, // mov edx, 0
            0x0f, 0x30, // wrmsr
            0xf3, 0x0f, 0x01, 0xd9, // vmgexit
            0xf4, // hlt
        ];
        assert_eq!(Program::shares_and_ends().0, known);
    }

    #[test]
    fn parts_do_not_overlap_and_jumps_land_behind_the_end() {
        for program in [
            Program::shares_and_ends(),
            Program::registers_and_exits(0x20_0000),
            Program::starts_second(0x20_0000, 0xa000),
            Program::waits_with_interrupts(true),
            Program::waits_with_interrupts(false),
        ] {
            assert!(program.0.len() <= 0x200);
        }
        let end = Program::new().end(NOT_REGISTERED).0;
        assert!(end.len() <= 0x100);
        let program = Program::registers_and_exits(0x20_0000).0;
        let at = program
            .windows(2)
            .position(|pair| pair == [0x0f, 0x32])
            .unwrap();
        // RDMSR, CMP EAX with the response, JE.
        let compare = [0x0f, 0x32, 0x3d, 0x13, 0x00, 0x20, 0x00, 0x74, 22];
        assert_eq!(program[at..at + 9], compare);
        assert_eq!(program[at + 9..][..end.len()], end);
        assert_eq!(end.len(), 22);
        assert_eq!(code_of(0x00a2_1100), Some(NOT_REGISTERED));
        assert_eq!(code_of(0x00a2_0100), None, "a code of the protocol's own");
    }

    #[test]
    fn the_gate_leads_to_the_handler() {
        let table = interrupts();
        let gate = &table[16 * usize::from(KICK_VECTOR)..];
        let address = [gate[0], gate[1], gate[6], gate[7], 0, 0, 0, 0];
        assert_eq!(u64::from_le_bytes(address), HANDLER);
        assert_eq!((gate.len(), gate[2], gate[5]), (16, 8, 0x8e));
        assert_eq!(segments().len(), 24);
    }
}
