//! The verdict as a signed EAT attestation result (draft-ietf-rats-ear, AR4SI trust vector) for relying parties that
//! know that format. The key is the verifier's; who trusts the token trusts the verifier.

use crate::verdict::{Outcome, Overall, Verdict};
use ear::claim::{
    APPROVED_CONFIG, APPROVED_RUNTIME, CONTRAINDICATED_HARDWARE, CONTRAINDICATED_RUNTIME,
    CRYPTO_VALIDATION_FAILED, GENUINE_HARDWARE, NO_CLAIM, TRUSTWORTHY_INSTANCE,
    UNRECOGNIZED_INSTANCE, UNSAFE_CONFIG, UNSAFE_HARDWARE, UNSUPPORTABLE_CONFIG,
};
use ear::{Algorithm, Appraisal, Ear, RawValue, TrustTier, VerifierID};

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("no EAR token: {0}")]
pub struct EarError(String);

/// The profile of the token's format, as the crate `ear` writes it (draft-ietf-rats-ear, `eat_profile`).
const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

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

impl Verdict {
    /// This verdict as an EAR token: a JWT signed with ES256 by this PKCS #8 private key in PEM.
    ///
    /// # Errors
    ///
    /// When the key cannot be used.
    pub fn to_ear(&self, key: &[u8]) -> Result<String, EarError> {
        let mut appraisal = Appraisal::new();
        appraisal.policy_ids = vec![self.policy.clone()];
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
        let vector = &mut appraisal.trust_vector;
        if cryptography_fails || self.overall == Overall::Simulated {
            // Nothing can be said of the rest: it is not the hardware's word.
            vector.set_all(NO_CLAIM);
            vector.hardware.set(if cryptography_fails {
                CRYPTO_VALIDATION_FAILED
            } else {
                CONTRAINDICATED_HARDWARE
            });
        } else {
            let grouped = [INSTANCE, CONFIGURATION, EXECUTABLES];
            let instance = worst(&|name| in_group(INSTANCE, name));
            let configuration = worst(&|name| in_group(CONFIGURATION, name));
            let executables = worst(&|name| in_group(EXECUTABLES, name));
            let hardware = worst(&|name| !grouped.iter().any(|group| in_group(group, name)));
            vector.instance_identity.set(claim(
                instance,
                [
                    TRUSTWORTHY_INSTANCE,
                    UNRECOGNIZED_INSTANCE,
                    UNRECOGNIZED_INSTANCE,
                ],
            ));
            vector.configuration.set(claim(
                configuration,
                [APPROVED_CONFIG, UNSAFE_CONFIG, UNSUPPORTABLE_CONFIG],
            ));
            vector.executables.set(claim(
                executables,
                [
                    APPROVED_RUNTIME,
                    CONTRAINDICATED_RUNTIME,
                    CONTRAINDICATED_RUNTIME,
                ],
            ));
            vector.hardware.set(claim(
                hardware,
                [GENUINE_HARDWARE, UNSAFE_HARDWARE, CONTRAINDICATED_HARDWARE],
            ));
        }
        appraisal.status = match self.overall {
            Overall::Valid => TrustTier::Affirming,
            Overall::Degraded => TrustTier::Warning,
            Overall::Invalid | Overall::Simulated => TrustTier::Contraindicated,
        };
        for (name, value) in &self.claims {
            appraisal
                .attester_claims
                .insert(name.clone().into_owned(), RawValue::String(value.clone()));
        }
        let mut token = Ear::new();
        PROFILE.clone_into(&mut token.profile);
        token.iat = i64::try_from(self.at_unix).unwrap_or(i64::MAX);
        token.vid = VerifierID {
            build: concat!("enarx-attestation ", env!("CARGO_PKG_VERSION")).to_owned(),
            developer: env!("CARGO_PKG_REPOSITORY").to_owned(),
        };
        token.submods.insert(self.tee.to_string(), appraisal);
        token
            .sign_jwt_pem(Algorithm::ES256, key)
            .map_err(|e| EarError(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Endorsements, Policy, Timestamp, Verifier};

    #[test]
    fn a_refusal_is_contraindicated() {
        use p256::elliptic_curve::sec1::ToSec1Point;
        use p256::pkcs8::{EncodePrivateKey, LineEnding};
        let key = p256::SecretKey::from_slice(&[7; 32]).unwrap();
        let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
        let verdict = Verifier::new(Policy::default()).verify(
            b"no evidence",
            &Endorsements::default(),
            Timestamp(1_790_000_000),
        );
        let token = verdict.to_ear(pem.as_bytes()).unwrap();
        let point = key.public_key().to_sec1_point(false);
        let coordinate = |octets: &[u8]| {
            const DIGITS: &[u8] =
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let bits: Vec<u8> = octets
                .iter()
                .flat_map(|o| (0..8).rev().map(move |i| o >> i & 1))
                .collect();
            let digit = |six: &[u8]| {
                six.iter()
                    .chain([0; 6].iter())
                    .take(6)
                    .fold(0, |n, b| n << 1 | usize::from(*b))
            };
            bits.chunks(6)
                .map(|six| char::from(DIGITS[digit(six)]))
                .collect::<String>()
        };
        let jwk = format!(
            r#"{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}"#,
            coordinate(point.x().unwrap()),
            coordinate(point.y().unwrap())
        );
        let read = ear::Ear::from_jwt_jwk(&token, ear::Algorithm::ES256, jwk.as_bytes()).unwrap();
        assert_eq!(read.iat, 1_790_000_000);
        let appraisal = &read.submods["unknown evidence"];
        assert_eq!(appraisal.status, ear::TrustTier::Contraindicated);
        assert!(verdict.to_ear(b"no key").is_err());
    }
}
