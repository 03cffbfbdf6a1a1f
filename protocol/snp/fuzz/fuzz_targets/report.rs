// SPDX-License-Identifier: Apache-2.0

//! The report parser is total, and reading is lossless.
#![no_main]

use enarx_snp::product::CpuSignature;
use enarx_snp::report::Report;
use libfuzzer_sys::fuzz_target;
use zerocopy::IntoBytes;

fuzz_target!(|bytes: &[u8]| {
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
