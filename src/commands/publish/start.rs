//! Log lines of `publish` at its start: the published LLMs, and problems of backends.

use actors::ProviderConfig;
use futures_util::future::join_all;

use crate::{
    config::Published,
    discover::{self, BackendState},
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

/// Last part of a model that is a path: the log does not show the folders of this machine.
fn file_name(model: &str) -> &str {
    if model.starts_with(['/', '~', '.']) || model.contains('\\') {
        model.rsplit(['/', '\\']).next().unwrap_or(model)
    } else {
        model
    }
}

/// Logs backends that do not answer or lack the model. URLs are not logged.
pub(super) async fn check_backends(providers: &[ProviderConfig]) {
    join_all(providers.iter().map(check_backend)).await;
}

async fn check_backend(provider: &ProviderConfig) {
    let name = &provider.name;
    match discover::backend_state(provider).await {
        Ok(BackendState::LacksModel(_)) => log::warn!(
            "provider {name}: the backend has no model '{}'; `virtual-llm check` lists what it has",
            printable(file_name(&provider.model))
        ),
        Ok(BackendState::Unreachable(why)) => {
            log::warn!("provider {name}: the backend cannot be reached: {why}");
        }
        Ok(
            BackendState::BuiltIn
            | BackendState::Unknown
            | BackendState::HasModel
            | BackendState::AnyName
            | BackendState::Unlisted(_)
            | BackendState::Asleep(_),
        )
        | Err(_) => {}
    }
}
