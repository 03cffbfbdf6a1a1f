// SPDX-License-Identifier: Apache-2.0

//! The certificates of a chip in a folder, under the names that tools for SEV-SNP give them. Nothing is checked
//! here: the verdict judges them.

use std::fs;
use std::io;
use std::path::Path;

use enarx_attestation::snp::{EndorsementId, MAX_LISTS};
use enarx_attestation::{AmdEndorsements, RevocationList, pem, snp};
use enarx_collateral::file;

use crate::failure::Failure;
use crate::input;

/// Names of the certificates in a folder, ours first, then those of `snpguest` and of the key distribution service.
const VEK_NAMES: [&str; 6] = [
    "vek.der", "vek.pem", "vcek.der", "vcek.pem", "vlek.der", "vlek.pem",
];
const ASK_NAMES: [&str; 4] = ["ask.der", "ask.pem", "asvk.der", "asvk.pem"];
const ARK_NAMES: [&str; 2] = ["ark.der", "ark.pem"];
const CHAIN_NAMES: [&str; 2] = ["cert_chain", "cert_chain.pem"];

/// Reads a folder of certificates; the verdict says what is missing there.
///
/// # Errors
/// [`crate::failure::Exit::Input`] for what cannot be read, [`crate::failure::Exit::Data`] for too many lists or a chain
/// of another form.
pub fn certificates(folder: &Path) -> Result<AmdEndorsements, Failure> {
    let unreadable = |error| input::unreadable(folder, &error);
    let named = |name: &str| {
        let path = folder.join(name);
        match file::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(input::unreadable(&path, &error)),
        }
    };
    let mut lists = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("crl"))
        {
            lists.push(path);
        }
        if lists.len() > MAX_LISTS {
            let folder = folder.display();
            return Err(Failure::data(format!(
                "{folder} has more than {MAX_LISTS} revocation lists: leave those of the report's product line"
            )));
        }
    }
    lists.sort();
    let lists = lists.iter().map(|path| {
        Ok(RevocationList {
            bytes: input::read(path)?,
            file: Some(path.display().to_string()),
        })
    });
    let crls = lists.collect::<Result<_, Failure>>()?;
    let first = |names: &[&str]| {
        let mut found = names.iter().map(|name| named(name));
        found.find_map(Result::transpose).transpose()
    };
    let mut certificates = AmdEndorsements {
        vek: first(&VEK_NAMES)?,
        ask: first(&ASK_NAMES)?,
        ark: first(&ARK_NAMES)?,
        crls,
    };
    // Intermediate and root in one file, as the key distribution service gives them.
    if let Some(chain) = first(&CHAIN_NAMES)? {
        let documents = pem::documents(&chain).map_err(|error| {
            Failure::data(format!("the chain in {}: {error}", folder.display()))
        })?;
        for document in documents {
            let place = match snp::identify(&document.bytes) {
                Some(EndorsementId::Ark { .. }) => &mut certificates.ark,
                Some(EndorsementId::Ask { .. } | EndorsementId::Asvk { .. }) => {
                    &mut certificates.ask
                }
                _ => continue,
            };
            place.get_or_insert(document.bytes);
        }
    }
    Ok(certificates)
}
