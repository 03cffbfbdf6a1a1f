// SPDX-License-Identifier: Apache-2.0

//! Builds what is measured, by the cargo that started this.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;

/// The two sides of every ratio.
pub struct Built {
    /// The `enarx` command.
    pub enarx: PathBuf,
    /// Native Wasmtime of the same version.
    pub native: PathBuf,
}

/// The root of the sources.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Builds both commands as users get them: release profile.
pub fn build() -> Result<Built, Error> {
    Ok(Built {
        enarx: package("enarx", "enarx")?,
        native: package("enarx-bench-native", "native-wasmtime")?,
    })
}

/// Builds a package and says where its executable lies.
fn package(package: &'static str, executable: &str) -> Result<PathBuf, Error> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(workspace())
        .args(["build", "--release", "--locked", "--package", package])
        .args(["--bin", executable, "--message-format"])
        .arg("json-render-diagnostics")
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(Error::system("cargo could not be started"))?;
    if !output.status.success() {
        return Err(Error::Build(package));
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| executable_of(line, executable))
        .next_back()
        .ok_or(Error::Build(package))
}

/// The executable that a message of cargo's tells of (The Cargo Book, "External tools").
fn executable_of(line: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let path = PathBuf::from(message.get("executable")?.as_str()?);
    (path.file_name()? == name).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_in_cargos_messages() {
        let artifact =
            r#"{"reason":"compiler-artifact","executable":"/target/release/native-wasmtime"}"#;
        assert_eq!(
            executable_of(artifact, "native-wasmtime"),
            Some("/target/release/native-wasmtime".into())
        );
        assert_eq!(executable_of(artifact, "enarx"), None);
        let library = r#"{"reason":"compiler-artifact","executable":null}"#;
        assert_eq!(executable_of(library, "enarx"), None);
        assert_eq!(executable_of("not JSON", "enarx"), None);
    }
}
