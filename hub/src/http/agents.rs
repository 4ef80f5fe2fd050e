//! `/api/v1/agents`: agents, and chat with one (SPEC.md section 5).

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use wire::row::AgentRow;
use wire::task::Endpoint;

use super::change::{AGENT, ChangeTurn, change, refused};
use super::inference::{InferenceCall, chat};
use super::list::pages_by_name;
use super::openapi::{Routes, about, shape};
use super::{body, naming};
use crate::agents;
use crate::error::{ApiError, ErrorKind};
use crate::hub::HubData;
use crate::model::Caller;
use crate::quota::BytesPermit;
use crate::random;
use crate::registry::AgentSpec;

pub(super) fn register(routes: &mut Routes<'_>) {
    let one = shape::<AgentRow>;
    let taken = [ErrorKind::Conflict];
    let others = [ErrorKind::Forbidden, ErrorKind::NotFound, ErrorKind::Conflict];
    routes
        .get(
            "/api/v1/agents",
            all,
            about("Agents, without their prompts").returns(200, shape::<Vec<AgentRow>>),
        )
        .post(
            "/api/v1/agents",
            create,
            about("Creates an agent").takes(shape::<AgentSpec>).changes().returns(201, one).refuses(&taken),
        )
        .get(
            "/api/v1/agents/{name}",
            self::one,
            about("An agent").returns(200, one).refuses(&[ErrorKind::NotFound]),
        )
        .put(
            "/api/v1/agents/{name}",
            update,
            about("Changes an agent").takes(shape::<AgentSpec>).changes().returns(200, one).refuses(&others),
        )
        .delete(
            "/api/v1/agents/{name}",
            remove,
            about("Deletes an agent").changes().returns_nothing(204).refuses(&others),
        )
        .post("/api/v1/agents/{name}/infer", infer, chat("Chat with an agent"));
}

/// All agents, without their prompts and other long fields.
async fn all(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    pages_by_name(
        &hub,
        &caller,
        ("[", "]"),
        |row: &AgentRow| &row.name,
        |hub, caller, after, push| {
            let registry = hub.registry.lock();
            registry.agents_after(caller, after).map(|agent| registry.agent_list_row(caller, agent)).all(push)
        },
    )
}

async fn one(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let registry = hub.registry.lock();
    let row = registry.agent(&caller, &name).map(|agent| registry.agent_row(&caller, agent));
    drop(registry);
    Ok(HttpResponse::Ok().json(row.ok_or_else(|| ApiError::not_found(AGENT, &name))?))
}

async fn infer(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let call = InferenceCall::read(Endpoint::ChatCompletions, &req, payload).await?;
    call.serve(hub, &req, caller, true, |registry, caller| {
        let agent = registry.agent(caller, &name).ok_or_else(|| ApiError::not_found(AGENT, &name))?;
        Ok((agents::resolve_target(registry, caller, agent)?, Some(agent.clone())))
    })
    .await
}

async fn create(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    naming::check_budget(&hub, &caller)?;
    let (spec, body): (AgentSpec, _) =
        body::counted(&req, payload).await.map_err(|error| naming::refused(&hub, &caller, [], error))?;
    let turn = ChangeTurn::wait(&hub, &caller, body).await?;
    naming::check_budget(&hub, &caller)?;
    let name = spec.name.clone().unwrap_or_default();
    let created = hub.try_change(&turn.table, |registry| {
        let (agent, changes) = registry.create_agent(&caller, spec, random::id("agent"), hub.now())?;
        hub.agents_changed(registry, [agent.name.as_str()]);
        Ok((agent, changes))
    });
    let (agent, written) = created
        .map_err(|error| naming::refused(&hub, &caller, [name.as_str()], refused(error, AGENT, &name)))?;
    turn.commit(written).await?;
    Ok(HttpResponse::Created().json(agent.row()))
}

async fn update(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let (spec, body): (AgentSpec, _) = body::counted(&req, payload).await?;
    let agent = change(&hub, (&caller, body), (AGENT, &name), |registry| {
        let updated = registry.update_agent(&caller, &name, spec, hub.now())?;
        hub.agents_changed(registry, [name.as_str()]);
        Ok(updated)
    });
    Ok(HttpResponse::Ok().json(agent.await?.row()))
}

async fn remove(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let removed = change(&hub, (&caller, BytesPermit::default()), (AGENT, &name), |registry| {
        Ok(((), registry.delete_agent(&caller, &name, hub.now())?))
    });
    removed.await?;
    Ok(HttpResponse::NoContent().finish())
}
