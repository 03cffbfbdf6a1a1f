// SPDX-License-Identifier: Apache-2.0

//! Documents and sources as text: tests compare the one with the other.

#![forbid(unsafe_code)]

mod sources;

use std::collections::BTreeSet;

pub use sources::sources;

/// The rows of the first table after `marker` in `text`, a document in Markdown: their cells as they are
/// written, without the head of the table.
///
/// # Panics
/// Without the marker, or if no row follows it.
pub fn table(text: &str, marker: &str) -> Vec<Vec<String>> {
    let (_, after) = text.split_once(marker).expect("the marker is there");
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
    assert!(!rows.is_empty(), "no table after {marker}");
    rows
}

/// As [`table`], with cells of plain text: without backticks.
///
/// # Panics
/// As [`table`].
pub fn plain_table(text: &str, marker: &str) -> Vec<Vec<String>> {
    let mut rows = table(text, marker);
    for cell in rows.iter_mut().flatten() {
        *cell = cell.replace('`', "");
    }
    rows
}

/// The functions that `tests/programs/conformance/COVERAGE.md` names: interface, then name. Its tables are below
/// the name of their interface.
///
/// # Panics
/// If a row is above the first of those names.
pub fn covered(text: &str) -> BTreeSet<(String, String)> {
    let mut functions = BTreeSet::new();
    let mut interface = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## `") {
            interface = name.strip_suffix('`');
        } else if let Some((function, _)) = line
            .strip_prefix("| `")
            .and_then(|row| row.split_once("` |"))
        {
            let interface = interface.expect("a row below the name of its interface");
            functions.insert((interface.to_owned(), function.to_owned()));
        }
    }
    functions
}

/// A number of a table, decimal or with `0x`.
///
/// # Panics
/// If it is not a number.
pub fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|_| panic!("no number: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "| x | y |\n<!-- t -->\ntext\n\n| a | b |\n|---|---|\n| `1` | 0x10 |\n| 2 | |\n\n| c |\n";

    #[test]
    fn the_table_after_the_marker_is_read() {
        assert_eq!(table(TEXT, "<!-- t"), [["`1`", "0x10"], ["2", ""]]);
        assert_eq!(plain_table(TEXT, "<!-- t"), [["1", "0x10"], ["2", ""]]);
        assert_eq!((number("7"), number("0x10")), (7, 16));
    }

    #[test]
    #[should_panic(expected = "no table after <!-- u")]
    fn a_marker_without_a_table_is_an_error() {
        table("<!-- u -->\n| a |\n|---|\n", "<!-- u");
    }
}
