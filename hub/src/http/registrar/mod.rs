//! The routes that registrars call: register, control channel, heartbeat, drain, and results, which are the answer to a
//! task, whole or piece by piece (SPEC.md sections 3.5 and 4). Beside them `/api/v1/sessions`, which shows users their
//! registrars.

use actix_web::http::Method;
use actix_web::web::{Payload, ServiceConfig, get, post, scope, to};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;
use wire::features::SESSION_HEADER;
use wire::register::{Heartbeat, RegisterRequest};
use wire::row::{AgentRow, LlmRow};

use super::change::ChangeTurn;
use super::list::{ok_json, pages};
use super::{body, naming};
use crate::clock;
use crate::dispatch::{
    Accepted, PostedResult, Rejection, ResultSender, accept_result, reject_result, unwanted,
};
use crate::error::{ApiError, ErrorKind};
use crate::hub::{Hub, HubData};
use crate::model::{Agent, Caller};
use crate::news::news;
use crate::offload::{INLINE_BYTES, offload};
use crate::quota::{BytesPermit, too_large, too_many};
use crate::random;
use crate::registry::{
    HeartbeatRefusal, MAX_ENTRIES, Malformed, RegisterRefusal, SessionCursor, UnknownSession, check,
};
use crate::telemetry::Limit;

mod channel;
mod echo;
mod link;

/// Rows and agents of the sessions in one page of `/api/v1/sessions`: a third of a millisecond's work.
const SESSION_NAMES: usize = 1024;

pub(super) fn register(config: &mut ServiceConfig) {
    // Before `/api/v1/llms/{name}`, which would match these paths too: no LLM's name begins with `_`.
    // The handler of results splits the path itself: the regular expression of an actix-router pattern took a fifth of the
    // hub's instructions for a small call.
    config.service(scope("/api/v1/llms/_provider-task").default_service(to(route)));
    config
        .route("/api/v1/llms/_provider-register", post().to(register_llms))
        .route("/api/v1/llms/_provider-stream", get().to(channel::open))
        .route("/api/v1/llms/_provider-echo", get().to(echo::open))
        .route("/api/v1/llms/_provider-heartbeat", post().to(heartbeat))
        .route("/api/v1/llms/_provider-drain", post().to(drain))
        .route("/api/v1/sessions", get().to(sessions));
}

#[derive(Serialize)]
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
    // A call of some bytes may drop hundreds of entries.
    let session = request.provider_session_id.as_deref();
    let dropped = || hub.registry.lock().registered_entries(&caller, session);
    let mut turn = ChangeTurn::wait_to_drop(&hub, &caller, body, dropped()).await?;
    // The session may have grown while the call waited. Between this look and the change no other call runs.
    if !turn.may_drop(dropped()) {
        turn = turn.lengthen(&hub, &caller).await?;
    }
    naming::check_budget(&hub, &caller)?;
    if hub.is_stopping() {
        return Err(ApiError::hub_stopping());
    }
    let registered = hub.try_change(|registry| {
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
        news!(warn, "warnings to register calls", &caller.user, "register by {}: {warning}", caller.user);
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
    let (beat, _): (Heartbeat, _) = body::checked(&req, payload, check_heartbeat).await?;
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
    let request: Heartbeat = body::json(&req, payload).await?;
    let session = &request.provider_session_id;
    let drained = hub.note(|registry| {
        let changes = registry.drain(&caller, session, hub.now())?;
        hub.offer_rows_of(registry, session);
        Ok(((), changes))
    });
    drained.map_err(|UnknownSession| ApiError::not_found("session", session))?;
    Ok(ok_json(r#"{"ok":true}"#))
}

/// The sessions of the caller, of all users for an admin.
async fn sessions(hub: HubData, caller: Caller) -> HttpResponse {
    let mut before: Option<SessionCursor> = None;
    pages("[", "]", move || {
        let page = hub.registry.lock().sessions_before(&caller, before.as_ref(), SESSION_NAMES);
        before = page.0.last().map(|session| (session.created_at, session.id.as_str().into()));
        page
    })
}

async fn route(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let rest = req.match_info().unprocessed().strip_prefix('/');
    let is_post = req.method() == Method::POST;
    match rest.and_then(|rest| rest.split_once('/')).filter(|(id, _)| is_post && !id.is_empty()) {
        Some((id, "result")) => result(hub, caller, &req, id, payload).await,
        _ => Ok(HttpResponse::NotFound().finish()),
    }
}

async fn result(
    hub: HubData,
    caller: Caller,
    req: &HttpRequest,
    id: &str,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let from = sender(req, &caller, id);
    // A result that is too large ends its task. One whose body broke off may be sent again.
    let (body, held) = body::read(req, payload, body::RESULT).await.inspect_err(|error| {
        if error.kind == ErrorKind::TooLarge {
            reject_result(&hub, from, &error.message);
        }
    })?;
    submit(&hub, from, body, held).await
}

/// Passes the text of a result on. `held` counts it.
async fn submit(
    hub: &Hub,
    from: ResultSender<'_>,
    body: Vec<u8>,
    mut held: BytesPermit,
) -> Result<HttpResponse, ApiError> {
    let size = body.len();
    if size > INLINE_BYTES {
        // Nobody may wait for it, and the parsed result is a copy of the text.
        if let Some(rejection) = unwanted(hub, from) {
            return respond(Err(rejection));
        }
        held.grow(size)?;
    }
    let parsed = offload(from.user, size, move || {
        let text = String::from_utf8(body).map_err(|_| ApiError::bad_request("the result is not UTF-8"))?;
        PostedResult::read(&text).map_err(|error| ApiError::bad_request(error.to_string()))
    });
    let (result, digest) = parsed.await.inspect_err(|error| reject_result(hub, from, &error.message))?;
    if size > INLINE_BYTES {
        held.shrink(size);
    }
    respond(accept_result(hub, from, result, digest, held).await)
}

/// The user that sends a result, and its session if the request names one.
fn sender<'a>(req: &'a HttpRequest, caller: &'a Caller, id: &'a str) -> ResultSender<'a> {
    let session = req.headers().get(SESSION_HEADER).and_then(|value| value.to_str().ok());
    ResultSender { user: &caller.user, session, id }
}

fn respond(submitted: Result<Accepted, Rejection>) -> Result<HttpResponse, ApiError> {
    let (kind, text) = match submitted {
        Ok(Accepted::First) => return Ok(ok_json(r#"{"ok":true}"#)),
        Ok(Accepted::Duplicate) => return Ok(ok_json(r#"{"ok":true,"duplicate":true}"#)),
        Err(Rejection::Unknown) => (ErrorKind::NotFound, "no such task"),
        Err(Rejection::Gone) => (ErrorKind::Gone, "nobody waits for this task any more"),
        Err(Rejection::Conflict) => (ErrorKind::Conflict, "the task has another ending, or another form"),
        Err(Rejection::Busy) => (ErrorKind::Unavailable, "the caller reads too slowly: send this again"),
        Err(Rejection::Unwritten) => {
            (ErrorKind::StoreUnavailable, "the result cannot be written down now: send this again")
        }
        Err(Rejection::Malformed) => {
            (ErrorKind::BadRequest, "the answer cannot be passed on: the task has failed")
        }
    };
    Err(ApiError::new(kind, text))
}
