//! Around every route: each answer carries the call's id and its times, and one that failed is one line in the log.

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
use crate::model::Caller;
use crate::news::news;
use crate::trace::{Trace, address_label};

/// The call's id: the caller's own, or ours.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// As Anthropic's API names it.
const ANTHROPIC_REQUEST_ID: &str = "request-id";
/// The row that answered, where the caller may see it.
const ROW: &str = "x-virtual-llm-row";
const TIMING: &str = "server-timing";

/// What a publisher posts for a task: the call that it is for has its own line.
const RESULTS: &str = "/api/v1/llms/_provider-task/";

/// Wraps the whole app, outside everything.
pub(crate) async fn trace(
    mut req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    rewrite(&mut req);
    let named = req.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let trace = Trace::new(named, address::of(req.request()));
    let dialect = Dialect::of(req.path());
    let is_result = req.path().starts_with(RESULTS);
    match trace.run(next.call(req)).await {
        Ok(response) => {
            let mut response = response.map_into_boxed_body();
            if !is_result {
                let req = response.request();
                let extensions = req.extensions();
                let user = extensions.get::<Caller>().map(|caller| caller.user.as_str());
                note(&trace, user, || route(req), response.response());
            }
            let whole = is_whole(response.response());
            stamp(&trace, dialect, whole, response.headers_mut());
            Ok(response)
        }
        Err(error) => {
            let mut response = error.error_response();
            note(&trace, None, || None, &response);
            let whole = is_whole(&response);
            stamp(&trace, dialect, whole, response.headers_mut());
            Err(InternalError::from_response(error, response).into())
        }
    }
}

fn is_whole<B: MessageBody>(response: &HttpResponse<B>) -> bool {
    !matches!(response.body().size(), BodySize::Stream)
}

fn stamp(trace: &Trace, dialect: Dialect, whole: bool, headers: &mut HeaderMap) {
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

/// The pattern of the request's path. It is matched anew, against all there are: only where a line in the log names it.
fn route(req: &HttpRequest) -> Option<String> {
    if req.path().len() > LONGEST_PATH { None } else { req.match_pattern() }
}

/// One line for a call that failed before an inference began, or that is none. The route stands for the path, in which
/// a caller may have put anything.
fn note<B>(
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

    /// A27: a path is matched anew only for a line that is written: not for a wrong token, nor when there were enough.
    #[test]
    fn the_route_of_a_failed_call_is_looked_up_for_its_line_alone() {
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
                note(&trace, Some("nobody-else"), route, &response);
            }
            count
        };
        assert_eq!(looked_up(ErrorKind::Unauthorized, 5), 0);
        assert_eq!(looked_up(ErrorKind::NotFound, 5), 5);
        assert_eq!(looked_up(ErrorKind::Gone, 500), 20);
    }
}
