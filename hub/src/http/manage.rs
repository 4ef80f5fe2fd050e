//! Making, changing and deleting what people own: public LLMs and agents (SPEC.md section 5).

use actix_web::web::{Path, Payload, ServiceConfig, delete, post, put};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use wire::row::LlmRow;

use super::{HubData, body, naming};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::Caller;
use crate::quota::{too_large, too_many};
use crate::random;
use crate::registry::{AgentSpec, LlmSpec, ManageError, Registry};
use crate::store::Change;

/// What a route is about, in the text of a refusal.
const LLM: &str = "LLM";
const AGENT: &str = "agent";
pub(super) const POOL: &str = "pool";
pub(super) const NAME: &str = "name";

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/api/v1/llms", post().to(create_llm))
        .route("/api/v1/llms/{name}", put().to(update_llm))
        .route("/api/v1/llms/{name}", delete().to(delete_llm))
        .route("/api/v1/agents", post().to(create_agent))
        .route("/api/v1/agents/{name}", put().to(update_agent))
        .route("/api/v1/agents/{name}", delete().to(delete_agent));
}

/// A row that was changed, and what was not done as its caller may have meant it.
#[derive(Serialize)]
struct Updated {
    #[serde(flatten)]
    row: LlmRow,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

async fn create_llm(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let spec: LlmSpec = body::json(&req, payload).await?;
    let name = spec.name.clone().unwrap_or_default();
    let row = changed(&hub, LLM, &name, |registry| {
        let (llm, changes) = registry.create_llm(&caller, spec, random::id("llm"), hub.now())?;
        hub.offer(registry, &llm.name);
        hub.offer_detached();
        Ok((registry.llm_row(&caller, &llm), changes))
    });
    Ok(HttpResponse::Created().json(row.await?))
}

async fn update_llm(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let spec: LlmSpec = body::json(&req, payload).await?;
    let done = changed(&hub, LLM, &name, |registry| {
        let names = registry.names_reaching(&name);
        let ((llm, warning), changes) = registry.update_llm(&caller, &name, spec, hub.now())?;
        // It may have joined a pool that somebody waits for.
        hub.offer(registry, &name);
        hub.offer_names(registry, names.iter().map(String::as_str));
        hub.offer_detached();
        Ok(((registry.llm_row(&caller, &llm), warning), changes))
    });
    let (row, warning) = done.await?;
    if warning.is_some() {
        log::warn!("{} gave LLM {} another server: its key was not kept", caller.user, row.name);
    }
    let warnings = warning.into_iter().collect();
    Ok(HttpResponse::Ok().json(Updated { row, warnings }))
}

async fn delete_llm(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let done = changed(&hub, LLM, &name, |registry| {
        let names = registry.names_reaching(&name);
        let changes = registry.delete_llm(&caller, &name, hub.now())?;
        // Who waited for it while it was awake may have another one of its pool woken.
        hub.offer_names(registry, names.iter().map(String::as_str));
        Ok(((), changes))
    });
    done.await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn create_agent(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    naming::may_ask(&hub, &caller)?;
    let spec: AgentSpec =
        body::json(&req, payload).await.map_err(|error| naming::refused(&hub, &caller, [], error))?;
    naming::may_ask(&hub, &caller)?;
    let name = spec.name.clone().unwrap_or_default();
    let done = hub.try_change(|registry| {
        let (agent, changes) = registry.create_agent(&caller, spec, random::id("agent"), hub.now())?;
        hub.agents_changed(registry, [agent.name.as_str()]);
        Ok((agent, changes))
    });
    let (agent, written) =
        done.map_err(|error| naming::refused(&hub, &caller, [name.as_str()], refused(error, AGENT, &name)))?;
    written.await?;
    Ok(HttpResponse::Created().json(agent.row()))
}

async fn update_agent(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let spec: AgentSpec = body::json(&req, payload).await?;
    let agent = changed(&hub, AGENT, &name, |registry| {
        let done = registry.update_agent(&caller, &name, spec, hub.now())?;
        hub.agents_changed(registry, [name.as_str()]);
        Ok(done)
    });
    Ok(HttpResponse::Ok().json(agent.await?.row()))
}

async fn delete_agent(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let deleted =
        changed(&hub, AGENT, &name, |registry| Ok(((), registry.delete_agent(&caller, &name, hub.now())?)));
    deleted.await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Changes the table, and answers when that is written: what `change` gives, or why not, of the thing `what` by this name.
pub(super) async fn changed<T>(
    hub: &Hub,
    what: &str,
    name: &str,
    change: impl FnOnce(&mut Registry) -> Result<(T, Vec<Change>), ManageError>,
) -> Result<T, ApiError> {
    let (given, written) = hub.try_change(change).map_err(|error| refused(error, what, name))?;
    written.await?;
    Ok(given)
}

fn refused(error: ManageError, what: &str, name: &str) -> ApiError {
    match error {
        ManageError::Invalid(text) => ApiError::bad_request(text),
        ManageError::Forbidden => {
            let whom = if [LLM, NAME].contains(&what) { "admins" } else { "its owner and admins" };
            ApiError::new(ErrorKind::Forbidden, format!("{what} '{name}': for {whom} only"))
        }
        ManageError::Unknown => ApiError::not_found(what, name),
        ManageError::UnknownRow(row) => ApiError::not_found(LLM, &row),
        ManageError::Conflict(text) => ApiError::new(ErrorKind::Conflict, text),
        ManageError::TooMany(most) => too_many(most, "agents"),
        ManageError::TooLarge(most) => too_large(most),
    }
}
