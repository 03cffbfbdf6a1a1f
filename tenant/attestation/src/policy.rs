//! The typed policy: what the tenant asks of the hardware. A TOML file whose unknown keys are errors; every switch
//! that gives protection away has `insecure` in its name.

use crate::attacks;
use crate::hex::Hex;
use crate::reference::{ANY_CURRENT, is_release_version};
use enarx_snp::tcb::Component;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

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
    /// The verdict is degraded.
    Degrade,
    /// Nothing.
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
    /// Name, shown in verdicts.
    #[serde(default = "unnamed")]
    pub name: String,
    /// How far the clocks of tenant and vendors may differ, in seconds, 0 to 3600.
    #[serde(default = "default_skew")]
    pub clock_skew_seconds: u32,
    /// SHA-256 digests of the public keys (SubjectPublicKeyInfo) of simulators' roots that are accepted. The verdict
    /// says `simulated`: no hardware protects such a guest.
    #[serde(default)]
    pub insecure_simulated_roots: Vec<Hex<32>>,
    /// What it means that a fact is missing.
    #[serde(default)]
    pub missing: MissingFacts,
    /// For AMD SEV-SNP.
    #[serde(default)]
    pub snp: SnpPolicy,
    /// For Intel TDX and SGX alike.
    #[serde(default)]
    pub intel: IntelPolicy,
    /// For Intel TDX.
    #[serde(default)]
    pub tdx: TdxPolicy,
    /// For Intel SGX.
    #[serde(default)]
    pub sgx: SgxPolicy,
}

/// What it means that a fact is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MissingFacts {
    /// There is no usable revocation list of the product line.
    pub crl: Missing,
    /// An attack is named in `snp.attacks`, but no floor is published for the product.
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
    /// Whether SEV-SNP reports are accepted at all.
    pub accept: bool,
    /// Product generations that are accepted: milan, genoa, bergamo-siena, turin.
    pub products: Vec<String>,
    /// Oldest report version, 2 to 5. Version 2 does not name the CPU.
    pub min_report_version: u32,
    /// Accept report versions and set bits that this program does not know.
    pub insecure_allow_unknown: bool,
    /// Keys that may sign.
    pub signing_keys: Vec<Endorser>,
    /// Accept a report under a VCEK that does not name its chip.
    pub insecure_allow_masked_chip_id: bool,
    /// Do not ask for reported ≤ committed ≤ current TCB versions.
    pub insecure_allow_uncommitted_tcb: bool,
    /// Privilege levels that may have asked for the report, 0 to 3.
    pub vmpl: Vec<u32>,
    /// Known attacks whose mitigation the report must show (`enarx policy explain` lists them).
    pub attacks: Vec<String>,
    /// Least TCB versions by product.
    pub min_tcb: BTreeMap<String, TcbFloor>,
    /// The TCB versions of the report to which `min-tcb` and `attacks` apply.
    pub tcb: Vec<TcbKind>,
    /// Bits that the launch mitigation vector must have.
    pub launch_mitigations: u64,
    /// Bits that the current mitigation vector must have.
    pub current_mitigations: u64,
    /// Least firmware version, current and committed, as major.minor.build.
    pub min_firmware: Option<String>,
    /// The guest policy.
    pub guest_policy: GuestPolicyRules,
    /// The platform.
    pub platform: PlatformRules,
    /// Launch digests that are accepted. Without any here and in `releases`: not checked.
    pub measurements: Vec<Hex<48>>,
    /// Releases whose launch digests are accepted: versions in the signed release manifest that is given beside the
    /// policy, or any-current for those that it calls current. Expired and withdrawn releases are refused.
    pub releases: Vec<String>,
    /// The report data that is expected.
    pub report_data: Option<Hex<64>>,
    /// The host data that is expected.
    pub host_data: Option<Hex<32>>,
    /// Digests of ID keys that are accepted; none: not checked.
    pub id_key_digests: Vec<Hex<48>>,
    /// Digests of author keys that are accepted; none: not checked.
    pub author_key_digests: Vec<Hex<48>>,
    /// Family ids that are accepted; none: not checked.
    pub family_ids: Vec<Hex<16>>,
    /// Image ids that are accepted; none: not checked.
    pub image_ids: Vec<Hex<16>>,
    /// Least security version number of the guest.
    pub min_guest_svn: u32,
    /// Chips that are accepted, by CHIP_ID; none: all.
    pub allowed_chips: Vec<Hex<64>>,
    /// Chips that are refused.
    pub denied_chips: Vec<Hex<64>>,
}

/// Least security version numbers of one product; components that are not named are not checked.
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
    /// TCB statuses that are accepted, in Intel's words.
    pub tcb_statuses: Vec<String>,
    /// TCB statuses that degrade the verdict.
    pub degraded_tcb_statuses: Vec<String>,
    /// Advisories that are refused whatever the status, such as INTEL-SA-00615.
    pub denied_advisories: Vec<String>,
    /// Least tcbEvaluationDataNumber of the collateral.
    pub min_tcb_evaluation_data_number: u32,
    /// Whether simultaneous multithreading is on, by the PCK certificate.
    pub smt: Rule,
    /// Chips that are accepted, by PPID; none: all.
    pub allowed_ppids: Vec<Hex<16>>,
    /// Chips that are refused, by PPID.
    pub denied_ppids: Vec<Hex<16>>,
}

/// The switches for Intel TDX; a list without entries is not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own in the policy file"
)]
pub struct TdxPolicy {
    /// Whether TDX quotes are accepted at all.
    pub accept: bool,
    /// Accept TDs that the host may debug.
    pub insecure_allow_debug: bool,
    /// Accept TDs with attributes that are reserved.
    pub insecure_allow_unknown: bool,
    /// Accept TDs with service TDs, such as one for migration.
    pub insecure_allow_service_td: bool,
    /// SEPT_VE_DISABLE: the host cannot inject #VE by unmapping a page.
    pub sept_ve_disable: Rule,
    /// MRTD.
    pub mrtd: Vec<Hex<48>>,
    /// RTMR0.
    pub rtmr0: Vec<Hex<48>>,
    /// RTMR1.
    pub rtmr1: Vec<Hex<48>>,
    /// RTMR2.
    pub rtmr2: Vec<Hex<48>>,
    /// RTMR3.
    pub rtmr3: Vec<Hex<48>>,
    /// MRSEAM.
    pub mrseam: Vec<Hex<48>>,
    /// MRCONFIGID.
    pub mrconfigid: Vec<Hex<48>>,
    /// MROWNER.
    pub mrowner: Vec<Hex<48>>,
    /// MROWNERCONFIG.
    pub mrownerconfig: Vec<Hex<48>>,
    /// The report data that is expected.
    pub report_data: Option<Hex<64>>,
}

/// The switches for Intel SGX; a list without entries is not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SgxPolicy {
    /// Whether SGX quotes are accepted at all.
    pub accept: bool,
    /// Accept enclaves that the host may debug.
    pub insecure_allow_debug: bool,
    /// MRENCLAVE.
    pub mrenclave: Vec<Hex<32>>,
    /// MRSIGNER.
    pub mrsigner: Vec<Hex<32>>,
    /// ISVPRODID.
    pub isv_prod_id: Option<u16>,
    /// Least ISVSVN.
    pub min_isv_svn: u16,
    /// The report data that is expected.
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

fn unnamed() -> String {
    "unnamed".to_owned()
}

const fn default_skew() -> u32 {
    300
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
            insecure_allow_unknown: false,
            signing_keys: vec![Endorser::Vcek, Endorser::Vlek],
            insecure_allow_masked_chip_id: false,
            insecure_allow_uncommitted_tcb: false,
            vmpl: vec![0],
            attacks: strings(&["badram", "entrysign"]),
            min_tcb: BTreeMap::new(),
            tcb: TcbKind::ALL.to_vec(),
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
            tcb_statuses: strings(&["UpToDate"]),
            degraded_tcb_statuses: strings(&["SWHardeningNeeded"]),
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
            insecure_allow_unknown: false,
            insecure_allow_service_td: false,
            sept_ve_disable: Rule::Require,
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
                min_report_version: 2,
                insecure_allow_masked_chip_id: true,
                insecure_allow_uncommitted_tcb: true,
                vmpl: vec![0, 1, 2, 3],
                attacks: Vec::new(),
                guest_policy: GuestPolicyRules {
                    insecure_allow_debug: true,
                    insecure_allow_migration_agent: true,
                    ..GuestPolicyRules::default()
                },
                ..SnpPolicy::default()
            },
            intel: IntelPolicy {
                tcb_statuses: TCB_STATUSES
                    .iter()
                    .filter(|s| **s != "Revoked")
                    .map(|s| (*s).to_owned())
                    .collect(),
                degraded_tcb_statuses: Vec::new(),
                ..IntelPolicy::default()
            },
            tdx: TdxPolicy {
                insecure_allow_debug: true,
                insecure_allow_unknown: true,
                insecure_allow_service_td: true,
                sept_ve_disable: Rule::Any,
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
    /// When it is not TOML, has an unknown key (the nearest known key is named), a value of the wrong type, or a
    /// value out of range.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| PolicyError::Format(e.to_string()))?;
        let schema = Self::json_schema();
        known_keys(&toml::Value::Table(table), &schema, &schema, "")?;
        let policy: Self = toml::from_str(text).map_err(|e| PolicyError::Format(e.to_string()))?;
        policy.check()?;
        Ok(policy)
    }

    /// This policy as TOML, every key with its value.
    pub fn to_toml(&self) -> String {
        // A policy has string keys only and puts no value after a table, so this cannot fail.
        toml::to_string(self).unwrap_or_default()
    }

    /// The published schema of a policy as JSON.
    pub fn json_schema() -> Value {
        schemars::schema_for!(Policy).to_value()
    }

    /// Checks what types cannot say: names and ranges.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Version`], [`PolicyError::Range`] or [`PolicyError::UnknownName`].
    pub fn check(&self) -> Result<(), PolicyError> {
        if self.version != VERSION {
            return Err(PolicyError::Version {
                found: self.version,
            });
        }
        if self.clock_skew_seconds > 3600 {
            return Err(PolicyError::Range {
                key: "clock-skew-seconds",
                range: "0 to 3600",
            });
        }
        if !(2..=5).contains(&self.snp.min_report_version) {
            return Err(PolicyError::Range {
                key: "snp.min-report-version",
                range: "2 to 5",
            });
        }
        if self.snp.vmpl.iter().any(|v| *v > 3) {
            return Err(PolicyError::Range {
                key: "snp.vmpl",
                range: "a list of 0 to 3",
            });
        }
        if self
            .snp
            .min_firmware
            .as_deref()
            .is_some_and(|v| version::<3>(v).is_none())
        {
            return Err(PolicyError::Range {
                key: "snp.min-firmware",
                range: "major.minor.build",
            });
        }
        if self
            .snp
            .guest_policy
            .min_abi
            .as_deref()
            .is_some_and(|v| version::<2>(v).is_none())
        {
            return Err(PolicyError::Range {
                key: "snp.guest-policy.min-abi",
                range: "major.minor",
            });
        }
        let is_release = |name: &String| name == ANY_CURRENT || is_release_version(name);
        if !self.snp.releases.iter().all(is_release) {
            return Err(PolicyError::Range {
                key: "snp.releases",
                range: "a list of versions such as 0.8.0, or any-current",
            });
        }
        let products = all_products();
        let attacks: Vec<_> = attacks::ATTACKS.iter().map(|a| a.name.to_owned()).collect();
        let statuses = strings(&TCB_STATUSES);
        named("snp.products", &self.snp.products, &products)?;
        named("snp.min-tcb", self.snp.min_tcb.keys(), &products)?;
        named("snp.attacks", &self.snp.attacks, &attacks)?;
        named("intel.tcb-statuses", &self.intel.tcb_statuses, &statuses)?;
        named(
            "intel.degraded-tcb-statuses",
            &self.intel.degraded_tcb_statuses,
            &statuses,
        )
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

/// Walks the schema beside the value: the schema is the one list of keys.
fn known_keys(
    value: &toml::Value,
    schema: &Value,
    root: &Value,
    path: &str,
) -> Result<(), PolicyError> {
    let schema = resolve(schema, root);
    match value {
        toml::Value::Table(table) => {
            for (key, inner) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let properties = schema.get("properties").and_then(Value::as_object);
                let next = properties
                    .and_then(|p| p.get(key))
                    .or_else(|| schema.get("additionalProperties").filter(|a| a.is_object()));
                let Some(next) = next else {
                    let nearest = properties
                        .and_then(|p| p.keys().min_by_key(|known| distance(known, key)).cloned());
                    return Err(PolicyError::UnknownKey { key: path, nearest });
                };
                known_keys(inner, next, root, &path)?;
            }
            Ok(())
        }
        toml::Value::Array(items) => match schema.get("items") {
            Some(next) => items
                .iter()
                .try_for_each(|item| known_keys(item, next, root, path)),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Follows references and the one alternative that is not null.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let pointer = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|r| r.strip_prefix('#'));
    match pointer.and_then(|p| root.pointer(p)) {
        Some(target) => target,
        None => schema,
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(x != *y))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
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
    fn the_shortest_policy_is_the_default_one() {
        let policy = Policy::from_toml("version = 1\nname = \"default\"").unwrap();
        assert_eq!(policy, Policy::default());
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
            ("version = 1\nclock-skew-seconds = 3601", "0 to 3600"),
            ("version = 1\n[snp]\nvmpl = [4]", "0 to 3"),
            ("version = 1\n[snp]\nmin-report-version = 6", "2 to 5"),
            ("version = 1\n[snp]\nproducts = [\"naples\"]", "naples"),
            ("version = 1\n[snp]\nattacks = [\"rowhammer\"]", "rowhammer"),
            (
                "version = 1\n[snp]\nmin-firmware = \"1.55\"",
                "major.minor.build",
            ),
            (
                "version = 1\n[snp]\nmeasurements = [\"00\"]",
                "96 hexadecimal digits",
            ),
            ("version = 1\n[snp]\nreleases = [\"\"]", "any-current"),
            ("version = 1\n[intel]\ntcb-statuses = [\"Fine\"]", "Fine"),
            ("version = 1\n[snp.min-tcb.milan]\nsnp = 256", "256"),
            ("version", "version"),
        ] {
            let error = Policy::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn every_insecure_switch_is_off_by_default() {
        fn walk(value: &toml::Value, path: &str) {
            if let toml::Value::Table(table) = value {
                for (key, inner) in table {
                    if key.starts_with("insecure") {
                        let off = inner.as_bool() == Some(false)
                            || inner.as_array().is_some_and(Vec::is_empty);
                        assert!(off, "{path}.{key}");
                    }
                    walk(inner, &format!("{path}.{key}"));
                }
            }
        }
        let table: toml::Table = Policy::default().to_toml().parse().unwrap();
        walk(&toml::Value::Table(table), "");
        assert!(!Policy::default().to_toml().contains("insecure-ignore"));
    }

    #[test]
    fn distances_are_levenshteins() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
