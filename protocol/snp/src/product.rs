// SPDX-License-Identifier: Apache-2.0

//! The product generations as one table: a new generation is a row. Trusts nobody: a CPUID that is in no row is
//! unknown, not a guess.

use crate::tcb::Layout;

/// A product generation of the EPYC line with SEV-SNP.
#[derive(Debug, PartialEq, Eq)]
pub struct Generation {
    /// Name in lower case with dashes, stable: policies and verdicts use it.
    pub name: &'static str,
    /// Product line that endorses it: the end of the ARK's and ASK's common names and the product in the URLs of
    /// the key distribution service (57230). Bergamo and Siena are endorsed by Genoa's line.
    pub line: &'static str,
    /// CPUID family, base and extended family added.
    pub family: u8,
    /// First and last CPUID model, base and extended model combined.
    pub models: (u8, u8),
    /// How a TCB_VERSION is laid out.
    pub tcb: Layout,
    /// Bytes of CHIP_ID that identify the chip, and length of the certificate's hwID extension; the others are 0.
    pub chip_id_len: usize,
}

/// Milan, family 19h models 00h to 0Fh.
pub static MILAN: Generation = Generation {
    name: "milan",
    line: "Milan",
    family: 0x19,
    models: (0x00, 0x0F),
    tcb: Layout::Milan,
    chip_id_len: 64,
};

/// Genoa (and Genoa-X, by its stepping), family 19h models 10h to 1Fh.
pub static GENOA: Generation = Generation {
    name: "genoa",
    line: "Genoa",
    family: 0x19,
    models: (0x10, 0x1F),
    tcb: Layout::Milan,
    chip_id_len: 64,
};

/// Bergamo and Siena, family 19h models A0h to AFh.
pub static BERGAMO_SIENA: Generation = Generation {
    name: "bergamo-siena",
    line: "Genoa",
    family: 0x19,
    models: (0xA0, 0xAF),
    tcb: Layout::Milan,
    chip_id_len: 64,
};

/// Turin and Turin Dense, family 1Ah models 00h to 1Fh.
pub static TURIN: Generation = Generation {
    name: "turin",
    line: "Turin",
    family: 0x1A,
    models: (0x00, 0x1F),
    tcb: Layout::Turin,
    chip_id_len: 8,
};

/// Every known generation.
pub static GENERATIONS: [&Generation; 4] = [&MILAN, &GENOA, &BERGAMO_SIENA, &TURIN];

/// The CPUID signature in a report of version 3 or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuSignature {
    /// Family, base and extended family added.
    pub family: u8,
    /// Model, base and extended model combined.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

impl CpuSignature {
    /// The signature in EAX of CPUID leaf 1 (AMD64 APM volume 3, appendix E.3.2).
    #[must_use]
    pub fn of_leaf_1(eax: u32) -> Self {
        // Masked to their widths, so nothing is cut.
        let bits = |from: u32, mask: u32| ((eax >> from) & mask).to_le_bytes()[0];
        let (base, model) = (bits(8, 0xf), bits(4, 0xf));
        // Extended family and model count for the highest base family alone, which all of these CPUs have.
        let extended = base == 0xf;
        Self {
            family: if extended {
                base.saturating_add(bits(20, 0xff))
            } else {
                base
            },
            model: if extended {
                bits(16, 0xf) << 4 | model
            } else {
                model
            },
            stepping: bits(0, 0xf),
        }
    }

    /// The generation of this CPU, `None` when no row of the table has it.
    pub fn generation(self) -> Option<&'static Generation> {
        GENERATIONS
            .into_iter()
            .find(|g| g.family == self.family && (g.models.0..=g.models.1).contains(&self.model))
    }
}

/// The generation with this name.
pub fn by_name(name: &str) -> Option<&'static Generation> {
    GENERATIONS.into_iter().find(|g| g.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read_from_cpuid() {
        // EPYC 7763 (Milan) and 9654 (Genoa) as Linux shows them: family 25, models 1 and 17, stepping 1.
        for (eax, name, stepping) in [(0x00a0_0f11, "milan", 1), (0x00a1_0f11, "genoa", 1)] {
            let signature = CpuSignature::of_leaf_1(eax);
            assert_eq!(signature.stepping, stepping);
            assert_eq!(signature.generation().map(|it| it.name), Some(name));
        }
        let old = CpuSignature::of_leaf_1(0x0000_06f2);
        assert_eq!((old.family, old.model), (6, 15));
        assert_eq!(old.generation(), None);
    }

    #[test]
    fn signatures_map_to_generations() {
        let of = |family, model| {
            CpuSignature {
                family,
                model,
                stepping: 1,
            }
            .generation()
            .map(|g| g.name)
        };
        assert_eq!(of(0x19, 0x01), Some("milan"));
        assert_eq!(of(0x19, 0x11), Some("genoa"));
        assert_eq!(of(0x19, 0xA0), Some("bergamo-siena"));
        assert_eq!(of(0x1A, 0x02), Some("turin"));
        assert_eq!(of(0x1A, 0x11), Some("turin"));
        assert_eq!(of(0, 0), None);
        assert_eq!(of(0x19, 0x20), None);
        assert_eq!(of(0x1A, 0x20), None);
    }

    #[test]
    fn the_rows_do_not_overlap() {
        for model in 0..=u8::MAX {
            for family in [0x17, 0x19, 0x1A] {
                let rows = GENERATIONS
                    .iter()
                    .filter(|g| g.family == family && (g.models.0..=g.models.1).contains(&model));
                assert!(rows.count() <= 1, "{family:x}/{model:x}");
            }
        }
    }
}
