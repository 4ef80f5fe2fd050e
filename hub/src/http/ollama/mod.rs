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

/// The name that `name` stands for: `NAME:latest` for `NAME`, unless an alias has the whole name. Patterns with `*` are
/// compared with `NAME`, and with `NAME:latest` only if nothing has that.
fn untagged<'a>(registry: &Registry, caller: &Caller, name: &'a str) -> &'a str {
    let Some(plain) = name.strip_suffix(DEFAULT_TAG) else { return name };
    let is_known = || registry.called_name(caller, plain).is_some();
    if registry.exact_alias_target(caller, name).is_none() && is_known() { plain } else { name }
}

/// The name under which Ollama's clients see `name`: with a tag.
fn tagged(registry: &Registry, caller: &Caller, name: &str) -> String {
    let with_tag = format!("{name}{DEFAULT_TAG}");
    if name.contains(':') || registry.exact_alias_target(caller, &with_tag).is_some() {
        return name.to_owned();
    }
    with_tag
}
