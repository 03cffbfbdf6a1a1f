// SPDX-License-Identifier: Apache-2.0

//! The source files of a folder, for tests that read code as text.

use std::path::{Path, PathBuf};

/// The Rust files below `folder`, ordered by path, except those in folders named in `without` and in
/// `target`.
///
/// # Panics
/// If a folder cannot be read, or if there is no such file.
pub fn sources(folder: &Path, without: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("our folders are readable") {
            let path = entry.expect("our folders are readable").path();
            let name = path.file_name().and_then(|name| name.to_str());
            if path.is_dir() {
                if name.is_some_and(|name| name != "target" && !without.contains(&name)) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {}", folder.display());
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sources_except_excluded_ones_are_found() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let names = |folder: &Path, without: &[&str]| -> Vec<PathBuf> {
            let found = sources(folder, without);
            found
                .iter()
                .map(|path| path.strip_prefix(folder).unwrap().to_owned())
                .collect()
        };
        let all = ["src/lib.rs", "src/sources.rs"].map(PathBuf::from);
        assert_eq!(names(own, &[]), all);
        let testing = own.parent().unwrap();
        let harness = |without: &[&str]| {
            names(testing, without)
                .iter()
                .any(|path| path.starts_with("harness"))
        };
        assert!(harness(&[]) && !harness(&["harness"]));
    }

    #[test]
    #[should_panic(expected = "no sources in")]
    fn a_folder_without_sources_is_an_error() {
        sources(Path::new(env!("CARGO_MANIFEST_DIR")), &["src"]);
    }
}
