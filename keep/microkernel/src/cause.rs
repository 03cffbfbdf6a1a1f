// SPDX-License-Identifier: Apache-2.0

//! Verifies that an exception at CPL3 has the cause it claims, by looking at the instruction.
//!
//! A host can inject any exception (Heckler, WeSee). The runtime must see a trap only where the
//! CPU, executing these very bytes with these very registers, would have raised it.

use crate::registers::Registers;

/// Longest x86 instruction, in bytes (AMD64 APM volume 3, section 1.1).
pub const MAX_INSTRUCTION: usize = 15;

/// True if the code bytes at the instruction pointer are `ud2` (0F 0B).
#[must_use]
pub fn is_ud2(code: &[u8]) -> bool {
    code.starts_with(&[0x0f, 0x0b])
}

/// True if the code bytes are a DIV or IDIV that raises #DE with these registers.
///
/// `load` reads a little-endian operand of 1, 2, 4 or 8 bytes from user memory. Anything that
/// cannot be decoded or read is "no".
pub fn divide_error(
    code: &[u8],
    registers: &Registers,
    load: impl FnOnce(u64, usize) -> Option<u64>,
) -> bool {
    raises_divide_error(code, registers, load).unwrap_or(false)
}

/// The general register of a number in instruction encoding order.
fn register(registers: &Registers, number: u8) -> u64 {
    match number & 15 {
        0 => registers.rax,
        1 => registers.rcx,
        2 => registers.rdx,
        3 => registers.rbx,
        4 => registers.rsp,
        5 => registers.rbp,
        6 => registers.rsi,
        7 => registers.rdi,
        8 => registers.r8,
        9 => registers.r9,
        10 => registers.r10,
        11 => registers.r11,
        12 => registers.r12,
        13 => registers.r13,
        14 => registers.r14,
        _ => registers.r15,
    }
}

fn raises_divide_error(
    code: &[u8],
    registers: &Registers,
    load: impl FnOnce(u64, usize) -> Option<u64>,
) -> Option<bool> {
    let mut bytes = Bytes { code, at: 0 };
    let mut byte = bytes.next()?;
    let mut operand16 = false;
    if byte == 0x66 {
        operand16 = true;
        byte = bytes.next()?;
    }
    let mut rex = 0;
    if byte & 0xf0 == 0x40 {
        rex = byte;
        byte = bytes.next()?;
    }
    let size = match byte {
        0xf6 => 1,
        0xf7 if rex & 8 != 0 => 8,
        0xf7 if operand16 => 2,
        0xf7 => 4,
        _ => return None,
    };
    let modrm = bytes.next()?;
    let signed = match (modrm >> 3) & 7 {
        6 => false,
        7 => true,
        _ => return None,
    };
    let divisor = if modrm >> 6 == 3 {
        let number = (modrm & 7) | ((rex & 1) << 3);
        if size == 1 && rex == 0 && number >= 4 {
            register(registers, number - 4) >> 8
        } else {
            register(registers, number)
        }
    } else {
        let address = bytes.address(modrm, rex, registers)?;
        load(address, size)?
    };
    let bits = u32::try_from(size * 8).ok()?;
    let mask = u64::MAX >> (64 - bits);
    let divisor = divisor & mask;
    let dividend = if size == 1 {
        u128::from(registers.rax & 0xffff)
    } else {
        (u128::from(registers.rdx & mask) << bits) | u128::from(registers.rax & mask)
    };
    Some(if signed {
        let extend = |value: u128, bits: u32| (value << (128 - bits)).cast_signed() >> (128 - bits);
        let dividend = extend(dividend, bits * 2);
        let divisor = extend(divisor.into(), bits);
        match dividend.checked_div(divisor) {
            None => true,
            Some(quotient) => extend(quotient.cast_unsigned(), bits) != quotient,
        }
    } else {
        divisor == 0 || dividend / u128::from(divisor) > u128::from(mask)
    })
}

struct Bytes<'a> {
    code: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = *self.code.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn displacement(&mut self, size: usize) -> Option<u64> {
        let bytes = self.code.get(self.at..self.at + size)?;
        self.at += size;
        Some(
            match *bytes {
                [byte] => i64::from(byte.cast_signed()),
                [a, b, c, d] => i64::from(i32::from_le_bytes([a, b, c, d])),
                _ => 0,
            }
            .cast_unsigned(),
        )
    }

    /// The effective address of a memory operand (AMD64 APM volume 3, section 1.4).
    fn address(&mut self, modrm: u8, rex: u8, registers: &Registers) -> Option<u64> {
        let mode = modrm >> 6;
        let rm = modrm & 7;
        let mut address: u64;
        if rm == 4 {
            let sib = self.next()?;
            let index = ((sib >> 3) & 7) | ((rex & 2) << 2);
            address = 0;
            if index != 4 {
                address = register(registers, index) << (sib >> 6);
            }
            if sib & 7 == 5 && mode == 0 {
                return Some(address.wrapping_add(self.displacement(4)?));
            }
            address = address.wrapping_add(register(registers, (sib & 7) | ((rex & 1) << 3)));
        } else if rm == 5 && mode == 0 {
            let displacement = self.displacement(4)?;
            let next = registers.rip.wrapping_add(u64::try_from(self.at).ok()?);
            return Some(next.wrapping_add(displacement));
        } else {
            address = register(registers, rm | ((rex & 1) << 3));
        }
        match mode {
            1 => address = address.wrapping_add(self.displacement(1)?),
            2 => address = address.wrapping_add(self.displacement(4)?),
            _ => {}
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never(_: u64, _: usize) -> Option<u64> {
        panic!("no memory operand here")
    }

    #[test]
    fn only_ud2_is_recognized() {
        assert!(is_ud2(&[0x0f, 0x0b, 0x90]));
        for code in [&[0x0f][..], &[0x0b, 0x0f], &[0x0f, 0xff], &[]] {
            assert!(!is_ud2(code));
        }
    }

    #[test]
    fn register_divisors() {
        let mut r = Registers {
            rax: 10,
            rcx: 0,
            ..Registers::default()
        };
        assert!(divide_error(&[0xf7, 0xf1], &r, never), "div ecx, ecx = 0");
        r.rcx = 3;
        assert!(
            !divide_error(&[0xf7, 0xf1], &r, never),
            "10 / 3 is fine: an injected #DE"
        );
        r.rdx = 3;
        assert!(
            divide_error(&[0xf7, 0xf1], &r, never),
            "quotient does not fit"
        );
        // idiv r9 with MIN / -1.
        let r = Registers {
            rax: 1 << 63,
            rdx: u64::MAX,
            r9: u64::MAX,
            ..Registers::default()
        };
        assert!(divide_error(&[0x49, 0xf7, 0xf9], &r, never));
        let r = Registers {
            rax: 7,
            rdx: 0,
            r9: u64::MAX,
            ..Registers::default()
        };
        assert!(!divide_error(&[0x49, 0xf7, 0xf9], &r, never));
        // idiv ecx: only the low halves count.
        let r = Registers {
            rax: 0xdead_0000_8000_0000,
            rdx: 0xffff_ffff,
            rcx: 0xffff_ffff,
            ..Registers::default()
        };
        assert!(divide_error(&[0xf7, 0xf9], &r, never));
        // div ah: AH is 0 here.
        let r = Registers {
            rax: 0x0005,
            ..Registers::default()
        };
        assert!(divide_error(&[0xf6, 0xf4], &r, never));
    }

    #[test]
    fn memory_divisors() {
        let r = Registers {
            rax: 1,
            rbp: 0x1000,
            rsi: 2,
            rip: 0x400,
            ..Registers::default()
        };
        let expect = |address: u64, size: usize, value: u64| {
            move |a: u64, s: usize| {
                assert_eq!((a, s), (address, size));
                Some(value)
            }
        };
        assert!(
            divide_error(&[0xf7, 0x75, 0xf8], &r, expect(0xff8, 4, 0)),
            "div [rbp-8]"
        );
        assert!(
            divide_error(&[0x48, 0xf7, 0x7c, 0x75, 0x10], &r, expect(0x1014, 8, 0)),
            "idiv qword [rbp+rsi*2+16]"
        );
        assert!(
            divide_error(&[0xf7, 0x35, 4, 0, 0, 0], &r, expect(0x40a, 4, 0)),
            "div [rip+4]"
        );
        assert!(
            !divide_error(&[0xf7, 0x75, 0xf8], &r, |_, _| None),
            "unreadable operand"
        );
    }

    #[test]
    fn other_instructions_raise_nothing() {
        let r = Registers::default();
        for code in [
            &[0xf7, 0xe1][..],
            &[0x90],
            &[0xf7],
            &[0x66, 0x48],
            &[0x0f, 0x0b],
            &[],
        ] {
            assert!(!divide_error(code, &r, never));
        }
    }
}
