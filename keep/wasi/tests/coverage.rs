// SPDX-License-Identifier: Apache-2.0

//! Every offered function is called by the conformance programs: their table, which a test of the
//! command compares with their calls in every kind of Keep, names exactly the functions of the linker.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use enarx_wasi::{preview1, preview2, preview3};
use wit_parser::{Resolve, TypeDefKind, WorldItem};

type Functions = BTreeSet<(String, String)>;

/// Names of interfaces and functions, as in the linker.
fn offered() -> Functions {
    let mut functions: Functions = preview1::FUNCTIONS
        .iter()
        .map(|name| (preview1::MODULE.to_owned(), (*name).to_owned()))
        .collect();
    // witx has as many.
    assert_eq!(functions.len(), 46);
    functions.extend(of_world(
        "wit",
        "wasi:cli/command",
        preview2::INTERFACES,
        "",
    ));
    let version = format!("@{}", preview3::VERSION);
    functions.extend(of_world(
        "wit-0.3",
        "enarx:wasi/command",
        preview3::INTERFACES,
        &version,
    ));
    functions
}

/// The functions of a world of the WIT in this folder, whose interfaces in the linker must be `linked`. The table names
/// these with the version.
fn of_world(folder: &str, world: &str, linked: &[&str], version: &str) -> Functions {
    let mut functions = Functions::new();
    let mut wit = Resolve::default();
    let (package, _) = wit
        .push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .unwrap();
    let world = wit.select_world(&[package], Some(world)).unwrap();
    let mut interfaces = BTreeSet::new();
    for import in wit.worlds[world].imports.values() {
        let WorldItem::Interface { id, .. } = import else {
            continue;
        };
        let name = wit.id_of(*id).unwrap();
        let name = name.split_once('@').map_or(name.as_str(), |(name, _)| name);
        interfaces.insert(name.to_owned());
        let named = format!("{name}{version}");
        let interface = &wit.interfaces[*id];
        for function in interface.functions.keys() {
            functions.insert((named.clone(), function.clone()));
        }
        for (resource, id) in &interface.types {
            if wit.types[*id].kind == TypeDefKind::Resource {
                functions.insert((named.clone(), format!("[resource-drop]{resource}")));
            }
        }
    }
    let linked: BTreeSet<String> = linked.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        linked, interfaces,
        "the linker, and the WIT that it is made from"
    );
    functions
}

/// Returns the functions that the table names, without those of HTTP, which are `keep/http`'s.
fn covered() -> Functions {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/conformance/COVERAGE.md");
    let functions = enarx_documents::covered(&fs::read_to_string(path).unwrap());
    let others = functions
        .into_iter()
        .filter(|(interface, _)| !interface.starts_with("wasi:http/"));
    others.collect()
}

#[test]
fn the_conformance_programs_cover_what_the_linker_offers() {
    let (offered, covered) = (offered(), covered());
    let missing: Vec<_> = offered.difference(&covered).collect();
    assert!(missing.is_empty(), "not covered: {missing:?}");
    let strange: Vec<_> = covered.difference(&offered).collect();
    assert!(strange.is_empty(), "not offered: {strange:?}");
}
