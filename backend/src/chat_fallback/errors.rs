//! Errors in the shape of the API of an endpoint.

use wire::openai::error_body;
use wire::task::Endpoint;

use crate::translate::{AnswerError, InvalidRequest, messages, responses};
use crate::{BackendError, Refusal, Reply};

pub(super) fn refusal(endpoint: Endpoint, InvalidRequest(reason): &InvalidRequest) -> Reply {
    Reply::Whole {
        status: 400,
        body: error_body_for(endpoint, 400, &error_body(reason, "invalid_request_error", None)),
    }
}

/// Converts the body of a refusal to the API of `endpoint`.
pub(super) fn translate_error(endpoint: Endpoint, error: BackendError) -> BackendError {
    match error {
        BackendError::Refused(refusal) => {
            let body = error_body_for(endpoint, refusal.status, &refusal.body);
            BackendError::Refused(Box::new(Refusal { body, ..*refusal }))
        }
        other => other,
    }
}

pub(super) fn error_body_for(endpoint: Endpoint, status: u16, body: &str) -> String {
    match endpoint {
        Endpoint::Messages => messages::error(status, body),
        _ => responses::error(status, body),
    }
}

pub(super) fn unreadable(error: AnswerError) -> BackendError {
    BackendError::Failed(error.to_string())
}
