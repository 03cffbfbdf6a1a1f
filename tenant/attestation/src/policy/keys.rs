// SPDX-License-Identifier: Apache-2.0

//! The keys of a policy as its schema lists them.

use super::rules::Policy;
use serde_json::Value;

/// In the name of every key, or of the value, that gives protection away.
pub(super) const INSECURE: &str = "insecure";

/// A key of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its name with its tables, by dots; `<product>` stands for the name of a product.
    pub path: String,
    /// Its meaning, one line.
    pub meaning: String,
}

/// Every key that a policy can have, in the order of the schema; tables are not among them.
pub fn keys() -> Vec<Key> {
    let root = Policy::json_schema();
    let mut keys = Vec::new();
    collect(&root, &root, "", &mut keys);
    keys
}

fn collect(schema: &Value, root: &Value, path: &str, keys: &mut Vec<Key>) {
    for (name, property) in properties(schema, root) {
        let path = joined(path, name);
        let inner = resolve(property, root);
        if is_table(inner) {
            collect(inner, root, &path, keys);
        } else if let Some(each) = inner.get("additionalProperties").filter(|e| e.is_object()) {
            collect(each, root, &joined(&path, "<product>"), keys);
        } else {
            let meaning = meaning(property);
            keys.push(Key { path, meaning });
        }
    }
}

/// Follows a reference.
pub(super) fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let pointer = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|r| r.strip_prefix('#'));
    match pointer.and_then(|p| root.pointer(p)) {
        Some(target) => target,
        None => schema,
    }
}

/// The keys of a table, by its schema.
pub(super) fn properties<'a>(
    schema: &'a Value,
    root: &'a Value,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let properties = resolve(schema, root).get("properties");
    let properties = properties.and_then(Value::as_object).into_iter().flatten();
    properties.map(|(name, property)| (name.as_str(), property))
}

/// True for the schema of a table with keys of its own.
pub(super) fn is_table(schema: &Value) -> bool {
    schema.get("properties").is_some()
}

/// The sentence that explains a key; empty if there is none.
pub(super) fn meaning(property: &Value) -> String {
    let text = property.get("description").and_then(Value::as_str);
    text.unwrap_or_default().replace('\n', " ")
}

/// The path of a key within a table, by dots.
pub(super) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
