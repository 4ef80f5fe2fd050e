//! What surrounds every request before anybody asks who calls: the ways to write a path, `HEAD`, `OPTIONS` and browsers
//! (CORS), HTTP/1.0.

use std::convert::Infallible;
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

use super::HubData;
use super::paths::{PathModel, allows, canonical, methods};
use crate::error::{ApiError, Dialect, ErrorKind};

/// How long a browser may rely on what it was told, in seconds: Chromium's own limit.
const REMEMBER: &str = "7200";
/// Longest path that is looked at, in bytes: what matches paths takes time in proportion to it, several times over. The
/// longest of the hub's own have a name of 100 characters, each in three bytes where it is percent-encoded.
pub(crate) const LONGEST_PATH: usize = 4 << 10;
/// What a page may read of an answer, beside what it always may.
const EXPOSED: &str = "x-request-id, x-virtual-llm-row, server-timing, retry-after, www-authenticate, allow";
/// What a page may send, where its browser does not say what it wants to.
const SENT: &str = "authorization, content-type, x-api-key, api-key, x-queue-timeout, last-event-id";
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Stands in the extensions of a request whose method was `HEAD`: its route sees `GET`, and must not begin anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadOnly;

/// Wraps the whole app, outside the guard: a browser's preflight and a load balancer's check have no token.
pub(crate) async fn front(
    mut req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let outside = Outside {
        cors: Cors::of(&req),
        is_head: req.method() == Method::HEAD,
        is_old: req.version() < Version::HTTP_11,
    };
    if req.path().len() > LONGEST_PATH {
        let text = format!("the path has more than {LONGEST_PATH} bytes");
        let response = ApiError::new(ErrorKind::LongPath, text).response(Dialect::of(req.path()));
        return Ok(req.into_response(outside.dress(response)));
    }
    if req.method() == Method::OPTIONS
        && let Some(known) = methods(req.path())
    {
        let response = outside.options(req.headers(), known, Dialect::of(req.path()));
        return Ok(req.into_response(outside.dress(response)));
    }
    if outside.is_head {
        req.head_mut().method = Method::GET;
        req.extensions_mut().insert(HeadOnly);
    }
    match next.call(req).await {
        Ok(response) => {
            let (req, response) = response.into_parts();
            Ok(ServiceResponse::new(req, outside.dress(response.map_into_boxed_body())))
        }
        Err(error) => {
            let response = outside.dress(error.error_response());
            Err(InternalError::from_response(error, response).into())
        }
    }
}

/// The refusal of a method that a path does not know.
pub(crate) fn wrong_method(known: &'static str, dialect: Dialect) -> HttpResponse {
    let error = ApiError::new(ErrorKind::Method, format!("this path takes no other method than {known}"));
    let mut response = error.response(dialect);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(known));
    response
}

/// Gives the request the path that it means. Before all else: an answer's dialect is that of this path. One that is too
/// long means nothing.
pub(crate) fn rewrite(req: &mut ServiceRequest) {
    if req.path().len() > LONGEST_PATH {
        return;
    }
    let Some(meant) = canonical(req.path()) else { return };
    let mut parts = req.uri().clone().into_parts();
    let text = match parts.path_and_query.as_ref().and_then(PathAndQuery::query) {
        Some(query) => format!("{}?{query}", meant.path),
        None => meant.path,
    };
    // What was a path still is one.
    let Ok(path) = PathAndQuery::from_maybe_shared(Bytes::from(text)) else { return };
    parts.path_and_query = Some(path);
    let Ok(uri) = Uri::from_parts(parts) else { return };
    req.match_info_mut().get_mut().update(&uri);
    req.head_mut().uri = uri;
    if let Some(model) = meant.model {
        req.extensions_mut().insert(PathModel(model));
    }
}

/// What is known of a request before it is looked at.
struct Outside {
    cors: Cors,
    is_head: bool,
    is_old: bool,
}

impl Outside {
    /// The answer to `OPTIONS`.
    fn options(&self, asked: &HeaderMap, known: &'static str, dialect: Dialect) -> HttpResponse {
        if self.cors.allowed.is_some() {
            return preflight(asked, known);
        }
        let is_preflight = asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if allows(known, &Method::OPTIONS) && !is_preflight {
            return HttpResponse::Ok().insert_header((header::ALLOW, known)).finish();
        }
        wrong_method(known, dialect)
    }

    /// The answer as this caller reads it.
    fn dress(&self, mut response: HttpResponse) -> HttpResponse {
        self.cors.mark(response.headers_mut());
        let size = response.body().size();
        if self.is_old && size == BodySize::Stream {
            // HTTP/1.0 knows no chunks: the body ends with the connection.
            response.head_mut().no_chunking(true);
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        if self.is_head && !matches!(size, BodySize::None | BodySize::Sized(0)) {
            return response.map_body(|_, _| BoxBody::new(NoBody(size)));
        }
        response
    }
}

fn preflight(asked: &HeaderMap, known: &'static str) -> HttpResponse {
    let mut response = HttpResponse::build(StatusCode::NO_CONTENT);
    response
        .insert_header((header::ALLOW, known))
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, known))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, REMEMBER))
        .append_header((header::VARY, "access-control-request-method, access-control-request-headers"));
    // SDKs send headers of their own, new ones with each version: what a page may send is no secret, a token is.
    let sent = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let sent = sent.unwrap_or(HeaderValue::from_static(SENT));
    response.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, sent));
    if asked.contains_key(PRIVATE_NETWORK) {
        response.insert_header((ALLOW_PRIVATE_NETWORK, "true"));
    }
    response.finish()
}

/// What a browser is told about a request's origin.
struct Cors {
    /// The value of `Access-Control-Allow-Origin`.
    allowed: Option<HeaderValue>,
    /// Whether the answer depends on the origin.
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

    fn mark(&self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(allowed) = &self.allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

/// The size of a body, and nothing of it.
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
