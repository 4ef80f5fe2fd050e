//! The body of an open control channel.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::HubError;

/// The bytes of `GET /_provider-stream`. Dropping it closes its connection at once.
pub(crate) struct ChannelBody(Pin<Box<dyn Stream<Item = Bytes>>>);

impl ChannelBody {
    /// Fails if the response is not an event stream, such as the page of a captive portal.
    pub(super) fn new(
        call: &'static str,
        content_type: Option<&str>,
        body: impl Stream<Item = Bytes> + 'static,
    ) -> Result<Self, HubError> {
        let essence = content_type.unwrap_or("none").split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("text/event-stream") {
            let kind: String = essence.chars().take(100).collect();
            let reason = format!("the hub answered with content type {kind}, not an event stream");
            return Err(HubError::Invalid { call, reason });
        }
        Ok(Self(Box::pin(body)))
    }

    #[cfg(test)]
    pub(crate) fn from_stream(stream: impl Stream<Item = Bytes> + 'static) -> Self {
        Self(Box::pin(stream))
    }
}

impl Stream for ChannelBody {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_next_unpin(cx)
    }
}

impl std::fmt::Debug for ChannelBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChannelBody")
    }
}
