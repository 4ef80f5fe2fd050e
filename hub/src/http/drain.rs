//! `POST /api/v1/llms/_provider-drain` (SPEC.md section 4): no new tasks; then the rows are inactive.

use actix_web::web::{Payload, ServiceConfig, post};
use actix_web::{HttpRequest, HttpResponse};
use wire::register::Heartbeat;

use super::{HubData, body};
use crate::error::ApiError;
use crate::model::Caller;
use crate::registry::UnknownSession;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/llms/_provider-drain", post().to(respond));
}

async fn respond(
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
    Ok(HttpResponse::Ok().content_type("application/json").body(r#"{"ok":true}"#))
}
