//! `GET /api/v1/agents[/{name}]`, `POST /api/v1/agents/{name}/infer` (SPEC.md section 5).

use actix_web::web::{Path, Payload, ServiceConfig, get, post};
use actix_web::{HttpRequest, HttpResponse};
use wire::row::AgentRow;
use wire::task::Endpoint;

use super::infer::{caller_headers, patience};
use super::list::PAGE;
use super::{HubData, body, list};
use crate::agents;
use crate::dispatch::{InferenceRequest, serve};
use crate::error::{ApiError, Dialect};
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/api/v1/agents", get().to(all))
        .route("/api/v1/agents/{name}", get().to(one))
        .route("/api/v1/agents/{name}/infer", post().to(infer));
}

/// Without what only who uses or changes an agent reads, and may be long.
async fn all(hub: HubData, caller: Caller) -> HttpResponse {
    let mut after: Option<String> = None;
    list::respond("[", "]", move || {
        let registry = hub.registry.lock();
        let agents = registry.agents_after(&caller, after.as_deref()).take(PAGE);
        let rows: Vec<AgentRow> = agents.map(|agent| registry.agent_list_row(&caller, agent)).collect();
        drop(registry);
        after = rows.last().map(|row| row.name.clone());
        let more = rows.len() == PAGE;
        (rows, more)
    })
}

async fn one(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let registry = hub.registry.lock();
    let row = registry.agent(&caller, &name).map(|agent| registry.agent_row(&caller, agent));
    drop(registry);
    Ok(HttpResponse::Ok().json(row.ok_or_else(|| ApiError::not_found("agent", &name))?))
}

async fn infer(
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
    let (target, agent) = {
        let registry = hub.registry.lock();
        let agent = registry.agent(&caller, &name).ok_or_else(|| ApiError::not_found("agent", &name))?;
        (agents::resolve_target(&registry, &caller, agent)?, agent.clone())
    };
    let body = agents::apply_to_request(agent, endpoint, &caller.user, body).await?;
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
    serve(hub.into_inner(), request, Dialect::Api).await
}
