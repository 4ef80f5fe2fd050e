//! `GET /readyz`: the hub takes calls and its store can be written. Says nothing else, so it needs no token.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{ServiceConfig, get};
use tokio::time::timeout;

use super::HubData;
use crate::error::{ApiError, ErrorKind};

/// Longest wait for the store: whoever asks has a limit of seconds himself.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/readyz", get().to(respond));
}

async fn respond(hub: HubData) -> Result<HttpResponse, ApiError> {
    if hub.is_stopping() {
        return Err(ApiError::hub_stopping());
    }
    match timeout(PATIENCE, hub.store.write(Vec::new())).await {
        Ok(Ok(())) => Ok(HttpResponse::Ok().content_type("application/json").body(r#"{"status":"ready"}"#)),
        Ok(Err(_)) | Err(_) => {
            Err(ApiError::new(ErrorKind::StoreUnavailable, "the store cannot be written now"))
        }
    }
}
