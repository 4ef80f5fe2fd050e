//! `POST /api/chat`, `/api/generate`, `/api/embed` and `/api/embeddings`.

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use backend::translate::ollama::{Durations, OllamaAnswer, OllamaApi, OllamaRequest, translate};
use bytes::Bytes;
use schemars::json_schema;
use tokio::time::Instant;

use super::stream::{OllamaBody, OllamaLines};
use super::{untagged, untranslated};
use crate::clock;
use crate::dispatch::RequestBody;
use crate::error::{ApiError, ErrorKind};
use crate::http::body::{INFERENCE, read};
use crate::http::inference::{
    InferenceCall, for_member, parse_priority, parse_queue_timeout, resolve_or_default,
};
use crate::http::openapi::shapes::any_object;
use crate::http::openapi::{Routes, Shape, about};
use crate::hub::HubData;
use crate::model::Caller;
use crate::offload::offload;
use crate::quota::BytesPermit;
use crate::registry::Registry;

pub(super) fn register(routes: &mut Routes<'_>) {
    let streamed: Shape = |_| {
        json_schema!({
            "description": "Translated to OpenAI's API",
            "type": "object",
            "properties": {
                "model": { "type": ["string", "null"] },
                "stream": { "type": ["boolean", "null"], "default": true },
            },
        })
    };
    let whole: Shape = |_| {
        json_schema!({
            "description": "Translated to OpenAI's API",
            "type": "object",
            "properties": { "model": { "type": ["string", "null"] } },
        })
    };
    let call = |summary, body| {
        for_member(about(summary).takes(body)).returns(200, any_object).refuses(&[ErrorKind::ModelNotFound])
    };
    let serve = |api| move |hub, caller, req, payload| infer(api, hub, caller, req, payload);
    let lines = "application/x-ndjson";
    routes
        .post(
            "/api/chat",
            serve(OllamaApi::Chat),
            call("Chats of Ollama's API", streamed).returns_media(200, lines),
        )
        .post(
            "/api/generate",
            serve(OllamaApi::Generate),
            call("Texts of Ollama's API", streamed).returns_media(200, lines),
        )
        .post("/api/embed", serve(OllamaApi::Embed), call("Embeddings of Ollama's API", whole))
        .post(
            "/api/embeddings",
            serve(OllamaApi::Embeddings),
            call("An embedding, in the older form of Ollama's API", whole),
        );
}

async fn infer(
    api: OllamaApi,
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let start = Instant::now();
    // Before the body, and also for a request that no member answers.
    parse_queue_timeout(&req)?;
    parse_priority(&req)?;
    let (text, permit) = read(&req, payload, INFERENCE).await?;
    let size = text.len();
    let work = move || {
        let OllamaRequest { model, call, answer } =
            translate(api, &text).map_err(|error| ApiError::bad_request(error.0))?;
        let call = call.map(|call| {
            let held = permit.another(call.body.len())?;
            Ok::<_, ApiError>((call.endpoint, RequestBody::parse(call.body.into())?.counted(held)))
        });
        Ok((model, call.transpose()?, answer))
    };
    let (model, call, answer) = offload(&caller.user, size, work).await?;
    let resolve = |registry: &Registry, caller: &Caller| {
        let model = model.as_deref().map(|name| (untagged(registry, caller, name), name));
        resolve_or_default(registry, caller, model)
    };
    let Some((endpoint, body)) = call else {
        // Nothing is loaded and unloaded here, but the model has to be one that the caller may call.
        resolve(&hub.registry.lock(), &caller)?;
        let text = answer.without_input(&clock::now().to_string());
        return Ok(HttpResponse::Ok().content_type("application/json").body(text));
    };
    let user = caller.user.clone();
    let held = hub.unread_of(&user).empty();
    let call = InferenceCall::new(endpoint, &req, body)?;
    let response = call.serve(hub, &req, caller, true, resolve).await?;
    if !response.status().is_success() {
        return Ok(response);
    }
    if response.body().size() == BodySize::Stream {
        let lines = OllamaLines::new(answer.stream(), start, held);
        let mut response = response.map_body(|_, body| OllamaBody::new(body, lines, user).boxed());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        return Ok(response);
    }
    whole(response, answer, start, (&user, held)).await
}

/// Translates a whole answer for `user`, in whose quota `held` counts it meanwhile. Its first content is not seen, so all of
/// its time counts as that of the answer.
async fn whole(
    response: HttpResponse,
    answer: OllamaAnswer,
    start: Instant,
    (user, mut held): (&str, BytesPermit),
) -> Result<HttpResponse, ApiError> {
    let (response, body) = response.into_parts();
    let body: Bytes = body.try_into_bytes().unwrap_or_default();
    let (size, total) = (body.len(), start.elapsed());
    held.grow(size)?;
    let work = move || {
        let _held = held;
        let text = std::str::from_utf8(&body).unwrap_or_default();
        let durations = Durations { total, eval: total, ..Durations::default() };
        answer.whole(text, &clock::now().to_string(), durations).map_err(untranslated)
    };
    let text = offload(user, size, work).await?;
    Ok(response.set_body(BoxBody::new(text)))
}
