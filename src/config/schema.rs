//! The configuration as a JSON schema, for editors: completion, a word on each key, a mark under a misspelt one.
//!
//! Not derived from a type: the reader takes the file apart by hand, to say of a mistake where it is and what was
//! expected, and types that only a schema is made from would be a second truth as well. What keeps this one true is its
//! test: it has the reader's keys, no other, and of many configurations both say the same.
//!
//! Draft 7, which every editor knows. Stricter than the reader in one thing: inside of what is ours an unknown key is an
//! error, since an editor has no other mark for a slip of the finger.

use actors::ProviderConfig;
use serde_json::{Map, Value, json};

use super::recipe;

/// Where the newest version of it can be had. An id, not an address: nothing is fetched.
const ID: &str = "virtual-llm/config.schema.json";

/// The whole schema.
pub(crate) fn schema() -> Value {
    let providers = json!({ "type": "array", "items": { "$ref": "#/definitions/provider" },
        "description": "The LLMs of this machine." });
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": ID,
        "title": "Configuration of virtual-llm (~/.mcpctl/config.json)",
        "type": "object",
        "properties": {
            "$schema": text("Where this schema is, for an editor."),
            "publisher": {
                "type": "object", "additionalProperties": false,
                "description": "How this machine appears at the hub.",
                "properties": {
                    "suffix": { "type": "string", "description": "Appended, with a dash, to every name without a publishName; \"auto\" is the host name." },
                },
            },
            "llm": {
                "type": "object",
                "description": "Shared with mcpctl, whose other keys are left alone.",
                "properties": { "providers": providers },
            },
            "providers": providers,
            "agents": { "type": "array", "items": { "$ref": "#/definitions/agent" },
                "description": "LLMs with a system prompt and default parameters." },
        },
        "definitions": {
            "provider": provider(),
            "recipe": recipe(),
            "availability": availability(),
            "agent": agent(),
        },
    })
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "description": about })
}

fn flag(about: &str, default: bool) -> Value {
    json!({ "type": "boolean", "default": default, "description": about })
}

fn whole(about: &str, least: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "description": about })
}

fn words(about: &str, words: &[&str]) -> Value {
    json!({ "enum": words, "description": about })
}

/// More than none, at most a year.
fn seconds(about: &str, default: Option<f64>) -> Value {
    let mut schema =
        json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 31_536_000, "description": about });
    if let Some(default) = default {
        schema["default"] = json!(default);
    }
    schema
}

fn url(about: &str) -> Value {
    json!({ "type": "string", "pattern": "^\\s*[Hh][Tt][Tt][Pp][Ss]?://", "description": about })
}

fn with_default(mut schema: Value, default: impl Into<Value>) -> Value {
    schema["default"] = default.into();
    schema
}

/// An object with these keys and no other.
fn object(required: &[&str], properties: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        properties.iter().map(|(key, schema)| ((*key).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
}

/// With `publish`, a name, a type and a model must be there; without it nobody reads the rest.
fn provider() -> Value {
    let mut schema = object(
        &[],
        &[
            ("name", text("Its name here, and at the hub where there is no publishName.")),
            ("publishName", text("Its name at the hub.")),
            (
                "type",
                json!({
                    "type": "string", "minLength": 1,
                    "examples": ["openai", "vllm", "llamacpp", "lmstudio", "ollama", "anthropic", "mock"],
                    "description": "What the backend is. openai is any OpenAI-compatible server and needs a url; the others have a usual one; anthropic is translated both ways; mock is built in.",
                }),
            ),
            ("model", text("What callers get, whatever model they name.")),
            ("url", url("The server, with or without /v1.")),
            ("apiKey", text("The server's key.")),
            ("apiKeyEnv", text("The variable that holds the server's key.")),
            ("tier", words("For choosing.", &["fast", "heavy"])),
            ("description", json!({ "type": "string", "description": "For choosing." })),
            ("publish", flag("Whether it is offered.", false)),
            (
                "poolName",
                text(
                    "LLMs with the same poolName share the work. The owner of another user's pool has to let it in.",
                ),
            ),
            (
                "visibility",
                with_default(
                    words(
                        "Who sees and uses it: its owner, or everybody with a token.",
                        &["private", "public"],
                    ),
                    "private",
                ),
            ),
            (
                "maxConcurrency",
                with_default(whole("Inferences at a time.", 1), ProviderConfig::MAX_CONCURRENCY),
            ),
            (
                "maxQueue",
                with_default(
                    whole("How many may wait before the next gets a 429.", 0),
                    ProviderConfig::MAX_QUEUE,
                ),
            ),
            (
                "timeoutSeconds",
                seconds(
                    "Longest silence of the backend, before or between tokens.",
                    Some(ProviderConfig::TIMEOUT.as_secs_f64()),
                ),
            ),
            ("allowModelOverride", flag("Let a caller's model through.", false)),
            (
                "allowRemoteUrls",
                flag(
                    "Let other users' requests make the server fetch addresses, run tools and keep answers.",
                    false,
                ),
            ),
            (
                "onAbort",
                with_default(
                    words(
                        "When a caller leaves: close the backend's request, or let the backend finish.",
                        &["close", "drain"],
                    ),
                    "close",
                ),
            ),
            ("wake", action("Run when somebody asks and the backend is away.", &["http", "command", "wol"])),
            ("sleep", action("Run after idleSeconds without a task. Needs wake.", &["http", "command"])),
            ("availability", json!({ "$ref": "#/definitions/availability" })),
            ("tokens", whole("mock: how many words it answers with.", 1)),
            (
                "tokensPerSecond",
                json!({ "type": "number", "exclusiveMinimum": 0, "description": "mock: how fast." }),
            ),
            ("failEvery", whole("mock: every n-th request fails.", 1)),
            ("panicEvery", whole("mock: every n-th request panics.", 1)),
        ],
    );
    schema["dependencies"] = json!({ "sleep": ["wake"] });
    let published = |kind: Value| json!({ "properties": { "publish": { "const": true }, "type": kind }, "required": ["publish"] });
    schema["allOf"] = json!([
        { "if": published(json!(true)), "then": { "required": ["name", "type"] } },
        { "if": published(json!({ "const": "openai" })), "then": { "required": ["url"] } },
        { "if": published(json!({ "not": { "const": "mock" } })), "then": { "required": ["model"] } },
    ]);
    schema
}

/// A recipe of one of these kinds.
fn action(about: &str, kinds: &[&str]) -> Value {
    json!({
        "description": about,
        "allOf": [
            { "$ref": "#/definitions/recipe" },
            { "properties": { "type": { "enum": kinds } } },
        ],
    })
}

fn recipe() -> Value {
    let mut schema = object(
        &["type"],
        &[
            ("type", words("An HTTP call, a command, a Wake-on-LAN packet.", &["http", "command", "wol"])),
            ("url", url("http: what to call; any 2xx is success.")),
            ("method", with_default(text("http."), "POST")),
            (
                "headers",
                json!({ "type": "object", "additionalProperties": { "type": "string" }, "description": "http." }),
            ),
            ("body", json!({ "description": "http: a text, or an object that is sent as JSON." })),
            ("command", text("command: a program. No shell runs it; its output is thrown away.")),
            ("args", json!({ "type": "array", "items": { "type": "string" }, "description": "command." })),
            ("mac", text("wol: such as aa:bb:cc:dd:ee:ff.")),
            ("broadcast", with_default(text("wol: an IP address."), "255.255.255.255")),
            (
                "port",
                json!({ "type": "integer", "minimum": 1, "maximum": 65535, "default": recipe::WAKE_ON_LAN_PORT, "description": "wol." }),
            ),
            (
                "maxWaitSeconds",
                seconds(
                    "How long it may take until the backend is there.",
                    Some(recipe::MAX_WAIT.as_secs_f64()),
                ),
            ),
            ("idleSeconds", seconds("sleep: run after that long without a task.", None)),
        ],
    );
    let needs = |kind: &str, keys: &[&str]| json!({ "if": { "properties": { "type": { "const": kind } } }, "then": { "required": keys } });
    schema["allOf"] =
        json!([needs("http", &["url"]), needs("command", &["command"]), needs("wol", &["mac"])]);
    schema
}

fn availability() -> Value {
    let mut schema = object(
        &["url", "jsonPointer", "equals"],
        &[
            ("url", url("What to ask.")),
            (
                "jsonPointer",
                json!({ "type": "string", "pattern": "^(/|$)", "description": "Where in the answer (RFC 6901); empty for all of it." }),
            ),
            ("equals", json!({ "description": "The value that means available." })),
        ],
    );
    schema["description"] =
        json!("How to see whether the backend is awake, where GET /models does not tell.");
    schema
}

fn agent() -> Value {
    let mut schema = object(
        &[],
        &[
            ("name", text("Its name here, and at the hub where there is no publishName.")),
            ("publishName", text("Its name at the hub.")),
            ("llm", text("The LLM it speaks through: a provider's name, or one at the hub.")),
            ("description", json!({ "type": "string", "description": "What it is for." })),
            ("systemPrompt", json!({ "type": "string", "description": "Put before every conversation." })),
            ("project", json!({ "type": "string", "description": "Passed on to the hub." })),
            (
                "defaultParams",
                json!({ "type": "object", "description": "Of the chat request, where the caller names none." }),
            ),
            ("extras", json!({ "type": "object", "description": "Passed on to the hub." })),
            ("visibility", with_default(words("Who sees and uses it.", &["private", "public"]), "private")),
            ("publish", flag("Whether it is offered.", false)),
        ],
    );
    schema["allOf"] = json!([{
        "if": { "properties": { "publish": { "const": true } }, "required": ["publish"] },
        "then": { "required": ["name", "llm"] },
    }]);
    schema
}

#[cfg(test)]
mod tests;
