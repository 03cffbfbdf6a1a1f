// SPDX-License-Identifier: Apache-2.0

//! The launch of a SEV-SNP Keep in the order that KVM wants, each step possible only after the one
//! before it.
//!
//! The launcher belongs to the host: the tenant trusts the measurement, not the launcher. It gives the one ordered
//! page list to the secure processor and refuses anything that would be measured differently.
#![forbid(unsafe_code)]

use std::time::Duration;

use enarx_boot::layout::PAGE;
use enarx_launch::layout::Page;
use enarx_snp::bits::GuestPolicy;
use enarx_snp::cpuid::CpuidPage;
use enarx_snp::id_block::{IdAuth, IdBlock};
use enarx_snp::launch::PageType;
use enarx_snp::vmsa::sev_features;
use kvm_bindings::{
    CpuId, KVM_CAP_EXIT_HYPERCALL, KVM_MEM_GUEST_MEMFD, KVM_MEMORY_ATTRIBUTE_PRIVATE,
    KVM_X86_SNP_VM, kvm_create_guest_memfd, kvm_memory_attributes, kvm_sev_init,
    kvm_sev_snp_launch_finish, kvm_sev_snp_launch_start, kvm_sev_snp_launch_update,
    kvm_userspace_memory_region2,
};
use rustix::io::Errno;

use super::abi::{GHCB_VERSION, MAP_GPA_RANGE};
use super::cpuid::{self, Correction, CpuidError};
use super::device::{CommandError, Device, SourcePage, Vm};
use super::firmware::Status;
use super::memory::{Map, MapError, Slot};
use super::pages::{PageError, PageList};
use super::probe::{Missing, Offer, demands};
use crate::vm::registers::{Registers, StateError, VcpuError};

/// How often `KVM_SET_MEMORY_ATTRIBUTES` is repeated if KVM asks for it.
pub const MOST_REPEATS: u32 = 1000;
/// Attempts for a page that the kernel refuses without a reason, `PAUSE` apart: it reports a signal or a temporary
/// lack of memory as EIO, like everything else (Linux `snp_launch_update`).
pub const MOST_TRIES: u32 = 10;
/// The time between two such tries.
const PAUSE: Duration = Duration::from_millis(10);
/// How often the firmware may correct the CPUID page. On hardware one round is known to do.
pub const MOST_CORRECTIONS: u32 = 8;

/// The settings of the whole launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The guest policy.
    pub policy: GuestPolicy,
    /// Bits of `SEV_FEATURES` beyond the active one.
    pub vmsa_features: u64,
}

/// The ID block that a guest's owner signed for exactly this launch.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The ID block.
    pub block: &'a IdBlock,
    /// Its authentication.
    pub auth: &'a IdAuth,
    /// The author key is also checked, and its digest is put into the reports.
    pub author_key: bool,
}

/// Why a launch failed.
#[derive(Debug, thiserror::Error)]
pub enum SnpError {
    /// The host lacks something.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The memory cannot be.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The page list cannot be launched.
    #[error(transparent)]
    Pages(#[from] PageError),
    /// A vCPU's page is not what KVM builds.
    #[error(transparent)]
    State(#[from] StateError),
    /// A vCPU could not be set up.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// The firmware refused the CPUID page.
    #[error(transparent)]
    Cpuid(#[from] CpuidError),
    /// The kernel is busy, and did not ask the firmware: most likely every ASID is in use.
    #[error(
        "KVM has no place for another SEV-SNP guest (EBUSY): every ASID is taken, or the limit `sev_es` of the cgroup \
        controller `misc` is reached, or the secure processor is dead (`sudo dmesg | grep -i ccp` says so); end \
        another confidential guest, or raise their number: by the SEV-ES ASID space limit in the firmware's setup, and \
        where kvm_amd is loaded with ciphertext_hiding_asids=N by that parameter alone"
    )]
    Full,
    /// The kernel or the firmware refused a step.
    #[error("KVM refused to {step}: {source}")]
    Refused {
        /// The step that was tried.
        step: &'static str,
        /// The answer.
        source: CommandError,
    },
    /// The firmware refused the guest policy.
    #[error("this machine does not support a guest policy with {}: {source}", demands(*policy))]
    Policy {
        /// The policy.
        policy: GuestPolicy,
        /// The answer.
        source: CommandError,
    },
    /// The kernel or the firmware refused a page.
    #[error("KVM refused the launch page at {gpa:#x} ({kind:?}): {source}")]
    Page {
        /// Guest physical address of the first page that was not taken.
        gpa: u64,
        /// Its type.
        kind: PageType,
        /// The answer.
        source: CommandError,
    },
    /// KVM's account of its progress makes no sense.
    #[error("KVM miscounts the launch pages behind {gpa:#x}; use Linux's own KVM, 6.11 or later")]
    Progress {
        /// Guest physical address where it was before.
        gpa: u64,
    },
    /// KVM refuses a page without a reason, each time.
    #[error(
        "the kernel refused the launch page at {gpa:#x} ({kind:?}) {MOST_TRIES} times (EIO) and gives the reason only \
        in its log: `echo 'file sev.c +p' | sudo tee /sys/kernel/debug/dynamic_debug/control`, then try again and read \
        `sudo dmesg | tail` (kvm_gmem_populate failed, ret …: -12 is a host without free memory)"
    )]
    Stalled {
        /// Guest physical address of the first page that was not taken.
        gpa: u64,
        /// Its type.
        kind: PageType,
    },
}

fn refused<E: Into<CommandError>>(step: &'static str) -> impl FnOnce(E) -> SnpError {
    move |source| SnpError::Refused {
        step,
        source: source.into(),
    }
}

/// The kernel asks for a repetition.
pub(super) fn repeatable(errno: Errno) -> bool {
    errno == Errno::INTR || errno == Errno::AGAIN
}

/// There is a machine of type SEV-SNP.
#[derive(Debug)]
pub struct Created(());

/// The memory is there and the measurement has begun.
#[derive(Debug)]
pub struct Measuring {
    map: Map,
}

/// Every page is measured, every vCPU has its registers.
#[derive(Debug)]
pub struct Loaded<C> {
    vcpus: Vec<C>,
    map: Map,
    corrections: Vec<Correction>,
}

/// A launch in progress; dropping it ends the machine.
#[derive(Debug)]
pub struct Launcher<V, S> {
    // Holds vCPUs, which are dropped before the machine.
    state: S,
    vm: V,
    settings: Settings,
}

/// A launched Keep: nothing can be measured or changed from outside any more.
#[derive(Debug)]
pub struct Sealed<V: Vm> {
    /// The vCPUs, by number.
    pub vcpus: Vec<V::Vcpu>,
    /// The machine.
    pub vm: V,
    /// Its memory.
    pub map: Map,
    /// The bits that the firmware cleared in the CPUID page; to be reported to the operator.
    pub corrections: Vec<Correction>,
}

impl<V: Vm> Launcher<V, Created> {
    /// Makes a machine.
    ///
    /// # Errors
    /// [`SnpError::Missing`] for features that the host lacks; [`SnpError::Refused`].
    pub fn create<D: Device<Vm = V>>(device: &D, settings: Settings) -> Result<Self, SnpError> {
        Offer::of(device)?.check(settings.policy, settings.vmsa_features)?;
        let mut vm = loop {
            match device.create_vm(KVM_X86_SNP_VM) {
                Err(Errno::INTR) => {}
                other => break other.map_err(refused("create a SEV-SNP machine"))?,
            }
        };
        // Without it every page state change of the guest fails.
        vm.enable_capability(KVM_CAP_EXIT_HYPERCALL, [1 << MAP_GPA_RANGE, 0, 0, 0])
            .map_err(refused("forward page state changes"))?;
        let mut init = kvm_sev_init {
            vmsa_features: settings.vmsa_features,
            ghcb_version: GHCB_VERSION,
            ..kvm_sev_init::default()
        };
        vm.sev_init(&mut init).map_err(|error| match error.errno {
            Errno::BUSY if error.firmware == Status::SUCCESS => SnpError::Full,
            _ => refused("initialize SEV-SNP")(error),
        })?;
        Ok(Self {
            state: Created(()),
            vm,
            settings,
        })
    }

    /// Gives the machine its memory, private except the windows in `shared`, and begins the measurement.
    ///
    /// # Errors
    /// [`SnpError::Map`]; [`SnpError::Refused`].
    pub fn start(
        mut self,
        slots: Vec<Slot<V::Memory>>,
        shared: &[std::ops::Range<u64>],
    ) -> Result<Launcher<V, Measuring>, SnpError> {
        let map = Map::new(slots.iter().map(|slot| slot.extent).collect(), shared)?;
        for (number, slot) in (0u32..).zip(slots) {
            self.add(number, slot)?;
        }
        for range in map.private_ranges() {
            let request = kvm_memory_attributes {
                address: range.start,
                size: range.end.saturating_sub(range.start),
                attributes: KVM_MEMORY_ATTRIBUTE_PRIVATE.into(),
                flags: 0,
            };
            set_attributes(&self.vm, request).map_err(refused("make memory private"))?;
        }
        let mut start = kvm_sev_snp_launch_start {
            policy: self.settings.policy.0,
            ..kvm_sev_snp_launch_start::default()
        };
        let policy = self.settings.policy;
        self.vm.launch_start(&mut start).map_err(|source| {
            if source.firmware == Status::POLICY_FAILURE {
                SnpError::Policy { policy, source }
            } else {
                refused("start the measurement")(source)
            }
        })?;
        Ok(Launcher {
            state: Measuring { map },
            vm: self.vm,
            settings: self.settings,
        })
    }

    fn add(&mut self, number: u32, slot: Slot<V::Memory>) -> Result<(), SnpError> {
        let extent = slot.extent;
        let mut region = kvm_userspace_memory_region2 {
            slot: number,
            guest_phys_addr: extent.gpa,
            memory_size: extent.size,
            ..kvm_userspace_memory_region2::default()
        };
        if extent.private {
            let request = kvm_create_guest_memfd {
                size: extent.size,
                ..kvm_create_guest_memfd::default()
            };
            region.flags = KVM_MEM_GUEST_MEMFD;
            region.guest_memfd = self
                .vm
                .create_guest_memfd(request)
                .map_err(refused("reserve private memory"))?;
        }
        self.vm
            .set_memory_region(region, slot.memory)
            .map_err(refused("map the Keep's memory"))
    }
}

/// `KVM_SET_MEMORY_ATTRIBUTES`, repeated while the kernel asks for it.
pub(super) fn set_attributes(vm: &impl Vm, request: kvm_memory_attributes) -> Result<(), Errno> {
    let mut repeats = 0;
    loop {
        match vm.set_memory_attributes(request) {
            Err(errno) if repeatable(errno) && repeats < MOST_REPEATS => repeats += 1,
            other => return other,
        }
    }
}

impl<V: Vm> Launcher<V, Measuring> {
    /// Creates a vCPU for each of `cpuids`, with the registers of its page, and hands the pages to
    /// the secure processor in their order.
    ///
    /// # Errors
    /// [`SnpError`]; the machine is gone then.
    pub fn load(
        mut self,
        pages: &[Page],
        cpuids: &[CpuId],
    ) -> Result<Launcher<V, Loaded<V::Vcpu>>, SnpError> {
        let list = PageList::new(pages, &self.state.map, cpuids.len())?;
        let features = self.settings.vmsa_features | sev_features::SNP_ACTIVE.mask();
        let mut vcpus = Vec::with_capacity(cpuids.len());
        for ((id, page), cpuid) in (0u32..).zip(list.vmsas()).zip(cpuids) {
            let registers = Registers::from_page(id, &page.bytes, features)?;
            let mut vcpu = self.vm.create_vcpu(id).map_err(refused("create a vCPU"))?;
            registers.apply(id, &mut vcpu, cpuid)?;
            vcpus.push(vcpu);
        }
        let mut corrections = Vec::new();
        let mut source = Vec::new();
        for batch in list.batches() {
            let [first, ..] = batch else { continue };
            source.clear();
            if first.kind != PageType::Zero {
                source.extend(batch.iter().map(|page| SourcePage(*page.bytes)));
            }
            match first.kind {
                PageType::Cpuid => corrections.extend(self.load_cpuid(first, &mut source)?),
                _ => self.update(first, batch.len(), &mut source)?,
            }
        }
        Ok(Launcher {
            state: Loaded {
                vcpus,
                map: self.state.map,
                corrections,
            },
            vm: self.vm,
            settings: self.settings,
        })
    }

    /// The CPUID page: the firmware may answer with corrections, which are given to it, for
    /// [`MOST_CORRECTIONS`] rounds. All of them are returned, as changes of the page that was proposed.
    fn load_cpuid(
        &mut self,
        page: &Page,
        source: &mut [SourcePage],
    ) -> Result<Vec<Correction>, SnpError> {
        let corrected = |error: &SnpError| matches!(error, SnpError::Page { source, .. } if source.firmware == Status::INVALID_PARAM);
        let proposed: CpuidPage = zerocopy::transmute!(*page.bytes);
        let mut offered = proposed;
        let mut corrections = Vec::new();
        for _ in 0..MOST_CORRECTIONS {
            match self.update(page, 1, source) {
                Err(error) if corrected(&error) => {}
                other => return other.map(|()| corrections),
            }
            let answered: CpuidPage = match source {
                [SourcePage(bytes)] => zerocopy::transmute!(*bytes),
                _ => offered,
            };
            if answered == offered {
                return Err(CpuidError::Unexplained.into());
            }
            corrections = cpuid::corrections(&proposed, &answered)?;
            offered = answered;
        }
        Err(CpuidError::Again {
            rounds: MOST_CORRECTIONS,
            corrections,
        }
        .into())
    }

    /// `KVM_SEV_SNP_LAUNCH_UPDATE` until the kernel has taken `count` pages from `first` on.
    fn update(
        &mut self,
        first: &Page,
        count: usize,
        source: &mut [SourcePage],
    ) -> Result<(), SnpError> {
        let kind = first.kind;
        let mut update = kvm_sev_snp_launch_update {
            gfn_start: first.gpa / PAGE,
            uaddr: source.first().map_or(0, |page| (&raw const *page) as u64),
            len: count as u64 * PAGE,
            type_: kind as u8,
            ..kvm_sev_snp_launch_update::default()
        };
        let mut tries = 0;
        while update.len != 0 {
            let before = update;
            let gpa = before.gfn_start.saturating_mul(PAGE);
            match self.vm.launch_update(&mut update, source) {
                Ok(()) => {}
                Err(error) if error == UNEXPLAINED && update == before => {
                    tries += 1;
                    if tries == MOST_TRIES {
                        return Err(SnpError::Stalled { gpa, kind });
                    }
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(source) => return Err(SnpError::Page { gpa, kind, source }),
            }
            match progress(&before, &update) {
                None | Some(0) => return Err(SnpError::Progress { gpa }),
                Some(_) => tries = 0,
            }
        }
        Ok(())
    }
}

/// The kernel's answer to a page that failed for any reason of its own.
const UNEXPLAINED: CommandError = CommandError {
    errno: Errno::IO,
    firmware: Status::SUCCESS,
};

/// Bytes that the kernel took, when its account is consistent.
fn progress(before: &kvm_sev_snp_launch_update, after: &kvm_sev_snp_launch_update) -> Option<u64> {
    let done = before.len.checked_sub(after.len)?;
    let expected = kvm_sev_snp_launch_update {
        gfn_start: before.gfn_start.checked_add(done / PAGE)?,
        // There is no source of zero pages.
        uaddr: if before.type_ == PageType::Zero as u8 {
            after.uaddr
        } else {
            before.uaddr.checked_add(done)?
        },
        len: after.len,
        ..*before
    };
    (done.is_multiple_of(PAGE) && *after == expected).then_some(done)
}

impl<V: Vm> Launcher<V, Loaded<V::Vcpu>> {
    /// Has KVM measure the vCPUs and ends the measurement. `host_data` is in the reports but not measured. The
    /// chip's own key may sign the reports.
    ///
    /// # Errors
    /// [`SnpError::Refused`]; with an ID block also where the measurement is not the signed one.
    pub fn seal(
        mut self,
        identity: Option<Identity>,
        host_data: [u8; 32],
    ) -> Result<Sealed<V>, SnpError> {
        let mut finish = kvm_sev_snp_launch_finish {
            id_block_en: identity.is_some().into(),
            auth_key_en: identity.is_some_and(|identity| identity.author_key).into(),
            vcek_disabled: 0,
            host_data,
            ..kvm_sev_snp_launch_finish::default()
        };
        let identity = identity.map(|identity| (identity.block, identity.auth));
        self.vm
            .launch_finish(&mut finish, identity)
            .map_err(refused("finish the launch"))?;
        let Loaded {
            vcpus,
            map,
            corrections,
        } = self.state;
        Ok(Sealed {
            vcpus,
            vm: self.vm,
            map,
            corrections,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_must_add_up() {
        let before = kvm_sev_snp_launch_update {
            gfn_start: 0x100,
            uaddr: 0x7000,
            len: 4 * PAGE,
            type_: PageType::Normal as u8,
            ..kvm_sev_snp_launch_update::default()
        };
        let after = |gfn_start, uaddr, len| kvm_sev_snp_launch_update {
            gfn_start,
            uaddr,
            len,
            ..before
        };
        for (gfn_start, uaddr, len, expected) in [
            (0x100, 0x7000, 4 * PAGE, Some(0)),
            (0x101, 0x8000, 3 * PAGE, Some(PAGE)),
            (0x104, 0xb000, 0, Some(4 * PAGE)),
            (0x100, 0x7000, 3 * PAGE, None),
            (0x102, 0x8000, 3 * PAGE, None),
            (0x101, 0x7000, 3 * PAGE, None),
            (0x0ff, 0x6000, 5 * PAGE, None),
            (0x100, 0x7800, 4 * PAGE - 0x800, None),
        ] {
            assert_eq!(progress(&before, &after(gfn_start, uaddr, len)), expected);
        }
        let zero = kvm_sev_snp_launch_update {
            type_: PageType::Zero as u8,
            uaddr: 0,
            ..before
        };
        let done = kvm_sev_snp_launch_update {
            gfn_start: 0x104,
            len: 0,
            ..zero
        };
        assert_eq!(progress(&zero, &done), Some(4 * PAGE));
        let retyped = kvm_sev_snp_launch_update { type_: 4, ..before };
        assert_eq!(progress(&before, &retyped), None);
    }
}
