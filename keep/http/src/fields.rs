// SPDX-License-Identifier: Apache-2.0

//! Headers and trailers as a component sees them.

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TRANSFER_ENCODING, UPGRADE,
};
use wasmtime::component::ResourceTableError;

/// Most bytes of the fields that a component makes, as Wasmtime's own `wasi:http` has it.
pub const FIELDS_MAX: usize = 128 * 1024;

/// Bytes that a field is counted as beside its name and value (RFC 9113, section 10.5.1).
const FIELD: usize = 32;

/// Why fields were not changed.
#[derive(Debug)]
pub enum FieldError {
    /// That is no name or no value.
    InvalidSyntax,
    /// The field is about the connection.
    Forbidden,
    /// The fields are a peer's, or already given away.
    Immutable,
    /// They would be more than [`FIELDS_MAX`].
    TooLarge,
    /// The component ends.
    Trap(wasmtime::Error),
}

impl From<ResourceTableError> for FieldError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type Result<T> = std::result::Result<T, FieldError>;

/// True for a field that is about the connection: components neither see nor set it, as Wasmtime's own `wasi:http` has it.
fn is_forbidden(name: &HeaderName) -> bool {
    [
        CONNECTION,
        HOST,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TRANSFER_ENCODING,
        UPGRADE,
    ]
    .contains(name)
        || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name.as_str())
}

/// The name of a field that a component may set.
fn allowed(name: &str) -> Result<HeaderName> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| FieldError::InvalidSyntax)?;
    if is_forbidden(&name) {
        return Err(FieldError::Forbidden);
    }
    Ok(name)
}

fn value(name: &HeaderName, bytes: &[u8]) -> Result<HeaderValue> {
    let value = HeaderValue::from_bytes(bytes).map_err(|_| FieldError::InvalidSyntax)?;
    if *name == CONTENT_LENGTH && length(&value).is_none() {
        return Err(FieldError::InvalidSyntax);
    }
    Ok(value)
}

/// The length that a field `content-length` says: digits and nothing else (RFC 9110, section 8.6).
fn length(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Headers or trailers.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    map: Arc<HeaderMap>,
    /// Bytes that they are counted as.
    size: usize,
    /// True if the component may change them.
    mutable: bool,
}

impl Fields {
    /// None yet, to be added by the component.
    pub fn new() -> Self {
        Self {
            mutable: true,
            ..Self::default()
        }
    }

    /// Fields that a peer has sent, without those that are about the connection.
    pub fn received(map: &HeaderMap) -> Self {
        let mut seen = HeaderMap::with_capacity(map.keys_len());
        let mut size = 0;
        // In their order, which removing the others would change.
        for (name, value) in map {
            if !is_forbidden(name) {
                size += Self::counted(name, value);
                seen.append(name, value.clone());
            }
        }
        Self {
            map: Arc::new(seen),
            size,
            mutable: false,
        }
    }

    /// A copy that the component may change.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            mutable: true,
            ..self.clone()
        }
    }

    /// The same, which the component may not change any more.
    #[must_use]
    pub fn fixed(mut self) -> Self {
        self.mutable = false;
        self
    }

    /// The fields as they are sent.
    pub fn into_map(self) -> HeaderMap {
        Arc::unwrap_or_clone(self.map)
    }

    /// The length of the body, if the fields say it.
    pub fn content_length(&self) -> Option<u64> {
        self.map.get(CONTENT_LENGTH).and_then(length)
    }

    fn counted(name: &HeaderName, value: &HeaderValue) -> usize {
        name.as_str().len() + value.len() + FIELD
    }

    fn check_mutable(&self) -> Result<()> {
        if self.mutable {
            Ok(())
        } else {
            Err(FieldError::Immutable)
        }
    }

    /// The values of a name.
    pub fn get(&self, name: &str) -> Vec<Vec<u8>> {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Vec::new();
        };
        let values = self.map.get_all(name);
        values
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect()
    }

    /// True if there is such a name.
    pub fn has(&self, name: &str) -> bool {
        HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| self.map.contains_key(name))
    }

    /// All names and values.
    pub fn entries(&self) -> Vec<(String, Vec<u8>)> {
        let entries = self.map.iter();
        entries
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect()
    }

    /// Replaces the values of a name.
    ///
    /// # Errors
    /// `FieldError`.
    pub fn set(&mut self, name: &str, values: &[Vec<u8>]) -> Result<()> {
        let name = allowed(name)?;
        self.check_mutable()?;
        if name == CONTENT_LENGTH && values.len() > 1 {
            return Err(FieldError::InvalidSyntax);
        }
        let values = values
            .iter()
            .map(|bytes| value(&name, bytes))
            .collect::<Result<Vec<_>>>()?;
        self.remove(&name);
        for value in values {
            self.insert(name.clone(), value)?;
        }
        Ok(())
    }

    /// Removes a name.
    ///
    /// # Errors
    /// `FieldError`.
    pub fn delete(&mut self, name: &str) -> Result<()> {
        let name = allowed(name)?;
        self.check_mutable()?;
        self.remove(&name);
        Ok(())
    }

    /// Removes a name, and returns its values.
    ///
    /// # Errors
    /// `FieldError`.
    pub fn take(&mut self, name: &str) -> Result<Vec<Vec<u8>>> {
        let values = self.get(name);
        self.delete(name)?;
        Ok(values)
    }

    /// Adds a value to a name.
    ///
    /// # Errors
    /// `FieldError`.
    pub fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let name = allowed(name)?;
        self.check_mutable()?;
        let value = value(&name, bytes)?;
        // A second length is the beginning of a smuggled request.
        if name == CONTENT_LENGTH && self.map.contains_key(&name) {
            return Err(FieldError::InvalidSyntax);
        }
        self.insert(name, value)
    }

    fn remove(&mut self, name: &HeaderName) {
        let values = self.map.get_all(name);
        let size: usize = values.iter().map(|value| Self::counted(name, value)).sum();
        self.size = self.size.saturating_sub(size);
        Arc::make_mut(&mut self.map).remove(name);
    }

    fn insert(&mut self, name: HeaderName, value: HeaderValue) -> Result<()> {
        let size = self.size.saturating_add(Self::counted(&name, &value));
        if size > FIELDS_MAX {
            return Err(FieldError::TooLarge);
        }
        let map = Arc::make_mut(&mut self.map);
        map.try_append(name, value)
            .map_err(|_| FieldError::TooLarge)?;
        self.size = size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_the_connection_is_neither_seen_nor_set() {
        let mut map = HeaderMap::new();
        for name in ["host", "connection", "transfer-encoding", "x-mine"] {
            map.append(name, HeaderValue::from_static("value"));
        }
        let received = Fields::received(&map);
        assert_eq!(
            received.entries(),
            [("x-mine".to_owned(), b"value".to_vec())]
        );
        let mut fields = Fields::new();
        for name in [
            "Host",
            "connection",
            "keep-alive",
            "TRANSFER-encoding",
            "upgrade",
        ] {
            assert!(matches!(
                fields.append(name, b"1"),
                Err(FieldError::Forbidden)
            ));
        }
        assert!(matches!(
            received.clone().append("x", b"1"),
            Err(FieldError::Immutable)
        ));
        received.copy().append("x", b"1").unwrap();
    }

    #[test]
    fn there_is_one_length_and_it_is_a_number() {
        let mut fields = Fields::new();
        for wrong in [
            &b"+5"[..],
            b"-5",
            b" 5",
            b"",
            b"5,5",
            b"0x5",
            b"99999999999999999999",
        ] {
            assert!(matches!(
                fields.append("content-length", wrong),
                Err(FieldError::InvalidSyntax)
            ));
        }
        fields.append("Content-Length", b"5").unwrap();
        assert!(matches!(
            fields.append("content-length", b"5"),
            Err(FieldError::InvalidSyntax)
        ));
        assert!(matches!(
            fields.set("content-length", &[b"5".to_vec(), b"5".to_vec()]),
            Err(FieldError::InvalidSyntax)
        ));
        assert_eq!(fields.content_length(), Some(5));
    }

    #[test]
    fn names_and_values_with_line_ends_are_refused() {
        let mut fields = Fields::new();
        for (name, value) in [
            ("x\r\ny", "1"),
            ("x", "1\r\ny: 2"),
            ("x", "1\0"),
            ("", "1"),
            ("a b", "1"),
        ] {
            assert!(matches!(
                fields.append(name, value.as_bytes()),
                Err(FieldError::InvalidSyntax)
            ));
        }
    }

    #[test]
    fn their_size_is_bounded_and_given_back() {
        let mut fields = Fields::new();
        let half = vec![b'x'; FIELDS_MAX / 2];
        fields.append("a", &half).unwrap();
        assert!(matches!(
            fields.append("b", &half),
            Err(FieldError::TooLarge)
        ));
        assert_eq!(fields.take("a").unwrap().concat(), half);
        assert!(fields.take("a").unwrap().is_empty());
        fields.append("b", &half).unwrap();
        fields.set("b", &[half]).unwrap();
        assert!(!fields.has("a") && fields.has("B"));
    }
}
