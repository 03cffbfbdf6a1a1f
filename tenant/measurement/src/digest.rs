// SPDX-License-Identifier: Apache-2.0

//! The launch digest of a page list, as the secure processor computes it (56860 sections 8.17 and 8.17.2). Trusts
//! nobody: the pages are the tenant's own recomputation of those that a host must load.

use enarx_launch::layout::Page;
use enarx_snp::launch::PageInfo;
use sha2::{Digest, Sha384};
use zerocopy::IntoBytes;

/// The launch digest before the first page (56860 section 8.16).
pub(crate) const INITIAL: [u8; 48] = [0; 48];

/// The launch digest after one more page.
pub(crate) fn extended(digest: [u8; 48], page: &Page) -> [u8; 48] {
    let contents = if page.kind.contents_are_measured() {
        Sha384::digest(page.bytes.as_slice()).into()
    } else {
        [0; 48]
    };
    let info = PageInfo::new(digest, page.kind, contents, page.gpa);
    Sha384::digest(info.as_bytes()).into()
}

/// The launch digest after these pages, in the order in which they are loaded; all zero for none.
///
/// The VMSA pages are part of the list, at [`enarx_snp::launch::VMSA_GPA`], in the order of their vCPUs.
#[must_use]
pub fn launch_digest<'a>(pages: impl IntoIterator<Item = &'a Page>) -> [u8; 48] {
    pages.into_iter().fold(INITIAL, extended)
}
