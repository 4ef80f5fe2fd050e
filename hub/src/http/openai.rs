//! `POST /v1/chat/completions` and its siblings: the APIs of OpenAI and Anthropic, by the name in `model`.

use actix_web::web::{Payload, ServiceConfig, post};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use wire::task::Endpoint;

use super::inference::InferenceCall;
use super::middleware::PathModel;
use super::{HubData, models};
use crate::agents;
use crate::error::ApiError;
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
        let infer = move |hub, caller, req, payload| infer(endpoint, hub, caller, req, payload);
        config.route(&format!("/v1/{}", endpoint.as_str()), post().to(infer));
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
        Some(PathModel(model)) => model.clone(),
        None => call.body.model()?,
    };
    call.serve(hub, caller, true, |registry, caller| {
        // A row, then a pool, then an agent.
        if let Some(target) = registry.target(caller, &model) {
            return Ok((target, None));
        }
        let agent = registry.agent(caller, &model).ok_or_else(|| models::not_found(&model))?;
        Ok((agents::resolve_target(registry, caller, agent)?, Some(agent.clone())))
    })
    .await
}
