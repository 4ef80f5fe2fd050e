//! `POST /api/v1/llms/_provider-heartbeat` (SPEC.md sections 3.4 and 4).

use actix_web::web::{Payload, ServiceConfig, post};
use actix_web::{HttpRequest, HttpResponse};
use wire::register::Heartbeat;

use super::{HubData, body};
use crate::error::{ApiError, ErrorKind};
use crate::model::Caller;
use crate::registry::BeatRefusal;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/llms/_provider-heartbeat", post().to(respond));
}

async fn respond(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let beat: Heartbeat = body::json(&req, payload).await?;
    let outcome = hub.try_change(|registry| {
        let changes = registry.heartbeat(&caller, &beat, hub.now())?;
        if !changes.is_empty() || beat.providers.is_some() {
            hub.offer_rows_of(registry, &beat.provider_session_id);
        }
        Ok(((), changes))
    });
    let ((), _) = outcome.map_err(|refusal| match refusal {
        BeatRefusal::Unknown => ApiError::not_found("session", &beat.provider_session_id),
        BeatRefusal::OtherStream => {
            ApiError::new(ErrorKind::Conflict, "the hub does not hold this stream: connect again")
        }
    })?;
    Ok(HttpResponse::Ok().content_type("application/json").body(r#"{"ok":true}"#))
}
