//! The events of an open control channel: bytes, its end, or silence.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use crate::hub_client::ChannelBody;

pub(super) enum ChannelEvent {
    /// Bytes of the body. Any byte, also of a comment, resets the idle timeout.
    Bytes(Bytes),
    /// The connection ended. The last event.
    Closed,
    /// No byte came within the idle timeout: the connection is half open, or a proxy buffers it. The last event.
    TimedOut,
}

/// The events of `channel`. The last event is how the channel ended.
pub(super) fn events(channel: ChannelBody, idle_timeout: Duration) -> impl Stream<Item = ChannelEvent> {
    stream::unfold(Some(channel), move |channel| async move {
        let mut channel = channel?;
        Some(match timeout(idle_timeout, channel.next()).await {
            Ok(Some(bytes)) => (ChannelEvent::Bytes(bytes), Some(channel)),
            Ok(None) => (ChannelEvent::Closed, None),
            Err(_elapsed) => (ChannelEvent::TimedOut, None),
        })
    })
}
