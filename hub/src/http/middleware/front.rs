//! Handles what needs no token: other spellings of paths, `HEAD`, `OPTIONS`, CORS, HTTP/1.0 and panics of handlers.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::uri::PathAndQuery;
use actix_web::http::{ConnectionType, Method, StatusCode, Uri, Version};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse};
use bytes::Bytes;
use futures_util::FutureExt;

use super::paths::{PathModel, allows, canonical, methods};
use crate::error::{ApiError, Dialect, ErrorKind};
use crate::hub::HubData;
use crate::news::news;

/// Seconds for which a browser may cache a preflight: Chromium's own limit.
const PREFLIGHT_MAX_AGE: &str = "7200";
/// Longest path in bytes. Routing takes time in proportion to it; the longest valid path has a name of 100 characters, each
/// percent-encoded in three bytes.
pub(super) const LONGEST_PATH: usize = 4 << 10;
/// Response headers that a page may read, besides the safelisted ones.
const EXPOSED_HEADERS: &str = "x-request-id, x-virtual-llm-row, x-virtual-llm-estimate, server-timing, retry-after, www-authenticate, allow, \
    x-should-retry, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
    x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens";
/// Request headers that a page may send if its browser does not name any.
const DEFAULT_HEADERS: &str =
    "authorization, content-type, x-api-key, api-key, x-queue-timeout, x-priority, last-event-id";
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Extension of a request whose method was `HEAD`. Its route sees `GET` and must not start anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadOnly;

/// Middleware outside authentication: a browser's preflight and a load balancer's check have no token.
pub(crate) async fn front(
    mut req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let front = Front {
        cors: Cors::of(&req),
        is_head: req.method() == Method::HEAD,
        is_http_1_0: req.version() < Version::HTTP_11,
        is_upgrade: req.head().upgrade(),
    };
    if req.path().len() > LONGEST_PATH {
        let text = format!("the path has more than {LONGEST_PATH} bytes");
        let response = ApiError::new(ErrorKind::LongPath, text).response(Dialect::of(req.path()));
        return Ok(req.into_response(front.finish(response)));
    }
    if req.method() == Method::OPTIONS
        && let Some(known) = methods(req.path())
    {
        let response = front.options(req.headers(), known, Dialect::of(req.path()));
        return Ok(req.into_response(front.finish(response)));
    }
    if front.is_head {
        req.head_mut().method = Method::GET;
        req.extensions_mut().insert(HeadOnly);
    }
    match next.call(req).await {
        Ok(response) => {
            let (req, response) = response.into_parts();
            Ok(ServiceResponse::new(req, front.finish(response.map_into_boxed_body())))
        }
        Err(error) => {
            let response = front.finish(error.error_response());
            Err(InternalError::from_response(error, response).into())
        }
    }
}

/// The 405 of a path that does not support the method; `known` are its methods.
pub(crate) fn wrong_method(known: &'static str, dialect: Dialect) -> HttpResponse {
    let error = ApiError::new(ErrorKind::Method, format!("this path takes no other method than {known}"));
    let mut response = error.response(dialect);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(known));
    response
}

/// Replaces the request's path by its canonical form, unless it is too long. Must come first, because the path decides in
/// which dialect errors are written.
pub(super) fn rewrite(req: &mut ServiceRequest) {
    if req.path().len() > LONGEST_PATH {
        return;
    }
    let Some(canonical) = canonical(req.path()) else { return };
    let mut parts = req.uri().clone().into_parts();
    let text = match parts.path_and_query.as_ref().and_then(PathAndQuery::query) {
        Some(query) => format!("{}?{query}", canonical.path),
        None => canonical.path,
    };
    let Ok(path) = PathAndQuery::from_maybe_shared(Bytes::from(text)) else { return };
    parts.path_and_query = Some(path);
    let Ok(uri) = Uri::from_parts(parts) else { return };
    req.match_info_mut().get_mut().update(&uri);
    req.head_mut().uri = uri;
    if let Some(model) = canonical.model {
        req.extensions_mut().insert(PathModel(model));
    }
}

/// The properties of a request that decide how its response is changed.
struct Front {
    cors: Cors,
    is_head: bool,
    is_http_1_0: bool,
    /// Whether the request asks for another protocol.
    is_upgrade: bool,
}

impl Front {
    /// The response to `OPTIONS`; `known` are the methods of the path.
    fn options(&self, headers: &HeaderMap, known: &'static str, dialect: Dialect) -> HttpResponse {
        if self.cors.allowed.is_some() {
            return preflight(headers, known);
        }
        let is_preflight = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if allows(known, &Method::OPTIONS) && !is_preflight {
            return HttpResponse::Ok().insert_header((header::ALLOW, known)).finish();
        }
        wrong_method(known, dialect)
    }

    /// Adds CORS headers, removes chunked encoding for HTTP/1.0, and removes the body for `HEAD`.
    fn finish(&self, mut response: HttpResponse) -> HttpResponse {
        self.cors.add_headers(response.headers_mut());
        let size = response.body().size();
        // The server announces chunks in the response to an upgrade, and writes none.
        let is_unchunked = self.is_upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if (self.is_http_1_0 || is_unchunked) && size == BodySize::Stream {
            // HTTP/1.0 has no chunked encoding: the end of the connection ends the body.
            response.head_mut().no_chunking(true);
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        if self.is_head && !matches!(size, BodySize::None | BodySize::Sized(0)) {
            return response.map_body(|_, _| BoxBody::new(NoBody(size)));
        }
        response
    }
}

fn preflight(headers: &HeaderMap, known: &'static str) -> HttpResponse {
    let mut response = HttpResponse::build(StatusCode::NO_CONTENT);
    response
        .insert_header((header::ALLOW, known))
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, known))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE))
        .append_header((header::VARY, "access-control-request-method, access-control-request-headers"));
    // Any header is allowed: SDKs add new ones with each version, and the token is what protects the hub.
    let allowed = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let allowed = allowed.unwrap_or(HeaderValue::from_static(DEFAULT_HEADERS));
    response.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, allowed));
    if headers.contains_key(PRIVATE_NETWORK) {
        response.insert_header((ALLOW_PRIVATE_NETWORK, "true"));
    }
    response.finish()
}

/// The CORS headers for a request's origin.
struct Cors {
    /// The value of `Access-Control-Allow-Origin`.
    allowed: Option<HeaderValue>,
    /// Whether the response depends on the origin.
    varies: bool,
}

impl Cors {
    fn of(req: &ServiceRequest) -> Self {
        let Some(hub) = req.app_data::<HubData>().filter(|hub| !hub.options.cors_origins.is_empty()) else {
            return Self { allowed: None, varies: false };
        };
        let origin = req.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
        let allowed = origin.and_then(|origin| hub.options.cors_origins.allow_origin(origin));
        Self { allowed: allowed.and_then(|value| HeaderValue::from_str(value).ok()), varies: true }
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(allowed) = &self.allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
        }
    }
}

/// A body with a size and no bytes, for `HEAD`.
struct NoBody(BodySize);

impl MessageBody for NoBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        Poll::Ready(None)
    }
}

/// Middleware outside authentication. Unwinding is safe: locks do not poison, and permits are released by their `Drop`.
pub(crate) async fn catch_panic(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    // Copied, since a clone of the request would keep the router from writing to it.
    let (dialect, path) = (Dialect::of(req.path()), req.path().to_owned());
    if let Ok(response) = AssertUnwindSafe(next.call(req)).catch_unwind().await {
        return Ok(response?.map_into_boxed_body());
    }
    news!(error, "panics of handlers", "the hub", "the handler of {path} panicked");
    let error = ApiError::new(ErrorKind::Internal, "internal error");
    let response = error.response(dialect);
    Err(InternalError::from_response(error, response).into())
}

#[cfg(test)]
mod tests {
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, init_service};
    use actix_web::{App, HttpResponse, web};

    use super::*;

    async fn panics() -> HttpResponse {
        panic!("a prompt")
    }

    /// F86: a handler's panic becomes a 500 without the panic's text.
    #[actix_rt::test]
    async fn a_handler_that_panics_answers_500_without_its_text() {
        let app = App::new().wrap(from_fn(catch_panic)).route("/v1/x", web::get().to(panics));
        let app = init_service(app).await;
        let request = TestRequest::get().uri("/v1/x").to_request();
        let error = actix_web::dev::Service::call(&app, request).await.unwrap_err();
        let response = error.error_response();
        assert_eq!(response.status(), 500);
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        let expected = ApiError::new(ErrorKind::Internal, "internal error").body(Dialect::OpenAi);
        assert_eq!(body, expected);
    }
}
