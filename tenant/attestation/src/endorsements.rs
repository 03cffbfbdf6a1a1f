// SPDX-License-Identifier: Apache-2.0

//! The vendors' statements about the hardware. All of it is hostile until checked.

/// The vendors' statements about the hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endorsements {
    /// For SEV-SNP reports.
    pub amd: AmdEndorsements,
    /// For TDX and SGX quotes: the collateral as JSON, in the format of `dcap-qvl` (`QuoteCollateralV3`).
    pub intel: Option<Vec<u8>>,
}

/// Certificates of AMD, each as DER or PEM, and revocation lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AmdEndorsements {
    /// Certificate of the key that signed the report: VCEK or VLEK.
    pub vek: Option<Vec<u8>>,
    /// Its issuer: ASK for a VCEK, ASVK for a VLEK.
    pub ask: Option<Vec<u8>>,
    /// The root: ARK.
    pub ark: Option<Vec<u8>>,
    /// Revocation lists, in any order.
    pub crls: Vec<RevocationList>,
}

/// A revocation list of AMD.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationList {
    /// DER or PEM.
    pub bytes: Vec<u8>,
    /// The file that it is from, by which a verdict names it; `None` where it is from none, and is named by its number.
    pub file: Option<String>,
}

impl From<Vec<u8>> for RevocationList {
    /// A list that is from no file.
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, file: None }
    }
}
