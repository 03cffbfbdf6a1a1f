//! The keys of a policy as its schema lists them: which a file may have, what each means, which give protection away,
//! and what a policy that can be used should still be warned about. The file is the tenant's own, and trusted.

use crate::attacks::{self, Attack};
use crate::policy::{Policy, PolicyError, SnpPolicy};
use serde_json::Value;
use std::fmt::Write;

/// In the name of every key, or of the value, that gives protection away.
const INSECURE: &str = "insecure";

/// Keys of earlier versions, and what to write instead.
const GONE: &[(&str, &str)] = &[
    (
        "snp.vmpl",
        "level 0 is always accepted; name further levels in snp.insecure-vmpl",
    ),
    (
        "snp.tcb",
        "floors apply to all four TCB versions; name those to leave out in snp.insecure-ignored-tcb",
    ),
    (
        "intel.tcb-statuses",
        "UpToDate is always accepted; name further statuses in intel.insecure-tcb-statuses or \
         intel.insecure-degraded-tcb-statuses",
    ),
    ("tdx.sept-ve-disable", "SEPT_VE_DISABLE is always required"),
    (
        "tdx.insecure-allow-unknown",
        "TDs with migration or reserved attributes are never accepted",
    ),
];

/// Values of earlier versions, as TOML writes them, and what to write instead.
const GONE_VALUES: &[(&str, &str, &str)] = &[
    (
        "missing.crl",
        "\"degrade\"",
        "write \"insecure-degrade\": the evidence is accepted without the fact",
    ),
    (
        "missing.attack-floor",
        "\"degrade\"",
        "write \"insecure-degrade\": the evidence is accepted without the fact",
    ),
    (
        "missing.mitigations",
        "\"degrade\"",
        "write \"insecure-degrade\": the evidence is accepted without the fact",
    ),
    (
        "snp.attacks",
        "[]",
        "badram and entrysign are asked for in any case; to go without, name them in snp.insecure-ignored-attacks",
    ),
    (
        "snp.min-report-version",
        "2",
        "set snp.insecure-allow-report-version-2",
    ),
];

/// Lists of which fewer entries ask for more, so that none is a sound choice.
const EMPTY_IS_STRICT: &[&str] = &["intel.degraded-tcb-statuses"];

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
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let pointer = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|r| r.strip_prefix('#'));
    match pointer.and_then(|p| root.pointer(p)) {
        Some(target) => target,
        None => schema,
    }
}

fn properties<'a>(
    schema: &'a Value,
    root: &'a Value,
) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let properties = resolve(schema, root).get("properties");
    let properties = properties.and_then(Value::as_object).into_iter().flatten();
    properties.map(|(name, property)| (name.as_str(), property))
}

fn is_table(schema: &Value) -> bool {
    schema.get("properties").is_some()
}

fn meaning(property: &Value) -> String {
    let text = property.get("description").and_then(Value::as_str);
    text.unwrap_or_default().replace('\n', " ")
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Checks the keys of a policy file, and that no list is empty, before types are looked at.
///
/// # Errors
///
/// [`PolicyError::UnknownKey`], [`PolicyError::Refused`] or [`PolicyError::Empty`].
pub(crate) fn check_keys(file: &toml::Value) -> Result<(), PolicyError> {
    let root = Policy::json_schema();
    check_table(file, &root, &root, "")
}

fn check_table(
    value: &toml::Value,
    schema: &Value,
    root: &Value,
    path: &str,
) -> Result<(), PolicyError> {
    let schema = resolve(schema, root);
    let Some(table) = value.as_table() else {
        return check_value(value, path);
    };
    for (key, inner) in table {
        let path = joined(path, key);
        if let Some((_, instead)) = GONE.iter().find(|(gone, _)| *gone == path) {
            return Err(PolicyError::Refused { key: path, instead });
        }
        let property = schema.get("properties").and_then(|p| p.get(key));
        let next =
            property.or_else(|| schema.get("additionalProperties").filter(|a| a.is_object()));
        let Some(next) = next else {
            let nearest = nearest(&path, key);
            return Err(PolicyError::UnknownKey { key: path, nearest });
        };
        check_table(inner, next, root, &path)?;
    }
    Ok(())
}

fn check_value(value: &toml::Value, path: &str) -> Result<(), PolicyError> {
    let text = value.to_string();
    let gone = |(key, old, _): &&(&str, &str, &str)| *key == path && *old == text;
    if let Some((_, _, instead)) = GONE_VALUES.iter().find(gone) {
        let key = format!("{path} = {text}");
        return Err(PolicyError::Refused { key, instead });
    }
    let names_nothing = value.as_array().is_some_and(Vec::is_empty);
    if names_nothing && !path.contains(INSECURE) && !EMPTY_IS_STRICT.contains(&path) {
        let key = path.to_owned();
        return Err(PolicyError::Empty { key });
    }
    Ok(())
}

/// The known key that resembles this one most: of the same table, unless one of that very name stands elsewhere.
fn nearest(path: &str, name: &str) -> Option<String> {
    let table = path.strip_suffix(name).unwrap_or_default();
    let keys = keys();
    let leaf = |key: &Key| key.path.rsplit('.').next().unwrap_or_default().to_owned();
    if let Some(key) = keys.iter().find(|key| leaf(key) == name) {
        return Some(key.path.clone());
    }
    let root = Policy::json_schema();
    let mut schema = &root;
    for part in table.split('.').filter(|part| !part.is_empty()) {
        let inner = resolve(schema, &root);
        let property = inner.get("properties").and_then(|p| p.get(part));
        schema = property.or_else(|| inner.get("additionalProperties"))?;
    }
    properties(schema, &root)
        .map(|(known, _)| known.to_owned())
        .min_by_key(|known| distance(known, name))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(x != *y))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// True if a key with this value gives protection away.
fn gives_away(name: &str, value: &toml::Value) -> bool {
    let on = match value {
        toml::Value::Boolean(on) => *on,
        toml::Value::Array(entries) => !entries.is_empty(),
        _ => true,
    };
    name.contains(INSECURE) && on || value.as_str().is_some_and(|v| v.starts_with(INSECURE))
}

impl Policy {
    /// Every switch of this policy that gives protection away, as `key = value`.
    pub fn insecure_switches(&self) -> Vec<String> {
        fn walk(table: &toml::Table, path: &str, found: &mut Vec<String>) {
            for (name, value) in table {
                let path = joined(path, name);
                match value.as_table() {
                    Some(table) => walk(table, &path, found),
                    None if gives_away(name, value) => found.push(format!("{path} = {value}")),
                    None => {}
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.table(), "", &mut found);
        found
    }

    /// Warnings about this policy, each a sentence; the switches that give protection away
    /// are apart, in [`Self::insecure_switches`].
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let Self { snp, tdx, sgx, .. } = self;
        if snp.accept && snp.pins_nothing() {
            warnings.push(
                "snp: no measurements, releases, id-key-digests or author-key-digests: any guest on a genuine chip \
                 passes"
                    .to_owned(),
            );
        }
        if tdx.accept && tdx.pins_nothing() {
            warnings.push(
                "tdx: no mrtd, rtmr0 to rtmr3: any TD on a genuine platform passes".to_owned(),
            );
        }
        if sgx.accept && sgx.pins_nothing() {
            warnings.push(
                "sgx: no mrenclave, no mrsigner: any enclave on a genuine platform passes"
                    .to_owned(),
            );
        }
        if sgx.accept
            && sgx.mrsigner.is_empty()
            && (sgx.isv_prod_id.is_some() || sgx.min_isv_svn > 0)
        {
            warnings.push(
                "sgx: isv-prod-id and min-isv-svn say nothing without mrsigner: whoever signs an enclave chooses them"
                    .to_owned(),
            );
        }
        if snp.accept {
            warnings.extend(unprotected(snp));
            warnings.extend(floors(snp));
        }
        if !(tdx.accept || sgx.accept) && self.intel != crate::policy::IntelPolicy::default() {
            warnings.push(
                "intel: this table is about quotes, and neither tdx nor sgx is accepted".to_owned(),
            );
        }
        warnings
    }

    /// This policy as TOML with the meaning of every key, also of those that are not set.
    pub fn explained(&self) -> String {
        let root = Self::json_schema();
        let mut text = String::new();
        explain(&root, &root, "", &self.table(), &mut text);
        text
    }

    fn table(&self) -> toml::Table {
        // A policy has string keys and no numbers beyond TOML's, so this cannot fail.
        toml::Table::try_from(self).unwrap_or_default()
    }
}

/// Products that are accepted although no version of anything protects them.
fn unprotected(snp: &SnpPolicy) -> impl Iterator<Item = String> {
    snp.products.iter().flat_map(|product| {
        let asked = |attack: &Attack| snp.required_attacks().any(|a| a == attack);
        attacks::unmitigated(product)
            .filter(move |attack| !asked(attack))
            .map(move |attack| format!("snp: {}", attack.exposure(product)))
    })
}

/// Products for which `snp.min-tcb` has no floor, and floors for products that are not accepted.
fn floors(snp: &SnpPolicy) -> Vec<String> {
    let mut found = Vec::new();
    if snp.min_tcb.is_empty() {
        return found;
    }
    let without = |product: &&String| !snp.min_tcb.contains_key(*product);
    for product in snp.products.iter().filter(without) {
        found.push(format!(
            "snp: {product} is among snp.products, but snp.min-tcb has no floor for it: every such report is refused"
        ));
    }
    let unused = |product: &&String| !snp.products.contains(product);
    for product in snp.min_tcb.keys().filter(unused) {
        found.push(format!(
            "snp: snp.min-tcb has a floor for {product}, which is not among snp.products"
        ));
    }
    found
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn keys_and_values_that_are_gone_are_not_those_of_the_schema() {
        let keys = keys();
        for (gone, _) in GONE {
            assert!(keys.iter().all(|key| key.path != *gone), "{gone}");
        }
        let there = |path: &str| keys.iter().any(|key| key.path == path);
        assert!(GONE_VALUES.iter().all(|(path, _, _)| there(path)));
        assert!(EMPTY_IS_STRICT.iter().all(|path| there(path)));
    }
}
