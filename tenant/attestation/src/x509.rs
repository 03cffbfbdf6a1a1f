// SPDX-License-Identifier: Apache-2.0

//! Certificates and revocation lists: parsing, and signatures over them. Hostile until a signature by a
//! trusted key is checked; signatures are checked over the bytes as received.

use crate::Timestamp;
use crate::pem::{self, PemError};
use der::asn1::{ObjectIdentifier, UintRef};
use der::pem::PemLabel;
use der::{Decode, Encode, Reader, SliceReader, Tag, Tagged};
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::signature::hazmat::PrehashVerifier;
use rsa::traits::PublicKeyParts;
use rsa::{RsaPublicKey, pss};
use sha2::{Digest, Sha256, Sha384};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::name::Name;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

/// id-RSASSA-PSS (RFC 8017 appendix A.2.3).
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
/// rsaEncryption (RFC 8017 appendix A.1).
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// id-ecPublicKey (RFC 5480).
pub(crate) const EC_PUBLIC_KEY: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1 (RFC 5480).
pub(crate) const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// ecdsa-with-SHA256 (RFC 5758).
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// Fields of RSASSA-PSS-params for SHA-384, MGF1 with SHA-384 and a salt of 48 bytes (RFC 8017 appendix A.2.3), the
/// only ones that AMD uses (57230 section 2).
const PSS_SHA384_PARAMS: &[u8] = &[
    0xA0, 0x0F, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, 0xA1, 0x1C, 0x30, 0x1A, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x08,
    0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xA2,
    0x03, 0x02, 0x01, 0x30,
];
/// The default trailer field of RSASSA-PSS-params, which AMD's roots spell out.
const PSS_TRAILER: &[u8] = &[0xA3, 0x03, 0x02, 0x01, 0x01];
/// Bits of AMD's RSA keys (57230 section 2).
const RSA_BITS: u32 = 4096;
/// deltaCRLIndicator (RFC 5280 section 5.2.4).
const DELTA_CRL_INDICATOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.27");
/// issuingDistributionPoint (RFC 5280 section 5.2.5).
const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
/// cRLNumber (RFC 5280 section 5.2.3).
const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
/// authorityKeyIdentifier (RFC 5280 section 4.2.1.1).
const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
/// basicConstraints (RFC 5280 section 4.2.1.9).
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
/// keyUsage (RFC 5280 section 4.2.1.3).
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
/// Bytes of the largest certificate or revocation list that is parsed.
const MAX_LEN: usize = 1 << 20;

/// Why bytes are not a usable certificate or revocation list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum X509Error {
    #[error("not DER or PEM of the expected structure: {0}")]
    Format(der::Error),
    #[error("larger than {MAX_LEN} bytes")]
    TooLarge,
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error("PEM with {found:?} instead of one {expected}")]
    Documents {
        found: Vec<String>,
        expected: &'static str,
    },
}

impl From<der::Error> for X509Error {
    fn from(error: der::Error) -> Self {
        Self::Format(error)
    }
}

/// A structure that is signed: a certificate or a revocation list.
#[derive(Debug, Clone)]
pub(crate) struct Signed<T> {
    pub(crate) inner: T,
    /// The signed bytes as received.
    tbs: Vec<u8>,
    /// SHA-256 over the whole as received.
    digest: [u8; 32],
}

/// A certificate.
pub(crate) type Cert = Signed<Certificate>;
/// A revocation list.
pub(crate) type Crl = Signed<CertificateList>;
/// The number of a revocation list, big-endian; of two of one issuer the later has the greater (RFC 5280 section 5.2.3).
pub(crate) type CrlNumber = [u8; 20];

impl<T: for<'a> Decode<'a, Error = der::Error> + PemLabel> Signed<T> {
    /// Reads DER or PEM.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, X509Error> {
        if bytes.len() > MAX_LEN {
            return Err(X509Error::TooLarge);
        }
        if !pem::is_pem(bytes) {
            return Self::from_der(bytes);
        }
        match pem::documents(bytes)?.as_slice() {
            [one] if one.label == T::PEM_LABEL => Self::from_der(&one.bytes),
            others => Err(X509Error::Documents {
                found: others.iter().map(|other| other.label.clone()).collect(),
                expected: T::PEM_LABEL,
            }),
        }
    }

    /// Reads DER.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, X509Error> {
        let inner = T::from_der(der)?;
        let mut outer = SliceReader::new(der)?;
        let tbs = outer.sequence(|content| {
            let tbs = content.tlv_bytes()?.to_vec();
            content.drain(content.remaining_len())?;
            Ok::<_, der::Error>(tbs)
        })?;
        Ok(Self {
            inner,
            tbs,
            digest: Sha256::digest(der).into(),
        })
    }
}

impl Cert {
    /// The public key.
    pub(crate) fn key(&self) -> &SubjectPublicKeyInfoOwned {
        self.inner.tbs_certificate().subject_public_key_info()
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub(crate) fn key_digest(&self) -> [u8; 32] {
        Sha256::digest(self.key().to_der().unwrap_or_default()).into()
    }

    /// The issuer's name.
    pub(crate) fn issuer(&self) -> &Name {
        self.inner.tbs_certificate().issuer()
    }

    /// The subject's name.
    pub(crate) fn subject(&self) -> &Name {
        self.inner.tbs_certificate().subject()
    }

    /// The serial number, big-endian without needless zeros.
    pub(crate) fn serial(&self) -> &[u8] {
        trim(self.inner.tbs_certificate().serial_number().as_bytes())
    }

    /// First and last second of validity.
    pub(crate) fn validity(&self) -> (Timestamp, Timestamp) {
        let validity = self.inner.tbs_certificate().validity();
        (validity.not_before.into(), validity.not_after.into())
    }

    /// The value of the only extension with this identifier; `None` if there is none or more than one.
    pub(crate) fn extension(&self, id: ObjectIdentifier) -> Option<&[u8]> {
        let mut found = self
            .inner
            .tbs_certificate()
            .extensions()?
            .iter()
            .filter(|e| e.extn_id == id);
        let value = found.next()?.extn_value.as_bytes();
        found.next().is_none().then_some(value)
    }

    /// A critical extension that is not handled here: a reader that does not know it must not use the certificate (RFC
    /// 5280 section 4.2).
    pub(crate) fn unknown_critical_extension(&self) -> Option<ObjectIdentifier> {
        let extensions = self.inner.tbs_certificate().extensions()?;
        let unknown = |id| id != BASIC_CONSTRAINTS && id != KEY_USAGE;
        let mut critical = extensions.iter().filter(|e| e.critical).map(|e| e.extn_id);
        critical.find(|id| unknown(*id))
    }

    /// True if basic constraints make it an authority.
    pub(crate) fn is_authority(&self) -> bool {
        self.inner
            .tbs_certificate()
            .get_extension::<x509_cert::ext::pkix::BasicConstraints>()
            .is_ok_and(|found| found.is_some_and(|(_, constraints)| constraints.ca))
    }

    /// True if `issuer`'s key signed this certificate.
    pub(crate) fn is_signed_by(&self, issuer: &Self, cache: &CheckedSignatures) -> bool {
        self.inner.signature_algorithm() == self.inner.tbs_certificate().signature()
            && self.inner.signature().as_bytes().is_some_and(|signature| {
                let algorithm = self.inner.signature_algorithm();
                cache.check(issuer, algorithm, &self.tbs, &self.digest, signature)
            })
    }
}

impl Crl {
    /// True if `issuer` is named as the issuer and its key signed this list.
    pub(crate) fn is_signed_by(&self, issuer: &Cert, cache: &CheckedSignatures) -> bool {
        self.inner.tbs_cert_list.issuer == *issuer.subject()
            && self.inner.signature_algorithm == self.inner.tbs_cert_list.signature
            && self.inner.signature.as_bytes().is_some_and(|signature| {
                let algorithm = &self.inner.signature_algorithm;
                cache.check(issuer, algorithm, &self.tbs, &self.digest, signature)
            })
    }

    /// When it came into force, and when the next is due.
    pub(crate) fn validity(&self) -> (Timestamp, Option<Timestamp>) {
        let list = &self.inner.tbs_cert_list;
        (list.this_update.into(), list.next_update.map(Into::into))
    }

    /// Its number; `None` if it has none, or one longer than the allowed 20 bytes.
    pub(crate) fn number(&self) -> Option<CrlNumber> {
        let extensions = self.inner.tbs_cert_list.crl_extensions.as_ref()?;
        let extension = extensions.iter().find(|it| it.extn_id == CRL_NUMBER)?;
        let digits = UintRef::from_der(extension.extn_value.as_bytes()).ok()?;
        let mut number = CrlNumber::default();
        let start = number.len().checked_sub(digits.as_bytes().len())?;
        number.get_mut(start..)?.copy_from_slice(digits.as_bytes());
        Some(number)
    }

    /// The reason why this list must not be used to prove that a certificate is not revoked: it covers only some
    /// certificates, or has a critical extension that is not understood (RFC 5280 sections 5.2 and 5.3). `None` for a
    /// list that may be used.
    pub(crate) fn limits(&self) -> Option<String> {
        let list = &self.inner.tbs_cert_list;
        for extension in list.crl_extensions.iter().flatten() {
            match extension.extn_id {
                DELTA_CRL_INDICATOR => return Some("it is a delta to another list".to_owned()),
                ISSUING_DISTRIBUTION_POINT => {
                    return Some("it covers only some kinds of certificates".to_owned());
                }
                AUTHORITY_KEY_IDENTIFIER | CRL_NUMBER => {}
                id if extension.critical => return Some(format!("critical extension {id}")),
                _ => {}
            }
        }
        let entries = list.revoked_certificates.iter().flatten();
        let mut extensions = entries.flat_map(|entry| entry.crl_entry_extensions.iter().flatten());
        let critical = extensions.find(|extension| extension.critical)?;
        Some(format!(
            "critical extension {} of an entry",
            critical.extn_id
        ))
    }

    /// True if it lists this serial number.
    pub(crate) fn revokes(&self, serial: &[u8]) -> bool {
        let revoked = self
            .inner
            .tbs_cert_list
            .revoked_certificates
            .as_deref()
            .unwrap_or(&[]);
        revoked
            .iter()
            .any(|entry| trim(entry.serial_number.as_bytes()) == serial)
    }
}

/// The common name.
pub(crate) fn common_name(name: &Name) -> String {
    name.common_name()
        .ok()
        .flatten()
        .map(|cn| cn.value().into_owned())
        .unwrap_or_default()
}

fn trim(serial: &[u8]) -> &[u8] {
    let zeros = serial
        .iter()
        .take_while(|b| **b == 0)
        .count()
        .min(serial.len().saturating_sub(1));
    serial.split_at(zeros).1
}

/// The bytes of a small non-negative INTEGER as one number.
pub(crate) fn small_integer(der: &[u8]) -> Option<u8> {
    match UintRef::from_der(der).ok()?.as_bytes() {
        [value] => Some(*value),
        _ => None,
    }
}

/// A cache of valid signatures. Copies share their entries, so no signature of a certificate, list or report is checked
/// twice, under this policy or another. An entry depends only on the bytes of signer and signed data, so it never
/// expires; nothing that depends on the clock or on a policy is cached.
#[derive(Debug, Default, Clone)]
pub struct CheckedSignatures {
    good: Arc<Mutex<HashSet<[u8; 32]>>>,
}

impl CheckedSignatures {
    /// Entries kept; all are forgotten when it is full, so a stream of new certificates cannot fill the memory.
    const CAPACITY: usize = 1024;

    /// True if the key of `issuer` signed a certificate or list with this digest.
    fn check(
        &self,
        issuer: &Cert,
        algorithm: &AlgorithmIdentifierOwned,
        tbs: &[u8],
        digest: &[u8; 32],
        signature: &[u8],
    ) -> bool {
        let key = Sha256::new()
            .chain_update(issuer.key_digest())
            .chain_update(digest)
            .finalize()
            .into();
        self.check_once(key, || {
            verify(issuer.key(), algorithm, tbs, signature).is_some()
        })
    }

    /// True if the key of `signer` signed this evidence, by `verify` unless that is known. The evidence is given with its signature.
    pub(crate) fn check_evidence(
        &self,
        signer: &Cert,
        evidence: &[u8],
        verify: impl FnOnce() -> bool,
    ) -> bool {
        let key = Sha256::new()
            .chain_update(b"evidence")
            .chain_update(signer.key_digest())
            .chain_update(Sha256::digest(evidence))
            .finalize()
            .into();
        self.check_once(key, verify)
    }

    /// The outcome of `verify`, which is not asked where this key stands for a success before.
    fn check_once(&self, key: [u8; 32], verify: impl FnOnce() -> bool) -> bool {
        if self.good().contains(&key) {
            return true;
        }
        let good = verify();
        if good {
            let mut known = self.good();
            if known.len() >= Self::CAPACITY {
                known.clear();
            }
            known.insert(key);
        }
        good
    }

    /// The set. It is whole after every step, so a thread that panicked while it had it does no harm.
    fn good(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn verify(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Option<()> {
    match algorithm.oid {
        RSASSA_PSS => verify_pss(key, algorithm, message, signature),
        ECDSA_SHA256 => verify_p256(key, message, signature),
        _ => None,
    }
}

/// ECDSA over P-256 with SHA-256, which Intel uses.
fn verify_p256(key: &SubjectPublicKeyInfoOwned, message: &[u8], signature: &[u8]) -> Option<()> {
    use p256::ecdsa::signature::Verifier;
    let curve = key
        .algorithm
        .parameters
        .as_ref()?
        .decode_as::<ObjectIdentifier>()
        .ok()?;
    if key.algorithm.oid != EC_PUBLIC_KEY || curve != SECP256R1 {
        return None;
    }
    let point = key.subject_public_key.as_bytes()?;
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
    key.verify(message, &p256::ecdsa::Signature::from_der(signature).ok()?)
        .ok()
}

/// RSASSA-PSS with RSA-4096 and SHA-384, which AMD uses.
fn verify_pss(
    key: &SubjectPublicKeyInfoOwned,
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Option<()> {
    let parameters = algorithm
        .parameters
        .as_ref()
        .filter(|p| p.tag() == Tag::Sequence)?;
    let trailer = parameters.value().strip_prefix(PSS_SHA384_PARAMS)?;
    if !trailer.is_empty() && trailer != PSS_TRAILER {
        return None;
    }
    if key.algorithm.oid != RSA_ENCRYPTION && key.algorithm.oid != RSASSA_PSS {
        return None;
    }
    let key = RsaPublicKey::from_pkcs1_der(key.subject_public_key.as_bytes()?).ok()?;
    if key.n().bits() != RSA_BITS {
        return None;
    }
    let signature = pss::Signature::try_from(signature).ok()?;
    pss::VerifyingKey::<Sha384>::new(key)
        .verify_prehash(&Sha384::digest(message), &signature)
        .ok()
}
