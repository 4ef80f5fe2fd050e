//! The middleware that authenticates callers, around every route: no route can omit the check.

use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};

use super::Tokens;
use crate::address;
use crate::clock;
use crate::cluster::Forwarded;
use crate::connections::Connection;
use crate::error::{ApiError, Dialect, ErrorKind};
use crate::http::middleware::{allows, methods, wrong_method};
use crate::hub::HubData;
use crate::model::{Caller, Role};
use crate::telemetry::Limit;

/// Largest head of a request without a valid token, in bytes: the limit of Node.js, and half of what most proxies forward.
const MAX_ANONYMOUS_HEAD: usize = 16 << 10;

/// The answer to a token that is not known, or not any more: which of these, it does not say.
const WRONG_TOKEN: &str = "this token is wrong, expired or revoked: ask an admin of the hub for another one";

/// Where the code of a sign-in link is given for a token.
pub(crate) const SIGN_IN: &str = "/api/v1/sign-in";

/// Whether a path is public: these tell nothing about the hub's data, and check what they get themselves.
pub(crate) fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | "/favicon.ico" | "/openapi.json" | SIGN_IN)
        || path.starts_with("/console/")
}

/// Puts the [`Caller`] into the request or answers 401, and renders every error in the dialect of its path. Wraps the whole
/// app (`middleware::from_fn(guard)`), whose data has the [`Tokens`].
pub(crate) async fn guard(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let dialect = Dialect::of(req.path());
    let is_private = !is_open(req.path()) && matches!(*req.method(), Method::GET | Method::HEAD);
    let connection = req.conn_data::<Rc<Connection>>().cloned();
    if let Some(hub) = req.app_data::<HubData>().filter(|hub| hub.shared.is_some() && !is_open(req.path()))
        && let Some(secret) = secret(req.headers(), dialect != Dialect::Api)
    {
        // Another hub may have made it just now.
        hub.tokens.look_up(secret).await;
    }
    if let Err(error) = authenticate(&req, connection.as_ref(), dialect) {
        let mut response = error.response(dialect);
        if error.kind != ErrorKind::Unauthorized {
            // The next attempt costs a new connection.
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        return Ok(req.into_response(response));
    }
    if let Some(connection) = connection.filter(|_| !is_open(req.path())) {
        connection.wait_for_new_queue().await;
    }
    let response = next.call(req).await?.map_into_boxed_body();
    if response.status() == StatusCode::NOT_FOUND
        && is_bare(&response)
        && let Some(known) = methods(response.request().path())
        && !allows(known, response.request().method())
    {
        return Ok(response.into_response(wrong_method(known, dialect)));
    }
    let mut response = match error_to_render(&response, dialect) {
        Some(error) => response.into_response(error.response(dialect)),
        None => response,
    };
    if is_private && !response.headers().contains_key(CACHE_CONTROL) {
        // The token may be in a header that caches do not know as one.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// Checks a request's token, and puts its [`Caller`] and `TokenCheck` into the request. On an open path it checks the size
/// of the head alone.
fn authenticate(
    req: &ServiceRequest,
    connection: Option<&Rc<Connection>>,
    dialect: Dialect,
) -> Result<(), ApiError> {
    let is_large = || connection.is_some_and(|connection| connection.head_size() > MAX_ANONYMOUS_HEAD);
    if is_open(req.path()) {
        return if is_large() { Err(large_head()) } else { Ok(()) };
    }
    let tokens = req.app_data::<web::Data<Tokens>>();
    let secret = secret(req.headers(), dialect != Dialect::Api);
    let forwarded = req.extensions().get::<Forwarded>().cloned();
    let found = match (&forwarded, secret) {
        // The hub that passed the request on has checked the secret.
        (Some(Forwarded { token }), _) => tokens.and_then(|tokens| tokens.check_id(token, clock::now())),
        (None, secret) => secret.and_then(|secret| tokens?.check(secret, clock::now())),
    };
    let (caller, check) = found.unzip();
    if let Some(connection) = connection {
        connection.set_caller(caller.as_ref())?;
        if let Some((caller, hub)) = caller.as_ref().zip(req.app_data::<HubData>()) {
            connection.charge_head_to(|| hub.heads_of(&caller.user), req.headers().len())?;
        }
    }
    let Some((caller, check)) = caller.zip(check) else {
        // A request without a token is no guess.
        let refused =
            tokens.filter(|_| secret.is_some()).and_then(|tokens| refused_secret(tokens, req.request()));
        return Err(refused.unwrap_or_else(|| match secret {
            _ if is_large() => large_head(),
            Some(_) => ApiError::new(ErrorKind::Unauthorized, WRONG_TOKEN),
            None => ApiError::unauthorized(),
        }));
    };
    let mut extensions = req.extensions_mut();
    extensions.insert(caller);
    extensions.insert(check);
    Ok(())
}

/// Counts a wrong token or code of the request's address. Returns the error of one too many.
pub(crate) fn refused_secret(tokens: &Tokens, req: &HttpRequest) -> Option<ApiError> {
    address::of(req).filter(|address| tokens.is_one_too_many(*address)).map(|_| too_many_wrong_tokens())
}

fn large_head() -> ApiError {
    let text = format!(
        "the request's head has more than {} KiB, and no valid token: send fewer or shorter headers, or a token",
        MAX_ANONYMOUS_HEAD >> 10
    );
    ApiError::new(ErrorKind::LargeHead, text)
}

fn too_many_wrong_tokens() -> ApiError {
    ApiError::new(
        ErrorKind::Busy,
        "too many wrong tokens from your address: wait, and send one that is valid",
    )
    .refused_by(Limit::WrongTokens)
}

/// The token in a request's headers: one header, one value, scheme `Bearer` in any case. With `allow_api_key`, Anthropic's
/// `x-api-key` and Azure's `api-key` too.
pub(crate) fn secret(headers: &HeaderMap, allow_api_key: bool) -> Option<&str> {
    let is_bearer = headers.contains_key(AUTHORIZATION) || !allow_api_key;
    let name = match is_bearer {
        true => AUTHORIZATION.as_str(),
        false if headers.contains_key("x-api-key") => "x-api-key",
        false => "api-key",
    };
    let mut values = headers.get_all(name);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.to_str().ok()?;
    let token = if is_bearer {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)?
    } else {
        value
    };
    Some(token.trim()).filter(|token| !token.is_empty())
}

/// The error of a response whose body is not in the path's dialect yet.
fn error_to_render(response: &ServiceResponse<BoxBody>, dialect: Dialect) -> Option<ApiError> {
    if let Some(error) = response.response().error() {
        return match error.as_error::<ApiError>() {
            Some(_) if matches!(dialect, Dialect::Api | Dialect::Ollama) => None,
            Some(error) => Some(error.clone()),
            None => Some(ApiError::of_status(response.status())),
        };
    }
    let failed = response.status().is_client_error() || response.status().is_server_error();
    (failed && is_bare(response)).then(|| ApiError::of_status(response.status()))
}

/// Whether a response has no body, as the router's own have.
fn is_bare(response: &ServiceResponse<BoxBody>) -> bool {
    response.response().error().is_none()
        && matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0))
}

impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(req.extensions().get::<Self>().cloned().ok_or_else(ApiError::unauthorized))
    }
}

/// A [`Caller`] who is an admin; the extractor refuses others with 403.
#[derive(Debug, Clone)]
pub struct Admin(pub Caller);

impl FromRequest for Admin {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = req.extensions().get::<Caller>().cloned().ok_or_else(ApiError::unauthorized);
        ready(caller.and_then(|caller| match caller.role {
            Role::Admin => Ok(Self(caller)),
            Role::Member => {
                let text = format!("for admins only, and you are {} (member)", caller.user);
                Err(ApiError::new(ErrorKind::Forbidden, text))
            }
        }))
    }
}

#[cfg(test)]
mod tests;
