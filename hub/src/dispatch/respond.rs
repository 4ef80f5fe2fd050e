//! Answers a caller: with a whole body or with a stream of events.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use wire::json::Object;
use wire::task::Endpoint;

use super::call::ActiveCall;
use super::count;
use super::failure::refusal;
use super::piece::{ResponsePiece, StartedResponse};
use super::request::InferenceRequest;
use super::response_body::{ResponseBody, expand_to_events};
use super::response_stream::{PendingResponse, StreamState, stream};
use super::run::run;
use crate::error::{ApiError, Dialect, retry_after};
use crate::hub::Hub;
use crate::model::Caller;

/// The API that a response is written for.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResponseFormat {
    /// Of errors.
    pub(super) dialect: Dialect,
    /// Of events.
    pub(super) endpoint: Endpoint,
}

/// Runs one inference and answers it.
pub(crate) async fn serve(
    hub: Arc<Hub>,
    request: InferenceRequest,
    dialect: Dialect,
) -> Result<HttpResponse, ApiError> {
    let format = ResponseFormat { dialect, endpoint: request.endpoint };
    let call = ActiveCall::admit(&hub, &request)?;
    let keepalive = hub.options.timings.keepalive_interval;
    if !request.streaming {
        let result = while_valid(&hub, &request.caller, run(&hub, &request, &call)).await;
        return match recorded(&call, result)? {
            StartedResponse::Uncounted => count::estimated(request, &call).await,
            response => Ok(respond(response, format, call, None, &hub, &request)),
        };
    }
    let request = Arc::new(request);
    let mut pending: PendingResponse = Box::pin({
        let (hub, request, call) = (hub.clone(), request.clone(), call.clone());
        async move {
            let response = async {
                expand_to_events(run(&hub, &request, &call).await?, request.endpoint, &request.caller.user)
                    .await
            };
            while_valid(&hub, &request.caller, response).await
        }
    });
    if keepalive.is_zero() {
        return Ok(respond(recorded(&call, pending.await)?, format, call, None, &hub, &request));
    }
    match tokio::time::timeout(keepalive, &mut pending).await {
        Ok(result) => Ok(respond(recorded(&call, result)?, format, call, Some(keepalive), &hub, &request)),
        Err(_) => Ok(stream(StreamState::Opening(pending), format, call, Some(keepalive), &hub, &request)),
    }
}

/// Drops `response`, and with it the dispatch, when the caller's token ends.
async fn while_valid<T>(
    hub: &Hub,
    caller: &Caller,
    response: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::select! {
        biased;
        () = hub.tokens.ended(caller) => Err(ApiError::revoked()),
        response = response => response,
    }
}

fn recorded(
    call: &ActiveCall,
    result: Result<StartedResponse, ApiError>,
) -> Result<StartedResponse, ApiError> {
    match &result {
        Ok(_) => call.mark_started(),
        Err(error) => call.fail(error),
    }
    result
}

fn respond(
    response: StartedResponse,
    format: ResponseFormat,
    call: Arc<ActiveCall>,
    keepalive: Option<Duration>,
    hub: &Arc<Hub>,
    request: &InferenceRequest,
) -> HttpResponse {
    let state = match response {
        StartedResponse::Whole { status, body, retry_after, .. } => {
            if request.is_chained
                && let Some((id, row)) = body.id().zip(call.row())
            {
                let former = request.conversation.as_ref();
                hub.name_response(&request.caller.user, &request.target, id, &row, former);
            }
            return whole_response(format, &call, status, body, retry_after);
        }
        StartedResponse::Expanded { bytes, tally, held } => {
            StreamState::Last(ResponsePiece::Events { bytes, tally, held })
        }
        StartedResponse::Stream { first, dispatch } => StreamState::First(first, dispatch),
        // A count has no stream.
        StartedResponse::Uncounted => StreamState::Last(ResponsePiece::Done),
    };
    stream(state, format, call, keepalive, hub, request)
}

/// A publisher's status and body. An error that does not have the dialect's shape is rewritten.
fn whole_response(
    format: ResponseFormat,
    call: &ActiveCall,
    status: u16,
    body: ResponseBody,
    named: Option<u32>,
) -> HttpResponse {
    call.add_whole(body.get().len(), body.usage());
    // Map 1xx and 3xx to 502: a publisher must not redirect a caller.
    let status = match status {
        200..=203 | 400..=599 => status,
        204..=299 => 200,
        _ => 502,
    };
    call.mark_first_byte();
    let error = (status >= 400).then(|| refusal(status, body.get()));
    call.end(status, error.as_ref());
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY));
    response.content_type("application/json");
    if let Some(seconds) = retry_after(status, named) {
        response.insert_header((RETRY_AFTER, seconds));
    }
    match error {
        Some(error) if !has_shape(format.dialect, body.get()) => response.body(error.body(format.dialect)),
        _ => response.body(body.into_bytes()),
    }
}

/// Whether an error body has the shape of `dialect`.
fn has_shape(dialect: Dialect, body: &str) -> bool {
    let Ok(object) = Object::parse(body) else { return false };
    if dialect == Dialect::Api {
        return true;
    }
    if dialect == Dialect::Ollama {
        return object.get("error").is_some_and(|error| error.starts_with('"'));
    }
    let error = object.get("error").is_some_and(|error| error.starts_with('{'));
    error && (dialect != Dialect::Anthropic || object.get("type") == Some("\"error\""))
}
