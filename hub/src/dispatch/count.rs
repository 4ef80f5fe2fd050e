//! Counts of a request's tokens (`/v1/messages/count_tokens`, `/v1/responses/input_tokens`). A backend that counts answers
//! them; else the hub estimates. A count never wakes a backend and never waits for one.

use std::future::Future;
use std::time::Duration;

use actix_web::HttpResponse;
use tokio::time::timeout;
use wire::features::Feature;
use wire::json::member;
use wire::task::Endpoint;

use super::call::ActiveCall;
use super::estimate::estimate;
use super::piece::StartedResponse;
use super::request::InferenceRequest;
use crate::error::{ApiError, ErrorKind};
use crate::offload::{INLINE_BYTES, offload};
use crate::registry::Candidate;

/// Longest wait for a backend's count. Counts take milliseconds; agents ask for one before each of their turns.
const LIMIT: Duration = Duration::from_secs(10);

/// Tells a caller that the count is an estimate.
const ESTIMATE: (&str, &str) = ("x-virtual-llm-estimate", "true");

/// Runs `tries`, and gives up the count after [`LIMIT`].
pub(super) async fn limited(
    tries: impl Future<Output = Result<StartedResponse, ApiError>>,
) -> Result<StartedResponse, ApiError> {
    timeout(LIMIT, tries).await.unwrap_or(Ok(StartedResponse::Uncounted))
}

/// Fails if the member cannot count now: its backend sleeps or is busy, or its publisher is a classic one.
pub(super) fn check(candidate: &Candidate) -> Result<(), ApiError> {
    let is_reachable = candidate.upstream.is_some() || candidate.features.has(Feature::Endpoints);
    if is_reachable && !candidate.asleep && !candidate.is_full() {
        return Ok(());
    }
    Err(ApiError::new(ErrorKind::BackendUnavailable, "this member counts no tokens now"))
}

/// What a member made of a count. Only a count, and a refusal of the request itself, is the caller's answer.
pub(super) fn checked(outcome: Result<StartedResponse, ApiError>) -> Result<StartedResponse, ApiError> {
    let is_uncounted = match &outcome {
        Ok(StartedResponse::Whole { status: 200..=299, body, .. }) => !is_count(body.get()),
        // 404, 405 and 501: the backend does not have the endpoint.
        Ok(StartedResponse::Whole { status, .. }) => !matches!(status, 400 | 413 | 415 | 422),
        Ok(_) => true,
        Err(error) => matches!(
            error.kind,
            ErrorKind::BadGateway
                | ErrorKind::BackendKey
                | ErrorKind::PublisherRefused
                | ErrorKind::PublisherAway
                | ErrorKind::PublisherLost
                | ErrorKind::BackendUnavailable
                | ErrorKind::StreamIdle
        ),
    };
    if is_uncounted { Ok(StartedResponse::Uncounted) } else { outcome }
}

/// Whether an answer has what every SDK reads. A count has some dozens of bytes; a large answer is none.
fn is_count(answer: &str) -> bool {
    answer.len() <= INLINE_BYTES
        && member(answer, "input_tokens").is_some_and(|count| count.parse::<u64>().is_ok())
}

/// Answers a count that no backend made, with an estimate.
pub(super) async fn estimated(
    request: InferenceRequest,
    call: &ActiveCall,
) -> Result<HttpResponse, ApiError> {
    let InferenceRequest { caller, endpoint, body, .. } = request;
    let tokens = offload(&caller.user, body.size(), move || Ok(estimate(body.as_str()))).await;
    let tokens = tokens.inspect_err(|error| call.fail(error))?;
    call.mark_first_byte();
    call.end(200, None);
    let body = match endpoint {
        Endpoint::InputTokens => format!(r#"{{"object":"response.input_tokens","input_tokens":{tokens}}}"#),
        _ => format!(r#"{{"input_tokens":{tokens}}}"#),
    };
    Ok(HttpResponse::Ok().insert_header(ESTIMATE).content_type("application/json").body(body))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_count_that_takes_longer_than_ten_seconds_is_given_up() {
        let began = Instant::now();
        assert!(matches!(limited(pending()).await, Ok(StartedResponse::Uncounted)));
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }

    /// A27: it would be parsed on the thread that serves all users.
    #[test]
    fn a_large_answer_is_no_count() {
        let count = |more: &str| format!(r#"{{"object":"response.input_tokens",{more}"input_tokens":18}}"#);
        assert!(is_count(&count("")));
        let elements = "[],".repeat(1000);
        assert!(is_count(&count(&format!(r#""details":[{elements}1],"#))));
        let elements = elements.repeat(12);
        assert!(!is_count(&count(&format!(r#""details":[{elements}1],"#))));
        for other in [r#"{"input_tokens":"18"}"#, r#"{"input_tokens":-1}"#, "{}", "[18]", "18"] {
            assert!(!is_count(other), "{other}");
        }
    }
}
