//! Body of an answer, whose beginning may be looked at before it is read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

use crate::http::{self, BodyError};

/// Maximum white space in bytes before the first other byte.
const MAX_BLANK: usize = 4 << 10;

/// Body of an answer.
pub(super) struct Body {
    begun: Bytes,
    rest: http::Body,
}

impl Body {
    pub(super) fn new(rest: http::Body) -> Self {
        Self { begun: Bytes::new(), rest }
    }

    /// The first byte that is no white space, when it has come. It stays where it is.
    pub(super) async fn first_byte(&mut self, silence: Duration) -> Result<Option<u8>, BodyError> {
        let mut begun = BytesMut::new();
        let first = loop {
            let first = begun.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
            if first.is_some() || begun.len() > MAX_BLANK {
                break first;
            }
            match timeout(silence, self.rest.next()).await {
                Err(_elapsed) => return Err(BodyError::Silent),
                Ok(Some(piece)) => begun.extend_from_slice(&piece?),
                Ok(None) => break None,
            }
        };
        self.begun = begun.freeze();
        Ok(first)
    }
}

impl Stream for Body {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.begun.is_empty() {
            return self.rest.poll_next_unpin(cx);
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.begun))))
    }
}
