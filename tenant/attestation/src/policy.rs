//! The typed policy: what the tenant asks of the hardware. A TOML file whose unknown keys are errors; a kind of evidence
//! is accepted only if its table stands in the file; a list without entries is an error; every switch that gives
//! protection away has `insecure` in its name. A check that was asked for and cannot be made is a refusal.

use crate::attacks;
use crate::hex::Hex;
use crate::printable::printable;
use crate::reference::{ANY_CURRENT, is_release_version};
use crate::switches;
use enarx_snp::tcb::Component;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;

/// Name of the built-in policy that is used when none is given.
pub const DEFAULT: &str = "default";
/// Name of the built-in policy that judges authenticity and nothing else.
pub const INSECURE_AUTHENTICITY_ONLY: &str = "insecure-authenticity-only";
/// Version of the policy format.
pub const VERSION: u32 = 1;

/// Why a policy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not TOML, or a value of the wrong type.
    #[error("{0}")]
    Format(String),
    /// A key that does not exist.
    #[error("unknown key `{key}`{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownKey {
        /// The key with its tables, by dots.
        key: String,
        /// The known key that resembles it most.
        nearest: Option<String>,
    },
    /// A key or value of an earlier version, or a weaker value in a place that has no `insecure` in its name.
    #[error("`{key}` is refused: {instead}")]
    Refused {
        /// The key with its tables, by dots; with the value where other values are good.
        key: String,
        /// The key or value to write instead.
        instead: &'static str,
    },
    /// A list or table that asks for something and has no entries.
    #[error("`{key}` names nothing: leave it out, or give it entries")]
    Empty {
        /// The key with its tables, by dots.
        key: String,
    },
    /// No evidence could ever be accepted.
    #[error("the policy accepts no kind of evidence: add a table [snp], [tdx] or [sgx]")]
    AcceptsNothing,
    /// A value that no evidence can have, so that it would never be compared with anything.
    #[error("`{key}`: {value} can never match: {why}")]
    NeverMatches {
        /// The key with its tables, by dots.
        key: String,
        /// The value.
        value: String,
        /// Why.
        why: &'static str,
    },
    /// A value that names nothing.
    #[error("`{key}`: {value} is none of {known}")]
    UnknownName {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// The names that exist.
        known: String,
    },
    /// The file is of another version of the format.
    #[error("policy version {found} is not known, this program knows version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A value out of its range.
    #[error("`{key}` must be {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// The range.
        range: &'static str,
    },
}

/// What it means that a fact is missing.
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

/// What is asked of a bit.
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

/// What the tenant asks of the hardware.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// Version of this format: 1.
    pub version: u32,
    /// Name, shown in verdicts: one line.
    #[serde(default = "unnamed")]
    pub name: String,
    /// How far the clocks of tenant and vendors may differ, in seconds, 0 to 300. Quotes: certificates and collateral may
    /// be this much too young; nothing of Intel's is used past its end.
    #[serde(default = "default_skew")]
    pub clock_skew_seconds: u32,
    /// SHA-256 digests of the public keys (SubjectPublicKeyInfo) of simulators' roots that are accepted. The verdict
    /// says `simulated`: no hardware protects such a guest.
    #[serde(default)]
    pub insecure_simulated_roots: Vec<Hex<32>>,
    /// What it means that a fact is missing.
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

/// What it means that a fact is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MissingFacts {
    /// There is no usable revocation list of the product line.
    pub crl: Missing,
    /// An attack is asked for, but for the product, its stepping or one of its components no floor is published.
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
    /// Accept SEV-SNP reports: true if the table is there.
    pub accept: bool,
    /// Product generations that are accepted: milan, genoa, bergamo-siena, turin. Any report of a milan CPU can be forged
    /// (see the attack badfuse).
    pub products: Vec<String>,
    /// Oldest report version, 3 to 5.
    pub min_report_version: u32,
    /// Accept reports of version 2, which do not name the CPU: they are held to what is asked of every product of the
    /// line.
    pub insecure_allow_report_version_2: bool,
    /// Accept report versions and set bits that this program does not know.
    pub insecure_allow_unknown: bool,
    /// Keys that may sign.
    pub signing_keys: Vec<Endorser>,
    /// Accept a report under a VCEK that does not name its chip.
    pub insecure_allow_masked_chip_id: bool,
    /// Do not ask for reported ≤ committed ≤ current TCB versions.
    pub insecure_allow_uncommitted_tcb: bool,
    /// Privilege levels (VMPL) besides 0 that may have asked for the report, 1 to 3: software at these levels may be
    /// other than what was measured.
    pub insecure_vmpl: Vec<u32>,
    /// Known attacks whose mitigation the report must show (`enarx policy explain` lists them). badram and entrysign are
    /// asked for whether they stand here or not.
    pub attacks: Vec<String>,
    /// Of badram and entrysign, those whose mitigation is not asked for.
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
    /// Family ids that are accepted; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub family_ids: Vec<Hex<16>>,
    /// Image ids that are accepted; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_ids: Vec<Hex<16>>,
    /// Least security version number of the guest; 0: not compared.
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
    /// Memory aliases were looked for.
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
    /// Whether simultaneous multithreading is on, by the PCK certificate.
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
    /// Accept TDX quotes: true if the table is there.
    pub accept: bool,
    /// Accept TDs that the host may debug.
    pub insecure_allow_debug: bool,
    /// Accept TDs with service TDs, such as one for migration.
    pub insecure_allow_service_td: bool,
    /// MRTD, the TD's first memory; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrtd: Vec<Hex<48>>,
    /// RTMR0, the firmware's configuration; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rtmr0: Vec<Hex<48>>,
    /// RTMR1, the boot loader and kernel; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rtmr1: Vec<Hex<48>>,
    /// RTMR2, the operating system; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rtmr2: Vec<Hex<48>>,
    /// RTMR3, left to the software in the TD; not set: not compared.
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
    /// Accept SGX quotes: true if the table is there.
    pub accept: bool,
    /// Accept enclaves that the host may debug.
    pub insecure_allow_debug: bool,
    /// MRENCLAVE; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrenclave: Vec<Hex<32>>,
    /// MRSIGNER; not set: not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mrsigner: Vec<Hex<32>>,
    /// ISVPRODID, which means something only beside `mrsigner`; not set: not compared.
    pub isv_prod_id: Option<u16>,
    /// Least ISVSVN, which means something only beside `mrsigner`; 0: not compared.
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

/// Seconds of the largest tolerance between clocks.
const MAX_SKEW: u32 = 300;
/// The status that is accepted without saying so.
pub(crate) const UP_TO_DATE: &str = "UpToDate";
/// The status of platforms on which nothing is left to update: what remains is the software's to withstand.
const SW_HARDENING_NEEDED: &str = "SWHardeningNeeded";
/// The status whose platforms no verifier accepts: their keys are known to others.
const REVOKED: &str = "Revoked";
/// The attacks whose mitigation every policy asks for.
pub const STANDING_ATTACKS: [&str; 2] = ["badram", "entrysign"];

fn unnamed() -> String {
    "unnamed".to_owned()
}

const fn default_skew() -> u32 {
    MAX_SKEW
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn all_products() -> Vec<String> {
    enarx_snp::product::GENERATIONS
        .iter()
        .map(|g| g.name.to_owned())
        .collect()
}

impl Default for SnpPolicy {
    fn default() -> Self {
        Self {
            accept: true,
            products: all_products(),
            min_report_version: 3,
            insecure_allow_report_version_2: false,
            insecure_allow_unknown: false,
            signing_keys: vec![Endorser::Vcek, Endorser::Vlek],
            insecure_allow_masked_chip_id: false,
            insecure_allow_uncommitted_tcb: false,
            insecure_vmpl: Vec::new(),
            attacks: strings(&STANDING_ATTACKS),
            insecure_ignored_attacks: Vec::new(),
            min_tcb: BTreeMap::new(),
            insecure_ignored_tcb: Vec::new(),
            launch_mitigations: 0,
            current_mitigations: 0,
            min_firmware: None,
            guest_policy: GuestPolicyRules::default(),
            platform: PlatformRules::default(),
            measurements: Vec::new(),
            releases: Vec::new(),
            report_data: None,
            host_data: None,
            id_key_digests: Vec::new(),
            author_key_digests: Vec::new(),
            family_ids: Vec::new(),
            image_ids: Vec::new(),
            min_guest_svn: 0,
            allowed_chips: Vec::new(),
            denied_chips: Vec::new(),
        }
    }
}

impl Default for IntelPolicy {
    fn default() -> Self {
        Self {
            degraded_tcb_statuses: strings(&[SW_HARDENING_NEEDED]),
            insecure_degraded_tcb_statuses: Vec::new(),
            insecure_tcb_statuses: Vec::new(),
            denied_advisories: Vec::new(),
            min_tcb_evaluation_data_number: 0,
            smt: Rule::Any,
            allowed_ppids: Vec::new(),
            denied_ppids: Vec::new(),
        }
    }
}

impl Default for TdxPolicy {
    fn default() -> Self {
        Self {
            accept: true,
            insecure_allow_debug: false,
            insecure_allow_service_td: false,
            mrtd: Vec::new(),
            rtmr0: Vec::new(),
            rtmr1: Vec::new(),
            rtmr2: Vec::new(),
            rtmr3: Vec::new(),
            mrseam: Vec::new(),
            mrconfigid: Vec::new(),
            mrowner: Vec::new(),
            mrownerconfig: Vec::new(),
            report_data: None,
        }
    }
}

impl Default for SgxPolicy {
    fn default() -> Self {
        Self {
            accept: true,
            insecure_allow_debug: false,
            mrenclave: Vec::new(),
            mrsigner: Vec::new(),
            isv_prod_id: None,
            min_isv_svn: 0,
            report_data: None,
        }
    }
}

impl SnpPolicy {
    /// The value for a policy file without this table.
    fn absent() -> Self {
        Self {
            accept: false,
            ..Self::default()
        }
    }

    /// The attacks whose mitigation is asked for, in the order of [`attacks::ATTACKS`].
    pub fn required_attacks(&self) -> impl Iterator<Item = &'static attacks::Attack> {
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
    /// The value for a policy file without this table.
    fn absent() -> Self {
        Self {
            accept: false,
            ..Self::default()
        }
    }

    /// True if a quote of any TD passes.
    pub fn pins_nothing(&self) -> bool {
        let pins = [
            &self.mrtd,
            &self.rtmr0,
            &self.rtmr1,
            &self.rtmr2,
            &self.rtmr3,
        ];
        pins.iter().all(|list| list.is_empty())
    }
}

impl SgxPolicy {
    /// The value for a policy file without this table.
    fn absent() -> Self {
        Self {
            accept: false,
            ..Self::default()
        }
    }

    /// True if a quote of any enclave passes.
    pub fn pins_nothing(&self) -> bool {
        self.mrenclave.is_empty() && self.mrsigner.is_empty()
    }
}

impl Default for Policy {
    /// The built-in policy `default`.
    fn default() -> Self {
        Self {
            version: VERSION,
            name: DEFAULT.to_owned(),
            clock_skew_seconds: default_skew(),
            insecure_simulated_roots: Vec::new(),
            missing: MissingFacts::default(),
            snp: SnpPolicy::default(),
            intel: IntelPolicy::default(),
            tdx: TdxPolicy::default(),
            sgx: SgxPolicy::default(),
        }
    }
}

impl Policy {
    /// The built-in policy that judges signatures, chains, the agreement of certificate and report and, for quotes,
    /// collateral; no floors, debug bits, revocation of AMD's certificates or measurements.
    pub fn insecure_authenticity_only() -> Self {
        Self {
            name: INSECURE_AUTHENTICITY_ONLY.to_owned(),
            missing: MissingFacts {
                crl: Missing::InsecureIgnore,
                attack_floor: Missing::InsecureIgnore,
                mitigations: Missing::InsecureIgnore,
            },
            snp: SnpPolicy {
                insecure_allow_report_version_2: true,
                insecure_allow_masked_chip_id: true,
                insecure_allow_uncommitted_tcb: true,
                insecure_vmpl: vec![1, 2, 3],
                insecure_ignored_attacks: strings(&STANDING_ATTACKS),
                guest_policy: GuestPolicyRules {
                    insecure_allow_debug: true,
                    insecure_allow_migration_agent: true,
                    ..GuestPolicyRules::default()
                },
                ..SnpPolicy::default()
            },
            intel: IntelPolicy {
                insecure_tcb_statuses: tolerable_statuses(),
                degraded_tcb_statuses: Vec::new(),
                ..IntelPolicy::default()
            },
            tdx: TdxPolicy {
                insecure_allow_debug: true,
                insecure_allow_service_td: true,
                ..TdxPolicy::default()
            },
            sgx: SgxPolicy {
                insecure_allow_debug: true,
                ..SgxPolicy::default()
            },
            ..Self::default()
        }
    }

    /// The built-in policy of this name.
    pub fn builtin(name: &str) -> Option<Self> {
        match name {
            DEFAULT => Some(Self::default()),
            INSECURE_AUTHENTICITY_ONLY => Some(Self::insecure_authenticity_only()),
            _ => None,
        }
    }

    /// Reads a policy from TOML.
    ///
    /// # Errors
    ///
    /// When it is not TOML, has an unknown key (the nearest known key is named), a key or value of an earlier version
    /// (the new one is named), a list without entries, a value of the wrong type, or what [`Self::check`] refuses.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let format = |error: toml::de::Error| {
            PolicyError::Format(located(text, error.span(), error.message()))
        };
        let table: toml::Table = text.parse().map_err(format)?;
        switches::check_keys(&toml::Value::Table(table))?;
        let policy: Self = toml::from_str(text).map_err(format)?;
        policy.check()?;
        Ok(policy)
    }

    /// This policy as TOML, every key that is set.
    pub fn to_toml(&self) -> String {
        // A policy has string keys only and puts no value after a table, so this cannot fail.
        toml::to_string(self).unwrap_or_default()
    }

    /// The published schema of a policy as JSON.
    pub fn json_schema() -> Value {
        schemars::schema_for!(Policy).to_value()
    }

    /// Checks what types cannot say: names, ranges, and that everything that is asked for can be compared with
    /// something. [`crate::Verifier`] refuses all evidence under a policy that does not pass.
    ///
    /// # Errors
    ///
    /// The first problem.
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.version != VERSION {
            return Err(PolicyError::Version {
                found: self.version,
            });
        }
        if !(self.snp.accept || self.tdx.accept || self.sgx.accept) {
            return Err(PolicyError::AcceptsNothing);
        }
        in_range(
            printable(&self.name) == self.name,
            "name",
            "one line of text that can be shown",
        )?;
        in_range(
            self.clock_skew_seconds <= MAX_SKEW,
            "clock-skew-seconds",
            "0 to 300",
        )?;
        self.snp.check()?;
        self.intel.check()
    }
}

impl SnpPolicy {
    /// As [`Policy::check`].
    fn check(&self) -> Result<(), PolicyError> {
        in_range(
            (3..=5).contains(&self.min_report_version),
            "snp.min-report-version",
            "3 to 5; for version 2 set snp.insecure-allow-report-version-2",
        )?;
        in_range(
            self.min_report_version == 3 || !self.insecure_allow_report_version_2,
            "snp.min-report-version",
            "3 where snp.insecure-allow-report-version-2 is set",
        )?;
        in_range(
            self.insecure_vmpl.iter().all(|v| (1..=3).contains(v)),
            "snp.insecure-vmpl",
            "a list of 1 to 3; level 0 is always accepted",
        )?;
        let firmware = self.min_firmware.as_deref();
        in_range(
            firmware.is_none_or(|v| version::<3>(v).is_some()),
            "snp.min-firmware",
            "major.minor.build",
        )?;
        let abi = self.guest_policy.min_abi.as_deref();
        in_range(
            abi.is_none_or(|v| version::<2>(v).is_some()),
            "snp.guest-policy.min-abi",
            "major.minor",
        )?;
        let is_release = |name: &String| name == ANY_CURRENT || is_release_version(name);
        in_range(
            self.releases.iter().all(is_release),
            "snp.releases",
            "a list of versions such as 0.8.0, or any-current",
        )?;
        in_range(
            TcbKind::ALL.iter().any(|kind| self.judges(*kind)),
            "snp.insecure-ignored-tcb",
            "a list that leaves one of reported, committed, launch and current to compare",
        )?;
        for (key, is_empty) in [
            ("snp.products", self.products.is_empty()),
            ("snp.signing-keys", self.signing_keys.is_empty()),
            ("snp.attacks", self.attacks.is_empty()),
        ] {
            if is_empty {
                let key = key.to_owned();
                return Err(PolicyError::Empty { key });
            }
        }
        let attacks: Vec<_> = attacks::ATTACKS.iter().map(|a| a.name.to_owned()).collect();
        named("snp.products", &self.products, &all_products())?;
        named("snp.min-tcb", self.min_tcb.keys(), &all_products())?;
        named("snp.attacks", &self.attacks, &attacks)?;
        named(
            "snp.insecure-ignored-attacks",
            &self.insecure_ignored_attacks,
            &strings(&STANDING_ATTACKS),
        )?;
        for (product, floor) in &self.min_tcb {
            floor.check(product)?;
        }
        names_a_chip("snp.allowed-chips", &self.allowed_chips)?;
        names_a_chip("snp.denied-chips", &self.denied_chips)
    }
}

impl TcbFloor {
    /// Checks that it names at least one component, and only those that the product has.
    fn check(&self, product: &str) -> Result<(), PolicyError> {
        let key = format!("snp.min-tcb.{product}");
        let asked = |component: &&Component| self.get(**component).is_some();
        if !Component::ALL.iter().any(|component| asked(&component)) {
            return Err(PolicyError::Empty { key });
        }
        let layout = enarx_snp::product::by_name(product).map(|generation| generation.tcb);
        let has = |component| layout.is_some_and(|layout| layout.octet(component).is_some());
        match Component::ALL.iter().filter(asked).find(|c| !has(**c)) {
            None => Ok(()),
            Some(component) => Err(PolicyError::NeverMatches {
                key,
                value: component.name().to_owned(),
                why: "the product has no such component",
            }),
        }
    }
}

impl IntelPolicy {
    /// As [`Policy::check`].
    fn check(&self) -> Result<(), PolicyError> {
        let tolerable = tolerable_statuses();
        named(
            "intel.insecure-tcb-statuses",
            &self.insecure_tcb_statuses,
            &tolerable,
        )?;
        named(
            "intel.insecure-degraded-tcb-statuses",
            &self.insecure_degraded_tcb_statuses,
            &tolerable,
        )?;
        let only = strings(&[SW_HARDENING_NEEDED]);
        let other = |status: &&String| tolerable.contains(status) && !only.contains(status);
        if let Some(status) = self.degraded_tcb_statuses.iter().find(other) {
            return Err(PolicyError::Refused {
                key: format!("intel.degraded-tcb-statuses = [\"{status}\"]"),
                instead: "such platforms are known to be vulnerable, so it belongs into \
                          intel.insecure-degraded-tcb-statuses",
            });
        }
        named(
            "intel.degraded-tcb-statuses",
            &self.degraded_tcb_statuses,
            &only,
        )?;
        if let Some(id) = self.denied_advisories.iter().find(|id| !is_advisory(id)) {
            return Err(PolicyError::NeverMatches {
                key: "intel.denied-advisories".to_owned(),
                value: format!("{id:?}"),
                why: "Intel's identifiers are INTEL-SA- or INTEL-DOC- and five digits",
            });
        }
        names_a_chip("intel.allowed-ppids", &self.allowed_ppids)?;
        names_a_chip("intel.denied-ppids", &self.denied_ppids)
    }
}

/// True for an identifier of an advisory as Intel writes it in collateral, such as INTEL-SA-00615.
fn is_advisory(id: &str) -> bool {
    let digits = id
        .strip_prefix("INTEL-SA-")
        .or_else(|| id.strip_prefix("INTEL-DOC-"));
    digits.is_some_and(|digits| digits.len() == 5 && digits.bytes().all(|d| d.is_ascii_digit()))
}

/// The statuses that a policy can tolerate. UpToDate needs no tolerance, Revoked is not tolerable.
fn tolerable_statuses() -> Vec<String> {
    let tolerable = |status: &&str| **status != *UP_TO_DATE && **status != *REVOKED;
    let statuses: Vec<_> = TCB_STATUSES.into_iter().filter(|s| tolerable(s)).collect();
    strings(&statuses)
}

fn in_range(holds: bool, key: &'static str, range: &'static str) -> Result<(), PolicyError> {
    if holds {
        Ok(())
    } else {
        Err(PolicyError::Range { key, range })
    }
}

/// Zeros stand in evidence that names no chip: a list with them would be about all such evidence.
fn names_a_chip<const N: usize>(key: &str, chips: &[Hex<N>]) -> Result<(), PolicyError> {
    match chips.iter().find(|chip| chip.0 == [0; N]) {
        None => Ok(()),
        Some(zeros) => Err(PolicyError::NeverMatches {
            key: key.to_owned(),
            value: zeros.to_string(),
            why: "no chip has this identifier: it stands where none is named",
        }),
    }
}

/// An error in a TOML text as one line, with the number of the line that it is about.
pub fn located(text: &str, span: Option<Range<usize>>, message: &str) -> String {
    let before = span.and_then(|span| text.get(..span.start));
    let message = printable(message);
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

/// Numbers divided by dots, exactly `N`, each 0 to 255.
pub(crate) fn version<const N: usize>(text: &str) -> Option<[u8; N]> {
    let parts: Vec<u8> = text
        .split('.')
        .map(|p| p.parse().ok())
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn named<'a>(
    key: &'static str,
    values: impl IntoIterator<Item = &'a String>,
    known: &[String],
) -> Result<(), PolicyError> {
    match values.into_iter().find(|v| !known.contains(v)) {
        None => Ok(()),
        Some(value) => Err(PolicyError::UnknownName {
            key,
            value: value.clone(),
            known: known.join(", "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtin_policies_are_consistent_and_round_trip() {
        for name in [DEFAULT, INSECURE_AUTHENTICITY_ONLY] {
            let policy = Policy::builtin(name).unwrap();
            assert_eq!(policy.name, name);
            assert_eq!(policy.check(), Ok(()));
            assert_eq!(Policy::from_toml(&policy.to_toml()), Ok(policy));
        }
        assert_eq!(Policy::builtin("other"), None);
    }

    #[test]
    fn a_kind_of_evidence_is_accepted_where_its_table_stands() {
        let accepted = |text: &str| {
            let policy = Policy::from_toml(text).unwrap();
            [policy.snp.accept, policy.tdx.accept, policy.sgx.accept]
        };
        let all = "version = 1\nname = \"default\"\n[snp]\n[tdx]\n[sgx]";
        assert_eq!(Policy::from_toml(all), Ok(Policy::default()));
        assert_eq!(accepted(all), [true; 3]);
        assert_eq!(accepted("version = 1\n[snp]"), [true, false, false]);
        assert_eq!(accepted("version = 1\n[tdx]"), [false, true, false]);
        assert_eq!(
            accepted("version = 1\n[sgx]\n[intel]"),
            [false, false, true]
        );
        let inner = "version = 1\n[snp.min-tcb.milan]\nsnp = 1";
        assert_eq!(accepted(inner), [true, false, false]);
        assert_eq!(
            accepted("version = 1\n[snp]\naccept = false\n[sgx]"),
            [false, false, true]
        );
        for text in [
            "version = 1",
            "version = 1\n[intel]",
            "version = 1\n[missing]",
            "version = 1\n[snp]\naccept = false",
        ] {
            let refused = Policy::from_toml(text);
            assert_eq!(refused, Err(PolicyError::AcceptsNothing), "{text}");
        }
    }

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        for (text, key, nearest) in [
            ("verion = 1", "verion", "version"),
            (
                "version = 1\n[snp]\nmesurements = []",
                "snp.mesurements",
                "measurements",
            ),
            (
                "version = 1\n[snp.guest-policy]\nsmtt = \"any\"",
                "snp.guest-policy.smtt",
                "smt",
            ),
            (
                "version = 1\n[snp.min-tcb.milan]\nsnpp = 1",
                "snp.min-tcb.milan.snpp",
                "snp",
            ),
            // A key of another table is named with it.
            (
                "version = 1\nmeasurements = []",
                "measurements",
                "snp.measurements",
            ),
            ("version = 1\n[snp]\nmrtd = []", "snp.mrtd", "tdx.mrtd"),
        ] {
            assert_eq!(
                Policy::from_toml(text),
                Err(PolicyError::UnknownKey {
                    key: key.into(),
                    nearest: Some(nearest.into())
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn values_out_of_range_are_errors() {
        for (text, words) in [
            ("version = 2", "version 2"),
            ("version = 1\nclock-skew-seconds = 301\n[snp]", "0 to 300"),
            ("version = 1\n[snp]\ninsecure-vmpl = [4]", "1 to 3"),
            ("version = 1\n[snp]\ninsecure-vmpl = [0]", "1 to 3"),
            ("version = 1\n[snp]\nmin-report-version = 6", "3 to 5"),
            (
                "version = 1\n[snp]\nmin-report-version = 4\ninsecure-allow-report-version-2 = true",
                "3 where",
            ),
            ("version = 1\n[snp]\nproducts = [\"naples\"]", "naples"),
            ("version = 1\n[snp]\nattacks = [\"rowhammer\"]", "rowhammer"),
            (
                "version = 1\n[snp]\ninsecure-ignored-attacks = [\"heracles\"]",
                "none of badram, entrysign",
            ),
            (
                "version = 1\n[snp]\ninsecure-ignored-tcb = [\"reported\", \"committed\", \"launch\", \"current\"]",
                "leaves one",
            ),
            (
                "version = 1\n[snp]\nmin-firmware = \"1.55\"",
                "major.minor.build",
            ),
            (
                "version = 1\n[snp]\nmeasurements = [\"00\"]",
                "96 hexadecimal digits",
            ),
            ("version = 1\n[snp]\nreleases = [\"\"]", "any-current"),
            (
                "version = 1\n[tdx]\n[intel]\ninsecure-tcb-statuses = [\"Fine\"]",
                "Fine",
            ),
            (
                "version = 1\n[tdx]\n[intel]\ninsecure-tcb-statuses = [\"Revoked\"]",
                "Revoked is none of",
            ),
            ("version = 1\n[snp.min-tcb.milan]\nsnp = 256", "256"),
            ("version = 1\n[snp.min-tcb.naples]\nsnp = 1", "naples"),
            ("version", "line 1: key with no value"),
            (
                "version = 1\nname = \"a\\nb\"\n[snp]",
                "`name` must be one line",
            ),
            (
                "version = 1\nname = \"\\u001b[2J\"\n[snp]",
                "`name` must be one line",
            ),
        ] {
            let error = Policy::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_could_never_match_is_an_error() {
        let zeros = "0".repeat(128);
        for (text, words) in [
            (
                "[snp.min-tcb.milan]\nfmc = 1".to_owned(),
                "`snp.min-tcb.milan`: fmc can never match",
            ),
            (
                format!("[snp]\nallowed-chips = [\"{zeros}\"]"),
                "no chip has this",
            ),
            (
                format!("[snp]\ndenied-chips = [\"{zeros}\"]"),
                "no chip has this",
            ),
            (
                format!("[tdx]\n[intel]\nallowed-ppids = [\"{}\"]", "0".repeat(32)),
                "no chip has this",
            ),
        ] {
            let error = Policy::from_toml(&format!("version = 1\n{text}")).unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
        let denied = |id: &str| {
            let text = format!("version = 1\n[tdx]\n[intel]\ndenied-advisories = [\"{id}\"]");
            Policy::from_toml(&text)
        };
        for id in ["INTEL-SA-00615", "INTEL-DOC-10001"] {
            assert!(denied(id).is_ok(), "{id}");
        }
        for id in [
            "intel-sa-00615",
            "SA-00615",
            "INTEL-SA-0615",
            "INTEL-SA-006150",
            "INTEL-SA-0061S",
            "INTEL-SA-00615 ",
            " INTEL-SA-00615",
            "INTEL-SA-00615,INTEL-SA-00614",
            "",
        ] {
            let error = denied(id).unwrap_err().to_string();
            assert!(error.contains("five digits"), "{id}: {error}");
        }
    }

    #[test]
    fn keys_and_values_of_earlier_versions_are_refused_with_the_new_ones() {
        for (text, words) in [
            ("[missing]\ncrl = \"degrade\"", "insecure-degrade"),
            ("[missing]\nattack-floor = \"degrade\"", "insecure-degrade"),
            ("[missing]\nmitigations = \"degrade\"", "insecure-degrade"),
            ("[snp]\nattacks = []", "snp.insecure-ignored-attacks"),
            ("[snp]\nvmpl = [0, 1, 2, 3]", "snp.insecure-vmpl"),
            ("[snp]\nvmpl = []", "snp.insecure-vmpl"),
            ("[snp]\ntcb = []", "snp.insecure-ignored-tcb"),
            (
                "[snp]\nmin-report-version = 2",
                "snp.insecure-allow-report-version-2",
            ),
            ("[tdx]\nsept-ve-disable = \"any\"", "always required"),
            ("[tdx]\ninsecure-allow-unknown = true", "never accepted"),
            (
                "[intel]\ntcb-statuses = [\"UpToDate\", \"OutOfDate\"]",
                "intel.insecure-tcb-statuses",
            ),
            (
                "[tdx]\n[intel]\ndegraded-tcb-statuses = [\"OutOfDate\"]",
                "intel.insecure-degraded-tcb-statuses",
            ),
        ] {
            let error = Policy::from_toml(&format!("version = 1\n{text}")).unwrap_err();
            assert!(
                matches!(error, PolicyError::Refused { .. }),
                "{text}: {error}"
            );
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn every_insecure_switch_is_off_by_default() {
        assert_eq!(Policy::default().insecure_switches(), [""; 0]);
        let all = Policy::insecure_authenticity_only().insecure_switches();
        for switch in [
            "missing.crl = \"insecure-ignore\"",
            "snp.insecure-vmpl = [1, 2, 3]",
            "snp.insecure-ignored-attacks = [\"badram\", \"entrysign\"]",
            "snp.guest-policy.insecure-allow-debug = true",
            "sgx.insecure-allow-debug = true",
        ] {
            assert!(all.iter().any(|s| s == switch), "{switch}: {all:#?}");
        }
    }
}
