//! The target of a call by the name in its `model`.

use crate::agents;
use crate::error::ApiError;
use crate::model::{Agent, Caller};
use crate::registry::{Registry, Target};

/// Most names in the error for a call without a model.
const MAX_NAMED: usize = 5;

/// The target of a call for a model, given as the name to look up and the name that an error says; without a model the
/// default one.
pub(super) fn resolve_or_default(
    registry: &Registry,
    caller: &Caller,
    model: Option<(&str, &str)>,
) -> Result<(Target, Option<Agent>), ApiError> {
    let Some((name, asked)) = model else { return resolve_default(registry, caller) };
    registry
        .called_name(caller, name)
        .and_then(|name| resolve(registry, caller, name))
        .unwrap_or_else(|| Err(unknown(registry, caller, asked)))
}

/// The target of a call that goes to the row, the pool or the agent `name`. `None` if there is none.
fn resolve(
    registry: &Registry,
    caller: &Caller,
    name: &str,
) -> Option<Result<(Target, Option<Agent>), ApiError>> {
    if let Some(target) = registry.target(caller, name) {
        return Some(Ok((target, None)));
    }
    let agent = registry.agent(caller, name)?;
    Some(agents::resolve_target(registry, caller, agent).map(|target| (target, Some(agent.clone()))))
}

/// The error for a call for `model`, which has no target.
fn unknown(registry: &Registry, caller: &Caller, model: &str) -> ApiError {
    let error = ApiError::model_not_found(model);
    if let Some(target) = registry.lapsed_alias_target(caller, model) {
        return error.reword(|text| {
            format!("{text}: it was an alias of '{target}', which has another owner now: set it again")
        });
    }
    match registry.own_alias_target(caller, model) {
        Some(target) => error
            .reword(|text| format!("{text}: it is your alias of '{target}', which nothing has that you see")),
        None => error,
    }
}

/// The target of a call that names no model: what `default` stands for, else the only LLM that the caller sees.
fn resolve_default(registry: &Registry, caller: &Caller) -> Result<(Target, Option<Agent>), ApiError> {
    if let Some(found) = registry.default_name(caller).and_then(|name| resolve(registry, caller, name)) {
        return found;
    }
    let seen: Vec<&str> =
        registry.llms_after(caller, None).take(MAX_NAMED + 1).map(|llm| llm.name.as_str()).collect();
    if let [only] = seen[..]
        && let Some(found) = resolve(registry, caller, only)
    {
        return found;
    }
    if seen.is_empty() {
        return Err(ApiError::bad_request("the request's body has no 'model', and you see no LLM"));
    }
    let mut named =
        seen.iter().take(MAX_NAMED).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    if seen.len() > MAX_NAMED {
        named.push_str(", …");
    }
    Err(ApiError::bad_request(format!("the request's body has no 'model', a string: name one of {named}")))
}
