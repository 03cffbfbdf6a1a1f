// SPDX-License-Identifier: Apache-2.0

//! The fields of a contract, and the contract as the bytes that are hashed and signed.

use crate::canonical::{self, Hex, Name, integer};
use crate::doors::Doors;
use crate::error::ContractError;
use crate::form::{ContractDigest, MAX_ENCODED, VERSION};
use crate::key::PublicKey;
use alloc::string::ToString;
use alloc::vec::Vec;
use enarx_snp::tcb::{Component, Layout, TcbVersion};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The class of contracts under which a host is only probed: they have no doors.
pub const PROBE: &str = "probe";

/// Seconds by which the clocks of tenant and host may differ: a contract is made valid from this long ago, and accepted if it begins
/// this much later.
pub const MAX_CLOCK_SKEW: u64 = 300;

/// Most virtual CPUs of a Keep. The command asserts that this is the limit of a virtual machine.
pub const MAX_VCPUS: u32 = 62;

/// The terms of a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// [`VERSION`].
    pub version: u32,
    /// Random, so that two contracts with the same terms differ.
    pub id: Hex<16>,
    /// The host.
    pub host: Host,
    /// The tenant.
    pub tenant: Tenant,
    /// The platform that runs and protects the Keep.
    pub platform: Platform,
    /// The measured image. `None` exactly if nothing is measured.
    pub image: Option<Image>,
    /// The Keep's minimum resources.
    pub resources: Resources,
    /// The application's access to anything outside of its Keep.
    pub doors: Doors,
    /// The validity period, and the time limits of the Keep.
    pub times: Times,
    /// The host's name for a size or purpose; only [`PROBE`] has a meaning here.
    pub class: Name,
}

/// The host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its key for contracts.
    pub key: PublicKey,
    /// Its name, for people.
    pub name: Name,
}

/// The tenant: `{"key":…}` or `{"open":true}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// The owner of this key.
    Named(PublicKey),
    /// The first tenant that releases an application to the Keep. So Keeps can wait, started, for a tenant:
    /// HOST_DATA is fixed at launch.
    Open,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TenantForm {
    Named(NamedForm),
    Open(OpenForm),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedForm {
    key: PublicKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenForm {
    open: bool,
}

impl Serialize for Tenant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Named(key) => TenantForm::Named(NamedForm { key: *key }),
            Self::Open => TenantForm::Open(OpenForm { open: true }),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tenant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match TenantForm::deserialize(deserializer)? {
            TenantForm::Named(NamedForm { key }) => Ok(Self::Named(key)),
            TenantForm::Open(OpenForm { open: true }) => Ok(Self::Open),
            TenantForm::Open(OpenForm { open: false }) => Err(serde::de::Error::custom(
                "a tenant is named by its key, or open",
            )),
        }
    }
}

/// The technology that signs the reports of a Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tee {
    /// AMD SEV-SNP.
    Snp,
    /// The simulated platform: protects nothing from the host.
    Simulated,
    /// Nothing: there are no reports.
    None,
}

impl Tee {
    /// The name, as a contract has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snp => "snp",
            Self::Simulated => "simulated",
            Self::None => "none",
        }
    }
}

/// The kind of Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// SEV-SNP.
    Snp,
    /// The simulated platform.
    Sim,
    /// A virtual machine without a TEE.
    Kvm,
    /// A process.
    Process,
}

impl Backend {
    /// The name, as a contract has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snp => "snp",
            Self::Sim => "sim",
            Self::Kvm => "kvm",
            Self::Process => "process",
        }
    }
}

/// The platform of a Keep. `product`, `guest_policy` and `min_tcb` are present exactly if something is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// The technology that signs its reports.
    pub tee: Tee,
    /// Its kind.
    pub backend: Backend,
    /// The generation of the CPU, by its name in `enarx_snp::product`.
    pub product: Option<Name>,
    /// The guest policy of the launch (56860 section 4.3), exactly; big-endian.
    pub guest_policy: Option<Hex<8>>,
    /// The lowest reported TCB version.
    pub min_tcb: Option<MinTcb>,
}

/// The lowest TCB version, component by component (56860 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinTcb {
    /// FMC; present exactly on products that have it.
    pub fmc: Option<u8>,
    /// Boot loader.
    pub bootloader: u8,
    /// TEE.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl core::fmt::Display for MinTcb {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = self;
        if let Some(fmc) = fmc {
            write!(f, "fmc {fmc}, ")?;
        }
        write!(
            f,
            "bootloader {bootloader}, tee {tee}, snp {snp}, microcode {microcode}"
        )
    }
}

impl MinTcb {
    /// The components of a TCB version of this layout.
    #[must_use]
    pub fn of(version: TcbVersion, layout: Layout) -> Self {
        let of = |component| version.get(layout, component);
        Self {
            fmc: of(Component::Fmc),
            bootloader: of(Component::Bootloader).unwrap_or(0),
            tee: of(Component::Tee).unwrap_or(0),
            snp: of(Component::Snp).unwrap_or(0),
            microcode: of(Component::Microcode).unwrap_or(0),
        }
    }

    /// These components as a TCB version of this layout.
    #[must_use]
    pub fn version(&self, layout: Layout) -> TcbVersion {
        TcbVersion([0; 8])
            .with(layout, Component::Fmc, self.fmc.unwrap_or(0))
            .with(layout, Component::Bootloader, self.bootloader)
            .with(layout, Component::Tee, self.tee)
            .with(layout, Component::Snp, self.snp)
            .with(layout, Component::Microcode, self.microcode)
    }
}

/// The image that is measured at launch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The release, for people; `None` for a build from source.
    pub release: Option<Name>,
    /// The launch digest.
    pub measurement: Hex<48>,
}

/// The minimum resources of a Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Virtual CPUs, 1 to 62.
    pub vcpus: u32,
    /// Memory in bytes.
    #[serde(with = "integer")]
    pub memory: u64,
}

/// The validity period of a contract, and the time limits of its Keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// First second, since 1970.
    #[serde(with = "integer")]
    pub not_before: u64,
    /// Last second, since 1970.
    #[serde(with = "integer")]
    pub not_after: u64,
    /// Seconds that a Keep waits for an application before it ends, from its own start on: under an open contract too, since
    /// a Keep sees no claim.
    pub unprovisioned_seconds: u32,
    /// Most seconds that an application may run without a session.
    pub detached_seconds_max: u32,
    /// Most seconds from the start of an application to its end.
    pub runtime_seconds_max: u32,
}

impl Times {
    /// Checks the tenant's time, in seconds since 1970.
    ///
    /// # Errors
    /// [`ContractError::Times`].
    pub fn admit(&self, now: u64) -> Result<(), ContractError> {
        if (self.not_before..=self.not_after).contains(&now) {
            return Ok(());
        }
        Err(ContractError::Times {
            not_before: self.not_before,
            not_after: self.not_after,
            now,
        })
    }
}

/// A contract: terms that make sense, their canonical bytes, and the digest of these.
#[derive(Clone, PartialEq, Eq)]
pub struct Contract {
    bytes: Vec<u8>,
    digest: ContractDigest,
    terms: Terms,
}

impl Contract {
    /// The contract with these terms.
    ///
    /// # Errors
    /// Everything that [`Self::decode`] would refuse.
    pub fn new(terms: Terms) -> Result<Self, ContractError> {
        let bytes = canonical::encode(&terms, MAX_ENCODED)?;
        Self::checked(bytes, terms)
    }

    /// The contract with these bytes.
    ///
    /// # Errors
    /// [`ContractError::Form`] for more than [`MAX_ENCODED`] bytes or another form than the canonical one;
    /// [`ContractError::Version`]; [`ContractError::Value`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ContractError> {
        let terms = canonical::decode(bytes, MAX_ENCODED)?;
        Self::checked(bytes.to_vec(), terms)
    }

    fn checked(bytes: Vec<u8>, terms: Terms) -> Result<Self, ContractError> {
        terms.check()?;
        Ok(Self {
            digest: Hex(Sha256::digest(&bytes).into()),
            bytes,
            terms,
        })
    }

    /// The canonical bytes, which are hashed, signed, stored and forwarded.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the bytes.
    #[must_use]
    pub fn digest(&self) -> &ContractDigest {
        &self.digest
    }

    /// The terms.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The name of the contract's Keep at its manager: the first 16 bytes of the digest. There is only ever one
    /// Keep for a contract, so the same contract always finds the same Keep.
    #[must_use]
    pub fn keep_id(&self) -> Hex<16> {
        let mut id = [0; 16];
        id.copy_from_slice(&self.digest.0[..16]);
        Hex(id)
    }
}

impl core::fmt::Debug for Contract {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "contract {}", self.digest)
    }
}

impl Terms {
    fn check(&self) -> Result<(), ContractError> {
        let value = |field, range| Err(ContractError::Value { field, range });
        if self.version != VERSION {
            return Err(ContractError::Version {
                found: self.version,
            });
        }
        let platform = &self.platform;
        let backend_fits = match platform.tee {
            Tee::Snp => platform.backend == Backend::Snp,
            Tee::Simulated => platform.backend == Backend::Sim,
            Tee::None => matches!(platform.backend, Backend::Kvm | Backend::Process),
        };
        if !backend_fits {
            return value("platform.backend", "one with that TEE");
        }
        let measured = platform.tee != Tee::None;
        for (field, there) in [
            ("platform.product", platform.product.is_some()),
            ("platform.guest_policy", platform.guest_policy.is_some()),
            ("platform.min_tcb", platform.min_tcb.is_some()),
            ("image", self.image.is_some()),
        ] {
            if there != measured {
                return value(field, "present if and only if there is a TEE");
            }
        }
        if let (Some(product), Some(floor)) = (&platform.product, &platform.min_tcb) {
            let Some(generation) = enarx_snp::product::by_name(product.as_str()) else {
                return value("platform.product", "a known generation of CPUs");
            };
            if floor.fmc.is_some() != (generation.tcb == Layout::Turin) {
                return value("platform.min_tcb.fmc", "present on Turin, and only there");
            }
        }
        if !(1..=MAX_VCPUS).contains(&self.resources.vcpus) {
            return value("resources.vcpus", "1 to 62");
        }
        if self.resources.memory == 0 {
            return value("resources.memory", "a number of bytes");
        }
        if self.times.not_before > self.times.not_after {
            return value("times.not_after", "after `times.not_before`");
        }
        if self.times.unprovisioned_seconds == 0 {
            return value("times.unprovisioned_seconds", "at least 1");
        }
        if self.times.runtime_seconds_max == 0 {
            return value("times.runtime_seconds_max", "at least 1");
        }
        if self.class.as_str() == PROBE && !self.doors.are_shut() {
            return value("doors", "empty in a probe");
        }
        self.doors.check()
    }

    /// The name of the CPU's generation, for messages.
    pub(crate) fn product(&self) -> alloc::string::String {
        self.platform
            .product
            .as_ref()
            .map_or_else(|| "none".to_string(), |name| name.as_str().to_string())
    }
}
