//! The hub asks for the usage of streams for its records, whether their callers do or not (SPEC.md section 5, usage).

use memchr::memmem;
use wire::task::Endpoint;

use super::piece::StartedResponse;
use super::request::InferenceRequest;
use super::request_body::{RequestBody, UsageOptions};
use crate::error::{ApiError, ErrorKind};
use crate::registry::UsageSupport;

/// The `stream_options` to send in place of the caller's. `None` if the answer reports its usage anyway, or if the row
/// is known to refuse them.
pub(super) fn options(
    request: &InferenceRequest,
    body: &RequestBody,
    support: &UsageSupport,
) -> Option<UsageOptions> {
    let is_optional = matches!(request.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    (request.streaming && is_optional && !support.is_refused()).then(|| body.usage_options()).flatten()
}

/// Whether this refusal may be due to the `stream_options` that the hub added: it names them, or no stream with them
/// has begun on this row yet.
pub(super) fn may_be_due_to_usage(
    outcome: &Result<StartedResponse, ApiError>,
    support: &UsageSupport,
) -> bool {
    let (status, text) = match outcome {
        Ok(StartedResponse::Whole { status, body, .. }) => (*status, body.get()),
        Err(error) if error.kind == ErrorKind::Backend => (error.status().as_u16(), error.message.as_ref()),
        _ => return false,
    };
    let names_them = || {
        let names = |name: &str| memmem::find(text.as_bytes(), name.as_bytes()).is_some();
        names("stream_options") || names("include_usage")
    };
    matches!(status, 400 | 422) && (!support.is_known() || names_them())
}

/// Whether an answer has begun.
pub(super) fn is_answered(outcome: &Result<StartedResponse, ApiError>) -> bool {
    match outcome {
        Ok(StartedResponse::Whole { status, .. }) => *status < 400,
        Ok(_) => true,
        Err(_) => false,
    }
}
