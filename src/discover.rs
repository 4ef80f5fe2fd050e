//! Looks for backends that run on this machine.

use std::time::Duration;

use actors::{
    ProviderConfig, Secret,
    options::{BackendConfig, HttpBackend},
};
use backend::http::Client;
use backend::{ListError, http::SendError};
use futures_util::future::join_all;
use wire::WireName;

use crate::config::names;

/// Everything here is on this machine: a server that runs answers in milliseconds, one that is starting is not up.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// A kind of server and where it usually listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usual {
    /// As a person calls it.
    pub(crate) label: &'static str,
    /// Its `type` in the configuration.
    pub(crate) kind: &'static str,
    /// What the hub is told.
    pub(crate) hub_type: &'static str,
    port: u16,
}

/// Where to look (SPEC.md section 2, `up`).
const USUAL: [Usual; 4] = [
    Usual { label: "Ollama", kind: "ollama", hub_type: "ollama", port: 11_434 },
    Usual { label: "LM Studio", kind: "lmstudio", hub_type: "openai", port: 1_234 },
    Usual { label: "vLLM", kind: "vllm", hub_type: "vllm", port: 8_000 },
    Usual { label: "llama.cpp", kind: "llamacpp", hub_type: "openai", port: 8_080 },
];

/// A server at an address that somebody gave.
const GIVEN: Usual = Usual { label: "the server", kind: "openai", hub_type: "openai", port: 0 };

/// A model that a backend has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// What serves it.
    pub(crate) server: Usual,
    /// The backend's address, with `/v1`.
    pub(crate) url: String,
    /// As the backend calls it.
    pub(crate) model: String,
}

impl Found {
    /// As a provider with this name.
    pub(crate) fn provider(&self, name: WireName) -> ProviderConfig {
        let backend = HttpBackend { url: Secret::new(self.url.clone()), api_key: None };
        let mut config = ProviderConfig::new(name, &self.model, BackendConfig::OpenAi(backend));
        self.server.hub_type.clone_into(&mut config.hub_type);
        config
    }
}

/// The models of all backends at their usual places.
pub(crate) async fn usual(client: &Client) -> Vec<Found> {
    let looks = USUAL.map(|server| async move {
        let url = format!("http://127.0.0.1:{}/v1", server.port);
        let models = models(client, &url, None).await.unwrap_or_default();
        found(server, &url, models)
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// The models of the server at `url`.
pub(crate) async fn at(client: &Client, url: &str) -> Result<Vec<Found>, String> {
    let models = models(client, url, None).await.map_err(|unlisted| unlisted.why)?;
    Ok(found(GIVEN, url, models))
}

fn found(server: Usual, url: &str, models: Vec<String>) -> Vec<Found> {
    models.into_iter().map(|model| Found { server, url: url.to_owned(), model }).collect()
}

/// Why a backend's models are not known.
pub(crate) struct Unlisted {
    /// Whether it answered all the same: not every server lists its models.
    pub(crate) answers: bool,
    /// In words, never with the key.
    pub(crate) why: String,
}

/// The ids that `GET {url}/models` lists.
pub(crate) async fn models(
    client: &Client,
    url: &str,
    key: Option<&Secret>,
) -> Result<Vec<String>, Unlisted> {
    backend::models(client, url, key, LOOK_TIMEOUT).await.map_err(|error| match error {
        ListError::Unanswered(SendError::Unreachable | SendError::Unresolved | SendError::Silent) => {
            Unlisted { answers: false, why: "it does not answer".to_owned() }
        }
        ListError::Unanswered(error) => Unlisted { answers: false, why: error.to_string() },
        error => Unlisted { answers: true, why: error.to_string() },
    })
}

/// The name a found model is published by: the first that `is_taken` does not know.
pub(crate) fn name(model: &str, is_taken: impl Fn(&str) -> bool) -> Option<WireName> {
    WireName::parse(names::free(&names::of_model(model), is_taken)).ok()
}
