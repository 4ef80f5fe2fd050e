//! Callers' inferences: all routes that begin one read it here. These are `/v1`, the routes of a row and of an agent,
//! and Ollama's calls. `POST /v1/chat/completions` and its siblings, the APIs of OpenAI and Anthropic, take the name in
//! `model`.

use std::time::Duration;

use actix_web::http::header::HeaderValue;
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use schemars::json_schema;
use wire::task::{CALLER_HEADERS, Endpoint, is_caller_header};

use super::body;
use super::middleware::PathModel;
use super::openapi::shapes::{any_object, priority, seconds, token_count};
use super::openapi::{Operation, Routes, Shape, about};
pub(super) use super::resolve::resolve_or_default;
use crate::affinity::SESSION_HEADERS;
use crate::agents;
use crate::dispatch::{InferenceRequest, Priority, RequestBody, serve};
use crate::error::{ApiError, Dialect, ErrorKind};
use crate::hub::HubData;
use crate::model::{Agent, Caller};
use crate::registry::{Registry, Target};

/// An inference that was read from its HTTP request and has no target yet.
pub(super) struct InferenceCall {
    pub(super) body: RequestBody,
    endpoint: Endpoint,
    headers: Vec<(String, String)>,
    queue_timeout: Option<Duration>,
    priority: Priority,
    dialect: Dialect,
}

impl InferenceCall {
    pub(super) async fn read(
        endpoint: Endpoint,
        req: &HttpRequest,
        payload: Payload,
    ) -> Result<Self, ApiError> {
        // Before the body, which may be large.
        parse_queue_timeout(req)?;
        parse_priority(req)?;
        let body = body::request(req, payload).await?;
        if endpoint == Endpoint::Messages && body.continues_thread() {
            return Err(ApiError::no_thread());
        }
        Self::new(endpoint, req, body)
    }

    /// The call of `req`, with a body that was read.
    pub(super) fn new(endpoint: Endpoint, req: &HttpRequest, body: RequestBody) -> Result<Self, ApiError> {
        Ok(Self {
            body,
            endpoint,
            headers: caller_headers(req),
            queue_timeout: parse_queue_timeout(req)?,
            priority: parse_priority(req)?,
            dialect: Dialect::of(req.path()),
        })
    }

    /// Sends the call to the target that `resolve` finds, with the prompt of the agent that it finds, and answers the
    /// caller. With `set_model` the body's `model` becomes that of the row.
    pub(super) async fn serve(
        self,
        hub: HubData,
        req: &HttpRequest,
        caller: Caller,
        set_model: bool,
        resolve: impl FnOnce(&Registry, &Caller) -> Result<(Target, Option<Agent>), ApiError>,
    ) -> Result<HttpResponse, ApiError> {
        let Self { body, endpoint, headers, queue_timeout, priority, dialect } = self;
        // A bulk call waits as long as one for its first content, unless it says how long.
        let queue_timeout =
            queue_timeout.or((priority == Priority::Bulk).then_some(hub.options.timings.wait_timeout));
        let streaming = body.streaming(endpoint)?;
        let (target, agent, has_choice) = {
            let registry = hub.registry.lock();
            let (target, agent) = resolve(&registry, &caller)?;
            // Embeddings, ranks and counts leave no prompt in a cache that a later call continues.
            let has_prompt = endpoint.can_stream();
            let has_choice = has_prompt && registry.has_choice(&target);
            (target, agent, has_choice)
        };
        let body = match agent {
            Some(agent) => agents::apply_to_request(agent, endpoint, &caller.user, body).await?,
            None => body,
        };
        let session = if has_choice { session_name(req) } else { None };
        let is_chained = has_choice
            && endpoint == Endpoint::Responses
            && session.is_none()
            && body.conversation_name().is_none();
        let conversation =
            if has_choice { hub.conversation(&caller.user, &target, &body, session) } else { None };
        let request = InferenceRequest {
            caller,
            target,
            endpoint,
            streaming,
            body,
            headers,
            set_model,
            conversation,
            is_chained,
            queue_timeout,
            priority,
        };
        // Apart: the futures around it are moved several times, and this one is some 12 KB.
        Box::pin(serve(hub.into_inner(), request, dialect)).await
    }
}

/// The headers of the caller that are passed on to the backend.
fn caller_headers(req: &HttpRequest) -> Vec<(String, String)> {
    let text = |name: &str| req.headers().get(name)?.to_str().ok();
    CALLER_HEADERS
        .into_iter()
        .filter_map(|name| Some((name, text(name)?)))
        .filter(|(name, value)| is_caller_header(name, value))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The caller's name for its session, from the first header that has one.
fn session_name(req: &HttpRequest) -> Option<&[u8]> {
    let values = SESSION_HEADERS.into_iter().filter_map(|name| req.headers().get(name));
    values.map(HeaderValue::as_bytes).find(|value| !value.is_empty())
}

/// `x-queue-timeout`: how long the caller waits for a member with free capacity.
pub(super) fn parse_queue_timeout(req: &HttpRequest) -> Result<Option<Duration>, ApiError> {
    /// A day: longer than any caller's connection lives.
    const MAX_SECONDS: f64 = 86_400.0;

    let Some(value) = req.headers().get("x-queue-timeout") else { return Ok(None) };
    let seconds: Option<f64> = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    match seconds {
        Some(seconds) if (0.0..=MAX_SECONDS).contains(&seconds) => Ok(Some(Duration::from_secs_f64(seconds))),
        _ => Err(ApiError::bad_request("x-queue-timeout is a number of seconds, at most 86400")),
    }
}

/// `x-priority`: which calls are served first.
pub(super) fn parse_priority(req: &HttpRequest) -> Result<Priority, ApiError> {
    match req.headers().get("x-priority").map(HeaderValue::as_bytes) {
        None | Some(b"normal") => Ok(Priority::Normal),
        Some(b"bulk") => Ok(Priority::Bulk),
        Some(_) => {
            Err(ApiError::bad_request("x-priority is 'bulk', for a call behind all others, or 'normal'"))
        }
    }
}

/// The description of a chat with a row, a pool or an agent that the path names.
pub(super) fn chat(summary: &'static str) -> Operation {
    let body: Shape = |_| {
        json_schema!({
            "description": "A request for /v1/chat/completions",
            "type": "object",
            "properties": { "stream": { "type": ["boolean", "null"] } },
        })
    };
    describe(about(summary).takes(body), Endpoint::ChatCompletions).refuses(&[ErrorKind::NotFound])
}

/// The description of an endpoint of OpenAI's and Anthropic's APIs. Bodies are passed on, so only what the hub reads of them is
/// described.
fn of_endpoint(endpoint: Endpoint) -> Operation {
    let summary = match endpoint {
        Endpoint::ChatCompletions => "Chat completions of OpenAI's API",
        Endpoint::Completions => "Completions of OpenAI's API",
        Endpoint::Embeddings => "Embeddings of OpenAI's API",
        Endpoint::Responses => "Responses of OpenAI's API",
        Endpoint::Messages => "Messages of Anthropic's API",
        Endpoint::Rerank => "Ranks of documents",
        Endpoint::CountTokens => "Counts the tokens of a request for /v1/messages",
        Endpoint::InputTokens => "Counts the tokens of a request for /v1/responses",
    };
    let whole: Shape = |_| {
        json_schema!({
            "description": "Passed on; the hub reads `model`",
            "type": "object",
            "properties": { "model": { "type": ["string", "null"] } },
        })
    };
    let streamed: Shape = |_| {
        json_schema!({
            "description": "Passed on; the hub reads `model` and `stream`",
            "type": "object",
            "properties": {
                "model": { "type": ["string", "null"] },
                "stream": { "type": ["boolean", "null"] },
            },
        })
    };
    let body = if endpoint.can_stream() { streamed } else { whole };
    describe(about(summary).takes(body), endpoint).refuses(&[ErrorKind::ModelNotFound])
}

/// Adds what all calls have that a member answers.
pub(super) fn for_member(operation: Operation) -> Operation {
    operation
        .header("x-queue-timeout", "Longest wait for a free member, in seconds", seconds)
        .header("x-priority", "`bulk` for a call that is served when no others wait", priority)
        .returns_header("x-virtual-llm-row", "The row that answered, if the caller may see it")
        .returns_header("server-timing", "Times in milliseconds: queue, first, total")
        .passes_errors()
        .refuses(UNANSWERED)
}

fn describe(operation: Operation, endpoint: Endpoint) -> Operation {
    let operation = for_member(operation);
    match endpoint {
        Endpoint::CountTokens | Endpoint::InputTokens => operation
            .returns(200, token_count)
            .returns_header("x-virtual-llm-estimate", "`true` if the hub estimated the count"),
        _ if endpoint.can_stream() => {
            operation.returns(200, any_object).returns_media(200, "text/event-stream")
        }
        _ => operation.returns(200, any_object),
    }
}

/// The errors of calls that no publisher answered.
const UNANSWERED: &[ErrorKind] = &[
    ErrorKind::QueueFull,
    ErrorKind::BadGateway,
    ErrorKind::BackendKey,
    ErrorKind::PublisherRefused,
    ErrorKind::NotPublished,
    ErrorKind::Interrupted,
    ErrorKind::Unavailable,
    ErrorKind::PublisherAway,
    ErrorKind::PublisherLost,
    ErrorKind::PublisherStopping,
    ErrorKind::Paused,
    ErrorKind::BackendUnavailable,
    ErrorKind::NoRoom,
    ErrorKind::Waking,
    ErrorKind::WakeFailed,
    ErrorKind::HubStopping,
    ErrorKind::HubBusy,
    ErrorKind::Timeout,
    ErrorKind::StreamIdle,
];

pub(super) fn register(routes: &mut Routes<'_>) {
    for endpoint in [
        Endpoint::ChatCompletions,
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::Responses,
        Endpoint::Messages,
        Endpoint::Rerank,
        Endpoint::CountTokens,
        Endpoint::InputTokens,
    ] {
        let infer = move |hub, caller, req, payload| infer(endpoint, hub, caller, req, payload);
        routes.post(format!("/v1/{}", endpoint.as_str()), infer, of_endpoint(endpoint));
    }
}

async fn infer(
    endpoint: Endpoint,
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let call = InferenceCall::read(endpoint, &req, payload).await?;
    let model = match req.extensions().get::<PathModel>() {
        Some(PathModel(model)) => Some(model.clone()),
        None => call.body.model()?,
    };
    call.serve(hub, &req, caller, true, |registry, caller| {
        let model = model.as_deref();
        resolve_or_default(registry, caller, model.map(|model| (model, model)))
    })
    .await
}
