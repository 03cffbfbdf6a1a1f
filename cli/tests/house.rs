//! The rules of the house: which trust domain may depend on which, and where `unsafe` may stand.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the command lies in the workspace")
        .to_owned()
}

/// The packages of the workspace: folder, and the folders of the packages they depend on (of any
/// kind of dependency).
fn packages() -> Vec<(String, Vec<String>)> {
    let root = workspace();
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(&root)
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let folder = |path: &str| {
        let path = Path::new(path);
        let path = path
            .strip_prefix(&root)
            .expect("members lie in the workspace");
        path.to_str().expect("our paths are text").to_owned()
    };
    let members = metadata["packages"].as_array().expect("a list of packages");
    members
        .iter()
        .map(|package| {
            let manifest = package["manifest_path"].as_str().expect("a path");
            let own = folder(manifest).replace("/Cargo.toml", "");
            let dependencies = package["dependencies"].as_array().expect("a list");
            let paths = dependencies
                .iter()
                .filter_map(|dependency| dependency["path"].as_str());
            (own, paths.map(folder).collect())
        })
        .collect()
}

/// Domains that a domain may depend on.
fn allowed(domain: &str) -> &'static [&'static str] {
    match domain {
        "keep" => &["keep", "protocol"],
        // The verifier recomputes measurements from the launch plan and the measured programs.
        "tenant" => &["tenant", "protocol", "keep"],
        "host" => &["host", "protocol", "keep"],
        "protocol" => &["protocol"],
        "cli" | "bench" => &["cli", "bench", "tenant", "host", "protocol", "keep"],
        other => panic!("a folder without a place in the house: {other}"),
    }
}

#[test]
fn trust_domains_depend_on_none_that_they_do_not_trust() {
    let packages = packages();
    assert!(packages.len() >= 10, "found {packages:?}");
    for (package, dependencies) in packages {
        let domain = package.split('/').next().unwrap_or_default();
        for dependency in dependencies {
            let other = dependency.split('/').next().unwrap_or_default();
            assert!(
                allowed(domain).contains(&other),
                "{package} depends on {dependency}: {domain}/ must not depend on {other}/"
            );
        }
    }
}

/// The modules made for `unsafe`.
const UNSAFE: &[&str] = &[
    "host/vmm/src/confine/report.rs",
    "host/vmm/src/doctor/landlock_abi.rs",
    "host/vmm/src/executor/buffer.rs",
    "host/vmm/src/interrupt.rs",
    "host/vmm/src/kvm/memory.rs",
    "host/vmm/src/kvm/stats.rs",
    "host/vmm/src/kvm/vcpu.rs",
    "host/vmm/src/process/child.rs",
    "host/vmm/src/process/region.rs",
    "host/vmm/src/snp/linux.rs",
    "keep/bare/src/lib.rs",
    "keep/loader/src/main.rs",
    "keep/microkernel/src/machine/cpu.rs",
    "keep/microkernel/src/machine/entry.rs",
    "keep/microkernel/src/machine/lock.rs",
    "keep/microkernel/src/machine/snp.rs",
    "keep/microkernel/src/machine/stack.rs",
    "keep/runtime/src/platform.rs",
    "protocol/sallyport/src/memory.rs",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("our folders are readable") {
        let path = entry.expect("our folders are readable").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            // Tests play hosts and guests; fuzz targets are programs of their own.
            if !["target", "tests", "fuzz", "examples"].contains(&name) {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let root = workspace();
    let mut found = Vec::new();
    for domain in ["keep", "host", "protocol", "tenant", "cli"] {
        sources(&root.join(domain), &mut found);
    }
    assert!(found.len() > 50, "found only {} files", found.len());
    let keyword = [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe extern",
        "#[unsafe(",
    ];
    for path in found {
        let text = std::fs::read_to_string(&path).expect("our sources are text");
        let own = path
            .strip_prefix(&root)
            .expect("in the workspace")
            .to_str()
            .unwrap_or_default();
        let uses = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .any(|line| keyword.iter().any(|keyword| line.contains(keyword)));
        assert!(
            !uses || UNSAFE.contains(&own),
            "{own} has `unsafe` and is not made for it"
        );
    }
}

#[test]
fn every_package_has_the_lints_of_the_house() {
    // Among them those against printing macros, which panic where nothing can be written.
    let root = workspace();
    for (package, _) in packages() {
        let manifest = root.join(&package).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).expect("manifests are text");
        assert!(
            manifest.contains("[lints]\nworkspace = true\n"),
            "{package} does not have them"
        );
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("manifests are text");
    for lint in ["dbg_macro", "print_stderr", "print_stdout"] {
        assert!(manifest.contains(&format!("{lint} = \"deny\"")), "{lint}");
    }
}
