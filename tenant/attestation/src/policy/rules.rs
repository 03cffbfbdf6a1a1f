// SPDX-License-Identifier: Apache-2.0

//! The policy as types: a tenant's demands on each kind of hardware.

use crate::attacks::{self, Attack};
use crate::hex::Hex;
use enarx_snp::tcb::Component;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Name of the built-in policy that is used when none is given.
pub const DEFAULT: &str = "default";
/// Name of the built-in policy that judges authenticity and nothing else.
pub const INSECURE_AUTHENTICITY_ONLY: &str = "insecure-authenticity-only";
/// Version of the policy format.
pub const VERSION: u32 = 1;

/// The consequence of a missing fact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// The evidence is refused.
    #[default]
    Refuse,
    /// The evidence is accepted without it; the verdict is degraded.
    InsecureDegrade,
    /// The evidence is accepted without it.
    InsecureIgnore,
}

/// The requirement for a bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Either value.
    #[default]
    Any,
    /// It must be set.
    Require,
    /// It must not be set.
    Forbid,
}

/// A key that may sign a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Endorser {
    /// The key of the chip.
    Vcek,
    /// The key that AMD loaded for a cloud provider: it names no chip.
    Vlek,
}

impl fmt::Display for Endorser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        })
    }
}

/// A TCB version in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TcbKind {
    /// The one from which the signing key is derived.
    Reported,
    /// The one below which the firmware cannot be rolled back.
    Committed,
    /// The one at the guest's launch.
    Launch,
    /// The one that runs now.
    Current,
}

impl TcbKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reported, Self::Committed, Self::Launch, Self::Current];
}

/// The tenant's requirements for the hardware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// Version of this format: 1.
    pub version: u32,
    /// Name, shown in verdicts: one line.
    #[serde(default = "unnamed")]
    pub name: String,
    /// How far the clocks of tenant and vendors may differ, in seconds, 0 to 300. For quotes, certificates and
    /// collateral may be too new by this much; nothing from Intel is used after its expiry.
    #[serde(default = "default_skew")]
    pub clock_skew_seconds: u32,
    /// SHA-256 digests of the public keys (SubjectPublicKeyInfo) of simulators' roots that are accepted. The verdict
    /// says `simulated`: no hardware protects such a guest.
    #[serde(default)]
    pub insecure_simulated_roots: Vec<Hex<32>>,
    /// The consequences of missing facts.
    #[serde(default)]
    pub missing: MissingFacts,
    /// For AMD SEV-SNP. Without this table no report is accepted.
    #[serde(default = "SnpPolicy::absent")]
    pub snp: SnpPolicy,
    /// For Intel TDX and SGX alike.
    #[serde(default)]
    pub intel: IntelPolicy,
    /// For Intel TDX. Without this table no quote of a TD is accepted.
    #[serde(default = "TdxPolicy::absent")]
    pub tdx: TdxPolicy,
    /// For Intel SGX. Without this table no quote of an enclave is accepted.
    #[serde(default = "SgxPolicy::absent")]
    pub sgx: SgxPolicy,
}

/// The consequences of missing facts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MissingFacts {
    /// There is no usable revocation list of the product line.
    pub crl: Missing,
    /// The mitigation of an attack is required, but no floor is published for the product, its stepping or one of its
    /// components.
    pub attack_floor: Missing,
    /// Mitigation bits are required, but the report's version has none.
    pub mitigations: Missing,
}

/// The switches for AMD SEV-SNP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the policy file"
)]
pub struct SnpPolicy {
    /// Accept SEV-SNP reports: true if the table exists.
    pub accept: bool,
    /// Product generations that are accepted: milan, genoa, bergamo-siena, turin. Any report of a milan CPU can be forged
    /// (see the attack badfuse).
    pub products: Vec<String>,
    /// Oldest report version, 3 to 5.
    pub min_report_version: u32,
    /// Accept reports of version 2, which do not name the CPU: they must meet the requirements for every product of the
    /// line.
    pub insecure_allow_report_version_2: bool,
    /// Accept report versions and set bits that this program does not know.
    pub insecure_allow_unknown: bool,
    /// Keys that may sign.
    pub signing_keys: Vec<Endorser>,
    /// Cloud providers that are accepted, by the name in the certificate of their key (VLEK), such as
    /// CN=cc-us-east-2.amazonaws.com; not set: all. Where it is set, a report under a VCEK, whose certificate names none, is
    /// refused too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_csps: Vec<String>,
    /// Days since AMD made the newest revocation list, 1 to 3650; not set: not compared. If it is set, a list must be
    /// present, whatever `missing.crl` says.
    pub crl_max_age_days: Option<u32>,
    /// Accept a report under a VCEK that does not name its chip.
    pub insecure_allow_masked_chip_id: bool,
    /// Do not require reported ≤ committed ≤ current TCB versions.
    pub insecure_allow_uncommitted_tcb: bool,
    /// Privilege levels (VMPL) besides 0 that may have asked for the report, 1 to 3: software at these levels may
    /// differ from what was measured.
    pub insecure_vmpl: Vec<u32>,
    /// Known attacks whose mitigation the report must show (`enarx policy explain` lists them). badram and entrysign
    /// are always required, whether or not they are listed here.
    pub attacks: Vec<String>,
    /// Those of badram and entrysign whose mitigation is not required.
    pub insecure_ignored_attacks: Vec<String>,
    /// Least TCB versions by product. Where one product has a floor, every report must be of a product with one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub min_tcb: BTreeMap<String, TcbFloor>,
    /// The TCB versions of the report to which `min-tcb` and `attacks` do not apply; at least one must be left.
    pub insecure_ignored_tcb: Vec<TcbKind>,
    /// Bits that the launch mitigation vector must have; 0: not compared.
    pub launch_mitigations: u64,
    /// Bits that the current mitigation vector must have; 0: not compared.
    pub current_mitigations: u64,
    /// Least firmware version, current and committed, as major.minor.build; not set: not compared.
    pub min_firmware: Option<String>,
    /// The guest policy.
    pub guest_policy: GuestPolicyRules,
    /// The platform.
    pub platform: PlatformRules,
    /// Launch digests that are accepted. Not set, and `releases` neither: not compared, any guest passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub measurements: Vec<Hex<48>>,
    /// Releases whose launch digests are accepted: versions in the signed release manifest that is given beside the
    /// policy, or any-current for those that it calls current. Expired and withdrawn releases are refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<String>,
    /// The report data that is expected; not set: not compared.
    pub report_data: Option<Hex<64>>,
    /// The host data that is expected; not set: not compared.
    pub host_data: Option<Hex<32>>,
    /// Digests of ID keys that are accepted; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub id_key_digests: Vec<Hex<48>>,
    /// Digests of author keys that are accepted; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub author_key_digests: Vec<Hex<48>>,
    /// Family ids that are accepted, which are meaningful only with an ID key; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub family_ids: Vec<Hex<16>>,
    /// Image ids that are accepted, which are meaningful only with an ID key; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_ids: Vec<Hex<16>>,
    /// Least security version number of the guest, which is meaningful only with an ID key; 0: not compared.
    pub min_guest_svn: u32,
    /// Chips that are accepted, by CHIP_ID; not set: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_chips: Vec<Hex<64>>,
    /// Chips that are refused, by CHIP_ID. Where it is set, a report that names no chip is refused too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_chips: Vec<Hex<64>>,
}

/// Least security version numbers of one product; components that are not named are not compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TcbFloor {
    /// Firmware of the first microcontroller (Turin).
    pub fmc: Option<u8>,
    /// Boot loader.
    pub bootloader: Option<u8>,
    /// Operating system of the secure processor.
    pub tee: Option<u8>,
    /// SEV-SNP firmware.
    pub snp: Option<u8>,
    /// Microcode.
    pub microcode: Option<u8>,
}

impl TcbFloor {
    /// The least number of `component`.
    pub fn get(&self, component: Component) -> Option<u8> {
        match component {
            Component::Fmc => self.fmc,
            Component::Bootloader => self.bootloader,
            Component::Tee => self.tee,
            Component::Snp => self.snp,
            Component::Microcode => self.microcode,
        }
    }
}

/// Rules for the guest policy's bits (56860 GUEST_POLICY).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GuestPolicyRules {
    /// Accept guests that the host may debug: it can read all their memory.
    pub insecure_allow_debug: bool,
    /// Accept guests with a migration agent: it can copy them elsewhere.
    pub insecure_allow_migration_agent: bool,
    /// Simultaneous multithreading allowed.
    pub smt: Rule,
    /// One socket only.
    pub single_socket: Rule,
    /// CXL allowed.
    pub cxl: Rule,
    /// AES-256-XTS.
    pub aes_256_xts: Rule,
    /// RAPL off.
    pub rapl_disabled: Rule,
    /// Ciphertext hiding.
    pub ciphertext_hiding: Rule,
    /// No page moves and swaps.
    pub page_swap_disabled: Rule,
    /// Least ABI version that the guest policy must ask of the firmware, as major.minor.
    pub min_abi: Option<String>,
}

/// Rules for the platform's bits (56860 PLATFORM_INFO).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PlatformRules {
    /// Simultaneous multithreading is on.
    pub smt: Rule,
    /// Transparent memory encryption is on.
    pub tsme: Rule,
    /// Memory with error correction.
    pub ecc: Rule,
    /// RAPL is off.
    pub rapl_disabled: Rule,
    /// Ciphertext hiding is on.
    pub ciphertext_hiding: Rule,
    /// Memory was checked for aliases.
    pub alias_check: Rule,
    /// Writes of the IOMMU are safe.
    pub iommu_write_safe: Rule,
    /// Trusted input and output for devices.
    pub tio: Rule,
}

/// The switches for Intel TDX and SGX alike. Expired or missing collateral is never accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct IntelPolicy {
    /// TCB statuses besides UpToDate that are accepted and degrade the verdict: SWHardeningNeeded, or none.
    pub degraded_tcb_statuses: Vec<String>,
    /// TCB statuses that are accepted and degrade the verdict although firmware, microcode or configuration are known to
    /// be vulnerable, in Intel's words.
    pub insecure_degraded_tcb_statuses: Vec<String>,
    /// TCB statuses besides UpToDate that are accepted as if nothing were known against them, in Intel's words.
    pub insecure_tcb_statuses: Vec<String>,
    /// Advisories that are refused whatever the status: INTEL-SA- or INTEL-DOC- and five digits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_advisories: Vec<String>,
    /// Least tcbEvaluationDataNumber of the collateral; 0: not compared.
    pub min_tcb_evaluation_data_number: u32,
    /// True if simultaneous multithreading is on, by the PCK certificate.
    pub smt: Rule,
    /// Chips that are accepted, by PPID; not set: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_ppids: Vec<Hex<16>>,
    /// Chips that are refused, by PPID. Where it is set, a quote that names no chip is refused too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied_ppids: Vec<Hex<16>>,
}

/// The switches for Intel TDX. Reserved attributes, migration and SEPT_VE_DISABLE off are never accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TdxPolicy {
    /// Accept TDX quotes: true if the table exists.
    pub accept: bool,
    /// Accept TDs that the host may debug.
    pub insecure_allow_debug: bool,
    /// Accept TDs with service TDs, such as one for migration.
    pub insecure_allow_service_td: bool,
    /// MRTD, the TD's first memory; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrtd: Vec<Hex<48>>,
    /// RTMR0, the firmware's configuration, which is meaningful only with `mrtd`; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rtmr0: Vec<Hex<48>>,
    /// RTMR1, the boot loader and kernel, which is meaningful only with `mrtd`; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rtmr1: Vec<Hex<48>>,
    /// RTMR2, the operating system, which is meaningful only with `mrtd`; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rtmr2: Vec<Hex<48>>,
    /// RTMR3, left to the software in the TD, which is meaningful only with `mrtd`; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rtmr3: Vec<Hex<48>>,
    /// MRSEAM, the TDX module; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrseam: Vec<Hex<48>>,
    /// MRCONFIGID; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrconfigid: Vec<Hex<48>>,
    /// MROWNER; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrowner: Vec<Hex<48>>,
    /// MROWNERCONFIG; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrownerconfig: Vec<Hex<48>>,
    /// The report data that is expected; not set: not compared.
    pub report_data: Option<Hex<64>>,
}

/// The switches for Intel SGX.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SgxPolicy {
    /// Accept SGX quotes: true if the table exists.
    pub accept: bool,
    /// Accept enclaves that the host may debug.
    pub insecure_allow_debug: bool,
    /// MRENCLAVE; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrenclave: Vec<Hex<32>>,
    /// MRSIGNER; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrsigner: Vec<Hex<32>>,
    /// ISVPRODID, which is meaningful only with `mrsigner`; not set: not compared.
    pub isv_prod_id: Option<u16>,
    /// Least ISVSVN, which is meaningful only with `mrsigner`; 0: not compared.
    pub min_isv_svn: u16,
    /// The report data that is expected; not set: not compared.
    pub report_data: Option<Hex<64>>,
}

/// TCB statuses in Intel's words (Intel PCS API, TCB info version 3; TD relaunch: Intel QVL).
pub const TCB_STATUSES: [&str; 9] = [
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
    "Revoked",
];

/// Days of the largest age of a revocation list that a policy can name: AMD's lists run a year.
pub(super) const MAX_DAYS: u32 = 3650;
/// Seconds of the largest tolerance between clocks.
pub(super) const MAX_SKEW: u32 = 300;
/// The status that is accepted without saying so.
pub(crate) const UP_TO_DATE: &str = "UpToDate";
/// The status of platforms on which nothing is left to update: what remains is the software's to withstand.
pub(super) const SW_HARDENING_NEEDED: &str = "SWHardeningNeeded";
/// The status whose platforms no verifier accepts: their keys are known to others.
const REVOKED: &str = "Revoked";
/// The attacks whose mitigation every policy asks for.
pub const STANDING_ATTACKS: [&str; 2] = ["badram", "entrysign"];

impl SnpPolicy {
    /// The attacks whose mitigation is asked for, in the order of [`attacks::ATTACKS`].
    pub fn required_attacks(&self) -> impl Iterator<Item = &'static Attack> {
        attacks::ATTACKS.iter().filter(|attack| {
            let is = |name: &String| name == attack.name;
            let standing = STANDING_ATTACKS.contains(&attack.name);
            if standing {
                !self.insecure_ignored_attacks.iter().any(is)
            } else {
                self.attacks.iter().any(is)
            }
        })
    }

    /// The privilege levels that may have asked for the report.
    pub fn levels(&self) -> impl Iterator<Item = u32> {
        std::iter::once(0).chain(self.insecure_vmpl.iter().copied())
    }

    /// True if floors apply to this TCB version of a report.
    pub fn judges(&self, kind: TcbKind) -> bool {
        !self.insecure_ignored_tcb.contains(&kind)
    }

    /// True if a report of any guest passes.
    pub fn pins_nothing(&self) -> bool {
        self.measurements.is_empty()
            && self.releases.is_empty()
            && self.id_key_digests.is_empty()
            && self.author_key_digests.is_empty()
    }
}

impl TdxPolicy {
    /// True if a quote of any TD passes. The registers are written by what MRTD measures, and by nobody whom they could tell: a TD
    /// with firmware of its own extends them as it likes.
    pub fn pins_nothing(&self) -> bool {
        self.mrtd.is_empty()
    }

    /// True if a register is compared.
    pub(super) fn names_registers(&self) -> bool {
        let registers = [&self.rtmr0, &self.rtmr1, &self.rtmr2, &self.rtmr3];
        registers.iter().any(|list| !list.is_empty())
    }
}

impl SgxPolicy {
    /// True if a quote of any enclave passes.
    pub fn pins_nothing(&self) -> bool {
        self.mrenclave.is_empty() && self.mrsigner.is_empty()
    }
}

/// The name of a policy that has none.
fn unnamed() -> String {
    "unnamed".to_owned()
}

/// The tolerance between clocks of a policy that names none, in seconds.
const fn default_skew() -> u32 {
    MAX_SKEW
}

/// Names as a policy has them.
pub(super) fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// The generations that there are.
pub(super) fn all_products() -> Vec<String> {
    enarx_snp::product::GENERATIONS
        .iter()
        .map(|g| g.name.to_owned())
        .collect()
}

/// The statuses that a policy can tolerate. UpToDate needs no tolerance, Revoked is not tolerable.
pub(super) fn tolerable_statuses() -> Vec<String> {
    let tolerable = |status: &&str| **status != *UP_TO_DATE && **status != *REVOKED;
    let statuses: Vec<_> = TCB_STATUSES.into_iter().filter(|s| tolerable(s)).collect();
    strings(&statuses)
}
