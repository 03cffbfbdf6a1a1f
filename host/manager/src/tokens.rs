// SPDX-License-Identifier: Apache-2.0

//! Tokens, by which tenants are admitted. Their file contains digests, so reading it gives nobody a token. The
//! command that adds and revokes them and the manager that admits them are different processes: the manager checks
//! whether the file changed.

use crate::{StateError, files};
use enarx_contract::canonical::{Hex, Name};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// Most tokens of a manager.
const MAX_TOKENS: usize = 10_000;
/// Largest file of tokens, in bytes: each has less than 256.
const MAX_FILE: u64 = 256 * MAX_TOKENS as u64;
/// Version of the file.
const VERSION: u32 = 1;

/// SHA-256 of a token: the owner of Keeps.
pub(crate) type Owner = Hex<32>;

/// A token, as the state folder knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its name, for the host's owner.
    pub name: Name,
    /// SHA-256 of its text.
    pub digest: Hex<32>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    version: u32,
    tokens: Vec<Token>,
}

/// The tokens in this file; none when there is no file.
pub(crate) fn read(path: &Path) -> Result<Vec<Token>, StateError> {
    let Some(bytes) = files::read(path, MAX_FILE)? else {
        return Ok(Vec::new());
    };
    match serde_json::from_slice::<TokenFile>(&bytes) {
        Ok(file) if file.version == VERSION => Ok(file.tokens),
        _ => Err(StateError::Damaged {
            path: path.to_owned(),
        }),
    }
}

/// Writes the file. The caller holds the folder's lock.
pub(crate) fn write(path: &Path, tokens: Vec<Token>) -> Result<(), StateError> {
    if tokens.len() > MAX_TOKENS {
        return Err(StateError::TooManyTokens(MAX_TOKENS));
    }
    let file = TokenFile {
        version: VERSION,
        tokens,
    };
    let bytes =
        serde_json::to_vec(&file).map_err(|error| files::error(path, io::Error::other(error)))?;
    files::replace(path, &bytes)
}

/// A new token's text: 256 random bits.
pub(crate) fn generate() -> Result<Zeroizing<String>, StateError> {
    let mut bits = Zeroizing::new([0; 32]);
    getrandom::fill(bits.as_mut()).map_err(|_| enarx_tls::TlsError::Random)?;
    Ok(Zeroizing::new(format!("enarx_{}", Hex(*bits))))
}

/// SHA-256 of a token.
pub(crate) fn digest(text: &str) -> Owner {
    Hex(Sha256::digest(text.as_bytes()).into())
}

/// The properties that distinguish a changed file from an unchanged one. Files are replaced, so a new one is
/// another inode.
#[derive(PartialEq, Eq)]
struct Stamp(u64, i64, i64, u64);

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self(
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.size(),
        )
    }
}

#[derive(Default)]
struct Known {
    stamp: Option<Stamp>,
    names: HashMap<Owner, Name>,
}

/// The tokens that a running manager admits.
pub(crate) struct Tokens {
    path: PathBuf,
    known: Mutex<Known>,
    changed: watch::Sender<()>,
}

impl Tokens {
    /// The tokens in this file.
    pub(crate) fn new(path: PathBuf) -> Self {
        let tokens = Self {
            path,
            known: Mutex::default(),
            changed: watch::Sender::default(),
        };
        tokens.refresh();
        tokens
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again if it has changed. A file that cannot be read admits nobody.
    pub(crate) fn refresh(&self) {
        let stamp = std::fs::metadata(&self.path)
            .ok()
            .map(|metadata| Stamp::of(&metadata));
        let mut known = self.known();
        if known.stamp == stamp {
            return;
        }
        let tokens = read(&self.path).unwrap_or_else(|error| {
            tracing::error!(%error, "no token is admitted");
            Vec::new()
        });
        let names = tokens
            .into_iter()
            .map(|token| (token.digest, token.name))
            .collect();
        *known = Known { stamp, names };
        drop(known);
        self.changed.send_replace(());
    }

    /// The owner of this token and its name; `None` when it is not admitted.
    pub(crate) fn find(&self, text: &str) -> Option<(Owner, Name)> {
        self.refresh();
        let owner = digest(text);
        let name = self.known().names.get(&owner).cloned()?;
        Some((owner, name))
    }

    /// Waits until this token is not admitted any more.
    pub(crate) async fn revoked(&self, owner: &Owner) {
        let mut changed = self.changed.subscribe();
        while self.known().names.contains_key(owner) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
