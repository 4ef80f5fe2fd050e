//! `GET /healthz`: the process answers.

use actix_web::HttpResponse;
use actix_web::web::{ServiceConfig, get};

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/healthz", get().to(respond));
}

async fn respond() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(r#"{"status":"ok"}"#)
}
