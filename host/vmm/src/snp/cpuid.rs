// SPDX-License-Identifier: Apache-2.0

//! The firmware's corrections of a CPUID page: which ones a launch accepts.
//!
//! A cleared bit takes a feature away from the guest; anything else would launch a CPU that nobody
//! requested, and is refused.
#![forbid(unsafe_code)]

use std::fmt;

use enarx_snp::cpuid::{CpuidPage, Entry};
use zerocopy::IntoBytes;

/// A place in a CPUID page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Leaf (EAX).
    pub leaf: u32,
    /// Subleaf (ECX).
    pub subleaf: u32,
    /// Name of the result register.
    pub register: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CPUID leaf {:#x}, subleaf {:#x}, {}",
            self.leaf, self.subleaf, self.register
        )
    }
}

/// A correction that is accepted: bits that the processor does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Where.
    pub place: Place,
    /// The bits that the firmware cleared, at least one.
    pub cleared: u32,
}

impl fmt::Display for Correction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the firmware cleared bits", self.place)?;
        let bits = (0..u32::BITS).filter(|bit| self.cleared >> bit & 1 == 1);
        for (index, bit) in bits.enumerate() {
            write!(f, "{} {bit}", if index == 0 { "" } else { "," })?;
        }
        write!(f, " ({:#010x})", self.cleared)
    }
}

/// A result register for which the firmware wants another value than the one proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where.
    pub place: Place,
    /// The value that was proposed.
    pub proposed: u32,
    /// The value that the firmware wants.
    pub wanted: u32,
}

impl Difference {
    /// The difference as a correction; `None` if it is more than bits cleared.
    fn correction(self) -> Option<Correction> {
        (self.wanted & !self.proposed == 0).then_some(Correction {
            place: self.place,
            cleared: self.proposed & !self.wanted,
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {:#010x} was proposed, but it wants {:#010x}",
            self.place, self.proposed, self.wanted
        )?;
        if self.correction().is_none() {
            write!(f, " (sets {:#x})", self.wanted & !self.proposed)?;
        }
        Ok(())
    }
}

/// A list for one sentence.
fn listed<T: fmt::Display>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(ToString::to_string).collect();
    words.join("; ")
}

/// A CPUID page that the firmware finally refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuidError {
    /// It wants bits that were not proposed.
    #[error(
        "the firmware wants more of the CPUID page than bits cleared: {}; give the guest what the firmware wants",
        listed(.0)
    )]
    Added(Vec<Difference>),
    /// It changed something that is not a result register.
    #[error(
        "the firmware changed the CPUID page outside of the results (offset {offset:#x}); update the SEV firmware of the host"
    )]
    Shape {
        /// Offset of the first such byte in the page.
        offset: usize,
    },
    /// It changed nothing, but refuses.
    #[error(
        "the firmware refuses the CPUID page and does not say which leaf; update the SEV firmware of the host"
    )]
    Unexplained,
    /// It refuses its own corrections, time after time.
    #[error(
        "the firmware refuses the CPUID page with its own corrections, {rounds} times ({}); update the SEV firmware of the host",
        listed(.corrections)
    )]
    Again {
        /// How often it corrected the page.
        rounds: u32,
        /// All corrections.
        corrections: Vec<Correction>,
    },
}

/// The names and values of an entry's result registers.
fn results(entry: &Entry) -> [(&'static str, u32); 4] {
    [
        ("EAX", entry.eax.get()),
        ("EBX", entry.ebx.get()),
        ("ECX", entry.ecx.get()),
        ("EDX", entry.edx.get()),
    ]
}

/// Returns the firmware's changes in `answered` against `proposed`.
///
/// # Errors
/// [`CpuidError`] if the changes are not all cleared bits of result registers of entries in use,
/// or if there are none.
pub fn corrections(
    proposed: &CpuidPage,
    answered: &CpuidPage,
) -> Result<Vec<Correction>, CpuidError> {
    // The page without the results must be the same.
    let mut shape = *answered;
    let used = proposed.entries().len();
    for (entry, original) in shape.table.iter_mut().zip(&proposed.table).take(used) {
        (entry.eax, entry.ebx) = (original.eax, original.ebx);
        (entry.ecx, entry.edx) = (original.ecx, original.edx);
    }
    let (before, after) = (proposed.as_bytes(), shape.as_bytes());
    if let Some(offset) = before.iter().zip(after).position(|(a, b)| a != b) {
        return Err(CpuidError::Shape { offset });
    }
    let mut differences = Vec::new();
    for (old, new) in proposed.entries().iter().zip(answered.entries()) {
        for ((register, proposed), (_, wanted)) in results(old).into_iter().zip(results(new)) {
            let place = Place {
                leaf: old.eax_in.get(),
                subleaf: old.ecx_in.get(),
                register,
            };
            if wanted != proposed {
                differences.push(Difference {
                    place,
                    proposed,
                    wanted,
                });
            }
        }
    }
    if differences.is_empty() {
        return Err(CpuidError::Unexplained);
    }
    let corrections: Option<Vec<Correction>> = differences
        .iter()
        .map(|difference| difference.correction())
        .collect();
    corrections.ok_or(CpuidError::Added(differences))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> CpuidPage {
        let mut page = CpuidPage::default();
        for (leaf, subleaf, ebx) in [(1, 0, 0xff), (7, 0, 0x21d_0000), (7, 1, 0)] {
            let mut entry = page.table[0];
            entry.eax_in.set(leaf);
            entry.ecx_in.set(subleaf);
            entry.ebx.set(ebx);
            page.push(entry).unwrap();
        }
        page
    }

    #[test]
    fn cleared_bits_are_accepted_and_named() {
        let proposed = page();
        let mut answered = proposed;
        answered.table[1].ebx.set(0x20d_0000);
        answered.table[0].ebx.set(0x7e);
        let found = corrections(&proposed, &answered).unwrap();
        let text: Vec<String> = found.iter().map(Correction::to_string).collect();
        assert_eq!(
            text,
            [
                "CPUID leaf 0x1, subleaf 0x0, EBX: the firmware cleared bits 0, 7 (0x00000081)",
                "CPUID leaf 0x7, subleaf 0x0, EBX: the firmware cleared bits 20 (0x00100000)",
            ]
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let proposed = page();
        assert_eq!(
            corrections(&proposed, &proposed),
            Err(CpuidError::Unexplained)
        );

        let mut answered = proposed;
        answered.table[2].edx.set(4);
        answered.table[0].ebx.set(0);
        let place = |leaf, subleaf, register| Place {
            leaf,
            subleaf,
            register,
        };
        let refused = corrections(&proposed, &answered).unwrap_err();
        // All differences are reported, including those that would have been accepted.
        let differences = vec![
            Difference {
                place: place(1, 0, "EBX"),
                proposed: 0xff,
                wanted: 0,
            },
            Difference {
                place: place(7, 1, "EDX"),
                proposed: 0,
                wanted: 4,
            },
        ];
        assert_eq!(refused, CpuidError::Added(differences));
        let text = refused.to_string();
        for part in [
            "CPUID leaf 0x1, subleaf 0x0, EBX: 0x000000ff was proposed, but it wants 0x00000000; CPUID",
            "CPUID leaf 0x7, subleaf 0x1, EDX: 0x00000000 was proposed, but it wants 0x00000004 (sets 0x4);",
        ] {
            assert!(text.contains(part), "{text}");
        }

        // One bit cleared and another set.
        let mut answered = proposed;
        answered.table[0].ebx.set(0x17f);
        let refused = corrections(&proposed, &answered).unwrap_err().to_string();
        assert!(refused.contains("0x0000017f (sets 0x100)"), "{refused}");

        for (offset, change) in [
            (0, (|page| page.count.set(2)) as fn(&mut CpuidPage)),
            (16, |page| page.table[0].eax_in.set(0)),
            (16 + 40, |page| page.table[0].reserved.set(1)),
            (16 + 3 * 48 + 24, |page| page.table[3].eax.set(1)),
            (4095, |page| page.reserved2[1007] = 1),
        ] {
            let mut answered = proposed;
            change(&mut answered);
            assert_eq!(
                corrections(&proposed, &answered),
                Err(CpuidError::Shape { offset })
            );
        }
    }
}
