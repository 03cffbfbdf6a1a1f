// SPDX-License-Identifier: Apache-2.0

//! The secure processor's account of itself: version, state, security versions (`SNP_PLATFORM_STATUS`).
//!
//! For the operator, who otherwise cannot see it before a launch. Nobody trusts it: the tenant judges reports.
#![forbid(unsafe_code)]

use std::fmt;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Oldest version of the SEV-SNP ABI that Linux takes (`drivers/crypto/ccp/sev-dev.c`, `SNP_MIN_API_MAJOR` and
/// `SNP_MIN_API_MINOR`).
pub const OLDEST_API: (u8, u8) = (1, 51);

/// `struct sev_user_data_snp_status` (Linux `linux/psp-sev.h`; 56860, `SNP_PLATFORM_STATUS`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct PlatformStatus {
    /// Version of the ABI: major and minor number.
    pub api: [u8; 2],
    /// State of SEV-SNP: 0 uninitialized, 1 initialized.
    pub state: u8,
    /// Bit 0: the RMP is initialized.
    pub rmp: u8,
    /// Build number of the firmware.
    pub build: U32,
    /// Switches; [`PlatformStatus::CIPHERTEXT_HIDING`] is one.
    pub flags: U32,
    /// SEV-SNP guests now.
    pub guests: U32,
    /// Security versions of the firmware that runs.
    pub current_tcb: U64,
    /// Security versions that reports have.
    pub reported_tcb: U64,
}

const _: () = assert!(size_of::<PlatformStatus>() == 32);

impl PlatformStatus {
    /// Ciphertext hiding is on (Linux 6.18 `linux/psp-sev.h`, `ciphertext_hiding_en`).
    pub const CIPHERTEXT_HIDING: u32 = 1 << 6;
    /// [`PlatformStatus::state`] of an initialized platform.
    pub const INITIALIZED: u8 = 1;

    /// True if this version can launch guests with Linux.
    pub fn is_new_enough(&self) -> bool {
        (self.api[0], self.api[1]) >= OLDEST_API
    }

    /// True if SEV-SNP is initialized, with its RMP.
    pub fn initialized(&self) -> bool {
        self.state == Self::INITIALIZED && self.rmp & 1 == 1
    }
}

impl fmt::Display for PlatformStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            0 => "uninitialized".into(),
            1 => "initialized".into(),
            other => format!("in the unknown state {other}"),
        };
        let rmp = if self.rmp & 1 == 1 { "with" } else { "without" };
        let hiding = if self.flags.get() & Self::CIPHERTEXT_HIDING == 0 {
            "off"
        } else {
            "on"
        };
        write!(
            f,
            "ABI version {}.{}, build {}, {state}, {rmp} RMP, guests {}, TCB {:#018x} (reported {:#018x}), ciphertext hiding {hiding}",
            self.api[0], self.api[1], self.build, self.guests, self.current_tcb, self.reported_tcb
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_where_the_kernel_puts_it() {
        let mut bytes = [0u8; 32];
        bytes[..4].copy_from_slice(&[1, 55, 1, 1]);
        bytes[4] = 9;
        bytes[8] = 1 << 6;
        bytes[12] = 3;
        bytes[16..24].copy_from_slice(&[4, 0, 0, 0, 0, 0, 0x18, 0xd3]);
        let status: PlatformStatus = zerocopy::transmute!(bytes);
        assert!(status.initialized() && status.is_new_enough());
        assert_eq!(
            status.to_string(),
            "ABI version 1.55, build 9, initialized, with RMP, guests 3, TCB 0xd318000000000004 (reported \
            0x0000000000000000), ciphertext hiding on"
        );
        for (api, is_new_enough) in [
            ([1, 50], false),
            ([1, 51], true),
            ([2, 0], true),
            ([0, 99], false),
        ] {
            assert_eq!(
                PlatformStatus { api, ..status }.is_new_enough(),
                is_new_enough
            );
        }
        assert!(!PlatformStatus { rmp: 0, ..status }.initialized());
    }
}
