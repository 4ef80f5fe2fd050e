//! The channel's bytes with its silence made visible.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use crate::hub_client::Channel;

/// What can come of a channel.
pub(super) enum Piece {
    /// Any byte counts as life, a comment's too.
    Bytes(Bytes),
    /// The connection ended. The last piece.
    Ended,
    /// Nothing came for too long: half open, or a proxy that holds everything back. The last piece.
    Silent,
}

/// The pieces of `channel`, the last of which tells how it ended.
pub(super) fn pieces(channel: Channel, idle_timeout: Duration) -> impl Stream<Item = Piece> {
    stream::unfold(Some(channel), move |channel| async move {
        let mut channel = channel?;
        Some(match timeout(idle_timeout, channel.next()).await {
            Ok(Some(bytes)) => (Piece::Bytes(bytes), Some(channel)),
            Ok(None) => (Piece::Ended, None),
            Err(_elapsed) => (Piece::Silent, None),
        })
    })
}
