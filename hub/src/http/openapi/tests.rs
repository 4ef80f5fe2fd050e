//! The document as a text. `tests/integration/openapi.rs` drives a hub with it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{described_routes, document};
use crate::error::{Dialect, ErrorKind};

fn document() -> Value {
    serde_json::from_str(&document::text(&described_routes())).unwrap()
}

/// Calls `visit` with `value` and everything in it.
fn walk(value: &Value, visit: &mut dyn FnMut(&Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        _ => (),
    }
}

#[test]
fn every_route_is_described_once_with_an_answer_and_a_name() {
    let (document, routes) = (document(), described_routes());
    let mut ids = BTreeSet::new();
    for route in &routes {
        let described = &document["paths"][&*route.path][route.method.as_str().to_lowercase()];
        assert!(ids.insert(described["operationId"].as_str().unwrap().to_owned()), "{described}");
        let statuses = described["responses"].as_object().unwrap();
        // 404 and 400 alone are those of paths that the hub refuses in words.
        let is_answer =
            |status: &str| matches!(status, "200" | "201" | "202" | "204" | "101" | "404" | "400");
        assert!(statuses.keys().any(|status| is_answer(status)));
    }
    assert_eq!(ids.len(), routes.len());
}

/// A generator of clients stops at a reference to nothing.
#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut count = 0;
    walk(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            count += 1;
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    });
    assert!(count > 500, "{count}");
}

/// Comments of types are read by users of the document.
#[test]
fn descriptions_name_nothing_of_the_code() {
    walk(&document(), &mut |value| {
        let description = value.get("description").and_then(Value::as_str).unwrap_or_default();
        for odd in ["[`", "`None`", "`Some", "::"] {
            assert!(!description.contains(odd), "{description}");
        }
    });
}

/// All codes of the closed list are answers of some route, but the one of callers that left and the one of other methods.
#[test]
fn every_code_is_documented_for_a_route() {
    let mut found = BTreeSet::new();
    walk(&document()["components"]["responses"], &mut |value| {
        let codes = value.get("enum").and_then(Value::as_array).into_iter().flatten();
        found.extend(codes.map(|code| code.as_str().unwrap().to_owned()));
    });
    let all = ErrorKind::ALL.iter().filter(|kind| !matches!(kind, ErrorKind::CallerLeft | ErrorKind::Method));
    let all: BTreeSet<_> = all.map(|kind| kind.code().to_owned()).collect();
    assert_eq!(found, all);
}

/// A schema that is both read and written is written once, so it must be the same.
#[test]
fn a_type_has_one_schema_for_both_directions() {
    let routes = described_routes();
    for (name, read, written) in document::shared_schemas(&routes) {
        assert_eq!(read, written, "{name}");
    }
}

#[test]
fn errors_have_the_shape_of_the_schema_of_their_dialect() {
    for dialect in [Dialect::Api, Dialect::OpenAi, Dialect::Anthropic, Dialect::Ollama] {
        let error: Value =
            serde_json::from_str(&crate::error::ApiError::new(ErrorKind::NotFound, "no").body(dialect))
                .unwrap();
        let schema = super::shapes::error(dialect);
        let mut pairs = vec![(&error, &schema)];
        while let Some((value, schema)) = pairs.pop() {
            let Some(members) = value.as_object() else { continue };
            let described = schema["properties"].as_object().unwrap();
            assert_eq!(members.keys().collect::<BTreeSet<_>>(), described.keys().collect::<BTreeSet<_>>());
            pairs.extend(members.iter().map(|(name, value)| (value, &described[name])));
        }
    }
}
