//! `/api/v1/tokens`, for admins (SPEC.md section 5).

use std::sync::Arc;

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::row::Timestamp;

use super::body;
use super::openapi::{Routes, about, shape};
use super::users::LimitsView;
use crate::auth::{Admin, CreateError, NewToken, RevokeError, Tokens, check_user};
use crate::clock;
use crate::error::{ApiError, ErrorKind};
use crate::hub::{Hub, HubData};
use crate::limits::LimitsPatch;
use crate::model::{CallLimits, Caller, LimitOwner, Role, Token};

mod expiry;
mod secrets;
mod whoami;

pub(super) use expiry::duration;
use expiry::expiry;

pub(super) fn register(routes: &mut Routes<'_>) {
    let admin = |summary| about(summary).refuses(&[ErrorKind::Forbidden]);
    routes
        .post(
            "/api/v1/tokens",
            create,
            admin("Creates a token, for admins")
                .takes(shape::<TokenRequest>)
                .returns(201, shape::<TokenView<'_>>)
                .refuses(&[ErrorKind::Conflict, ErrorKind::StoreUnavailable]),
        )
        .get(
            "/api/v1/tokens",
            list,
            admin("Tokens without their secrets, for admins").returns(200, shape::<Vec<TokenView<'_>>>),
        )
        .patch(
            "/api/v1/tokens/{id}/limits",
            set,
            admin("Changes the limits of a token, for admins")
                .takes(shape::<LimitsPatch>)
                .returns(200, shape::<TokenView<'_>>)
                .refuses(&[ErrorKind::NotFound, ErrorKind::StoreUnavailable]),
        )
        .delete(
            "/api/v1/tokens/{id}",
            revoke,
            admin("Revokes a token, the caller's own or, for admins, any").returns_nothing(204).refuses(&[
                ErrorKind::NotFound,
                ErrorKind::Conflict,
                ErrorKind::StoreUnavailable,
            ]),
        );
    whoami::register(routes);
    secrets::register(routes);
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TokenRequest {
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$"))]
    user: String,
    #[serde(default)]
    role: Option<String>,
    /// A time from now such as `30d`, or a moment; the same holds for `expiresAt`.
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    expires_at: Option<String>,
    /// Whether a sign-in link is made instead of the token, whose secret its user then gets by that link.
    #[serde(default)]
    link: bool,
    #[serde(flatten)]
    limits: LimitsPatch,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TokenView<'a> {
    id: &'a str,
    user: &'a str,
    role: &'static str,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    #[serde(flatten)]
    limits: LimitsView,
    /// When the secret before the last rotation ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_until: Option<Timestamp>,
    /// When the sign-in link ends, if nobody has used it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in_until: Option<Timestamp>,
    /// The secret, only in the response to the call that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    /// The code of the sign-in link, only in the response to the call that made it. The link is `HUB/#/sign-in/CODE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in_code: Option<&'a str>,
    /// `hub --public-url`, where the user logs in; only next to the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_url: Option<&'a str>,
}

impl<'a> TokenView<'a> {
    fn of(hub: &Hub, token: &'a Token, secret: Option<&'a str>) -> Self {
        Self {
            id: &token.id,
            user: &token.user,
            role: token.role.as_str(),
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
            old_secret_until: token.old.map(|old| old.until).filter(|until| clock::now() < *until),
            sign_in_until: token.link.map(|link| link.until),
            limits: LimitsView::of(hub, &LimitOwner::Token(token.id.clone())),
            token: secret,
            sign_in_code: None,
            hub_url: None,
        }
    }
}

async fn create(
    hub: HubData,
    admin: Admin,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let request: TokenRequest = body::json(&req, payload).await?;
    let is_link = request.link;
    let new = check(request, clock::now())?;
    // The rule of names looks at all tokens.
    let turn = hub.table_turn().await?;
    let made =
        changed(
            &hub,
            turn,
            async move |tokens| {
                if is_link { tokens.create_link(new).await } else { tokens.create(new).await }
            },
        );
    let (token, secret) = made.await?.map_err(|error| match error {
        CreateError::AdminsName(_) => ApiError::new(ErrorKind::Conflict, error.to_string()),
        CreateError::Store(error) => error.into(),
    })?;
    wire::log_with!(
        info,
        [user = admin.0.user],
        "{} made token {} for {}",
        admin.0.user,
        token.id,
        token.user
    );
    let secret = Some(secret.reveal());
    let (secret, sign_in_code) = if is_link { (None, secret) } else { (secret, None) };
    Ok(shown_once(
        HttpResponse::Created(),
        &hub,
        TokenView { sign_in_code, ..TokenView::of(&hub, &token, secret) },
    ))
}

/// Changes tokens in `turn`, to the end also if the caller leaves: what the store has must hold here.
async fn changed<T: Send + 'static, F: Future<Output = T> + Send>(
    hub: &HubData,
    turn: impl Send + 'static,
    change: impl FnOnce(Arc<Tokens>) -> F + Send + 'static,
) -> Result<T, ApiError> {
    let hub = hub.clone().into_inner();
    let changed = tokio::spawn(async move {
        let _turn = turn;
        let changed = change(hub.tokens.clone()).await;
        hub.tell_changed();
        changed
    });
    changed.await.map_err(ApiError::internal)
}

/// The response with a secret.
fn shown_once<'a>(mut response: HttpResponseBuilder, hub: &'a Hub, mut view: TokenView<'a>) -> HttpResponse {
    view.hub_url = hub.options.public_url.as_deref();
    response.insert_header(("cache-control", "no-store")).json(view)
}

async fn list(hub: HubData, _: Admin) -> HttpResponse {
    let tokens = hub.tokens.list();
    HttpResponse::Ok().json(tokens.iter().map(|token| TokenView::of(&hub, token, None)).collect::<Vec<_>>())
}

async fn set(
    hub: HubData,
    admin: Admin,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let patch: LimitsPatch = body::json(&req, payload).await?;
    let token = hub.tokens.get(&id).ok_or_else(|| ApiError::not_found("token", &id))?;
    let owner = LimitOwner::Token(token.id.clone());
    hub.clone().into_inner().set_limits(owner, token.user.clone(), patch).await?;
    wire::log_with!(info, [user = admin.0.user], "{} set the limits of token {id}", admin.0.user);
    Ok(HttpResponse::Ok().json(TokenView::of(&hub, &token, None)))
}

async fn revoke(hub: HubData, caller: Caller, id: Path<String>) -> Result<HttpResponse, ApiError> {
    own_or_admin(&caller, &id)?;
    let revoking = (hub.clone().into_inner(), id.clone());
    // Spawned, since a caller that leaves has revoked it all the same.
    let revoked = tokio::spawn(async move {
        let (hub, id) = revoking;
        // Another hub may be rotating it, or revoking the other admin's. Without a turn it is revoked, too.
        let _turn = hub.table_turn().await;
        let revoked = hub.tokens.revoke(&id).await;
        if revoked.is_ok() {
            hub.tell_changed();
        }
        revoked
    });
    revoked.await.map_err(ApiError::internal)?.map_err(|error| match error {
        RevokeError::Unknown => ApiError::not_found("token", &id),
        RevokeError::Environment | RevokeError::LastAdmin => {
            ApiError::new(ErrorKind::Conflict, error.to_string())
        }
        RevokeError::Store(error) => error.into(),
    })?;
    wire::log_with!(info, [user = caller.user], "{} revoked token {id}", caller.user);
    Ok(HttpResponse::NoContent().finish())
}

/// Refuses a member who names another token than its own.
fn own_or_admin(caller: &Caller, id: &str) -> Result<(), ApiError> {
    if caller.role == Role::Admin || caller.token_id == id {
        return Ok(());
    }
    Err(ApiError::new(ErrorKind::Forbidden, "another token than your own is for admins only"))
}

fn check(request: TokenRequest, now: Timestamp) -> Result<NewToken, ApiError> {
    check_user(&request.user).map_err(|error| ApiError::bad_request(format!("user: {error}")))?;
    let role = match request.role.as_deref() {
        None => Role::Member,
        Some(word) => Role::parse(word).ok_or_else(|| ApiError::bad_request("role: 'member' or 'admin'"))?,
    };
    let expires_at = request.expires.or(request.expires_at).map(|text| expiry(&text, now)).transpose()?;
    let limits = request.limits.apply(&CallLimits::default())?;
    Ok(NewToken { user: request.user, role, expires_at, limits })
}
