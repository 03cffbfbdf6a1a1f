// SPDX-License-Identifier: Apache-2.0

//! The pages and message headers that host or firmware write: reading them is total.
#![cfg_attr(fuzzing, no_main)]

use enarx_snp::cpuid::CpuidPage;
use enarx_snp::ghcb::PageStateChange;
use enarx_snp::guest_message::{Header, MessageType};
use zerocopy::FromBytes;

enarx_fuzz::target!(|input: &[u8]| {
    // A whole page: a fuzzer makes up short inputs.
    let mut bytes = [0; 4096];
    let input = &input[..input.len().min(bytes.len())];
    bytes[..input.len()].copy_from_slice(input);
    let bytes = bytes.as_slice();
    if let Ok((page, _)) = CpuidPage::ref_from_prefix(bytes) {
        assert!(page.entries().len() <= page.table.len());
    }
    if let Ok((header, _)) = Header::ref_from_prefix(bytes) {
        let _ = (header.aad(), header.iv());
        let _ = header.payload_len(MessageType::ReportResponse, header.msg_seqno.get(), 0);
    }
    if let Ok((change, _)) = PageStateChange::ref_from_prefix(bytes) {
        for entry in change.entries {
            let _ = (
                entry.gfn(),
                entry.operation(),
                entry.is_huge(),
                entry.current_page(),
            );
        }
    }
});
