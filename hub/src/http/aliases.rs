//! `/api/v1/aliases`: other names for rows, pools and agents (SPEC.md section 5, aliases).

use actix_web::web::{self, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Deserialize;

use super::body;
use super::change::{ALIAS, change};
use super::list::pages;
use super::openapi::{Routes, about, shape};
use crate::error::{ApiError, ErrorKind};
use crate::hub::{Hub, HubData};
use crate::model::{AliasScope, Caller, Role};
use crate::quota::BytesPermit;
use crate::registry::AliasView;

pub(super) fn register(routes: &mut Routes<'_>) {
    let user = |summary| about(summary).query("user", "Whose alias it is").refuses(&[ErrorKind::BadRequest]);
    routes
        .get(
            "/api/v1/aliases",
            all,
            about("Aliases that the caller sees").returns(200, shape::<Vec<AliasView>>),
        )
        .get(
            "/api/v1/aliases/{name}",
            one,
            user("An alias").returns(200, shape::<AliasView>).refuses(&[ErrorKind::NotFound]),
        )
        .put(
            "/api/v1/aliases/{name}",
            set,
            user("Creates or changes an alias")
                .takes(shape::<NewTarget>)
                .changes()
                .returns(200, shape::<AliasView>)
                .refuses(&[ErrorKind::Forbidden, ErrorKind::NotFound, ErrorKind::Conflict]),
        )
        .delete(
            "/api/v1/aliases/{name}",
            remove,
            user("Deletes an alias")
                .changes()
                .returns_nothing(204)
                .refuses(&[ErrorKind::Forbidden, ErrorKind::NotFound]),
        );
}

/// The query of a call about one alias.
#[derive(Deserialize)]
struct Query {
    /// The user whose calls the alias serves.
    user: Option<String>,
}

impl Query {
    /// The scope of the alias that the call changes. Without `?user=` it is the caller; for an admin all users.
    ///
    /// An alias is set for users who have a token. Those of a user who has none any more can be read and deleted.
    fn alias_scope(self, hub: &Hub, caller: &Caller, is_set: bool) -> Result<AliasScope, ApiError> {
        let Some(name) = self.user else {
            return Ok(match caller.role {
                Role::Admin => AliasScope::All,
                Role::Member => AliasScope::User(caller.user.clone()),
            });
        };
        match (hub.tokens.user(&name), caller.role) {
            (Some(user), _) => Ok(AliasScope::User(user)),
            // Only admins learn which users have tokens; the registry refuses members.
            (None, Role::Member) => Ok(AliasScope::User(name)),
            (None, Role::Admin) if !is_set => Ok(AliasScope::User(name)),
            (None, Role::Admin) => {
                Err(ApiError::bad_request(format!("user: there is no user '{name}' who has a token")))
            }
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "NewAlias")]
struct NewTarget {
    target: String,
}

async fn all(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    let mut after = None;
    pages(&hub, &caller, ("[", "]"), move |hub, caller, page| {
        let mut last = None;
        let is_all = hub.registry.lock().aliases_after(caller, after.as_ref()).all(|view| {
            let space = page.push(&view);
            last = Some((view.user.map_or(AliasScope::All, AliasScope::User), view.name));
            space
        });
        after = last.or(after.take());
        !is_all
    })
}

async fn one(
    hub: HubData,
    caller: Caller,
    name: Path<String>,
    web::Query(query): web::Query<Query>,
) -> Result<HttpResponse, ApiError> {
    let scopes = if query.user.is_some() {
        vec![query.alias_scope(&hub, &caller, false)?]
    } else {
        vec![AliasScope::User(caller.user.clone()), AliasScope::All]
    };
    let registry = hub.registry.lock();
    let view = scopes.iter().find_map(|scope| registry.alias(&caller, scope, &name));
    drop(registry);
    Ok(HttpResponse::Ok().json(view.ok_or_else(|| ApiError::not_found(ALIAS, &name))?))
}

async fn set(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    name: Path<String>,
    web::Query(query): web::Query<Query>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let (NewTarget { target }, body) = body::counted(&req, payload).await?;
    let scope = query.alias_scope(&hub, &caller, true)?;
    let view = change(&hub, (&caller, body), (ALIAS, &name), |registry| {
        registry.set_alias(&caller, (scope, &name), &target, hub.now())
    });
    Ok(HttpResponse::Ok().json(view.await?))
}

async fn remove(
    hub: HubData,
    caller: Caller,
    name: Path<String>,
    web::Query(query): web::Query<Query>,
) -> Result<HttpResponse, ApiError> {
    let scope = query.alias_scope(&hub, &caller, false)?;
    change(&hub, (&caller, BytesPermit::default()), (ALIAS, &name), |registry| {
        Ok(((), registry.delete_alias(&caller, (scope, &name))?))
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}
