//! Counts the bytes of answers that were not read yet against the quota of their user.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse};
use bytes::Bytes;

use crate::hub::HubData;
use crate::model::Caller;
use crate::quota::BytesPermit;

/// Bytes of an answer that are given to the server at once, which copies them.
const SLICE: usize = 256 << 10;
/// Bytes up to which an answer is not counted: on all connections that a user may have together, some 100 MiB.
const UNCOUNTED: usize = 16 << 10;

/// Middleware inside authentication. Streamed answers count their bytes themselves.
pub(crate) async fn limit_unread(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let response = next.call(req).await?.map_into_boxed_body();
    let BodySize::Sized(size) = response.response().body().size() else { return Ok(response) };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let caller = response.request().extensions().get::<Caller>().map(|caller| caller.user.clone());
    let hub = response.request().app_data::<HubData>();
    let Some((hub, user)) = hub.zip(caller).filter(|_| size > UNCOUNTED) else { return Ok(response) };
    match hub.unread_of(&user).take(size) {
        Ok(permit) => Ok(response.map_body(|_, body| match body.try_into_bytes() {
            Ok(left) => BoxBody::new(UnreadBody { left, has_written: false, _permit: permit }),
            Err(body) => body,
        })),
        Err(error) => Ok(response.into_response(HttpResponse::from_error(error))),
    }
}

/// The part of an answer that is still to be written.
struct UnreadBody {
    left: Bytes,
    /// Whether a slice was written since the serving thread last ran other tasks.
    has_written: bool,
    _permit: BytesPermit,
}

impl MessageBody for UnreadBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(u64::try_from(self.left.len()).unwrap_or(u64::MAX))
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.has_written) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_written = true;
        let size = self.left.len().min(SLICE);
        Poll::Ready(Some(Ok(self.left.split_to(size))))
    }
}
