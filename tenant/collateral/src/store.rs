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
use enarx_attestation::snp::{EndorsementId, ROOTS, identify, identify_list, wanted};
use enarx_attestation::{AmdEndorsements, Endorsements, Evidence, Tee, Timestamp, hex, pem};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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
    /// A file is nothing that the store keeps.
    #[error("{}: neither a certificate or revocation list of AMD nor collateral of Intel", .0.display())]
    Unknown(PathBuf),
}

/// The local store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
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

pub(crate) fn collateral_path(tee: Tee, fmspc: &str) -> PathBuf {
    let tee = if tee == Tee::Tdx { "tdx" } else { "sgx" };
    Path::new("api.trustedservices.intel.com")
        .join(tee)
        .join("certification/v4")
        .join(format!("{}.json", fmspc.to_lowercase()))
}

impl Store {
    /// The store under this folder, which is made when something is put into it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        file::read(&self.root.join(path)).ok()
    }

    pub(crate) fn has(&self, id: &EndorsementId) -> bool {
        certificate_path(id).is_some_and(|path| self.root.join(path).is_file())
    }

    /// Everything the store has for this evidence. Revocation lists and collateral past their next update at the time
    /// `at` are not served.
    pub fn endorsements(&self, evidence: &[u8], at: Timestamp) -> Endorsements {
        match Evidence::parse(evidence) {
            Ok(Evidence::Snp(report)) => {
                let Some(id) = wanted(report) else {
                    return Endorsements::default();
                };
                let certificate = |id: &EndorsementId| self.read(&certificate_path(id)?);
                let (line, ask) = match &id {
                    EndorsementId::Vlek { line, .. } => {
                        (line.clone(), EndorsementId::Asvk { line: line.clone() })
                    }
                    EndorsementId::Vcek { line, .. }
                    | EndorsementId::Ark { line }
                    | EndorsementId::Ask { line }
                    | EndorsementId::Asvk { line } => {
                        (line.clone(), EndorsementId::Ask { line: line.clone() })
                    }
                };
                let amd = AmdEndorsements {
                    vek: certificate(&id),
                    ask: certificate(&ask),
                    crls: self.lists(&line, at),
                    ark: certificate(&EndorsementId::Ark { line }),
                };
                Endorsements { amd, intel: None }
            }
            Ok(Evidence::Quote(quote)) => {
                let intel = quote.platform().and_then(|(fmspc, _)| {
                    let octets = self.read(&collateral_path(quote.tee(), &hex::encode(&fmspc)))?;
                    collateral_in_force(&octets, at).then_some(octets)
                });
                Endorsements {
                    amd: AmdEndorsements::default(),
                    intel,
                }
            }
            Err(_) => Endorsements::default(),
        }
    }

    /// The revocation lists of a product line that are in force.
    pub(crate) fn lists(&self, line: &str, at: Timestamp) -> Vec<Vec<u8>> {
        let folder = known(line).map(|line| self.root.join(lists_path(line)));
        let entries = folder.and_then(|folder| fs::read_dir(folder).ok());
        let mut paths: Vec<_> = entries
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok().map(|e| e.path()))
            .collect();
        paths.sort();
        paths
            .iter()
            .filter_map(|path| file::read(path).ok())
            .filter(|octets| {
                identify_list(octets).is_some_and(|(_, next)| next.is_some_and(|next| at <= next))
            })
            .collect()
    }

    /// Puts octets where they belong and says where that is.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] when they are nothing that the store keeps, [`StoreError::Io`] when a file cannot be
    /// written.
    pub fn import(&self, octets: &[u8], origin: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let unknown = || StoreError::Unknown(origin.to_owned());
        // Collateral has PEM within.
        let documents = if pem::is_pem(octets) && place_of_collateral(octets).is_none() {
            let documents = pem::documents(octets).map_err(|_| unknown())?;
            documents
                .into_iter()
                .map(|document| document.octets)
                .collect()
        } else {
            vec![octets.to_vec()]
        };
        let mut paths = Vec::new();
        for document in documents {
            let path = place(&document).ok_or_else(unknown)?;
            self.write(&path, &document)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// Imports a file, or every file that the store keeps in a folder.
    ///
    /// # Errors
    ///
    /// As [`Self::import`]; in a folder, files that are nothing that the store keeps are passed over.
    pub fn import_path(&self, path: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let io = |source| StoreError::Io {
            path: path.to_owned(),
            source,
        };
        if !path.is_dir() {
            return self.import(&file::read(path).map_err(io)?, path);
        }
        let mut entries: Vec<_> = fs::read_dir(path)
            .map_err(io)?
            .filter_map(|e| e.ok().map(|e| e.path()))
            .collect();
        entries.sort();
        let mut imported = Vec::new();
        for entry in entries.iter().filter(|e| e.is_file()) {
            match self.import_path(entry) {
                Ok(paths) => imported.extend(paths),
                Err(StoreError::Unknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(imported)
    }

    /// Writes a file whole or not at all.
    pub(crate) fn write(&self, path: &Path, octets: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(path);
        let written = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            file::replace(&path, octets)
        };
        written().map_err(|source| StoreError::Io {
            path: path.clone(),
            source,
        })
    }
}

/// Where octets belong in the store.
fn place(octets: &[u8]) -> Option<PathBuf> {
    if let Some(id) = identify(octets) {
        return certificate_path(&id);
    }
    if let Some((issuer, next)) = identify_list(octets) {
        let line = known(
            issuer
                .strip_prefix("ARK-")
                .or_else(|| issuer.strip_prefix("SEV-"))?,
        )?;
        let by = if issuer.starts_with("ARK-") {
            "ark"
        } else {
            "ask"
        };
        let next = next.map_or(0, |next| next.0);
        return Some(lists_path(line).join(format!("{by}-{next}.crl")));
    }
    place_of_collateral(octets)
}

/// Where collateral belongs in the store; `None` for anything else.
fn place_of_collateral(octets: &[u8]) -> Option<PathBuf> {
    let collateral: Value = serde_json::from_slice(octets).ok()?;
    let info: Value = serde_json::from_str(collateral.get("tcb_info")?.as_str()?).ok()?;
    let tee = if info.get("id")?.as_str()? == "TDX" {
        Tee::Tdx
    } else {
        Tee::Sgx
    };
    let fmspc = info.get("fmspc")?.as_str()?;
    let sound = fmspc.len() == 12 && fmspc.bytes().all(|b| b.is_ascii_hexdigit());
    sound.then(|| collateral_path(tee, fmspc))
}

/// Whether no part of the collateral has passed its next update.
fn collateral_in_force(octets: &[u8], at: Timestamp) -> bool {
    let in_force = || {
        let collateral: Value = serde_json::from_slice(octets).ok()?;
        for part in ["tcb_info", "qe_identity"] {
            let info: Value = serde_json::from_str(collateral.get(part)?.as_str()?).ok()?;
            // Both times are RFC 3339 in UTC without fractions, so their order is that of their texts.
            if info.get("nextUpdate")?.as_str()? < at.to_string().as_str() {
                return None;
            }
        }
        for list in ["root_ca_crl", "pck_crl"] {
            let (_, next) = identify_list(&octets_of(collateral.get(list)?.as_str()?)?)?;
            next.filter(|next| at <= *next)?;
        }
        Some(())
    };
    in_force().is_some()
}

fn octets_of(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let text = std::str::from_utf8(pair)
                .ok()
                .filter(|text| text.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        })
        .collect()
}
