// SPDX-License-Identifier: Apache-2.0

//! The modules of the library stand on floors: none imports, directly or by way of others, one that
//! imports it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules of a folder, with their sources.
fn modules(folder: &Path, path: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        if file.is_dir() {
            // The binary's modules import the library, which cannot import them.
            if name != "machine" {
                modules(&file, &format!("{path}{name}::"), found);
            }
        } else if !["lib", "main"].contains(&name.as_str()) {
            let module = match name.as_str() {
                "mod" => path.trim_end_matches("::").to_owned(),
                _ => format!("{path}{name}"),
            };
            found.insert(module, std::fs::read_to_string(&file).unwrap());
        }
    }
}

/// The modules that a source names by `crate::` or `super::`.
fn imports(module: &str, source: &str, all: &BTreeSet<String>) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = BTreeSet::new();
    for (prefix, base) in [("crate::", ""), ("super::", parent)] {
        for (at, _) in code.match_indices(prefix) {
            let mut open = vec![(&code[at + prefix.len()..], base.to_owned())];
            while let Some((rest, base)) = open.pop() {
                let name: String = rest
                    .chars()
                    .take_while(|&c| c.is_alphanumeric() || c == '_')
                    .collect();
                let under = |name: &str| match base.as_str() {
                    "" => name.to_owned(),
                    base => format!("{base}::{name}"),
                };
                if let Some(list) = rest.strip_prefix('{') {
                    let list = list.split('}').next().unwrap();
                    open.extend(list.split(',').map(|item| (item.trim(), base.clone())));
                } else if all.contains(&under(&name)) {
                    match rest[name.len()..].strip_prefix("::") {
                        Some(rest) => open.push((rest, under(&name))),
                        None => drop(found.insert(under(&name))),
                    }
                } else if !base.is_empty() {
                    // An item of the module.
                    found.insert(base);
                }
            }
        }
    }
    found.remove(module);
    found
}

#[test]
fn no_module_imports_one_that_imports_it() {
    let mut sources = BTreeMap::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    modules(&folder, "", &mut sources);
    let all: BTreeSet<String> = sources.keys().cloned().collect();
    let mut left: BTreeMap<&str, BTreeSet<String>> = sources
        .iter()
        .map(|(module, source)| (module.as_str(), imports(module, source, &all)))
        .collect();
    let edges: usize = left.values().map(BTreeSet::len).sum();
    assert!(left.len() > 20 && edges > 40, "{} {edges}", left.len());
    // Floor by floor, from the ground.
    let mut standing = BTreeSet::new();
    loop {
        let floor: Vec<&str> = left
            .iter()
            .filter(|(_, imports)| imports.is_subset(&standing))
            .map(|(module, _)| *module)
            .collect();
        if floor.is_empty() {
            break;
        }
        for module in floor {
            left.remove(module);
            standing.insert(module.to_owned());
        }
    }
    assert!(left.is_empty(), "a circle among {left:#?}");
}
