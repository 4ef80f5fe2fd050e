//! `/api/v1/tokens`, for admins, and `GET /api/v1/whoami` (SPEC.md section 5).

use std::time::Duration;

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::row::Timestamp;

use super::body;
use super::openapi::{Routes, about, shape};
use super::users::LimitsView;
use crate::auth::{Admin, CreateError, NewToken, RevokeError, check_user};
use crate::clock;
use crate::error::{ApiError, ErrorKind};
use crate::hub::{Hub, HubData};
use crate::limits::LimitsPatch;
use crate::model::{CallLimits, Caller, LimitOwner, Role, Token};

mod secrets;

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
        )
        .get(
            "/api/v1/whoami",
            whoami,
            about("The caller, its token, and the hub's address and version")
                .returns(200, shape::<Whoami<'_>>),
        );
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
    let _turn = hub.table_turn().await?;
    let made = if is_link { hub.tokens.create_link(new).await } else { hub.tokens.create(new).await };
    let (token, secret) = made.map_err(|error| match error {
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
    hub.tell_changed();
    let secret = Some(secret.reveal());
    let (secret, sign_in_code) = if is_link { (None, secret) } else { (secret, None) };
    Ok(shown_once(
        HttpResponse::Created(),
        &hub,
        TokenView { sign_in_code, ..TokenView::of(&hub, &token, secret) },
    ))
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
    hub.tokens.revoke(&id).await.map_err(|error| match error {
        RevokeError::Unknown => ApiError::not_found("token", &id),
        RevokeError::Environment | RevokeError::LastAdmin => {
            ApiError::new(ErrorKind::Conflict, error.to_string())
        }
        RevokeError::Store(error) => error.into(),
    })?;
    hub.tell_changed();
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

/// Parses a moment in the future: RFC 3339, or a time from now.
fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    let from_now = duration(text)
        .and_then(|duration| i64::try_from(duration.as_millis()).ok())
        .map(|millis| now.plus_millis(millis));
    let moment = || Some(Timestamp(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()));
    // RFC 3339 cannot express a later moment.
    let last = Timestamp(jiff::Timestamp::MAX.as_millisecond());
    from_now.or_else(moment).filter(|expiry| *expiry > now && *expiry <= last).ok_or_else(|| {
        ApiError::bad_request(
            "expires: a time from now such as 30d or 12h, or a moment to come such as 2030-01-01T00:00:00Z, \
             not after the year 9999",
        )
    })
}

/// Parses digits and one unit: `ms`, `s`, `m`, `h`, `d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_duration_from_now_or_a_future_time() {
        let now = Timestamp(1_000_000);
        assert_eq!(expiry("30d", now).unwrap(), now.plus_millis(30 * 86_400_000));
        assert_eq!(expiry("500ms", now).unwrap(), now.plus_millis(500));
        assert_eq!(expiry("2932890d", now).unwrap().to_string(), "9999-12-25T00:16:40.000Z");
        assert_eq!(expiry("1970-01-01T01:00:00Z", now).unwrap(), Timestamp(3_600_000));
        for bad in [
            "",
            "0s",
            "d",
            "5",
            "5w",
            "-1d",
            "1970-01-01T00:00:01Z",
            "99999999999999999999d",
            "18446744073709551615d",
            "2932897d",
            "70400000h",
            "9223372036854775807ms",
            "+010000-01-01T00:00:00Z",
        ] {
            assert!(expiry(bad, now).is_err(), "{bad}");
        }
    }
}
