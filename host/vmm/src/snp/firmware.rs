// SPDX-License-Identifier: Apache-2.0

//! Answers of the secure processor, as a person reads them.
//!
//! The numbers come from the host's kernel and are only printed and compared.
#![forbid(unsafe_code)]

use std::fmt;

/// Status of a command of the secure processor (56860, chapter 5, status codes; Linux
/// `linux/psp-sev.h`, `sev_ret_code`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// The command succeeded, or none was made.
    pub const SUCCESS: Self = Self(0);
    /// A parameter is invalid; for a CPUID page: the firmware corrected it.
    pub const INVALID_PARAM: Self = Self(0x16);
    /// The kernel made no command (`SEV_RET_NO_FW_CALL`, -1).
    pub const NO_CALL: Self = Self(u32::MAX);

    /// Name and remedy.
    fn describe(self) -> Option<(&'static str, &'static str)> {
        const REINITIALIZE: &str =
            "unload and load the modules kvm_amd and ccp, or restart the host";
        const REPORT: &str =
            "report this: the launcher gave the firmware something it does not accept";
        const UPDATE: &str = "update the SEV firmware of the host (linux-firmware or the BIOS)";
        const RESOURCES: &str = "end other confidential guests, or raise their number in the BIOS";
        const POLICY: &str =
            "relax the policy, or use a host that fulfils it (SMT, sockets, firmware version)";
        Some(match self.0 {
            0x01 => ("the platform is in the wrong state", REINITIALIZE),
            0x02 => ("the guest is in the wrong state", REPORT),
            0x03 => ("the platform's configuration is invalid", REINITIALIZE),
            0x04 => ("a buffer is too small", REPORT),
            0x07 => ("the policy is not fulfilled by this platform", POLICY),
            0x08 => ("the guest is not active", REPORT),
            0x09 => ("an address is invalid", REPORT),
            0x0a => (
                "a signature is wrong",
                "sign the ID block and the ID key anew",
            ),
            0x0b => (
                "the measurement differs from the ID block",
                "sign an ID block for exactly this launch",
            ),
            0x0c | 0x0d => ("the ASID is taken or invalid", RESOURCES),
            0x0e | 0x0f => ("caches must be flushed first", REINITIALIZE),
            0x10 => ("the guest is unknown", REPORT),
            0x11 => ("the command is unknown", UPDATE),
            0x13 | 0x14 => ("the hardware reports a fault", "restart the host"),
            0x15 => ("the firmware lacks a feature", UPDATE),
            0x16 => ("a parameter is invalid", REPORT),
            0x17 => ("a resource is used up", RESOURCES),
            0x18 => (
                "the processor's own data fail their check",
                "replace the processor",
            ),
            0x19 => ("a page has the wrong size in the RMP", REPORT),
            0x1a => ("a page has the wrong state in the RMP", REPORT),
            0x1b => ("a metadata entry is invalid", REPORT),
            0x1c => ("a page has another owner in the RMP", REPORT),
            0x1d => ("a message counter would overflow", REPORT),
            0x20 => ("the RMP is not initialized", REINITIALIZE),
            0x21 => ("the security version is too low", UPDATE),
            0x22 => ("the version is too low", UPDATE),
            0x23 => ("the firmware must be shut down first", REINITIALIZE),
            0x24 => ("the firmware's update failed", UPDATE),
            0x25 => ("the firmware must be restored", UPDATE),
            0x26 => ("the RMP could not be initialized", REINITIALIZE),
            0x27 => ("a key is invalid", "sign with a key on P-384"),
            _ => return None,
        })
    }

    /// Returns the remedy, where one is known.
    pub fn remedy(self) -> Option<&'static str> {
        self.describe().map(|(_, remedy)| remedy)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.describe() {
            Some((name, remedy)) => {
                write!(
                    f,
                    "the secure processor says: {name} ({:#x}); {remedy}",
                    self.0
                )
            }
            None if *self == Self::NO_CALL => write!(
                f,
                "the secure processor was not called; unload and load the modules kvm_amd and ccp"
            ),
            None => write!(f, "the secure processor answers {:#x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_have_a_remedy_and_unknown_ones_are_printed() {
        let known = (0..=u32::from(u8::MAX)).filter(|&number| Status(number).remedy().is_some());
        assert_eq!(known.count(), 34);
        assert_eq!(Status::SUCCESS.remedy(), None);
        let text = Status::INVALID_PARAM.to_string();
        assert!(text.contains("a parameter is invalid (0x16)"), "{text}");
        assert_eq!(
            Status(0x99).to_string(),
            "the secure processor answers 0x99"
        );
        assert!(Status::NO_CALL.to_string().contains("was not called"));
        assert!(Status(0x0b).to_string().contains("sign an ID block"));
    }
}
