//! `/api/v1/pools`: pools and their members, and which rows may join (SPEC.md section 5).

use actix_web::HttpResponse;
use actix_web::web::Path;

use super::change::{POOL, change};
use super::list::{PAGE, pages};
use super::openapi::{Routes, about, shape};
use crate::error::{ApiError, ErrorKind};
use crate::hub::HubData;
use crate::model::Caller;
use crate::news::news;
use crate::quota::BytesPermit;
use crate::registry::PoolView;

/// The kind of log lines about members.
const CHANGES: &str = "members of pools";

pub(super) fn register(routes: &mut Routes<'_>) {
    let member = |summary| {
        let errors = [ErrorKind::Forbidden, ErrorKind::NotFound, ErrorKind::Conflict];
        about(summary).changes().returns(200, shape::<PoolView>).refuses(&errors)
    };
    routes
        .get("/api/v1/pools", all, about("Pools that the caller sees").returns(200, shape::<Vec<PoolView>>))
        .get(
            "/api/v1/pools/{pool}",
            one,
            about("A pool").returns(200, shape::<PoolView>).refuses(&[ErrorKind::NotFound]),
        )
        .put("/api/v1/pools/{pool}/members/{llm}", admit, member("Admits a row to a pool"))
        .delete("/api/v1/pools/{pool}/members/{llm}", dismiss, member("Takes a row out of a pool"));
}

async fn all(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    let mut after: Option<String> = None;
    pages(&hub, &caller, ("[", "]"), move |hub, caller, page| {
        let (views, last) = hub.registry.lock().pools_after(caller, after.as_deref(), PAGE);
        for view in &views {
            page.push(view);
        }
        after = last;
        after.is_some()
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
    news!(
        info,
        CHANGES,
        &caller.user,
        [user = caller.user, llm = row, pool = pool],
        "{} lets LLM {row} serve the pool '{pool}'",
        caller.user
    );
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
    news!(
        info,
        CHANGES,
        &caller.user,
        [user = caller.user, llm = row, pool = pool],
        "{} takes LLM {row} out of the pool '{pool}'",
        caller.user
    );
    Ok(HttpResponse::Ok().json(view))
}
