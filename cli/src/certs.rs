//! `enarx certs`: fill the local store of the vendors' certificates, revocation lists and collateral.

use crate::output::{complain, shown};
use crate::verify::{REFUSED, now, read_evidence};
use enarx_collateral::{Fetcher, Imported, Store, Web};
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

/// Fill the local store of certificates, revocation lists and collateral.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch from AMD and Intel what this evidence needs: revocation lists and collateral once a day
    Fetch {
        /// A report or quote; `-` for standard input
        evidence: PathBuf,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Import certificates, revocation lists and collateral from files
    ///
    /// Each is checked up to the vendor's root before it replaces another; its issuers must be among the files or in the
    /// store. Exits with 3 when a file is not kept.
    Import {
        /// Files, or folders of files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// Where the store is.
#[derive(Debug, clap::Args)]
pub struct StoreArgs {
    /// The store [default: ~/.local/share/enarx/collateral, or below XDG_DATA_HOME]
    #[arg(long = "store", value_name = "DIR", env = "ENARX_STORE")]
    folder: Option<PathBuf>,
}

impl StoreArgs {
    /// The store; `None` when the user has no data folder and none is named.
    pub fn open(self) -> Option<Store> {
        let data = || {
            let set = |name| {
                env::var_os(name)
                    .filter(|v| !v.is_empty())
                    .map(PathBuf::from)
            };
            set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")))
        };
        self.folder
            .or_else(|| Some(data()?.join("enarx/collateral")))
            .map(Store::new)
    }
}

/// Runs the command.
pub fn run(args: Args) -> ExitCode {
    let result = match args.command {
        Command::Fetch { evidence, store } => open(store).and_then(|store| {
            let octets =
                read_evidence(&evidence).map_err(|e| format!("{}: {e}", evidence.display()))?;
            let written = Fetcher::new(&store, Web::default()).fetch(&octets, now());
            let imported = Imported {
                written: written.map_err(|e| e.to_string())?,
                refused: Vec::new(),
            };
            Ok((store, imported))
        }),
        Command::Import { files, store } => open(store).and_then(|store| {
            let imported = store.import_paths(&files).map_err(|e| e.to_string())?;
            if imported.written.is_empty() && imported.refused.is_empty() {
                return Err(
                    "none of these files is a certificate or revocation list of AMD or collateral of Intel"
                        .to_owned(),
                );
            }
            Ok((store, imported))
        }),
    };
    let (store, imported) = match result {
        Ok(done) => done,
        Err(message) => {
            complain("error", message);
            return ExitCode::from(REFUSED);
        }
    };
    for path in &imported.written {
        outln!("{}", shown(&store.root().join(path)));
    }
    if imported.written.is_empty() && imported.refused.is_empty() {
        outln!("nothing new for {}", shown(store.root()));
    }
    for (origin, why) in &imported.refused {
        complain(
            "error",
            format_args!("{}: not kept: {why}", origin.display()),
        );
    }
    if imported.refused.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    }
}

fn open(store: StoreArgs) -> Result<Store, String> {
    store
        .open()
        .ok_or_else(|| "no data folder: give --store".to_owned())
}
