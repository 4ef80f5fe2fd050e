//! Requests that another hub of the cluster serves: they are passed on to it as they are, at most once.

use actix_web::body::SizedStream;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::Serialize;

use crate::cluster::{Answer, CallError, CallHead, Forwarded, Home, Process};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::Caller;
use crate::quota::BytesPermit;
use crate::trace::Trace;

/// Headers of a request that concern its connection, and those that hold its token.
const OF_CONNECTION: [&str; 13] = [
    "authorization",
    "x-api-key",
    "api-key",
    "cookie",
    "connection",
    "keep-alive",
    "upgrade",
    "expect",
    "te",
    "content-length",
    "transfer-encoding",
    "content-encoding",
    "x-request-id",
];
/// Headers of an answer that this hub writes itself.
const OWN: [&str; 5] = ["connection", "content-length", "transfer-encoding", "date", "x-request-id"];

/// Whether a request may be passed on: none was before, and there are other hubs.
fn may_pass_on(hub: &Hub, req: &HttpRequest) -> bool {
    hub.shared.is_some() && !req.extensions().contains::<Forwarded>()
}

/// Passes a request about `caller`'s session on to the hub of its channel. `None` if this hub decides: it is the one, or that one
/// is gone. `held` counts the request's body.
pub(super) async fn session(
    hub: &Hub,
    req: &HttpRequest,
    caller: &Caller,
    session: &str,
    body: &impl Serialize,
    held: &BytesPermit,
) -> Option<Result<HttpResponse, ApiError>> {
    let shared = hub.shared.as_ref().filter(|_| may_pass_on(hub, req))?;
    know_session(hub, caller, session).await;
    let of = hub.registry.lock().hub_of_session(caller, session).map(str::to_owned);
    let to = of.and_then(|of| shared.peers.process_of(&of))?;
    let body = match serde_json::to_vec(body) {
        Ok(body) => body,
        Err(error) => return Some(Err(ApiError::internal(error))),
    };
    let _copy = match held.another(body.len()) {
        Ok(copy) => copy,
        Err(error) => return Some(Err(error)),
    };
    match call(hub, req, caller, to, body.into()).await {
        Ok(response) => Some(Ok(response)),
        Err(CallError::NotThere) => None,
        Err(CallError::Lost) => Some(Err(away())),
    }
}

/// Reads what other hubs have changed if the session is unknown: it may have been registered at one just now.
pub(super) async fn know_session(hub: &Hub, caller: &Caller, session: &str) {
    if hub.shared.is_some() && !hub.registry.lock().owns_session(caller, session) {
        // Without the database it stays unknown.
        drop(hub.read_changes().await);
    }
}

/// Makes the session this hub's own, whose channel opens here.
pub(super) async fn adopt(hub: &Hub, caller: &Caller, session: &str) -> Result<(), ApiError> {
    let Some(own) = hub.shared.as_ref().map(|shared| shared.peers.hub().to_owned()) else { return Ok(()) };
    know_session(hub, caller, session).await;
    if !hub.registry.lock().has_channel(session) {
        // It may have been at another hub since it was here. Without the database it is where it was.
        drop(hub.read_changes().await);
    }
    let is_known_elsewhere = {
        let registry = hub.registry.lock();
        registry.owns_session(caller, session) && registry.hub_of_session(caller, session) != Some(&own)
    };
    if !is_known_elsewhere {
        return Ok(());
    }
    let turn = hub.table_turn().await?;
    let ((), written) = hub.change_in(&turn, |registry| ((), registry.adopt(caller, session, hub.now())));
    if let Some(written) = written {
        written.await?;
    }
    Ok(())
}

/// Passes a result on to the home of its task, which takes the body. `None` if this hub decides.
pub(super) async fn result(
    hub: &Hub,
    req: &HttpRequest,
    caller: &Caller,
    task: &str,
    body: &mut Vec<u8>,
) -> Option<Result<HttpResponse, ApiError>> {
    let shared = hub.shared.as_ref().filter(|_| may_pass_on(hub, req))?;
    match shared.peers.home(hub.cluster, task) {
        Home::Here => None,
        Home::At(home) => Some(pass_on(hub, req, caller, home, std::mem::take(body).into()).await),
        // Without its lease it is gone, and nobody waits for the result.
        Home::Silent(home) => (!matches!(shared.store.has_lease(home).await, Ok(false))).then(|| Err(away())),
        Home::Unknown => Some(Err(away())),
    }
}

/// Passes a request about a durable task on to the hub that runs it. `None` if this hub decides.
pub(super) async fn task(
    hub: &Hub,
    req: &HttpRequest,
    caller: &Caller,
    id: &str,
) -> Option<Result<HttpResponse, ApiError>> {
    let shared = hub.shared.as_ref().filter(|_| may_pass_on(hub, req))?;
    if hub.tasks.view(caller, id).is_some() {
        return None;
    }
    let of = shared.store.hub_of_task(id).await.ok().flatten().filter(|of| of != shared.peers.hub())?;
    match shared.peers.process_of(&of) {
        Some(to) => Some(pass_on(hub, req, caller, to, Bytes::new()).await),
        None => Some(Err(away())),
    }
}

/// Passes a request on to the hub `to`.
async fn pass_on(
    hub: &Hub,
    req: &HttpRequest,
    caller: &Caller,
    to: Process,
    body: Bytes,
) -> Result<HttpResponse, ApiError> {
    call(hub, req, caller, to, body).await.map_err(|_| away())
}

fn away() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "the hub that has this does not answer: try again")
}

async fn call(
    hub: &Hub,
    req: &HttpRequest,
    caller: &Caller,
    to: Process,
    body: Bytes,
) -> Result<HttpResponse, CallError> {
    let Some(shared) = &hub.shared else { return Err(CallError::NotThere) };
    let trace = Trace::current();
    let mut headers = texts(req.headers(), &OF_CONNECTION);
    headers.extend(trace.as_ref().map(|trace| ("x-request-id".to_owned(), trace.id().to_owned())));
    let head = CallHead {
        method: req.method().to_string(),
        uri: req.uri().to_string(),
        headers,
        token: caller.token_id.clone(),
        user: caller.user.clone(),
        address: trace.and_then(|trace| trace.address()),
    };
    let Answer { head, body } = shared.peers.pass_on(to, head, body).await?;
    let mut response = HttpResponse::build(StatusCode::from_u16(head.status).map_err(|_| CallError::Lost)?);
    for (name, value) in &head.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
            && !OWN.contains(&name.as_str())
        {
            response.append_header((name, value));
        }
    }
    Ok(match head.size {
        Some(0) => response.finish(),
        Some(size) => response.body(SizedStream::new(size, body)),
        None => response.streaming(body),
    })
}

/// The headers that are text, but those named in `without`.
fn texts(headers: &HeaderMap, without: &[&str]) -> Vec<(String, String)> {
    let of_head = headers.iter().filter(|(name, _)| !without.contains(&name.as_str()));
    of_head.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect()
}
