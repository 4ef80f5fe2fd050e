//! `POST /api/v1/llms/_provider-task/{id}/result` and `…/stream`: the answer to a task, whole or piece by piece
//! (SPEC.md sections 3.5 and 4).

use actix_web::http::Method;
use actix_web::web::{Payload, ServiceConfig, scope, to};
use actix_web::{HttpRequest, HttpResponse};
use wire::features::SESSION_HEADER;

use super::super::decode::codings;
use super::super::{HubData, body, ok_json};
use crate::dispatch::{
    Accepted, PostedResult, Rejection, ResultSender, accept_result, accept_upload, reject_result,
};
use crate::error::{ApiError, ErrorKind};
use crate::model::Caller;
use crate::offload::offload;

pub(super) fn register(config: &mut ServiceConfig) {
    // The handler splits the path itself: the regular expression of an actix-router pattern took a fifth of the hub's
    // instructions for a small call.
    config.service(scope("/api/v1/llms/_provider-task").default_service(to(route)));
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
        Some((id, "stream")) => stream(hub, caller, &req, id, payload).await,
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
    // A result that is too large ends its task. One whose upload broke off may be sent again.
    let (body, held) = body::read(req, payload, body::RESULT).await.inspect_err(|error| {
        if error.kind == ErrorKind::TooLarge {
            reject_result(&hub, from, &error.message);
        }
    })?;
    let parsed = offload(&caller.user, body.len(), move || {
        let text = String::from_utf8(body).map_err(|_| ApiError::bad_request("the result is not UTF-8"))?;
        PostedResult::read(&text).map_err(|error| ApiError::bad_request(error.to_string()))
    });
    let (result, digest) = parsed.await.inspect_err(|error| reject_result(&hub, from, &error.message))?;
    respond(accept_result(&hub, from, result, digest, held).await)
}

async fn stream(
    hub: HubData,
    caller: Caller,
    req: &HttpRequest,
    id: &str,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    if !codings(req.headers())?.is_empty() {
        let text = "an answer that is uploaded piece by piece has no Content-Encoding";
        return Err(ApiError::new(ErrorKind::UnsupportedMedia, text));
    }
    // A revoked token ends an upload under way; its task fails.
    tokio::select! {
        biased;
        () = hub.tokens.ended(&caller) => Err(ApiError::revoked()),
        submitted = accept_upload(&hub, sender(req, &caller, id), payload) => respond(submitted),
    }
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
