// SPDX-License-Identifier: Apache-2.0

//! The interface of a host's manager of Keeps: requests and answers over HTTPS, and nothing else. The tenant's agent and
//! the host's manager share it.
//!
//! **The tenant believes none of it.** A manager can refuse, lie and cut connections; its answers are only hints for
//! placing a Keep. Only the evidence of the attested session (`protocol/session`) counts, whose bytes the manager
//! only forwards. The manager trusts tenants as little: every request is checked against its limits.
//!
//! * [`path`]: every path, and functions that fill them in
//! * [`limit`]: sizes and times
//! * [`Offer`], [`NewKeep`], [`KeepAnswer`], [`KeepInfo`], [`KeepList`], [`Collateral`]: bodies, in JSON
//! * [`Problem`]: every error, with one of the names in [`code`] or of `enarx_contract::ContractError`
//!
//! Requests are read strictly: an unknown field is refused. Answers are read leniently, because a newer manager may say
//! more, and their lists up to the limits in [`limit`].
#![forbid(unsafe_code)]

#[cfg(feature = "bodies")]
pub mod body;
pub mod code;
pub mod limit;
mod list;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod path;
mod problem;
#[cfg(feature = "openapi")]
mod schema;

pub use problem::Problem;

use enarx_contract::canonical::{Base64, Hex, Name};
use enarx_contract::{Backend, Contract, ContractError, Doors, PublicKey, Signature, Tee};
use serde::{Deserialize, Serialize};

/// Version of the interface; [`Offer::version`] tells it.
pub const VERSION: u32 = 1;

/// The protocol that a session's request names in `Upgrade` (RFC 9110 section 7.8). Behind the answer 101 there are the
/// bytes of the attested session, and none before it: the client waits for the 101 before it sends.
pub const PROTOCOL: &str = "enarx-session";

/// Media type of [`Problem`] (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A host's word about itself, the answer to [`path::OFFER`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Offer {
    /// [`VERSION`].
    pub version: u32,
    /// The host's key: contracts name it, and the host signs them with it.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Key"))]
    pub key: PublicKey,
    /// The host's name, which contracts repeat.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::NameText"))]
    pub name: Name,
    /// The kinds of Keep that it runs, at most [`limit::PLATFORMS`].
    #[serde(deserialize_with = "list::first::<_, _, { limit::PLATFORMS }>")]
    pub platforms: Vec<PlatformOffer>,
    /// The most that the asking token may have.
    pub limits: Limits,
    /// The ways of applications to reach outside of their Keeps, of each kind at most `enarx_contract::MAX_DOORS`; a contract
    /// has these doors or fewer.
    #[serde(deserialize_with = "list::doors")]
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Doors"))]
    pub doors: Doors,
    /// The sizes of Keep that it keeps ready, at most [`limit::CLASSES`].
    #[serde(default, deserialize_with = "list::first::<_, _, { limit::CLASSES }>")]
    pub classes: Vec<ClassOffer>,
    /// Keeps that wait for whoever claims them first, at most [`limit::READY`] of a class.
    #[serde(
        default,
        deserialize_with = "list::first::<_, _, { limit::CLASSES * limit::READY }>"
    )]
    pub ready: Vec<Ready>,
}

/// A size of Keep that a host keeps ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ClassOffer {
    /// Its name, the `class` of its contracts.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::NameText"))]
    pub name: Name,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Keeps that the host wants to have ready.
    pub warm: u32,
}

/// A Keep that runs and waits under an open contract, which the host has written and signed. A [`NewKeep`] with the
/// tenant's key claims it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Ready {
    /// The contract's canonical bytes.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Base64Text"))]
    pub contract: Base64,
    /// The host's signature on it: `enarx_contract::signing_input` of the host's side.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::HexText<64>"))]
    pub host_signature: Signature,
    /// The name of its class.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::NameText"))]
    pub class: Name,
}

impl Ready {
    /// The contract, if it is one that the host which it names has signed.
    ///
    /// # Errors
    /// The errors of [`Contract::decode`]; [`ContractError::Signature`].
    pub fn verify(&self) -> Result<Contract, ContractError> {
        let contract = Contract::decode(&self.contract.0)?;
        contract.verify_host(&self.host_signature)?;
        Ok(contract)
    }
}

/// A kind of Keep. Everything here is a claim that only evidence can prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct PlatformOffer {
    /// The technology that signs reports.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Tee"))]
    pub tee: Tee,
    /// The kind of Keep.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Backend"))]
    pub backend: Backend,
    /// The generation of the CPU, by its name in `enarx_snp::product`.
    #[cfg_attr(feature = "openapi", schemars(with = "Option<schema::NameText>"))]
    pub product: Option<Name>,
    /// The guest policy of launches, big-endian.
    #[cfg_attr(feature = "openapi", schemars(with = "Option<schema::HexText<8>>"))]
    pub guest_policy: Option<Hex<8>>,
    /// The chip, by which AMD files its certificate.
    #[cfg_attr(feature = "openapi", schemars(with = "Option<schema::HexText<64>>"))]
    pub chip_id: Option<Hex<64>>,
    /// The reported TCB version, for which AMD certifies the chip's key.
    #[cfg_attr(feature = "openapi", schemars(with = "Option<schema::HexText<8>>"))]
    pub tcb: Option<Hex<8>>,
    /// SHA-256 of the simulated platform's root. A tenant that trusts it trusts the host.
    #[cfg_attr(feature = "openapi", schemars(with = "Option<schema::HexText<32>>"))]
    pub simulated_root: Option<Hex<32>>,
}

/// The most that one token may have at a time, over all its Keeps, and how long they may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Keeps.
    pub keeps: u32,
    /// Longest `runtime_seconds_max` of a contract.
    pub runtime_seconds_max: u32,
    /// Longest `detached_seconds_max` of a contract.
    pub detached_seconds_max: u32,
}

/// A request for the Keep of a contract, the body of a POST to [`path::KEEPS`]: launches it, or claims it if the contract is an
/// open one of [`Offer::ready`]. The same contract again finds the same Keep, also after its end: there is one Keep for a
/// contract, for ever, and it is one tenant's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct NewKeep {
    /// The contract's canonical bytes.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Base64Text"))]
    pub contract: Base64,
    /// The tenant's signature on it: `enarx_contract::signing_input` of the tenant's side.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::HexText<64>"))]
    pub tenant_signature: Signature,
    /// The tenant's key, which an open contract does not name; `None` for a contract that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schemars(with = "Option<schema::Key>"))]
    pub tenant_key: Option<PublicKey>,
}

/// The Keep of a contract: 201 when it was made now, 200 when there was one, claimed now or earlier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct KeepAnswer {
    /// The Keep.
    pub keep: KeepInfo,
    /// The host's signature on the contract.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::HexText<64>"))]
    pub host_signature: Signature,
    /// How long it took, of this request's time, to bring the contract or its claim to the disk, in microseconds; `None` if
    /// that was there before.
    pub commit_us: Option<u64>,
}

/// A Keep, as its manager sees it from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct KeepInfo {
    /// Its name: the first 16 bytes of the contract's digest.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::HexText<16>"))]
    pub id: Hex<16>,
    /// SHA-256 of its contract.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::HexText<32>"))]
    pub contract: Hex<32>,
    /// Its state.
    pub state: KeepState,
    /// Why it ended: a name of [`code::end`], or the Keep process's own word, in printable ASCII. `None` before its end.
    pub reason: Option<String>,
    /// The exit code that the Keep process told; `None` if it told none.
    pub code: Option<i32>,
    /// When it was asked for, or claimed, in seconds since 1970 by the host's clock.
    pub created: u64,
    /// When it ended, by the same clock; `None` before.
    pub ended: Option<u64>,
}

/// The state of a Keep. States come in this order, and some are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum KeepState {
    /// Its process was started.
    Launching,
    /// Its virtual machine runs, and its door is open.
    Ready,
    /// It seems to have an application. The manager sees ciphertext only, so it guesses by the number of bytes.
    Provisioned,
    /// It is gone.
    Ended,
}

impl KeepState {
    /// All states, in order.
    pub const ALL: [Self; 4] = [Self::Launching, Self::Ready, Self::Provisioned, Self::Ended];

    /// Its name in documents and in `?wait=STATE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Launching => "launching",
            Self::Ready => "ready",
            Self::Provisioned => "provisioned",
            Self::Ended => "ended",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// The Keeps of a token, newest first: all that live, then the last that ended, at most [`limit::LIST`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct KeepList {
    /// The Keeps.
    #[serde(deserialize_with = "list::first::<_, _, { limit::LIST }>")]
    pub keeps: Vec<KeepInfo>,
    /// True if there are more than are listed.
    pub more: bool,
}

/// The vendor's word about a chip, as the host stores it. The tenant verifies all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Collateral {
    /// The certificate of the chip's key (VCEK or VLEK), DER.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Base64Text"))]
    pub vek: Base64,
    /// The certificate of its signer, DER.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Base64Text"))]
    pub ask: Base64,
    /// The root, DER.
    #[cfg_attr(feature = "openapi", schemars(with = "schema::Base64Text"))]
    pub ark: Base64,
    /// Revocation lists, DER, at most [`limit::REVOCATION_LISTS`]. One more is read, and tells that they are too many.
    #[serde(deserialize_with = "list::first::<_, _, { limit::REVOCATION_LISTS + 1 }>")]
    #[cfg_attr(feature = "openapi", schemars(with = "Vec<schema::Base64Text>"))]
    pub crls: Vec<Base64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_names_that_documents_have() {
        for state in KeepState::ALL {
            let name = format!("\"{}\"", state.name());
            assert_eq!(serde_json::to_string(&state).unwrap(), name);
            assert_eq!(KeepState::by_name(state.name()), Some(state));
        }
        assert_eq!(KeepState::by_name("Ready"), None);
        assert!(KeepState::Ready < KeepState::Ended);
    }

    #[test]
    fn requests_are_read_strictly_and_answers_leniently() {
        let signature = "00".repeat(64);
        let asked = format!(r#"{{"contract":"AQI=","tenant_signature":"{signature}"}}"#);
        assert!(serde_json::from_str::<NewKeep>(&asked).is_ok());
        let more = asked.replace('}', r#","x":1}"#);
        assert!(serde_json::from_str::<NewKeep>(&more).is_err());
        let list = r#"{"keeps":[],"more":false,"new":1}"#;
        assert!(serde_json::from_str::<KeepList>(list).is_ok());
    }

    /// A list of `count` entries, each of them this one.
    fn list(entry: &str, count: usize) -> String {
        format!("[{}]", vec![entry; count].join(","))
    }

    #[test]
    fn lists_of_answers_are_read_to_their_limits() {
        const MANY: usize = 5000;
        let (key, signature) = (
            PublicKey::from_coordinates(&[1; 32], &[2; 32]),
            "00".repeat(64),
        );
        let key = serde_json::to_string(&key).unwrap();
        let limits =
            r#"{"vcpus":1,"memory":1,"keeps":1,"runtime_seconds_max":1,"detached_seconds_max":1}"#;
        let platforms = list(r#"{"tee":"none","backend":"kvm"}"#, MANY);
        let doors = format!(
            r#"{{"listen":{},"connect":{},"resolve":{},"directories":{}}}"#,
            list("\"1\"", MANY),
            list("\"a\"", MANY),
            list("\"a\"", MANY),
            list(r#"{"name":"/","read_only":true}"#, MANY),
        );
        let classes = list(r#"{"name":"a","vcpus":1,"memory":1,"warm":1}"#, MANY);
        let ready = format!(r#"{{"contract":"","host_signature":"{signature}","class":"a"}}"#);
        let ready = list(&ready, MANY);
        let offer = format!(
            r#"{{"version":1,"key":{key},"name":"a","platforms":{platforms},"limits":{limits},"doors":{doors},"classes":{classes},"ready":{ready}}}"#
        );
        let offer: Offer = serde_json::from_str(&offer).unwrap();
        assert_eq!(offer.platforms.len(), limit::PLATFORMS);
        assert_eq!(offer.classes.len(), limit::CLASSES);
        assert_eq!(offer.ready.len(), limit::CLASSES * limit::READY);
        let Doors {
            listen,
            connect,
            resolve,
            directories,
        } = offer.doors;
        let counts = [
            listen.len(),
            connect.len(),
            resolve.len(),
            directories.len(),
        ];
        assert_eq!(counts, [enarx_contract::MAX_DOORS; 4]);
        let crls = list("\"\"", MANY);
        let collateral = format!(r#"{{"vek":"","ask":"","ark":"","crls":{crls}}}"#);
        let collateral: Collateral = serde_json::from_str(&collateral).unwrap();
        assert_eq!(collateral.crls.len(), limit::REVOCATION_LISTS + 1);
        let keep = format!(
            r#"{{"id":"{}","contract":"{}","state":"ended","created":1}}"#,
            "00".repeat(16),
            "00".repeat(32)
        );
        let keeps = format!(r#"{{"keeps":{},"more":true}}"#, list(&keep, MANY));
        let keeps: KeepList = serde_json::from_str(&keeps).unwrap();
        assert_eq!(keeps.keeps.len(), limit::LIST);
    }

    #[test]
    fn items_beyond_the_limit_of_a_list_need_only_be_json() {
        let read = |more: &str| {
            let crls = "\"\",".repeat(limit::REVOCATION_LISTS + 1);
            let text = format!(r#"{{"vek":"","ask":"","ark":"","crls":[{crls}{more}]}}"#);
            serde_json::from_str::<Collateral>(&text)
        };
        assert!(read("7").is_ok());
        for wrong in ["", "x", "7]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
