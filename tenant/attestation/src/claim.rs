// SPDX-License-Identifier: Apache-2.0

//! The facts of evidence that a verdict states, by their stable names.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Makes [`Claim`] with the name of each variant.
macro_rules! claims {
    ($($(#[$meaning:meta])+ $variant:ident => $name:literal,)+) => {
        /// A fact of the evidence. Its name, such as `guest.measurement`, is part of the interface: it is what JSON and EAR
        /// have, and never changes. Claims are ordered by their names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Claim {
            $($(#[$meaning])+ $variant,)+
        }

        impl Claim {
            /// All of them, by name.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

claims! {
    /// The cloud provider that a VLEK was loaded for.
    CertificateCsp => "certificate.csp",
    /// SHA-256 of the root's public key.
    ChainRoot => "chain.root",
    /// Firmware version below which the platform cannot be rolled back.
    FirmwareCommitted => "firmware.committed",
    /// Firmware version that runs.
    FirmwareCurrent => "firmware.current",
    /// The guest policy (56860 GUEST_POLICY), a number.
    GuestPolicy => "guest-policy",
    /// Host data, hexadecimal.
    GuestHostData => "guest.host-data",
    /// The launch digest, hexadecimal.
    GuestMeasurement => "guest.measurement",
    /// The release that the launch digest is of.
    GuestRelease => "guest.release",
    /// Report data, hexadecimal.
    GuestReportData => "guest.report-data",
    /// Security version number of the guest.
    GuestSvn => "guest.svn",
    /// Number of vCPUs of the release's launch.
    GuestVcpus => "guest.vcpus",
    /// The mitigations that are verified now, a number.
    MitigationsCurrent => "mitigations.current",
    /// The mitigations that were verified at launch, a number.
    MitigationsLaunch => "mitigations.launch",
    /// The platform's settings (56860 PLATFORM_INFO), a number.
    PlatformInfo => "platform-info",
    /// The time at which the first part of the collateral expires.
    PlatformCollateralUntil => "platform.collateral-until",
    /// tcbEvaluationDataNumber of the collateral.
    PlatformEvaluationNumber => "platform.evaluation-number",
    /// FMSPC of the platform, hexadecimal.
    PlatformFmspc => "platform.fmspc",
    /// PPID of the platform, hexadecimal.
    PlatformPpid => "platform.ppid",
    /// The date of the TCB level that the platform reaches.
    PlatformTcbDate => "platform.tcb-date",
    /// Version of the quote's format.
    QuoteVersion => "quote.version",
    /// The chip that a report names, hexadecimal.
    ReportChipId => "report.chip-id",
    /// Family, model and stepping of the CPU.
    ReportCpuid => "report.cpuid",
    /// Generation of the CPU.
    ReportProduct => "report.product",
    /// Kind of the key that signed the report.
    ReportSigningKey => "report.signing-key",
    /// Version of the report's format.
    ReportVersion => "report.version",
    /// Privilege level that asked for the report.
    ReportVmpl => "report.vmpl",
    /// Attributes of an enclave, hexadecimal.
    SgxAttributes => "sgx.attributes",
    /// Product number of an enclave.
    SgxIsvProdId => "sgx.isv-prod-id",
    /// Security version number of an enclave.
    SgxIsvSvn => "sgx.isv-svn",
    /// Measurement of an enclave, hexadecimal.
    SgxMrenclave => "sgx.mrenclave",
    /// Signer of an enclave, hexadecimal.
    SgxMrsigner => "sgx.mrsigner",
    /// The TCB below which the platform cannot be rolled back.
    TcbCommitted => "tcb.committed",
    /// The TCB that runs.
    TcbCurrent => "tcb.current",
    /// The TCB at launch.
    TcbLaunch => "tcb.launch",
    /// The TCB from which the signing key is derived.
    TcbReported => "tcb.reported",
    /// Attributes of a TD, a number.
    TdxAttributes => "tdx.attributes",
    /// MRCONFIGID, hexadecimal.
    TdxMrconfigid => "tdx.mrconfigid",
    /// MROWNER, hexadecimal.
    TdxMrowner => "tdx.mrowner",
    /// MROWNERCONFIG, hexadecimal.
    TdxMrownerconfig => "tdx.mrownerconfig",
    /// MRSEAM, hexadecimal.
    TdxMrseam => "tdx.mrseam",
    /// MRSIGNERSEAM, hexadecimal.
    TdxMrsignerseam => "tdx.mrsignerseam",
    /// MRTD, hexadecimal.
    TdxMrtd => "tdx.mrtd",
    /// RTMR0, hexadecimal.
    TdxRtmr0 => "tdx.rtmr0",
    /// RTMR1, hexadecimal.
    TdxRtmr1 => "tdx.rtmr1",
    /// RTMR2, hexadecimal.
    TdxRtmr2 => "tdx.rtmr2",
    /// RTMR3, hexadecimal.
    TdxRtmr3 => "tdx.rtmr3",
    /// TEE_TCB_SVN, hexadecimal.
    TdxTeeTcbSvn => "tdx.tee-tcb-svn",
    /// XFAM, hexadecimal.
    TdxXfam => "tdx.xfam",
}

/// Why a text names no claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no claim has this name")]
pub struct UnknownClaim;

impl FromStr for Claim {
    type Err = UnknownClaim;

    fn from_str(name: &str) -> Result<Self, UnknownClaim> {
        let mut all = Self::ALL.iter().copied();
        all.find(|claim| claim.name() == name).ok_or(UnknownClaim)
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// For look-up by name.
impl Borrow<str> for Claim {
    fn borrow(&self) -> &str {
        self.name()
    }
}

impl Serialize for Claim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Claim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names, written once more: who renames one changes the interface.
    const NAMES: &str = "certificate.csp chain.root firmware.committed firmware.current guest-policy guest.host-data \
        guest.measurement guest.release guest.report-data guest.svn guest.vcpus mitigations.current mitigations.launch \
        platform-info platform.collateral-until platform.evaluation-number platform.fmspc platform.ppid \
        platform.tcb-date quote.version report.chip-id report.cpuid report.product report.signing-key report.version \
        report.vmpl sgx.attributes sgx.isv-prod-id sgx.isv-svn sgx.mrenclave sgx.mrsigner tcb.committed tcb.current \
        tcb.launch tcb.reported tdx.attributes tdx.mrconfigid tdx.mrowner tdx.mrownerconfig tdx.mrseam \
        tdx.mrsignerseam tdx.mrtd tdx.rtmr0 tdx.rtmr1 tdx.rtmr2 tdx.rtmr3 tdx.tee-tcb-svn tdx.xfam";

    #[test]
    fn names_are_stable_unique_and_in_order() {
        let names: Vec<_> = Claim::ALL.iter().map(|claim| claim.name()).collect();
        assert_eq!(names, NAMES.split_whitespace().collect::<Vec<_>>());
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        for claim in Claim::ALL {
            assert_eq!(claim.name().parse(), Ok(*claim));
        }
        assert_eq!("guest".parse::<Claim>(), Err(UnknownClaim));
    }
}
