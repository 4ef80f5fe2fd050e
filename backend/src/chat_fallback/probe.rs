//! The probe that finds out whether a backend has an endpoint.

use wire::json::Object;
use wire::task::Endpoint;

use crate::BackendError;

/// LM Studio's error for an unknown endpoint, which it sends with status 200.
const NO_ENDPOINT: &str = "Unexpected endpoint or method";

/// Maximum length of the model name in a probe, in bytes.
const MAX_MODEL: usize = 1024;

/// Whether an error can mean that the backend lacks the endpoint.
pub(super) fn may_lack_endpoint(error: &BackendError) -> bool {
    match error {
        BackendError::Refused(refusal) => matches!(refusal.status, 404 | 405 | 501),
        BackendError::Failed(text) => text.contains(NO_ENDPOINT),
        BackendError::Unavailable
        | BackendError::Unresolved
        | BackendError::KeyRefused
        | BackendError::BudgetExceeded => false,
    }
}

/// Builds a request without a required member or without content, which a server with the endpoint refuses before any work. It names the model of
/// `request`, because a server may route by it.
pub(super) fn probe_body(endpoint: Endpoint, request: &[u8]) -> String {
    let text = std::str::from_utf8(request).ok();
    let request = text.and_then(|text| Object::parse(text).ok());
    let model = request.as_ref().and_then(|request| request.get("model"));
    let model = model.filter(|model| model.starts_with('"') && model.len() <= MAX_MODEL);
    let model = model.map(|model| format!(r#""model":{model},"#)).unwrap_or_default();
    match endpoint {
        Endpoint::Messages => format!(r#"{{{model}"max_tokens":1}}"#),
        Endpoint::CountTokens => format!(r#"{{{model}"messages":[]}}"#),
        Endpoint::InputTokens => format!(r#"{{{model}"input":[]}}"#),
        _ => format!(r#"{{{model}"max_output_tokens":1,"store":false}}"#),
    }
}
