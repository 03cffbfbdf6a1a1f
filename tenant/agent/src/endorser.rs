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
    /// The endorser of the reports that a platform will have, by its host's word; `None` where the host says nothing of it.
    pub(crate) fn offered(platform: &PlatformOffer) -> Option<Self> {
        Some(Self {
            chip: platform.chip_id?.0,
            tcb: platform.tcb?.0,
        })
    }

    /// The endorser that a report names; `None` when it is no report.
    pub(crate) fn of(report: &[u8]) -> Option<Self> {
        let report = Report::parse(report).ok()?;
        Some(Self {
            chip: report.chip_id,
            tcb: report.reported_tcb.0,
        })
    }
}
