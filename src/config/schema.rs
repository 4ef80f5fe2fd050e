//! The JSON schema of the configuration (draft 7, which every editor supports), made from the table of keys.
//!
//! Unknown keys in objects of this program are errors here and only warnings in the reader, since an editor marks errors
//! only. A test compares schema and reader over many configurations.

use serde_json::{Map, Value, json};

use super::{
    keys::{AGENT, AVAILABILITY, Key, MAX_SECONDS, MAX_TOKENS, PROVIDER, RECIPE, TOP, ValueType},
    server_types,
};

/// Identifier of the schema; nothing is fetched from it.
const ID: &str = "virtual-llm/config.schema.json";

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

fn properties(keys: &[Key]) -> Map<String, Value> {
    keys.iter().map(|key| (key.name.to_owned(), describe(value(&key.value), key.about))).collect()
}

/// Schema of an object without other keys.
fn object(required: &[&str], keys: &[Key]) -> Value {
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties(keys) })
}

fn value(value_type: &ValueType) -> Value {
    let mut schema = match value_type {
        ValueType::Text | ValueType::TextOr(_) => json!({ "type": "string", "minLength": 1 }),
        ValueType::ServerType => {
            json!({ "type": "string", "minLength": 1, "examples": server_types::names() })
        }
        ValueType::AnyText => json!({ "type": "string" }),
        ValueType::Flag | ValueType::Known => json!({ "type": "boolean" }),
        ValueType::Tokens => json!({ "type": "integer", "minimum": 1, "maximum": MAX_TOKENS }),
        ValueType::Count { least, .. } => json!({ "type": "integer", "minimum": least }),
        ValueType::Port(_) => json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
        ValueType::Rate => json!({ "type": "number", "exclusiveMinimum": 0 }),
        ValueType::Seconds(_) => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS }),
        ValueType::OneOf { words, .. } => json!({ "enum": words }),
        ValueType::Url => json!({ "type": "string", "pattern": r"^\s*[Hh][Tt][Tt][Pp][Ss]?://" }),
        ValueType::Pointer => json!({ "type": "string", "pattern": "^(/|$)" }),
        ValueType::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        ValueType::TextMap => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        ValueType::Object => json!({ "type": "object" }),
        ValueType::Any => json!({}),
        ValueType::ListOf(name) => json!({ "type": "array", "items": { "$ref": definition(name) } }),
        ValueType::Definition(name) => json!({ "allOf": [{ "$ref": definition(name) }] }),
        ValueType::Recipe(types) => json!({
            "allOf": [{ "$ref": definition("recipe") }, { "properties": { "type": { "enum": types } } }],
        }),
        ValueType::Keys(keys) => object(&[], keys),
        ValueType::SharedKeys(keys) => json!({ "type": "object", "properties": properties(keys) }),
    };
    if let Some(default) = default(value_type) {
        schema["default"] = default;
    }
    schema
}

/// Default of a key.
pub(super) fn default(value_type: &ValueType) -> Option<Value> {
    match value_type {
        ValueType::TextOr(text) => Some(json!(text)),
        ValueType::Flag => Some(json!(false)),
        ValueType::Count { default, .. } => default.map(|count| json!(count)),
        ValueType::Port(port) => Some(json!(port)),
        ValueType::Seconds(default) => default.map(|seconds| json!(seconds.as_secs())),
        ValueType::OneOf { words: [first, ..], has_default: true } => Some(json!(first)),
        _ => None,
    }
}

fn definition(name: &str) -> String {
    format!("#/definitions/{name}")
}

/// Schema of a provider. With `publish`, `name`, `type` and `model` are required; without it they are not read.
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
