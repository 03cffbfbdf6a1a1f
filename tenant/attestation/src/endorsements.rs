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

/// Certificates and revocation lists of AMD, each as DER or PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AmdEndorsements {
    /// Certificate of the key that signed the report: VCEK or VLEK.
    pub vek: Option<Vec<u8>>,
    /// Its issuer: ASK for a VCEK, ASVK for a VLEK.
    pub ask: Option<Vec<u8>>,
    /// The root: ARK.
    pub ark: Option<Vec<u8>>,
    /// Revocation lists, in any order.
    pub crls: Vec<Vec<u8>>,
}
