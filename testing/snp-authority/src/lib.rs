// SPDX-License-Identifier: Apache-2.0

//! A simulated endorsement hierarchy in AMD's formats: root (ARK), intermediates (ASK, ASVK), endorsement keys (VCEK,
//! VLEK), revocation lists, and reports signed by them (57230 section 3, 56860 ATTESTATION_REPORT). The simulated
//! platform and the tests of the verifier use it. Every name in it ends in `-simulated`, and no verifier trusts its
//! root unless a policy names it.
//!
//! Whatever a certificate can say wrongly can be asked for here: the tests need it.
#![forbid(unsafe_code)]

mod der_writer;

use der::asn1::ObjectIdentifier;
use der_writer::{
    bit_string, boolean, context, integer, octet_string, oid, sequence, set, time, tlv, utf8,
};
use enarx_snp::product::Generation;
use enarx_snp::report::{Report, Signature};
use enarx_snp::tcb::{Component, TcbVersion};
use p384::ecdsa::SigningKey;
use p384::ecdsa::signature::Signer;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pss;
use rsa::rand_core::CryptoRng;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha2::{Digest, Sha256, Sha384};

/// Ends every common name in the hierarchy.
pub const SUFFIX: &str = "-simulated";
/// Bits of the RSA keys, as AMD's.
const RSA_BITS: usize = 4096;
/// The organization in every name.
const ORGANIZATION: &str = "Enarx simulated, not AMD";

/// Why a hierarchy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// RSA key or signature.
    #[error("RSA: {0}")]
    Rsa(#[from] rsa::Error),
    /// RSA signature.
    #[error("signature: {0}")]
    Signature(#[from] rsa::signature::Error),
    /// An RSA key could not be encoded or decoded.
    #[error("RSA key: {0}")]
    KeyEncoding(#[from] rsa::pkcs1::Error),
    /// The seed of an endorsement key is not a key.
    #[error("the seed is no P-384 key")]
    Seed,
}

/// The keys of root and intermediates. Generating them takes seconds, so they can be shared by hierarchies.
#[derive(Debug, Clone)]
pub struct AuthorityKeys {
    ark: RsaPrivateKey,
    ask: RsaPrivateKey,
    asvk: RsaPrivateKey,
}

impl AuthorityKeys {
    /// Generates the keys.
    ///
    /// # Errors
    /// When the random numbers give none.
    pub fn generate(rng: &mut impl CryptoRng) -> Result<Self, Error> {
        Ok(Self {
            ark: RsaPrivateKey::new(rng, RSA_BITS)?,
            ask: RsaPrivateKey::new(rng, RSA_BITS)?,
            asvk: RsaPrivateKey::new(rng, RSA_BITS)?,
        })
    }

    /// The private keys of root, VCEK intermediate and VLEK intermediate, each as DER (RFC 8017, RSAPrivateKey).
    ///
    /// # Errors
    /// When a key cannot be encoded.
    pub fn to_der(&self) -> Result<[Vec<u8>; 3], Error> {
        let der = |key: &RsaPrivateKey| Ok::<_, Error>(key.to_pkcs1_der()?.as_bytes().to_vec());
        Ok([der(&self.ark)?, der(&self.ask)?, der(&self.asvk)?])
    }

    /// The keys that [`Self::to_der`] gave.
    ///
    /// # Errors
    /// When one of them is no RSA key.
    pub fn from_der([ark, ask, asvk]: [&[u8]; 3]) -> Result<Self, Error> {
        Ok(Self {
            ark: RsaPrivateKey::from_pkcs1_der(ark)?,
            ask: RsaPrivateKey::from_pkcs1_der(ask)?,
            asvk: RsaPrivateKey::from_pkcs1_der(asvk)?,
        })
    }
}

/// An authority of the hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authority {
    /// The root.
    Ark,
    /// The intermediate over VCEKs.
    Ask,
    /// The intermediate over VLEKs.
    Asvk,
}

/// First and last second of validity, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub from: u64,
    /// Last second.
    pub to: u64,
}

/// Which endorsement key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Of a chip.
    Vcek,
    /// Of a cloud provider.
    Vlek,
}

/// The contents of an endorsement key's certificate.
#[derive(Debug, Clone)]
pub struct EndorsementSpec {
    /// VCEK or VLEK.
    pub kind: KeyKind,
    /// The productName extension.
    pub product_name: String,
    /// The TCB version.
    pub tcb: TcbVersion,
    /// The chip; its first bytes as the generation has them become the hwID extension of a VCEK.
    pub chip_id: [u8; 64],
    /// Validity.
    pub validity: Validity,
    /// Serial number; AMD's VCEKs have 0.
    pub serial: u64,
    /// Wrap hwID in an OCTET STRING, as older certificates do.
    pub wrapped_hwid: bool,
    /// Leave out the number of this component.
    pub without: Option<Component>,
    /// Secret from which the key is derived; a real chip derives it from fuses and TCB version.
    pub seed: [u8; 32],
}

/// An endorsement key with its certificate.
#[derive(Debug, Clone)]
pub struct Endorsement {
    /// The certificate as DER.
    pub certificate: Vec<u8>,
    key: SigningKey,
}

impl Endorsement {
    /// The endorsement key of this seed and TCB version with the certificate that [`Hierarchy::endorse`] once made
    /// for it.
    ///
    /// # Errors
    /// If the seed is not a valid key.
    pub fn restore(seed: &[u8; 32], tcb: TcbVersion, certificate: Vec<u8>) -> Result<Self, Error> {
        let key = endorsement_key(seed, tcb)?;
        Ok(Self { certificate, key })
    }

    /// Signs a report: sets its signature.
    pub fn sign(&self, report: &mut Report) {
        let signature: p384::ecdsa::Signature = self.key.sign(report.signed());
        let (r, s) = signature.split_bytes();
        report.signature = Signature::from_scalars(&r.into(), &s.into());
    }
}

/// The contents of a revocation list.
#[derive(Debug, Clone)]
pub struct CrlSpec {
    /// In whose name.
    pub issuer: Authority,
    /// By whose key.
    pub signer: Authority,
    /// When it comes into force.
    pub this_update: u64,
    /// When the next is due.
    pub next_update: Option<u64>,
    /// Serial numbers that are revoked.
    pub revoked: Vec<u64>,
    /// Extensions of the list.
    pub extensions: Vec<Extension>,
    /// Extensions of every entry.
    pub entry_extensions: Vec<Extension>,
}

/// An extension (RFC 5280 section 4.2).
#[derive(Debug, Clone)]
pub struct Extension {
    /// Its identifier.
    pub id: ObjectIdentifier,
    /// True if readers that do not know it must not use the certificate or list.
    pub critical: bool,
    /// Its value as DER.
    pub value: Vec<u8>,
}

impl Extension {
    fn to_der(&self) -> Vec<u8> {
        let critical = self.critical.then(|| boolean(true));
        let parts = [oid(self.id)].into_iter().chain(critical);
        let parts: Vec<_> = parts.chain([octet_string(&self.value)]).collect();
        sequence(&parts)
    }
}

fn extensions_of(extensions: &[Extension]) -> Option<Vec<u8>> {
    let all: Vec<_> = extensions.iter().map(Extension::to_der).collect();
    (!all.is_empty()).then(|| sequence(&all))
}

/// A hierarchy for one product line.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    generation: &'static Generation,
    keys: AuthorityKeys,
    /// The root's certificate as DER.
    pub ark: Vec<u8>,
    /// The VCEK intermediate's certificate as DER.
    pub ask: Vec<u8>,
    /// The VLEK intermediate's certificate as DER.
    pub asvk: Vec<u8>,
}

/// Serial number of the root's certificate.
pub const ARK_SERIAL: u64 = 0x01_0000;
/// Serial number of the VCEK intermediate's certificate.
pub const ASK_SERIAL: u64 = 0x01_0001;
/// Serial number of the VLEK intermediate's certificate.
pub const ASVK_SERIAL: u64 = 0x01_0002;

impl Hierarchy {
    /// A hierarchy for this generation; root and intermediates are valid as said.
    ///
    /// # Errors
    /// When a key cannot sign.
    pub fn new(
        generation: &'static Generation,
        keys: AuthorityKeys,
        validity: Validity,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Error> {
        let mut hierarchy = Self {
            generation,
            keys,
            ark: Vec::new(),
            ask: Vec::new(),
            asvk: Vec::new(),
        };
        hierarchy.ark = hierarchy.authority(Authority::Ark, validity, rng)?;
        hierarchy.ask = hierarchy.authority(Authority::Ask, validity, rng)?;
        hierarchy.asvk = hierarchy.authority(Authority::Asvk, validity, rng)?;
        Ok(hierarchy)
    }

    /// The hierarchy of these keys with the certificates that [`Self::new`] once made for them.
    pub fn restore(
        generation: &'static Generation,
        keys: AuthorityKeys,
        [ark, ask, asvk]: [Vec<u8>; 3],
    ) -> Self {
        Self {
            generation,
            keys,
            ark,
            ask,
            asvk,
        }
    }

    /// SHA-256 of the root's SubjectPublicKeyInfo: what a policy names to accept this hierarchy.
    ///
    /// # Errors
    /// When the public key cannot be encoded.
    pub fn root_digest(&self) -> Result<[u8; 32], Error> {
        Ok(Sha256::digest(rsa_key_info(&self.keys.ark)?).into())
    }

    fn key(&self, of: Authority) -> &RsaPrivateKey {
        match of {
            Authority::Ark => &self.keys.ark,
            Authority::Ask => &self.keys.ask,
            Authority::Asvk => &self.keys.asvk,
        }
    }

    fn name(&self, of: Authority) -> Vec<u8> {
        let line = self.generation.line;
        name(&match of {
            Authority::Ark => format!("ARK-{line}{SUFFIX}"),
            Authority::Ask => format!("SEV-{line}{SUFFIX}"),
            Authority::Asvk => format!("SEV-VLEK-{line}{SUFFIX}"),
        })
    }

    /// The certificate of an authority, issued by the root.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn authority(
        &self,
        of: Authority,
        validity: Validity,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
        let serial = match of {
            Authority::Ark => ARK_SERIAL,
            Authority::Ask => ASK_SERIAL,
            Authority::Asvk => ASVK_SERIAL,
        };
        let constraints = sequence(&[
            oid(BASIC_CONSTRAINTS),
            boolean(true),
            octet_string(&sequence(&[boolean(true)])),
        ]);
        let key_info = rsa_key_info(self.key(of))?;
        self.certificate(
            Authority::Ark,
            &self.name(of),
            serial,
            validity,
            &key_info,
            &[constraints],
            rng,
        )
    }

    /// An endorsement key and its certificate.
    ///
    /// # Errors
    /// When the seed is no key or the intermediate cannot sign.
    pub fn endorse(
        &self,
        spec: &EndorsementSpec,
        rng: &mut impl CryptoRng,
    ) -> Result<Endorsement, Error> {
        let key = endorsement_key(&spec.seed, spec.tcb)?;
        let (issuer, subject) = match spec.kind {
            KeyKind::Vcek => (Authority::Ask, format!("SEV-VCEK{SUFFIX}")),
            KeyKind::Vlek => (Authority::Asvk, format!("SEV-VLEK{SUFFIX}")),
        };
        let certificate = self.certificate(
            issuer,
            &name(&subject),
            spec.serial,
            spec.validity,
            &p384_key_info(&key),
            &self.extensions(spec),
            rng,
        )?;
        Ok(Endorsement { certificate, key })
    }

    /// The extensions of an endorsement key's certificate (57230 table 11).
    fn extensions(&self, spec: &EndorsementSpec) -> Vec<Vec<u8>> {
        let extension = |arcs: &str, value: &[u8]| {
            sequence(&[oid(ObjectIdentifier::new_unwrap(arcs)), octet_string(value)])
        };
        let layout = self.generation.tcb;
        let mut extensions = vec![
            extension(
                "1.3.6.1.4.1.3704.1.1",
                &integer(u64::from(layout.struct_version())),
            ),
            extension(
                "1.3.6.1.4.1.3704.1.2",
                &tlv(0x16, spec.product_name.as_bytes()),
            ),
        ];
        for (component, arcs) in [
            (Component::Fmc, "1.3.6.1.4.1.3704.1.3.9"),
            (Component::Bootloader, "1.3.6.1.4.1.3704.1.3.1"),
            (Component::Tee, "1.3.6.1.4.1.3704.1.3.2"),
            (Component::Snp, "1.3.6.1.4.1.3704.1.3.3"),
            (Component::Microcode, "1.3.6.1.4.1.3704.1.3.8"),
        ] {
            if let Some(svn) = spec.tcb.get(layout, component)
                && spec.without != Some(component)
            {
                extensions.push(extension(arcs, &integer(u64::from(svn))));
            }
        }
        match spec.kind {
            KeyKind::Vcek => {
                let hwid = spec.chip_id.split_at(self.generation.chip_id_len.min(64)).0;
                let value = if spec.wrapped_hwid {
                    octet_string(hwid)
                } else {
                    hwid.to_vec()
                };
                extensions.push(extension("1.3.6.1.4.1.3704.1.4", &value));
            }
            KeyKind::Vlek => {
                let csp = tlv(0x16, b"CN=simulated.example");
                extensions.push(extension("1.3.6.1.4.1.3704.1.5", &csp));
            }
        }
        extensions
    }

    /// A revocation list.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn crl(&self, spec: &CrlSpec, rng: &mut impl CryptoRng) -> Result<Vec<u8>, Error> {
        let mut fields = vec![
            integer(1),
            pss_algorithm(),
            self.name(spec.issuer),
            time(spec.this_update),
        ];
        fields.extend(spec.next_update.map(time));
        if !spec.revoked.is_empty() {
            let entries: Vec<_> = spec
                .revoked
                .iter()
                .map(|serial| {
                    let entry = [integer(*serial), time(spec.this_update)].into_iter();
                    let entry: Vec<_> =
                        entry.chain(extensions_of(&spec.entry_extensions)).collect();
                    sequence(&entry)
                })
                .collect();
            fields.push(sequence(&entries));
        }
        fields.extend(extensions_of(&spec.extensions).map(|all| context(0, &all)));
        self.signed(spec.signer, &sequence(&fields), rng)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a certificate")]
    fn certificate(
        &self,
        issuer: Authority,
        subject: &[u8],
        serial: u64,
        validity: Validity,
        key_info: &[u8],
        extensions: &[Vec<u8>],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        let tbs = sequence(&[
            context(0, &integer(2)),
            integer(serial),
            pss_algorithm(),
            self.name(issuer),
            sequence(&[time(validity.from), time(validity.to)]),
            subject.to_vec(),
            key_info.to_vec(),
            context(3, &sequence(extensions)),
        ]);
        self.signed(issuer, &tbs, rng)
    }

    fn signed(
        &self,
        signer: Authority,
        tbs: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, Error> {
        let key = pss::SigningKey::<Sha384>::new(self.key(signer).clone());
        let signature = key.try_sign_with_rng(rng, tbs)?;
        Ok(sequence(&[
            tbs.to_vec(),
            pss_algorithm(),
            bit_string(&signature.to_vec()),
        ]))
    }
}

fn endorsement_key(seed: &[u8; 32], tcb: TcbVersion) -> Result<SigningKey, Error> {
    let secret = Sha384::new()
        .chain_update(b"enarx simulated endorsement key")
        .chain_update(seed)
        .chain_update(tcb.0)
        .finalize();
    SigningKey::from_slice(&secret).map_err(|_| Error::Seed)
}

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes (RFC 8017 appendix A.2.3).
fn pss_algorithm() -> Vec<u8> {
    const PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
    const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
    const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
    let sha384 = sequence(&[oid(SHA384), tlv(0x05, &[])]);
    let parameters = sequence(&[
        context(0, &sha384),
        context(1, &sequence(&[oid(MGF1), sha384.clone()])),
        context(2, &integer(48)),
    ]);
    sequence(&[oid(PSS), parameters])
}

fn rsa_key_info(key: &RsaPrivateKey) -> Result<Vec<u8>, Error> {
    const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    let public = RsaPublicKey::from(key).to_pkcs1_der()?;
    Ok(sequence(&[
        sequence(&[oid(RSA), tlv(0x05, &[])]),
        bit_string(public.as_bytes()),
    ]))
}

fn p384_key_info(key: &SigningKey) -> Vec<u8> {
    const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
    let point = key.verifying_key().to_sec1_point(false);
    sequence(&[
        sequence(&[oid(EC), oid(P384)]),
        bit_string(point.as_bytes()),
    ])
}

fn name(common_name: &str) -> Vec<u8> {
    const O: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
    const CN: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let attribute = |id, value| set(&sequence(&[oid(id), utf8(value)]));
    sequence(&[attribute(O, ORGANIZATION), attribute(CN, common_name)])
}
