// SPDX-License-Identifier: Apache-2.0

//! The ways in which a launch may be stricter than the plain one: bits of the guest policy, which every report has, and
//! SEV features, which every vCPU's measured state has.
//!
//! Both are the host's to choose, and a tenant's to demand: the first by rules for the guest policy, the second by the
//! launch digest. The firmware and the CPU enforce them.

use std::fmt;

use enarx_snp::bits::{Bit, GuestPolicy};
use enarx_snp::vmsa::sev_features;

/// A bit of SEV_FEATURES (AMD64 APM volume 2, table B-4).
const fn feature(index: usize) -> Bit {
    sev_features::BITS[index]
}

const RESTRICTED_INJECTION: Bit = feature(3);
const ALTERNATE_INJECTION: Bit = feature(4);
const DEBUG_SWAP: Bit = feature(5);
const SECURE_TSC: Bit = feature(9);
// The CPU keeps these without the guest's help.
const PREVENT_HOST_IBS: Bit = feature(6);
const BTB_ISOLATION: Bit = feature(7);
const SMT_PROTECTION: Bit = feature(15);

/// A property of a launch, on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    /// A bit of the guest policy.
    Policy(Bit),
    /// A bit of SEV_FEATURES.
    Feature(Bit),
}

impl Property {
    /// The properties that every Keep runs with, on or off.
    pub const ALL: [Self; 10] = [
        Self::Policy(GuestPolicy::SMT),
        Self::Policy(GuestPolicy::SINGLE_SOCKET),
        Self::Policy(GuestPolicy::MEM_AES_256_XTS),
        Self::Policy(GuestPolicy::RAPL_DIS),
        Self::Policy(GuestPolicy::CIPHERTEXT_HIDING_DRAM),
        Self::Policy(GuestPolicy::PAGE_SWAP_DISABLE),
        Self::Feature(DEBUG_SWAP),
        Self::Feature(PREVENT_HOST_IBS),
        Self::Feature(BTB_ISOLATION),
        Self::Feature(SMT_PROTECTION),
    ];

    /// The property with this name.
    ///
    /// # Errors
    /// [`NoProperty`].
    pub fn named(name: &str) -> Result<Self, NoProperty> {
        let known = Self::ALL.into_iter().find(|known| known.bit().name == name);
        known.ok_or_else(|| {
            let refused = REFUSED.iter().find(|(bit, _)| bit.name == name);
            refused.map_or(NoProperty::Unknown, |&(bit, reason)| NoProperty::Refused {
                bit,
                reason,
            })
        })
    }

    /// Its bit: the name is the one of reports and policies.
    pub const fn bit(&self) -> &Bit {
        match self {
            Self::Policy(bit) | Self::Feature(bit) => bit,
        }
    }
}

/// Why a launch cannot have a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoProperty {
    /// Nothing has this name.
    #[error("no launch has a property of this name")]
    Unknown,
    /// The microkernel could not keep the name's promise.
    #[error("no Keep is launched with {} (SEV feature {}): {reason}", bit.name, bit.index)]
    Refused {
        /// The bit of SEV_FEATURES.
        bit: Bit,
        /// The lack.
        reason: &'static str,
    },
}

/// SEV features that ask something of the guest which the microkernel does not do, with the reason.
const REFUSED: [(Bit, &str); 3] = [
    (
        RESTRICTED_INJECTION,
        "the microkernel has no handler of #HV, by which alone its vCPUs could then be woken",
    ),
    (
        ALTERNATE_INJECTION,
        "interrupts then come from code at VMPL 0 below the guest, which a Keep does not have, and KVM does not offer it",
    ),
    (
        SECURE_TSC,
        "the microkernel takes the counter's frequency from the host, not from GUEST_TSC_FREQ, and does not ask the \
        firmware for the scale and offset of the vCPUs that it starts",
    ),
];

/// The properties of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    policy: GuestPolicy,
    features: u64,
}

impl Default for Variant {
    fn default() -> Self {
        Self::PLAIN
    }
}

impl Variant {
    /// SMT is allowed, bit 17 of the policy is always one (56860, section 4.3), and SEV-SNP alone is active.
    pub const PLAIN: Self = Self {
        policy: GuestPolicy(GuestPolicy::SMT.mask() | GuestPolicy::RESERVED_ONE.mask()),
        features: sev_features::SNP_ACTIVE.mask(),
    };

    /// This launch with a property on or off.
    #[must_use]
    pub const fn with(mut self, property: Property, on: bool) -> Self {
        let (word, bit) = match property {
            Property::Policy(bit) => (&mut self.policy.0, bit),
            Property::Feature(bit) => (&mut self.features, bit),
        };
        if on {
            *word |= bit.mask();
        } else {
            *word &= !bit.mask();
        }
        self
    }

    /// The guest policy.
    pub const fn policy(self) -> GuestPolicy {
        self.policy
    }

    /// SEV_FEATURES of every vCPU, the active bit included.
    pub const fn features(self) -> u64 {
        self.features
    }
}

impl fmt::Display for Variant {
    /// The differences from the plain launch, by name: `smt=n, single-socket=y`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for property in Property::ALL {
            let on = self.with(property, true) == *self;
            if Self::PLAIN.with(property, on) != Self::PLAIN {
                write!(
                    f,
                    "{between}{}={}",
                    property.bit().name,
                    if on { "y" } else { "n" }
                )?;
                between = ", ";
            }
        }
        if between.is_empty() {
            f.write_str("plain")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(options: &[(&str, bool)]) -> Variant {
        let with = |variant: Variant, (name, on): &(&str, bool)| {
            variant.with(Property::named(name).unwrap(), *on)
        };
        options.iter().fold(Variant::PLAIN, with)
    }

    /// The numbers are those of Linux (`linux/psp-sev.h`, `SNP_POLICY_MASK_…`; `asm/svm.h`, `SVM_SEV_FEAT_…`).
    #[test]
    fn properties_are_bits_of_policy_and_features() {
        assert_eq!(
            (Variant::PLAIN.policy().0, Variant::PLAIN.features()),
            (0x3_0000, 1)
        );
        assert_eq!(Variant::PLAIN.to_string(), "plain");
        for (name, policy, features) in [
            ("single-socket", 0x13_0000, 1),
            ("aes-256-xts", 0x43_0000, 1),
            ("rapl-disabled", 0x83_0000, 1),
            ("ciphertext-hiding", 0x103_0000, 1),
            ("page-swap-disabled", 0x203_0000, 1),
            ("debug-swap", 0x3_0000, 0x21),
            ("prevent-host-ibs", 0x3_0000, 0x41),
            ("btb-isolation", 0x3_0000, 0x81),
            ("smt-protection", 0x3_0000, 0x8001),
        ] {
            let on = variant(&[(name, true)]);
            assert_eq!((on.policy().0, on.features()), (policy, features), "{name}");
            assert_eq!(on.to_string(), format!("{name}=y"));
            assert_eq!(variant(&[(name, true), (name, false)]), Variant::PLAIN);
        }
        let alone = variant(&[("smt", false), ("single-socket", true)]);
        assert_eq!(alone.policy().0, 0x12_0000);
        assert_eq!(alone.to_string(), "smt=n, single-socket=y");
    }

    #[test]
    fn a_feature_unknown_to_the_microkernel_is_refused_by_name() {
        for (name, index) in [
            ("restricted-injection", 3),
            ("alternate-injection", 4),
            ("secure-tsc", 9),
        ] {
            let refused = Property::named(name).unwrap_err().to_string();
            let expected = format!("{name} (SEV feature {index})");
            assert!(refused.contains(&expected), "{refused}");
        }
        for name in ["debug", "migration-agent", "snp", ""] {
            assert_eq!(Property::named(name), Err(NoProperty::Unknown), "{name}");
        }
    }
}
