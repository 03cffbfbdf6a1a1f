// SPDX-License-Identifier: Apache-2.0

//! Certificates and keys for the TLS of a Keep: read from PEM here, used and checked only in the Keep. On this machine
//! the user is the host, so the issuers of `--tls-roots`, and even more those of the machine, are the host's. In a
//! deployment they are the tenant's, and the machine's are not used.

use std::path::Path;

use enarx_configuration::sockets::ServerTls;
use enarx_configuration::{Certificate, Identity, PrivateKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::{Zeroize, Zeroizing};

use crate::failure::Failure;
use crate::input;

/// Most bytes of issuers, DER: they cross the border in one configuration. The 150 or so of an ordinary machine have 200 KiB.
const MAX_ISSUERS: usize = 2 << 20;

/// Reads the identity of a server: a chain of certificates, its own first, and its private key.
///
/// # Errors
/// [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`] for files without what they should have.
pub fn identity(chain: &Path, key: &Path) -> Result<Identity, Failure> {
    let pem = Zeroizing::new(input::read(key)?);
    let mut der = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        Failure::data(format!(
            "{} has no unencrypted private key in PEM: give one without a passphrase",
            key.display()
        ))
    })?;
    let private = PrivateKey(Zeroizing::new(der.secret_der().to_vec()));
    der.zeroize();
    Ok(Identity {
        chain: certificates(chain)?,
        key: private,
    })
}

/// The TLS of a server: `own` from its Enarx.toml, with another identity if one is given.
pub fn with_identity(own: Option<ServerTls>, identity: Option<Identity>) -> Option<ServerTls> {
    match identity {
        None => own,
        Some(identity) => Some(ServerTls {
            identity,
            clients: own.and_then(|own| own.clients),
        }),
    }
}

/// The issuers of a file.
///
/// # Errors
/// [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`] for a file without certificates, or with too many.
pub fn issuers(file: &Path) -> Result<Vec<Certificate>, Failure> {
    within_bounds(certificates(file)?)
}

/// The issuers that this machine accepts, which takes a few milliseconds. One that cannot be read is skipped: its
/// certificates are refused.
///
/// # Errors
/// [`crate::failure::Exit::Data`] for too many.
pub fn issuers_of_machine() -> Result<Vec<Certificate>, Failure> {
    let found = rustls_native_certs::load_native_certs().certs;
    let found = found.into_iter().map(|it| Certificate(it.to_vec()));
    within_bounds(found.collect())
}

fn within_bounds(issuers: Vec<Certificate>) -> Result<Vec<Certificate>, Failure> {
    let total = issuers.iter().map(|issuer| issuer.0.len());
    let total = total.fold(0, usize::saturating_add);
    if total > MAX_ISSUERS {
        return Err(Failure::data(format!(
            "the issuers of certificates have {total} bytes, more than {MAX_ISSUERS}: name fewer in a file for --tls-roots"
        )));
    }
    Ok(issuers)
}

/// The certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<Certificate>, Failure> {
    let pem = input::read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem)
        .map(|found| found.map(|it| Certificate(it.to_vec())))
        .collect();
    let wrong = |why: String| Failure::data(format!("{}: {why}", path.display()));
    match found {
        Ok(found) if found.is_empty() => Err(wrong("it has no certificate in PEM".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(format!("not all of it is PEM: {error}"))),
    }
}
