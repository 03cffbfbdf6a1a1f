// SPDX-License-Identifier: Apache-2.0

//! Tells the command what it is built from: the commit and the version of Wasmtime. Nothing else of the environment or the
//! time goes into it, and nothing of this into the measured programs.

use std::path::Path;
use std::process::Command;

/// The variable by which a build without the repository can name the commit.
const COMMIT: &str = "ENARX_COMMIT";

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the command lies in the workspace");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let given = std::env::var(COMMIT).ok().filter(|given| !given.is_empty());
    let commit = given.or_else(|| of_repository(workspace));
    println!(
        "cargo::rustc-env=ENARX_BUILD_COMMIT={}",
        commit.as_deref().unwrap_or("unknown")
    );
    let lock = workspace.join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let lock = std::fs::read_to_string(&lock).expect("the lock file is readable");
    let version = lock
        .split("[[package]]")
        .find(|package| package.contains("\nname = \"wasmtime\"\n"))
        .and_then(|package| package.split('"').nth(3))
        .expect("Wasmtime is locked");
    println!("cargo::rustc-env=ENARX_BUILD_WASMTIME={version}");
}

/// The commit of the repository whose root the workspace is; `None` without git, or in another's repository.
fn of_repository(workspace: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .current_dir(workspace)
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    let root = git(&["rev-parse", "--show-toplevel"])?;
    if Path::new(&root).canonicalize().ok()? != workspace.canonicalize().ok()? {
        return None;
    }
    // Both change with a commit; a repository without a log of its head is built anew only where HEAD changes.
    for name in ["HEAD", "logs/HEAD"] {
        let path = workspace.join(git(&["rev-parse", "--git-path", name])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
