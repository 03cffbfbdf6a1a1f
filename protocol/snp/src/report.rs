// SPDX-License-Identifier: Apache-2.0

//! The attestation report (56860 ATTESTATION_REPORT, table 23), versions 2 to 5. It comes from the firmware through
//! the host, so nothing in it is trusted before its signature is verified.

use crate::assert_layout;
use crate::bits::{GuestPolicy, KeyInfo, PlatformInfo};
use crate::product::CpuSignature;
use crate::tcb::TcbVersion;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Length of a report in bytes.
pub const REPORT_LEN: usize = 0x4A0;
/// Length of the signed part: bytes 0h to 29Fh.
pub const SIGNED_LEN: usize = 0x2A0;
/// The oldest version of the report that this crate knows.
pub const MIN_VERSION: u32 = 2;
/// The newest version of the report that this crate knows.
pub const MAX_VERSION: u32 = 5;
/// Version from which on the report names family, model and stepping.
pub const VERSION_WITH_CPUID: u32 = 3;
/// Version from which on the report has mitigation vectors.
pub const VERSION_WITH_MITIGATIONS: u32 = 5;
/// SIGNATURE_ALGO: ECDSA over P-384 with SHA-384, the only one defined (56860, digital signature algorithms).
pub const ALGO_ECDSA_P384_SHA384: u32 = 1;
/// VMPL of a report that the host asked for, not the guest (56860 ATTESTATION_REPORT, VMPL).
pub const VMPL_HOST_REQUEST: u32 = 0xFFFF_FFFF;

/// An ECDSA P-384 signature (56860, ECDSA P-384 signature format): little-endian, zero-extended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Signature {
    /// R, 48 bytes used.
    pub r: [u8; 72],
    /// S, 48 bytes used.
    pub s: [u8; 72],
    /// Reserved.
    pub reserved: [u8; 368],
}
assert_layout!(Signature, 512, r @ 0, s @ 72, reserved @ 144);

impl Signature {
    /// R and S as big-endian scalars of 48 bytes, `None` when bytes beyond those are not zero.
    pub fn scalars(&self) -> Option<([u8; 48], [u8; 48])> {
        let scalar = |le: &[u8; 72]| {
            let (low, high) = le.split_first_chunk::<48>()?;
            let mut be = *low;
            be.reverse();
            high.iter().all(|b| *b == 0).then_some(be)
        };
        Some((scalar(&self.r)?, scalar(&self.s)?))
    }

    /// The signature with these big-endian scalars.
    pub fn from_scalars(r: &[u8; 48], s: &[u8; 48]) -> Self {
        let field = |be: &[u8; 48]| {
            let mut le = [0; 72];
            for (to, from) in le.iter_mut().zip(be.iter().rev()) {
                *to = *from;
            }
            le
        };
        Self {
            r: field(r),
            s: field(s),
            reserved: [0; 368],
        }
    }
}

/// The version of the SEV-SNP firmware (API major, minor, build).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct FirmwareVersion {
    /// Build number.
    pub build: u8,
    /// Minor number.
    pub minor: u8,
    /// Major number.
    pub major: u8,
    /// Reserved.
    pub reserved: u8,
}
assert_layout!(FirmwareVersion, 4, build @ 0, minor @ 1, major @ 2);

/// The attestation report, 1184 bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Report {
    /// Version of this structure.
    pub version: U32,
    /// Security version number of the guest, from its ID block.
    pub guest_svn: U32,
    /// Guest policy, see [`Self::guest_policy`].
    pub policy: U64,
    /// Family id from the ID block.
    pub family_id: [u8; 16],
    /// Image id from the ID block.
    pub image_id: [u8; 16],
    /// Privilege level that asked for the report, 0 to 3, or [`VMPL_HOST_REQUEST`].
    pub vmpl: U32,
    /// Algorithm of the signature, see [`ALGO_ECDSA_P384_SHA384`].
    pub signature_algo: U32,
    /// TCB version that runs now.
    pub current_tcb: TcbVersion,
    /// Platform information, see [`Self::platform`].
    pub platform_info: U64,
    /// Flags beside the signature, see [`Self::keys`].
    pub key_info: U32,
    /// Reserved.
    pub reserved0: U32,
    /// Data of the guest.
    pub report_data: [u8; 64],
    /// Launch digest.
    pub measurement: [u8; 48],
    /// Data of the host at launch.
    pub host_data: [u8; 32],
    /// SHA-384 of the key that signed the ID block.
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the author key that signed the ID key, zero when there was none.
    pub author_key_digest: [u8; 48],
    /// Report id of this guest.
    pub report_id: [u8; 32],
    /// Report id of the migration agent, all ones when there is none.
    pub report_id_ma: [u8; 32],
    /// TCB version from which the signing key is derived.
    pub reported_tcb: TcbVersion,
    /// CPUID family (version 3 and later).
    pub cpuid_family: u8,
    /// CPUID model (version 3 and later).
    pub cpuid_model: u8,
    /// CPUID stepping (version 3 and later).
    pub cpuid_stepping: u8,
    /// Reserved.
    pub reserved1: [u8; 21],
    /// Identifier of the chip, zero when masked and under a VLEK.
    pub chip_id: [u8; 64],
    /// TCB version below which the firmware cannot be rolled back.
    pub committed_tcb: TcbVersion,
    /// Firmware that runs now.
    pub current_version: FirmwareVersion,
    /// Firmware that is committed.
    pub committed_version: FirmwareVersion,
    /// TCB version when the guest was launched or imported.
    pub launch_tcb: TcbVersion,
    /// Mitigations verified when the guest was launched (version 5).
    pub launch_mit_vector: U64,
    /// Mitigations verified now (version 5).
    pub current_mit_vector: U64,
    /// Reserved.
    pub reserved2: [u8; 152],
    /// Signature over the bytes before it.
    pub signature: Signature,
}
assert_layout!(
    Report, REPORT_LEN,
    version @ 0x000, guest_svn @ 0x004, policy @ 0x008, family_id @ 0x010, image_id @ 0x020, vmpl @ 0x030,
    signature_algo @ 0x034, current_tcb @ 0x038, platform_info @ 0x040, key_info @ 0x048, reserved0 @ 0x04C,
    report_data @ 0x050, measurement @ 0x090, host_data @ 0x0C0, id_key_digest @ 0x0E0, author_key_digest @ 0x110,
    report_id @ 0x140, report_id_ma @ 0x160, reported_tcb @ 0x180, cpuid_family @ 0x188, cpuid_model @ 0x189,
    cpuid_stepping @ 0x18A, reserved1 @ 0x18B, chip_id @ 0x1A0, committed_tcb @ 0x1E0, current_version @ 0x1E8,
    committed_version @ 0x1EC, launch_tcb @ 0x1F0, launch_mit_vector @ 0x1F8, current_mit_vector @ 0x200,
    reserved2 @ 0x208, signature @ SIGNED_LEN,
);

/// Why bytes are not a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportError {
    /// Not [`REPORT_LEN`] bytes long.
    Length {
        /// The length found.
        found: usize,
    },
    /// A version older than [`MIN_VERSION`], whose layout is another one.
    Version {
        /// The version found.
        found: u32,
    },
}

impl core::fmt::Display for ReportError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Length { found } => {
                write!(
                    f,
                    "an attestation report has {REPORT_LEN} bytes, this has {found}"
                )
            }
            Self::Version { found } => {
                write!(
                    f,
                    "an attestation report has version {MIN_VERSION} or later, this has {found}"
                )
            }
        }
    }
}

impl core::error::Error for ReportError {}

impl Report {
    /// Reads a report. Versions later than [`MAX_VERSION`] are read as far as they are known; the caller decides.
    ///
    /// # Errors
    /// When the length is not [`REPORT_LEN`] or the version is below [`MIN_VERSION`].
    pub fn parse(bytes: &[u8]) -> Result<&Self, ReportError> {
        let report =
            Self::ref_from_bytes(bytes).map_err(|_| ReportError::Length { found: bytes.len() })?;
        match report.version.get() {
            MIN_VERSION.. => Ok(report),
            found => Err(ReportError::Version { found }),
        }
    }

    /// The bytes that the signature covers.
    pub fn signed(&self) -> &[u8] {
        self.as_bytes().split_at(SIGNED_LEN).0
    }

    /// True if the version is one this crate knows entirely.
    pub fn version_is_known(&self) -> bool {
        (MIN_VERSION..=MAX_VERSION).contains(&self.version.get())
    }

    /// The guest policy.
    pub fn guest_policy(&self) -> GuestPolicy {
        GuestPolicy(self.policy.get())
    }

    /// The platform information.
    pub fn platform(&self) -> PlatformInfo {
        PlatformInfo(self.platform_info.get())
    }

    /// The flags beside the signature.
    pub fn keys(&self) -> KeyInfo {
        KeyInfo(self.key_info.get())
    }

    /// Family, model and stepping, `None` before version 3.
    pub fn cpu(&self) -> Option<CpuSignature> {
        (self.version.get() >= VERSION_WITH_CPUID).then_some(CpuSignature {
            family: self.cpuid_family,
            model: self.cpuid_model,
            stepping: self.cpuid_stepping,
        })
    }

    /// Launch and current mitigation vectors, `None` before version 5.
    pub fn mitigations(&self) -> Option<(u64, u64)> {
        (self.version.get() >= VERSION_WITH_MITIGATIONS)
            .then(|| (self.launch_mit_vector.get(), self.current_mit_vector.get()))
    }

    /// True if every byte that the report's version reserves is zero.
    pub fn reserved_is_zero(&self) -> bool {
        let zero = |bytes: &[u8]| bytes.iter().all(|b| *b == 0);
        self.reserved0.get() == 0
            && zero(&self.reserved1)
            && zero(&self.reserved2)
            && self.current_version.reserved == 0
            && self.committed_version.reserved == 0
            && (self.version.get() >= VERSION_WITH_CPUID
                || zero(&[self.cpuid_family, self.cpuid_model, self.cpuid_stepping]))
            && (self.version.get() >= VERSION_WITH_MITIGATIONS
                || (self.launch_mit_vector.get() == 0 && self.current_mit_vector.get() == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(version: u32) -> Report {
        let mut report = Report::read_from_bytes(&[0; REPORT_LEN]).unwrap();
        report.version.set(version);
        report
    }

    #[test]
    fn other_lengths_and_versions_are_errors() {
        let bytes = [2u8; REPORT_LEN + 1];
        for len in [0, 1, REPORT_LEN - 1, REPORT_LEN + 1] {
            assert_eq!(
                Report::parse(&bytes[..len]),
                Err(ReportError::Length { found: len })
            );
        }
        assert_eq!(
            Report::parse(report(1).as_bytes()),
            Err(ReportError::Version { found: 1 })
        );
        assert!(
            !Report::parse(report(6).as_bytes())
                .unwrap()
                .version_is_known()
        );
    }

    #[test]
    fn fields_appear_with_their_version() {
        assert_eq!(report(2).cpu(), None);
        assert!(report(3).cpu().is_some());
        assert_eq!(report(4).mitigations(), None);
        assert_eq!(report(5).mitigations(), Some((0, 0)));
        let mut old = report(2);
        old.cpuid_family = 0x19;
        assert!(!old.reserved_is_zero());
    }

    #[test]
    fn overlong_scalars_are_refused() {
        let mut signature = Signature::from_scalars(&[1; 48], &[2; 48]);
        assert_eq!(signature.scalars(), Some(([1; 48], [2; 48])));
        signature.s[48] = 1;
        assert_eq!(signature.scalars(), None);
    }

    proptest! {
        #[test]
        fn parsing_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..2 * REPORT_LEN)) {
            if let Ok(report) = Report::parse(&bytes) {
                prop_assert_eq!(report.as_bytes(), &bytes[..]);
                let _ = (report.cpu(), report.mitigations(), report.reserved_is_zero());
                let _ = report.signature.scalars();
            }
        }

        #[test]
        fn scalars_round_trip(r in proptest::collection::vec(any::<u8>(), 48), s in proptest::collection::vec(any::<u8>(), 48)) {
            let (r, s) = (r.try_into().unwrap(), s.try_into().unwrap());
            prop_assert_eq!(Signature::from_scalars(&r, &s).scalars(), Some((r, s)));
        }
    }
}
