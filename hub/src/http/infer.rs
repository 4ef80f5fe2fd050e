//! `POST /api/v1/llms/{name}/infer` (SPEC.md section 3.7): chat with a row or a pool, under the caller's own `model`.

use std::time::Duration;

use actix_web::web::{Path, Payload, ServiceConfig, post};
use actix_web::{HttpRequest, HttpResponse};
use wire::task::{CALLER_HEADERS, Endpoint, is_caller_header};

use super::{HubData, body};
use crate::dispatch::{InferenceRequest, serve};
use crate::error::{ApiError, Dialect};
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/llms/{name}/infer", post().to(respond));
}

async fn respond(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let patience = patience(&req)?;
    let body = body::request(&req, payload).await?;
    let endpoint = Endpoint::ChatCompletions;
    let streaming = body.streaming(endpoint)?;
    let target = hub.registry.lock().target(&caller, &name);
    let target = target.ok_or_else(|| ApiError::not_found("LLM", &name))?;
    let request = InferenceRequest {
        caller,
        target,
        endpoint,
        streaming,
        body,
        headers: caller_headers(&req),
        set_model: false,
        queue_timeout: patience,
    };
    serve(hub.into_inner(), request, Dialect::Api).await
}

/// Headers of the caller that go with its request.
pub(super) fn caller_headers(req: &HttpRequest) -> Vec<(String, String)> {
    let text = |name: &str| req.headers().get(name)?.to_str().ok();
    CALLER_HEADERS
        .into_iter()
        .filter_map(|name| Some((name, text(name)?)))
        .filter(|(name, value)| is_caller_header(name, value))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// How long the caller would wait for a member with room.
pub(super) fn patience(req: &HttpRequest) -> Result<Option<Duration>, ApiError> {
    /// A day: longer than any caller's connection lives.
    const MAX_SECONDS: f64 = 86_400.0;

    let Some(value) = req.headers().get("x-queue-timeout") else { return Ok(None) };
    let seconds: Option<f64> = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    match seconds {
        Some(seconds) if (0.0..=MAX_SECONDS).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        _ => Err(ApiError::bad_request("x-queue-timeout is a number of seconds, at most 86400")),
    }
}
