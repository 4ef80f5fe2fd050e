//! `GET /api/v1/whoami`.

use actix_web::HttpResponse;
use schemars::JsonSchema;
use serde::Serialize;
use wire::row::Timestamp;

use crate::http::openapi::{Routes, about, shape};
use crate::http::users::LimitsView;
use crate::hub::HubData;
use crate::model::{Caller, LimitOwner};

pub(super) fn register(routes: &mut Routes<'_>) {
    routes.get(
        "/api/v1/whoami",
        whoami,
        about("The caller, its token, and the hub's address and version").returns(200, shape::<Whoami<'_>>),
    );
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Whoami<'a> {
    user: &'a str,
    role: &'static str,
    token_id: &'a str,
    expires_at: Option<Timestamp>,
    hub_url: Option<&'a str>,
    version: &'static str,
    /// What an admin allows the caller's user, if that is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_limits: Option<LimitsView>,
    /// What an admin allows the token, if that is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_limits: Option<LimitsView>,
}

/// The caller's user, role and token, and the address (`hub --public-url`) and version of the hub.
async fn whoami(hub: HubData, caller: Caller) -> HttpResponse {
    HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(Whoami {
        user: &caller.user,
        role: caller.role.as_str(),
        token_id: &caller.token_id,
        expires_at: hub.tokens.expiry(&caller.token_id),
        hub_url: hub.options.public_url.as_deref(),
        version: env!("CARGO_PKG_VERSION"),
        user_limits: LimitsView::some(&hub, &LimitOwner::User(caller.user.clone())),
        token_limits: LimitsView::some(&hub, &LimitOwner::Token(caller.token_id.clone())),
    })
}
