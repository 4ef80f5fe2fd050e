//! Schemas without a Rust type: errors, bodies that are passed on, and constant answers.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::error::{Dialect, ErrorKind};

/// The name of the schema of a dialect's errors.
pub(super) fn error_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Api | Dialect::Ollama => "ApiError",
        Dialect::OpenAi => "OpenAiError",
        Dialect::Anthropic => "AnthropicError",
    }
}

/// The schema of a dialect's errors.
pub(super) fn error(dialect: Dialect) -> Value {
    let text = json!({ "type": "string" });
    let code = json!({ "type": "string", "enum": codes(ErrorKind::ALL) });
    match dialect {
        Dialect::Api | Dialect::Ollama => object(&json!({ "error": text, "code": code })),
        Dialect::OpenAi => object(&json!({ "error": object(&json!({
            "message": text, "type": text, "param": { "type": ["string", "null"] }, "code": code,
        })) })),
        Dialect::Anthropic => object(&json!({
            "type": { "const": "error" },
            "error": object(&json!({ "type": text, "message": text, "code": code })),
        })),
    }
}

/// The schema of a dialect's errors of some kinds.
pub(super) fn error_of(dialect: Dialect, kinds: &[ErrorKind]) -> Value {
    let code = json!({ "properties": { "code": { "enum": codes(kinds) } } });
    let code = match dialect {
        Dialect::Api | Dialect::Ollama => code,
        Dialect::OpenAi | Dialect::Anthropic => json!({ "properties": { "error": code } }),
    };
    let name = error_name(dialect);
    json!({ "allOf": [{ "$ref": format!("#/components/schemas/{name}") }, code] })
}

/// The codes of `kinds`, each once.
pub(super) fn codes(kinds: &[ErrorKind]) -> Vec<&'static str> {
    let mut codes: Vec<_> = kinds.iter().map(|kind| kind.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// An object with `properties`, all of them required.
fn object(properties: &Value) -> Value {
    let required: Vec<_> = properties.as_object().into_iter().flat_map(|members| members.keys()).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

/// Any JSON object: the answer of a backend, as it came.
pub(in crate::http) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// One of two types.
pub(in crate::http) fn either<A: JsonSchema, B: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [schemas.subschema_for::<A>(), schemas.subschema_for::<B>()] })
}

/// `{"ok":true}`, for the routes of registrars.
pub(in crate::http) fn ok(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["ok"],
        "properties": { "ok": { "const": true } },
    })
}

/// A count of tokens, in the form of OpenAI's or Anthropic's API.
pub(in crate::http) fn token_count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["input_tokens"],
        "properties": { "input_tokens": { "type": "integer", "minimum": 0 } },
    })
}

/// The priority of a call.
pub(in crate::http) fn priority(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["normal", "bulk"] })
}

/// A number of seconds, at most a day.
pub(in crate::http) fn seconds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "number", "minimum": 0, "maximum": 86_400 })
}
