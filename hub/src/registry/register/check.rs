//! Checks of a register call: lengths, characters, JSON and unique names, which need no table; names that others have; and
//! the limits of the caller.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use wire::abilities::{Abilities, MAX_TOKENS};
use wire::json::Object;
use wire::register::RegisterRequest;
use wire::row::{Kind, Status};
use wire::{names, texts};

use super::{RegisterRefusal, Registering};
use crate::model::Caller;
use crate::registry::Registry;
use crate::registry::rows::{agent_entry_bytes, provider_bytes};
use crate::registry::session::ControlChannel;
use crate::telemetry::Limit;

/// Maximum length of a model, type or `llmName`, in bytes: Hugging Face's longest model paths have about 100.
const MAX_TEXT: usize = 512;
/// Maximum length of a description or project, in bytes: every list of rows repeats these texts.
pub(in crate::registry) const MAX_PROSE: usize = 4 << 10;
/// Maximum length of a system prompt, default parameters or extras, in bytes.
pub(in crate::registry) const MAX_PROMPT: usize = 64 << 10;
/// Maximum number of an agent's default parameters: the chat completions API has about 40.
const MAX_PARAMS: usize = 64;
/// Maximum number of rows, and of agents, per session. A workstation has a handful.
pub const MAX_ENTRIES: usize = 256;

/// Why a call is malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Names the value and says what it may be.
    pub text: String,
    /// The limit that the value exceeds.
    pub limit: Option<Limit>,
}

impl From<String> for Malformed {
    fn from(text: String) -> Self {
        Self { text, limit: None }
    }
}

impl Malformed {
    fn beyond(limit: Limit, text: String) -> Self {
        Self { text, limit: Some(limit) }
    }

    /// The error for more than [`MAX_ENTRIES`] of `what`.
    pub(crate) fn too_many_entries(what: &str) -> Self {
        Self::beyond(Limit::RegisterEntries, format!("{what}: at most {MAX_ENTRIES}"))
    }
}

/// Checks a register call; an error names the path of the first wrong value.
///
/// Called before the table is locked, since a call may be large.
pub fn check(request: &RegisterRequest) -> Result<(), Malformed> {
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
        abilities(&format!("{at}."), spec.abilities())?;
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
pub(super) fn check_names_unique(request: &RegisterRequest) -> Result<(), Malformed> {
    if request.providers.len() > MAX_ENTRIES || request.agents.len() > MAX_ENTRIES {
        let text = format!("a session has at most {MAX_ENTRIES} providers and {MAX_ENTRIES} agents");
        return Err(Malformed::beyond(Limit::RegisterEntries, text));
    }
    let providers = request.providers.iter().map(|spec| &spec.name);
    let agents = request.agents.iter().map(|spec| &spec.name);
    duplicate("providers", providers)
        .or_else(|| duplicate("agents", agents))
        .map_or(Ok(()), |text| Err(text.into()))
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

/// Checks the limits of a model; `at` is the path of the object with its dot.
pub(in crate::registry) fn abilities(at: &str, value: Abilities) -> Result<(), String> {
    let limits = [("contextLength", value.context_length), ("maxOutputTokens", value.max_output_tokens)];
    match limits.into_iter().find(|(_, limit)| limit.is_some_and(|limit| !(1..=MAX_TOKENS).contains(&limit)))
    {
        Some((key, _)) => Err(format!("{at}{key}: a number of tokens from 1 to {MAX_TOKENS}")),
        None => Ok(()),
    }
}

pub(in crate::registry) fn prose(at: &str, most: usize, value: Option<&str>) -> Result<(), Malformed> {
    match value {
        Some(value) if value.len() > most => {
            Err(Malformed::beyond(Limit::DefinitionShape, format!("{at}: at most {most} bytes")))
        }
        _ => Ok(()),
    }
}

pub(in crate::registry) fn object(at: &str, value: Option<&RawValue>) -> Result<(), Malformed> {
    match value {
        Some(value) if !value.get().starts_with('{') => Err(format!("{at}: a JSON object").into()),
        Some(value) if value.get().len() > MAX_PROMPT => {
            Err(Malformed::beyond(Limit::DefinitionShape, format!("{at}: at most {MAX_PROMPT} bytes")))
        }
        Some(value) => {
            wire::json::compact(value.get()).map(drop).map_err(|error| format!("{at}: {error}").into())
        }
        None => Ok(()),
    }
}

/// Checks default parameters: an object of at most [`MAX_PARAMS`] keys, since they are added to each call.
pub(in crate::registry) fn params(at: &str, value: Option<&RawValue>) -> Result<(), Malformed> {
    object(at, value)?;
    let keys =
        value.and_then(|value| Object::parse(value.get()).ok()).map_or(0, |keys| keys.members().count());
    if keys <= MAX_PARAMS {
        return Ok(());
    }
    Err(Malformed::beyond(Limit::DefinitionShape, format!("{at}: at most {MAX_PARAMS} keys")))
}

impl Registry {
    /// Checks that the row `name` is new, the session's own, or adoptable.
    pub(super) fn check_llm_free(&self, call: &Registering<'_>, name: &str) -> Result<(), String> {
        let Some(llm) = self.llms.get(name).map(|entry| &entry.llm) else { return Ok(()) };
        let adoptable = llm.kind == Kind::Virtual
            && llm.owner == call.caller.user
            && self.may_adopt(call, llm.session.as_deref(), llm.status);
        if adoptable {
            Ok(())
        } else if !call.caller.sees(llm.visibility, &llm.owner) {
            Err(texts::name_taken(name))
        } else if llm.kind == Kind::Public {
            Err(texts::over_public(name))
        } else {
            Err(texts::published_elsewhere(name))
        }
    }

    /// Checks that the agent `name` is new, the session's own, or adoptable.
    pub(super) fn check_agent_free(&self, call: &Registering<'_>, name: &str) -> Result<(), String> {
        let Some(agent) = self.agents.get(name).map(|entry| &entry.agent) else { return Ok(()) };
        let adoptable = agent.kind == Kind::Virtual
            && agent.owner == call.caller.user
            && self.may_adopt(call, agent.session.as_deref(), agent.status);
        if adoptable {
            Ok(())
        } else if !call.caller.sees(agent.visibility, &agent.owner) {
            Err(texts::name_taken(name))
        } else if agent.kind == Kind::Public {
            Err(format!("Cannot publish over public agent: {name}"))
        } else {
            Err(format!("Agent {name} is published by another session"))
        }
    }

    /// Whether the call's session may adopt an entry of `holder`, a session of the same user: its own, or an inactive
    /// entry of a session whose channel closed or never opened within the heartbeat timeout.
    fn may_adopt(&self, call: &Registering<'_>, holder: Option<&str>, status: Status) -> bool {
        let Some(holder) = holder.filter(|holder| *holder != call.session) else { return true };
        let Some(other) = self.sessions.get(holder) else { return status == Status::Inactive };
        let dead = match (&other.told, &other.channel) {
            (Some(told), _) => !told.is_connected(),
            (None, ControlChannel::Open { .. }) => false,
            (None, ControlChannel::Closed { .. }) if !other.is_of_other(self.hub.as_deref()) => true,
            // It may be open at another hub, which has not told yet.
            (None, ControlChannel::Closed { .. } | ControlChannel::None) => {
                call.now.mono.saturating_sub(other.last_heartbeat) > self.heartbeat_timeout
            }
        };
        status == Status::Inactive && dead
    }
}

impl Registry {
    /// Checks that the call keeps `caller` within its limits.
    pub(super) fn check_limits(
        &self,
        caller: &Caller,
        session: &str,
        request: &RegisterRequest,
    ) -> Result<(), RegisterRefusal> {
        let limits = self.limits;
        let usage = self.usage_of(&caller.user);
        if !self.sessions.contains_key(session) {
            within(limits.sessions, usage.sessions, 1, ("sessions", Limit::Sessions))?;
        }
        let new = request.providers.iter().filter(|spec| !self.llms.contains_key(&spec.name)).count();
        within(limits.rows, usage.llms, new, ("LLMs", Limit::Llms))?;
        let new = request.agents.iter().filter(|spec| !self.agents.contains_key(&spec.name)).count();
        within(limits.rows, usage.agents, new, ("agents", Limit::Agents))?;
        let user = &caller.user;
        let (mut old, mut new) = (0, 0);
        for spec in &request.providers {
            old += self.bytes_of_llm(user, &spec.name);
            new += provider_bytes(spec);
        }
        for spec in &request.agents {
            old += self.bytes_of_agent(user, &spec.name);
            new += agent_entry_bytes(spec);
        }
        if self.has_bytes(user, old, new) { Ok(()) } else { Err(RegisterRefusal::TooLarge(limits.row_bytes)) }
    }

    /// Checks that the pools that the call's rows name have places for them.
    pub(super) fn check_pool_limits(&self, caller: &Caller, request: &RegisterRequest) -> Result<(), String> {
        let mut new: BTreeMap<&str, usize> = BTreeMap::new();
        for spec in &request.providers {
            if let Some(pool) = spec.pool_name.as_deref().filter(|pool| !self.names_pool(&spec.name, pool)) {
                *new.entry(pool).or_default() += 1;
            }
        }
        new.into_iter().try_for_each(|(pool, new)| self.check_pool_rows(&caller.user, pool, new))
    }
}

/// Checks a limit of `most`, in a refusal by its noun and in the metric. What exceeds it already, from an older version, stays.
fn within(
    most: usize,
    current: usize,
    new: usize,
    (what, limit): (&'static str, Limit),
) -> Result<(), RegisterRefusal> {
    if new == 0 || current + new <= most { Ok(()) } else { Err(RegisterRefusal::TooMany(most, what, limit)) }
}
