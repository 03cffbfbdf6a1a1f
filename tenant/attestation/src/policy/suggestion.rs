// SPDX-License-Identifier: Apache-2.0

//! The key that was meant where a policy file has one that does not exist.

use super::keys::{Key, keys, properties, resolve};
use super::rules::Policy;

/// The known key that is most similar to this one: of the same table, unless another table has a key with
/// exactly that name.
pub(super) fn nearest(path: &str, name: &str) -> Option<String> {
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
        .min_by_key(|known| strsim::levenshtein(known, name))
}
