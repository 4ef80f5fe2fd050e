//! `/api/v1/pools`: pools and their members, and which rows may join (SPEC.md section 5).

use actix_web::HttpResponse;
use actix_web::web::{Path, ServiceConfig, delete, get, put};

use super::change::{POOL, change};
use super::list::{PAGE, pages};
use crate::error::ApiError;
use crate::hub::HubData;
use crate::model::Caller;
use crate::quota::BytesPermit;

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/api/v1/pools", get().to(all))
        .route("/api/v1/pools/{pool}", get().to(one))
        .route("/api/v1/pools/{pool}/members/{llm}", put().to(admit))
        .route("/api/v1/pools/{pool}/members/{llm}", delete().to(dismiss));
}

async fn all(hub: HubData, caller: Caller) -> HttpResponse {
    let mut after: Option<String> = None;
    pages("[", "]", move || {
        let (views, last) = hub.registry.lock().pools_after(&caller, after.as_deref(), PAGE);
        let more = last.is_some();
        after = last;
        (views, more)
    })
}

async fn one(hub: HubData, caller: Caller, pool: Path<String>) -> Result<HttpResponse, ApiError> {
    let view = hub.registry.lock().pool_view(&caller, &pool);
    Ok(HttpResponse::Ok().json(view.ok_or_else(|| ApiError::not_found(POOL, &pool))?))
}

async fn admit(hub: HubData, caller: Caller, path: Path<(String, String)>) -> Result<HttpResponse, ApiError> {
    let (pool, row) = path.into_inner();
    let view = change(&hub, (&caller, BytesPermit::default()), (POOL, &pool), |registry| {
        let admitted = registry.admit_member(&caller, &pool, &row, hub.now())?;
        // Callers may wait for the pool.
        hub.offer(registry, &row);
        hub.offer_detached();
        Ok(admitted)
    });
    let view = view.await?;
    log::info!("{} lets LLM {row} serve the pool '{pool}'", caller.user);
    Ok(HttpResponse::Ok().json(view))
}

async fn dismiss(
    hub: HubData,
    caller: Caller,
    path: Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let (pool, row) = path.into_inner();
    let view = change(&hub, (&caller, BytesPermit::default()), (POOL, &pool), |registry| {
        let dismissed = registry.remove_member(&caller, &pool, &row, hub.now())?;
        // A caller that waits for the row while it wakes may get another member.
        hub.offer_names(registry, [pool.as_str()]);
        hub.offer_detached();
        Ok(dismissed)
    });
    let view = view.await?;
    log::info!("{} takes LLM {row} out of the pool '{pool}'", caller.user);
    Ok(HttpResponse::Ok().json(view))
}
