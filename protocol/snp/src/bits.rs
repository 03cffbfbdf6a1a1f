// SPDX-License-Identifier: Apache-2.0

//! Bit fields of the attestation report: guest policy, platform information, key information. Values come from the
//! firmware or from a hostile host; unknown bits are kept and can be queried, never dropped.

/// One named bit of a bit field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bit {
    /// Number of the bit, 0 to 63.
    pub index: u32,
    /// Name in lower case with dashes, stable: policies and verdicts use it.
    pub name: &'static str,
    /// Meaning when set, one sentence.
    pub meaning: &'static str,
}

impl Bit {
    /// The bit's mask.
    pub const fn mask(&self) -> u64 {
        1 << self.index
    }
}

const fn bit(index: u32, name: &'static str, meaning: &'static str) -> Bit {
    Bit {
        index,
        name,
        meaning,
    }
}

const fn masks(bits: &[Bit]) -> u64 {
    let mut all = 0;
    let mut rest = bits;
    while let [bit, others @ ..] = rest {
        all |= bit.mask();
        rest = others;
    }
    all
}

/// The guest policy, 64 bits (56860 GUEST_POLICY).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestPolicy(pub u64);

impl GuestPolicy {
    /// SMT may be on.
    pub const SMT: Bit = bit(
        16,
        "smt",
        "the host may run with simultaneous multithreading on",
    );
    /// Reserved, must be one.
    pub const RESERVED_ONE: Bit = bit(17, "reserved-17", "reserved, must be one");
    /// A migration agent may be associated.
    pub const MIGRATE_MA: Bit = bit(
        18,
        "migration-agent",
        "a migration agent may be associated with the guest",
    );
    /// Debugging allowed.
    pub const DEBUG: Bit = bit(
        19,
        "debug",
        "the host may decrypt and change the guest's memory",
    );
    /// One socket only.
    pub const SINGLE_SOCKET: Bit = bit(
        20,
        "single-socket",
        "the guest may be activated on one socket only",
    );
    /// CXL may be populated.
    pub const CXL_ALLOW: Bit = bit(21, "cxl", "CXL may be populated with devices or memory");
    /// AES-256-XTS required.
    pub const MEM_AES_256_XTS: Bit = bit(
        22,
        "aes-256-xts",
        "memory must be encrypted with AES-256-XTS",
    );
    /// RAPL must be off.
    pub const RAPL_DIS: Bit = bit(
        23,
        "rapl-disabled",
        "the running average power limit must be off",
    );
    /// Ciphertext hiding required.
    pub const CIPHERTEXT_HIDING_DRAM: Bit = bit(
        24,
        "ciphertext-hiding",
        "ciphertext hiding for DRAM must be on",
    );
    /// Page move and swap commands off.
    pub const PAGE_SWAP_DISABLE: Bit = bit(
        25,
        "page-swap-disabled",
        "the host may not move or swap pages of the guest",
    );

    /// All known bits above the ABI version.
    pub const BITS: [Bit; 10] = [
        Self::SMT,
        Self::RESERVED_ONE,
        Self::MIGRATE_MA,
        Self::DEBUG,
        Self::SINGLE_SOCKET,
        Self::CXL_ALLOW,
        Self::MEM_AES_256_XTS,
        Self::RAPL_DIS,
        Self::CIPHERTEXT_HIDING_DRAM,
        Self::PAGE_SWAP_DISABLE,
    ];

    /// Minimum ABI major version of the firmware (bits 15:8).
    pub const fn abi_major(self) -> u8 {
        self.0.to_le_bytes()[1]
    }

    /// Minimum ABI minor version of the firmware (bits 7:0).
    pub const fn abi_minor(self) -> u8 {
        self.0.to_le_bytes()[0]
    }

    /// True if `bit` is set.
    pub const fn has(self, bit: Bit) -> bool {
        self.0 & bit.mask() != 0
    }

    /// Set bits that this version of the crate does not know.
    pub const fn unknown(self) -> u64 {
        self.0 & !(masks(&Self::BITS) | 0xFFFF)
    }
}

/// The report's statements about the platform, 64 bits (56860 PLATFORM_INFO).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlatformInfo(pub u64);

impl PlatformInfo {
    /// SMT is on.
    pub const SMT_EN: Bit = bit(0, "smt", "simultaneous multithreading is on");
    /// TSME is on.
    pub const TSME_EN: Bit = bit(1, "tsme", "transparent memory encryption is on");
    /// ECC memory.
    pub const ECC_EN: Bit = bit(2, "ecc", "the memory has error correction");
    /// RAPL is off.
    pub const RAPL_DIS: Bit = bit(3, "rapl-disabled", "the running average power limit is off");
    /// Ciphertext hiding is on.
    pub const CIPHERTEXT_HIDING_DRAM_EN: Bit =
        bit(4, "ciphertext-hiding", "ciphertext hiding for DRAM is on");
    /// No aliasing addresses were found since the last reset.
    pub const ALIAS_CHECK_COMPLETE: Bit = bit(
        5,
        "alias-check",
        "the firmware has looked for aliasing DRAM addresses and found none",
    );
    /// The IOMMU write buffer is safe.
    pub const IOMMU_WRITE_SAFE: Bit = bit(
        6,
        "iommu-write-safe",
        "writes of the IOMMU cannot corrupt guest memory",
    );
    /// SEV-TIO is on.
    pub const TIO_EN: Bit = bit(7, "tio", "trusted input and output for devices is on");

    /// All known bits.
    pub const BITS: [Bit; 8] = [
        Self::SMT_EN,
        Self::TSME_EN,
        Self::ECC_EN,
        Self::RAPL_DIS,
        Self::CIPHERTEXT_HIDING_DRAM_EN,
        Self::ALIAS_CHECK_COMPLETE,
        Self::IOMMU_WRITE_SAFE,
        Self::TIO_EN,
    ];

    /// True if `bit` is set.
    pub const fn has(self, bit: Bit) -> bool {
        self.0 & bit.mask() != 0
    }

    /// Set bits that this version of the crate does not know.
    pub const fn unknown(self) -> u64 {
        self.0 & !masks(&Self::BITS)
    }
}

/// Which key signed the report (56860 ATTESTATION_REPORT, SIGNING_KEY).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKey {
    /// 0: the versioned chip endorsement key.
    Vcek,
    /// 1: the versioned loaded endorsement key of a cloud provider.
    Vlek,
    /// 7: none, the report is not signed.
    None,
    /// 2 to 6: not defined.
    Reserved(u8),
}

/// The flags that accompany the report's signature, 32 bits (56860 ATTESTATION_REPORT, offset 48h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo(pub u32);

impl KeyInfo {
    /// True if AUTHOR_KEY_DIGEST holds a digest (bit 0).
    pub const fn author_key_enabled(self) -> bool {
        self.0 & 1 != 0
    }

    /// True if the firmware was told to leave reports unsigned (bit 1).
    pub const fn mask_chip_key(self) -> bool {
        self.0 & 2 != 0
    }

    /// The key that signed (bits 4:2).
    pub const fn signing_key(self) -> SigningKey {
        match (self.0 >> 2) & 7 {
            0 => SigningKey::Vcek,
            1 => SigningKey::Vlek,
            7 => SigningKey::None,
            2 => SigningKey::Reserved(2),
            3 => SigningKey::Reserved(3),
            4 => SigningKey::Reserved(4),
            5 => SigningKey::Reserved(5),
            _ => SigningKey::Reserved(6),
        }
    }

    /// Set bits that this version of the crate does not know.
    pub const fn unknown(self) -> u32 {
        self.0 & !0x1F
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_distinct_and_named() {
        for bits in [&GuestPolicy::BITS[..], &PlatformInfo::BITS[..]] {
            for (i, a) in bits.iter().enumerate() {
                assert!(
                    bits[i + 1..]
                        .iter()
                        .all(|b| b.index != a.index && b.name != a.name)
                );
            }
        }
    }

    #[test]
    fn unknown_bits_are_surfaced() {
        assert_eq!(GuestPolicy(0x3_001F).unknown(), 0);
        assert_eq!(GuestPolicy(1 << 26 | 0x3_0000).unknown(), 1 << 26);
        assert_eq!(PlatformInfo(0x1FF).unknown(), 0x100);
        assert_eq!(KeyInfo(0x20).unknown(), 0x20);
    }

    #[test]
    fn signing_keys_decode() {
        assert_eq!(KeyInfo(0).signing_key(), SigningKey::Vcek);
        assert_eq!(KeyInfo(1 << 2).signing_key(), SigningKey::Vlek);
        assert_eq!(KeyInfo(7 << 2).signing_key(), SigningKey::None);
        for reserved in 2..7u8 {
            assert_eq!(
                KeyInfo(u32::from(reserved) << 2).signing_key(),
                SigningKey::Reserved(reserved)
            );
        }
    }
}
