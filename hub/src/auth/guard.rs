//! The one place that checks who calls, around every route: a route that forgets to ask is not open.

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
use crate::connections::Flow;
use crate::error::{ApiError, Dialect, ErrorKind};
use crate::http::HubData;
use crate::http::front::wrong_method;
use crate::http::paths::{allows, methods};
use crate::model::{Caller, Role};

/// Largest head of a request without a valid token, in bytes: as much as Node.js reads at all; nginx and most proxies
/// send no more than twice that.
const STRANGERS_HEAD: usize = 16 << 10;

/// Paths that anybody may read: they say nothing about anything that the hub keeps.
fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/healthz" | "/readyz" | "/favicon.ico") || path.starts_with("/console/")
}

/// Wraps the whole app (`middleware::from_fn(guard)`): puts the [`Caller`] into the request or answers 401, and writes
/// every error in the dialect of its path. The app's data has the [`Tokens`].
pub async fn guard(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let dialect = Dialect::of(req.path());
    let for_one = !is_open(req.path()) && matches!(*req.method(), Method::GET | Method::HEAD);
    let flow = req.conn_data::<Rc<Flow>>().cloned();
    let is_large = || flow.as_ref().is_some_and(|flow| flow.head() > STRANGERS_HEAD);
    if is_open(req.path()) {
        if is_large() {
            return Ok(refused(req, &large_head(), dialect));
        }
    } else {
        let tokens = req.app_data::<web::Data<Tokens>>();
        let secret = secret(req.headers(), dialect != Dialect::Api);
        let looked = secret.and_then(|secret| tokens?.look(secret, clock::now()));
        let (caller, looked) = looked.unzip();
        let speaks = flow.as_ref().map_or(Ok(()), |flow| {
            flow.speaks(caller.as_ref())?;
            let Some((caller, hub)) = caller.as_ref().zip(req.app_data::<HubData>()) else { return Ok(()) };
            flow.head_is_of(|| hub.heads_of(&caller.user), req.headers().len())
        });
        if let Err(error) = speaks {
            return Ok(refused(req, &error, dialect));
        }
        let Some(caller) = caller else {
            // One who sends none guesses nothing.
            let from = address::of(req.request()).filter(|_| secret.is_some());
            let over = tokens.zip(from).is_some_and(|(tokens, from)| tokens.is_one_too_many(from));
            if !over && is_large() {
                return Ok(refused(req, &large_head(), dialect));
            }
            let error = if over { one_too_many() } else { ApiError::unauthorized() };
            let mut response = error.response(dialect);
            if over {
                // The next guess costs a new connection.
                response.head_mut().set_connection_type(ConnectionType::Close);
            }
            return Ok(req.into_response(response));
        };
        {
            let mut extensions = req.extensions_mut();
            extensions.insert(caller);
            looked.map(|looked| extensions.insert(looked));
        }
        if let Some(flow) = &flow {
            flow.is_let_in().await;
        }
    }
    let response = next.call(req).await?.map_into_boxed_body();
    if response.status() == StatusCode::NOT_FOUND
        && is_bare(&response)
        && let Some(known) = methods(response.request().path())
        && !allows(known, response.request().method())
    {
        return Ok(response.into_response(wrong_method(known, dialect)));
    }
    let mut response = match to_rewrite(&response, dialect) {
        Some(error) => response.into_response(error.response(dialect)),
        None => response,
    };
    if for_one && !response.headers().contains_key(CACHE_CONTROL) {
        // A token may come in a header that no cache on the way knows for one.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// What is answered with an error, and is the last on its connection.
fn refused(req: ServiceRequest, error: &ApiError, dialect: Dialect) -> ServiceResponse<BoxBody> {
    let mut response = error.response(dialect);
    response.head_mut().set_connection_type(ConnectionType::Close);
    req.into_response(response)
}

fn large_head() -> ApiError {
    let text = format!(
        "the request's head has more than {} KiB, and no valid token: send fewer or shorter headers, or a token",
        STRANGERS_HEAD >> 10
    );
    ApiError::new(ErrorKind::LargeHead, text)
}

fn one_too_many() -> ApiError {
    ApiError::new(
        ErrorKind::Busy,
        "too many wrong tokens from your address: wait, and send one that is valid",
    )
}

/// The token that a request carries: one header, one value, scheme `Bearer` in any case; where an SDK may call,
/// Anthropic's `x-api-key` and Azure's `api-key` too.
fn secret(headers: &HeaderMap, api_key: bool) -> Option<&str> {
    let bearer = headers.contains_key(AUTHORIZATION) || !api_key;
    let name = match bearer {
        true => AUTHORIZATION.as_str(),
        false if headers.contains_key("x-api-key") => "x-api-key",
        false => "api-key",
    };
    let mut values = headers.get_all(name);
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let value = value.to_str().ok()?;
    let token = if bearer {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token)?
    } else {
        value
    };
    Some(token.trim()).filter(|token| !token.is_empty())
}

/// The error that an answer stands for, if its body is not yet in the path's dialect.
fn to_rewrite(response: &ServiceResponse<BoxBody>, dialect: Dialect) -> Option<ApiError> {
    if let Some(error) = response.response().error() {
        return match error.as_error::<ApiError>() {
            Some(_) if dialect == Dialect::Api => None,
            Some(error) => Some(error.clone()),
            None => Some(ApiError::of_status(response.status())),
        };
    }
    let failed = response.status().is_client_error() || response.status().is_server_error();
    (failed && is_bare(response)).then(|| ApiError::of_status(response.status()))
}

/// Whether an answer has no body: the router's own, for what no route takes.
fn is_bare(response: &ServiceResponse<BoxBody>) -> bool {
    response.response().error().is_none()
        && matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0))
}

/// Who makes the request, as the guard found.
impl FromRequest for Caller {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(req.extensions().get::<Self>().cloned().ok_or_else(ApiError::unauthorized))
    }
}

/// A caller who is an admin; anybody else gets 403.
#[derive(Debug, Clone)]
pub struct Admin(pub Caller);

impl FromRequest for Admin {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = req.extensions().get::<Caller>().cloned().ok_or_else(ApiError::unauthorized);
        ready(caller.and_then(|caller| match caller.role {
            Role::Admin => Ok(Self(caller)),
            Role::Member => Err(ApiError::new(ErrorKind::Forbidden, "for admins only")),
        }))
    }
}
