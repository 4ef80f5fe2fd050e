//! Checks of a register call that need no table: lengths, characters, JSON, unique names.

use std::collections::BTreeSet;

use serde_json::value::RawValue;
use wire::json::Object;
use wire::names;
use wire::register::RegisterRequest;

/// Maximum length of a model, type or `llmName`, in bytes: Hugging Face's longest model paths have about 100.
const MAX_TEXT: usize = 512;
/// Maximum length of a description or project, in bytes: lists contain it.
pub(in crate::registry) const MAX_PROSE: usize = 4 << 10;
/// Maximum length of a system prompt, default parameters or extras, in bytes.
pub(in crate::registry) const MAX_PROMPT: usize = 64 << 10;
/// Maximum number of an agent's default parameters: the chat completions API has about 40.
const MAX_PARAMS: usize = 64;
/// Maximum number of rows, and of agents, per session. A workstation has a handful.
pub const MAX_ENTRIES: usize = 256;

/// Checks a register call; an error names the path of the first wrong value.
///
/// Called before the table is locked, since a call may be large.
pub fn check(request: &RegisterRequest) -> Result<(), String> {
    check_names_unique(request)?;
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

/// Checks the number and uniqueness of names, on which the table relies.
pub(super) fn check_names_unique(request: &RegisterRequest) -> Result<(), String> {
    if request.providers.len() > MAX_ENTRIES || request.agents.len() > MAX_ENTRIES {
        return Err(format!("a session has at most {MAX_ENTRIES} providers and {MAX_ENTRIES} agents"));
    }
    let providers = request.providers.iter().map(|spec| &spec.name);
    let agents = request.agents.iter().map(|spec| &spec.name);
    duplicate("providers", providers).or_else(|| duplicate("agents", agents)).map_or(Ok(()), Err)
}

fn duplicate<'a>(list: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
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

pub(in crate::registry) fn object(at: &str, value: Option<&RawValue>) -> Result<(), String> {
    match value {
        Some(value) if !value.get().starts_with('{') => Err(format!("{at}: a JSON object")),
        Some(value) if value.get().len() > MAX_PROMPT => Err(format!("{at}: at most {MAX_PROMPT} bytes")),
        Some(value) => wire::json::compact(value.get()).map(drop).map_err(|error| format!("{at}: {error}")),
        None => Ok(()),
    }
}

/// Checks default parameters: an object of at most [`MAX_PARAMS`] keys, since they are added to each call.
pub(in crate::registry) fn params(at: &str, value: Option<&RawValue>) -> Result<(), String> {
    object(at, value)?;
    let keys =
        value.and_then(|value| Object::parse(value.get()).ok()).map_or(0, |keys| keys.members().count());
    if keys > MAX_PARAMS { Err(format!("{at}: at most {MAX_PARAMS} keys")) } else { Ok(()) }
}
