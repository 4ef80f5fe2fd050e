//! The `agents` of the configuration.

use actors::{AgentConfig, ProviderConfig};
use serde_json::{Value, value::RawValue};
use wire::row::Visibility;

use super::{keys, provider, reader::ObjectReader, report::Report};

/// Reads one agent. `None` if it is not published or has an error.
pub(super) fn read(value: &Value, path: String, suffix: &str, report: &mut Report) -> Option<AgentConfig> {
    let object = ObjectReader::new(value, path, keys::AGENT, report)?;
    if !object.flag("publish", report)? {
        return None;
    }
    let errors_before = report.errors.len();
    let name = object.required_text("name", report);
    let wire_name = name.and_then(|name| provider::wire_name(&object, name, suffix, report));
    let llm = object.required_text("llm", report);
    let config = AgentConfig {
        wire_name: wire_name?,
        llm: llm?.to_owned(),
        description: object.any_text("description", report).map(str::to_owned),
        system_prompt: object.any_text("systemPrompt", report).map(str::to_owned),
        project: object.any_text("project", report).map(str::to_owned),
        default_params: raw_object(&object, "defaultParams", report),
        extras: raw_object(&object, "extras", report),
        visibility: provider::visibility(&object, report),
    };
    (report.errors.len() == errors_before).then_some(config)
}

fn raw_object(object: &ObjectReader<'_>, key: &str, report: &mut Report) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(object.object(key, report)?).ok()
}

/// Providers that may answer for the agent: the one that `llm` names, locally or at the hub; else the members of the pool
/// of that name.
pub(super) fn providers_of<'a>(
    agent: &AgentConfig,
    providers: &'a [ProviderConfig],
) -> Vec<&'a ProviderConfig> {
    let llm = agent.llm.as_str();
    let local = providers.iter().find(|provider| provider.name == llm);
    match local.or_else(|| providers.iter().find(|provider| provider.wire_name.as_str() == llm)) {
        Some(provider) => vec![provider],
        None => providers.iter().filter(|provider| provider.pool_name.as_deref() == Some(llm)).collect(),
    }
}

/// Warns of a public agent over private LLMs: it gives everybody the use of them.
pub(super) fn warn_of_private_llms(
    agent: &AgentConfig,
    providers: &[&ProviderConfig],
    path: &str,
    report: &mut Report,
) {
    if agent.visibility != Visibility::Public {
        return;
    }
    let private = providers.iter().filter(|provider| provider.visibility == Visibility::Private);
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
