//! Asks a server what its model can do: how long a context it serves, and what the model accepts.
//!
//! Nothing is guessed. What a model was trained for says nothing about what its server serves, so llama.cpp is asked for the
//! context of one slot, and Ollama and LM Studio for that of the loaded model.

mod read;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use wire::Abilities;
use wire::ids::encode_uri_component;
use wire::json::{MAX_VALUES, tree};

use crate::http::{Client, decode, read_body};
use crate::openai::text_of;
use crate::{HttpBackend, Secret, ServerKind};

/// Time limit of all questions to a server, as of a health check. A registration waits for the first ones.
const LIMIT: Duration = Duration::from_secs(2);
/// Maximum size of an answer in bytes: a list of a few thousand models.
const MAX_ANSWER: usize = 4 << 20;

/// What a server said of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbilityAnswer {
    /// What is known.
    pub abilities: Abilities,
    /// Whether a later answer may say more: there was none in time, or the model was not loaded.
    pub is_partial: bool,
}

impl AbilityAnswer {
    /// The answer of a server that was not reached.
    const NONE: Self = Self { abilities: Abilities::NONE, is_partial: true };

    /// The answer for a backend that cannot be asked.
    pub const UNKNOWN: Self = Self { abilities: Abilities::NONE, is_partial: false };
}

/// Asks a server with OpenAI's API. Takes at most 2 s; a failure is an answer without abilities.
///
/// Beside the list of models only the addresses of the known programs are asked: those of `kind`, or of the program that the
/// list names.
pub async fn abilities(http: &Client, backend: &HttpBackend, kind: ServerKind, model: &str) -> AbilityAnswer {
    let key = backend.api_key.as_ref();
    let headers = key.map(|key| ("authorization", Secret::new(format!("Bearer {}", key.reveal()))));
    let server = Server { http, url: backend.url.reveal(), headers: headers.into_iter().collect() };
    timeout(LIMIT, server.abilities(kind, model)).await.unwrap_or(AbilityAnswer::NONE)
}

/// Asks a server with Anthropic's API, as [`abilities`].
pub async fn anthropic_abilities(http: &Client, backend: &HttpBackend, model: &str) -> AbilityAnswer {
    let key = backend.api_key.iter().map(|key| ("x-api-key", key.clone()));
    let headers = key.chain([("anthropic-version", Secret::new(crate::anthropic::VERSION.1))]).collect();
    let server = Server { http, url: backend.url.reveal(), headers };
    let asked = server.get(format!("{}/models/{}", server.url, encode_uri_component(model)));
    match timeout(LIMIT, asked).await {
        Ok(Ok(info)) => AbilityAnswer { abilities: read::anthropic(&info), is_partial: false },
        Ok(Err(NoAnswer::Refused)) => AbilityAnswer::UNKNOWN,
        Ok(Err(NoAnswer::Unreachable)) | Err(_) => AbilityAnswer::NONE,
    }
}

struct Server<'a> {
    http: &'a Client,
    /// Base URL with `/v1`.
    url: &'a str,
    headers: Vec<(&'static str, Secret)>,
}

/// Why a question has no answer.
#[derive(Debug, PartialEq, Eq)]
enum NoAnswer {
    /// The server is away, or starting.
    Unreachable,
    /// The server does not answer this.
    Refused,
}

impl Server<'_> {
    async fn abilities(&self, kind: ServerKind, model: &str) -> AbilityAnswer {
        let list = match self.get(format!("{}/models", self.url)).await {
            Ok(list) => list,
            Err(NoAnswer::Unreachable) => return AbilityAnswer::NONE,
            Err(NoAnswer::Refused) => Value::Null,
        };
        let entry = read::entry(&list["data"], model);
        let listed = read::listed(entry);
        let kind = if kind == ServerKind::Unknown { read::kind(entry) } else { kind };
        let Some(root) = self.url.strip_suffix("/v1").filter(|_| kind != ServerKind::Unknown) else {
            return AbilityAnswer { abilities: listed, is_partial: false };
        };
        let told = match kind {
            ServerKind::LlamaCpp => {
                // A router must not load a model for this question.
                let model = encode_uri_component(model);
                let props = self.get(format!("{root}/props?model={model}&autoload=false")).await;
                props.map(|props| read::llamacpp(&props))
            }
            ServerKind::LmStudio => {
                let list = self.get(format!("{root}/api/v0/models")).await;
                list.map(|list| read::lmstudio(read::entry(&list["data"], model)))
            }
            ServerKind::Ollama => self.ollama(root, model).await,
            ServerKind::Unknown => Err(NoAnswer::Refused),
        };
        match told {
            Ok(told) => {
                let abilities = told.or(listed);
                AbilityAnswer { abilities, is_partial: abilities.context_length.is_none() }
            }
            Err(why) => AbilityAnswer { abilities: listed, is_partial: why == NoAnswer::Unreachable },
        }
    }

    async fn ollama(&self, root: &str, model: &str) -> Result<Abilities, NoAnswer> {
        let question = json!({ "model": model }).to_string();
        let show = Request::post(format!("{root}/api/show")).header(CONTENT_TYPE, "application/json");
        let show = self.send(show, question.into()).await?;
        let loaded = self.get(format!("{root}/api/ps")).await.unwrap_or_default();
        Ok(read::ollama(&show, &loaded, model))
    }

    async fn get(&self, url: String) -> Result<Value, NoAnswer> {
        self.send(Request::get(url), Bytes::new()).await
    }

    /// Sends a request, and reads the JSON of its answer.
    async fn send(&self, request: hyper::http::request::Builder, body: Bytes) -> Result<Value, NoAnswer> {
        let mut request = request.header(ACCEPT_ENCODING, "identity");
        for (name, value) in &self.headers {
            request = request.header(*name, value.reveal());
        }
        let request = request.body(body).map_err(|_| NoAnswer::Refused)?;
        let response = self.http.send(request, LIMIT).await.map_err(|_| NoAnswer::Unreachable)?;
        let (head, body) = response.into_parts();
        // Read to the end, so that the connection can be reused.
        let body = read_body(body, MAX_ANSWER, LIMIT).await;
        if head.status.is_server_error() || head.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(NoAnswer::Unreachable);
        }
        let coding = text_of(&head.headers, &CONTENT_ENCODING);
        let body = body.ok().filter(|_| head.status.is_success());
        let body = body.and_then(|body| decode(coding, &body, MAX_ANSWER).ok());
        body.and_then(|body| tree(&body, MAX_VALUES)).ok_or(NoAnswer::Refused)
    }
}
