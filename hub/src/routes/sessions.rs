//! `GET /api/v1/sessions`: the caller's publishers; all of them for an admin.

use actix_web::HttpResponse;
use actix_web::web::{ServiceConfig, get};

use super::HubData;
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/sessions", get().to(list));
}

async fn list(hub: HubData, caller: Caller) -> HttpResponse {
    let sessions = hub.registry.lock().sessions(&caller);
    HttpResponse::Ok().json(sessions)
}
