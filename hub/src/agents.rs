//! Agents: a system prompt and default parameters for requests that do not set their own (SPEC.md section 5).

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use wire::json::{JsonError, Object, folds, quote};
use wire::request_policy::is_known_member;
use wire::task::Endpoint;

use crate::dispatch::RequestBody;
use crate::error::{ApiError, ErrorKind};
use crate::model::{Agent, Caller};
use crate::offload::offload;
use crate::registry::{Registry, Target, UnresolvedAgent};

/// The letter `ſ`, which readers that ignore letter case read as `s`, and which is lower case already.
const LONG_S: char = '\u{17f}';

/// Keys that an agent cannot set.
const NOT_DEFAULTS: [&str; 5] = ["model", "messages", "input", "stream", "stream_options"];

/// The target of a call of `agent`, which `caller` can see.
pub(crate) fn resolve_target(
    registry: &Registry,
    caller: &Caller,
    agent: &Agent,
) -> Result<Target, ApiError> {
    let name = &agent.name;
    match registry.agent_target(caller, agent) {
        Ok(target) => Ok(target),
        Err(UnresolvedAgent::OwnerChanged) => {
            let text = format!(
                "agent '{name}' is not served: the name of its LLM has another owner than when the agent was made; \
                 the agent's owner or an admin can save or delete it"
            );
            Err(ApiError::new(ErrorKind::Unavailable, text))
        }
        // The publisher or LLM is away, or the LLM is hidden from this caller. The error does not tell which.
        Err(UnresolvedAgent::NoTarget) => {
            let text = format!("agent '{name}' has no publisher now, try again later");
            Err(ApiError::new(ErrorKind::PublisherAway, text))
        }
    }
}

/// Adds the agent's prompt and parameters to `request`, and counts the result in the quota of `user`. The request may be
/// large: the registry must not be locked.
pub(crate) async fn apply_to_request(
    agent: Agent,
    endpoint: Endpoint,
    user: &str,
    request: RequestBody,
) -> Result<RequestBody, ApiError> {
    let size = request.size();
    let is_owner = user == agent.owner;
    let work = move || {
        let request = if is_owner { request } else { without_overrides(&agent, request)? };
        let text = apply(&agent, endpoint, request.as_str());
        // The agent's text may have line breaks: parse it again.
        let made = request.derive(text.map_err(|error| ApiError::bad_request(error.to_string()))?.into())?;
        Ok(made.by_agent(agent.owner, &request))
    };
    offload(user, size, work).await
}

/// Removes the caller's members that no known API defines and that the agent sets too: they are not sent for the caller, and
/// must not replace the agent's.
fn without_overrides(agent: &Agent, request: RequestBody) -> Result<RequestBody, ApiError> {
    let Some(params) = agent.default_params.as_deref() else { return Ok(request) };
    let invalid = |error: JsonError| ApiError::bad_request(error.to_string());
    let params = Object::parse(params.get()).map_err(invalid)?;
    let unknown = params.members().map(|(name, _)| name).filter(|name| !is_known_member(name));
    let unknown: HashSet<String> = unknown.map(fold_name).collect();
    if unknown.is_empty() {
        return Ok(request);
    }
    let mut object = Object::parse(request.as_str()).map_err(invalid)?;
    let is_override = |name: &str| !is_known_member(name) && unknown.contains(&fold_name(name));
    if !object.remove_if(is_override) {
        return Ok(request);
    }
    request.derive(object.to_string().into())
}

/// The form in which names that differ only in letter case are equal, and those that differ as [`folds`] ignores.
fn fold_name(name: &str) -> String {
    let letters = name.chars().map(|letter| if letter == LONG_S { 's' } else { letter });
    letters.flat_map(char::to_lowercase).collect()
}

/// Default parameters that are part of the input and so of its count.
const COUNTED: [&str; 6] = ["instructions", "system", "text", "thinking", "tool_choice", "tools"];

/// Adds the agent's prompt and parameters to a request. The caller's values win.
fn apply(agent: &Agent, endpoint: Endpoint, request: &str) -> Result<String, JsonError> {
    let mut object = Object::parse(request)?;
    if matches!(endpoint, Endpoint::Embeddings | Endpoint::Rerank) {
        // These endpoints generate no text.
        return Ok(object.to_string());
    }
    let params = agent.default_params.as_deref().map(|params| Object::parse(params.get())).transpose()?;
    // Servers refuse a count with parameters of the answer.
    let may_default = |key: &str| {
        !NOT_DEFAULTS.iter().any(|not| folds(key, not)) && (!endpoint.is_count() || COUNTED.contains(&key))
    };
    object.set_defaults(params.iter().flat_map(Object::members).filter(|(key, _)| may_default(key)));
    let Some(prompt) = agent.system_prompt.as_deref().filter(|prompt| !prompt.is_empty()) else {
        return Ok(object.to_string());
    };
    match endpoint {
        Endpoint::ChatCompletions => {
            if let Some(messages) = with_prompt(object.get("messages"), prompt)? {
                object.set("messages", messages);
            }
        }
        Endpoint::Responses | Endpoint::InputTokens => object.set_default("instructions", quote(prompt)),
        Endpoint::Messages | Endpoint::CountTokens => object.set_default("system", quote(prompt)),
        Endpoint::Completions | Endpoint::Embeddings | Endpoint::Rerank => (),
    }
    Ok(object.to_string())
}

/// The messages with the prompt in front; `None` if there is a system message already, or no list of messages.
fn with_prompt(messages: Option<&str>, prompt: &str) -> Result<Option<String>, JsonError> {
    let Some(messages) = messages.filter(|messages| messages.starts_with('[')) else { return Ok(None) };
    let HasSystemMessage(has_prompt) = serde_json::from_str(messages).map_err(|_| JsonError::Syntax(0))?;
    if has_prompt {
        return Ok(None);
    }
    let rest = messages[1..].trim_ascii_start();
    let comma = if rest.starts_with(']') { "" } else { "," };
    Ok(Some(format!(r#"[{{"role":"system","content":{}}}{comma}{rest}"#, quote(prompt))))
}

/// Whether a list of messages has a system message. No message is kept: there may be millions.
struct HasSystemMessage(bool);

impl<'de> Deserialize<'de> for HasSystemMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Head<'a> {
            #[serde(borrow, default)]
            role: Option<Cow<'a, str>>,
        }

        struct Messages;
        impl<'de> Visitor<'de> for Messages {
            type Value = HasSystemMessage;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<HasSystemMessage, A::Error> {
                let mut found = false;
                while let Some(message) = list.next_element::<&RawValue>()? {
                    let head = serde_json::from_str::<Head<'_>>(message.get());
                    found |=
                        head.is_ok_and(|head| matches!(head.role.as_deref(), Some("system" | "developer")));
                }
                Ok(HasSystemMessage(found))
            }
        }
        deserializer.deserialize_seq(Messages)
    }
}

#[cfg(test)]
mod tests;
