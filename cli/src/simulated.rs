//! `--sim NAME=VALUE`: what the simulated platform is like.

use std::path::PathBuf;

use enarx_simulator::{KeyKind, Settings, Tcb};
use enarx_snp::product;
use enarx_snp::tcb::TcbVersion;
use enarx_vmm::platform::simulated::Simulated;

/// The machine that the options describe.
///
/// # Errors
/// One sentence: which option is wrong, and what it may be.
pub fn machine(options: &[String]) -> Result<Simulated, String> {
    let mut generation = &product::MILAN;
    let mut key = KeyKind::Vcek;
    let mut tcb = None;
    let mut debug = false;
    let mut folder = None;
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, value) {
            ("generation", name) => {
                generation = product::by_name(name).ok_or_else(|| {
                    format!("--sim generation={name}: use milan, genoa, bergamo-siena or turin")
                })?;
            }
            ("key", "vcek") => key = KeyKind::Vcek,
            ("key", "vlek") => key = KeyKind::Vlek,
            ("tcb", digits) => {
                let wrong = || format!("--sim tcb={digits}: write 8 bytes, 16 hexadecimal digits");
                let bytes = crate::values::hex(digits).ok_or_else(wrong)?;
                tcb = Some(TcbVersion(bytes.try_into().map_err(|_| wrong())?));
            }
            ("debug", "y" | "n") => debug = value == "y",
            ("state", path) if !path.is_empty() => folder = Some(PathBuf::from(path)),
            _ => {
                return Err(format!(
                    "--sim {option} is not known: use generation=NAME, key=vcek|vlek, tcb=HEX, debug=y|n or state=DIR"
                ));
            }
        }
    }
    let mut settings = Settings::new(generation);
    settings.key = key;
    if let Some(tcb) = tcb {
        settings.tcb = Tcb::all(tcb);
    }
    Ok(Simulated {
        folder: folder.unwrap_or_else(state),
        settings,
        debug,
        attack: None,
    })
}

/// The folder for state of this user (XDG Base Directory Specification).
fn state() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("enarx/simulated")
}
