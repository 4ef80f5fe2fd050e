//! What `publish` says at its start: what goes where, and which backend is not as the configuration has it.

use actors::{
    ProviderConfig,
    options::{BackendConfig, HttpBackend},
};
use futures_util::future::join_all;

use crate::{
    client,
    config::Published,
    discover::{self, Unlisted},
    output::printable,
};

/// `2 LLMs: qwen (Qwen3-8B, private), …; 1 agent: helper`.
pub(super) fn summary(published: &Published) -> String {
    let llms = published.providers.iter().map(|provider| {
        let model = file_name(&provider.model);
        format!("{} ({}, {})", provider.wire_name, printable(model), provider.visibility.as_str())
    });
    let mut text = counted(&llms.collect::<Vec<_>>(), "LLM");
    if !published.agents.is_empty() {
        let agents = published.agents.iter().map(|agent| agent.wire_name.to_string());
        text = format!("{text}; {}", counted(&agents.collect::<Vec<_>>(), "agent"));
    }
    text
}

fn counted(names: &[String], what: &str) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{} {what}{plural}: {}", names.len(), names.join(", "))
}

/// A model that is a path tells where things are on this machine: its last part is enough.
fn file_name(model: &str) -> &str {
    if model.starts_with(['/', '~', '.']) || model.contains('\\') {
        model.rsplit(['/', '\\']).next().unwrap_or(model)
    } else {
        model
    }
}

/// Warns of backends that do not answer, and of those that lack the model. Their addresses are not for a log.
pub(super) async fn look_at_backends(providers: &[ProviderConfig]) {
    join_all(providers.iter().map(look_at)).await;
}

async fn look_at(provider: &ProviderConfig) {
    // Another API would cost a key's money, a mock is always there, and what sleeps is woken when it is asked.
    let BackendConfig::OpenAi(HttpBackend { url, api_key }) = &provider.backend else { return };
    let url = url.reveal();
    let Ok(client) = client::for_backend(url) else { return };
    let name = &provider.name;
    match discover::models(&client, url, api_key.as_ref()).await {
        Ok(models) if models.is_empty() || models.contains(&provider.model) => {}
        Ok(_) => log::warn!(
            "provider {name}: the backend has no model '{}'; `virtual-llm check` lists what it has",
            printable(file_name(&provider.model))
        ),
        Err(_) if provider.wake.is_some() => {}
        // Not every server lists its models.
        Err(Unlisted { answers: true, .. }) => {}
        Err(Unlisted { why, .. }) => log::warn!("provider {name}: the backend cannot be reached: {why}"),
    }
}
