//! Adds the call's id and its timing to each response, logs each call that failed, and counts each refusal by a limit.

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use super::front::{LONGEST_PATH, rewrite};
use crate::address;
use crate::error::{ApiError, Dialect, ErrorKind};
use crate::hub::HubData;
use crate::model::Caller;
use crate::news::news;
use crate::telemetry::Limit;
use crate::trace::{Trace, address_label};

/// The call's id, from the caller or made by the hub.
const REQUEST_ID: &str = "x-request-id";
/// The name of the same header in Anthropic's API.
const ANTHROPIC_REQUEST_ID: &str = "request-id";
/// The row that answered, if the caller may see it.
const ROW: &str = "x-virtual-llm-row";
const TIMING: &str = "server-timing";
/// Whether the official SDKs of OpenAI and Anthropic try a failed call again.
const SHOULD_RETRY: &str = "x-should-retry";

/// Prefix of the routes for results. They are not logged: the caller's own call is.
const RESULTS: &str = "/api/v1/llms/_provider-task/";

/// The outermost middleware.
pub(crate) async fn trace(
    mut req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    rewrite(&mut req);
    let id = req.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let trace = Trace::new(id, address::of(req.request()));
    let dialect = Dialect::of(req.path());
    let is_result = req.path().starts_with(RESULTS);
    match trace.run(next.call(req)).await {
        Ok(response) => {
            let mut response = response.map_into_boxed_body();
            count_refusal(&response);
            if !is_result {
                let req = response.request();
                let extensions = req.extensions();
                let user = extensions.get::<Caller>().map(|caller| caller.user.as_str());
                log_failure(&trace, user, || route(req), response.response());
            }
            add_limits(dialect, &mut response);
            let whole = is_whole(response.response());
            add_headers(&trace, dialect, whole, response.headers_mut());
            Ok(response)
        }
        Err(error) => {
            let mut response = error.error_response();
            log_failure(&trace, None, || None, &response);
            let whole = is_whole(&response);
            add_headers(&trace, dialect, whole, response.headers_mut());
            Err(InternalError::from_response(error, response).into())
        }
    }
}

fn is_whole<B: MessageBody>(response: &HttpResponse<B>) -> bool {
    !matches!(response.body().size(), BodySize::Stream)
}

fn add_headers(trace: &Trace, dialect: Dialect, whole: bool, headers: &mut HeaderMap) {
    let mut insert = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    insert(REQUEST_ID, trace.id());
    if dialect == Dialect::Anthropic {
        insert(ANTHROPIC_REQUEST_ID, trace.id());
    }
    if let Some(row) = trace.row() {
        insert(ROW, &row);
    }
    let timing = trace.timing(whole);
    if !timing.is_empty() {
        insert(TIMING, &timing);
    }
}

/// Adds what is left of the caller's limits.
fn add_limits(dialect: Dialect, response: &mut ServiceResponse<BoxBody>) {
    let Some(hub) = response.request().app_data::<HubData>().cloned() else { return };
    if !hub.tokens.limits().is_any() {
        return;
    }
    let Some(caller) = response.request().extensions().get::<Caller>().cloned() else { return };
    let is_day_over = response.response().extensions().get::<Limit>() == Some(&Limit::TokensPerDay);
    hub.tokens.limits().add_headers(&caller, dialect, hub.now(), response.headers_mut());
    if is_day_over {
        // The official SDKs would try again after some seconds.
        response
            .headers_mut()
            .insert(HeaderName::from_static(SHOULD_RETRY), HeaderValue::from_static("false"));
    }
}

/// The pattern of the request's path. actix-web matches the path again for it, so this is called only for a log line.
fn route(req: &HttpRequest) -> Option<String> {
    if req.path().len() > LONGEST_PATH { None } else { req.match_pattern() }
}

/// Counts the limit that refused the call, if one did.
fn count_refusal(response: &ServiceResponse<BoxBody>) {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return;
    }
    let limit = response.response().extensions().get::<Limit>().copied();
    if let Some((limit, hub)) = limit.zip(response.request().app_data::<HubData>()) {
        hub.watch.machine.refused_by(limit);
    }
}

/// Logs a call that failed without an [`Inference`](crate::telemetry::Inference), which logs itself. The line has the
/// route's pattern instead of the path, in which a caller can write anything.
fn log_failure<B>(
    trace: &Trace,
    user: Option<&str>,
    route: impl FnOnce() -> Option<String>,
    response: &HttpResponse<B>,
) {
    let status = response.status();
    let failed = status.is_client_error() || status.is_server_error();
    if !failed || status == StatusCode::UNAUTHORIZED || trace.has_inference() {
        return;
    }
    let kind = response.extensions().get::<ErrorKind>().copied();
    let code = kind.unwrap_or_else(|| ApiError::of_status(status).kind).code();
    let user = user.unwrap_or("-");
    news!(
        info,
        code,
        user,
        [
            user = user,
            address = address_label(trace.address()),
            status = status.as_u16(),
            code = code,
            ms = trace.elapsed().as_millis(),
            request = trace.id()
        ],
        "call failed: user={user} address={} row=- publisher=- status={} code={code} ms={} request={} route={}",
        address_label(trace.address()),
        status.as_u16(),
        trace.elapsed().as_millis(),
        trace.id(),
        route().as_deref().unwrap_or("-"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A27: the route of a request is looked up only if its log line is written, not for a 401 or a suppressed line.
    #[test]
    fn a_route_is_looked_up_only_for_a_written_log_line() {
        crate::news::enable();
        let trace = Trace::new(None, None);
        let looked_up = |kind, times: usize| {
            let response = ApiError::new(kind, "no").response(Dialect::Api);
            let mut count = 0;
            for _ in 0..times {
                let route = || {
                    count += 1;
                    None
                };
                log_failure(&trace, Some("nobody-else"), route, &response);
            }
            count
        };
        assert_eq!(looked_up(ErrorKind::Unauthorized, 5), 0);
        assert_eq!(looked_up(ErrorKind::NotFound, 5), 5);
        assert_eq!(looked_up(ErrorKind::Gone, 500), 20);
    }
}
