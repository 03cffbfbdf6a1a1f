// SPDX-License-Identifier: Apache-2.0

//! The verdict as a signed EAT attestation result (draft-ietf-rats-ear, AR4SI trust vector) for relying parties that
//! know that format. The key is the verifier's; who trusts the token trusts the verifier, until the token expires.
//! [`crate::relying`] is the relying party's side.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::verdict::{Outcome, Overall, Verdict};

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make an EAR token: the key is not a PKCS #8 private key on P-256 (PEM): {0}")]
pub struct EarError(p256::pkcs8::Error);

/// The header of a JWT signed with ES256 (RFC 7515, section 4.1; RFC 7518, section 3.4).
const HEADER: &str = r#"{"typ":"JWT","alg":"ES256"}"#;
/// Seconds for which a token counts whose issuer says nothing else.
pub const EAR_LIFETIME: u32 = 3600;

/// The profile of the token's format (draft-ietf-rats-ear-04, `eat_profile`).
pub(crate) const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

/// The claims of a token (draft-ietf-rats-ear-04, section 3).
#[derive(Serialize)]
struct Ear<'a> {
    eat_profile: &'static str,
    /// Seconds since 1970.
    iat: u64,
    /// Seconds since 1970, from which on the token says nothing (RFC 7519, section 4.1.4; RFC 9711 leaves it to that).
    exp: u64,
    /// The relying party's nonce, in base64url (RFC 9711, section 4.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    eat_nonce: Option<String>,
    #[serde(rename = "ear_verifier_id")]
    verifier: VerifierId,
    /// By the attester's name.
    submods: BTreeMap<String, Appraisal<'a>>,
}

#[derive(Serialize)]
struct VerifierId {
    developer: &'static str,
    build: &'static str,
}

/// The appraisal of one attester (section 3.1).
#[derive(Serialize)]
struct Appraisal<'a> {
    #[serde(rename = "ear_status")]
    status: Tier,
    #[serde(rename = "ear_trustworthiness_vector")]
    trust_vector: TrustVector,
    #[serde(rename = "ear_appraisal_policy_ids")]
    policy_ids: [&'a str; 1],
    /// Checks of guest and occasion that were compared with nothing (a claim of our own).
    #[serde(rename = "enarx_not_compared", skip_serializing_if = "<[_]>::is_empty")]
    not_compared: &'a [Cow<'static, str>],
    /// Facts to know before relying on the token (a claim of our own).
    #[serde(rename = "enarx_warnings", skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
    #[serde(
        rename = "ear_attester_claims",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    attester_claims: BTreeMap<&'a str, &'a str>,
}

/// Trustworthiness tiers (draft-ietf-rats-ar4si).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Nothing is said about the attester's trustworthiness.
    None,
    /// The policy accepts it.
    Affirming,
    /// The policy accepts it with shortcomings.
    Warning,
    /// It is refused, or no hardware protects it.
    Contraindicated,
}

/// Trustworthiness claims (draft-ietf-rats-ar4si), those that a verdict covers.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct TrustVector {
    instance_identity: i8,
    configuration: i8,
    executables: i8,
    hardware: i8,
}

/// Values of trustworthiness claims (draft-ietf-rats-ar4si). First those of every claim.
const NO_CLAIM: i8 = 0;
const CRYPTO_VALIDATION_FAILED: i8 = 99;
const TRUSTWORTHY_INSTANCE: i8 = 2;
const UNRECOGNIZED_INSTANCE: i8 = 97;
const APPROVED_CONFIG: i8 = 2;
const UNSAFE_CONFIG: i8 = 32;
const UNSUPPORTABLE_CONFIG: i8 = 96;
const APPROVED_RUNTIME: i8 = 2;
const CONTRAINDICATED_RUNTIME: i8 = 96;
const GENUINE_HARDWARE: i8 = 2;
const UNSAFE_HARDWARE: i8 = 32;
const CONTRAINDICATED_HARDWARE: i8 = 96;

/// Prefixes of the checks behind each claim of the trust vector. Chips are instances, guest policies and platform
/// settings configuration, measurements executables; everything else is hardware.
const INSTANCE: &[&str] = &["chip.", "agreement.chip-id"];
const CONFIGURATION: &[&str] = &[
    "guest-policy.",
    "platform.",
    "tdx.debug",
    "tdx.attributes",
    "tdx.sept",
    "tdx.service-td",
    "sgx.debug",
    "report.vmpl",
];
const EXECUTABLES: &[&str] = &["guest.", "tdx.mr", "tdx.rtmr", "sgx.mr", "sgx.isv"];
/// Prefixes of the checks that are cryptography.
const CRYPTOGRAPHY: &[&str] = &[
    "evidence.format",
    "chain.",
    "report.signature",
    "quote.pck",
    "quote.qe",
    "quote.signature",
    "collateral.verification",
];

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        })
    }
}

impl Verdict {
    /// This verdict as an EAR token: a JWT signed with ES256 by this PKCS #8 private key in PEM. It expires `lifetime`
    /// seconds after the verification, and never later than anything on which the verdict rests.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn to_ear(&self, key: &str, lifetime: u32) -> Result<String, EarError> {
        let key = SigningKey::from_pkcs8_pem(key).map_err(EarError)?;
        let appraisal = Appraisal {
            status: match self.overall {
                // Genuine hardware, and nobody knows what runs on it.
                Overall::Valid if self.accepts_any_guest() => Tier::None,
                Overall::Valid => Tier::Affirming,
                Overall::Degraded => Tier::Warning,
                Overall::Invalid | Overall::Simulated => Tier::Contraindicated,
            },
            trust_vector: self.trust_vector(),
            policy_ids: [&self.policy],
            not_compared: &self.not_compared,
            warnings: &self.warnings,
            attester_claims: self
                .claims
                .iter()
                .map(|(claim, value)| (claim.name(), value.as_str()))
                .collect(),
        };
        let claims = Ear {
            eat_profile: PROFILE,
            iat: self.at_unix,
            exp: Timestamp(self.at_unix)
                .later(lifetime)
                .0
                .min(self.until_unix.unwrap_or(u64::MAX)),
            eat_nonce: self
                .nonce
                .as_deref()
                .and_then(|digits| base16ct::mixed::decode_vec(digits).ok())
                .map(|nonce| Base64UrlUnpadded::encode_string(&nonce)),
            verifier: VerifierId {
                developer: env!("CARGO_PKG_REPOSITORY"),
                build: concat!("enarx-attestation ", env!("CARGO_PKG_VERSION")),
            },
            submods: BTreeMap::from([(self.tee.to_string(), appraisal)]),
        };
        let claims = serde_json::json!(claims).to_string();
        let encode = Base64UrlUnpadded::encode_string;
        let signed = format!(
            "{}.{}",
            encode(HEADER.as_bytes()),
            encode(claims.as_bytes())
        );
        let signature: Signature = key.sign(signed.as_bytes());
        Ok(format!("{signed}.{}", encode(&signature.to_bytes())))
    }

    fn trust_vector(&self) -> TrustVector {
        let in_group = |group: &[&str], name: &str| group.iter().any(|p| name.starts_with(p));
        let worst = |belongs: &dyn Fn(&str) -> bool| {
            let mut worst = None;
            for check in self.checks.iter().filter(|c| belongs(&c.name)) {
                let rank = match check.outcome {
                    Outcome::Skipped => continue,
                    Outcome::Pass => 0,
                    Outcome::Warn => 1,
                    Outcome::Fail => 2,
                };
                worst = worst.max(Some(rank));
            }
            worst
        };
        let claim = |rank: Option<i32>, [good, warn, bad]: [i8; 3]| match rank {
            None => NO_CLAIM,
            Some(0) => good,
            Some(1) => warn,
            Some(_) => bad,
        };
        let cryptography_fails =
            worst(&|name| in_group(CRYPTOGRAPHY, name)).is_none_or(|rank| rank == 2);
        if cryptography_fails || self.overall == Overall::Simulated {
            // Nothing can be said about the rest: it does not come from the hardware.
            return TrustVector {
                instance_identity: NO_CLAIM,
                configuration: NO_CLAIM,
                executables: NO_CLAIM,
                hardware: if cryptography_fails {
                    CRYPTO_VALIDATION_FAILED
                } else {
                    CONTRAINDICATED_HARDWARE
                },
            };
        }
        let grouped = [INSTANCE, CONFIGURATION, EXECUTABLES];
        let in_none = |name: &str| !grouped.iter().any(|group| in_group(group, name));
        TrustVector {
            instance_identity: claim(
                worst(&|name| in_group(INSTANCE, name)),
                [
                    TRUSTWORTHY_INSTANCE,
                    UNRECOGNIZED_INSTANCE,
                    UNRECOGNIZED_INSTANCE,
                ],
            ),
            configuration: claim(
                worst(&|name| in_group(CONFIGURATION, name)),
                [APPROVED_CONFIG, UNSAFE_CONFIG, UNSUPPORTABLE_CONFIG],
            ),
            executables: claim(
                worst(&|name| in_group(EXECUTABLES, name)),
                [
                    APPROVED_RUNTIME,
                    CONTRAINDICATED_RUNTIME,
                    CONTRAINDICATED_RUNTIME,
                ],
            ),
            hardware: claim(
                worst(&in_none),
                [GENUINE_HARDWARE, UNSAFE_HARDWARE, CONTRAINDICATED_HARDWARE],
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64UrlUnpadded, Encoding};
    use p256::ecdsa::signature::Verifier as _;
    use p256::ecdsa::{Signature, VerifyingKey};
    use p256::pkcs8::{EncodePrivateKey, LineEnding};
    use serde_json::{Value, json};

    use crate::{Endorsements, Expected, Policy, Timestamp, Verifier};

    #[test]
    fn a_refusal_is_contraindicated() {
        let key = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let verdict = Verifier::new(Policy::default()).verify(
            b"no evidence",
            &Endorsements::default(),
            &Expected::at(Timestamp(1_790_000_000)),
        );
        let token = verdict.to_ear(&pem, 60).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = Base64UrlUnpadded::decode_vec(signature).unwrap();
        VerifyingKey::from(key.public_key())
            .verify(
                signed.as_bytes(),
                &Signature::from_slice(&signature).unwrap(),
            )
            .unwrap();
        let [header, claims] = [0, 1].map(|part| {
            let bytes = Base64UrlUnpadded::decode_vec(signed.split('.').nth(part).unwrap());
            serde_json::from_slice::<Value>(&bytes.unwrap()).unwrap()
        });
        assert_eq!(header, json!({ "typ": "JWT", "alg": "ES256" }));
        assert_eq!(
            claims,
            json!({
                "eat_profile": "tag:ietf.org,2026:rats/ear#04",
                "iat": 1_790_000_000,
                "exp": 1_790_000_060,
                "ear_verifier_id": {
                    "developer": env!("CARGO_PKG_REPOSITORY"),
                    "build": concat!("enarx-attestation ", env!("CARGO_PKG_VERSION")),
                },
                "submods": {
                    "unknown evidence": {
                        "ear_status": "contraindicated",
                        "ear_trustworthiness_vector": {
                            "instance-identity": 0,
                            "configuration": 0,
                            "executables": 0,
                            "hardware": 99,
                        },
                        "ear_appraisal_policy_ids": ["default"],
                    },
                },
            })
        );
        assert!(verdict.to_ear("no key", 60).is_err());
    }
}
