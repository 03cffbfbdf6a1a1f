// SPDX-License-Identifier: Apache-2.0

//! A SEV-SNP Keep as a whole: launched from its layout, then served.
//!
//! This is between the launcher and the main external loop; like both, it belongs to the host, and
//! the guest's requests are checked in [`super::exits`].
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use enarx_executor::fault::KeepFault;
use enarx_launch::layout::Page;
use enarx_launch::variant::Variant;
use enarx_snp::cpuid::CpuidPage;
use enarx_snp::launch::PageType;
use enarx_snp::vmsa::sev_features;
use kvm_bindings::CpuId;

use super::cpuid::Correction;
use super::device::{Device, Vm};
use super::exits::{self, Answer, Exit};
use super::launcher::{Identity, Launcher, Sealed, Settings, SnpError};
use super::memory::{Extent, Map, Slot};
use crate::vm::entry::Enter;

/// Everything that a Keep is launched from.
#[derive(Debug)]
pub struct Request<'a, M> {
    /// The ordered page list; its CPUID page is filled in here.
    pub pages: Vec<Page>,
    /// The parts of the memory that begin as shared.
    pub shared: &'a [Range<u64>],
    /// Contents of the CPUID page.
    pub cpuid_page: CpuidPage,
    /// CPUID of every vCPU.
    pub cpuids: &'a [CpuId],
    /// Size of the memory, which begins at guest physical address 0, in bytes.
    pub size: u64,
    /// The memory that backs its shared side.
    pub memory: M,
    /// The identity that the firmware compares the launch with, where there is one.
    pub identity: Option<Identity<'a>>,
    /// HOST_DATA of the reports.
    pub host_data: [u8; 32],
    /// Guest policy and SEV features; the vCPUs' pages have the same features.
    pub variant: Variant,
}

/// A launched Keep.
#[derive(Debug)]
pub struct Guest<V: Vm> {
    // vCPUs are dropped before the machine.
    vcpus: Mutex<Vec<Option<V::Vcpu>>>,
    vm: V,
    map: Map,
    corrections: Vec<Correction>,
}

impl<V: Vm> Guest<V> {
    /// The machine.
    pub fn machine(&self) -> &V {
        &self.vm
    }

    /// Launches a Keep.
    ///
    /// # Errors
    /// [`SnpError`].
    pub fn launch<D: Device<Vm = V>>(
        device: &D,
        request: Request<'_, V::Memory>,
    ) -> Result<Self, SnpError> {
        let mut pages = request.pages;
        for page in pages.iter_mut().filter(|page| page.kind == PageType::Cpuid) {
            *page.bytes = zerocopy::transmute!(request.cpuid_page);
        }
        let settings = Settings {
            policy: request.variant.policy(),
            // KVM adds this one by itself.
            vmsa_features: request.variant.features() & !sev_features::SNP_ACTIVE.mask(),
        };
        let slot = Slot {
            extent: Extent {
                gpa: 0,
                size: request.size,
                private: true,
            },
            memory: request.memory,
        };
        let Sealed {
            vcpus,
            vm,
            map,
            corrections,
        } = Launcher::create(device, settings)?
            .start(vec![slot], request.shared)?
            .load(&pages, request.cpuids)?
            .seal(request.identity, request.host_data)?;
        Ok(Self {
            vcpus: Mutex::new(vcpus.into_iter().map(Some).collect()),
            vm,
            map,
            corrections,
        })
    }

    /// Returns the bits that the firmware cleared in the CPUID page; to be reported to the operator.
    pub fn corrections(&self) -> &[Correction] {
        &self.corrections
    }

    /// Hands out vCPU `id`, once: the launch creates all of them.
    pub fn vcpu(&self, id: u32) -> Option<V::Vcpu> {
        // A panic elsewhere does not spoil the list.
        let mut vcpus = self.vcpus.lock().unwrap_or_else(PoisonError::into_inner);
        vcpus.get_mut(usize::try_from(id).ok()?)?.take()
    }

    /// Serves an exit, as [`exits::serve`].
    ///
    /// # Errors
    /// [`KeepFault`]: the Keep has ended, or has to.
    pub fn serve(&self, exit: Exit) -> Result<Answer, KeepFault> {
        exits::serve(&self.vm, &self.map, exit)
    }

    /// Serves an exit, and leaves the answer to a hypercall where KVM looks for it when the vCPU is entered again.
    ///
    /// # Errors
    /// [`KeepFault`]: the Keep has ended, or has to.
    pub fn answer(&self, vcpu: &mut impl Enter, exit: Exit) -> Result<(), KeepFault> {
        vcpu.answer_hypercall(self.serve(exit)?.value());
        Ok(())
    }
}
