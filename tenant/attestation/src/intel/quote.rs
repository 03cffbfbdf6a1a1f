// SPDX-License-Identifier: Apache-2.0

//! A TDX or SGX quote, read. Hostile until judged.

use crate::verdict::EvidenceKind;
use crate::x509::{Cert, common_name};
use dcap_qvl::quote::AuthData;

/// Certification data that hold the quoting enclave's report (Intel TDX DCAP quoting library reference, appendix A.3.9);
/// no signature covers the type.
const QE_REPORT_DATA: u16 = 6;

/// The reason why bytes are not a quote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a malformed quote: {0}")]
pub struct MalformedQuote(String);

/// A quote, read but not judged.
#[derive(Debug, Clone)]
pub struct Quote<'a> {
    /// The quote without padding.
    pub(crate) bytes: &'a [u8],
    /// Its parts.
    pub(crate) parts: dcap_qvl::quote::Quote,
}

impl<'a> Quote<'a> {
    /// Reads a quote. Zeros after its end are padding, as some kernels deliver it.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, MalformedQuote> {
        let error = |text: &str| MalformedQuote(text.to_owned());
        let parts = dcap_qvl::quote::Quote::parse(bytes)
            .map_err(|error| MalformedQuote(format!("{error:#}")))?;
        if let AuthData::V4(auth) = &parts.auth_data
            && auth.certification_data.cert_type != QE_REPORT_DATA
        {
            return Err(error(
                "its certification data are not those of a quoting enclave",
            ));
        }
        let signed = parts.signed_length();
        let size = bytes
            .get(signed..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|le| u32::from_le_bytes(*le))
            .and_then(|size| usize::try_from(size).ok());
        let end = size.and_then(|size| size.checked_add(signed)?.checked_add(4));
        let (bytes, padding) = end
            .and_then(|end| bytes.split_at_checked(end))
            .ok_or_else(|| error("the signature data is truncated"))?;
        if padding.iter().any(|b| *b != 0) {
            return Err(error("bytes follow its end"));
        }
        Ok(Self { bytes, parts })
    }

    /// The hardware that the quote says it comes from.
    pub fn tee(&self) -> EvidenceKind {
        if self.parts.report.is_sgx() {
            EvidenceKind::Sgx
        } else {
            EvidenceKind::Tdx
        }
    }

    /// The platform family (FMSPC) and the authority over its PCK certificate; `None` when the quote does not carry
    /// that certificate.
    pub fn platform(&self) -> Option<([u8; 6], &'static str)> {
        let fmspc = dcap_qvl::intel::quote_fmspc(&self.parts).ok()?;
        let certificate = dcap_qvl::intel::extract_cert_chain(&self.parts).ok()?;
        let issuer = common_name(Cert::parse(certificate.first()?).ok()?.issuer());
        Some((
            fmspc,
            if issuer.contains("Platform") {
                "platform"
            } else {
                "processor"
            },
        ))
    }

    /// The parts of the quote.
    pub fn parts(&self) -> &dcap_qvl::quote::Quote {
        &self.parts
    }
}
