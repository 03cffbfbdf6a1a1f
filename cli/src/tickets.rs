// SPDX-License-Identifier: Apache-2.0

//! Tickets of detached deployments, by which a tenant finds its Keeps again. They contain the
//! tenant's keys, so they are in a folder that only this user can access.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use enarx_agent::{MAX_TICKET, Ticket};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};
use crate::input;
use crate::state;

/// End of a ticket's file name.
const EXTENSION: &str = "ticket";

/// A ticket in the list of all.
pub struct Listed {
    /// The name of its deployment.
    pub name: String,
    /// The ticket, or why it cannot be read.
    pub ticket: Result<Ticket, Failure>,
}

/// The name of a deployment: its contract's, as hosts name the Keep.
pub fn name(ticket: &Ticket) -> String {
    ticket.contract().keep_id().to_string()
}

fn folder() -> Result<PathBuf, Failure> {
    state::folder("keeps").ok_or_else(|| Failure::usage("there is no folder for tickets: set HOME"))
}

fn path(name: &str) -> Result<PathBuf, Failure> {
    Ok(folder()?.join(format!("{name}.{EXTENSION}")))
}

/// Keeps a ticket, in place of an earlier one of the same deployment. Returns its name.
///
/// # Errors
/// [`Exit::Output`].
pub fn save(ticket: &Ticket) -> Result<String, Failure> {
    let name = name(ticket);
    let folder = folder()?;
    state::make_private(&folder)?;
    let failed = |error: &dyn std::fmt::Display| {
        Failure::of(
            Exit::Output,
            format!("the ticket of {name} cannot be kept: {error}"),
        )
    };
    let bytes = ticket.to_bytes().map_err(|error| failed(&error))?;
    // Only this user can read it, and readers see the old or the new contents.
    let mut file = NamedTempFile::new_in(&folder).map_err(|error| failed(&error))?;
    file.write_all(&bytes).map_err(|error| failed(&error))?;
    file.persist(path(&name)?).map_err(|error| failed(&error))?;
    Ok(name)
}

/// Checks that a ticket can be stored, before there is a program that could only be reached with
/// it.
///
/// # Errors
/// [`Exit::Output`].
pub fn check() -> Result<(), Failure> {
    /// More than a ticket has, in bytes.
    const READ_LIMIT: usize = 64 << 10;
    let folder = folder()?;
    state::make_private(&folder)?;
    NamedTempFile::new_in(&folder)
        .and_then(|mut file| file.write_all(&vec![0; READ_LIMIT]))
        .map_err(|error| {
            Failure::of(
                Exit::Output,
                format!("no ticket could be kept, so nothing was deployed: {error}"),
            )
        })
}

/// Forgets a ticket.
///
/// # Errors
/// [`Exit::Output`].
pub fn forget(name: &str) -> Result<(), Failure> {
    match fs::remove_file(path(name)?) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Failure::of(
            Exit::Output,
            format!("the ticket of {name} cannot be removed: {error}"),
        )),
        _ => Ok(()),
    }
}

/// The names of all tickets, in their order.
///
/// # Errors
/// [`Exit::Input`].
fn names() -> Result<Vec<String>, Failure> {
    let folder = folder()?;
    state::check_private(&folder)?;
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(input::unreadable(&folder, &error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| input::unreadable(&folder, &error))?
            .path();
        if path.extension().is_some_and(|it| it == EXTENSION)
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// All tickets, in the order of their names.
///
/// # Errors
/// [`Exit::Input`].
pub fn all() -> Result<Vec<Listed>, Failure> {
    names()?.into_iter().map(listed).collect()
}

/// The deployment of this name.
fn listed(name: String) -> Result<Listed, Failure> {
    let ticket = read(&path(&name)?);
    Ok(Listed { name, ticket })
}

/// The ticket of the deployment whose name begins so.
///
/// # Errors
/// [`Exit::Usage`] unless there is exactly one, [`Exit::Data`] for one that is damaged.
pub fn load(beginning: &str) -> Result<Ticket, Failure> {
    find(beginning)?.ticket
}

/// The deployment whose name begins so, its ticket readable or not.
///
/// # Errors
/// [`Exit::Usage`] unless there is exactly one.
pub fn find(beginning: &str) -> Result<Listed, Failure> {
    // Every name begins so: a variable of a script that is not set would end whatever is there.
    if beginning.is_empty() {
        return Err(Failure::usage(
            "the name of the deployment is empty: `enarx keeps list` shows the existing ones",
        ));
    }
    let mut names = names()?;
    names.retain(|name| name.starts_with(beginning));
    match names.as_slice() {
        [name] => listed(name.clone()),
        [] => Err(Failure::usage(format!(
            "no deployment is called {beginning}: `enarx keeps list` shows all of them"
        ))),
        _ => Err(Failure::usage(format!(
            "{} deployments begin with {beginning}: write more of the name",
            names.len()
        ))),
    }
}

fn read(path: &Path) -> Result<Ticket, Failure> {
    // It has the tenant's private key.
    let bytes = Zeroizing::new(input::read_up_to(path, MAX_TICKET as u64)?);
    Ticket::from_bytes(&bytes)
        .map_err(|error| Failure::data(format!("{}: {error}", path.display())))
}
