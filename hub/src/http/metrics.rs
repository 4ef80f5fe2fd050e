//! `GET /metrics`, for Prometheus: totals, and no name of anything or anybody. An admin's are of everything; those of
//! anybody else are of the rows that everybody may see, for a number tells of what it counts.

use actix_web::HttpResponse;
use actix_web::web::{ServiceConfig, get};

use super::HubData;
use crate::error::ApiError;
use crate::model::{Caller, Role};
use crate::telemetry::Metrics;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/metrics", get().to(respond));
}

async fn respond(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let metrics = if caller.role == Role::Admin {
        let metrics = &hub.watch.metrics;
        metrics.publishers.set(number(hub.channels.len()));
        hub.quotas.memory.measure();
        metrics
    } else {
        let metrics = &hub.watch.shared;
        // A walk over all that others have: whoever asks again and again, while much changes, pays once a second.
        let versions = (hub.registry.lock().version(), hub.tasks.version());
        if hub.watch.is_to_be_counted(versions, hub.now().mono) {
            metrics.publishers.set(number(hub.registry.lock().open_public_sessions()));
            metrics.queue_depth.set(number(hub.shared_queue_depth()));
        }
        metrics
    };
    let text = metrics.text().map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().content_type(Metrics::content_type()).body(text))
}
