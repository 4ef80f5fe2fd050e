//! Sign-in links and rotations.

use std::time::Duration;

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{TokenView, changed, duration, own_or_admin, shown_once};
use crate::auth::{ChangeError, SIGN_IN, refused_secret, secret};
use crate::error::{ApiError, ErrorKind};
use crate::http::body;
use crate::http::change::ChangeTurn;
use crate::http::openapi::{Routes, about, shape};
use crate::hub::HubData;
use crate::model::Caller;
use crate::news::news;
use crate::quota::BytesPermit;
use crate::telemetry::Limit;

pub(super) fn register(routes: &mut Routes<'_>) {
    routes
        .post(
            "/api/v1/tokens/{id}/rotate",
            rotate,
            about("Gives a token another secret, the caller's own or, for admins, any")
                .takes(shape::<Rotation>)
                .returns(200, shape::<TokenView<'_>>)
                .refuses(&[
                    ErrorKind::Forbidden,
                    ErrorKind::NotFound,
                    ErrorKind::Conflict,
                    ErrorKind::StoreUnavailable,
                ]),
        )
        .post(
            SIGN_IN,
            sign_in,
            about("The token of a sign-in link, once; the bearer token is the code of the link")
                .returns(200, shape::<TokenView<'_>>)
                .refuses(&[ErrorKind::Unauthorized, ErrorKind::Busy, ErrorKind::StoreUnavailable]),
        );
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Rotation {
    /// A time such as `1h`, for which the present secret stays valid; at most 30 days, none unless given.
    #[serde(default)]
    grace: Option<String>,
}

/// Longest time for which a secret stays valid after a rotation.
const MAX_GRACE: Duration = Duration::from_hours(30 * 24);

async fn rotate(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    id: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let Rotation { grace } = body::json(&req, payload).await?;
    own_or_admin(&caller, &id)?;
    let grace = grace.map(|text| duration(&text).filter(|grace| *grace <= MAX_GRACE).ok_or(text)).transpose();
    let grace = grace.map_err(|text| {
        ApiError::bad_request(format!("grace: a time such as 1h, at most 30d, and not '{text}'"))
    })?;
    if caller.token_id == *id && !hub.tokens.has_present_secret(&caller) {
        let text = "this secret was replaced by a rotation, and cannot begin another one: use the new secret";
        return Err(ApiError::new(ErrorKind::Forbidden, text));
    }
    if hub.tokens.rotates_too_often(&caller.user) {
        let text = "you rotated many tokens just now: try again in a minute";
        return Err(ApiError::new(ErrorKind::Busy, text).refused_by(Limit::Rotations));
    }
    let turn = ChangeTurn::wait(&hub, &caller, BytesPermit::default()).await?;
    let rotated = {
        let id = id.clone();
        changed(&hub, turn, async move |tokens| tokens.rotate(&id, grace.unwrap_or_default()).await)
    };
    let (token, secret) = rotated.await?.map_err(|error| match error {
        ChangeError::Unknown => ApiError::not_found("token", &id),
        ChangeError::OwnToken => ApiError::new(ErrorKind::Conflict, error.to_string()),
        ChangeError::Store(error) => error.into(),
    })?;
    news!(
        info,
        "rotated tokens",
        &caller.user,
        [user = caller.user],
        "{} rotated token {id} of {}",
        caller.user,
        token.user
    );
    Ok(shown_once(HttpResponse::Ok(), &hub, TokenView::of(&hub, &token, Some(secret.reveal()))))
}

/// Takes the code of a sign-in link from the header that has the token elsewhere: it is in no address and in no log.
async fn sign_in(hub: HubData, req: HttpRequest) -> Result<HttpResponse, ApiError> {
    let code = secret(req.headers(), false).ok_or_else(ApiError::unauthorized)?;
    if hub.shared.is_some() {
        hub.tokens.look_up(code).await;
    }
    // A code is used once at all hubs. Nobody takes a turn with a wrong one.
    let signed_in = if hub.tokens.is_link(code) {
        let (code, turn) = (code.to_owned(), hub.table_turn().await?);
        changed(&hub, turn, async move |tokens| tokens.sign_in(&code).await).await?
    } else {
        Err(ChangeError::Unknown)
    };
    let (token, secret) = signed_in.map_err(|error| match error {
        ChangeError::Store(error) => error.into(),
        ChangeError::Unknown | ChangeError::OwnToken => {
            refused_secret(&hub.tokens, &req).unwrap_or_else(|| {
                let text =
                    "this sign-in link was used already, is too old, or is not whole: ask for another one";
                ApiError::new(ErrorKind::Unauthorized, text)
            })
        }
    })?;
    news!(
        info,
        "sign-ins by a link",
        &token.user,
        [user = token.user],
        "{} signed in by a link, with token {}",
        token.user,
        token.id
    );
    Ok(shown_once(HttpResponse::Ok(), &hub, TokenView::of(&hub, &token, Some(secret.reveal()))))
}
