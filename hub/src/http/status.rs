//! `GET /healthz`, `GET /readyz` and `GET /metrics`.

use std::time::Duration;

use actix_web::HttpResponse;
use schemars::json_schema;
use serde::Serialize;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::openapi::{Routes, Shape, about};
use crate::cluster::Without;
use crate::error::{ApiError, ErrorKind};
use crate::http::list::{ListPermit, PAGE, ok_json};
use crate::hub::HubData;
use crate::model::{Caller, Role};
use crate::telemetry::{Metrics, metrics_text};

/// Longest wait for the store in `/readyz`: the time-outs of load balancers are a few seconds.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes that the prompt caches of many rows take until they are text.
const METRICS_BYTES: usize = 1 << 20;

pub(super) fn register(routes: &mut Routes<'_>) {
    let status: Shape = |_| json_schema!({ "type": "object", "required": ["status"], "properties": { "status": { "type": "string" } } });
    let ready_status: Shape = |_| {
        json_schema!({ "type": "object", "required": ["status"], "properties": {
            "status": { "type": "string" },
            "nats": { "enum": ["ok", "away"] },
            "store": { "enum": ["ok", "away"] },
        } })
    };
    routes
        .get(
            "/healthz",
            async || ok_json(r#"{"status":"ok"}"#),
            about("Whether the hub serves").returns(200, status),
        )
        .get(
            "/readyz",
            ready,
            about("Whether the hub takes calls and its store can be written")
                .returns(200, ready_status)
                .refuses(&[ErrorKind::HubStopping, ErrorKind::StoreUnavailable, ErrorKind::Unavailable]),
        )
        .get(
            "/metrics",
            metrics,
            about("Metrics for Prometheus").returns_media(200, Metrics::content_type()),
        );
}

/// That a hub of several takes calls. What is away for all hubs is told, and is no reason to take none.
#[derive(Serialize)]
struct Ready {
    status: &'static str,
    nats: &'static str,
    store: &'static str,
}

impl Ready {
    fn of(without: Without) -> Self {
        let [nats, store] =
            [without.nats, without.database].map(|lost| if lost.is_none() { "ok" } else { "away" });
        Self { status: "ready", nats, store }
    }
}

/// Whether the hub takes calls and its store can be written. Needs no token, since it says nothing else.
async fn ready(hub: HubData) -> Result<HttpResponse, ApiError> {
    if hub.is_leaving() {
        return Err(ApiError::hub_stopping());
    }
    if let Some(shared) = &hub.shared {
        return match shared.cut_off() {
            Some(reason) => Err(ApiError::new(ErrorKind::Unavailable, reason.to_string())),
            None => Ok(HttpResponse::Ok().json(Ready::of(shared.without()))),
        };
    }
    match timeout(STORE_TIMEOUT, hub.store.probe()).await {
        Ok(Ok(())) => Ok(ok_json(r#"{"status":"ready"}"#)),
        Ok(Err(_)) | Err(_) => {
            Err(ApiError::new(ErrorKind::StoreUnavailable, "the store cannot be written now"))
        }
    }
}

/// Totals for Prometheus, without names: admins get those of all rows, members those of public rows only. Behind them the
/// prompt caches of the rows that the caller sees.
async fn metrics(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let metrics = if caller.role == Role::Admin {
        let metrics = &hub.watch.metrics;
        metrics.publishers.set(number(hub.channels.len()));
        hub.quotas.memory.measure();
        metrics
    } else {
        let metrics = &hub.watch.shared;
        // Counting walks over all rows and tasks, so it happens at most once a second.
        let versions = (hub.registry.lock().version(), hub.tasks.version());
        if hub.watch.claim_recount(versions, hub.now().mono) {
            metrics.publishers.set(number(hub.registry.lock().open_public_sessions()));
            metrics.queue_depth.set(number(hub.shared_queue_depth()));
        }
        metrics
    };
    let mut text = metrics.text().map_err(ApiError::internal)?;
    let (mut rows, mut after, mut permit) = (Vec::new(), None, None);
    loop {
        // Other calls get the registry between two pages.
        let last = hub.registry.lock().row_caches(&caller, after.as_deref(), PAGE, &mut rows);
        after = last;
        if after.is_none() {
            break;
        }
        if permit.is_none() {
            permit = Some(ListPermit::take(&hub, &caller, METRICS_BYTES)?);
        }
        yield_now().await;
    }
    text.push_str(&metrics_text(&rows));
    if let Some(shared) = hub.shared.as_ref().filter(|_| caller.role == Role::Admin) {
        text.push_str(&shared.metrics_text());
    }
    Ok(HttpResponse::Ok().content_type(Metrics::content_type()).body(text))
}
