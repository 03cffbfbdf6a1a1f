// SPDX-License-Identifier: Apache-2.0

//! The store: files under one folder, laid out as the vendors' services lay out their URLs.
//!
//! ```text
//! kdsintf.amd.com/vcek/v1/Milan/cert_chain/{ark,ask}.der
//! kdsintf.amd.com/vcek/v1/Milan/crl/*.crl
//! kdsintf.amd.com/vcek/v1/Milan/<hwid>/blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219.der
//! kdsintf.amd.com/vlek/v1/Milan/cert_chain/asvk.der
//! kdsintf.amd.com/vlek/v1/Milan/cert/blSPL=….der
//! api.trustedservices.intel.com/{sgx,tdx}/certification/v4/<fmspc>.json
//! ```

use crate::file;
use enarx_attestation::snp::{
    EndorsementId, ListId, ROOTS, candidates, identify, identify_list, wanted,
};
use enarx_attestation::vouch::{self, VouchError};
use enarx_attestation::{
    AmdEndorsements, CheckedSignatures, Endorsements, Evidence, EvidenceKind, RevocationList,
    Timestamp, hex, pem,
};
use enarx_snp::tcb::TcbVersion;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Why the store could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file is of no kind that the store keeps, or not the vendor's.
    #[error("{}: {why}", origin.display())]
    Refused {
        /// The file or URL.
        origin: PathBuf,
        /// Why.
        why: Refusal,
    },
}

/// Why a document is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is of no kind that the store keeps.
    #[error("neither a certificate or revocation list of AMD nor collateral of Intel")]
    Unknown,
    /// It is PEM that cannot be read.
    #[error(transparent)]
    Pem(#[from] pem::PemError),
    /// It is not the vendor's.
    #[error(transparent)]
    Unvouched(#[from] VouchError),
    /// It is a revocation list that was issued before the one that is there.
    #[error("the store already has a newer revocation list")]
    Older,
}

/// The result of an import.
#[derive(Debug, Default)]
pub struct Imported {
    /// The files that were written, below the store's folder.
    pub written: Vec<PathBuf>,
    /// The files that were not kept. Files in folders that are of no kind that the store keeps are not listed.
    pub refused: Vec<(PathBuf, Refusal)>,
}

/// A document to import.
struct Document {
    origin: PathBuf,
    bytes: Vec<u8>,
    /// True if it was found in a folder, and may be skipped if the store does not keep such files.
    found: bool,
}

/// The kind of a document.
enum Kind {
    Certificate,
    List,
    Collateral,
}

/// The local store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    signatures: CheckedSignatures,
}

/// A known product line: names of folders come from this list, never from a certificate.
fn known(line: &str) -> Option<&'static str> {
    ROOTS
        .iter()
        .map(|(known, _)| *known)
        .find(|known| *known == line)
}

/// Where a certificate lies in the store.
fn certificate_path(id: &EndorsementId) -> Option<PathBuf> {
    let service = Path::new("kdsintf.amd.com");
    Some(match id {
        EndorsementId::Ark { line } => service
            .join("vcek/v1")
            .join(known(line)?)
            .join("cert_chain/ark.der"),
        EndorsementId::Ask { line } => service
            .join("vcek/v1")
            .join(known(line)?)
            .join("cert_chain/ask.der"),
        EndorsementId::Asvk { line } => service
            .join("vlek/v1")
            .join(known(line)?)
            .join("cert_chain/asvk.der"),
        EndorsementId::Vcek { line, chip_id, tcb } => service
            .join("vcek/v1")
            .join(known(line)?)
            .join(hex::encode(chip_id))
            .join(format!("{tcb}.der")),
        EndorsementId::Vlek { line, tcb } => service
            .join("vlek/v1")
            .join(known(line)?)
            .join("cert")
            .join(format!("{tcb}.der")),
    })
}

fn lists_path(line: &str) -> PathBuf {
    Path::new("kdsintf.amd.com/vcek/v1").join(line).join("crl")
}

/// The place of a platform's collateral within the store.
pub(crate) fn collateral_path(tee: EvidenceKind, fmspc: &str) -> PathBuf {
    let tee = if tee == EvidenceKind::Tdx {
        "tdx"
    } else {
        "sgx"
    };
    Path::new("api.trustedservices.intel.com")
        .join(tee)
        .join("certification/v4")
        .join(format!("{}.json", fmspc.to_lowercase()))
}

impl Store {
    /// The store in this folder, which is created when something is put into it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            signatures: CheckedSignatures::default(),
        }
    }

    /// The signatures that were checked for this store: a verifier with the same memory does not check them again.
    pub const fn signatures(&self) -> &CheckedSignatures {
        &self.signatures
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        file::read(&self.root.join(path)).ok()
    }

    /// True if the store has this certificate, and it is the vendor's.
    pub(crate) fn has(&self, id: &EndorsementId) -> bool {
        let issuers = self.issuers();
        let bytes = issuers(id);
        bytes.is_some_and(|bytes| {
            vouch::certificate(&bytes, &issuers, &self.signatures).as_ref() == Ok(id)
        })
    }

    /// Everything the store has for this evidence. Revocation lists and collateral past their next update at the time
    /// `at` are not served. For a time of the past there may be two lists of an authority: the one that was in force then, and the
    /// newest, which knows of later revocations.
    pub fn endorsements(&self, evidence: &[u8], at: Timestamp) -> Endorsements {
        match Evidence::parse(evidence) {
            Ok(Evidence::Snp(report)) => {
                let Some(id) = wanted(report) else {
                    return Endorsements::default();
                };
                let amd = self.issued(&id, at);
                Endorsements { amd, intel: None }
            }
            Ok(Evidence::Quote(quote)) => {
                let intel = quote.platform().and_then(|(fmspc, _)| {
                    let bytes = self.read(&collateral_path(quote.tee(), &hex::encode(&fmspc)))?;
                    collateral_in_force(&bytes, at).then_some(bytes)
                });
                Endorsements {
                    amd: AmdEndorsements::default(),
                    intel,
                }
            }
            Err(_) => Endorsements::default(),
        }
    }

    /// A certificate, its issuers, and the revocation lists of its line, as far as the store has them.
    fn issued(&self, id: &EndorsementId, at: Timestamp) -> AmdEndorsements {
        let certificate = |id: &EndorsementId| self.read(&certificate_path(id)?);
        let line = id.line().to_owned();
        let ask = match id {
            EndorsementId::Vlek { .. } => EndorsementId::Asvk { line: line.clone() },
            _ => EndorsementId::Ask { line: line.clone() },
        };
        AmdEndorsements {
            vek: certificate(id),
            ask: certificate(&ask),
            crls: self.lists(&line, at),
            ark: certificate(&EndorsementId::Ark { line }),
        }
    }

    /// The certificates of a chip by its CHIP_ID and reported TCB version, as reports have them, with the revocation
    /// lists to judge by at the time `at`. `None` unless the store has the key's certificate and its issuers. The two
    /// values do not distinguish a chip's own key (VCEK) from a cloud provider's (VLEK): if the store has both, it
    /// returns the former.
    pub fn of_chip(
        &self,
        chip_id: &[u8; 64],
        tcb: TcbVersion,
        at: Timestamp,
    ) -> Option<AmdEndorsements> {
        let all = candidates(chip_id, tcb).into_iter();
        let found = all.map(|id| self.issued(&id, at));
        found
            .into_iter()
            .find(|found| found.vek.is_some() && found.ask.is_some() && found.ark.is_some())
    }

    /// The keys whose certificates and issuers the store has, in the order of their files. Files that are not the
    /// vendor's are skipped.
    pub fn keys(&self) -> Vec<EndorsementId> {
        let service = self.root.join("kdsintf.amd.com");
        let folders = ROOTS.iter().flat_map(|(line, _)| {
            let of_chips = entries(&service.join("vcek/v1").join(line));
            of_chips
                .into_iter()
                .chain([service.join("vlek/v1").join(line).join("cert")])
        });
        let files = folders.flat_map(|folder| entries(&folder));
        let ids = files.filter_map(|file| identify(&file::read(&file).ok()?));
        ids.filter(|id| {
            matches!(id, EndorsementId::Vcek { .. } | EndorsementId::Vlek { .. }) && self.has(id)
        })
        .collect()
    }

    /// True if a revocation list of this product line is in force at the time `at`, and the newest of its authority.
    pub fn has_lists(&self, line: &str, at: Timestamp) -> bool {
        let lists = self.identified_lists(line, at);
        lists.iter().any(|(id, _)| id.is_in_force(at))
    }

    /// The given certificates and lists, completed from the store: certificates for this evidence, and the revocation
    /// lists of the product line that evidence or given certificates name.
    pub fn complete(
        &self,
        given: AmdEndorsements,
        evidence: &[u8],
        at: Timestamp,
    ) -> AmdEndorsements {
        let stored = self.endorsements(evidence, at).amd;
        let certificates = [&given.ark, &given.ask, &given.vek];
        let named = certificates
            .into_iter()
            .flatten()
            .find_map(|bytes| identify(bytes));
        // A report of version 2 names no product, so the store has nothing for it by itself.
        let lists = named.map_or(stored.crls, |id| self.lists(id.line(), at));
        let mut crls = given.crls;
        let given_lists: Vec<ListId> = crls
            .iter()
            .filter_map(|given| identify_list(&given.bytes))
            .collect();
        for list in lists {
            let is_given = crls.iter().any(|given| given.bytes == list.bytes);
            let id = identify_list(&list.bytes);
            if !is_given && !id.is_some_and(|id| id.is_superseded_by(&given_lists, at)) {
                crls.push(list);
            }
        }
        AmdEndorsements {
            vek: given.vek.or(stored.vek),
            ask: given.ask.or(stored.ask),
            ark: given.ark.or(stored.ark),
            crls,
        }
    }

    /// The signed revocation lists of a product line that apply at a time: see [`lists_for_judging`].
    pub(crate) fn lists(&self, line: &str, at: Timestamp) -> Vec<RevocationList> {
        let lists = self.identified_lists(line, at).into_iter();
        lists.map(|(_, list)| list).collect()
    }

    fn identified_lists(&self, line: &str, at: Timestamp) -> Vec<(ListId, RevocationList)> {
        let files = self.list_files(line).into_iter();
        let lists = files.filter_map(|path| {
            let (id, bytes) = self.list(&path)?;
            let file = Some(path.display().to_string());
            Some((id, RevocationList { bytes, file }))
        });
        lists_for_judging(lists, at)
    }

    /// The list in a file, if it is the vendor's.
    fn list(&self, path: &Path) -> Option<(ListId, Vec<u8>)> {
        let bytes = file::read(path).ok()?;
        let id = identify_list(&bytes)?;
        vouch::list(&bytes, &self.issuers(), &self.signatures).ok()?;
        Some((id, bytes))
    }

    fn list_files(&self, line: &str) -> Vec<PathBuf> {
        let folder = known(line).map(|line| self.root.join(lists_path(line)));
        folder.map_or_else(Vec::new, |folder| entries(&folder))
    }

    /// True if a list of the product line is in force and was written less than a day before this time.
    pub(crate) fn has_recent_list(&self, line: &str, at: Timestamp) -> bool {
        self.has_lists(line, at) && self.list_files(line).iter().any(|path| is_recent(path, at))
    }

    /// True if collateral that [`Self::endorsements`] serves was written less than a day before this time.
    pub(crate) fn has_recent_collateral(
        &self,
        tee: EvidenceKind,
        fmspc: &str,
        at: Timestamp,
    ) -> bool {
        is_recent(&self.root.join(collateral_path(tee, fmspc)), at)
    }

    /// Finds certificates in the store.
    fn issuers(&self) -> impl Fn(&EndorsementId) -> Option<Vec<u8>> {
        |id| self.read(&certificate_path(id)?)
    }

    /// Puts a document, or all of a PEM file, where they belong and says where that is.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for the first that is of no kind that the store keeps or not the vendor's, by a pinned root
    /// and issuers that are here or in the store; [`StoreError::Io`] when a file cannot be written.
    pub fn import(&self, bytes: &[u8], origin: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let mut refused = Vec::new();
        let documents = documents(bytes, origin, false, &mut refused);
        let mut imported = self.keep(documents)?;
        imported.refused.extend(refused);
        match imported.refused.into_iter().next() {
            None => Ok(imported.written),
            Some((origin, why)) => Err(StoreError::Refused { origin, why }),
        }
    }

    /// Imports files, and every file of folders. Each document is checked before it replaces another: certificates and
    /// lists by their issuers, which may be among the files, up to the vendors' pinned roots.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a file cannot be read or written.
    pub fn import_paths(&self, paths: &[PathBuf]) -> Result<Imported, StoreError> {
        let mut refused = Vec::new();
        let mut all = Vec::new();
        for path in paths {
            let io = |source| StoreError::Io {
                path: path.clone(),
                source,
            };
            let of_folder = path.is_dir();
            let mut files = vec![path.clone()];
            if of_folder {
                let entries = fs::read_dir(path).map_err(io)?;
                files = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
                files.retain(|file| file.is_file());
                files.sort();
            }
            for path in files {
                let bytes = file::read(&path).map_err(|source| StoreError::Io {
                    path: path.clone(),
                    source,
                })?;
                all.extend(documents(&bytes, &path, of_folder, &mut refused));
            }
        }
        let mut imported = self.keep(all)?;
        imported.refused.extend(refused);
        Ok(imported)
    }

    /// Writes each document that is the vendor's. Issuers come first, so that they exist for what they issued.
    fn keep(&self, documents: Vec<Document>) -> Result<Imported, StoreError> {
        let mut imported = Imported::default();
        let mut placed = Vec::new();
        for document in documents {
            if let Some((path, kind, rank)) = place(&document.bytes) {
                placed.push((rank, path, kind, document));
                continue;
            }
            let why = unknown(&document.bytes);
            if !(document.found && why == Refusal::Unknown) {
                imported.refused.push((document.origin, why));
            }
        }
        placed.sort_by_key(|(rank, ..)| *rank);
        for (_, path, kind, document) in placed {
            let bytes = &document.bytes;
            let vouched = match kind {
                Kind::Certificate => {
                    vouch::certificate(bytes, &self.issuers(), &self.signatures).map(|_| ())
                }
                Kind::List => {
                    let vouched = vouch::list(bytes, &self.issuers(), &self.signatures);
                    let there = self.list(&self.root.join(&path)).map(|(id, _)| id);
                    if vouched.is_ok() && is_older(bytes, there.as_ref()) {
                        imported.refused.push((document.origin, Refusal::Older));
                        continue;
                    }
                    vouched
                }
                Kind::Collateral => vouch::collateral(bytes),
            };
            match vouched {
                Ok(()) => {
                    self.write(&path, bytes)?;
                    imported.written.push(path);
                }
                Err(error) => imported.refused.push((document.origin, error.into())),
            }
        }
        Ok(imported)
    }

    /// Writes a file whole or not at all.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(path);
        let written = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            file::replace(&path, bytes)
        };
        written().map_err(|source| StoreError::Io {
            path: path.clone(),
            source,
        })
    }
}

/// The newest lists of one authority, by their relation to the time that is judged.
#[derive(Default)]
struct OfAuthority {
    /// Made by then, and in force.
    current: Option<(ListId, RevocationList)>,
    /// Made by then, and expired.
    over: Option<(ListId, RevocationList)>,
    /// Made later.
    later: Option<(ListId, RevocationList)>,
}

impl OfAuthority {
    fn note(&mut self, id: ListId, list: RevocationList, at: Timestamp) {
        let newest = if at < id.this_update {
            &mut self.later
        } else if id.is_in_force(at) {
            &mut self.current
        } else {
            &mut self.over
        };
        if newest.as_ref().is_none_or(|(of, _)| id.is_newer_than(of)) {
            *newest = Some((id, list));
        }
    }

    fn into_lists(self) -> impl Iterator<Item = (ListId, RevocationList)> {
        // A higher number does not give a list precedence over one that was made later.
        let is_overtaken = match (&self.over, &self.current) {
            (Some((over, _)), Some((current, _))) => {
                over.is_newer_than(current) && current.this_update < over.this_update
            }
            (over, _) => over.is_some(),
        };
        let of_then = match (is_overtaken, &self.later) {
            (false, _) => self.current,
            (true, None) => self.over,
            (true, Some(_)) => None,
        };
        of_then.into_iter().chain(self.later)
    }
}

/// For each authority, the newest list that was issued by this time, and the newest of all if that was issued later: it
/// knows more, and a reader with a slow clock has to learn of it. The former may have expired although an older one has
/// not: the older one may lack keys that were revoked since, so the verdict has to say that a new list is needed. All
/// other lists would make every report fail, or are superseded.
fn lists_for_judging(
    lists: impl Iterator<Item = (ListId, RevocationList)>,
    at: Timestamp,
) -> Vec<(ListId, RevocationList)> {
    let mut authorities: BTreeMap<String, OfAuthority> = BTreeMap::new();
    for (id, list) in lists {
        let of = authorities.entry(id.issuer.clone()).or_default();
        of.note(id, list, at);
    }
    authorities
        .into_values()
        .flat_map(OfAuthority::into_lists)
        .collect()
}

/// True if a list was issued before the one that is there, so that it must not take its place.
fn is_older(list: &[u8], there: Option<&ListId>) -> bool {
    let given = identify_list(list);
    there
        .zip(given)
        .is_some_and(|(there, given)| there.is_newer_than(&given))
}

/// The entries of a folder in their order; none if there is no folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    paths.sort();
    paths
}

/// True if a file was written less than a day before this time.
fn is_recent(path: &Path, at: Timestamp) -> bool {
    const DAY: u32 = 86_400;
    let written = || fs::metadata(path).and_then(|metadata| metadata.modified());
    let since_1970 = written()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since_1970.is_some_and(|since| at.earlier(DAY) < Timestamp(since.as_secs()))
}

/// The documents in a file: those of a PEM file, or the one that it is.
fn documents(
    bytes: &[u8],
    origin: &Path,
    found: bool,
    refused: &mut Vec<(PathBuf, Refusal)>,
) -> Vec<Document> {
    let document = |bytes| Document {
        origin: origin.to_owned(),
        bytes,
        found,
    };
    // Collateral has PEM within.
    if !pem::is_pem(bytes) || place_of_collateral(bytes).is_some() {
        return vec![document(bytes.to_vec())];
    }
    match pem::documents(bytes) {
        Ok(documents) => documents.into_iter().map(|d| document(d.bytes)).collect(),
        Err(_) if found => Vec::new(),
        Err(error) => {
            refused.push((origin.to_owned(), error.into()));
            Vec::new()
        }
    }
}

/// Why a document has no place in the store.
fn unknown(bytes: &[u8]) -> Refusal {
    // The check of the issuer recognizes the certificate of a simulated platform.
    match vouch::certificate(bytes, &|_| None, &CheckedSignatures::default()) {
        Err(VouchError::Simulated) => VouchError::Simulated.into(),
        _ => Refusal::Unknown,
    }
}

/// The place of bytes in the store, their kind, and their distance from a root.
fn place(bytes: &[u8]) -> Option<(PathBuf, Kind, u8)> {
    if let Some(id) = identify(bytes) {
        let rank = match id {
            EndorsementId::Ark { .. } => 0,
            EndorsementId::Ask { .. } | EndorsementId::Asvk { .. } => 1,
            EndorsementId::Vcek { .. } | EndorsementId::Vlek { .. } => 2,
        };
        return Some((certificate_path(&id)?, Kind::Certificate, rank));
    }
    if let Some(list) = identify_list(bytes) {
        let (by, line) = match EndorsementId::authority(&list.issuer)? {
            EndorsementId::Ark { line } => ("ark", line),
            EndorsementId::Ask { line } => ("ask", line),
            _ => return None,
        };
        let next = list.next_update.map_or(0, |next| next.0);
        let path = lists_path(known(&line)?).join(format!("{by}-{next}.crl"));
        return Some((path, Kind::List, 2));
    }
    Some((place_of_collateral(bytes)?, Kind::Collateral, 2))
}

/// Where collateral belongs in the store; `None` for anything else.
fn place_of_collateral(bytes: &[u8]) -> Option<PathBuf> {
    let collateral: Value = serde_json::from_slice(bytes).ok()?;
    let info: Value = serde_json::from_str(collateral.get("tcb_info")?.as_str()?).ok()?;
    let tee = if info.get("id")?.as_str()? == "TDX" {
        EvidenceKind::Tdx
    } else {
        EvidenceKind::Sgx
    };
    let fmspc = info.get("fmspc")?.as_str()?;
    let sound = fmspc.len() == 12 && fmspc.bytes().all(|b| b.is_ascii_hexdigit());
    sound.then(|| collateral_path(tee, fmspc))
}

/// True if no part of the collateral has passed its next update.
fn collateral_in_force(bytes: &[u8], at: Timestamp) -> bool {
    let in_force = || {
        let collateral: Value = serde_json::from_slice(bytes).ok()?;
        for part in ["tcb_info", "qe_identity"] {
            let info: Value = serde_json::from_str(collateral.get(part)?.as_str()?).ok()?;
            // Both times are RFC 3339 in UTC without fractions, so their order is that of their texts.
            if info.get("nextUpdate")?.as_str()? < at.to_string().as_str() {
                return None;
            }
        }
        for list in ["root_ca_crl", "pck_crl"] {
            let list = identify_list(&hex::decode(collateral.get(list)?.as_str()?)?)?;
            list.next_update.filter(|next| at <= *next)?;
        }
        Some(())
    };
    in_force().is_some()
}

// We have only one list of each of the vendor's authorities: those here belong to our own hierarchy, which the store
// itself does not keep.
#[cfg(test)]
mod tests {
    use super::*;
    use enarx_snp::product::MILAN;
    use enarx_snp_authority::{Authority, AuthorityKeys, CrlSpec, Extension, Hierarchy, Validity};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    const NOW: u64 = 1_790_000_000;
    const DAY: u64 = 86_400;

    /// Lists with a number, valid from this many days before now to this many after.
    fn lists(specs: &[(Authority, u8, u64, u64)]) -> Vec<Vec<u8>> {
        let mut rng = StdRng::seed_from_u64(3);
        let validity = Validity {
            from: NOW - 900 * DAY,
            to: NOW + 900 * DAY,
        };
        let keys = AuthorityKeys::generate(&mut rng).unwrap();
        let hierarchy = Hierarchy::new(&MILAN, keys, validity, &mut rng).unwrap();
        let mut list = |&(issuer, number, from, to): &(Authority, u8, u64, u64)| {
            let spec = CrlSpec {
                issuer,
                signer: issuer,
                this_update: NOW - from * DAY,
                next_update: Some(NOW + to * DAY),
                revoked: Vec::new(),
                extensions: vec![Extension {
                    id: "2.5.29.20".parse().unwrap(),
                    critical: false,
                    value: vec![2, 1, number],
                }],
                entry_extensions: Vec::new(),
            };
            hierarchy.crl(&spec, &mut rng).unwrap()
        };
        specs.iter().map(&mut list).collect()
    }

    #[test]
    fn only_the_newest_list_of_each_authority_is_returned() {
        let all = lists(&[
            (Authority::Ark, 3, 40, 300),
            // In force for a shorter time than the older one.
            (Authority::Ark, 4, 2, 10),
            (Authority::Ark, 2, 90, 5),
            (Authority::Ask, 1, 30, 30),
            (Authority::Ark, 9, 500, 0),
        ]);
        let [old, new, oldest, other, _] = all.as_slice() else {
            panic!("five lists");
        };
        let id = |list: &[u8]| identify_list(list).unwrap();
        let given_out = |order: &[usize], at| {
            let found = order.iter().map(|&index| {
                let bytes = all[index].clone();
                (id(&bytes), RevocationList::from(bytes))
            });
            let mut lists: Vec<_> = lists_for_judging(found, Timestamp(at))
                .into_iter()
                .map(|(_, list)| list.bytes)
                .collect();
            lists.sort_by_key(|list| id(list).issuer);
            lists
        };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 1, 0, 3]] {
            assert_eq!(
                given_out(&order, NOW),
                [new.clone(), other.clone()],
                "{order:?}"
            );
        }
        // The newest may have revoked more than the one before it: when it has expired, the older one does not count
        // again.
        for days in [11, 301] {
            for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                assert_eq!(given_out(&order, NOW + days * DAY), vec![new.clone()]);
            }
        }
        // For a time of the past, the list of that time and the newest, which knows more; none between them.
        let of_then = |order: &[usize], days: u64| {
            let mut lists = given_out(order, NOW - days * DAY);
            lists.sort_by_key(|list| id(list).this_update);
            lists
        };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            assert_eq!(of_then(&order, 41), [oldest.clone(), new.clone()]);
            assert_eq!(of_then(&order, 3), [old.clone(), new.clone()]);
            assert_eq!(of_then(&order, 91), vec![new.clone()]);
        }
        // The list with the highest number does not count once it has expired.
        assert_eq!(given_out(&[4, 1], NOW + 1), vec![new.clone()]);

        // Of a host's and the store's, the newer one counts; one that is in force always does.
        let over = Timestamp(NOW + 11 * DAY);
        assert!(id(oldest).is_superseded_by(&[id(new)], over));
        assert!(!id(new).is_superseded_by(&[id(old)], over), "an older one");
        assert!(!id(old).is_superseded_by(&[id(new)], over), "in force");
        assert!(
            !id(oldest).is_superseded_by(&[id(other)], over),
            "another authority's"
        );

        assert!(is_older(old, Some(&id(new))) && is_older(oldest, Some(&id(old))));
        assert!(!is_older(new, Some(&id(old))));
        // The same list again, and the first list of all.
        assert!(!is_older(new, Some(&id(new))) && !is_older(old, None));
    }
}
