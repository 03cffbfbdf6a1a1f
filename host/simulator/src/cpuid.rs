// SPDX-License-Identifier: Apache-2.0

//! The check of a guest's CPUID values against those of the machine (56860 SNP_LAUNCH_UPDATE, CPUID page, and
//! MSG_CPUID_REQ). The firmware refuses values that could weaken the guest: features that the CPU does not have, and
//! the position of the C-bit. It does not check topology, names and sizes, which the host controls.

use enarx_snp::cpuid::Entry;

/// How a register is checked.
#[derive(Clone, Copy)]
enum Check {
    /// Anything passes.
    Free,
    /// Bits that the machine does not have are cleared.
    Features,
    /// The machine's value is used.
    Equal,
}

/// The checks of EAX, EBX, ECX and EDX of a function (APM3 appendix E).
const fn checks(function: u32, sub_function: u32) -> [Check; 4] {
    use Check::{Equal, Features, Free};
    match (function, sub_function) {
        (0x1 | 0x8000_0001, _) => [Free, Free, Features, Features],
        (0x7, 0) => [Free, Features, Features, Features],
        (0x7, _) => [Features, Features, Features, Features],
        (0xD, 0) => [Features, Free, Free, Features],
        (0xD, 1) => [Features, Free, Features, Features],
        (0x8000_0007 | 0x8000_000A, _) => [Free, Free, Free, Features],
        (0x8000_0008, _) => [Free, Features, Free, Free],
        (0x8000_001F, _) => [Features, Equal, Free, Free],
        (0x8000_0021, _) => [Features, Free, Features, Free],
        _ => [Free; 4],
    }
}

/// Corrects values in place. True if nothing had to be corrected.
pub fn correct(entries: &mut [Entry], machine: &[Entry]) -> bool {
    let mut right = true;
    for entry in entries {
        let (function, sub_function) = (entry.eax_in.get(), entry.ecx_in.get());
        let known = machine
            .iter()
            .find(|m| m.eax_in == entry.eax_in && m.ecx_in == entry.ecx_in);
        let allowed = known.map_or([0; 4], |m| {
            [m.eax.get(), m.ebx.get(), m.ecx.get(), m.edx.get()]
        });
        let registers = [
            &mut entry.eax,
            &mut entry.ebx,
            &mut entry.ecx,
            &mut entry.edx,
        ];
        for ((register, allowed), check) in registers
            .into_iter()
            .zip(allowed)
            .zip(checks(function, sub_function))
        {
            let corrected = match check {
                Check::Free => register.get(),
                Check::Features => register.get() & allowed,
                Check::Equal => allowed,
            };
            right &= corrected == register.get();
            register.set(corrected);
        }
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn entry(function: u32, sub_function: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> Entry {
        let mut entry = Entry::new_zeroed();
        entry.eax_in.set(function);
        entry.ecx_in.set(sub_function);
        entry.eax.set(eax);
        entry.ebx.set(ebx);
        entry.ecx.set(ecx);
        entry.edx.set(edx);
        entry
    }

    #[test]
    fn features_are_cleared_and_the_c_bit_is_corrected() {
        let machine = [
            entry(1, 0, [0x00A0_0F11, 0, 0b1010, 0b0110]),
            entry(0x8000_001F, 0, [0x1A, 51, 0, 0]),
        ];
        let mut good = [
            entry(1, 0, [7, 7, 0b1000, 0b0010]),
            entry(0x8000_001F, 0, [0x12, 51, 9, 9]),
            entry(0xB, 1, [1, 2, 3, 4]),
        ];
        let before = good;
        assert!(correct(&mut good, &machine));
        assert_eq!(good, before);

        let mut bad = [
            entry(1, 0, [7, 7, 0b1001, 0b0010]),
            entry(0x8000_001F, 0, [0x12, 47, 0, 0]),
            entry(7, 0, [1, 1, 0, 0]),
        ];
        assert!(!correct(&mut bad, &machine));
        assert_eq!(bad[0].ecx.get(), 0b1000);
        assert_eq!(bad[1].ebx.get(), 51);
        assert_eq!((bad[2].eax.get(), bad[2].ebx.get()), (1, 0));
        assert!(correct(&mut bad, &machine));
    }
}
