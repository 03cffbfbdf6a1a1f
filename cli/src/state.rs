// SPDX-License-Identifier: Apache-2.0

//! Folders of this user: where the command stores its state, and the checks that nobody else can write there.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure};

/// Rights of others to write into a folder.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The remedy for a state folder that cannot be used.
pub const STATE_FOLDER_REMEDY: &str = "set XDG_STATE_HOME to a folder of yours";

/// A variable that names an absolute path.
fn absolute(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?);
    path.is_absolute().then_some(path)
}

/// Our folder for state that is kept between runs; `None` if the user has no home (XDG Base Directory
/// Specification).
pub fn folder(name: &str) -> Option<PathBuf> {
    let home = || Some(absolute("HOME")?.join(".local/state"));
    let state = absolute("XDG_STATE_HOME").or_else(home)?;
    Some(state.join("enarx").join(name))
}

/// A folder of ours for data that can be fetched again.
pub fn data_folder(name: &str) -> Option<PathBuf> {
    let home = || Some(absolute("HOME")?.join(".local/share"));
    let data = absolute("XDG_DATA_HOME").or_else(home)?;
    Some(data.join("enarx").join(name))
}

/// Our folder for data that can be recreated.
pub fn cache_folder(name: &str) -> Option<PathBuf> {
    let home = || Some(absolute("HOME")?.join(".cache"));
    let cache = absolute("XDG_CACHE_HOME").or_else(home)?;
    Some(cache.join("enarx").join(name))
}

/// Refuses a folder that is there and belongs to somebody else, or that others may write to.
///
/// # Errors
/// [`Exit::Output`].
pub fn check_private(folder: &Path) -> Result<(), Failure> {
    let metadata = match std::fs::symlink_metadata(folder) {
        Ok(metadata) => metadata,
        // The user who makes it owns it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(folder, &error.to_string())),
    };
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_dir() {
        Err(unusable(folder, "it is not a directory"))
    } else if !ours {
        Err(unusable(folder, "it belongs to another user"))
    } else if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        Err(unusable(folder, "others may write to it"))
    } else {
        Ok(())
    }
}

/// Creates a folder that only this user can enter, or uses one that only this user can write to.
///
/// # Errors
/// [`Exit::Output`].
pub fn make_private(folder: &Path) -> Result<(), Failure> {
    check_private(folder)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| unusable(folder, &error.to_string()))?;
    // It may have been made by another in between.
    check_private(folder)
}

fn unusable(folder: &Path, why: &str) -> Failure {
    let is_of_state = self::folder("").is_some_and(|state| folder.starts_with(state));
    let remedy = if is_of_state {
        STATE_FOLDER_REMEDY
    } else {
        "name another"
    };
    Failure::of(
        Exit::Output,
        format!(
            "the folder {} cannot be used: {why}: {remedy}",
            folder.display()
        ),
    )
}
