//! What was answered and is not read yet counts among its reader's bytes: one who asks for much and reads nothing has an
//! end of it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpResponse};
use bytes::Bytes;

use super::HubData;
use crate::model::Caller;
use crate::quota::BytesPermit;

/// An answer is written in slices of this size: all that the server copies of it at once.
const SLICE: usize = 256 << 10;
/// Smaller answers are not counted: of all connections that a user may have they are some 100 MiB.
const SMALL: usize = 16 << 10;

/// Wraps the whole app, inside the guard. Streams count for themselves.
pub(crate) async fn count(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let response = next.call(req).await?.map_into_boxed_body();
    let BodySize::Sized(size) = response.response().body().size() else { return Ok(response) };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let caller = response.request().extensions().get::<Caller>().map(|caller| caller.user.clone());
    let hub = response.request().app_data::<HubData>();
    let Some((hub, user)) = hub.zip(caller).filter(|_| size > SMALL) else { return Ok(response) };
    match hub.unread_of(&user).take(size) {
        Ok(held) => Ok(response.map_body(|_, body| match body.try_into_bytes() {
            Ok(left) => BoxBody::new(Unread { left, has_written: false, _held: held }),
            Err(body) => body,
        })),
        Err(error) => Ok(response.into_response(HttpResponse::from_error(error))),
    }
}

/// What is left to be written of an answer.
struct Unread {
    left: Bytes,
    /// Whether a slice was written in this turn of the serving thread: others have theirs before the next one.
    has_written: bool,
    _held: BytesPermit,
}

impl MessageBody for Unread {
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
