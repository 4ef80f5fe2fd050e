//! One agent: a prompt and parameters over an LLM.

use actors::{AgentConfig, ProviderConfig};
use serde_json::{Value, value::RawValue};
use wire::row::Visibility;

use super::{keys, provider, report::Report, table::Table};

/// Checks one agent. `None` where it is not published or has an error.
pub(super) fn check(value: &Value, path: String, suffix: &str, report: &mut Report) -> Option<AgentConfig> {
    let table = Table::of(value, path, keys::AGENT, report)?;
    if !table.flag("publish", report)? {
        return None;
    }
    let errors_before = report.errors.len();
    let name = table.required_text("name", report);
    let wire_name = name.and_then(|name| provider::wire_name(&table, name, suffix, report));
    let llm = table.required_text("llm", report);
    let config = AgentConfig {
        wire_name: wire_name?,
        llm: llm?.to_owned(),
        description: table.any_text("description", report).map(str::to_owned),
        system_prompt: table.any_text("systemPrompt", report).map(str::to_owned),
        project: table.any_text("project", report).map(str::to_owned),
        default_params: object(&table, "defaultParams", report),
        extras: object(&table, "extras", report),
        visibility: provider::visibility(&table, report),
    };
    (report.errors.len() == errors_before).then_some(config)
}

fn object(table: &Table<'_>, key: &str, report: &mut Report) -> Option<Box<RawValue>> {
    table.object(key, report)?;
    serde_json::value::to_raw_value(table.get(key)?).ok()
}

/// The providers that answer for the agent: the one that its `llm` names here or at the hub, else a pool's.
pub(super) fn behind<'a>(agent: &AgentConfig, providers: &'a [ProviderConfig]) -> Vec<&'a ProviderConfig> {
    let named = |provider: &&ProviderConfig| provider.name == agent.llm;
    let published = |provider: &&ProviderConfig| provider.wire_name.as_str() == agent.llm;
    match providers.iter().find(named).or_else(|| providers.iter().find(published)) {
        Some(provider) => vec![provider],
        None => providers
            .iter()
            .filter(|provider| provider.pool_name.as_deref() == Some(agent.llm.as_str()))
            .collect(),
    }
}

/// A public agent serves its owner's private LLM to everybody: meant so, or not.
pub(super) fn warn_of_what_becomes_visible(
    agent: &AgentConfig,
    behind: &[&ProviderConfig],
    path: &str,
    report: &mut Report,
) {
    if agent.visibility != Visibility::Public {
        return;
    }
    let private = behind.iter().filter(|provider| provider.visibility == Visibility::Private);
    let names: Vec<_> = private.map(|provider| format!("'{}'", provider.wire_name)).collect();
    if !names.is_empty() {
        report.warn(
            format!("{path}.visibility"),
            format!(
                "public, over the private LLM {}: everybody at the hub can use it through '{}', and reads this agent's \
                 systemPrompt, defaultParams and description; the LLM itself stays hidden",
                names.join(", "),
                agent.wire_name
            ),
        );
    }
}
