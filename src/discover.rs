//! Discovery of model servers on this machine, and checks of configured ones.

use std::time::Duration;

use actors::{
    ProviderConfig, Secret,
    options::{BackendConfig, HttpBackend},
};
use backend::ListError;
use backend::http::{Client, SendError};
use futures_util::future::join_all;
use wire::WireName;

use crate::{
    client,
    config::{
        names,
        server_types::{LOCAL, OPENAI, ServerType},
    },
    exit::Failure,
};

/// Time-out of a list of models. Most servers are on this machine and answer in milliseconds.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);

/// A model of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundModel {
    pub(crate) server: ServerType,
    /// Base URL of the API, with `/v1`.
    pub(crate) url: String,
    pub(crate) model: String,
}

impl FoundModel {
    pub(crate) fn provider(&self, name: WireName) -> ProviderConfig {
        let backend = HttpBackend { url: Secret::new(self.url.clone()), api_key: None };
        let mut config = ProviderConfig::new(name, &self.model, BackendConfig::OpenAi(backend));
        self.server.hub_type.clone_into(&mut config.hub_type);
        config
    }
}

/// Models of the servers at their default addresses on this machine.
pub(crate) async fn local_models() -> Result<Vec<FoundModel>, Failure> {
    let client = client::for_backend("")?;
    let lists = LOCAL.map(|server| {
        let client = &client;
        async move {
            let url = server.default_url.unwrap_or_default();
            found(server, url, models(client, url, None).await.unwrap_or_default())
        }
    });
    Ok(join_all(lists).await.into_iter().flatten().collect())
}

/// Models of the server at `url`.
pub(crate) async fn models_at(url: &str) -> Result<Vec<FoundModel>, Failure> {
    let models = models(&client::for_backend(url)?, url, None).await.map_err(|error| {
        let why = reason(&error);
        Failure::failed(format!("cannot ask {url} for its models: {why}; is the backend running?"))
    })?;
    Ok(found(OPENAI, url, models))
}

fn found(server: ServerType, url: &str, models: Vec<String>) -> Vec<FoundModel> {
    models.into_iter().map(|model| FoundModel { server, url: url.to_owned(), model }).collect()
}

/// State of a provider's backend.
pub(crate) enum BackendState {
    /// A backend within this program, which is always available.
    BuiltIn,
    /// Not asked, because a request costs money.
    Unknown,
    HasModel,
    /// The backend has only these models.
    LacksModel(Vec<String>),
    /// The backend answers without a list of models.
    Unlisted(String),
    /// No answer from a backend that a recipe wakes.
    Asleep(String),
    Unreachable(String),
}

/// Asks a provider's backend for its models.
pub(crate) async fn backend_state(provider: &ProviderConfig) -> Result<BackendState, Failure> {
    let HttpBackend { url, api_key } = match &provider.backend {
        BackendConfig::OpenAi(http) => http,
        BackendConfig::Mock(_) | BackendConfig::Custom(_) => return Ok(BackendState::BuiltIn),
        BackendConfig::Anthropic(_) => return Ok(BackendState::Unknown),
    };
    let client = client::for_backend(url.reveal())?;
    Ok(match models(&client, url.reveal(), api_key.as_ref()).await {
        Ok(models) if models.is_empty() || models.contains(&provider.model) => BackendState::HasModel,
        Ok(models) => BackendState::LacksModel(models),
        Err(error @ ListError::Unanswered(_)) if provider.wake.is_some() => {
            BackendState::Asleep(reason(&error))
        }
        Err(error @ ListError::Unanswered(_)) => BackendState::Unreachable(reason(&error)),
        Err(error) => BackendState::Unlisted(reason(&error)),
    })
}

async fn models(client: &Client, url: &str, key: Option<&Secret>) -> Result<Vec<String>, ListError> {
    backend::models(client, url, key, LIST_TIMEOUT).await
}

/// Text of an error, never with the key.
fn reason(error: &ListError) -> String {
    match error {
        ListError::Unanswered(SendError::Unreachable | SendError::Unresolved | SendError::Silent) => {
            "it does not answer".to_owned()
        }
        ListError::Unanswered(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// A name for a found model that is not taken.
pub(crate) fn name(model: &str, is_taken: impl Fn(&str) -> bool) -> Option<WireName> {
    WireName::parse(names::free(&names::of_model(model), is_taken)).ok()
}
