// SPDX-License-Identifier: Apache-2.0

//! JSON schemas of the contract's types, which have none of their own: the Keep reads these types,
//! and its image does not need schemas.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use std::borrow::Cow;

/// `N` bytes as `enarx_contract::canonical::Hex`.
pub(crate) struct HexText<const N: usize>;
/// Bytes as `enarx_contract::canonical::Base64`.
pub(crate) struct Base64Text;
/// `enarx_contract::canonical::Name`.
pub(crate) struct NameText;
/// `enarx_contract::PublicKey`.
pub(crate) struct Key;
/// `enarx_contract::Tee`.
pub(crate) struct Tee;
/// `enarx_contract::Backend`.
pub(crate) struct Backend;
/// `enarx_contract::Doors`.
pub(crate) struct Doors;

macro_rules! schema {
    ($type:ty, $name:literal, $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

impl<const N: usize> JsonSchema for HexText<N> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Hex{N}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^[0-9a-f]{{{}}}$", 2 * N) })
    }
}

schema!(
    Base64Text,
    "Base64",
    json_schema!({ "type": "string", "contentEncoding": "base64" })
);
schema!(
    NameText,
    "Name",
    json_schema!({ "type": "string", "pattern": "^[a-z0-9._+-]{1,64}$" })
);
schema!(
    Key,
    "PublicKey",
    json_schema!({
        "type": "string",
        "pattern": "^[0-9a-f]{182}$",
        "description": "SubjectPublicKeyInfo of P-256 with an uncompressed point."
    })
);
schema!(
    Tee,
    "Tee",
    json_schema!({ "type": "string", "enum": ["snp", "simulated", "none"] })
);
schema!(
    Backend,
    "Backend",
    json_schema!({ "type": "string", "enum": ["snp", "sim", "kvm", "process"] })
);
schema!(Doors, "Doors", doors());

fn doors() -> Schema {
    let list = |item: Value| json_schema!({ "type": "array", "maxItems": 256, "items": item });
    let rule =
        |form: &str| list(json_schema!({ "type": "string", "description": form }).to_value());
    let directory = object(&[
        ("name", json_schema!({ "type": "string" })),
        ("read_only", json_schema!({ "type": "boolean" })),
    ]);
    object(&[
        (
            "listen",
            rule("As the command's --allow-listen: ADDRESS and a colon, PORTS, /tcp or /udp."),
        ),
        (
            "connect",
            rule(
                "As --allow-connect: HOST, ADDRESS or NETWORK/BITS, a colon and PORTS, /tcp or /udp.",
            ),
        ),
        (
            "resolve",
            rule("As --allow-resolve: NAME, or *.NAME for all names below it."),
        ),
        ("directories", list(directory.to_value())),
    ])
}

/// An object with exactly these fields.
fn object(fields: &[(&str, Schema)]) -> Schema {
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<String, Value> = fields
        .iter()
        .map(|(name, schema)| ((*name).to_string(), schema.clone().to_value()))
        .collect();
    json_schema!({
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": false
    })
}
