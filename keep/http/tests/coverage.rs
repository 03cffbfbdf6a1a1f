// SPDX-License-Identifier: Apache-2.0

//! Every offered function of `wasi:http` 0.3 is called by the conformance programs: their table, which a test of the command
//! compares with their calls in every kind of Keep, names exactly the functions of the linker.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use enarx_http::preview3::INTERFACES;
use wit_parser::{Resolve, TypeDefKind, WorldItem};

type Functions = BTreeSet<(String, String)>;

/// Names of interfaces and functions of the WIT; the linker must have these interfaces.
fn offered() -> Functions {
    let mut functions = Functions::new();
    let mut interfaces = BTreeSet::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wit = Resolve::default();
    wit.push_dir(folder.join("../wasi/wit-0.3")).unwrap();
    let (package, _) = wit.push_dir(folder.join("wit-0.3")).unwrap();
    let world = wit
        .select_world(&[package], Some("enarx:http/service"))
        .unwrap();
    for import in wit.worlds[world].imports.values() {
        let WorldItem::Interface { id, .. } = import else {
            continue;
        };
        let name = wit.id_of(*id).unwrap();
        if !name.starts_with("wasi:http/") {
            continue;
        }
        interfaces.extend(name.split_once('@').map(|(name, _)| name.to_owned()));
        let interface = &wit.interfaces[*id];
        for function in interface.functions.keys() {
            functions.insert((name.clone(), function.clone()));
        }
        for (resource, id) in &interface.types {
            if wit.types[*id].kind == TypeDefKind::Resource {
                functions.insert((name.clone(), format!("[resource-drop]{resource}")));
            }
        }
    }
    let linked: BTreeSet<String> = INTERFACES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(linked, interfaces, "the linker, and the WIT");
    functions
}

/// Returns the functions that the table names.
fn covered() -> Functions {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/conformance/COVERAGE.md");
    let functions = enarx_documents::covered(&fs::read_to_string(path).unwrap());
    let of_http = functions
        .into_iter()
        .filter(|(interface, _)| interface.starts_with("wasi:http/"));
    of_http.collect()
}

#[test]
fn the_conformance_programs_cover_what_the_linker_offers() {
    let (offered, covered) = (offered(), covered());
    assert_eq!(offered.len(), 40, "the WIT of 0.3.0 has as many");
    let missing: Vec<_> = offered.difference(&covered).collect();
    assert!(missing.is_empty(), "not covered: {missing:?}");
    let strange: Vec<_> = covered.difference(&offered).collect();
    assert!(strange.is_empty(), "not offered: {strange:?}");
}
