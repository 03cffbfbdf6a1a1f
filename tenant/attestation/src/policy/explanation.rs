// SPDX-License-Identifier: Apache-2.0

//! A policy with the meaning of every key.

use super::keys::{is_table, joined, meaning, properties, resolve};
use super::rules::Policy;
use serde_json::Value;
use std::fmt::Write;

impl Policy {
    /// This policy as TOML with the meaning of every key, also of those that are not set.
    pub fn explained(&self) -> String {
        let root = Self::json_schema();
        let mut text = String::new();
        explain(&root, &root, "", &self.table(), &mut text);
        text
    }
}

/// Writes one table: keys first, then the tables in it.
fn explain(schema: &Value, root: &Value, path: &str, values: &toml::Table, text: &mut String) {
    let mut inner_tables = Vec::new();
    for (name, property) in properties(schema, root) {
        let inner = resolve(property, root);
        let products = inner.get("additionalProperties").filter(|e| e.is_object());
        if is_table(inner) || products.is_some() {
            inner_tables.push((name, property, inner, products));
            continue;
        }
        for line in wrapped(&meaning(property)) {
            push(text, format_args!("# {line}"));
        }
        match values.get(name) {
            Some(value) => push(text, format_args!("{name} = {value}\n")),
            None => push(text, format_args!("# {name} is not set\n")),
        }
    }
    for (name, property, inner, products) in inner_tables {
        let path = joined(path, name);
        for line in wrapped(&meaning(property)) {
            push(text, format_args!("# {line}"));
        }
        let table = values.get(name).and_then(toml::Value::as_table);
        let table = table.cloned().unwrap_or_default();
        let Some(floor) = products else {
            push(text, format_args!("[{path}]"));
            explain(inner, root, &path, &table, text);
            continue;
        };
        if table.is_empty() {
            push(
                text,
                format_args!("# [{path}.<product>] is not set; its keys:"),
            );
            for (name, property) in properties(floor, root) {
                push(text, format_args!("#   {name}: {}", meaning(property)));
            }
            push(text, format_args!(""));
        }
        for (product, values) in &table {
            let path = joined(&path, product);
            push(text, format_args!("[{path}]"));
            let values = values.as_table().cloned().unwrap_or_default();
            explain(floor, root, &path, &values, text);
        }
    }
}

/// Characters of the longest line of a comment.
const COLUMNS: usize = 110;

/// A text in lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}
