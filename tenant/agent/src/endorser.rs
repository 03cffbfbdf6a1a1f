// SPDX-License-Identifier: Apache-2.0

//! The key that signed a report, as the report names it, or before there is one, the host. The report is the host's until it has
//! been judged.

use enarx_manager_api::PlatformOffer;
use enarx_snp::report::Report;

/// The certificates for a report: by chip and reported TCB version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endorser {
    pub(crate) chip: [u8; 64],
    pub(crate) tcb: [u8; 8],
}

impl Endorser {
    /// The endorser of a platform's future reports, as its host claims; `None` if the host does not
    /// say.
    pub(crate) fn offered(platform: &PlatformOffer) -> Option<Self> {
        Some(Self {
            chip: platform.chip_id?.0,
            tcb: platform.tcb?.0,
        })
    }

    /// The endorser that a report names; `None` if it is not a report.
    pub(crate) fn of(report: &[u8]) -> Option<Self> {
        let report = Report::parse(report).ok()?;
        Some(Self {
            chip: report.chip_id,
            tcb: report.reported_tcb.0,
        })
    }
}
