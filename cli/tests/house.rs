//! The rules of the house: which trust domain may depend on which, and where `unsafe` may stand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the command lies in the workspace")
        .to_owned()
}

/// A package of the workspace, by the folders of the packages that it depends on.
#[derive(Debug)]
struct Package {
    folder: String,
    /// Folders of its dependencies and build dependencies.
    dependencies: BTreeSet<String>,
    /// Folders of its dev-dependencies.
    dev_dependencies: BTreeSet<String>,
    /// Those of [`LIBRARIES`] that it depends on.
    libraries: BTreeSet<String>,
}

/// The libraries that only some crates may use.
const LIBRARIES: [&str; 4] = ["kube", "redb", "rustls", "tokio"];

/// Every package of the workspace, as cargo sees it.
fn packages() -> Vec<Package> {
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
        let path = Path::new(path)
            .strip_prefix(&root)
            .expect("members lie in the workspace");
        path.to_str().expect("our paths are text").to_owned()
    };
    let members = metadata["packages"].as_array().expect("a list of packages");
    members
        .iter()
        .map(|package| {
            let manifest = package["manifest_path"].as_str().expect("a path");
            let all = package["dependencies"].as_array().expect("a list");
            let of = |dev: bool| {
                all.iter()
                    .filter(|dependency| (dependency["kind"] == "dev") == dev)
                    .filter_map(|dependency| dependency["path"].as_str())
                    .map(folder)
                    .collect()
            };
            Package {
                folder: folder(manifest).replace("/Cargo.toml", ""),
                dependencies: of(false),
                dev_dependencies: of(true),
                libraries: all
                    .iter()
                    .filter_map(|dependency| dependency["name"].as_str())
                    .filter(|name| LIBRARIES.contains(name))
                    .map(str::to_owned)
                    .collect(),
            }
        })
        .collect()
}

/// The words in backticks of a table's cell.
fn words(cell: &str) -> BTreeSet<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The rows of the first table after `heading` in ARCHITECTURE.md, by cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(workspace().join("ARCHITECTURE.md"))
        .expect("ARCHITECTURE.md is readable");
    let (_, after) = text.split_once(heading).expect("the heading is there");
    let rows: Vec<Vec<String>> = after
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    assert!(rows.len() > 5, "no table after {heading}");
    rows
}

#[test]
fn every_crate_depends_on_what_the_table_says_and_on_nothing_else() {
    let rows = table("## Who depends on whom");
    let packages = packages();
    for package in &packages {
        let row = rows
            .iter()
            .find(|row| words(&row[0]).contains(&package.folder))
            .unwrap_or_else(|| panic!("{} has no row in ARCHITECTURE.md", package.folder));
        assert_eq!(
            words(&row[2]),
            package.dependencies,
            "{}: ARCHITECTURE.md (left) and its manifest (right) differ",
            package.folder
        );
        assert_eq!(words(&row[3]), package.libraries, "{}", package.folder);
    }
    assert_eq!(rows.len(), packages.len(), "a row without a crate");
}

/// The domain of a folder: its first part.
fn domain(folder: &str) -> &str {
    folder.split('/').next().unwrap_or_default()
}

#[test]
fn trust_domains_depend_on_none_that_they_do_not_trust() {
    let rows = table("the folder of a crate tells you who trusts it");
    let allowed = |of: &str| -> BTreeSet<String> {
        let row = rows
            .iter()
            .find(|row| words(&row[0]).contains(&format!("{of}/")))
            .unwrap_or_else(|| panic!("{of}/ has no place in ARCHITECTURE.md"));
        if row[2].starts_with("all but") {
            let all = rows.iter().flat_map(|row| words(&row[0]));
            return all.filter(|name| !words(&row[2]).contains(name)).collect();
        }
        words(&row[2])
    };
    for package in packages() {
        let allowed = allowed(domain(&package.folder));
        let may = |other: &str| allowed.contains(&format!("{}/", domain(other)));
        for other in &package.dependencies {
            let exception = package.folder == "host/simulator" && other == "testing/snp-authority";
            assert!(
                (may(other) && domain(other) != "testing"
                    || package.folder.starts_with("testing/"))
                    || exception,
                "{} depends on {other}",
                package.folder
            );
        }
        for other in &package.dev_dependencies {
            assert!(
                may(other) || domain(other) == "testing",
                "{} depends on {other} in its tests",
                package.folder
            );
        }
    }
}

/// The modules made for `unsafe`.
const UNSAFE: &[&str] = &[
    "host/confine/src/report.rs",
    "host/doctor/src/landlock_abi.rs",
    "host/executor/src/buffer.rs",
    "host/executor/src/interrupt.rs",
    "host/supervisor/src/child.rs",
    "host/supervisor/src/spawn.rs",
    "host/vmm/src/vm/backing.rs",
    "host/vmm/src/vm/memory.rs",
    "host/vmm/src/vm/stats.rs",
    "host/vmm/src/vm/vcpu_ops.rs",
    "host/process/src/child.rs",
    "host/process/src/region.rs",
    "host/vmm/src/snp/ioctl.rs",
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
    for domain in [
        "keep", "host", "image", "protocol", "tenant", "testing", "cli",
    ] {
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
    for package in packages() {
        let manifest = root.join(&package.folder).join("Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).expect("manifests are text");
        assert!(
            manifest.contains("[lints]\nworkspace = true\n"),
            "{} does not have them",
            package.folder
        );
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("manifests are text");
    for lint in ["dbg_macro", "print_stderr", "print_stdout"] {
        assert!(manifest.contains(&format!("{lint} = \"deny\"")), "{lint}");
    }
}
