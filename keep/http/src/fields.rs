// SPDX-License-Identifier: Apache-2.0

//! Headers and trailers as a component sees them.

use std::sync::Arc;

use enarx_wasi::budget::{Allowance, Full, Holding};
use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TRANSFER_ENCODING, UPGRADE,
};
use wasmtime::component::ResourceTableError;

/// Most bytes of the fields that a component creates, as in Wasmtime's own `wasi:http`.
pub const FIELDS_MAX: usize = 128 * 1024;

/// Bytes that are counted for a field in addition to its name and value (RFC 9113, section 10.5.1).
const FIELD: usize = 32;

/// Memory that is counted for a field in addition to its name and value, in bytes: its entry in the map, which
/// doubles when it grows, and the allocator's overhead for three pieces.
const FIELD_MEMORY: usize = 320;

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
    /// There is no memory for them.
    Full(Full),
    /// The component ends.
    Trap(wasmtime::Error),
}

impl From<ResourceTableError> for FieldError {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<Full> for FieldError {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

type Result<T> = std::result::Result<T, FieldError>;

/// True for a connection-specific field: components neither see nor set it, as in Wasmtime's own `wasi:http`.
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
#[derive(Clone, Debug)]
pub struct Fields {
    counted: Arc<Counted>,
    /// The memory for what the component adds; `None` if it may change nothing.
    allowance: Option<Allowance>,
}

/// Fields, which are shared as long as nobody changes them.
#[derive(Debug, Default)]
struct Counted {
    map: HeaderMap,
    /// Bytes that they are counted as.
    size: usize,
    /// Their memory; `None` if that is counted with the message of a peer, or if there are none.
    memory: Option<Holding>,
}

/// Fields as they are sent, and their memory.
#[derive(Debug)]
pub struct Owned {
    /// The fields.
    pub map: HeaderMap,
    /// Their memory.
    pub memory: Holding,
}

/// Memory that fields are counted as, in bytes.
fn memory_of(map: &HeaderMap, size: usize) -> u64 {
    (map.len().saturating_mul(FIELD_MEMORY)).saturating_add(size) as u64
}

impl Fields {
    /// None yet, to be added by the component, in memory of this allowance.
    pub fn new(allowance: &Allowance) -> Self {
        Self {
            counted: Arc::default(),
            allowance: Some(allowance.clone()),
        }
    }

    /// Fields that a peer has sent, without those that are about the connection. Their memory is that of the message, and
    /// ends with it.
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
        let memory = None;
        let map = seen;
        Self {
            counted: Arc::new(Counted { map, size, memory }),
            allowance: None,
        }
    }

    /// The same of a message that the component may keep for longer than it takes to come in.
    ///
    /// # Errors
    /// [`Full`].
    pub fn kept(map: &HeaderMap, allowance: &Allowance) -> std::result::Result<Self, Full> {
        let mut fields = Self::received(map);
        if let Some(own) = Arc::get_mut(&mut fields.counted) {
            own.memory = Some(allowance.take(memory_of(&own.map, own.size))?);
        }
        Ok(fields)
    }

    /// A copy that the component may change, in memory of this allowance.
    #[must_use]
    pub fn copy(&self, allowance: &Allowance) -> Self {
        Self {
            counted: Arc::clone(&self.counted),
            allowance: Some(allowance.clone()),
        }
    }

    /// The same, which the component may not change any more.
    #[must_use]
    pub fn fixed(mut self) -> Self {
        self.allowance = None;
        self
    }

    /// The fields as they are sent, in the memory of their message.
    pub fn into_map(self) -> HeaderMap {
        match Arc::try_unwrap(self.counted) {
            Ok(own) => own.map,
            Err(shared) => shared.map.clone(),
        }
    }

    /// The fields as they are sent, in memory of this allowance.
    ///
    /// # Errors
    /// [`Full`].
    pub fn owned(self, allowance: &Allowance) -> std::result::Result<Owned, Full> {
        let memory = memory_of(&self.counted.map, self.counted.size);
        let (map, memory) = match Arc::try_unwrap(self.counted) {
            Ok(Counted {
                map,
                memory: Some(memory),
                ..
            }) => (map, memory),
            Ok(own) => (own.map, allowance.take(memory)?),
            Err(shared) => {
                let memory = allowance.take(memory)?;
                (shared.map.clone(), memory)
            }
        };
        Ok(Owned { map, memory })
    }

    /// The length of the body, if the fields say it.
    pub fn content_length(&self) -> Option<u64> {
        self.counted.map.get(CONTENT_LENGTH).and_then(length)
    }

    fn counted(name: &HeaderName, value: &HeaderValue) -> usize {
        name.as_str().len() + value.len() + FIELD
    }

    fn check_mutable(&self) -> Result<()> {
        match self.allowance {
            Some(_) => Ok(()),
            None => Err(FieldError::Immutable),
        }
    }

    /// The fields for a change, and their memory: a copy of those that others have, too, or that a peer has sent.
    fn own(&mut self) -> Result<(&mut Counted, &Allowance)> {
        let allowance = self.allowance.as_ref().ok_or(FieldError::Immutable)?;
        if Arc::get_mut(&mut self.counted).is_none() {
            let Counted { map, size, .. } = &*self.counted;
            let memory = Some(allowance.take(memory_of(map, *size))?);
            let (map, size) = (map.clone(), *size);
            self.counted = Arc::new(Counted { map, size, memory });
        }
        let own = Arc::get_mut(&mut self.counted).ok_or(FieldError::Immutable)?;
        Ok((own, allowance))
    }

    /// The values of a name.
    pub fn get(&self, name: &str) -> Vec<Vec<u8>> {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            return Vec::new();
        };
        let values = self.counted.map.get_all(name);
        values
            .iter()
            .map(|value| value.as_bytes().to_vec())
            .collect()
    }

    /// True if there is such a name.
    pub fn has(&self, name: &str) -> bool {
        HeaderName::from_bytes(name.as_bytes())
            .is_ok_and(|name| self.counted.map.contains_key(name))
    }

    /// All names and values.
    pub fn entries(&self) -> Vec<(String, Vec<u8>)> {
        let entries = self.counted.map.iter();
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
        self.remove(&name)?;
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
        self.remove(&name)
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
        if name == CONTENT_LENGTH && self.counted.map.contains_key(&name) {
            return Err(FieldError::InvalidSyntax);
        }
        self.insert(name, value)
    }

    fn remove(&mut self, name: &HeaderName) -> Result<()> {
        let (own, _) = self.own()?;
        let values = own.map.get_all(name);
        let size: usize = values.iter().map(|value| Self::counted(name, value)).sum();
        own.map.remove(name);
        own.size = own.size.saturating_sub(size);
        let memory = memory_of(&own.map, own.size);
        if let Some(held) = &mut own.memory {
            held.resize(memory)?;
        }
        Ok(())
    }

    fn insert(&mut self, name: HeaderName, value: HeaderValue) -> Result<()> {
        let (own, allowance) = self.own()?;
        let more = Self::counted(&name, &value);
        let size = own.size.saturating_add(more);
        if size > FIELDS_MAX {
            return Err(FieldError::TooLarge);
        }
        let more = more.saturating_add(FIELD_MEMORY) as u64;
        match &mut own.memory {
            Some(memory) => memory.grow(more)?,
            none => {
                // Those of a peer are counted from now on.
                let all = memory_of(&own.map, own.size).saturating_add(more);
                *none = Some(allowance.take(all)?);
            }
        }
        // A field that could not be added stays counted, because these fields are no longer used.
        own.map
            .try_append(name, value)
            .map_err(|_| FieldError::TooLarge)?;
        own.size = size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enarx_wasi::budget::Budget;

    /// Memory for everything that is tried here.
    fn plenty() -> Allowance {
        let bytes = FIELDS_MAX as u64 * 8;
        Allowance::new(&Budget::new(bytes), bytes)
    }

    #[test]
    fn fields_about_the_connection_are_neither_seen_nor_set() {
        let mut map = HeaderMap::new();
        for name in ["host", "connection", "transfer-encoding", "x-mine"] {
            map.append(name, HeaderValue::from_static("value"));
        }
        let received = Fields::received(&map);
        assert_eq!(
            received.entries(),
            [("x-mine".to_owned(), b"value".to_vec())]
        );
        let mut fields = Fields::new(&plenty());
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
        received.copy(&plenty()).append("x", b"1").unwrap();
    }

    #[test]
    fn there_is_one_content_length_and_it_is_a_number() {
        let mut fields = Fields::new(&plenty());
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
        let mut fields = Fields::new(&plenty());
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
    fn the_size_of_fields_is_bounded_and_given_back() {
        let mut fields = Fields::new(&plenty());
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

    #[test]
    fn the_memory_of_fields_counts_against_an_allowance() {
        const ONE: u64 = 1 + 400 + (FIELD + FIELD_MEMORY) as u64;
        let budget = Budget::new(3 * ONE);
        let allowance = Allowance::new(&budget, 2 * ONE);
        let value = [b'x'; 400];
        let mut first = Fields::new(&allowance);
        first.append("a", &value).unwrap();
        let mut second = Fields::new(&allowance);
        second.append("a", &value).unwrap();
        let full = |result: Result<()>| matches!(result, Err(FieldError::Full(_)));
        assert!(full(second.append("b", &value)));
        // A copy takes nothing until it is changed.
        let mut copy = second.copy(&allowance);
        assert_eq!(copy.get("a").concat(), value);
        assert!(full(copy.append("b", b"1")));
        // As it is sent, it takes its own.
        assert!(second.clone().owned(&allowance).is_err());
        first.delete("a").unwrap();
        let sent = second.clone().owned(&allowance).unwrap();
        assert_eq!(sent.map.len(), 1);
        assert!(full(copy.append("b", b"1")));
        drop((first, sent));
        copy.append("b", b"1").unwrap_err();
        copy.delete("a").unwrap();
        copy.append("b", b"1").unwrap();
        assert!(!second.has("b") && copy.has("b"));
        // Fields that a peer has sent are not the component's, as long as that does not change or keep them.
        let mut map = HeaderMap::new();
        map.append("a", HeaderValue::from_static("value"));
        let received = Fields::received(&map);
        drop((second, copy));
        assert!(allowance.take(2 * ONE).is_ok());
        let kept = Fields::kept(&map, &allowance).unwrap();
        assert!(allowance.take(2 * ONE).is_err());
        drop((received, kept));
        assert!(allowance.take(2 * ONE).is_ok() && budget.take(3 * ONE));
    }
}
