//! Ollama's API: `/api/…` beside the hub's own `/api/v1`. Calls are translated to OpenAI's endpoints, and the answers back, by
//! [`backend::translate::ollama`]; a member sees an OpenAI call.

mod calls;
mod models;
mod refusals;
mod stream;

use backend::translate::AnswerError;

use super::openapi::Routes;
use crate::error::ApiError;
use crate::model::Caller;
use crate::news::news;
use crate::registry::Registry;

/// The tag that Ollama adds to a name without one.
const DEFAULT_TAG: &str = ":latest";

pub(super) fn register(routes: &mut Routes<'_>) {
    calls::register(routes);
    models::register(routes);
    refusals::register(routes);
}

/// The error for an answer that cannot be translated. The record of its call says that the member answered.
fn untranslated(error: AnswerError) -> ApiError {
    news!(
        info,
        "answers not translated",
        "Ollama's API",
        "an answer was not translated to Ollama's API: {error}"
    );
    ApiError::bad_gateway(error.to_string())
}

/// The name that `name` stands for: `NAME:latest` for `NAME`, unless an alias has the whole name. Patterns are compared with
/// `NAME` first. What other users have as `NAME` takes no calls of a pattern for `NAME:latest`.
fn untagged<'a>(registry: &Registry, caller: &Caller, name: &'a str) -> &'a str {
    let Some(plain) = name.strip_suffix(DEFAULT_TAG) else { return name };
    let is_others = !registry.is_claimed(caller, plain);
    let is_kept = registry.has_alias(caller, name) || is_others && registry.is_reserved(caller, name);
    let is_known = || registry.called_name(caller, plain).is_some();
    if !is_kept && (!is_others || is_known()) { plain } else { name }
}

/// The name under which Ollama's clients see `name`: with a tag.
fn tagged(registry: &Registry, caller: &Caller, name: &str) -> String {
    let with_tag = format!("{name}{DEFAULT_TAG}");
    if name.contains(':') || registry.has_alias(caller, &with_tag) {
        return name.to_owned();
    }
    with_tag
}
