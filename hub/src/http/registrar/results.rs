//! `POST /api/v1/llms/_provider-task/{id}/result`: the answer to a task, whole or piece by piece (SPEC.md section 3.5).

use actix_web::http::Method;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;
use wire::features::SESSION_HEADER;

use crate::dispatch::{
    Accepted, EndedBy, PostedResult, REJECTED, Rejection, ResultSender, accept_result, reject_result,
    unwanted,
};
use crate::error::{ApiError, ErrorKind};
use crate::http::body;
use crate::http::elsewhere;
use crate::http::list::ok_json;
use crate::http::openapi::shapes::ok;
use crate::http::openapi::{Routes, about};
use crate::hub::{Hub, HubData};
use crate::model::Caller;
use crate::offload::{INLINE_BYTES, offload};
use crate::quota::BytesPermit;

pub(super) fn register(routes: &mut Routes<'_>) {
    // The handler of results splits the path itself: the regular expression of an actix-router pattern took a fifth of the
    // hub's instructions for a small call.
    routes.post_below(
        "/api/v1/llms/_provider-task",
        "/{id}/result",
        route,
        about("Delivers the result of a task, or a piece of it")
            .takes(posted_result)
            .returns(200, ok)
            .refuses(&[
                ErrorKind::NotFound,
                ErrorKind::Conflict,
                ErrorKind::Gone,
                ErrorKind::Unavailable,
                ErrorKind::StoreUnavailable,
            ]),
    );
}

/// The schema of a result (SPEC.md section 3.5).
fn posted_result(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "anyOf": [{ "required": ["status", "body"] }, { "required": ["chunk"] }, { "required": ["error"] }],
        "properties": {
            "status": { "type": ["integer", "null"] },
            "body": { "description": "The backend's answer" },
            "chunk": {
                "type": ["object", "null"],
                "required": ["data"],
                "properties": {
                    "data": { "type": "string", "description": "A chunk as JSON text, or [DONE]" },
                    "done": { "type": ["boolean", "null"] },
                    "seq": { "type": ["integer", "null"], "minimum": 0 },
                },
            },
            "error": { "type": ["string", "null"] },
            "retryAfter": { "description": "The backend's Retry-After in seconds" },
        },
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
    let from = sender(&hub, req, &caller, id);
    let (mut body, held) = match body::read(req, payload, body::RESULT).await {
        Ok(read) => read,
        // A result that is too large ends its task. One whose body broke off may be sent again.
        Err(error) => {
            if error.kind == ErrorKind::TooLarge {
                reject_result(&hub, from, &error.message);
                // Whatever its home answers, this one is not to be sent again.
                let mut rejected = json!({ "error": REJECTED }).to_string().into_bytes();
                drop(elsewhere::result(&hub, req, &caller, id, &mut rejected).await);
            }
            return Err(error);
        }
    };
    if let Some(response) = elsewhere::result(&hub, req, &caller, id, &mut body).await {
        return response;
    }
    submit(&hub, from, body, held).await
}

/// Passes the text of a result on. `held` counts it.
pub(super) async fn submit(
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
fn sender<'a>(hub: &Hub, req: &'a HttpRequest, caller: &'a Caller, id: &'a str) -> ResultSender<'a> {
    let session = req.headers().get(SESSION_HEADER).and_then(|value| value.to_str().ok());
    ResultSender { user: &caller.user, session, id, home: hub.cluster.home(id), ended_by: EndedBy::Other }
}

pub(super) fn respond(submitted: Result<Accepted, Rejection>) -> Result<HttpResponse, ApiError> {
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
