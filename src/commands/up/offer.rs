//! What `up` publishes: what runs here, what the configuration names, or the mock.

use std::collections::HashSet;

use actors::{
    AgentConfig, ProviderConfig,
    options::{BackendConfig, MockConfig},
};
use wire::WireName;

use crate::{client, config::Published, discover, exit::Failure};

/// A pace at which a person sees an answer come.
const MOCK_TOKENS_PER_SECOND: f64 = 40.0;

/// What is published, and whom to talk to.
pub(super) struct Offer {
    pub(super) providers: Vec<ProviderConfig>,
    pub(super) agents: Vec<AgentConfig>,
    /// The one that says hello.
    pub(super) model: WireName,
    /// What is said of each.
    pub(super) lines: Vec<(String, String)>,
}

impl Offer {
    /// Looks around. `wanted` is a model or a published name.
    pub(super) async fn make(published: Published, wanted: Option<&str>) -> Result<Self, Failure> {
        let found = discover::usual(&client::for_backend("")?).await;
        let mut names: HashSet<String> =
            published.providers.iter().map(|provider| provider.wire_name.to_string()).collect();
        let configured: Vec<_> = published.providers.iter().filter_map(place).collect();
        let mut lines: Vec<_> = published
            .providers
            .iter()
            .map(|provider| (provider.wire_name.to_string(), "from the configuration".to_owned()))
            .collect();
        let mut running = Vec::new();
        for model in &found {
            // The configuration knows it already, and has more to say about it.
            if let Some(i) =
                configured.iter().position(|(url, name)| *name == model.model && same(url, &model.url))
            {
                running.push(published.providers[i].clone());
                continue;
            }
            let Some(name) = discover::name(&model.model, |name| names.contains(name)) else { continue };
            names.insert(name.to_string());
            let server = model.server.label;
            lines.push((name.to_string(), format!("{server} at {}", model.url.trim_end_matches("/v1"))));
            running.push(model.provider(name));
        }
        let is_new = |provider: &&ProviderConfig| {
            !published.providers.iter().any(|known| known.wire_name == provider.wire_name)
        };
        let mut providers: Vec<_> = running.iter().filter(is_new).cloned().collect();
        providers.splice(0..0, published.providers.iter().cloned());
        if providers.is_empty() {
            let mock = mock()?;
            lines.push((mock.wire_name.to_string(), "built in: nothing else runs here".to_owned()));
            providers.push(mock);
        }
        let model = choose(&running, &providers, wanted)?;
        Ok(Self { providers, agents: published.agents, model, lines })
    }
}

/// A backend that answered just now before one that may be away; never a model that only embeds.
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

fn place(provider: &ProviderConfig) -> Option<(String, String)> {
    match &provider.backend {
        BackendConfig::OpenAi(http) => Some((http.url.reveal().to_owned(), provider.model.clone())),
        _ => None,
    }
}

/// Whether two addresses are the same server's: `localhost` is this machine too.
fn same(a: &str, b: &str) -> bool {
    let plain = |url: &str| url.replacen("//localhost", "//127.0.0.1", 1);
    plain(a) == plain(b)
}

fn mock() -> Result<ProviderConfig, Failure> {
    let name: WireName = "mock".parse().map_err(|_| Failure::failed("the mock has no name"))?;
    let config = MockConfig { tokens_per_second: Some(MOCK_TOKENS_PER_SECOND), ..MockConfig::default() };
    Ok(ProviderConfig::new(name, "mock", BackendConfig::Mock(config)))
}
