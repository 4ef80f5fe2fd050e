//! The LLMs that `up` publishes: found models, those of the configuration, or the mock.

use actors::{
    AgentConfig, ProviderConfig,
    options::{BackendConfig, MockConfig},
};
use wire::WireName;

use crate::{
    config::{Published, names::TakenNames},
    discover::{self, FoundModel},
    exit::Failure,
};

/// Speed of the mock: slow enough to see the answer arrive.
const MOCK_TOKENS_PER_SECOND: f64 = 40.0;

/// The published providers, and the one that gets the first chat request.
pub(super) struct Offer {
    pub(super) providers: Vec<ProviderConfig>,
    pub(super) agents: Vec<AgentConfig>,
    /// Name of the LLM for the first chat request.
    pub(super) model: WireName,
    /// Name and source of each LLM, for the user.
    pub(super) lines: Vec<(String, String)>,
}

impl Offer {
    /// Searches this machine for models. `wanted` is a model or a published name.
    pub(super) async fn find(published: Published, wanted: Option<&str>) -> Result<Self, Failure> {
        Self::new(published, &discover::local_models(wanted).await?, wanted)
    }

    fn new(published: Published, found: &[FoundModel], wanted: Option<&str>) -> Result<Self, Failure> {
        let Published { mut providers, agents, .. } = published;
        let mut lines: Vec<_> = providers
            .iter()
            .map(|provider| (provider.wire_name.to_string(), "from the configuration".to_owned()))
            .collect();
        let mut names: TakenNames = providers.iter().map(|provider| provider.wire_name.as_str()).collect();
        let mut running = Vec::new();
        for model in found {
            // The provider of the configuration has more settings.
            if let Some(configured) = providers.iter().find(|provider| has_model(provider, model)) {
                running.push(configured.clone());
                continue;
            }
            let Some(name) = discover::name(&model.model, &mut names) else { continue };
            let server = model.server.label;
            lines.push((name.to_string(), format!("{server} at {}", model.url.trim_end_matches("/v1"))));
            let provider = model.provider(name);
            running.push(provider.clone());
            providers.push(provider);
        }
        if providers.is_empty() {
            let mock = mock()?;
            lines.push((mock.wire_name.to_string(), "built in: nothing else runs here".to_owned()));
            providers.push(mock);
        }
        let model = choose(&running, &providers, wanted)?;
        Ok(Self { providers, agents, model, lines })
    }
}

/// Chooses the LLM for the first chat request: preferably one that runs, and no embedding model.
fn choose(
    running: &[ProviderConfig],
    all: &[ProviderConfig],
    wanted: Option<&str>,
) -> Result<WireName, Failure> {
    let mut candidates = running.iter().chain(all);
    let chosen = match wanted {
        Some(wanted) => candidates.find(|provider| {
            provider.wire_name.as_str() == wanted || provider.model == wanted || provider.name == wanted
        }),
        None => candidates
            .clone()
            .find(|provider| !provider.model.contains("embed"))
            .or_else(|| candidates.next()),
    };
    chosen.map(|provider| provider.wire_name.clone()).ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|provider| provider.wire_name.as_str()).collect();
        Failure::failed(format!(
            "no model '{}' here; there is {}",
            wanted.unwrap_or_default(),
            known.join(", ")
        ))
    })
}

/// Whether a provider uses a found model. `localhost` in its URL is 127.0.0.1.
fn has_model(provider: &ProviderConfig, found: &FoundModel) -> bool {
    match &provider.backend {
        BackendConfig::OpenAi(http) => {
            provider.model == found.model
                && http.url.reveal().replacen("//localhost", "//127.0.0.1", 1) == found.url
        }
        BackendConfig::Anthropic(_) | BackendConfig::Mock(_) | BackendConfig::Custom(_) => false,
    }
}

fn mock() -> Result<ProviderConfig, Failure> {
    let name: WireName = "mock".parse().map_err(|_| Failure::failed("the mock has no name"))?;
    let config = MockConfig { tokens_per_second: Some(MOCK_TOKENS_PER_SECOND), ..MockConfig::default() };
    Ok(ProviderConfig::new(name, "mock", BackendConfig::Mock(config)))
}

#[cfg(test)]
mod tests {
    use actors::{Secret, options::HttpBackend};

    use super::*;
    use crate::config::server_types::LOCAL;

    fn found(model: &str) -> FoundModel {
        let url = "http://127.0.0.1:11434/v1".to_owned();
        FoundModel { server: LOCAL[0], url, model: model.to_owned() }
    }

    #[test]
    fn a_found_model_of_the_configuration_is_offered_once_and_preferred() {
        let url = Secret::new("http://localhost:11434/v1".to_owned());
        let backend = BackendConfig::OpenAi(HttpBackend { url, api_key: None });
        let configured = ProviderConfig::new("mine".parse().unwrap(), "qwen", backend);
        let providers = vec![mock().unwrap(), configured];
        let published = Published { providers, ..Published::default() };
        let offer = Offer::new(published, &[found("qwen"), found("embed"), found("mine")], None).unwrap();
        let names: Vec<_> = offer.providers.iter().map(|provider| provider.wire_name.as_str()).collect();
        assert_eq!(names, ["mock", "mine", "embed", "mine-2"]);
        assert_eq!(offer.model.as_str(), "mine");
    }

    #[test]
    fn without_models_the_mock_is_offered() {
        let offer = Offer::new(Published::default(), &[], None).unwrap();
        assert_eq!(offer.lines, [("mock".to_owned(), "built in: nothing else runs here".to_owned())]);
        assert!(Offer::new(Published::default(), &[], Some("qwen")).is_err());
    }
}
