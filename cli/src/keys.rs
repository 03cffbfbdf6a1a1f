// SPDX-License-Identifier: Apache-2.0

//! Files in TOML that a tenant writes for a command: an unknown key is an error that names the one that was meant.

use std::path::Path;

use enarx_attestation::policy::located;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::failure::Failure;
use crate::input;
use crate::options::nearest;

/// The keys of a table, and those of the tables below it.
#[derive(Clone, Copy)]
pub struct Keys {
    /// The keys.
    pub known: &'static [&'static str],
    /// Keys whose value is a table, or a list of tables, with these keys.
    pub below: &'static [(&'static str, &'static [&'static str])],
}

/// Reads a file with no keys but these.
///
/// # Errors
/// [`crate::failure::Exit::Input`]; [`crate::failure::Exit::Data`] for an unknown key, a wrong type, or
/// invalid TOML.
pub fn read<T: DeserializeOwned>(path: &Path, keys: Keys) -> Result<T, Failure> {
    let text = input::read_text(path)?;
    let wrong = |why: &str| Failure::data(format!("{}: {why}", path.display()));
    let form = |error: toml::de::Error| wrong(&located(&text, error.span(), error.message()));
    // First as a table, because an error of serde does not name the key that was meant.
    let table: Table = toml::from_str(&text).map_err(form)?;
    check(&table, keys).map_err(|why| wrong(&why))?;
    toml::from_str(&text).map_err(form)
}

/// Refuses a key that is not known, in the table and in those below it.
fn check(table: &Table, keys: Keys) -> Result<(), String> {
    only(table, keys.known, "")?;
    for (name, known) in keys.below {
        let tables = match table.get(*name) {
            Some(Value::Table(table)) => vec![table],
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_table).collect(),
            _ => continue,
        };
        for table in tables {
            only(table, known, &format!("{name}."))?;
        }
    }
    Ok(())
}

/// Refuses an unknown key of a table; `place` precedes its name in the sentence.
fn only(table: &Table, known: &[&str], place: &str) -> Result<(), String> {
    let unknown = table.keys().find(|key| !known.contains(&key.as_str()));
    let Some(key) = unknown else {
        return Ok(());
    };
    let known: Vec<String> = known.iter().map(|known| (*known).to_owned()).collect();
    let near = nearest(key, &known).map_or_else(
        || format!("use {}", known.join(", ")),
        |near| format!("did you mean {place}{near}?"),
    );
    Err(format!("there is no key {place}{key}: {near}"))
}
