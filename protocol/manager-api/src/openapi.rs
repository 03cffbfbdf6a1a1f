// SPDX-License-Identifier: Apache-2.0

//! The interface as an OpenAPI 3.1 document, made from the types and from [`ROUTES`], by which the server is tested.

use crate::{
    Collateral, KeepAnswer, KeepInfo, KeepList, NewKeep, Offer, PROBLEM_JSON, Problem, path,
};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// A method of a path.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method, in capitals.
    pub method: &'static str,
    /// The path, one of [`crate::path`].
    pub path: &'static str,
    /// True if it asks for a token.
    pub token: bool,
    /// Its use, in one line.
    pub summary: &'static str,
    /// The schema of its request, by name.
    pub request: Option<&'static str>,
    /// Names of parameters in the query.
    pub query: &'static [&'static str],
    /// Answers, but for problems.
    pub answers: &'static [Answer],
}

/// An answer that is no problem.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Its meaning.
    pub meaning: &'static str,
    /// Its body.
    pub body: Body,
}

/// The body of an answer.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// JSON with the schema of this name.
    Json(&'static str),
    /// JSON of any form.
    AnyJson,
    /// Text of this media type.
    Text(&'static str),
    /// None.
    Empty,
}

const fn answer(status: u16, meaning: &'static str, body: Body) -> Answer {
    Answer {
        status,
        meaning,
        body,
    }
}

const fn get(
    path: &'static str,
    token: bool,
    summary: &'static str,
    answers: &'static [Answer],
) -> Route {
    Route {
        method: "GET",
        path,
        token,
        summary,
        request: None,
        query: &[],
        answers,
    }
}

/// Media type of [`path::METRICS`].
pub const METRICS_TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Media type of other text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// All routes of the server.
pub const ROUTES: &[Route] = &[
    get(
        path::OFFER,
        true,
        "The host's description of itself",
        &[answer(200, "the offer", Body::Json("Offer"))],
    ),
    get(
        path::COLLATERAL,
        true,
        "The vendor's certificates and revocation lists for a chip at a TCB version",
        &[
            answer(200, "the collateral", Body::Json("Collateral")),
            answer(304, "the one that If-None-Match names", Body::Empty),
        ],
    ),
    Route {
        method: "POST",
        path: path::KEEPS,
        token: true,
        summary: "Launch the Keep of a contract, claim one that is ready, or find it",
        request: Some("NewKeep"),
        query: &[],
        answers: &[
            answer(201, "the new Keep", Body::Json("KeepAnswer")),
            answer(200, "the existing Keep", Body::Json("KeepAnswer")),
        ],
    },
    get(
        path::KEEPS,
        true,
        "The Keeps of the token",
        &[answer(200, "the Keeps", Body::Json("KeepList"))],
    ),
    Route {
        query: &["wait"],
        ..get(
            path::KEEP,
            true,
            "A Keep, at once or when it has reached a state",
            &[answer(200, "the Keep", Body::Json("KeepInfo"))],
        )
    },
    Route {
        method: "DELETE",
        query: &["grace"],
        ..get(
            path::KEEP,
            true,
            "End a Keep after a grace in seconds",
            &[answer(
                202,
                "the Keep ends or has ended",
                Body::Json("KeepInfo"),
            )],
        )
    },
    get(
        path::SESSION,
        true,
        "The bytes of an attested session, by Upgrade",
        &[answer(101, "bytes from here on", Body::Empty)],
    ),
    get(
        path::LOG,
        true,
        "The last messages of the Keep process",
        &[answer(200, "the log", Body::Text(TEXT))],
    ),
    get(
        path::HEALTHZ,
        false,
        "Is the manager alive?",
        &[answer(200, "yes", Body::Text(TEXT))],
    ),
    get(
        path::READYZ,
        false,
        "Does the manager take contracts?",
        &[answer(200, "yes", Body::Text(TEXT))],
    ),
    get(
        path::METRICS,
        true,
        "Metrics of all tenants, for the token named `metrics`",
        &[answer(200, "the figures", Body::Text(METRICS_TEXT))],
    ),
    get(
        path::OPENAPI,
        false,
        "This document",
        &[answer(200, "the document", Body::AnyJson)],
    ),
];

/// The document.
#[must_use]
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    add::<Offer>(&mut generator);
    add::<NewKeep>(&mut generator);
    add::<KeepAnswer>(&mut generator);
    add::<KeepInfo>(&mut generator);
    add::<KeepList>(&mut generator);
    add::<Collateral>(&mut generator);
    add::<Problem>(&mut generator);
    let mut schemas = Value::Object(generator.take_definitions(true));
    plain_descriptions(&mut schemas);

    let mut paths = Map::new();
    for route in ROUTES {
        let methods = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Value::Object(methods) = methods {
            methods.insert(route.method.to_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Enarx manager of Keeps",
            "version": format!("{}.0.0", crate::VERSION),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn add<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

fn operation(route: &Route) -> Value {
    let mut responses: Map<String, Value> = route
        .answers
        .iter()
        .map(|answer| (answer.status.to_string(), response(answer)))
        .collect();
    let problem = json!({
        "description": "a problem",
        "content": { PROBLEM_JSON: { "schema": reference("Problem") } },
    });
    responses.insert("default".into(), problem);
    let in_path = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| parameter("path", name));
    let in_query = route.query.iter().map(|name| parameter("query", name));
    let mut operation = json!({
        "summary": route.summary,
        "security": if route.token { json!([{ "token": [] }]) } else { json!([]) },
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": responses,
    });
    if let (Some(request), Value::Object(fields)) = (route.request, &mut operation) {
        let content = json!({ "application/json": { "schema": reference(request) } });
        let body = json!({ "required": true, "content": content });
        fields.insert("requestBody".into(), body);
    }
    operation
}

fn parameter(place: &str, name: &str) -> Value {
    let hex = |bytes: usize| json!({ "type": "string", "pattern": format!("^[0-9a-f]{{{}}}$", 2 * bytes) });
    let schema = match name {
        "id" => hex(16),
        "chip" => hex(64),
        "tcb" => hex(8),
        "wait" => reference("KeepState"),
        _ => {
            json!({ "type": "integer", "minimum": 0, "maximum": crate::limit::GRACE_SECONDS })
        }
    };
    json!({ "name": name, "in": place, "required": place == "path", "schema": schema })
}

fn response(answer: &Answer) -> Value {
    let content = match answer.body {
        Body::Json(name) => json!({ "application/json": { "schema": reference(name) } }),
        Body::AnyJson => json!({ "application/json": {} }),
        Body::Text(media) => json!({ media: { "schema": { "type": "string" } } }),
        Body::Empty => return json!({ "description": answer.meaning }),
    };
    json!({ "description": answer.meaning, "content": content })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Takes the links of Rust's documentation out of all descriptions.
fn plain_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`");
            }
            fields.values_mut().for_each(plain_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(plain_descriptions),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClassOffer, KeepState, Limits, PlatformOffer, Ready};
    use enarx_contract::canonical::{Base64, Hex, Name};
    use enarx_contract::{Backend, Directory, Doors, PublicKey, Tee};
    use std::collections::BTreeSet;

    /// Compares the fields of a value with those of its schema, all the way down.
    fn compare(document: &Value, schema: &Value, value: &Value, place: &str) {
        if let Some(Value::String(reference)) = schema.get("$ref") {
            let pointer = reference.strip_prefix('#').unwrap();
            let schema = document.pointer(pointer).expect(reference);
            return compare(document, schema, value, place);
        }
        if let Some(Value::Array(any)) = schema.get("anyOf") {
            let some = any.iter().find(|schema| schema["type"] != "null").unwrap();
            return compare(document, some, value, place);
        }
        match value {
            Value::Object(fields) => {
                let properties = schema["properties"].as_object().expect(place);
                let own: BTreeSet<_> = fields.keys().collect();
                assert_eq!(own, properties.keys().collect(), "{place}");
                for (name, field) in fields {
                    compare(
                        document,
                        &properties[name],
                        field,
                        &format!("{place}.{name}"),
                    );
                }
            }
            Value::Array(items) => {
                assert!(!items.is_empty(), "{place} has no example");
                for item in items {
                    compare(document, &schema["items"], item, place);
                }
            }
            Value::String(_) => {
                let kinds = schema["type"].to_string() + &schema.to_string();
                assert!(
                    kinds.contains("string") || kinds.contains("const"),
                    "{place}: {schema}"
                );
            }
            Value::Bool(_) => assert_eq!(schema["type"], "boolean", "{place}"),
            Value::Number(_) => {
                assert!(
                    schema["type"].to_string().contains("integer"),
                    "{place}: {schema}"
                );
            }
            Value::Null => panic!("{place} has no example"),
        }
    }

    #[test]
    fn schemas_have_the_fields_that_the_types_write() {
        let name = Name::new("a").unwrap();
        let keep = KeepInfo {
            id: Hex([1; 16]),
            contract: Hex([2; 32]),
            state: KeepState::Ended,
            reason: Some("deleted".into()),
            code: Some(1),
            created: 1,
            ended: Some(2),
        };
        let offer = Offer {
            version: 1,
            key: PublicKey::from_coordinates(&[1; 32], &[2; 32]),
            name: name.clone(),
            platforms: vec![PlatformOffer {
                tee: Tee::Snp,
                backend: Backend::Snp,
                product: Some(name),
                guest_policy: Some(Hex([0; 8])),
                chip_id: Some(Hex([0; 64])),
                tcb: Some(Hex([0; 8])),
                simulated_root: Some(Hex([0; 32])),
            }],
            limits: Limits {
                vcpus: 1,
                memory: 1,
                keeps: 1,
                runtime_seconds_max: 1,
                detached_seconds_max: 1,
            },
            doors: Doors {
                listen: vec!["443/tcp".parse().expect("a rule")],
                connect: vec!["10.0.0.0/8:1".parse().expect("a rule")],
                resolve: vec!["*.a".parse().expect("a rule")],
                directories: vec![Directory {
                    name: "/a".into(),
                    read_only: true,
                }],
            },
            classes: vec![ClassOffer {
                name: Name::cleaned("a"),
                vcpus: 1,
                memory: 1,
                warm: 1,
            }],
            ready: vec![Ready {
                contract: Base64(vec![1]),
                host_signature: Hex([0; 64]),
                class: Name::cleaned("a"),
            }],
        };
        let new = NewKeep {
            contract: Base64(vec![1]),
            tenant_signature: Hex([0; 64]),
            tenant_key: Some(PublicKey::from_coordinates(&[1; 32], &[2; 32])),
        };
        let collateral = Collateral {
            vek: Base64(vec![1]),
            ask: Base64(vec![1]),
            ark: Base64(vec![1]),
            crls: vec![Base64(vec![1])],
        };
        let problem = Problem {
            title: "t".into(),
            status: 400,
            detail: "d".into(),
            code: "c".into(),
            expected: Some("e".into()),
            actual: Some("a".into()),
            fix: Some("f".into()),
        };
        let answer = KeepAnswer {
            keep: keep.clone(),
            host_signature: Hex([0; 64]),
            commit_us: Some(1),
        };
        let list = KeepList {
            keeps: vec![keep.clone()],
            more: true,
        };
        let document = openapi();
        for (name, value) in [
            ("Offer", serde_json::to_value(offer)),
            ("NewKeep", serde_json::to_value(new)),
            ("KeepAnswer", serde_json::to_value(answer)),
            ("KeepInfo", serde_json::to_value(keep)),
            ("KeepList", serde_json::to_value(list)),
            ("Collateral", serde_json::to_value(collateral)),
            ("Problem", serde_json::to_value(problem)),
        ] {
            compare(&document, &reference(name), &value.unwrap(), name);
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(document: &Value, value: &Value) -> usize {
            match value {
                Value::Object(fields) => {
                    let own = match fields.get("$ref") {
                        Some(Value::String(reference)) => {
                            let pointer = reference.strip_prefix('#').unwrap();
                            assert!(document.pointer(pointer).is_some(), "{reference}");
                            1
                        }
                        _ => 0,
                    };
                    own + fields
                        .values()
                        .map(|value| check(document, value))
                        .sum::<usize>()
                }
                Value::Array(items) => items.iter().map(|value| check(document, value)).sum(),
                _ => 0,
            }
        }
        let document = openapi();
        assert!(check(&document, &document) > 20);
        assert!(!document.to_string().contains("[`"));
    }

    #[test]
    fn every_path_has_its_routes_once() {
        let mut seen = BTreeSet::new();
        for route in ROUTES {
            assert!(seen.insert((route.method, route.path)), "{route:?}");
            let pointer = format!(
                "/paths/{}/{}",
                route.path.replace('/', "~1"),
                route.method.to_lowercase()
            );
            let document = openapi();
            let operation = document.pointer(&pointer).expect(&pointer);
            assert_eq!(operation["summary"], route.summary);
        }
    }
}
