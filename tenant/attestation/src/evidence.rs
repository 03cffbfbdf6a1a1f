// SPDX-License-Identifier: Apache-2.0

//! Which kind of evidence bytes are. Hostile until judged.

use crate::intel::{MalformedQuote, Quote};
use enarx_snp::report::{REPORT_LEN, Report, ReportError};

/// Evidence, read but not judged.
#[derive(Debug, Clone)]
pub enum Evidence<'a> {
    /// An SEV-SNP attestation report.
    Snp(&'a Report),
    /// A TDX or SGX quote.
    Quote(Box<Quote<'a>>),
}

/// The reason why bytes are not evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Neither the length of a report nor the header of a quote.
    #[error(
        "neither an SEV-SNP report ({REPORT_LEN} bytes) nor a TDX or SGX quote of version 3 to 5; this has {found} bytes"
    )]
    Unknown {
        /// The length found.
        found: usize,
    },
    /// An SEV-SNP report followed by other bytes.
    #[error(
        "an SEV-SNP report, followed by {more} bytes that are neither zeros nor a table of certificates: give the \
        report alone, which is the first {REPORT_LEN} bytes"
    )]
    Followed {
        /// The bytes after the report.
        more: usize,
    },
    /// A part of an SEV-SNP report.
    #[error("a truncated SEV-SNP report: it has {found} bytes of {REPORT_LEN}")]
    CutOff {
        /// The length found.
        found: usize,
    },
    /// An SEV-SNP report that cannot be read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A quote that cannot be read.
    #[error(transparent)]
    Quote(#[from] MalformedQuote),
}

impl<'a> Evidence<'a> {
    /// Reads evidence. A quote has its key type in bytes 2 and 3, where the version of a report has zeros.
    ///
    /// # Errors
    /// If the bytes are not evidence.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EvidenceError> {
        match bytes {
            [3..=5, 0, low, high, ..] if (*low, *high) != (0, 0) => {
                Ok(Self::Quote(Box::new(Quote::parse(bytes)?)))
            }
            _ if bytes.len() == REPORT_LEN => Ok(Self::Snp(Report::parse(bytes)?)),
            // Zeros follow the version and the guest's own version, which never becomes that large.
            [2..=5, 0, 0, 0, _, _, 0, 0, ..] => Err(match bytes.len().checked_sub(REPORT_LEN) {
                Some(more) => EvidenceError::Followed { more },
                None => EvidenceError::CutOff { found: bytes.len() },
            }),
            _ => Err(EvidenceError::Unknown { found: bytes.len() }),
        }
    }
}
