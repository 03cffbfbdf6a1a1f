// SPDX-License-Identifier: Apache-2.0

//! The simulated chip: its identity, its endorsement keys and their certificates. Verifiers do not trust its root
//! unless a policy names it; every certificate says `simulated`, and the chip's identifier begins so.

use crate::settings::Settings;
use crate::store::{Error, Store};
use enarx_snp::report::Report;
use enarx_snp::simulated::{CHIP_PREFIX, SHORT_CHIP_PREFIX};
use enarx_snp_authority::{
    Authority, AuthorityKeys, CrlSpec, Endorsement, EndorsementSpec, Hierarchy, KeyKind, Validity,
};
use rand::rngs::ThreadRng;
use sha2::{Digest, Sha384};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Serial number of endorsement keys, as genuine VCEKs have it (57230 section 3.1).
const SERIAL: u64 = 0;
/// Seconds for which certificates and revocation lists are made: ten years.
const LIFETIME: u64 = 3650 * DAY;

/// The certificates that a verifier needs in addition to a report, each as DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The endorsement key (VCEK or VLEK).
    pub vek: Vec<u8>,
    /// The intermediate that issued it (ASK or ASVK).
    pub ask: Vec<u8>,
    /// The root.
    pub ark: Vec<u8>,
    /// The root's revocation list. It revokes nothing.
    pub crl: Vec<u8>,
    /// The revocation list of the endorsement key's issuer, which names that key; only of a machine whose key is revoked.
    pub issuer_crl: Option<Vec<u8>>,
}

/// A simulated machine. All guests of a process can share it.
pub struct Machine {
    settings: Settings,
    secret: [u8; 32],
    chip_id: [u8; 64],
    root_digest: [u8; 32],
    ark: Vec<u8>,
    ask: Vec<u8>,
    asvk: Vec<u8>,
    crl: Vec<u8>,
    issuer_crl: Option<Vec<u8>>,
    vcek: Endorsement,
    vlek: Option<Endorsement>,
}

impl std::fmt::Debug for Machine {
    /// Leaves the keys out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// Opens the machine whose keys lie in `folder`. They are made at the first time, which takes seconds, and are the
    /// same for all settings; processes that start at once wait for each other.
    ///
    /// # Errors
    /// When a file cannot be used, or the clock is wrong.
    pub fn open(folder: &Path, settings: Settings) -> Result<Self, Error> {
        let rng = &mut rand::rng();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|_| Error::Clock)?
            .as_secs();
        let validity = Validity {
            from: now.checked_sub(DAY).ok_or(Error::Clock)?,
            to: now.checked_add(LIFETIME).ok_or(Error::Clock)?,
        };
        let generation = settings.generation;
        let store = Store::open(folder)?;

        let [secret] = store.get_or_make("chip", || Ok([rand::random::<[u8; 32]>().to_vec()]))?;
        let secret: [u8; 32] = secret
            .try_into()
            .map_err(|_| Error::Damaged(folder.join("chip")))?;
        // RSA is slow, so the authorities' keys are read only where something is to be signed.
        let authorities = |rng: &mut ThreadRng| -> Result<AuthorityKeys, Error> {
            let [ark, ask, asvk] = store.get_or_make("authorities", || {
                let keys = AuthorityKeys::generate(rng)?;
                Ok(keys.to_der()?)
            })?;
            Ok(AuthorityKeys::from_der([&ark, &ask, &asvk])?)
        };
        let name = format!("{}-authorities", generation.line);
        let [ark, ask, asvk, crl, root_digest] = store.get_or_make(&name, || {
            let made = Hierarchy::new(generation, authorities(rng)?, validity, rng)?;
            let crl = made.crl(&list(Authority::Ark, validity, Vec::new()), rng)?;
            let root_digest = made.root_digest()?.to_vec();
            Ok([made.ark, made.ask, made.asvk, crl, root_digest])
        })?;
        let root_digest = root_digest
            .try_into()
            .map_err(|_| Error::Damaged(folder.join(name)))?;
        let chip_id = chip_id(&secret, generation.chip_id_len);

        let mut endorse = |kind| -> Result<Endorsement, Error> {
            let seed = derive(&secret, seed_label(kind));
            let tcb = settings.tcb.reported;
            let [certificate] = store.get_or_make(&endorsement_name(&settings, kind), || {
                let issuers = [ark.clone(), ask.clone(), asvk.clone()];
                let hierarchy = Hierarchy::restore(generation, authorities(rng)?, issuers);
                let spec = EndorsementSpec {
                    kind,
                    product_name: format!("{}-B0", generation.line),
                    tcb,
                    chip_id,
                    validity,
                    serial: SERIAL,
                    wrapped_hwid: false,
                    without: None,
                    seed,
                };
                Ok([hierarchy.endorse(&spec, rng)?.certificate])
            })?;
            Ok(Endorsement::restore(&seed, tcb, certificate)?)
        };
        let vcek = endorse(KeyKind::Vcek)?;
        let vlek = match settings.key {
            KeyKind::Vcek => None,
            KeyKind::Vlek => Some(endorse(KeyKind::Vlek)?),
        };
        let issuer_crl = if settings.revoked {
            let issuer = match settings.key {
                KeyKind::Vcek => Authority::Ask,
                KeyKind::Vlek => Authority::Asvk,
            };
            let name = format!("{}-revoked", endorsement_name(&settings, settings.key));
            let [list] = store.get_or_make(&name, || {
                let issuers = [ark.clone(), ask.clone(), asvk.clone()];
                let hierarchy = Hierarchy::restore(generation, authorities(rng)?, issuers);
                Ok([hierarchy.crl(&list(issuer, validity, vec![SERIAL]), rng)?])
            })?;
            Some(list)
        } else {
            None
        };
        Ok(Self {
            settings,
            secret,
            chip_id,
            root_digest,
            ark,
            ask,
            asvk,
            crl,
            issuer_crl,
            vcek,
            vlek,
        })
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// CHIP_ID of its reports, unless they are signed with a VLEK.
    pub fn chip_id(&self) -> [u8; 64] {
        self.chip_id
    }

    /// SHA-256 of the root's SubjectPublicKeyInfo: what a policy names to accept this machine.
    pub fn root_digest(&self) -> [u8; 32] {
        self.root_digest
    }

    /// The certificates for reports that are signed with the key of the settings.
    pub fn certificates(&self) -> Certificates {
        match &self.vlek {
            Some(vlek) => self.certificates_with(vlek, &self.asvk),
            None => self.vcek_certificates(),
        }
    }

    /// The certificates for reports that are signed with the VCEK, which a guest can ask for on every machine.
    pub fn vcek_certificates(&self) -> Certificates {
        self.certificates_with(&self.vcek, &self.ask)
    }

    fn certificates_with(&self, endorsement: &Endorsement, intermediate: &[u8]) -> Certificates {
        Certificates {
            vek: endorsement.certificate.clone(),
            ask: intermediate.to_vec(),
            ark: self.ark.clone(),
            crl: self.crl.clone(),
            issuer_crl: self.issuer_crl.clone(),
        }
    }

    fn endorsement(&self, kind: KeyKind) -> Option<&Endorsement> {
        match kind {
            KeyKind::Vcek => Some(&self.vcek),
            KeyKind::Vlek => self.vlek.as_ref(),
        }
    }

    /// Signs a report; `None` when the machine has no key of the kind.
    pub(crate) fn sign(&self, report: &mut Report, kind: KeyKind) -> Option<()> {
        self.endorsement(kind)?.sign(report);
        Some(())
    }

    /// The secret from which keys for guests are derived; `None` when the machine has no key of the kind.
    pub(crate) fn root_key(&self, kind: KeyKind) -> Option<[u8; 32]> {
        self.endorsement(kind)?;
        let label: &[u8] = match kind {
            KeyKind::Vcek => b"root of derived keys, VCEK",
            KeyKind::Vlek => b"root of derived keys, VLEK",
        };
        Some(derive(&self.secret, label))
    }
}

/// A revocation list of `authority` with these serial numbers.
fn list(authority: Authority, validity: Validity, revoked: Vec<u64>) -> CrlSpec {
    CrlSpec {
        issuer: authority,
        signer: authority,
        this_update: validity.from,
        next_update: Some(validity.to),
        revoked,
        extensions: Vec::new(),
        entry_extensions: Vec::new(),
    }
}

fn seed_label(kind: KeyKind) -> &'static [u8] {
    match kind {
        KeyKind::Vcek => b"seed of the VCEK",
        KeyKind::Vlek => b"seed of the VLEK",
    }
}

/// File of an endorsement key's certificate: it depends on kind, generation and TCB version.
fn endorsement_name(settings: &Settings, kind: KeyKind) -> String {
    let kind = match kind {
        KeyKind::Vcek => "vcek",
        KeyKind::Vlek => "vlek",
    };
    let tcb = base16ct::lower::encode_string(&settings.tcb.reported.0);
    format!("{}-{kind}-{tcb}", settings.generation.name)
}

/// 32 bytes that depend on secret and label; without the secret nothing of them is known.
fn derive(secret: &[u8; 32], label: &[u8]) -> [u8; 32] {
    let digest = Sha384::new()
        .chain_update(b"enarx simulated chip")
        .chain_update(secret)
        .chain_update(label)
        .finalize();
    let mut key = [0; 32];
    key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    key
}

/// An identifier of `len` bytes, the others zero.
fn chip_id(secret: &[u8; 32], len: usize) -> [u8; 64] {
    let unique = derive(secret, b"chip id");
    let prefix = if len > 2 * CHIP_PREFIX.len() {
        CHIP_PREFIX
    } else {
        SHORT_CHIP_PREFIX
    };
    let mut id = [0; 64];
    id.iter_mut()
        .zip(prefix.iter().chain(&unique).chain(&unique))
        .take(len)
        .for_each(|(to, from)| *to = *from);
    id
}
