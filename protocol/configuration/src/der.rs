// SPDX-License-Identifier: Apache-2.0

//! Certificates and private keys in a configuration: DER, as base64 in JSON. That has no characters that JSON escapes, so
//! no copy of a key is made while one is decoded.

use std::fmt;

use base64ct::{Base64, Encoding};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A certificate, DER.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate(pub Vec<u8>);

/// A private key, DER: PKCS #8, PKCS #1 or SEC1. Wiped when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PrivateKey(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate of {} bytes", self.0.len())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("private key")
    }
}

impl Serialize for Certificate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(Base64::encode_string(&self.0)))
    }
}

/// Decodes base64.
struct Decoder;

impl Visitor<'_> for Decoder {
    type Value = Zeroizing<Vec<u8>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DER in base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        let bytes = Base64::decode_vec(text).map_err(|_| E::custom("not base64"))?;
        Ok(Zeroizing::new(bytes))
    }
}

impl<'de> Deserialize<'de> for Certificate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut bytes = deserializer.deserialize_str(Decoder)?;
        Ok(Self(std::mem::take(&mut *bytes)))
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Decoder).map(Self)
    }
}
