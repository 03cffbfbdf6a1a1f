//! `enarx certs`: fill the local store of the vendors' certificates, revocation lists and collateral.

use crate::verify::{REFUSED, now, read};
use enarx_collateral::{Fetcher, Store, Web};
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
    /// Fetch from AMD and Intel what this evidence needs
    Fetch {
        /// A report or quote
        evidence: PathBuf,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Import certificates, revocation lists and collateral from files
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
    /// The store; default: enarx/collateral in the user's data folder
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
            let octets = read(&evidence).map_err(|e| format!("{}: {e}", evidence.display()))?;
            let written = Fetcher::new(&store, Web::default()).fetch(&octets, now());
            Ok((store, written.map_err(|e| e.to_string())?))
        }),
        Command::Import { files, store } => open(store).and_then(|store| {
            let mut written = Vec::new();
            for file in files {
                written.extend(store.import_path(&file).map_err(|e| e.to_string())?);
            }
            Ok((store, written))
        }),
    };
    match result {
        Ok((store, written)) => {
            for path in &written {
                outln!("{}", store.root().join(path).display());
            }
            if written.is_empty() {
                outln!("nothing new for {}", store.root().display());
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            say!("error: {message}");
            ExitCode::from(REFUSED)
        }
    }
}

fn open(store: StoreArgs) -> Result<Store, String> {
    store
        .open()
        .ok_or_else(|| "no data folder: give --store".to_owned())
}
