// SPDX-License-Identifier: Apache-2.0

//! Reads along what a Keep sends, for the report in its evidence: whoever fetches certificates must know of which chip and
//! TCB version. The report is hostile; what it names only decides which certificates are asked for.

use enarx_session::document::{self, Evidence};
use enarx_session::frame::{Decoder, End, Kind};
use enarx_snp::report::Report;

/// The certificates for a report: by chip and reported TCB version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endorser {
    pub(crate) chip: [u8; 64],
    pub(crate) tcb: [u8; 8],
}

impl Endorser {
    /// The endorser that a report names; `None` when it is no report.
    pub(crate) fn of(report: &[u8]) -> Option<Self> {
        let report = Report::parse(report).ok()?;
        Some(Self {
            chip: report.chip_id,
            tcb: report.reported_tcb.0,
        })
    }
}

/// A second reader of what the session's decoder reads.
pub(crate) struct Peek {
    decoder: Decoder,
    report: Option<Vec<u8>>,
}

impl Peek {
    pub(crate) fn new() -> Self {
        Self {
            decoder: Decoder::new(End::Keep),
            report: None,
        }
    }

    /// Takes what the session has taken. Faults are the session's to find.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        while let Ok(Some(frame)) = self.decoder.take(&mut bytes) {
            if frame.kind == Kind::Evidence {
                let evidence = document::decode::<Evidence>(frame.kind, frame.payload).ok();
                let report = evidence.and_then(|evidence| evidence.report);
                self.report = report.map(|report| report.0);
            }
        }
    }

    /// The report of the last evidence; `None` if it has none.
    pub(crate) fn report(&self) -> Option<&[u8]> {
        self.report.as_deref()
    }
}
