//! What can be checked of a register call without the table.

use std::collections::BTreeSet;

use wire::json::Object;
use wire::names;
use wire::register::RegisterRequest;

/// Longest model, type or `llmName`, in bytes: the longest of Hugging Face's model paths have about 100.
const MAX_TEXT: usize = 512;
/// Longest description, or project, in bytes: it stands in every list.
pub(in crate::registry) const MAX_PROSE: usize = 4 << 10;
/// Longest system prompt, default parameters or extras, in bytes.
pub(in crate::registry) const MAX_PROMPT: usize = 64 << 10;
/// Most default parameters of an agent: the API of chat completions knows some forty.
const MAX_PARAMS: usize = 64;
/// Most rows, and most agents, of one session. A workstation has a handful.
pub const MAX_ENTRIES: usize = 256;

/// The first thing that is not as the route takes it, by its path. To be asked before the table is locked: a call may be
/// large.
pub fn check(request: &RegisterRequest) -> Result<(), String> {
    named_once(request)?;
    for (index, spec) in request.providers.iter().enumerate() {
        let at = format!("providers[{index}]");
        name(&format!("{at}.name"), &spec.name)?;
        text(&format!("{at}.type"), &spec.provider_type)?;
        text(&format!("{at}.model"), &spec.model)?;
        if let Some(pool) = &spec.pool_name {
            name(&format!("{at}.poolName"), pool)?;
        }
        prose(&format!("{at}.description"), MAX_PROSE, spec.description.as_deref())?;
    }
    for (index, spec) in request.agents.iter().enumerate() {
        let at = format!("agents[{index}]");
        name(&format!("{at}.name"), &spec.name)?;
        text(&format!("{at}.llmName"), &spec.llm_name)?;
        prose(&format!("{at}.description"), MAX_PROSE, spec.description.as_deref())?;
        prose(&format!("{at}.systemPrompt"), MAX_PROMPT, spec.system_prompt.as_deref())?;
        prose(&format!("{at}.project"), MAX_PROSE, spec.project.as_deref())?;
        params(&format!("{at}.defaultParams"), spec.default_params.as_deref())?;
        object(&format!("{at}.extras"), spec.extras.as_deref())?;
    }
    Ok(())
}

/// Whether the call names each thing once, and no more than a session may have: what the table relies on.
pub(super) fn named_once(request: &RegisterRequest) -> Result<(), String> {
    if request.providers.len() > MAX_ENTRIES || request.agents.len() > MAX_ENTRIES {
        return Err(format!("a session has at most {MAX_ENTRIES} providers and {MAX_ENTRIES} agents"));
    }
    let providers = request.providers.iter().map(|spec| &spec.name);
    let agents = request.agents.iter().map(|spec| &spec.name);
    twice("providers", providers).or_else(|| twice("agents", agents)).map_or(Ok(()), Err)
}

fn twice<'a>(list: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut seen = BTreeSet::new();
    let (index, name) = names.enumerate().find(|(_, name)| !seen.insert(*name))?;
    Some(format!("{list}[{index}].name: '{name}' is named twice"))
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

pub(in crate::registry) fn prose(at: &str, most: usize, value: Option<&str>) -> Result<(), String> {
    match value {
        Some(value) if value.len() > most => Err(format!("{at}: at most {most} bytes")),
        _ => Ok(()),
    }
}

pub(in crate::registry) fn object(
    at: &str,
    value: Option<&serde_json::value::RawValue>,
) -> Result<(), String> {
    match value {
        Some(value) if !value.get().starts_with('{') => Err(format!("{at}: a JSON object")),
        Some(value) if value.get().len() > MAX_PROMPT => Err(format!("{at}: at most {MAX_PROMPT} bytes")),
        Some(value) => wire::json::compact(value.get()).map(drop).map_err(|error| format!("{at}: {error}")),
        None => Ok(()),
    }
}

/// Default parameters: an object of so few keys that each call can be given them.
pub(in crate::registry) fn params(
    at: &str,
    value: Option<&serde_json::value::RawValue>,
) -> Result<(), String> {
    object(at, value)?;
    let keys =
        value.and_then(|value| Object::parse(value.get()).ok()).map_or(0, |keys| keys.members().count());
    if keys > MAX_PARAMS { Err(format!("{at}: at most {MAX_PARAMS} keys")) } else { Ok(()) }
}
