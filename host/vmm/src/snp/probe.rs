// SPDX-License-Identifier: Apache-2.0

//! The support of this host's KVM for SEV-SNP, and what it lacks.
//!
//! One table lists what a launch needs: the launcher checks it before it creates a machine,
//! and `enarx doctor` prints it.
#![forbid(unsafe_code)]

use enarx_snp::bits::{Bit, GuestPolicy};
use enarx_snp::vmsa::sev_features;
use kvm_bindings::{
    KVM_CAP_EXIT_HYPERCALL, KVM_CAP_GUEST_MEMFD, KVM_CAP_MEMORY_ATTRIBUTES, KVM_CAP_USER_MEMORY2,
    KVM_CAP_VM_TYPES, KVM_MEMORY_ATTRIBUTE_PRIVATE, KVM_X86_GRP_SEV, KVM_X86_SEV_VMSA_FEATURES,
    KVM_X86_SNP_VM,
};
use rustix::io::Errno;

use super::abi::{MAP_GPA_RANGE, OLDEST_POLICY_BITS, POLICY_BITS};
use super::device::Device;

/// The remedy if firmware settings or kernel parameters prevent it.
pub const ENABLE: &str = "enable SEV-SNP (SMEE, SEV-SNP, RMP coverage) in the firmware's setup, then: sudo modprobe -r \
    kvm_amd && sudo modprobe kvm_amd sev_snp=1; if it stays off, `sudo dmesg | grep -e SNP -e SEV` says why";
/// The remedy where the kernel is too old, or made without it.
pub const NEWER_KERNEL: &str = "install Linux 6.11 or later with CONFIG_KVM_AMD_SEV, then reboot";

/// A capability that a launch needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its name.
    pub name: &'static str,
    /// Its number (Linux `linux/kvm.h`, `KVM_CAP_…`).
    pub capability: u32,
    /// Bits that the answer must have; 0 where any positive answer will do.
    pub bits: u32,
    /// The next step without it.
    pub next: &'static str,
}

/// Every capability that a launch needs.
pub const REQUIREMENTS: [Requirement; 5] = [
    Requirement {
        name: "SEV-SNP guests in KVM",
        capability: KVM_CAP_VM_TYPES,
        bits: 1 << KVM_X86_SNP_VM,
        next: ENABLE,
    },
    Requirement {
        name: "private guest memory in KVM",
        capability: KVM_CAP_GUEST_MEMFD,
        bits: 0,
        next: NEWER_KERNEL,
    },
    Requirement {
        name: "private memory attributes in KVM",
        capability: KVM_CAP_MEMORY_ATTRIBUTES,
        bits: KVM_MEMORY_ATTRIBUTE_PRIVATE,
        next: NEWER_KERNEL,
    },
    Requirement {
        name: "memory slots with two sides in KVM",
        capability: KVM_CAP_USER_MEMORY2,
        bits: 0,
        next: NEWER_KERNEL,
    },
    Requirement {
        name: "page state changes in KVM",
        capability: KVM_CAP_EXIT_HYPERCALL,
        bits: 1 << MAP_GPA_RANGE,
        next: NEWER_KERNEL,
    },
];

impl Requirement {
    /// True if this answer to `KVM_CHECK_EXTENSION` fulfils it.
    pub fn fulfilled(&self, answer: i32) -> bool {
        u32::try_from(answer).is_ok_and(|answer| answer != 0 && answer & self.bits == self.bits)
    }
}

/// Something that a launch needs and this host does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// A capability.
    #[error(
        "this host lacks {name} (KVM capability {capability} is {answer}); next: {next} (all of it: `enarx doctor`)"
    )]
    Capability {
        /// Its name.
        name: &'static str,
        /// Its number.
        capability: u32,
        /// KVM's answer.
        answer: i32,
        /// The next step.
        next: &'static str,
    },
    /// KVM does not say which SEV features it has.
    #[error("this host's KVM does not report its SEV features ({answer}); next: {NEWER_KERNEL}")]
    Features {
        /// KVM's answer.
        answer: String,
    },
    /// Policy bits that this KVM does not support.
    #[error(
        "this host's KVM does not support the guest policy's {}; use a newer kernel or a policy without it",
        names(*.0, &GuestPolicy::BITS)
    )]
    Policy(u64),
    /// The policy lacks the bit that every policy has.
    #[error("the guest policy lacks bit 17, which must be one; correct the policy")]
    PolicyReserved,
    /// SEV features that this KVM does not support.
    #[error(
        "this host's KVM does not support the guest's {}; use a newer kernel, or do without it",
        names(*.0, &sev_features::BITS)
    )]
    VmsaFeatures(u64),
    /// The feature that KVM adds by itself.
    #[error(
        "the launch asks for SEV feature bit 0, which KVM sets itself and does not accept; leave it out"
    )]
    FeatureActive,
}

/// Set bits by name and index: `smt (bit 16) and bit 40`.
pub(crate) fn names(bits: u64, known: &[Bit]) -> String {
    let words: Vec<String> = (0..u64::BITS)
        .filter(|index| bits >> index & 1 == 1)
        .map(|index| match known.iter().find(|bit| bit.index == index) {
            Some(bit) => format!("{} (bit {index})", bit.name),
            None => format!("bit {index}"),
        })
        .collect();
    words.join(" and ")
}

/// The demands of a guest policy on the machine: `smt off and single-socket (bit 20)`.
pub(crate) fn demands(policy: GuestPolicy) -> String {
    /// The ABI version, which is not a switch.
    const VERSION: u64 = 0xffff;
    let usual = VERSION | GuestPolicy::SMT.mask() | GuestPolicy::RESERVED_ONE.mask();
    let off = (!policy.has(GuestPolicy::SMT)).then(|| "smt off".to_owned());
    let set = Some(names(policy.0 & !usual, &GuestPolicy::BITS)).filter(|set| !set.is_empty());
    let abi = (policy.0 & VERSION != 0)
        .then(|| format!("ABI {}.{}", policy.abi_major(), policy.abi_minor()));
    let all: Vec<String> = [off, set, abi].into_iter().flatten().collect();
    all.join(" and ")
}

/// KVM's offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Bits that a guest policy may have.
    pub policy_bits: u64,
    /// Bits of `SEV_FEATURES` that a launch may ask for.
    pub vmsa_features: u64,
}

impl Offer {
    /// Asks a device for everything that a launch needs.
    ///
    /// # Errors
    /// [`Missing`]: the first thing that is not there.
    pub fn of(device: &impl Device) -> Result<Self, Missing> {
        for requirement in &REQUIREMENTS {
            let answer = device.check_extension(requirement.capability);
            if !requirement.fulfilled(answer) {
                return Err(Missing::Capability {
                    name: requirement.name,
                    capability: requirement.capability,
                    answer,
                    next: requirement.next,
                });
            }
        }
        let attribute = |number| device.attribute(KVM_X86_GRP_SEV, number);
        let features = attribute(KVM_X86_SEV_VMSA_FEATURES.into());
        Self::from_answers(features, attribute(POLICY_BITS))
    }

    /// Judges what KVM answers to the attributes [`KVM_X86_SEV_VMSA_FEATURES`] and
    /// [`POLICY_BITS`]; kernels before the second support [`OLDEST_POLICY_BITS`].
    ///
    /// # Errors
    /// [`Missing::Features`].
    pub fn from_answers(
        features: Result<Option<u64>, Errno>,
        policy_bits: Result<Option<u64>, Errno>,
    ) -> Result<Self, Missing> {
        let told = |answer: String| Missing::Features { answer };
        Ok(Self {
            vmsa_features: features
                .map_err(|errno| told(errno.to_string()))?
                .ok_or_else(|| told("it has no such attribute".into()))?,
            policy_bits: policy_bits
                .map_err(|errno| told(errno.to_string()))?
                .unwrap_or(OLDEST_POLICY_BITS),
        })
    }

    /// True if a launch with this policy and these features can be.
    ///
    /// # Errors
    /// [`Missing`]: what cannot be, bit by bit.
    pub fn check(&self, policy: GuestPolicy, vmsa_features: u64) -> Result<(), Missing> {
        if !policy.has(GuestPolicy::RESERVED_ONE) {
            return Err(Missing::PolicyReserved);
        }
        if policy.0 & !self.policy_bits != 0 {
            return Err(Missing::Policy(policy.0 & !self.policy_bits));
        }
        if vmsa_features & sev_features::SNP_ACTIVE.mask() != 0 {
            return Err(Missing::FeatureActive);
        }
        if vmsa_features & !self.vmsa_features != 0 {
            return Err(Missing::VmsaFeatures(vmsa_features & !self.vmsa_features));
        }
        Ok(())
    }

    /// The offer in words, for `enarx doctor`.
    pub fn describe(&self) -> String {
        let features = names(self.vmsa_features, &sev_features::BITS);
        // The low 16 bits are the ABI version, not switches.
        let policy = names(self.policy_bits & !0xffff, &GuestPolicy::BITS);
        let features = if features.is_empty() {
            "no optional SEV feature".into()
        } else {
            features
        };
        format!("features: {features}; policy bits: {policy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_ask_for_their_bits() {
        for (capability, answers) in [
            (235, [(0, false), (0b0_1111, false), (0b1_0000, true)]),
            (234, [(0, false), (-1, false), (1, true)]),
            (233, [(0, false), (1, false), (8, true)]),
            (231, [(0, false), (-1, false), (1, true)]),
            (201, [(0, false), (1 << 11, false), (1 << 12, true)]),
        ] {
            let requirement = REQUIREMENTS
                .iter()
                .find(|requirement| requirement.capability == capability)
                .unwrap();
            for (answer, expected) in answers {
                assert_eq!(
                    requirement.fulfilled(answer),
                    expected,
                    "{capability} {answer}"
                );
            }
        }
    }

    #[test]
    fn policies_and_features_are_judged_bit_by_bit() {
        let offer = Offer::from_answers(Ok(Some(1 << 5)), Ok(None)).unwrap();
        assert_eq!(offer.policy_bits, 0x1b_ffff);
        for (policy, features, expected) in [
            (0x3_0000, 0, None),
            (0x2_0133, 1 << 5, None),
            (0x1_0000, 0, Some(Missing::PolicyReserved)),
            (0x6_0000, 0, Some(Missing::Policy(1 << 18))),
            (0x2_0000, 1, Some(Missing::FeatureActive)),
            (0x2_0000, 1 << 9, Some(Missing::VmsaFeatures(1 << 9))),
        ] {
            assert_eq!(offer.check(GuestPolicy(policy), features).err(), expected);
        }
        let text = Missing::Policy(1 << 18 | 1 << 40).to_string();
        assert!(
            text.contains("policy's migration-agent (bit 18) and bit 40;"),
            "{text}"
        );
        assert_eq!(demands(GuestPolicy(0x3_0000)), "");
        assert_eq!(
            demands(GuestPolicy(0x112_013a)),
            "smt off and single-socket (bit 20) and ciphertext-hiding (bit 24) and ABI 1.58"
        );
        let text = Missing::VmsaFeatures(1 << 9).to_string();
        assert!(text.contains("guest's secure-tsc (bit 9);"), "{text}");
    }

    #[test]
    fn a_kernel_that_does_not_answer_is_named() {
        let missing = Offer::from_answers(Ok(None), Ok(None)).unwrap_err();
        assert!(missing.to_string().contains("it has no such attribute"));
        assert!(Offer::from_answers(Err(Errno::IO), Ok(None)).is_err());
        assert!(Offer::from_answers(Ok(Some(0)), Err(Errno::IO)).is_err());
        let offer = Offer::from_answers(Ok(Some(0)), Ok(Some(0x3_ffff))).unwrap();
        assert_eq!(
            offer.describe(),
            "features: no optional SEV feature; policy bits: smt (bit 16) and reserved-17 (bit 17)"
        );
    }
}
