//! `/api/version`, `/api/tags`, `/api/ps` and `/api/show`: the names that calls may have, as clients of Ollama read them.
//!
//! Clients require members that the hub cannot know: sizes are 0, and the digest is that of the name.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use schemars::{JsonSchema, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use wire::Capabilities;
use wire::row::{Status, Timestamp};

use super::{tagged, untagged};
use crate::error::{ApiError, ErrorKind};
use crate::http::body;
use crate::http::list::{ok_json, pages};
use crate::http::models::{Model, Offers, Walk, called_model};
use crate::http::openapi::shapes::any_object;
use crate::http::openapi::{Routes, Shape, about, shape};
use crate::hub::HubData;
use crate::model::Caller;
use crate::random;

/// The version of Ollama whose API this is. Clients refuse older ones: it is the first that has `/v1/messages` and
/// `/v1/responses` beside its own API, as the hub has.
const VERSION: &str = r#"{"version":"0.14.0"}"#;
/// The format, family and architecture of each model. Clients look for the context length under the architecture's name.
const ARCHITECTURE: &str = "virtual-llm";
/// When a model is unloaded: in the year 2300. Ollama has such a time for a model that stays.
const FOREVER: Timestamp = Timestamp(10_413_792_000_000);

pub(super) fn register(routes: &mut Routes<'_>) {
    let version_shape: Shape = |_| {
        json_schema!({
            "type": "object",
            "required": ["version"],
            "properties": { "version": { "type": "string" } },
        })
    };
    routes
        .get(
            "/api/version",
            version,
            about("The version of Ollama whose API this is").returns(200, version_shape),
        )
        .get(
            "/api/tags",
            tags,
            about("The names that a request's `model` may have, for Ollama's clients")
                .returns(200, shape::<TagList>),
        )
        .get(
            "/api/ps",
            running,
            about("The models that are awake, for Ollama's clients").returns(200, shape::<TagList>),
        )
        .post(
            "/api/show",
            show,
            about("A model, for Ollama's clients")
                .takes(shape::<ShowRequest>)
                .returns(200, any_object)
                .refuses(&[ErrorKind::ModelNotFound]),
        );
}

async fn version() -> HttpResponse {
    ok_json(VERSION)
}

/// The models of a caller.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "`list` writes it a page at a time")]
struct TagList {
    models: Vec<Tag>,
}

/// A model in a list.
#[derive(Serialize, JsonSchema)]
struct Tag {
    name: String,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified_at: Option<Timestamp>,
    size: u64,
    digest: String,
    details: Details,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_vram: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
struct Details {
    parent_model: &'static str,
    format: &'static str,
    family: &'static str,
    families: [&'static str; 1],
    parameter_size: &'static str,
    quantization_level: &'static str,
}

const DETAILS: Details = Details {
    parent_model: "",
    format: ARCHITECTURE,
    family: ARCHITECTURE,
    families: [ARCHITECTURE],
    parameter_size: "",
    quantization_level: "",
};

impl Tag {
    fn of(name: String) -> Self {
        Self {
            model: name.clone(),
            modified_at: None,
            size: 0,
            digest: digest(&name),
            details: DETAILS,
            expires_at: None,
            size_vram: None,
            context_length: None,
            name,
        }
    }
}

/// 64 hexadecimal digits, as clients expect.
fn digest(name: &str) -> String {
    random::hex(&Sha256::digest(name))
}

async fn tags(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    list(&hub, &caller, |model, name| Some(Tag { modified_at: Some(modified(model)), ..Tag::of(name) }))
}

/// The models that are awake, which Ollama calls running.
async fn running(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    list(&hub, &caller, |model, name| {
        let tag = Tag {
            expires_at: Some(FOREVER),
            size_vram: Some(0),
            context_length: Some(model.context_length.unwrap_or(0)),
            ..Tag::of(name)
        };
        (model.status == Status::Active).then_some(tag)
    })
}

/// Answers with what `tag` makes of each model and its name with a tag.
fn list(
    hub: &HubData,
    caller: &Caller,
    tag: impl Fn(&Model, String) -> Option<Tag> + 'static,
) -> Result<HttpResponse, ApiError> {
    let mut walk = Walk::default();
    pages(hub, caller, (r#"{"models":["#, "]}"), move |hub, caller, page| {
        let registry = hub.registry.lock();
        let models = walk.page(&registry, caller);
        let tags = models.iter().filter_map(|model| tag(model, tagged(&registry, caller, &model.id)));
        let mut tags: Vec<_> = tags.collect();
        drop(registry);
        // A list of one page is sorted.
        if walk.is_over() {
            tags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        for tag in &tags {
            page.push(tag);
        }
        !walk.is_over()
    })
}

fn modified(model: &Model) -> Timestamp {
    Timestamp(model.created.saturating_mul(1000))
}

/// Of `model` and `name`, its older spelling, the first that is not empty counts. `verbose`, `system`, `template` and
/// `options` change nothing.
#[derive(Deserialize, JsonSchema)]
struct ShowRequest {
    model: Option<String>,
    name: Option<String>,
}

async fn show(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let ShowRequest { model, name } = body::json(&req, payload).await?;
    let name = model.into_iter().chain(name).find(|name| !name.is_empty());
    let name = name.ok_or_else(|| ApiError::bad_request("model is required"))?;
    let found = {
        let registry = hub.registry.lock();
        let plain = untagged(&registry, &caller, &name);
        called_model(&registry, &caller, plain, &mut Offers::default())
    };
    let model = found.ok_or_else(|| ApiError::model_not_found(&name))?;
    Ok(HttpResponse::Ok().json(shown(&model, &name)))
}

fn shown(model: &Model, name: &str) -> Value {
    let mut info = Map::new();
    info.insert("general.architecture".into(), ARCHITECTURE.into());
    info.insert("general.basename".into(), model.id.clone().into());
    if let Some(length) = model.context_length {
        info.insert(format!("{ARCHITECTURE}.context_length"), length.into());
    }
    json!({
        "license": "",
        "modelfile": format!("FROM {name}\n"),
        "parameters": "",
        "template": "{{ .Prompt }}",
        "details": DETAILS,
        "model_info": info,
        "capabilities": capabilities(model.capabilities),
        "modified_at": modified(model),
    })
}

/// The known capabilities in Ollama's words. A model that is not known to embed texts completes them.
fn capabilities(known: Capabilities) -> Vec<&'static str> {
    let embeds = known.embeddings == Some(true);
    let words = [
        ("embedding", embeds),
        ("completion", !embeds),
        ("tools", known.tools == Some(true)),
        ("vision", known.vision == Some(true)),
        ("thinking", known.reasoning == Some(true)),
    ];
    words.into_iter().filter(|(_, has)| *has).map(|(word, _)| word).collect()
}
