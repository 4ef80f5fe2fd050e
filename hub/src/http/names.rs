//! `/api/v1/names`: the owners of names, changed or removed by admins (SPEC.md section 5).

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Deserialize;

use super::body;
use super::change::{NAME, change};
use super::list::pages_by_name;
use super::openapi::{Routes, about, shape};
use crate::error::{ApiError, ErrorKind};
use crate::hub::HubData;
use crate::model::{Caller, Role};
use crate::news::news;
use crate::quota::BytesPermit;
use crate::registry::NameView;

/// The kind of log lines about names.
const CHANGES: &str = "names given away or freed";

pub(super) fn register(routes: &mut Routes<'_>) {
    routes
        .get(
            "/api/v1/names",
            all,
            about("The caller's names, for an admin all").returns(200, shape::<Vec<NameView>>),
        )
        .get(
            "/api/v1/names/{name}",
            one,
            about("A name and its owner").returns(200, shape::<NameView>).refuses(&[ErrorKind::NotFound]),
        )
        .put(
            "/api/v1/names/{name}",
            give,
            about("Gives a name to another user, for admins")
                .takes(shape::<NewOwner>)
                .changes()
                .returns(200, shape::<NameView>)
                .refuses(&[ErrorKind::Forbidden, ErrorKind::NotFound]),
        )
        .delete(
            "/api/v1/names/{name}",
            free,
            about("Frees a name that nothing has")
                .changes()
                .returns_nothing(204)
                .refuses(&[ErrorKind::NotFound, ErrorKind::Conflict]),
        );
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NewOwner {
    owner_id: String,
}

async fn all(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    pages_by_name(
        &hub,
        &caller,
        ("[", "]"),
        |view: &NameView| &view.name,
        |hub, caller, after, push| hub.registry.lock().names_after(caller, after, hub.now()).all(push),
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
    news!(
        info,
        CHANGES,
        &caller.user,
        [user = caller.user, name = name],
        "{} gives the name '{name}' to {owner_id}",
        caller.user
    );
    Ok(HttpResponse::Ok().json(view))
}

async fn free(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    change(&hub, (&caller, BytesPermit::default()), (NAME, &name), |registry| {
        Ok(((), registry.free_name(&caller, &name, hub.now())?))
    })
    .await?;
    news!(
        info,
        CHANGES,
        &caller.user,
        [user = caller.user, name = name],
        "{} frees the name '{name}'",
        caller.user
    );
    Ok(HttpResponse::NoContent().finish())
}
