//! `GET /api/v1/pools[/{pool}]`, `PUT` and `DELETE /api/v1/pools/{pool}/members/{llm}`: who serves a pool, and who is
//! let in (SPEC.md section 5).

use actix_web::HttpResponse;
use actix_web::web::{Path, ServiceConfig, delete, get, put};

use super::HubData;
use super::curate::{POOL, refused};
use crate::error::ApiError;
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/api/v1/pools", get().to(list))
        .route("/api/v1/pools/{pool}", get().to(one))
        .route("/api/v1/pools/{pool}/members/{llm}", put().to(admit))
        .route("/api/v1/pools/{pool}/members/{llm}", delete().to(dismiss));
}

async fn list(hub: HubData, caller: Caller) -> HttpResponse {
    let pools = hub.registry.lock().pools(&caller);
    HttpResponse::Ok().json(pools)
}

async fn one(hub: HubData, caller: Caller, pool: Path<String>) -> Result<HttpResponse, ApiError> {
    let view = hub.registry.lock().pool_view(&caller, &pool);
    Ok(HttpResponse::Ok().json(view.ok_or_else(|| ApiError::not_found(POOL, &pool))?))
}

async fn admit(hub: HubData, caller: Caller, path: Path<(String, String)>) -> Result<HttpResponse, ApiError> {
    let (pool, row) = path.into_inner();
    let done = hub.try_change(|registry| {
        let done = registry.admit(&caller, &pool, &row, hub.now())?;
        // Somebody may wait for the pool.
        hub.offer(registry, &row);
        Ok(done)
    });
    let (view, written) = done.map_err(|error| refused(error, POOL, &pool))?;
    written.await?;
    log::info!("{} lets LLM {row} serve the pool '{pool}'", caller.user);
    Ok(HttpResponse::Ok().json(view))
}

async fn dismiss(
    hub: HubData,
    caller: Caller,
    path: Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (pool, row) = path.into_inner();
    let done = hub.try_change(|registry| registry.dismiss(&caller, &pool, &row, hub.now()));
    let (view, written) = done.map_err(|error| refused(error, POOL, &pool))?;
    written.await?;
    log::info!("{} takes LLM {row} out of the pool '{pool}'", caller.user);
    Ok(HttpResponse::Ok().json(view))
}
