// SPDX-License-Identifier: Apache-2.0

//! The launch digest as a tenant computes it from the page list.

use enarx_launch::layout::Page;
use enarx_snp::launch::PageInfo;
use sha2::{Digest, Sha384};
use zerocopy::IntoBytes;

/// The digest over the whole list (56860, section 8.17.2).
pub fn expected_digest(pages: &[Page]) -> [u8; 48] {
    let sha = |bytes: &[u8]| -> [u8; 48] { Sha384::digest(bytes).into() };
    pages.iter().fold([0; 48], |digest, page| {
        let info = PageInfo::new(digest, page.kind, sha(&page.bytes[..]), page.gpa);
        sha(info.as_bytes())
    })
}
