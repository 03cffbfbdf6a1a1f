// SPDX-License-Identifier: Apache-2.0

//! The state folder: the host's key, the manager's certificate, tokens, and what a running manager keeps. Nobody but its
//! owner may read it.

use crate::certificate::{self, Certificate};
use crate::tokens::{self, Token};
use crate::{StateError, files};
use enarx_contract::canonical::{Hex, Name};
use enarx_tls::Key;
use rustix::process::geteuid;
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Permissions of folders: the owner's alone.
const FOLDER_MODE: u32 = 0o700;

/// Largest file with a key or a certificate, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Longest path of a Unix socket in bytes, without its final zero (unix(7)).
const SOCKET_PATH: usize = 107;

/// Length in bytes of the part after the folder in a socket's path: `/keeps/`, 32 digits, `.sock`.
const SOCKET_NAME: usize = 7 + 32 + 5;

/// The state folder of a manager. It may be used beside a running manager.
pub struct State {
    folder: PathBuf,
    key: Key,
    tls: Key,
    certificate: Vec<u8>,
}

impl State {
    /// Opens the state folder at `path`; it is made, with keys and a certificate, if it is not there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let folder = folder(path)?;
        let _lock = lock(&folder)?;
        let key = key(&folder.join("host.key"))?;
        let tls = self::key(&folder.join("tls.key"))?;
        let file = folder.join("tls.crt");
        let certificate = if let Some(der) = files::read(&file, MAX_FILE)? {
            der.to_vec()
        } else {
            let der = certificate::self_signed(&tls)?;
            files::replace(&file, &der)?;
            der
        };
        Ok(Self {
            folder,
            key,
            tls,
            certificate,
        })
    }

    /// The host's key, with which it signs contracts.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The manager's own certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the manager's own certificate, which clients pin.
    #[must_use]
    pub fn fingerprint(&self) -> Hex<32> {
        use sha2::{Digest, Sha256};
        Hex(Sha256::digest(&self.certificate).into())
    }

    /// Makes a token. Its text is kept nowhere: only its SHA-256 is. A running manager admits it at once.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::TokenExists`] when the name is taken.
    pub fn add_token(&self, name: &str) -> Result<Zeroizing<String>, StateError> {
        let name = Name::new(name).ok_or_else(|| StateError::Name(name.to_string()))?;
        let _lock = lock(&self.folder)?;
        let mut tokens = self.tokens()?;
        if tokens.iter().any(|token| token.name == name) {
            return Err(StateError::TokenExists(name.as_str().to_string()));
        }
        let text = tokens::generate()?;
        tokens.push(Token {
            name,
            digest: tokens::digest(&text),
            created: crate::clock::now(),
        });
        tokens::write(&self.tokens_file(), tokens)?;
        Ok(text)
    }

    /// The tokens that are admitted.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn tokens(&self) -> Result<Vec<Token>, StateError> {
        tokens::read(&self.tokens_file())
    }

    /// Revokes the token of this name: a running manager refuses it from the next request on, and cuts its sessions
    /// within seconds. Its Keeps go on to their end.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::NoToken`].
    pub fn revoke_token(&self, name: &str) -> Result<(), StateError> {
        let _lock = lock(&self.folder)?;
        let mut tokens = self.tokens()?;
        let before = tokens.len();
        tokens.retain(|token| token.name.as_str() != name);
        if tokens.len() == before {
            let name = enarx_contract::canonical::printable(name, 64);
            return Err(StateError::NoToken(name));
        }
        tokens::write(&self.tokens_file(), tokens)
    }

    pub(crate) fn own_certificate(&self) -> Result<Certificate, StateError> {
        let file = self.folder.join("tls.crt");
        Certificate::own(self.certificate.clone(), &self.tls, file)
    }

    pub(crate) fn tokens_file(&self) -> PathBuf {
        self.folder.join("tokens.json")
    }

    pub(crate) fn store_file(&self) -> PathBuf {
        self.folder.join("keeps.redb")
    }

    /// The lock that a manager holds as long as it runs.
    pub(crate) fn manager_lock(&self) -> PathBuf {
        self.folder.join("manager.lock")
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the doors of Keeps, without the doors that a killed manager left.
    pub(crate) fn clean_doors(&self) -> Result<PathBuf, StateError> {
        let doors = self.folder.join("keeps");
        make_folder(&doors)?;
        check_own(&doors)?;
        let clean = || {
            for entry in std::fs::read_dir(&doors)? {
                let path = entry?.path();
                if path
                    .extension()
                    .is_some_and(|extension| extension == "sock")
                {
                    std::fs::remove_file(path)?;
                }
            }
            Ok(())
        };
        clean().map_err(|error| files::error(&doors, error))?;
        Ok(doors)
    }
}

/// The folder at `path` by its absolute path, checked.
fn folder(path: &Path) -> Result<PathBuf, StateError> {
    make_folder(path)?;
    let folder = path
        .canonicalize()
        .map_err(|error| files::error(path, error))?;
    check_own(&folder)?;
    let limit = SOCKET_PATH - SOCKET_NAME;
    if folder.as_os_str().as_bytes().len() > limit {
        return Err(StateError::PathTooLong {
            path: folder,
            limit,
        });
    }
    Ok(folder)
}

/// Refuses a folder that belongs to another user, or that others can enter: whoever can write there chooses the
/// host's keys.
fn check_own(folder: &Path) -> Result<(), StateError> {
    let metadata =
        std::fs::symlink_metadata(folder).map_err(|error| files::error(folder, error))?;
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
        return Err(StateError::Owner {
            path: folder.to_owned(),
        });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StateError::Mode {
            path: folder.to_owned(),
            mode,
        });
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), StateError> {
    DirBuilder::new()
        .recursive(true)
        .mode(FOLDER_MODE)
        .create(path)
        .map_err(|error| match error.kind() {
            // A file, or a path through one.
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => StateError::Owner {
                path: path.to_owned(),
            },
            _ => files::error(path, error),
        })
}

/// Waits for the lock under which files of the folder change. It is held for moments only.
fn lock(folder: &Path) -> Result<File, StateError> {
    let path = folder.join("state.lock");
    let file = files::open(&path)?;
    file.lock().map_err(|error| files::error(&path, error))?;
    Ok(file)
}

/// The key in this file, a new one if there is no file.
fn key(path: &Path) -> Result<Key, StateError> {
    if let Some(der) = files::read(path, MAX_FILE)? {
        return Key::from_pkcs8(&der).map_err(|error| match error {
            enarx_tls::TlsError::Key => StateError::Damaged {
                path: path.to_owned(),
            },
            other => other.into(),
        });
    }
    let key = Key::generate()?;
    files::replace(path, &key.to_pkcs8()?)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_others_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let state = State::open(&path).unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let precious = elsewhere.join("precious.sock");
        std::fs::write(&precious, "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, path.join("keeps")).unwrap();
        let refused = state.clean_doors().unwrap_err();
        assert_eq!(refused.code(), "state.owner");
        assert!(precious.exists());
        let key = folder.path().join("key");
        std::fs::rename(path.join("host.key"), &key).unwrap();
        std::os::unix::fs::symlink(&key, path.join("host.key")).unwrap();
        let refused = State::open(&path).err().map(|error| error.code());
        assert_eq!(refused, Some("state.file"));
    }

    fn open(folder: &Path) -> State {
        State::open(folder).unwrap()
    }

    #[test]
    fn keys_and_certificate_are_made_once_and_belong_to_their_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = open(&path);
        let again = open(&path);
        assert_eq!(first.key().public(), again.key().public());
        assert_ne!(first.key().public(), first.tls.public());
        assert_eq!(first.fingerprint(), again.fingerprint());
        let mut files = 0;
        for entry in std::fs::read_dir(&path).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, files::MODE);
            files += 1;
        }
        assert_eq!(files, 4);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, FOLDER_MODE);
    }

    #[test]
    fn folders_that_cannot_be_trusted_or_used_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let code = |path: &Path| State::open(path).err().map(|error| error.code());
        let open_to_all = folder.path().join("open");
        DirBuilder::new().mode(0o755).create(&open_to_all).unwrap();
        assert_eq!(code(&open_to_all), Some("state.mode"));
        assert_eq!(
            code(&folder.path().join("a".repeat(100))),
            Some("state.path")
        );
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(code(&file), Some("state.owner"));
        assert_eq!(code(&file.join("below")), Some("state.owner"));
        let damaged = folder.path().join("damaged");
        open(&damaged);
        std::fs::write(damaged.join("host.key"), "junk").unwrap();
        assert_eq!(code(&damaged), Some("state.damaged"));
    }

    #[test]
    fn tokens_are_added_listed_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let state = open(&folder.path().join("state"));
        let admitted = tokens::Tokens::new(state.tokens_file());
        let text = state.add_token("anna").unwrap();
        assert_eq!(text.len(), 6 + 64);
        let found = admitted.find(&text).map(|(_, name)| name);
        assert_eq!(found.as_ref().map(Name::as_str), Some("anna"));
        assert_eq!(admitted.find("enarx_0"), None);
        assert_eq!(admitted.find(""), None);
        let code = |result: Result<(), StateError>| result.err().map(|error| error.code());
        assert_eq!(
            code(state.add_token("anna").map(drop)),
            Some("token.exists")
        );
        assert_eq!(code(state.add_token("An na").map(drop)), Some("state.name"));
        let listed = state.tokens().unwrap();
        assert_eq!(listed.len(), 1);
        let kept = std::fs::read_to_string(state.tokens_file()).unwrap();
        assert!(!kept.contains(text.as_str()));
        assert_eq!(code(state.revoke_token("berta")), Some("token.unknown"));
        state.revoke_token("anna").unwrap();
        assert_eq!(admitted.find(&text), None);
        std::fs::write(state.tokens_file(), "junk").unwrap();
        assert_eq!(code(state.tokens().map(drop)), Some("state.damaged"));
        assert_eq!(admitted.find(&text), None);
    }
}
