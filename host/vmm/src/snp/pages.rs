// SPDX-License-Identifier: Apache-2.0

//! The ordered page list of a launch, checked, and cut into what one command takes.
//!
//! The list comes from this VMM's own plan; the checks turn its defects into errors before the
//! secure processor sees a page.
#![forbid(unsafe_code)]

use enarx_boot::layout::PAGE;
use enarx_launch::layout::Page;
use enarx_snp::launch::{PageType, VMSA_GPA};

use super::memory::Map;

/// Most pages of one command: bounds the copy that KVM takes them from to 256 KiB.
pub const BATCH: usize = 64;

/// A page list that cannot be launched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A page outside of the private memory.
    #[error("the launch page at {gpa:#x} is not a page of the private memory")]
    NotPrivate {
        /// Guest physical address.
        gpa: u64,
    },
    /// A page twice.
    #[error("the launch page at {gpa:#x} is in the list twice")]
    Twice {
        /// Guest physical address.
        gpa: u64,
    },
    /// KVM loads the vCPUs' pages after all others.
    #[error("the launch page at {gpa:#x} follows a vCPU's page; those must come last")]
    BehindVmsa {
        /// Guest physical address.
        gpa: u64,
    },
    /// KVM measures vCPUs' pages at one address.
    #[error("a vCPU's page is listed at {gpa:#x}, but is measured at {VMSA_GPA:#x}")]
    VmsaAddress {
        /// Guest physical address in the list.
        gpa: u64,
    },
    /// KVM adds one page for every vCPU.
    #[error("the launch has {pages} vCPU pages for {vcpus} vCPUs")]
    VmsaCount {
        /// Pages in the list.
        pages: usize,
        /// vCPUs that will be created.
        vcpus: usize,
    },
}

/// A checked list.
#[derive(Clone, Copy, Debug)]
pub struct PageList<'a> {
    loaded: &'a [Page],
    vmsas: &'a [Page],
}

impl<'a> PageList<'a> {
    /// Checks a list for a launch into `map` with this number of vCPUs.
    ///
    /// # Errors
    /// [`PageError`].
    pub fn new(pages: &'a [Page], map: &Map, vcpus: usize) -> Result<Self, PageError> {
        let first_vmsa = pages
            .iter()
            .position(|page| page.kind == PageType::Vmsa)
            .unwrap_or(pages.len());
        let (loaded, vmsas) = pages.split_at(first_vmsa);
        for page in vmsas {
            let gpa = page.gpa;
            if page.kind != PageType::Vmsa {
                return Err(PageError::BehindVmsa { gpa });
            }
            if gpa != VMSA_GPA {
                return Err(PageError::VmsaAddress { gpa });
            }
        }
        for &Page { gpa, .. } in loaded {
            if !gpa.is_multiple_of(PAGE) || map.begins_private(gpa) != Some(true) {
                return Err(PageError::NotPrivate { gpa });
            }
        }
        let mut addresses: Vec<u64> = loaded.iter().map(|page| page.gpa).collect();
        addresses.sort_unstable();
        let twice = addresses.windows(2).find_map(|pair| match pair {
            [first, second] if first == second => Some(*first),
            _ => None,
        });
        if let Some(gpa) = twice {
            return Err(PageError::Twice { gpa });
        }
        if vcpus == 0 || vmsas.len() != vcpus {
            return Err(PageError::VmsaCount {
                pages: vmsas.len(),
                vcpus,
            });
        }
        Ok(Self { loaded, vmsas })
    }

    /// The pages that the VMM loads, in order, split into commands: pages of one type at
    /// successive addresses, at most [`BATCH`]. The CPUID page has its own command, because the
    /// firmware may correct it.
    pub fn batches(&self) -> impl Iterator<Item = &'a [Page]> {
        self.loaded
            .chunk_by(|first, second| {
                first.kind == second.kind
                    && first.kind != PageType::Cpuid
                    && first.gpa.checked_add(PAGE) == Some(second.gpa)
            })
            .flat_map(|run| run.chunks(BATCH))
    }

    /// The vCPUs' pages, in the order of the vCPUs.
    pub fn vmsas(&self) -> &'a [Page] {
        self.vmsas
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Extent;
    use super::*;

    fn page(gpa: u64, kind: PageType) -> Page {
        Page {
            gpa,
            kind,
            bytes: Box::new([0; 4096]),
        }
    }

    fn map() -> Map {
        let ram = Extent {
            gpa: 0,
            size: 1 << 20,
            private: true,
        };
        let window = 0x8_0000..0x9_0000;
        Map::new(vec![ram], &[window]).unwrap()
    }

    #[test]
    fn batches_are_runs_of_one_type() {
        use PageType::{Cpuid, Normal, Vmsa, Zero};
        let mut pages = vec![
            page(0x1000, Normal),
            page(0x2000, Normal),
            page(0x3000, Zero),
            page(0x5000, Zero),
            page(0x6000, Cpuid),
            page(0x7000, Cpuid),
        ];
        pages.extend((0x10..0x10 + 66).map(|gfn| page(gfn << 12, Zero)));
        pages.extend([page(VMSA_GPA, Vmsa), page(VMSA_GPA, Vmsa)]);
        let list = PageList::new(&pages, &map(), 2).unwrap();
        let lengths: Vec<usize> = list.batches().map(<[Page]>::len).collect();
        assert_eq!(lengths, [2, 1, 1, 1, 1, BATCH, 2]);
        let order: Vec<u64> = list.batches().flatten().map(|page| page.gpa).collect();
        let listed: Vec<u64> = pages[..72].iter().map(|page| page.gpa).collect();
        assert_eq!(order, listed);
        assert_eq!(list.vmsas().len(), 2);
    }

    #[test]
    fn refuses_lists_that_cannot_be_launched() {
        use PageType::{Normal, Secrets, Vmsa, Zero};
        for (pages, vcpus, error) in [
            (
                vec![page(0x8_0000, Normal)],
                0,
                PageError::NotPrivate { gpa: 0x8_0000 },
            ),
            (
                vec![page(0x10_0000, Zero)],
                0,
                PageError::NotPrivate { gpa: 0x10_0000 },
            ),
            (vec![page(1, Normal)], 0, PageError::NotPrivate { gpa: 1 }),
            (
                vec![page(0x1000, Normal), page(0, Zero), page(0x1000, Secrets)],
                0,
                PageError::Twice { gpa: 0x1000 },
            ),
            (
                vec![page(VMSA_GPA, Vmsa), page(0x1000, Normal)],
                1,
                PageError::BehindVmsa { gpa: 0x1000 },
            ),
            (
                vec![page(0x1000, Vmsa)],
                1,
                PageError::VmsaAddress { gpa: 0x1000 },
            ),
            (
                vec![page(VMSA_GPA, Vmsa)],
                2,
                PageError::VmsaCount { pages: 1, vcpus: 2 },
            ),
            (vec![], 0, PageError::VmsaCount { pages: 0, vcpus: 0 }),
        ] {
            assert_eq!(PageList::new(&pages, &map(), vcpus).map(|_| ()), Err(error));
        }
    }
}
