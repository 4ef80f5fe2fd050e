//! `POST /api/v1/llms/_provider-heartbeat` (SPEC.md sections 3.4 and 4).

use actix_web::web::{Payload, ServiceConfig, post};
use actix_web::{HttpRequest, HttpResponse};
use wire::register::Heartbeat;

use super::{HubData, body};
use crate::error::{ApiError, ErrorKind};
use crate::model::Caller;
use crate::registry::{HeartbeatRefusal, MAX_ENTRIES};

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/llms/_provider-heartbeat", post().to(respond));
}

async fn respond(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let beat: Heartbeat = body::checked(&req, payload, check).await?;
    let outcome = hub.note(|registry| {
        let beaten = registry.heartbeat(&caller, &beat, hub.now())?;
        // One that says what the last one said is nobody's business.
        hub.offer_rows(registry, beaten.rows.iter().map(String::as_str));
        hub.agents_changed(registry, beaten.agents.iter().map(String::as_str));
        Ok((registry.deleted_by_admin(&beat.provider_session_id), beaten.changes))
    });
    let deleted = outcome.map_err(|refusal| match refusal {
        HeartbeatRefusal::UnknownSession => ApiError::not_found("session", &beat.provider_session_id),
        HeartbeatRefusal::OtherStream => {
            ApiError::new(ErrorKind::Conflict, "the hub does not hold this stream: connect again")
        }
    })?;
    if deleted.is_empty() {
        return Ok(HttpResponse::Ok().content_type("application/json").body(r#"{"ok":true}"#));
    }
    Ok(HttpResponse::Ok().json(serde_json::json!({ "ok": true, "deleted": deleted })))
}

fn check(beat: &Heartbeat) -> Result<(), String> {
    let count = beat.providers.as_ref().map_or(0, Vec::len);
    if count > MAX_ENTRIES { Err(format!("providers: at most {MAX_ENTRIES}")) } else { Ok(()) }
}
