//! `POST /api/v1/llms/_provider-task/{id}/result` (SPEC.md section 3.5).

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use wire::features::SESSION_HEADER;

use super::{HubData, body};
use crate::dispatch::{Accepted, PostedResult, Rejection, ResultSender, accept_result, reject_result};
use crate::error::{ApiError, ErrorKind};
use crate::model::Caller;
use crate::offload::offload;

pub(super) async fn respond(
    hub: HubData,
    caller: Caller,
    req: &HttpRequest,
    id: &str,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let from = sender(req, &caller, id);
    // One that broke off on its way may come again; one that is too large never gets smaller.
    let (body, held) = body::read(req, payload, body::RESULT).await.inspect_err(|error| {
        if error.kind == ErrorKind::TooLarge {
            reject_result(&hub, from, &error.message);
        }
    })?;
    let read = offload(&caller.user, body.len(), move || {
        let text = String::from_utf8(body).map_err(|_| ApiError::bad_request("the result is not UTF-8"))?;
        PostedResult::read(&text).map_err(|error| ApiError::bad_request(error.to_string()))
    });
    let (result, digest) = read.await.inspect_err(|error| reject_result(&hub, from, &error.message))?;
    let outcome = accept_result(&hub, from, result, digest, held).await;
    answer(outcome)
}

/// Who sends a result: its user, and the session where the request names one.
pub(super) fn sender<'a>(req: &'a HttpRequest, caller: &'a Caller, id: &'a str) -> ResultSender<'a> {
    let session = req.headers().get(SESSION_HEADER).and_then(|value| value.to_str().ok());
    ResultSender { user: &caller.user, session, id }
}

pub(super) fn answer(outcome: Result<Accepted, Rejection>) -> Result<HttpResponse, ApiError> {
    let rejection = match outcome {
        Ok(Accepted::First) => return Ok(ok(r#"{"ok":true}"#)),
        Ok(Accepted::Duplicate) => return Ok(ok(r#"{"ok":true,"duplicate":true}"#)),
        Err(rejection) => rejection,
    };
    let (kind, text) = match rejection {
        Rejection::Unknown => (ErrorKind::NotFound, "no such task"),
        Rejection::Gone => (ErrorKind::Gone, "nobody waits for this task any more"),
        Rejection::Conflict => (ErrorKind::Conflict, "the task has another ending, or another form"),
        Rejection::Busy => (ErrorKind::Unavailable, "the caller reads too slowly: send this again"),
        Rejection::Unwritten => {
            (ErrorKind::StoreUnavailable, "the result cannot be written down now: send this again")
        }
        Rejection::Malformed => {
            (ErrorKind::BadRequest, "the answer cannot be passed on: the task has failed")
        }
    };
    Err(ApiError::new(kind, text))
}

fn ok(body: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(body)
}
