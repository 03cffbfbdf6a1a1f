// SPDX-License-Identifier: Apache-2.0

//! Why a manager cannot start, or its state cannot be used. These errors are for the host's owner; tenants get refusals.

use crate::CgroupError;
use enarx_tls::TlsError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or folder cannot be read or written.
    #[error("{} cannot be used: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The folder is another user's, or none.
    #[error("{} is not a folder of this user: name one that is", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
    },
    /// Others can read the folder.
    #[error("{} is open to others (mode {mode:03o}): run chmod 700 on it", path.display())]
    Mode {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Sockets in the folder have no names: paths of sockets are short.
    #[error(
        "the path {} is too long for sockets in it: use a folder whose path has at most {limit} bytes",
        path.display()
    )]
    PathTooLong {
        /// The folder.
        path: PathBuf,
        /// Longest path in bytes.
        limit: usize,
    },
    /// A file has contents that the manager did not write.
    #[error("{} is damaged: restore it, or remove it and accept the loss of its contents", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// No valid name.
    #[error("{0:?} is not a name: use 1 to 64 of a-z, 0-9, '.', '-', '_', '+'")]
    Name(String),
    /// There is a token of this name.
    #[error("token {0} exists already: revoke it first, or use another name")]
    TokenExists(String),
    /// There is no token of this name.
    #[error("there is no token {0}: `enarx host token list` shows the existing ones")]
    NoToken(String),
    /// Too many tokens.
    #[error("there are {0} tokens already, and no more are allowed: revoke some")]
    TooManyTokens(usize),
    /// A key cannot be made or used.
    #[error(transparent)]
    Key(#[from] TlsError),
    /// The certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    Certificate(String),
}

impl StateError {
    /// The name of the error, stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } => "state.file",
            Self::Owner { .. } => "state.owner",
            Self::Mode { .. } => "state.mode",
            Self::PathTooLong { .. } => "state.path",
            Self::Damaged { .. } => "state.damaged",
            Self::Name(_) => "state.name",
            Self::TokenExists(_) => "token.exists",
            Self::NoToken(_) => "token.unknown",
            Self::TooManyTokens(_) => "token.limit",
            Self::Key(error) => error.code(),
            Self::Certificate(_) => "certificate",
        }
    }
}

/// Why a manager cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// Another manager uses the state folder.
    #[error("another manager uses {}: end it, or use another state folder", .0.display())]
    Locked(PathBuf),
    /// The record of Keeps.
    #[error(
        "the record of Keeps, {}, cannot be used: {error}: make room on its disk, or put back a copy of it; without \
        it, contracts that have had their Keep could get another",
        path.display()
    )]
    Store {
        /// The file.
        path: PathBuf,
        /// The database's error.
        error: Box<redb::Error>,
    },
    /// The address.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// The given certificate or its key.
    #[error("the certificate {} cannot be used: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A setting that makes no sense.
    #[error("`{setting}` must be {range}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// The allowed values.
        range: &'static str,
    },
    /// The cgroups of Keeps.
    #[error("the cgroups of Keeps: {0}")]
    Cgroups(#[from] CgroupError),
    /// A thread or a clock of the system.
    #[error("the manager cannot run: {0}{remedy}", remedy = enarx_confine::process::remedy(.0))]
    System(io::Error),
    /// A Keep process that does not end although it was killed.
    #[error(
        "{0} Keep processes were killed and have not ended yet: look for them with ps before the next manager starts"
    )]
    Left(usize),
}

impl ManagerError {
    /// The name of the error, stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::State(error) => error.code(),
            Self::Locked(_) => "manager.locked",
            Self::Store { .. } => "manager.store",
            Self::Listen { .. } => "manager.listen",
            Self::Certificate { .. } => "manager.certificate",
            Self::Setting { .. } => "manager.setting",
            Self::Cgroups(_) => "manager.cgroups",
            Self::System(_) => "manager.system",
            Self::Left(_) => "manager.left",
        }
    }
}
