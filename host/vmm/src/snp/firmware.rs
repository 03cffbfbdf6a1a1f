// SPDX-License-Identifier: Apache-2.0

//! Answers of the secure processor, as a person reads them.
//!
//! The numbers come from the host's kernel and are only printed and compared.
#![forbid(unsafe_code)]

use std::fmt;

/// Status of a command of the secure processor (56860, SEV-SNP Firmware ABI Specification, chapter 5, table of status
/// codes; Linux 6.18 `linux/psp-sev.h`, `sev_ret_code`, has the same numbers and the names used here, and those of
/// devices from 0x35 on, which no launch meets).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status(pub u32);

/// A row of the table of status codes.
struct Known {
    code: u32,
    /// The name of the specification.
    name: &'static str,
    cause: &'static str,
    remedy: &'static str,
}

const REINITIALIZE: &str = "unload and load the modules kvm_amd and ccp, or restart the host";
const REPORT: &str = "report this: the launcher gave the firmware something it does not accept";
const UPDATE: &str = "update the SEV firmware of the host (linux-firmware or the BIOS)";
const RESOURCES: &str = "end other confidential guests, or raise their number in the BIOS";
const POLICY: &str = "relax the policy, or use a host that fulfils it (SMT off where the policy does not allow it, one \
    socket, ciphertext hiding or RAPL set up in the firmware, firmware version)";
const CERTIFICATES: &str = "restore the platform's own certificates (`snphost` or `sevctl reset`)";
const REPEAT: &str = "try again";

const fn known(code: u32, name: &'static str, cause: &'static str, remedy: &'static str) -> Known {
    Known {
        code,
        name,
        cause,
        remedy,
    }
}

#[rustfmt::skip]
const TABLE: &[Known] = &[
    known(0x01, "INVALID_PLATFORM_STATE", "the platform is in the wrong state", REINITIALIZE),
    known(0x02, "INVALID_GUEST_STATE", "the guest is in the wrong state", REPORT),
    known(0x03, "INVALID_CONFIG", "the platform's configuration is invalid", REINITIALIZE),
    known(0x04, "INVALID_LENGTH", "a buffer is too small", REPORT),
    known(0x05, "ALREADY_OWNED", "the platform has an owner already", CERTIFICATES),
    known(0x06, "INVALID_CERTIFICATE", "a certificate of the platform is invalid", CERTIFICATES),
    known(0x07, "POLICY_FAILURE", "the policy is not fulfilled by this platform", POLICY),
    known(0x08, "INACTIVE", "the guest is not active", REPORT),
    known(0x09, "INVALID_ADDRESS", "an address is invalid", REPORT),
    known(0x0a, "BAD_SIGNATURE", "a signature is wrong", "sign the ID block and the ID key again"),
    known(0x0b, "BAD_MEASUREMENT", "the measurement differs from the ID block",
        "sign an ID block for exactly this launch; if it is for this one, a host booted with mce=off measures other vCPUs, and \
         `echo 'func sev_es_sync_vmsa +p' | sudo tee /sys/kernel/debug/dynamic_debug/control` has the kernel log what it measured"),
    known(0x0c, "ASID_OWNED", "the ASID is taken", RESOURCES),
    known(0x0d, "INVALID_ASID", "the ASID is invalid", RESOURCES),
    known(0x0e, "WBINVD_REQUIRED", "caches must be flushed first", REINITIALIZE),
    known(0x0f, "DFFLUSH_REQUIRED", "the data fabric must be flushed first", REINITIALIZE),
    known(0x10, "INVALID_GUEST", "the guest is unknown", REPORT),
    known(0x11, "INVALID_COMMAND", "the command is unknown", UPDATE),
    known(0x12, "ACTIVE", "the guest is active already", REPORT),
    known(0x13, "HWERROR_PLATFORM", "the hardware reports a fault", "restart the host"),
    known(0x14, "HWERROR_UNSAFE", "the hardware reports a fault that makes it unsafe", "restart the host"),
    known(0x15, "UNSUPPORTED", "the firmware lacks a feature", UPDATE),
    known(0x16, "INVALID_PARAM", "a parameter is invalid", REPORT),
    known(0x17, "RESOURCE_LIMIT", "a resource is used up", RESOURCES),
    known(0x18, "SECURE_DATA_INVALID", "the processor's own data fail their check", "replace the processor"),
    known(0x19, "INVALID_PAGE_SIZE", "a page has the wrong size in the RMP", REPORT),
    known(0x1a, "INVALID_PAGE_STATE", "a page has the wrong state in the RMP", REPORT),
    known(0x1b, "INVALID_MDATA_ENTRY", "a metadata entry is invalid", REPORT),
    known(0x1c, "INVALID_PAGE_OWNER", "a page has another owner in the RMP", REPORT),
    known(0x1d, "AEAD_OFLOW", "a message counter would overflow", REPORT),
    known(0x1f, "RING_BUFFER_EXIT", "the firmware has left its ring of commands", REPEAT),
    known(0x20, "RMP_INIT_REQUIRED", "the RMP is not initialized", REINITIALIZE),
    known(0x21, "BAD_SVN", "the security version is too low", UPDATE),
    known(0x22, "BAD_VERSION", "the version is too low", UPDATE),
    known(0x23, "SHUTDOWN_REQUIRED", "the firmware must be shut down first", REINITIALIZE),
    known(0x24, "UPDATE_FAILED", "the firmware's update failed", UPDATE),
    known(0x25, "RESTORE_REQUIRED", "the firmware must be restored", UPDATE),
    known(0x26, "RMP_INITIALIZATION_FAILED", "the RMP could not be initialized", REINITIALIZE),
    known(0x27, "INVALID_KEY", "a key is invalid", "sign with a key on P-384"),
    known(0x28, "SHUTDOWN_INCOMPLETE", "the firmware is still being shut down", REPEAT),
    known(0x30, "INCORRECT_BUFFER_LENGTH", "a buffer has the wrong size", REPORT),
    known(0x31, "EXPAND_BUFFER_LENGTH_REQUEST", "a buffer must be larger", REPORT),
    known(0x32, "SPDM_REQUEST", "a device must be asked first", REPORT),
    known(0x33, "SPDM_ERROR", "a device answered with an error", REPORT),
];

impl Status {
    /// The command succeeded, or none was made.
    pub const SUCCESS: Self = Self(0);
    /// The platform is not one for the guest policy.
    pub const POLICY_FAILURE: Self = Self(0x07);
    /// The launch was not the one that the ID block is for.
    pub const BAD_MEASUREMENT: Self = Self(0x0b);
    /// A parameter is invalid; for a CPUID page: the firmware corrected it.
    pub const INVALID_PARAM: Self = Self(0x16);
    /// The kernel made no command (`SEV_RET_NO_FW_CALL`, -1).
    pub const NO_CALL: Self = Self(u32::MAX);

    fn known(self) -> Option<&'static Known> {
        TABLE.iter().find(|known| known.code == self.0)
    }

    /// Returns the name that the specification has for it.
    pub fn name(self) -> Option<&'static str> {
        self.known().map(|known| known.name)
    }

    /// Returns the remedy, where one is known.
    pub fn remedy(self) -> Option<&'static str> {
        self.known().map(|known| known.remedy)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some(Known {
                code,
                name,
                cause,
                remedy,
            }) => {
                write!(
                    f,
                    "the secure processor says: {cause} ({name}, {code:#x}); {remedy}"
                )
            }
            None if *self == Self::NO_CALL => write!(
                f,
                "the secure processor was not called; unload and load the modules kvm_amd and ccp"
            ),
            None => write!(
                f,
                "the secure processor answers {:#x}, which has no name here; look for it in the table of status codes \
                of the SEV-SNP ABI specification (56860)",
                self.0
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_numbers_have_a_name_and_a_remedy_and_unknown_ones_are_printed() {
        assert!(TABLE.is_sorted_by(|one, next| one.code < next.code));
        for known in TABLE {
            let status = Status(known.code);
            assert_eq!(status.remedy(), Some(known.remedy));
            let text = status.to_string();
            let number = format!("({}, {:#x})", known.name, known.code);
            assert!(
                text.contains(&number) && text.ends_with(known.remedy),
                "{text}"
            );
        }
        // Not in the specification's table.
        for unknown in [0, 0x1e, 0x29, 0x99] {
            assert_eq!(Status(unknown).name(), None);
        }
        let unknown = Status(0x99).to_string();
        assert!(
            unknown.starts_with("the secure processor answers 0x99"),
            "{unknown}"
        );
        assert!(Status::NO_CALL.to_string().contains("was not called"));
        let measurement = Status::BAD_MEASUREMENT.to_string();
        assert!(measurement.contains("mce=off") && measurement.contains("sev_es_sync_vmsa"));
    }
}
