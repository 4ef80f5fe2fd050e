//! `POST /v1/chat/completions` and its siblings: OpenAI's API, and Anthropic's messages, by the name in `model`.

use actix_web::web::{Payload, ServiceConfig, post};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use wire::task::Endpoint;

use super::infer::{caller_headers, patience};
use super::paths::PathModel;
use super::{HubData, body, models};
use crate::agents;
use crate::dispatch::{InferenceRequest, serve};
use crate::error::{ApiError, Dialect};
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    for endpoint in [
        Endpoint::ChatCompletions,
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::Responses,
        Endpoint::Messages,
        Endpoint::Rerank,
    ] {
        let respond = move |hub, caller, req, payload| respond(endpoint, hub, caller, req, payload);
        config.route(&format!("/v1/{}", endpoint.as_str()), post().to(respond));
    }
}

async fn respond(
    endpoint: Endpoint,
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let patience = patience(&req)?;
    let body = body::request(&req, payload).await?;
    let model = match req.extensions().get::<PathModel>() {
        Some(PathModel(model)) => model.clone(),
        None => body.model()?,
    };
    let streaming = body.streaming(endpoint)?;
    let (target, agent) = {
        let registry = hub.registry.lock();
        // A row, then a pool, then an agent.
        if let Some(target) = registry.target(&caller, &model) {
            (target, None)
        } else {
            let agent = registry.agent(&caller, &model).ok_or_else(|| models::not_found(&model))?;
            (agents::resolve_target(&registry, &caller, agent)?, Some(agent.clone()))
        }
    };
    let body = match agent {
        Some(agent) => agents::apply_to_request(agent, endpoint, &caller.user, body).await?,
        None => body,
    };
    let request = InferenceRequest {
        caller,
        target,
        endpoint,
        streaming,
        body,
        headers: caller_headers(&req),
        set_model: true,
        queue_timeout: patience,
    };
    serve(hub.into_inner(), request, Dialect::of(req.path())).await
}
