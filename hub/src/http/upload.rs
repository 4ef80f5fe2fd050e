//! `POST /api/v1/llms/_provider-task/{id}/stream` (SPEC.md section 4, `result-stream`).

use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};

use super::HubData;
use super::decode::codings;
use super::result::{answer, sender};
use crate::dispatch::accept_upload;
use crate::error::{ApiError, ErrorKind};
use crate::model::Caller;

pub(super) async fn respond(
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
    // With its token an answer ends that it has begun: whoever waits for it is told that it broke off.
    tokio::select! {
        biased;
        () = hub.tokens.ended(&caller) => Err(ApiError::revoked()),
        submitted = accept_upload(&hub, sender(req, &caller, id), payload) => answer(submitted),
    }
}
