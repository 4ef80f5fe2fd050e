//! Turns a panic of a handler into a 500; without this its connection would close without an answer.

use std::panic::AssertUnwindSafe;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::middleware::Next;
use futures_util::FutureExt;

use crate::error::{ApiError, Dialect, ErrorKind};
use crate::news::news;

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

    /// F86: a panic in a handler is a 500, and its text is not in the answer.
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
