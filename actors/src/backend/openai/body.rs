//! An answer's body, whose beginning may be looked at before somebody reads it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use awc::ClientResponse;
use awc::error::PayloadError;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use crate::http::BodyError;

/// White space before the first byte that says something: a server that sends more of it says nothing.
const MAX_BLANK: usize = 4 << 10;

/// The body of an answer.
pub(super) struct Body {
    /// What was looked at.
    pub(super) begun: Bytes,
    /// What is still to come.
    pub(super) rest: ClientResponse,
}

impl Body {
    /// The first byte that is no white space, when it has come. It stays where it is.
    pub(super) async fn first_byte(&mut self, silence: Duration) -> Result<Option<u8>, BodyError> {
        let mut begun = BytesMut::new();
        loop {
            let first = begun.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
            if first.is_some() || begun.len() > MAX_BLANK {
                self.begun = begun.freeze();
                return Ok(first);
            }
            match timeout(silence, self.rest.next()).await {
                Err(_elapsed) => return Err(BodyError::Silent),
                Ok(Some(Err(_))) => return Err(BodyError::Broken),
                Ok(Some(Ok(piece))) => begun.extend_from_slice(&piece),
                Ok(None) => {
                    self.begun = begun.freeze();
                    return Ok(None);
                }
            }
        }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.begun.is_empty() {
            return self.rest.poll_next_unpin(cx);
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.begun))))
    }
}
