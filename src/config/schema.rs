//! The configuration as a JSON schema (draft 7, which every editor knows), made from the table of keys: for completion, a
//! description of each key, and a mark under a misspelled one.
//!
//! It is stricter than the reader in one thing: an unknown key in an object of ours is an error, since an editor has no
//! other mark for it. A test compares both over many configurations.

use serde_json::{Map, Value, json};

use super::keys::{AGENT, AVAILABILITY, Key, MAX_SECONDS, PROVIDER, RECIPE, Shape, TOP};

/// The schema's id; nothing is fetched from it.
const ID: &str = "virtual-llm/config.schema.json";

/// The whole schema.
pub(crate) fn schema() -> Value {
    let mut top = properties(TOP);
    top.insert(
        "$schema".to_owned(),
        describe(json!({ "type": "string", "minLength": 1 }), "the path of this schema"),
    );
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": ID,
        "title": "Configuration of virtual-llm (~/.mcpctl/config.json)",
        "type": "object",
        "properties": top,
        "definitions": { "provider": provider(), "recipe": recipe(), "availability": availability(), "agent": agent() },
    })
}

fn describe(mut schema: Value, about: &str) -> Value {
    schema["description"] = about.into();
    schema
}

/// A schema for each key.
fn properties(keys: &[Key]) -> Map<String, Value> {
    keys.iter().map(|key| (key.name.to_owned(), describe(value(&key.value), key.about))).collect()
}

/// An object with these keys and no other.
fn object(required: &[&str], keys: &[Key]) -> Value {
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties(keys) })
}

/// The values of one key, with its default.
fn value(shape: &Shape) -> Value {
    let mut schema = match shape {
        Shape::Text | Shape::TextOr(_) => json!({ "type": "string", "minLength": 1 }),
        Shape::TextLike(examples) => json!({ "type": "string", "minLength": 1, "examples": examples }),
        Shape::AnyText => json!({ "type": "string" }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Count { least, .. } => json!({ "type": "integer", "minimum": least }),
        Shape::Port(_) => json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
        Shape::Rate => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Shape::Seconds(_) => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS }),
        Shape::OneOf { words, .. } => json!({ "enum": words }),
        Shape::Url => json!({ "type": "string", "pattern": r"^\s*[Hh][Tt][Tt][Pp][Ss]?://" }),
        Shape::Pointer => json!({ "type": "string", "pattern": "^(/|$)" }),
        Shape::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Shape::TextMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::Object => json!({ "type": "object" }),
        Shape::Any => json!({}),
        Shape::ListOf(name) => json!({ "type": "array", "items": { "$ref": definition(name) } }),
        Shape::Definition(name) => json!({ "allOf": [{ "$ref": definition(name) }] }),
        Shape::Recipe(types) => json!({
            "allOf": [{ "$ref": definition("recipe") }, { "properties": { "type": { "enum": types } } }],
        }),
        Shape::Keys(keys) => object(&[], keys),
        Shape::SharedKeys(keys) => json!({ "type": "object", "properties": properties(keys) }),
    };
    if let Some(default) = default(shape) {
        schema["default"] = default;
    }
    schema
}

/// What a key stands for where the file does not have it.
pub(super) fn default(shape: &Shape) -> Option<Value> {
    match shape {
        Shape::TextOr(text) => Some(json!(text)),
        Shape::Flag => Some(json!(false)),
        Shape::Count { default, .. } => default.map(|count| json!(count)),
        Shape::Port(port) => Some(json!(port)),
        Shape::Seconds(default) => default.map(|seconds| json!(seconds.as_secs())),
        Shape::OneOf { words: [first, ..], has_default: true } => Some(json!(first)),
        _ => None,
    }
}

fn definition(name: &str) -> String {
    format!("#/definitions/{name}")
}

/// With `publish`, a name, a type and a model are required; without it the rest is not read.
fn provider() -> Value {
    let mut schema = object(&[], PROVIDER);
    schema["dependencies"] = json!({ "sleep": ["wake"] });
    let published = |kind: Value| json!({ "properties": { "publish": { "const": true }, "type": kind }, "required": ["publish"] });
    schema["allOf"] = json!([
        { "if": published(json!(true)), "then": { "required": ["name", "type"] } },
        { "if": published(json!({ "const": "openai" })), "then": { "required": ["url"] } },
        { "if": published(json!({ "not": { "const": "mock" } })), "then": { "required": ["model"] } },
    ]);
    schema
}

fn recipe() -> Value {
    let mut schema = object(&["type"], RECIPE);
    let needs = |kind: &str, key: &str| json!({ "if": { "properties": { "type": { "const": kind } } }, "then": { "required": [key] } });
    schema["allOf"] = json!([needs("http", "url"), needs("command", "command"), needs("wol", "mac")]);
    schema
}

fn availability() -> Value {
    object(&["url", "jsonPointer", "equals"], AVAILABILITY)
}

fn agent() -> Value {
    let mut schema = object(&[], AGENT);
    schema["allOf"] = json!([{
        "if": { "properties": { "publish": { "const": true } }, "required": ["publish"] },
        "then": { "required": ["name", "llm"] },
    }]);
    schema
}

#[cfg(test)]
mod tests;
