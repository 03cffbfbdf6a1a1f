// SPDX-License-Identifier: Apache-2.0

//! `enarx deploy --hosts`: hosts in the order in which they are asked, each with its own token, which no other host
//! sees. The tenant's own file, which is trusted.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::Failure;
use crate::keys::{self, Keys};

/// The keys of a file.
const KEYS: Keys = Keys {
    known: &["host"],
    below: &[("host", &["to", "token-file"])],
};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    host: Vec<Host>,
}

/// A host, and the file with the token for it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Host {
    /// The line of its `enarx host serve`.
    pub to: String,
    /// The token's file.
    pub token_file: PathBuf,
}

/// Reads a list of hosts. Paths in it are relative to its folder.
///
/// # Errors
/// [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`], also for a list of none.
pub fn read(path: &Path) -> Result<Vec<Host>, Failure> {
    let File { mut host } = keys::read(path, KEYS)?;
    if host.is_empty() {
        return Err(Failure::data(format!(
            "{} does not name a host: write [[host]] with to and token-file",
            path.display()
        )));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    for host in &mut host {
        host.token_file = folder.join(&host.token_file);
    }
    Ok(host)
}
