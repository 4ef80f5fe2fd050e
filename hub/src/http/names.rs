//! `GET /api/v1/names[/{name}]`, `PUT` and `DELETE /api/v1/names/{name}`: whose names are, and giving them up
//! (SPEC.md section 5).

use actix_web::web::{Path, Payload, ServiceConfig, delete, get, put};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::list::PAGE;
use super::manage::{NAME, changed};
use super::{HubData, body, list};
use crate::error::ApiError;
use crate::model::{Caller, Role};
use crate::registry::NameView;

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/api/v1/names", get().to(all))
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

async fn all(hub: HubData, caller: Caller) -> HttpResponse {
    let mut after: Option<String> = None;
    list::respond("[", "]", move || {
        let registry = hub.registry.lock();
        let names: Vec<NameView> =
            registry.names_after(&caller, after.as_deref(), hub.now()).take(PAGE).collect();
        drop(registry);
        after = names.last().map(|name| name.name.clone());
        let more = names.len() == PAGE;
        (names, more)
    })
}

async fn one(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let view = hub.registry.lock().name(&caller, &name, hub.now());
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
    // As the user's tokens write it; a slip would give the name to nobody. Who has a token is told to admins alone: of
    // anybody else the table says first that it may not.
    let owner_id = match (hub.tokens.user(&owner_id), caller.role) {
        (Some(known), _) => known,
        (None, Role::Member) => owner_id,
        (None, Role::Admin) => {
            let text = format!("ownerId: there is no user '{owner_id}' who has a token");
            return Err(ApiError::bad_request(text));
        }
    };
    let view = changed(&hub, NAME, &name, |registry| {
        let done = registry.give_name(&caller, &name, &owner_id, hub.now())?;
        hub.offer_detached();
        Ok(done)
    });
    let view = view.await?;
    log::info!("{} gives the name '{name}' to {owner_id}", caller.user);
    Ok(HttpResponse::Ok().json(view))
}

async fn free(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    changed(&hub, NAME, &name, |registry| Ok(((), registry.free_name(&caller, &name, hub.now())?))).await?;
    log::info!("{} frees the name '{name}'", caller.user);
    Ok(HttpResponse::NoContent().finish())
}
