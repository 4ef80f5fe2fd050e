//! The routes that registrars call: register, control channel, heartbeat, drain, and [`results`] (SPEC.md sections 3 and 4).
//! Beside them `/api/v1/sessions`, which shows users their registrars.

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use wire::features::SESSION_HEADER;
use wire::register::{Heartbeat, RegisterRequest};
use wire::row::{AgentRow, LlmRow};

use super::change::ChangeTurn;
use super::list::{ok_json, pages};
use super::{body, elsewhere, naming};
use crate::clock;
use crate::error::{ApiError, ErrorKind};
use crate::http::openapi::shapes::ok;
use crate::http::openapi::{Routes, about, shape};
use crate::hub::{Hub, HubData};
use crate::model::{Agent, Caller};
use crate::news::news;
use crate::quota::{BytesPermit, too_large, too_many};
use crate::random;
use crate::registry::{
    HeartbeatRefusal, MAX_ENTRIES, Malformed, RegisterRefusal, SessionCursor, SessionView, UnknownSession,
    check,
};
use crate::telemetry::Limit;

mod channel;
mod echo;
mod link;
mod results;

#[cfg(test)]
pub(crate) use link::accept as accept_link;
pub(crate) use link::pass_on_answer;

/// Rows and agents of the sessions in one page of `/api/v1/sessions`: a third of a millisecond's work.
const SESSION_NAMES: usize = 1024;

pub(super) fn register(routes: &mut Routes<'_>) {
    // Before `/api/v1/llms/{name}`, which would match these paths too: no LLM's name begins with `_`.
    results::register(routes);
    let session = "The session that a register call answered with";
    routes
        .post(
            "/api/v1/llms/_provider-register",
            register_llms,
            about("Publishes LLMs and agents, and withdraws those of the session that are not named")
                .takes(shape::<RegisterRequest>)
                .changes()
                .returns(201, shape::<RegisterResponse>)
                .refuses(&[ErrorKind::Conflict, ErrorKind::HubStopping]),
        )
        .get(
            "/api/v1/llms/_provider-stream",
            channel::open,
            about(
                "The control channel: a WebSocket if the request asks for the link, else server-sent events",
            )
            .header("x-virtual-llm-features", "Features that the registrar has", shape::<String>)
            .header(SESSION_HEADER, session, shape::<String>)
            .required()
            .returns_nothing(101)
            .returns_media(200, "text/event-stream")
            .refuses(&[ErrorKind::NotFound, ErrorKind::HubStopping]),
        )
        .get(
            "/api/v1/llms/_provider-echo",
            echo::open,
            about("A WebSocket that measures the way to the hub")
                .returns_nothing(101)
                .refuses(&[ErrorKind::UpgradeRequired, ErrorKind::HubStopping]),
        )
        .post(
            "/api/v1/llms/_provider-heartbeat",
            heartbeat,
            about("Keeps a session alive, and reports the state of its LLMs")
                .takes(shape::<Heartbeat>)
                .returns(200, ok)
                .refuses(&[ErrorKind::NotFound, ErrorKind::Conflict]),
        )
        .post(
            "/api/v1/llms/_provider-drain",
            drain,
            about("Sends a session no new tasks")
                .takes(shape::<Heartbeat>)
                .returns(200, ok)
                .refuses(&[ErrorKind::NotFound]),
        )
        .get(
            "/api/v1/sessions",
            sessions,
            about("The caller's sessions, for an admin all").returns(200, shape::<Vec<SessionView>>),
        );
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RegisterResponse {
    provider_session_id: String,
    llms: Vec<LlmRow>,
    agents: Vec<AgentRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// SPEC.md section 3.1.
async fn register_llms(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    naming::check_budget(&hub, &caller)?;
    let (request, body): (RegisterRequest, _) = body::checked(&req, payload, check)
        .await
        .map_err(|error| naming::refused(&hub, &caller, [], error))?;
    let session = request.provider_session_id.as_deref();
    if let Some(session) = session
        && let Some(response) = elsewhere::session(&hub, &req, &caller, session, &request, &body).await
    {
        return response;
    }
    // A call of some bytes may drop hundreds of entries.
    let dropped = || hub.registry.lock().registered_entries(&caller, session);
    let mut turn = ChangeTurn::wait_to_drop(&hub, &caller, body, dropped()).await?;
    // The session may have grown while the call waited. Between this look and the change no other call runs.
    if !turn.may_drop(dropped()) {
        turn = turn.lengthen(&hub, &caller).await?;
    }
    naming::check_budget(&hub, &caller)?;
    if hub.is_leaving() {
        return Err(ApiError::hub_stopping());
    }
    let registered = hub.try_change(&turn.table, |registry| {
        let mut registered = registry.register(&caller, &request, &random::id, hub.now())?;
        let changes = std::mem::take(&mut registered.changes);
        hub.offer_rows_of(registry, &registered.session);
        hub.offer_rows(registry, registered.dropped_llms.iter().map(String::as_str));
        hub.agents_changed(registry, registered.dropped_agents.iter().map(String::as_str));
        hub.agents_changed(registry, registered.agents.iter().map(|agent| agent.name.as_str()));
        // A row that was deleted may be back, for the agents of any user.
        hub.offer_detached();
        let rows: Vec<LlmRow> = registered.llms.iter().map(|llm| registry.llm_row(&caller, llm)).collect();
        Ok(((registered, rows), changes))
    });
    let ((registered, llms), written) = registered.map_err(|refusal| {
        let error = match refusal {
            RegisterRefusal::Invalid(malformed) => malformed.into(),
            RegisterRefusal::Conflict(text) => ApiError::new(ErrorKind::Conflict, text),
            RegisterRefusal::PoolFull(text) => {
                ApiError::new(ErrorKind::Conflict, text).refused_by(Limit::PoolLlms)
            }
            RegisterRefusal::TooMany(most, what, limit) => too_many(most, what).refused_by(limit),
            RegisterRefusal::TooLarge(most) => too_large(most),
        };
        naming::refused(&hub, &caller, naming::names_of(&request), error)
    })?;
    for warning in &registered.warnings {
        let user = &caller.user;
        news!(warn, "warnings to register calls", user, [user = user], "register by {user}: {warning}");
    }
    turn.commit(written).await?;
    Ok(HttpResponse::Created().json(RegisterResponse {
        provider_session_id: registered.session,
        llms,
        agents: registered.agents.iter().map(Agent::row).collect(),
        warnings: registered.warnings,
    }))
}

/// SPEC.md sections 3.4 and 4.
async fn heartbeat(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let (beat, held): (Heartbeat, _) = body::checked(&req, payload, check_heartbeat).await?;
    let session = &beat.provider_session_id;
    if let Some(response) = elsewhere::session(&hub, &req, &caller, session, &beat, &held).await {
        return response;
    }
    let text = beaten(&hub, &caller, &beat)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

/// Takes a heartbeat that came over a link, as a POST of it is taken. `held` counts its body.
async fn heartbeat_frame(
    hub: &Hub,
    caller: &Caller,
    body: Bytes,
    held: BytesPermit,
) -> Result<String, ApiError> {
    if !hub.tokens.is_valid(&caller.token_id, clock::now()) {
        return Err(ApiError::revoked());
    }
    let beat = body::parsed(&caller.user, body, check_heartbeat).await?;
    drop(held);
    beaten(hub, caller, &beat)
}

/// Takes a heartbeat. Returns the body of the answer.
fn beaten(hub: &Hub, caller: &Caller, beat: &Heartbeat) -> Result<String, ApiError> {
    let deleted = hub.note(|registry| {
        let beaten = registry.heartbeat(caller, beat, hub.now())?;
        // Rows that the heartbeat did not change are not in `beaten`.
        hub.offer_rows(registry, beaten.rows.iter().map(String::as_str));
        hub.agents_changed(registry, beaten.agents.iter().map(String::as_str));
        Ok((registry.deleted_by_admin(&beat.provider_session_id), beaten.changes))
    });
    let deleted = deleted.map_err(|refusal| match refusal {
        HeartbeatRefusal::UnknownSession => ApiError::not_found("session", &beat.provider_session_id),
        HeartbeatRefusal::OtherStream => {
            ApiError::new(ErrorKind::Conflict, "the hub does not hold this stream: connect again")
        }
    })?;
    if deleted.is_empty() {
        return Ok(r#"{"ok":true}"#.to_owned());
    }
    Ok(serde_json::json!({ "ok": true, "deleted": deleted }).to_string())
}

fn check_heartbeat(beat: &Heartbeat) -> Result<(), Malformed> {
    let count = beat.providers.as_ref().map_or(0, Vec::len);
    if count > MAX_ENTRIES { Err(Malformed::too_many_entries("providers")) } else { Ok(()) }
}

/// Sends the session no new tasks; its rows become inactive when the running ones have ended (SPEC.md section 4).
async fn drain(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let (request, held): (Heartbeat, _) = body::counted(&req, payload).await?;
    let session = &request.provider_session_id;
    if let Some(response) = elsewhere::session(&hub, &req, &caller, session, &request, &held).await {
        return response;
    }
    let drained = hub.note(|registry| {
        let changes = registry.drain(&caller, session, hub.now())?;
        hub.offer_rows_of(registry, session);
        Ok(((), changes))
    });
    drained.map_err(|UnknownSession| ApiError::not_found("session", session))?;
    Ok(ok_json(r#"{"ok":true}"#))
}

/// The sessions of the caller, of all users for an admin.
async fn sessions(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    let mut before: Option<SessionCursor> = None;
    pages(&hub, &caller, ("[", "]"), move |hub, caller, page| {
        let (views, more) = hub.registry.lock().sessions_before(caller, before.as_ref(), SESSION_NAMES);
        for view in &views {
            page.push(view);
        }
        before = views.last().map(|session| (session.created_at, session.id.as_str().into()));
        more
    })
}
