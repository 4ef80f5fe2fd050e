//! `POST /v1/chat/completions` and its siblings: OpenAI's API, and Anthropic's messages, by the name in `model`.

use actix_web::web::{Payload, ServiceConfig, post};
use actix_web::{HttpRequest, HttpResponse};
use wire::json::Object;
use wire::task::Endpoint;

use super::infer::{patience, request_body};
use super::{HubData, models};
use crate::agents;
use crate::error::{ApiError, Dialect};
use crate::model::Caller;
use crate::relay::{Request, serve};

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
    let (body, streaming, held) = request_body(&req, payload).await?;
    let model = Object::parse(&body).ok().and_then(|body| body.get_string("model"));
    let model = model.ok_or_else(|| ApiError::bad_request("the request's body has no 'model', a string"))?;
    let (target, body) = {
        let registry = hub.registry.lock();
        // A row, then a pool, then an agent.
        if let Some(target) = registry.target(&caller, &model) {
            (target, body)
        } else {
            let agent = registry.agent(&caller, &model).ok_or_else(|| models::not_found(&model))?;
            agents::prepare(&registry, &caller, agent, endpoint, &body)?
        }
    };
    let request =
        Request { caller, target, endpoint, streaming, body, set_model: true, patience, held: Some(held) };
    serve(hub.into_inner(), request, Dialect::of(req.path())).await
}
