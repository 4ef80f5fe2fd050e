//! What can be checked of a register call without the table.

use std::collections::BTreeSet;

use wire::names;
use wire::register::RegisterRequest;

/// Longest model, type or `llmName`, in bytes: the longest of Hugging Face's model paths have about 100.
const MAX_TEXT: usize = 512;
/// Longest description, prompt or other free text of a row or an agent, in bytes.
const MAX_PROSE: usize = 64 << 10;
/// Most rows, and most agents, of one session. A workstation has a handful.
const MAX_ENTRIES: usize = 256;

/// The first thing that is not as the route takes it, by its path.
pub(super) fn check(request: &RegisterRequest) -> Result<(), String> {
    if request.providers.len() > MAX_ENTRIES || request.agents.len() > MAX_ENTRIES {
        return Err(format!("a session has at most {MAX_ENTRIES} providers and {MAX_ENTRIES} agents"));
    }
    let mut seen = BTreeSet::new();
    for (index, spec) in request.providers.iter().enumerate() {
        let at = format!("providers[{index}]");
        name(&format!("{at}.name"), &spec.name)?;
        if !seen.insert(&spec.name) {
            return Err(format!("{at}.name: '{}' is named twice", spec.name));
        }
        text(&format!("{at}.type"), &spec.provider_type)?;
        text(&format!("{at}.model"), &spec.model)?;
        if let Some(pool) = &spec.pool_name {
            name(&format!("{at}.poolName"), pool)?;
        }
        prose(&format!("{at}.description"), spec.description.as_deref())?;
    }
    let mut seen = BTreeSet::new();
    for (index, spec) in request.agents.iter().enumerate() {
        let at = format!("agents[{index}]");
        name(&format!("{at}.name"), &spec.name)?;
        if !seen.insert(&spec.name) {
            return Err(format!("{at}.name: '{}' is named twice", spec.name));
        }
        text(&format!("{at}.llmName"), &spec.llm_name)?;
        prose(&format!("{at}.description"), spec.description.as_deref())?;
        prose(&format!("{at}.systemPrompt"), spec.system_prompt.as_deref())?;
        prose(&format!("{at}.project"), spec.project.as_deref())?;
        object(&format!("{at}.defaultParams"), spec.default_params.as_deref())?;
        object(&format!("{at}.extras"), spec.extras.as_deref())?;
    }
    Ok(())
}

pub(in crate::registry) fn name(at: &str, value: &str) -> Result<(), String> {
    names::check(value).map_err(|error| format!("{at}: {error}"))
}

pub(in crate::registry) fn text(at: &str, value: &str) -> Result<(), String> {
    if value.is_empty() || value.len() > MAX_TEXT || value.chars().any(char::is_control) {
        return Err(format!("{at}: 1 to {MAX_TEXT} characters, none of them a control character"));
    }
    Ok(())
}

pub(in crate::registry) fn prose(at: &str, value: Option<&str>) -> Result<(), String> {
    match value {
        Some(value) if value.len() > MAX_PROSE => Err(format!("{at}: at most {MAX_PROSE} bytes")),
        _ => Ok(()),
    }
}

pub(in crate::registry) fn object(
    at: &str,
    value: Option<&serde_json::value::RawValue>,
) -> Result<(), String> {
    match value {
        Some(value) if !value.get().starts_with('{') => Err(format!("{at}: a JSON object")),
        Some(value) if value.get().len() > MAX_PROSE => Err(format!("{at}: at most {MAX_PROSE} bytes")),
        Some(value) => wire::json::compact(value.get()).map(drop).map_err(|error| format!("{at}: {error}")),
        None => Ok(()),
    }
}
