//! `POST /api/v1/llms/_provider-task/{id}/…`: what a publisher sends of a task.

use actix_web::http::Method;
use actix_web::web::{Payload, ServiceConfig, scope, to};
use actix_web::{HttpRequest, HttpResponse};

use super::{HubData, result, upload};
use crate::error::ApiError;
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    // The path is split here: a pattern of actix-router's is a regular expression, which took a fifth of the hub's
    // instructions for a small call.
    config.service(scope("/api/v1/llms/_provider-task").default_service(to(respond)));
}

async fn respond(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let rest = req.match_info().unprocessed().strip_prefix('/');
    let is_post = req.method() == Method::POST;
    match rest.and_then(|rest| rest.split_once('/')).filter(|(id, _)| is_post && !id.is_empty()) {
        Some((id, "result")) => result::respond(hub, caller, &req, id, payload).await,
        Some((id, "stream")) => upload::respond(hub, caller, &req, id, payload).await,
        _ => Ok(HttpResponse::NotFound().finish()),
    }
}
