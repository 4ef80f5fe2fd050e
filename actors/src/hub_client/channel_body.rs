//! The body of an open control channel.

use std::pin::Pin;
use std::task::{Context, Poll};

use awc::ClientResponse;
use awc::error::PayloadError;
use awc::http::header::CONTENT_TYPE;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::HubError;

/// The response body of `GET /_provider-stream`. Dropping it closes its connection at once.
pub(crate) struct ChannelBody {
    bytes: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>>,
}

impl ChannelBody {
    /// Fails if the response is not an event stream, such as the page of a captive portal.
    pub(super) fn new<S>(call: &'static str, response: ClientResponse<S>) -> Result<Self, HubError>
    where
        S: Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
    {
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("text/event-stream") {
            let kind: String = essence.chars().take(100).collect();
            let reason = format!("the hub answered with content type {kind}, not an event stream");
            return Err(HubError::Invalid { call, reason });
        }
        Ok(Self { bytes: Box::pin(response) })
    }

    #[cfg(test)]
    pub(crate) fn from_stream(stream: impl Stream<Item = Bytes> + 'static) -> Self {
        Self { bytes: Box::pin(stream.map(Ok)) }
    }
}

impl Stream for ChannelBody {
    type Item = Bytes;

    /// Ends when the connection ends or fails.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.bytes.poll_next_unpin(cx).map(|next| next.and_then(Result::ok))
    }
}

impl std::fmt::Debug for ChannelBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChannelBody")
    }
}
