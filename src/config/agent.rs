//! One agent: a prompt and parameters over an LLM.

use actors::AgentConfig;
use serde_json::{Value, value::RawValue};

use super::{keys, provider, report::Report, table::Table};

/// Checks one agent. `None` where it is not published or has an error.
pub(super) fn check(value: &Value, path: String, suffix: &str, report: &mut Report) -> Option<AgentConfig> {
    let table = Table::of(value, path, report)?;
    table.warn_of_near_misses(keys::AGENT, report);
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
    table.table(key, report)?;
    serde_json::value::to_raw_value(table.get(key)?).ok()
}
