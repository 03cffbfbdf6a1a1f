// SPDX-License-Identifier: Apache-2.0

//! The launch of a guest, with the checks of the firmware (56860 SNP_LAUNCH_START, SNP_LAUNCH_UPDATE,
//! SNP_LAUNCH_FINISH). The host's input is checked as on a chip, so that a wrong launch fails here as it does there.

use crate::cpuid;
use crate::guest::{Context, Identity, Running};
use crate::id_block;
use crate::machine::Machine;
use crate::rmp::Rmp;
use crate::settings::TSC_FACTOR;
use crate::status::Status;
use enarx_snp::bits::{GuestPolicy, PlatformInfo};
use enarx_snp::cpuid::CpuidPage;
use enarx_snp::id_block::{IdAuth, IdBlock};
use enarx_snp::launch::{PAGE_LEN, PageInfo, PageType, VMSA_GPA};
use enarx_snp::secrets::SecretsPage;
use enarx_snp::vmsa::{Vmsa, sev_features};
use sha2::{Digest, Sha384};
use std::sync::Arc;
use zerocopy::{FromZeros, IntoBytes};

/// Version of the secrets page that is written (56860, secrets page format).
const SECRETS_VERSION: u32 = 4;
/// First address beyond the guest physical address space (56860: 52 bits).
const ADDRESS_END: u64 = 1 << 52;

/// A guest that is being launched.
pub struct Launching {
    machine: Arc<Machine>,
    policy: GuestPolicy,
    gosvw: [u8; 16],
    digest: [u8; 48],
    vmpck: [[u8; 32]; 4],
    rmp: Rmp,
    features: Option<u64>,
}

impl std::fmt::Debug for Launching {
    /// Leaves the keys out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launching")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Launching {
    /// SNP_LAUNCH_START: a guest with this policy; `gosvw` goes into its secrets page.
    ///
    /// # Errors
    /// [`Status::InvalidParam`] for reserved bits of the policy, [`Status::PolicyFailure`] if this machine does not
    /// satisfy it.
    pub fn start(
        machine: Arc<Machine>,
        policy: GuestPolicy,
        gosvw: [u8; 16],
    ) -> Result<Self, Status> {
        check_policy(&machine, policy)?;
        Ok(Self {
            machine,
            policy,
            gosvw,
            digest: [0; 48],
            vmpck: rand::random(),
            rmp: Rmp::default(),
            features: None,
        })
    }

    /// SNP_LAUNCH_UPDATE: takes a page in. `page` is the guest's page afterwards: zeroed for [`PageType::Zero`], the
    /// secrets for [`PageType::Secrets`], corrected for [`PageType::Cpuid`] when that is refused.
    ///
    /// # Errors
    /// [`Status::InvalidAddress`], [`Status::InvalidPageState`] when the page was given before,
    /// [`Status::InvalidParam`] for a wrong CPUID page and for [`PageType::Vmsa`] (see [`Self::update_vmsa`]).
    pub fn update(
        &mut self,
        kind: PageType,
        gpa: u64,
        page: &mut [u8; PAGE_LEN],
    ) -> Result<(), Status> {
        if kind == PageType::Vmsa {
            return Err(Status::InvalidParam);
        }
        if !gpa.is_multiple_of(PAGE_LEN as u64) || gpa >= ADDRESS_END {
            return Err(Status::InvalidAddress);
        }
        if self.rmp.is_private(gpa) {
            return Err(Status::InvalidPageState);
        }
        match kind {
            PageType::Zero => page.fill(0),
            PageType::Secrets => page.copy_from_slice(self.secrets().as_bytes()),
            PageType::Cpuid => {
                let table: &mut CpuidPage = zerocopy::transmute_mut!(page);
                let count = usize::try_from(table.count.get()).unwrap_or(usize::MAX);
                let entries = table.table.get_mut(..count).ok_or(Status::InvalidParam)?;
                if !cpuid::correct(entries, &self.machine.settings().cpuid) {
                    return Err(Status::InvalidParam);
                }
            }
            PageType::Normal | PageType::Unmeasured | PageType::Vmsa => {}
        }
        self.measure(kind, gpa, page);
        self.rmp.launch(gpa);
        Ok(())
    }

    /// SNP_LAUNCH_UPDATE of a vCPU's state, measured at [`VMSA_GPA`]; the page belongs to the host.
    ///
    /// # Errors
    /// [`Status::InvalidParam`] when its features do not have SNP, or are not those of the other vCPUs.
    pub fn update_vmsa(&mut self, vmsa: &Vmsa) -> Result<(), Status> {
        let features = vmsa.sev_features.get();
        if features & sev_features::SNP_ACTIVE.mask() == 0
            || self.features.is_some_and(|others| others != features)
        {
            return Err(Status::InvalidParam);
        }
        self.features = Some(features);
        self.measure(PageType::Vmsa, VMSA_GPA, vmsa.as_bytes());
        Ok(())
    }

    /// SNP_LAUNCH_FINISH: checks the ID block, when there is one, and starts the guest. `host_data` goes into its
    /// reports.
    ///
    /// # Errors
    /// [`Status::InvalidParam`] when no vCPU was given or the ID block is malformed, [`Status::PolicyFailure`],
    /// [`Status::BadMeasurement`] and [`Status::BadSignature`] when it is another guest's or not its owner's.
    pub fn finish(
        self,
        id: Option<(&IdBlock, &IdAuth)>,
        host_data: [u8; 32],
    ) -> Result<Running, Status> {
        let features = self.features.ok_or(Status::InvalidParam)?;
        let identity = match id {
            None => Identity::default(),
            Some((block, auth)) => {
                let signers = id_block::check(block, auth, &self.digest, self.policy)?;
                Identity {
                    family_id: block.family_id,
                    image_id: block.image_id,
                    guest_svn: block.guest_svn.get(),
                    id_key_digest: Some(signers.id_key),
                    author_key_digest: signers.author_key,
                }
            }
        };
        let context = Context {
            policy: self.policy,
            measurement: self.digest,
            host_data,
            identity,
            report_id: rand::random(),
        };
        Ok(Running::new(
            self.machine,
            context,
            self.vmpck,
            features,
            self.rmp,
        ))
    }

    /// Extends the launch digest (56860 section 8.17.2).
    fn measure(&mut self, kind: PageType, gpa: u64, page: &[u8]) {
        let contents = Sha384::digest(page).into();
        let info = PageInfo::new(self.digest, kind, contents, gpa);
        self.digest = Sha384::digest(info.as_bytes()).into();
    }

    fn secrets(&self) -> SecretsPage {
        let cpu = self.machine.settings().cpu;
        let mut page = SecretsPage::new_zeroed();
        page.version.set(SECRETS_VERSION);
        page.fms.set(signature(cpu.family, cpu.model, cpu.stepping));
        page.gosvw = self.gosvw;
        page.vmpck = self.vmpck;
        page.tsc_factor.set(TSC_FACTOR);
        page
    }
}

/// Family, model and stepping as CPUID function 1 has them in EAX (APM3 appendix E.3.2).
fn signature(family: u8, model: u8, stepping: u8) -> u32 {
    let (family, model) = (u32::from(family), u32::from(model));
    let base = family.min(0xF);
    (family - base) << 20
        | (model >> 4) << 16
        | base << 8
        | (model & 0xF) << 4
        | u32::from(stepping & 0xF)
}

/// True if this machine satisfies a policy (56860 GUEST_POLICY, SNP_LAUNCH_START). The machine has one socket, no
/// CXL and no migration agent, and moves no pages, so those bits always fit.
fn check_policy(machine: &Machine, policy: GuestPolicy) -> Result<(), Status> {
    let settings = machine.settings();
    let platform = settings.platform;
    if !policy.has(GuestPolicy::RESERVED_ONE) || policy.unknown() != 0 {
        return Err(Status::InvalidParam);
    }
    let firmware = (settings.firmware.major, settings.firmware.minor);
    let fits = (policy.abi_major(), policy.abi_minor()) <= firmware
        && (policy.has(GuestPolicy::SMT) || !platform.has(PlatformInfo::SMT_EN))
        && (!policy.has(GuestPolicy::DEBUG) || settings.allow_debug)
        && (!policy.has(GuestPolicy::MEM_AES_256_XTS) || settings.aes_256_xts)
        && (!policy.has(GuestPolicy::RAPL_DIS) || platform.has(PlatformInfo::RAPL_DIS))
        && (!policy.has(GuestPolicy::CIPHERTEXT_HIDING_DRAM)
            || platform.has(PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN));
    if fits {
        Ok(())
    } else {
        Err(Status::PolicyFailure)
    }
}

#[cfg(test)]
mod tests {
    use super::signature;

    #[test]
    fn signatures_match_the_chips() {
        assert_eq!(signature(0x19, 0x01, 1), 0x00A0_0F11);
        assert_eq!(signature(0x19, 0x11, 1), 0x00A1_0F11);
        assert_eq!(signature(0x1A, 0x02, 1), 0x00B0_0F21);
    }
}
