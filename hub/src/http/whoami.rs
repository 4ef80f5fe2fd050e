//! `GET /api/v1/whoami`: whose token it is, and where the hub is for others.

use actix_web::HttpResponse;
use actix_web::web::{ServiceConfig, get};
use serde::Serialize;

use super::HubData;
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/whoami", get().to(respond));
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whoami<'a> {
    user: &'a str,
    role: &'static str,
    /// `hub --public-url`.
    hub_url: Option<&'a str>,
}

async fn respond(hub: HubData, caller: Caller) -> HttpResponse {
    let hub_url = hub.options.public_url.as_deref();
    let role = caller.role.as_str();
    HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(Whoami {
        user: &caller.user,
        role,
        hub_url,
    })
}
