//! `GET /metrics`, for Prometheus. Any token may read it: it holds totals, and no name of anything or anybody.

use actix_web::HttpResponse;
use actix_web::web::{ServiceConfig, get};

use super::HubData;
use crate::error::ApiError;
use crate::model::Caller;
use crate::watch::Metrics;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/metrics", get().to(respond));
}

async fn respond(hub: HubData, _: Caller) -> Result<HttpResponse, ApiError> {
    let metrics = &hub.watch.metrics;
    metrics.publishers.set(i64::try_from(hub.channels.len()).unwrap_or(i64::MAX));
    let text = metrics.text().map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().content_type(Metrics::content_type()).body(text))
}
