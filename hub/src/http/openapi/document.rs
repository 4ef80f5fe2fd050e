//! The document: OpenAPI 3.1, made from the descriptions of all routes.

use std::collections::BTreeMap;

use actix_web::http::Method;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::operation::{Answer, Operation};
use super::routes::Described;
use super::shapes::{codes, error, error_name, error_of};
use crate::auth::is_open;
use crate::error::{Dialect, ErrorKind};

/// Where schemas refer to each other.
const SCHEMAS: &str = "/components/schemas";

/// Errors of every route.
const ALWAYS: &[ErrorKind] = &[ErrorKind::LongPath, ErrorKind::LargeHead, ErrorKind::Internal];

/// Errors of every route that needs a token.
const WITH_TOKEN: &[ErrorKind] = &[ErrorKind::Unauthorized, ErrorKind::Busy, ErrorKind::HubBusy];

/// A status at which a backend's own body is never passed on: these are answered before a backend is asked.
const NEVER_PASSED: &[u16] = &[401, 414, 431];

const ABOUT: &str = "A hub that lends LLMs: the APIs of OpenAI, Anthropic and Ollama for callers, `/api/v1` for management, and the \
                     routes of registrars, which publish LLMs. Each `GET` also answers `HEAD`; a method that is not listed is 405 \
                     with `Allow`. All paths below `/v1` also work without `/v1`, with two of it and below `/openai`.";

/// The document's text.
pub(super) fn text(routes: &[Described]) -> String {
    let mut document = Document::new();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let described = document.operation(route);
        let path = paths.entry(&*route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = described;
    }
    let mut sections: Vec<_> = routes.iter().map(|route| route.section).collect();
    sections.dedup();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "virtual-llm",
            // The version of the paths: a hub's own version is not public.
            "version": "1",
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        // Relative to the document, since a proxy may add a prefix.
        "servers": [{ "url": "." }],
        "tags": sections.iter().map(|name| json!({ "name": name })).collect::<Vec<_>>(),
        "paths": paths,
        "components": document.components(),
    })
    .to_string()
}

/// The components that the operations so far refer to.
struct Document {
    /// Schemas of what the hub reads, and of what it writes: a member that may be left out of one is always in the other.
    read: SchemaGenerator,
    written: SchemaGenerator,
    errors: BTreeMap<String, Value>,
}

impl Document {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = SCHEMAS.into();
                settings.meta_schema = None;
            })
        };
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
            errors: BTreeMap::new(),
        }
    }

    fn operation(&mut self, route: &Described) -> Value {
        let Described { section, method, path, operation } = route;
        let dialect = Dialect::of(path);
        let mut described = json!({
            "tags": [section],
            "summary": operation.summary,
            "operationId": id(method, path),
            "security": security(path, dialect),
        });
        let parameters = self.parameters(route);
        if !parameters.is_empty() {
            described["parameters"] = parameters.into();
        }
        if let Some(shape) = operation.body {
            let schema = shape(&mut self.read);
            described["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        }
        let mut responses = Map::new();
        for answer in &operation.answers {
            responses.insert(answer.status.to_string(), self.answer(operation, answer));
        }
        responses.extend(self.errors(route, dialect));
        described["responses"] = responses.into();
        described
    }

    fn parameters(&mut self, route: &Described) -> Vec<Value> {
        let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let in_path = in_path.map(|name| {
            let schema = json!({ "type": "string", "minLength": 1 });
            json!({ "in": "path", "name": name, "required": true, "schema": schema })
        });
        let mut parameters: Vec<_> = in_path.collect();
        for parameter in &route.operation.parameters {
            parameters.push(json!({
                "in": parameter.place,
                "name": parameter.name,
                "description": parameter.description,
                "required": parameter.required,
                "schema": (parameter.shape)(&mut self.read),
            }));
        }
        parameters
    }

    fn answer(&mut self, operation: &Operation, answer: &Answer) -> Value {
        let description = match answer.status {
            101 => "The connection is a WebSocket from now on.",
            201 => "Created.",
            202 => "Accepted.",
            204 => "Done.",
            _ => "Success.",
        };
        let mut described =
            json!({ "description": description, "headers": { "x-request-id": header("RequestId") } });
        for (name, description) in &operation.headers {
            described["headers"][*name] =
                json!({ "description": description, "schema": { "type": "string" } });
        }
        for (media, shape) in &answer.content {
            described["content"][&**media] = match shape {
                Some(shape) => json!({ "schema": shape(&mut self.written) }),
                // A schema of one event is for a later version of the format.
                None => json!({}),
            };
        }
        described
    }

    /// The error answers of a route, by status.
    fn errors(&mut self, route: &Described, dialect: Dialect) -> Vec<(String, Value)> {
        let mut by_status: BTreeMap<u16, Vec<ErrorKind>> = BTreeMap::new();
        let with_token = if is_open(&route.path) { &[] } else { WITH_TOKEN };
        for kind in [ALWAYS, with_token, &route.operation.errors].concat() {
            let kinds = by_status.entry(kind.status()).or_default();
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        let Operation { passes_errors: passes, in_both_dialects, .. } = route.operation;
        let dialects = if in_both_dialects { &[Dialect::OpenAi, Dialect::Anthropic][..] } else { &[dialect] };
        let mut responses: Vec<_> = by_status
            .into_iter()
            .map(|(status, kinds)| {
                let passes = passes && !NEVER_PASSED.contains(&status);
                (status.to_string(), self.error(dialects, status, &kinds, passes))
            })
            .collect();
        if passes {
            for range in ["4XX", "5XX"] {
                responses.push((range.to_owned(), json!({ "$ref": "#/components/responses/Backend" })));
            }
        }
        responses
    }

    /// A reference to the answer with one of `kinds`, which is added if it is new.
    fn error(&mut self, dialects: &[Dialect], status: u16, kinds: &[ErrorKind], passes: bool) -> Value {
        let name = dialects.iter().map(|dialect| error_name(*dialect)).collect::<Vec<_>>().join("-or-");
        let backend = if passes { "-or-backend" } else { "" };
        let name = format!("{name}-{status}-{}{backend}", codes(kinds).join("-"));
        self.errors.entry(name.clone()).or_insert_with(|| error_answer(dialects, status, kinds, passes));
        json!({ "$ref": format!("#/components/responses/{name}") })
    }

    fn components(mut self) -> Value {
        let mut schemas = self.read.take_definitions(true);
        schemas.extend(self.written.take_definitions(true));
        for dialect in [Dialect::Api, Dialect::OpenAi, Dialect::Anthropic] {
            schemas.insert(error_name(dialect).to_owned(), error(dialect));
        }
        let mut responses: Map<_, _> = self.errors.into_iter().collect();
        responses.insert(
            "Backend".to_owned(),
            json!({ "description": "The backend's own error, with its status and body.",
                "content": { "application/json": { "schema": { "type": "object" } } } }),
        );
        let key = |name: &str| json!({ "type": "apiKey", "in": "header", "name": name });
        json!({
            "schemas": schemas,
            "responses": responses,
            "headers": {
                "RequestId": required(&json!({ "type": "string" }), "The call's id."),
                "RetryAfter": required(&json!({ "type": "integer", "minimum": 0 }), "Seconds to wait."),
                "Challenge": required(&json!({ "type": "string" }), "The scheme `Bearer`."),
                "Encodings": required(&json!({ "type": "string" }), "The encodings that a body may have."),
                "Upgrade": required(&json!({ "type": "string" }), "The protocol to ask for."),
            },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "xApiKey": key("x-api-key"),
                "apiKey": key("api-key"),
            },
        })
    }
}

fn error_answer(dialects: &[Dialect], status: u16, kinds: &[ErrorKind], passes: bool) -> Value {
    let meanings: Vec<_> = kinds.iter().map(|kind| kind.meaning()).collect();
    let mut headers = json!({ "x-request-id": header("RequestId") });
    match status {
        401 => headers["www-authenticate"] = header("Challenge"),
        415 => headers["accept-encoding"] = header("Encodings"),
        426 => headers["upgrade"] = header("Upgrade"),
        429 | 503 => headers["retry-after"] = header("RetryAfter"),
        _ => (),
    }
    let mut schemas: Vec<_> = dialects.iter().map(|dialect| error_of(*dialect, kinds)).collect();
    if passes {
        schemas.push(json!({ "type": "object" }));
    }
    let schema = if let [schema] = &schemas[..] { schema.clone() } else { json!({ "anyOf": schemas }) };
    json!({
        "description": meanings.join(" "),
        "headers": headers,
        "content": { "application/json": { "schema": schema } },
    })
}

fn header(name: &str) -> Value {
    json!({ "$ref": format!("#/components/headers/{name}") })
}

fn required(schema: &Value, description: &str) -> Value {
    json!({ "required": true, "description": description, "schema": schema })
}

/// How a path is authenticated: one of the schemes, or nothing.
fn security(path: &str, dialect: Dialect) -> Value {
    if is_open(path) {
        return json!([]);
    }
    if dialect == Dialect::Api {
        return json!([{ "bearer": [] }]);
    }
    json!([{ "bearer": [] }, { "xApiKey": [] }, { "apiKey": [] }])
}

/// A name for generated clients, such as `get_api_v1_llms_name`.
fn id(method: &Method, path: &str) -> String {
    let parts = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let method = method.as_str().to_lowercase();
    std::iter::once(method.as_str()).chain(parts).collect::<Vec<_>>().join("_")
}

/// The name of each schema that is both read and written, and its two forms.
#[cfg(test)]
pub(super) fn shared_schemas(routes: &[Described]) -> Vec<(String, Value, Value)> {
    let mut document = Document::new();
    for route in routes {
        document.operation(route);
    }
    let (read, mut written) = (document.read.take_definitions(true), document.written.take_definitions(true));
    let both = read.into_iter().filter_map(|(name, read)| {
        let written = written.remove(&name)?;
        Some((name, read, written))
    });
    both.collect()
}
