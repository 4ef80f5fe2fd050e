//! `/api/v1/names`: the owners of names, changed or removed by admins (SPEC.md section 5).

use actix_web::web::{Path, Payload, ServiceConfig, delete, get, put};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;

use super::body;
use super::change::{NAME, change};
use super::list::pages_by_name;
use crate::error::ApiError;
use crate::hub::HubData;
use crate::model::{Caller, Role};
use crate::quota::BytesPermit;
use crate::registry::NameView;

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/api/v1/names", get().to(all))
        .route("/api/v1/names/{name}", get().to(one))
        .route("/api/v1/names/{name}", put().to(give))
        .route("/api/v1/names/{name}", delete().to(free));
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewOwner {
    owner_id: String,
}

async fn all(hub: HubData, caller: Caller) -> HttpResponse {
    pages_by_name(
        "[",
        "]",
        |view: &NameView| &view.name,
        move |after, most| hub.registry.lock().names_after(&caller, after, hub.now()).take(most).collect(),
    )
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
    let (NewOwner { owner_id }, body) = body::counted(&req, payload).await?;
    // A name given to a misspelt user would belong to nobody. Only admins learn which users have tokens; members pass
    // here and are refused by the registry.
    let owner_id = match (hub.tokens.user(&owner_id), caller.role) {
        (Some(known), _) => known,
        (None, Role::Member) => owner_id,
        (None, Role::Admin) => {
            let text = format!("ownerId: there is no user '{owner_id}' who has a token");
            return Err(ApiError::bad_request(text));
        }
    };
    let view = change(&hub, (&caller, body), (NAME, &name), |registry| {
        let given = registry.give_name(&caller, &name, &owner_id, hub.now())?;
        hub.offer_detached();
        Ok(given)
    });
    let view = view.await?;
    log::info!("{} gives the name '{name}' to {owner_id}", caller.user);
    Ok(HttpResponse::Ok().json(view))
}

async fn free(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    change(&hub, (&caller, BytesPermit::default()), (NAME, &name), |registry| {
        Ok(((), registry.free_name(&caller, &name, hub.now())?))
    })
    .await?;
    log::info!("{} frees the name '{name}'", caller.user);
    Ok(HttpResponse::NoContent().finish())
}
