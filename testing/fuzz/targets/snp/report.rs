// SPDX-License-Identifier: Apache-2.0

//! The report parser is total, and reading is lossless.
#![cfg_attr(fuzzing, no_main)]

use enarx_snp::product::CpuSignature;
use enarx_snp::report::Report;
use zerocopy::IntoBytes;

enarx_fuzz::target!(|bytes: &[u8]| {
    if let Ok(report) = Report::parse(bytes) {
        assert_eq!(report.as_bytes(), bytes);
        let _ = (
            report.reserved_is_zero(),
            report.signature.scalars(),
            report.mitigations(),
        );
        let _ = (
            report.guest_policy().unknown(),
            report.platform().unknown(),
            report.keys().signing_key(),
        );
        let _ = report.cpu().and_then(CpuSignature::generation);
    }
});
