//! `/api/v1/users`, for admins: users and their limits (SPEC.md section 5, limits of a caller).

use std::collections::BTreeMap;

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;
use wire::row::Timestamp;

use super::body;
use super::openapi::{Routes, about, shape};
use crate::auth::Admin;
use crate::clock;
use crate::error::{ApiError, ErrorKind};
use crate::hub::{Hub, HubData};
use crate::limits::LimitsPatch;
use crate::model::{Day, LimitOwner, Role, Token};

pub(super) fn register(routes: &mut Routes<'_>) {
    let admin = |summary| about(summary).refuses(&[ErrorKind::Forbidden]);
    let one_user = |summary| admin(summary).returns(200, shape::<UserView>).refuses(&[ErrorKind::NotFound]);
    routes
        .get(
            "/api/v1/users",
            all,
            admin("Users who have or had a token, for admins").returns(200, shape::<Vec<UserView>>),
        )
        .get("/api/v1/users/{user}", one, one_user("A user and its limits, for admins"))
        .patch(
            "/api/v1/users/{user}/limits",
            set,
            one_user("Changes the limits of a user, for admins")
                .takes(shape::<LimitsPatch>)
                .refuses(&[ErrorKind::StoreUnavailable]),
        );
}

/// Limits as callers read them. What is not limited is left out.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LimitsView {
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_day: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_concurrent: Option<u32>,
    /// Tokens of the calls that ended today (UTC), if anything is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_today: Option<u64>,
}

impl LimitsView {
    pub(super) fn of(hub: &Hub, owner: &LimitOwner) -> Self {
        let (limits, tokens_today) = hub.tokens.limits().get(owner, Day::of(clock::now()));
        Self {
            models: limits.models.map(|models| models.as_slice().to_vec()),
            tokens_per_day: limits.tokens_per_day,
            requests_per_minute: limits.requests_per_minute,
            max_concurrent: limits.max_concurrent,
            tokens_today,
        }
    }

    /// As [`of`](Self::of); `None` if nothing is limited.
    pub(super) fn some(hub: &Hub, owner: &LimitOwner) -> Option<Self> {
        Some(Self::of(hub, owner)).filter(|view| view.tokens_today.is_some())
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct UserView {
    name: String,
    /// `admin` if one of its valid tokens is an admin's.
    role: &'static str,
    /// Number of valid tokens.
    tokens: usize,
    /// When its first token was made.
    created_at: Timestamp,
    #[serde(flatten)]
    limits: LimitsView,
}

impl UserView {
    /// The user of `tokens`, which has at least one.
    fn of(hub: &Hub, user: &str, tokens: &[Token], now: Timestamp) -> Self {
        let valid = || tokens.iter().filter(|token| token.is_valid(now));
        let role = if valid().any(|token| token.role == Role::Admin) { Role::Admin } else { Role::Member };
        Self {
            name: user.to_owned(),
            role: role.as_str(),
            tokens: valid().count(),
            created_at: tokens.iter().map(|token| token.created_at).min().unwrap_or(now),
            limits: LimitsView::of(hub, &LimitOwner::User(user.to_owned())),
        }
    }
}

async fn all(hub: HubData, _: Admin) -> HttpResponse {
    let mut users: BTreeMap<String, Vec<Token>> = BTreeMap::new();
    for token in hub.tokens.list() {
        users.entry(token.user.clone()).or_default().push(token);
    }
    let now = clock::now();
    let views = users.iter().map(|(user, tokens)| UserView::of(&hub, user, tokens, now));
    HttpResponse::Ok().json(views.collect::<Vec<_>>())
}

async fn one(hub: HubData, _: Admin, user: Path<String>) -> Result<HttpResponse, ApiError> {
    let user = known(&hub, &user)?;
    Ok(respond(&hub, &user))
}

async fn set(
    hub: HubData,
    admin: Admin,
    req: HttpRequest,
    user: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let patch: LimitsPatch = body::json(&req, payload).await?;
    let user = known(&hub, &user)?;
    hub.clone().into_inner().set_limits(LimitOwner::User(user.clone()), user.clone(), patch).await?;
    wire::log_with!(info, [user = admin.0.user], "{} set the limits of user {user}", admin.0.user);
    Ok(respond(&hub, &user))
}

/// The user as its oldest token spells it.
fn known(hub: &Hub, user: &str) -> Result<String, ApiError> {
    hub.tokens.user(user).ok_or_else(|| ApiError::not_found("user", user))
}

fn respond(hub: &Hub, user: &str) -> HttpResponse {
    let tokens: Vec<Token> = hub.tokens.list().into_iter().filter(|token| token.user == user).collect();
    HttpResponse::Ok().json(UserView::of(hub, user, &tokens, clock::now()))
}
