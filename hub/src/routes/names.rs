//! `GET /api/v1/names[/{name}]`, `PUT` and `DELETE /api/v1/names/{name}`: whose names are, and giving them up
//! (SPEC.md section 5).

use actix_web::web::{Path, Payload, ServiceConfig, delete, get, put};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::curate::{NAME, refused};
use super::{HubData, body};
use crate::error::ApiError;
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/api/v1/names", get().to(list))
        .route("/api/v1/names/{name}", get().to(one))
        .route("/api/v1/names/{name}", put().to(give))
        .route("/api/v1/names/{name}", delete().to(free));
}

/// Whose it becomes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    owner_id: String,
}

async fn list(hub: HubData, caller: Caller) -> HttpResponse {
    let names = hub.registry.lock().names_held(&caller);
    HttpResponse::Ok().json(names)
}

async fn one(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let view = hub.registry.lock().name(&caller, &name);
    Ok(HttpResponse::Ok().json(view.ok_or_else(|| ApiError::not_found(NAME, &name))?))
}

async fn give(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let Owner { owner_id } = body::json(&req, payload).await?;
    // As the user's tokens write it; a slip would give the name to nobody.
    let mut users = hub.tokens.list().into_iter().map(|token| token.user);
    let owner_id = users.find(|user| user.eq_ignore_ascii_case(&owner_id)).ok_or_else(|| {
        ApiError::bad_request(format!("ownerId: there is no user '{owner_id}' who has a token"))
    })?;
    let done = hub.try_change(|registry| registry.give_name(&caller, &name, &owner_id, hub.now()));
    let (view, written) = done.map_err(|error| refused(error, NAME, &name))?;
    written.await?;
    log::info!("{} gives the name '{name}' to {owner_id}", caller.user);
    Ok(HttpResponse::Ok().json(view))
}

async fn free(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let done = hub.try_change(|registry| Ok(((), registry.free_name(&caller, &name, hub.now())?)));
    let ((), written) = done.map_err(|error| refused(error, NAME, &name))?;
    written.await?;
    log::info!("{} frees the name '{name}'", caller.user);
    Ok(HttpResponse::NoContent().finish())
}
