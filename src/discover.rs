//! Discovery of model servers on this machine, and checks of configured ones.

use std::{collections::HashSet, time::Duration};

use actors::{
    ProviderConfig, Secret,
    options::{BackendConfig, HttpBackend},
};
use backend::http::{Client, SendError};
use backend::{ListError, ServerKind};
use futures_util::future::join_all;
use wire::{Abilities, WireName};

use crate::{
    client,
    config::{
        names::{self, TakenNames},
        server_types::{LOCAL, OPENAI, ServerType},
    },
    exit::Failure,
};

/// Time-out of a list of models. Most servers are on this machine and answer in milliseconds.
const LIST_TIMEOUT: Duration = Duration::from_secs(1);

/// Most models of one server that are offered: nobody reads a longer list, and any program may listen at a local port.
const MOST_MODELS: usize = 200;

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
        config.server = self.server.kind;
        config
    }
}

/// Models of the servers at their default addresses on this machine, at most [`MOST_MODELS`] of each and `wanted`.
pub(crate) async fn local_models(wanted: Option<&str>) -> Result<Vec<FoundModel>, Failure> {
    let client = client::for_backend("")?;
    let lists = LOCAL.map(|server| {
        let client = &client;
        async move {
            let url = server.default_url.unwrap_or_default();
            found(server, url, models(client, url, None).await.unwrap_or_default(), wanted)
        }
    });
    Ok(join_all(lists).await.into_iter().flatten().collect())
}

/// Models of the server at `url`, at most [`MOST_MODELS`] and `wanted`.
pub(crate) async fn models_at(url: &str, wanted: Option<&str>) -> Result<Vec<FoundModel>, Failure> {
    let models = models(&client::for_backend(url)?, url, None).await.map_err(|error| {
        let why = reason(&error);
        Failure::failed(format!("cannot ask {url} for its models: {why}; is the backend running?"))
    })?;
    Ok(found(OPENAI, url, models, wanted))
}

fn found(server: ServerType, url: &str, models: Vec<String>, wanted: Option<&str>) -> Vec<FoundModel> {
    let mut seen = HashSet::new();
    let mut models: Vec<_> = models.into_iter().filter(|model| seen.insert(model.clone())).collect();
    if models.len() > MOST_MODELS {
        if wanted.is_none() {
            let (all, left_out) = (models.len(), models.len() - MOST_MODELS);
            log::warn!("{url} has {all} models: {left_out} of them are left out; --model MODEL names one");
        }
        let beyond = models.split_off(MOST_MODELS);
        models.extend(beyond.into_iter().find(|model| Some(model.as_str()) == wanted));
    }
    models.into_iter().map(|model| FoundModel { server, url: url.to_owned(), model }).collect()
}

/// State of a provider's backend.
pub(crate) enum BackendState {
    /// A backend within this program, which is always available.
    BuiltIn,
    /// Not asked, because a request costs money.
    Unknown,
    HasModel,
    /// llama.cpp's server with one model, which it runs whatever name a request has. It lists it by its path.
    AnyName,
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
    let client = actors::backend::client_of(provider, &client::for_backend(url.reveal())?);
    Ok(match models(&client, url.reveal(), api_key.as_ref()).await {
        Ok(models) if models.is_empty() || models.contains(&provider.model) => BackendState::HasModel,
        Ok(models) if models.len() == 1 && provider.server == ServerKind::LlamaCpp => BackendState::AnyName,
        Ok(models) => BackendState::LacksModel(models),
        Err(error @ ListError::Unanswered(_)) if provider.wake.is_some() => {
            BackendState::Asleep(reason(&error))
        }
        Err(error @ ListError::Unanswered(_)) => BackendState::Unreachable(reason(&error)),
        Err(error) => BackendState::Unlisted(reason(&error)),
    })
}

/// Asks a provider's backend what its model can do, as the registrar does. The owner's words stand above the answer.
pub(crate) async fn abilities(provider: &ProviderConfig) -> Result<Abilities, Failure> {
    let asked = match &provider.backend {
        BackendConfig::OpenAi(http) => {
            let client = client::for_backend(http.url.reveal())?;
            actors::backend::abilities(provider, &client).await.abilities
        }
        // A question to Anthropic spends a key.
        BackendConfig::Anthropic(_) | BackendConfig::Mock(_) | BackendConfig::Custom(_) => Abilities::NONE,
    };
    Ok(provider.abilities.or(asked))
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

/// Takes a free name for a found model.
pub(crate) fn name(model: &str, names: &mut TakenNames) -> Option<WireName> {
    WireName::parse(names.take_free(&names::of_model(model))).ok()
}

#[cfg(test)]
mod tests {
    use testkit::captured_log;

    use super::*;

    #[test]
    fn a_long_list_of_models_is_cut_but_keeps_the_wanted_one() {
        let models: Vec<_> = (0..10_000).map(|n| format!("m{n}")).collect();
        captured_log::listen(module_path!().trim_end_matches("::tests"));
        let warnings = || captured_log::lines_with("are left out").len();
        let offered = |wanted: Option<&str>| found(OPENAI, "http://127.0.0.1:1/v1", models.clone(), wanted);
        assert_eq!((offered(None).len(), warnings()), (MOST_MODELS, 1));
        assert_eq!(offered(Some("m5")).len(), MOST_MODELS);
        let wanted = offered(Some("m9999"));
        assert_eq!(warnings(), 1, "of a list from which a model is named");
        assert_eq!((wanted.len(), wanted.last().unwrap().model.as_str()), (MOST_MODELS + 1, "m9999"));
        let same = vec!["m".to_owned(); 10_000];
        assert_eq!(found(OPENAI, "http://127.0.0.1:1/v1", same, None).len(), 1);
    }
}
