// SPDX-License-Identifier: Apache-2.0

//! The rules of the house: which trust domain may depend on which, which file on which, and where
//! `unsafe` is allowed.

mod circles;
mod modules;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use enarx_documents::{plain_table, sources};
use enarx_runtime_image::RUNTIME;
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

/// Returns cargo's metadata of the packages of the workspace.
fn metadata() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(workspace())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo metadata failed");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let members = metadata["packages"].as_array().expect("a list of packages");
    members.clone()
}

/// Every package of the workspace, as cargo sees it.
fn packages() -> Vec<Package> {
    let root = workspace();
    let folder = |path: &str| {
        let path = Path::new(path)
            .strip_prefix(&root)
            .expect("members lie in the workspace");
        path.to_str().expect("our paths are text").to_owned()
    };
    metadata()
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

/// The words in backticks in a table cell.
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
    let rows = enarx_documents::table(&text, heading);
    assert!(rows.len() > 5, "{rows:?}");
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
fn trust_domains_depend_only_on_domains_that_they_trust() {
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
        // A domain, or a single crate of one.
        let may = |other: &str| {
            allowed.contains(&format!("{}/", domain(other))) || allowed.contains(other)
        };
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

/// The modules that may contain `unsafe`.
const UNSAFE: &[&str] = &[
    "host/confine/src/report.rs",
    "host/doctor/src/landlock_abi.rs",
    "host/executor/src/buffer.rs",
    "host/executor/src/interrupt.rs",
    "host/supervisor/src/child.rs",
    "host/supervisor/src/spawn.rs",
    "host/supervisor/src/stop.rs",
    "host/vmm/src/vm/memory.rs",
    "host/vmm/src/vm/stats.rs",
    "host/vmm/src/vm/vcpu_ops.rs",
    "host/process/src/child.rs",
    "host/process/src/region.rs",
    "host/vmm/src/snp/ioctl.rs",
    "keep/bare/src/lib.rs",
    "keep/loader/src/main.rs",
    "keep/microkernel/src/machine/cpu.rs",
    "keep/microkernel/src/machine/lock.rs",
    "keep/microkernel/src/machine/platform.rs",
    "keep/microkernel/src/machine/snp.rs",
    "keep/microkernel/src/machine/stack.rs",
    "keep/microkernel/src/machine/symbols.rs",
    "keep/runtime/src/entry.rs",
    "keep/runtime/src/platform.rs",
    "keep/wasm/src/precompiled.rs",
    "protocol/sallyport/src/memory.rs",
];

/// Folders of tests, which play hosts and guests, and of separate programs.
const NOT_IN_KEEPS: [&str; 2] = ["tests", "examples"];

/// All source files of the domains, except those in folders with these names.
fn all_sources(without: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for domain in [
        "keep", "host", "image", "protocol", "tenant", "testing", "cli", "bench",
    ] {
        found.extend(sources(&workspace().join(domain), without));
    }
    assert!(found.len() > 50, "found only {} files", found.len());
    found
}

#[test]
fn unsafe_occurs_only_in_the_listed_files() {
    let root = workspace();
    let found = all_sources(&NOT_IN_KEEPS);
    let keyword = [
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
        "unsafe extern",
        "#[unsafe(",
    ];
    let mut used = BTreeSet::new();
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
        used.extend(uses.then(|| own.to_owned()));
    }
    for room in UNSAFE {
        assert!(used.contains(*room), "{room} has no `unsafe`");
    }
}

#[test]
fn every_package_has_the_lints_of_the_workspace() {
    // They include those against printing macros, which panic if nothing can be written.
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

/// The files that a text names in backquotes.
fn named_files(text: &str) -> Vec<&str> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| Path::new(name).extension().is_some_and(|it| it == "rs"))
        .collect()
}

#[test]
fn the_ways_through_the_code_name_existing_files_once() {
    let document = std::fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let (_, ways) = document
        .split_once("## Five ways through the code")
        .unwrap();
    let (ways, _) = ways.split_once("\n## ").unwrap();
    let ways: Vec<_> = ways.split("\n**").skip(1).collect();
    assert_eq!(ways.len(), 5);
    for way in ways {
        let mut seen = BTreeSet::new();
        for file in named_files(way) {
            assert!(workspace().join(file).is_file(), "{file} does not exist");
            assert!(seen.insert(file), "{file} is named twice on one way");
        }
        assert!(seen.len() >= 8, "{way}");
    }
}

#[test]
fn the_tests_that_answer_attacks_exist() {
    let document = std::fs::read_to_string(workspace().join("SECURITY.md")).unwrap();
    // Names of tests are in backquotes; those of refusals have dots, and other names are shorter.
    let is_test = |name: &&str| {
        let in_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.matches('_').count() > 1 && name.chars().all(in_name)
    };
    let named: BTreeSet<&str> = document
        .lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(is_test)
        .collect();
    assert!(named.len() > 150, "found only {} names", named.len());
    let mut missing = named;
    for path in all_sources(&[]) {
        let text = std::fs::read_to_string(path).expect("our sources are text");
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            missing.remove(word);
        }
    }
    assert!(missing.is_empty(), "these do not exist: {missing:?}");
}

#[test]
fn every_module_lies_where_its_name_says() {
    let this = workspace().join("cli/tests/house/main.rs");
    for path in all_sources(&[]).iter().filter(|path| **path != this) {
        let text = std::fs::read_to_string(path).expect("our sources are text");
        // Code that several test programs share is a crate below testing/.
        assert!(!text.contains("#[path"), "{}", path.display());
    }
}

/// A constant that refers to unnamed bytes copies them into every codegen unit: 15 MB each.
#[test]
fn the_command_carries_the_runtime_once() {
    let command = std::fs::read(env!("CARGO_BIN_EXE_enarx")).unwrap();
    // The middle of the runtime: code, enough of it to be unlike any other.
    let piece = &RUNTIME[RUNTIME.len() / 2..][..4096];
    let found = command.windows(piece.len()).filter(|bytes| *bytes == piece);
    assert_eq!(found.count(), 1);
}

/// If `#[test]` were the standard library's, its tests would silently not run.
#[test]
fn programs_without_libtest_use_our_harness() {
    let mut programs = 0;
    for package in packages() {
        let folder = workspace().join(&package.folder);
        let manifest =
            std::fs::read_to_string(folder.join("Cargo.toml")).expect("manifests are text");
        let sections = manifest.split("\n[").filter(|section| {
            section.lines().any(|line| line == "harness = false") && !section.starts_with("[bench]")
        });
        // It forks, and so has only its first thread.
        if package.folder == "host/supervisor" {
            continue;
        }
        for section in sections {
            let name = section
                .lines()
                .find_map(|line| line.strip_prefix("name = "));
            let roots = match name.map(|name| name.trim_matches('"')) {
                Some(name) => vec![format!("tests/{name}.rs"), format!("tests/{name}/main.rs")],
                None => vec!["src/lib.rs".to_owned()],
            };
            let text = roots
                .iter()
                .find_map(|root| std::fs::read_to_string(folder.join(root)).ok())
                .unwrap_or_else(|| panic!("{}: none of {roots:?}", package.folder));
            for needed in [
                "#[macro_use]\nextern crate enarx_harness;",
                "enarx_harness::main()",
            ] {
                assert!(text.contains(needed), "{}: {roots:?}", package.folder);
            }
            programs += 1;
        }
    }
    assert!(programs >= 10, "found only {programs}");
}

/// The variables that make a test fail if it lacks something, as CONTRIBUTING.md lists them.
fn requirements() -> BTreeSet<String> {
    let text = std::fs::read_to_string(workspace().join("CONTRIBUTING.md"));
    let rows = plain_table(&text.expect("the document is text"), "\n## The checks\n");
    let names = rows
        .iter()
        .map(|row| row[0].trim_end_matches("=1").to_owned());
    names.collect()
}

/// A test that lacks something reports it through the harness, which alone knows these variables: then it is
/// reported as ignored.
#[test]
fn no_test_skips_itself() {
    let root = workspace();
    let harness = root.join("testing/harness");
    let this = root.join("cli/tests/house/main.rs");
    let variables = requirements();
    for path in all_sources(&[]) {
        if path.starts_with(&harness) || path == this {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("our sources are text");
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for variable in &variables {
                assert!(!line.contains(variable), "{}: {line}", path.display());
            }
            assert!(!line.contains("SKIPPED"), "{}: {line}", path.display());
        }
    }
}

/// Otherwise nobody would notice that a test never runs.
#[test]
fn requirements_of_tests_are_listed_and_required_in_ci() {
    let this = workspace().join("cli/tests/house/main.rs");
    let mut named = BTreeSet::new();
    for path in all_sources(&[]).iter().filter(|path| **path != this) {
        let text = std::fs::read_to_string(path).expect("our sources are text");
        for (at, call) in text.match_indices("lacking(") {
            let argument = text[at + call.len()..].trim_start();
            if let Some((name, _)) = argument
                .strip_prefix('"')
                .and_then(|rest| rest.split_once('"'))
            {
                named.insert(format!("ENARX_REQUIRE_{name}"));
            }
        }
    }
    // The harness's own tests lack it.
    named.remove("ENARX_REQUIRE_NOTHING");
    assert_eq!(named, requirements());
    let checks = std::fs::read_to_string(workspace().join(".ci/run")).expect("the checks are text");
    for variable in named {
        assert!(checks.contains(&variable), "{variable} is not in .ci/run");
    }
}

/// True if documentation of this source has examples that rustdoc would run.
fn has_examples(source: &Path) -> bool {
    let text = std::fs::read_to_string(source).expect("our sources are text");
    let mut inside = false;
    text.lines().any(|line| {
        let line = line.trim_start();
        // A page whose examples run with those of this source.
        if line.starts_with("#[doc = include_str!(") {
            return true;
        }
        let comment = line
            .strip_prefix("//!")
            .or_else(|| line.strip_prefix("///"));
        let Some(kind) = comment.and_then(|comment| comment.trim_start().strip_prefix("```"))
        else {
            return false;
        };
        inside = !inside;
        inside && !["ignore", "sh", "text"].contains(&kind)
    })
}

/// Looking for examples in forty libraries without any takes time in each run of the tests: such a library turns this off,
/// and one with examples has them run.
#[test]
fn libraries_have_doctests_enabled_if_they_have_examples() {
    let mut with = 0;
    for package in metadata() {
        let targets = package["targets"].as_array().expect("a list");
        let Some(library) = targets
            .iter()
            .find(|target| target["kind"] == serde_json::json!(["lib"]))
        else {
            continue;
        };
        let root = Path::new(library["src_path"].as_str().expect("a path"));
        let found = sources(root.parent().expect("a folder"), &[]);
        let examples = found.iter().any(|source| has_examples(source));
        with += usize::from(examples);
        assert_eq!(library["doctest"], examples, "{}", package["name"]);
    }
    // Examples in the session check that orders which cannot be kept do not compile.
    assert!(with > 0);
}

/// The crates that can be published: CONTRIBUTING.md, "Crates".
const PUBLISHABLE: [&str; 5] = [
    "enarx-attestation",
    "enarx-collateral",
    "enarx-evidence",
    "enarx-sallyport",
    "enarx-snp",
];

#[test]
fn crates_say_what_they_are_and_only_some_can_be_published() {
    let mut publishable = Vec::new();
    for package in metadata() {
        let name = package["name"].as_str().expect("a name");
        let description = package["description"].as_str().unwrap_or_default();
        assert!(
            description.len() >= 20 && description.ends_with('.'),
            "{name}: {description:?}"
        );
        assert_eq!(package["license"], "Apache-2.0", "{name}");
        let repository = "https://github.com/enarx/enarx";
        assert_eq!(package["repository"], repository, "{name}");
        assert_eq!(package["rust_version"], "1.95", "{name}");
        if package["publish"].is_null() {
            publishable.push(name.to_owned());
            assert!(package["readme"].is_string(), "{name} has no readme");
            for list in ["keywords", "categories"] {
                let list = package[list].as_array().expect("a list");
                assert!((1..=5).contains(&list.len()), "{name}: {list:?}");
            }
            let dependencies = package["dependencies"].as_array().expect("a list");
            for dependency in dependencies.iter().filter(|it| it["kind"] != "dev") {
                assert_ne!(dependency["req"], "*", "{name}: {dependency}");
            }
        } else {
            assert_eq!(package["publish"], Value::Array(Vec::new()), "{name}");
        }
    }
    publishable.sort_unstable();
    assert_eq!(publishable, PUBLISHABLE);
}
