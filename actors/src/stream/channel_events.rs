//! The events of an open control channel: bytes, its end, or silence.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use crate::hub_client::{ControlChannel, LinkEvent};

pub(super) enum ChannelEvent {
    /// Bytes of the body. Any byte, also of a comment, resets the idle timeout.
    Bytes(Bytes),
    /// An event of a link.
    Link(LinkEvent),
    /// The connection ended. The last event.
    Closed,
    /// No byte came within the idle timeout: the connection is half open, or a proxy buffers it. The last event.
    TimedOut,
}

/// The events of `channel`. The last one tells how it ended.
pub(super) fn events(channel: ControlChannel, idle_timeout: Duration) -> impl Stream<Item = ChannelEvent> {
    stream::unfold(Some(channel), move |channel| async move {
        let mut channel = channel?;
        let next = async {
            match &mut channel {
                ControlChannel::Events { body, .. } => body.next().await.map(ChannelEvent::Bytes),
                ControlChannel::Link(link) => link.next().await.map(ChannelEvent::Link),
            }
        };
        Some(match timeout(idle_timeout, next).await {
            Ok(Some(event)) => (event, Some(channel)),
            Ok(None) => (ChannelEvent::Closed, None),
            Err(_elapsed) => (ChannelEvent::TimedOut, None),
        })
    })
}
