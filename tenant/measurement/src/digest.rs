//! The launch digest of a page list, as the secure processor computes it (56860 sections 8.17 and 8.17.2). Trusts
//! nobody: the pages are the tenant's own recomputation of what a host must load.

use enarx_launch::layout::Page;
use enarx_snp::launch::PageInfo;
use sha2::{Digest, Sha384};
use zerocopy::IntoBytes;

/// The launch digest after these pages, in the order in which they are loaded; all zero for none.
///
/// The VMSA pages are part of the list, at [`enarx_snp::launch::VMSA_GPA`], in the order of their vCPUs.
#[must_use]
pub fn launch_digest<'a>(pages: impl IntoIterator<Item = &'a Page>) -> [u8; 48] {
    pages.into_iter().fold([0; 48], |digest, page| {
        let contents = if page.kind.contents_are_measured() {
            Sha384::digest(page.bytes.as_slice()).into()
        } else {
            [0; 48]
        };
        let info = PageInfo::new(digest, page.kind, contents, page.gpa);
        Sha384::digest(info.as_bytes()).into()
    })
}
