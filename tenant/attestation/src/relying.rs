// SPDX-License-Identifier: Apache-2.0

//! The relying party's side of an EAR token: a token counts if the verifier that this party trusts has signed it,
//! until it expires. [`Wanted`] then compares its contents. The token is hostile until checked; the key, the clock and
//! the wanted values are the caller's.

use std::collections::BTreeMap;

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::ear::{PROFILE, Tier};
use crate::{Claim, Timestamp};

/// Bytes of the largest token.
pub const MAX_EAR_LEN: usize = 1 << 20;

/// Why a token does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EarRefusal {
    /// The key cannot be used.
    #[error("the verifier's key is not a public key on P-256 (PEM, SPKI): give that key")]
    Key,
    /// No token of this form.
    #[error("this is not an EAR token: {0}; take it from the verifier again")]
    Format(&'static str),
    /// Not signed by this key.
    #[error(
        "the token is not signed by this verifier: it was changed, or comes from another verifier"
    )]
    Signature,
    /// Of another format.
    #[error(
        "the token has another profile than {PROFILE}; take a verifier and a library of one version"
    )]
    Profile,
    /// Its time is over.
    #[error("the token expired at {expired}, and now it is {now}: verify the evidence again")]
    Expired {
        /// The time from which on it says nothing.
        expired: Timestamp,
        /// The caller's time.
        now: Timestamp,
    },
    /// It is of a later time than now.
    #[error("the token was issued at {issued}, but now it is {now}: one of the clocks is wrong")]
    Early {
        /// The time of the verification.
        issued: Timestamp,
        /// The caller's time.
        now: Timestamp,
    },
    /// The verifier does not affirm it.
    #[error(
        "the verifier's judgement of {attester} is {status}, and only affirming is accepted: see why in its verdict"
    )]
    Status {
        /// The attester.
        attester: String,
        /// The judgement.
        status: Tier,
    },
    /// Made for another nonce, or for none.
    #[error(
        "the token belongs to another session, or to none: its nonce differs from the given one"
    )]
    Nonce,
    /// Judged by another policy.
    #[error(
        "the verifier judged {attester} by the policy {found}, but {wanted} is wanted: ask for that one"
    )]
    Policy {
        /// The attester.
        attester: String,
        /// The policy that is wanted.
        wanted: String,
        /// The policies of the token.
        found: String,
    },
    /// Another fact than the wanted one.
    #[error(
        "{claim} of {attester} is {found}, but {wanted} is wanted: this is a different guest or platform"
    )]
    Claim {
        /// The attester.
        attester: String,
        /// The fact.
        claim: Claim,
        /// The value that is wanted.
        wanted: String,
        /// The value of the token.
        found: String,
    },
}

impl EarRefusal {
    /// Stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Key => "ear.key",
            Self::Format(_) => "ear.format",
            Self::Signature => "ear.signature",
            Self::Profile => "ear.profile",
            Self::Expired { .. } => "ear.expired",
            Self::Early { .. } => "ear.early",
            Self::Status { .. } => "ear.status",
            Self::Nonce => "ear.nonce",
            Self::Policy { .. } => "ear.policy",
            Self::Claim { .. } => "ear.claim",
        }
    }
}

/// The contents of a token that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttestationResult {
    /// The time of the verification.
    pub issued: Timestamp,
    /// From this time on it says nothing.
    pub expires: Timestamp,
    /// The nonce to which the evidence was bound, if the verifier was given one.
    pub nonce: Option<Vec<u8>>,
    /// The verifier's appraisal of each attester, by its name; of one at least.
    pub attesters: BTreeMap<String, Appraisal>,
}

/// The verifier's appraisal of one attester.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Appraisal {
    /// The judgement.
    #[serde(rename = "ear_status")]
    pub status: Tier,
    /// The policies by which it was judged.
    #[serde(rename = "ear_appraisal_policy_ids", default)]
    pub policies: Vec<String>,
    /// Facts of the evidence, by the names of [`Claim`]. Only those of an affirming appraisal can be relied upon.
    #[serde(rename = "ear_attester_claims", default)]
    pub claims: BTreeMap<String, String>,
    /// Checks of guest and occasion that the verifier compared with nothing.
    #[serde(rename = "enarx_not_compared", default)]
    pub not_compared: Vec<String>,
    /// Facts to know before relying on the token.
    #[serde(rename = "enarx_warnings", default)]
    pub warnings: Vec<String>,
}

/// The demands of a relying party on a token that counts, besides that every attester is affirmed. Nothing is compared
/// with a demand that is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The nonce of this session.
    pub nonce: Option<&'a [u8]>,
    /// The name of the policy by which every attester must have been judged.
    pub policy: Option<&'a str>,
    /// Facts of every attester, such as its launch digest; hexadecimal digits in either case.
    pub claims: &'a [(Claim, String)],
}

/// The header of a signed token (RFC 7515, section 4.1).
#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood; none is.
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    eat_profile: String,
    iat: u64,
    exp: u64,
    eat_nonce: Option<String>,
    submods: BTreeMap<String, Appraisal>,
}

impl AttestationResult {
    /// Reads a token that the verifier with this public key (SPKI in PEM) has signed, at the time `now`. Its times are
    /// believed to `skew` seconds. A token without an expiry counts for nothing.
    ///
    /// # Errors
    /// [`EarRefusal`].
    pub fn read(
        token: &str,
        verifier: &str,
        now: Timestamp,
        skew: u32,
    ) -> Result<Self, EarRefusal> {
        const PARTS: &str = "a token has three parts in base64url";
        let key = VerifyingKey::from_public_key_pem(verifier).map_err(|_| EarRefusal::Key)?;
        let token = token.trim_end();
        if token.len() > MAX_EAR_LEN {
            return Err(EarRefusal::Format("it is longer than 1 MiB"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(EarRefusal::Format(PARTS))?;
        let (header, claims) = signed.split_once('.').ok_or(EarRefusal::Format(PARTS))?;
        let signature =
            Base64UrlUnpadded::decode_vec(signature).map_err(|_| EarRefusal::Format(PARTS))?;
        let header: Header = part(header)?;
        if header.alg != "ES256" || header.crit.is_some() {
            return Err(EarRefusal::Format("it is not signed with ES256 alone"));
        }
        Signature::from_slice(&signature)
            .and_then(|signature| key.verify(signed.as_bytes(), &signature))
            .map_err(|_| EarRefusal::Signature)?;
        let claims: Claims = part(claims)?;
        if claims.eat_profile != PROFILE {
            return Err(EarRefusal::Profile);
        }
        let (issued, expires) = (Timestamp(claims.iat), Timestamp(claims.exp));
        if expires <= now.earlier(skew) {
            let expired = expires;
            return Err(EarRefusal::Expired { expired, now });
        }
        if now.later(skew) < issued {
            return Err(EarRefusal::Early { issued, now });
        }
        let nonce = claims.eat_nonce.map(|nonce| {
            Base64UrlUnpadded::decode_vec(&nonce)
                .map_err(|_| EarRefusal::Format("its nonce is not in base64url"))
        });
        if claims.submods.is_empty() {
            return Err(EarRefusal::Format("it names no attester"));
        }
        Ok(Self {
            issued,
            expires,
            nonce: nonce.transpose()?,
            attesters: claims.submods,
        })
    }

    /// Refuses a token unless every attester is affirmed and has the wanted values.
    ///
    /// # Errors
    /// [`EarRefusal::Status`], [`EarRefusal::Nonce`], [`EarRefusal::Policy`] or [`EarRefusal::Claim`].
    pub fn check(&self, wanted: &Wanted<'_>) -> Result<(), EarRefusal> {
        for (attester, appraisal) in &self.attesters {
            let attester = || attester.clone();
            if appraisal.status != Tier::Affirming {
                return Err(EarRefusal::Status {
                    attester: attester(),
                    status: appraisal.status,
                });
            }
            if wanted.nonce.is_some() && self.nonce.as_deref() != wanted.nonce {
                return Err(EarRefusal::Nonce);
            }
            if let Some(policy) = wanted.policy
                && appraisal.policies != [policy]
            {
                return Err(EarRefusal::Policy {
                    attester: attester(),
                    wanted: policy.to_owned(),
                    found: appraisal.policies.join(", "),
                });
            }
            for (claim, value) in wanted.claims {
                let found = appraisal.claims.get(claim.name());
                if !found.is_some_and(|found| found.eq_ignore_ascii_case(value)) {
                    return Err(EarRefusal::Claim {
                        attester: attester(),
                        claim: *claim,
                        wanted: value.clone(),
                        found: found.map_or("not in the token", String::as_str).to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// A part of a token: JSON in base64url.
fn part<T: DeserializeOwned>(text: &str) -> Result<T, EarRefusal> {
    let bytes = Base64UrlUnpadded::decode_vec(text)
        .map_err(|_| EarRefusal::Format("a part of it is not in base64url"))?;
    serde_json::from_slice(&bytes)
        .map_err(|_| EarRefusal::Format("a part of it lacks what an EAR token has"))
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::Signer;
    use p256::pkcs8::{EncodePublicKey, LineEnding};
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_790_000_000;
    const NONCE: &[u8] = &[7; 32];
    const ATTESTER: &str = "AMD SEV-SNP";

    fn key(byte: u8) -> p256::SecretKey {
        p256::SecretKey::from_slice(&[byte; 32]).unwrap()
    }

    fn public(byte: u8) -> String {
        let key = key(byte).public_key();
        key.to_public_key_pem(LineEnding::LF).unwrap()
    }

    fn signed(header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature: Signature = SigningKey::from(key(7)).sign(signed.as_bytes());
        let signature = Base64UrlUnpadded::encode_string(&signature.to_bytes());
        format!("{signed}.{signature}")
    }

    fn claims() -> Value {
        json!({
            "eat_profile": PROFILE,
            "iat": NOW,
            "exp": NOW + 60,
            "eat_nonce": Base64UrlUnpadded::encode_string(NONCE),
            "submods": { ATTESTER: {
                "ear_status": "affirming",
                "ear_appraisal_policy_ids": ["production"],
                "ear_attester_claims": { "guest.measurement": "0a0b" },
            } },
        })
    }

    fn read(token: &str, now: u64) -> Result<AttestationResult, &'static str> {
        let result = AttestationResult::read(token, &public(7), Timestamp(now), 5);
        result.map_err(|refusal| refusal.code())
    }

    #[test]
    fn a_token_counts_from_its_issue_to_its_expiry() {
        let token = signed(&json!({ "alg": "ES256" }), &claims());
        let result = read(&token, NOW).unwrap();
        assert_eq!(
            (result.issued, result.expires),
            (Timestamp(NOW), Timestamp(NOW + 60))
        );
        assert_eq!(result.attesters[ATTESTER].status, Tier::Affirming);
        assert_eq!(result.nonce.as_deref(), Some(NONCE));
        for (now, refusal) in [
            (NOW - 6, Some("ear.early")),
            (NOW - 5, None),
            (NOW + 64, None),
            (NOW + 65, Some("ear.expired")),
            (u64::MAX, Some("ear.expired")),
        ] {
            assert_eq!(read(&token, now).err(), refusal, "{now}");
        }
    }

    #[test]
    fn only_a_token_of_this_verifier_is_accepted() {
        let header = json!({ "alg": "ES256" });
        let token = signed(&header, &claims());
        let other = AttestationResult::read(&token, &public(8), Timestamp(NOW), 0);
        assert_eq!(other, Err(EarRefusal::Signature));
        let none = AttestationResult::read(&token, "no key", Timestamp(NOW), 0);
        assert_eq!(none, Err(EarRefusal::Key));
        for header in [
            json!({ "alg": "none" }),
            json!({ "alg": "ES384" }),
            json!({ "alg": "ES256", "crit": ["b64"] }),
            json!({}),
        ] {
            assert_eq!(
                read(&signed(&header, &claims()), NOW),
                Err("ear.format"),
                "{header}"
            );
        }
        // Without an expiry, of another profile, without a judgement.
        for (member, value, refusal) in [
            ("exp", json!(null), "ear.format"),
            ("exp", json!("tomorrow"), "ear.format"),
            (
                "eat_profile",
                json!("tag:github.com,2023:veraison/ear"),
                "ear.profile",
            ),
            ("submods", json!({ ATTESTER: {} }), "ear.format"),
            ("submods", json!({}), "ear.format"),
            ("eat_nonce", json!("=!"), "ear.format"),
        ] {
            let mut claims = claims();
            claims[member] = value;
            assert_eq!(
                read(&signed(&header, &claims), NOW),
                Err(refusal),
                "{member}"
            );
        }
        for index in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(read(&changed, NOW).is_err(), "{index}");
        }
        for text in ["", ".", "..", "a.b", "a.b.c"] {
            assert_eq!(read(text, NOW), Err("ear.format"), "{text}");
        }
    }

    #[test]
    fn a_token_without_a_required_claim_is_refused_by_name() {
        let header = json!({ "alg": "ES256" });
        let claim = |value: &str| [(Claim::GuestMeasurement, value.to_owned())];
        let (same, other, absent) = (
            claim("0A0B"),
            claim("0a0c"),
            [(Claim::GuestReportData, "00".to_owned())],
        );
        let nothing = Wanted::default();
        for (wanted, refusal) in [
            (nothing, None),
            (
                Wanted {
                    nonce: Some(NONCE),
                    policy: Some("production"),
                    claims: &same,
                },
                None,
            ),
            (
                Wanted {
                    nonce: Some(&[8; 32]),
                    ..nothing
                },
                Some("ear.nonce"),
            ),
            (
                Wanted {
                    policy: Some("default"),
                    ..nothing
                },
                Some("ear.policy"),
            ),
            (
                Wanted {
                    claims: &other,
                    ..nothing
                },
                Some("ear.claim"),
            ),
            (
                Wanted {
                    claims: &absent,
                    ..nothing
                },
                Some("ear.claim"),
            ),
        ] {
            let read = |claims: &Value| {
                let result = read(&signed(&header, claims), NOW).unwrap();
                result
                    .check(&wanted)
                    .map_err(|refusal| refusal.code())
                    .err()
            };
            assert_eq!(read(&claims()), refusal, "{wanted:?}");
            // A second attester about which less is known.
            let mut two = claims();
            two["submods"]["another"] = json!({ "ear_status": "affirming" });
            let of_all = wanted.policy.is_some() || !wanted.claims.is_empty();
            let second = refusal.or(of_all.then_some("ear.policy"));
            assert_eq!(read(&two), second, "{wanted:?}");
            for status in ["none", "warning", "contraindicated"] {
                let mut claims = claims();
                claims["submods"][ATTESTER]["ear_status"] = json!(status);
                assert_eq!(read(&claims), Some("ear.status"), "{wanted:?} {status}");
            }
            let mut without = claims();
            without.as_object_mut().unwrap().remove("eat_nonce");
            let expected = wanted.nonce.map(|_| "ear.nonce").or(refusal);
            assert_eq!(read(&without), expected, "{wanted:?}");
        }
    }
}
