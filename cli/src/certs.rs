// SPDX-License-Identifier: Apache-2.0

//! `enarx certs`: fill the local store of the vendors' certificates, revocation lists and collateral.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use enarx_collateral::{FetchError, Fetcher, Imported, Store, StoreError, Web};
use serde_json::json;

use crate::failure::{Exit, Failure};
use crate::input::{self, now};
use crate::json::Json;
use crate::output::{complain, print_json, shown};
use crate::state;
use crate::typed::Flag;

/// Fill the local store of certificates, revocation lists and collateral.
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch from AMD and Intel what this evidence needs: revocation lists and collateral once a day
    Fetch {
        /// A report or quote; `-` for standard input
        evidence: PathBuf,
        #[command(flatten)]
        store: StoreArguments,
        #[command(flatten)]
        json: Json,
    },
    /// Import certificates, revocation lists and collateral from files
    ///
    /// Each is checked up to the vendor's root before it replaces another; its issuers must be among the files or in the
    /// store. Exits with 65 when a file is not kept.
    Import {
        /// Files, or folders of files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        store: StoreArguments,
        #[command(flatten)]
        json: Json,
    },
}

impl Arguments {
    /// True if JSON is asked for.
    pub const fn json(&self) -> bool {
        let (Command::Fetch { json, .. } | Command::Import { json, .. }) = &self.command;
        json.on
    }
}

/// Where the store is.
#[derive(Args, Debug)]
pub struct StoreArguments {
    /// The store [default: ~/.local/share/enarx/collateral, or below XDG_DATA_HOME]
    #[arg(id = Flag::Store.id(), long = "store", value_name = "DIR", env = "ENARX_STORE")]
    folder: Option<PathBuf>,
}

impl StoreArguments {
    /// The store; `None` when the user has no data folder and none is named.
    pub fn open(&self) -> Option<Store> {
        let named = self.folder.clone();
        named
            .or_else(|| state::data_folder("collateral"))
            .map(Store::new)
    }

    fn required(&self) -> Result<Store, Failure> {
        self.open()
            .ok_or_else(|| Failure::usage("there is no data folder: set HOME, or give --store"))
    }
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Input`]; [`Exit::Data`] where nothing can be kept; [`Exit::Output`]; [`Exit::Network`].
pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (store, imported) = match &arguments.command {
        Command::Fetch {
            evidence, store, ..
        } => {
            let store = store.required()?;
            let (evidence, _) = input::read_evidence(evidence)?;
            let written =
                Fetcher::new(&store, Web::new(enarx_agent::web_provider())).fetch(&evidence, now());
            let imported = Imported {
                written: written.map_err(|error| not_fetched(&store, &error))?,
                refused: Vec::new(),
            };
            (store, imported)
        }
        Command::Import { files, store, .. } => {
            let store = store.required()?;
            let imported = store
                .import_paths(files)
                .map_err(|error| not_stored(&store, &error))?;
            if imported.written.is_empty() && imported.refused.is_empty() {
                return Err(Failure::data(
                    "none of these files is a certificate or revocation list of AMD or collateral of Intel",
                ));
            }
            (store, imported)
        }
    };
    show(&store, &imported, arguments.json());
    Ok(if imported.refused.is_empty() {
        ExitCode::SUCCESS
    } else {
        Exit::Data.into()
    })
}

/// Shows the files that were written and those that were not kept.
fn show(store: &Store, imported: &Imported, json: bool) {
    let written: Vec<_> = imported
        .written
        .iter()
        .map(|path| shown(&store.root().join(path)))
        .collect();
    let refused: Vec<_> = imported
        .refused
        .iter()
        .map(|(origin, why)| (shown(origin), why.to_string()))
        .collect();
    if json {
        let refused: Vec<_> = refused
            .iter()
            .map(|(file, why)| json!({ "file": file, "why": why }))
            .collect();
        print_json(&json!({ "written": written, "refused": refused }));
    } else {
        for path in &written {
            outln!("{path}");
        }
        if written.is_empty() && refused.is_empty() {
            outln!("nothing new for {}", shown(store.root()));
        }
    }
    for (file, why) in &refused {
        complain(format_args!("{file}: not kept: {why}"));
    }
}

fn not_fetched(store: &Store, error: &FetchError) -> Failure {
    match error {
        FetchError::Http(_) | FetchError::Answer { .. } => {
            Failure::of(Exit::Network, error.to_string())
        }
        FetchError::Store(error) => not_stored(store, error),
        FetchError::Evidence(_) | FetchError::Unnamed(_) => Failure::data(error.to_string()),
    }
}

fn not_stored(store: &Store, error: &StoreError) -> Failure {
    let exit = match error {
        // The files of the store are written, those that are imported read.
        StoreError::Io { path, .. } if path.starts_with(store.root()) => Exit::Output,
        StoreError::Io { .. } => Exit::Input,
        StoreError::Refused { .. } => Exit::Data,
    };
    Failure::of(exit, error.to_string())
}
