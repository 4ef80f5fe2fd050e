//! A handler that panics answers 500; without this its connection would just close.

use std::panic::AssertUnwindSafe;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::middleware::Next;
use futures_util::FutureExt;

use crate::error::{ApiError, Dialect, ErrorKind};

/// Wraps the whole app, outside the guard. Locks do not poison, and what a handler holds is freed by its guards.
pub(crate) async fn contain(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    // A second holder of the request would keep the router from writing to it.
    let (dialect, path) = (Dialect::of(req.path()), req.path().to_owned());
    if let Ok(response) = AssertUnwindSafe(next.call(req)).catch_unwind().await {
        return Ok(response?.map_into_boxed_body());
    }
    log::error!("the handler of {path} panicked");
    let error = ApiError::new(ErrorKind::Internal, "internal error");
    let response = error.response(dialect);
    Err(InternalError::from_response(error, response).into())
}
