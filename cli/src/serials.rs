// SPDX-License-Identifier: Apache-2.0

//! The highest serial number of each publisher's manifests that was accepted here, so that an old manifest, in which a
//! withdrawn release is still current, cannot take the place of the newest. If nothing can be remembered, that is said
//! and not refused: a computer without a home for its user has `--min-serial`.

use std::path::PathBuf;

use enarx_collateral::file;

use crate::output::complain;
use crate::state;

/// Bytes of the longest number.
const MAX_LEN: u64 = 32;

/// The file of a publisher, by the fingerprint of its key.
fn path(publisher: &str) -> Option<PathBuf> {
    let known = |c: char| c.is_ascii_alphanumeric();
    (!publisher.is_empty() && publisher.chars().all(known))
        .then(|| state::folder("manifests"))
        .flatten()
        .map(|folder| folder.join(publisher))
}

/// The highest serial number of this publisher that was remembered.
pub fn highest(publisher: &str) -> Option<u64> {
    let bytes = file::read_up_to(&path(publisher)?, MAX_LEN).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
}

/// Remembers a serial number.
pub fn remember(publisher: &str, serial: u64) {
    let written = path(publisher)
        .ok_or_else(|| "there is no folder for it: set HOME".to_owned())
        .and_then(|path| {
            if let Some(folder) = path.parent() {
                state::make_private(folder).map_err(|failure| failure.sentence)?;
            }
            file::replace(&path, serial.to_string().as_bytes()).map_err(|error| error.to_string())
        });
    if let Err(why) = written {
        complain(format_args!(
            "the manifest's serial number cannot be remembered, so an older manifest will not be noticed: {why}"
        ));
    }
}
