// SPDX-License-Identifier: Apache-2.0

//! The files of a crate do not depend on each other in a circle, directly or indirectly.

use std::collections::BTreeSet;
use std::path::Path;

use crate::modules::{Modules, shown};
use crate::{metadata, workspace};

/// The roots of all libraries and programs of the workspace, those of tests among them.
fn roots() -> BTreeSet<String> {
    let packages = metadata();
    let targets = packages.iter().flat_map(|package| {
        let targets = package["targets"].as_array().expect("a list");
        targets.clone()
    });
    let own = ["bench", "bin", "example", "lib", "proc-macro", "test"];
    targets
        .filter(|target| {
            let kinds = target["kind"].as_array().expect("a list");
            kinds.iter().any(|kind| own.iter().any(|it| kind == it))
        })
        .map(|target| {
            let path = target["src_path"].as_str().expect("a path");
            let path = Path::new(path).strip_prefix(workspace());
            let path = path.expect("members lie in the workspace");
            path.to_str().expect("our paths are text").to_owned()
        })
        .collect()
}

#[test]
fn no_files_depend_on_each_other() {
    let mut files = 0;
    let mut needs = Vec::new();
    for root in roots() {
        let modules = Modules::read(&workspace().join(&root));
        files += modules.len();
        for circle in modules.circles() {
            for module in &circle {
                let within = modules.needs(module);
                let within: Vec<String> = within.intersection(&circle).map(shown).collect();
                needs.push(format!(
                    "{root}: {} needs {}",
                    shown(module),
                    within.join(", ")
                ));
            }
        }
    }
    assert!(files > 700, "found only {files} files");
    assert!(needs.is_empty(), "files in circles: {needs:#?}");
}
