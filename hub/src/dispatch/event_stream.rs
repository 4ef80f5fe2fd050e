//! A whole streamed response as the events of one body, over a link (SPEC.md section 4.1).
//!
//! The fast path. Each read is decoded without a copy, checked and encoded once, and sent to the caller as one piece.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::openai::error_message;
use wire::result::DONE;
use wire::sse::Decoder;

use super::acceptance::{Accepted, Rejection};
use super::encode::{self, EventFormat};
use super::end::EndedBy;
use super::failure::{LONGEST_ERROR, failure};
use super::piece::ResponsePiece;
use super::response_channel::ResponseChannel;
use super::result::{NO_OBJECT, ResultSender, UNWANTED, committed, fail};
use super::table::DispatchEnd;
use super::tally::Tally;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::quota::BytesPermit;

/// The message of an error event.
fn message_of(data: &str) -> String {
    if data.len() > LONGEST_ERROR {
        return FAILED_AT_LENGTH.to_owned();
    }
    error_message(data).unwrap_or_else(|| FAILED.to_owned())
}

/// The state of a stream after a read.
enum StreamState {
    Open,
    /// The last piece came.
    Ended(ResponsePiece),
    /// The stream is malformed, for this reason.
    Broken(&'static str),
}

const NO_ROOM: &str = "the hub has no memory for the publisher's answer now";
const FAILED: &str = "the publisher's answer failed";
const FAILED_AT_LENGTH: &str = "the publisher's answer failed, and its reason was told at too great a length";
const BROKE_OFF: &str = "the publisher's answer broke off";
/// A caller that reads nothing for so long is given up: its publisher has others to serve.
const STALLED: Duration = Duration::from_mins(5);
/// How long to drain the body after the end mark.
const DRAIN: Duration = Duration::from_secs(1);
/// The digest recorded for a stream, which cannot be repeated.
pub(super) const STREAMED: u64 = 0;

/// Passes the events of a stream to its caller.
pub(crate) async fn accept_events(
    hub: &Hub,
    from: ResultSender<'_>,
    mut body: impl Stream<Item = Bytes> + Unpin,
) -> Result<Accepted, Rejection> {
    let (alive, mut gone) = oneshot::channel::<()>();
    let found = {
        let mut dispatches = hub.dispatches.lock();
        let Some(state) = from.live(&mut dispatches) else {
            return from.ended(&dispatches, None).map(|_| Accepted::Duplicate);
        };
        if state.stream.is_some() {
            return Err(Rejection::Conflict);
        }
        if state.streaming {
            state.stream = Some(alive);
            state.started = true;
        }
        state.streaming.then(|| (state.channel.clone(), state.format))
    };
    let Some((channel, format)) = found else {
        fail(hub, from.id, from.ended_by, UNWANTED);
        return Err(Rejection::Conflict);
    };
    let mut guard = Guard { hub, id: from.id, armed: true };
    let mut reader = EventReader::new(from.user, format, hub.results_of(from.user).empty());
    let last = loop {
        let read = tokio::select! {
            biased;
            // The hub ended the task: cancelled, or its session was lost.
            _ = &mut gone => return Err(Rejection::Gone),
            read = body.next() => read,
        };
        let Some(read) = read else { break Err(BROKE_OFF) };
        let (piece, state) = reader.read(&read).await;
        if let Some(piece) = piece
            && !send(&channel, piece, &mut reader, &mut gone).await
        {
            return Err(Rejection::Gone);
        }
        match state {
            StreamState::Open => (),
            StreamState::Ended(piece) => break Ok(piece),
            StreamState::Broken(message) => break Err(message),
        }
    };
    guard.armed = false;
    match last {
        Ok(piece) => {
            let state = hub
                .end_dispatch(from.id, DispatchEnd::Answered(STREAMED), from.ended_by)
                .ok_or(Rejection::Gone)?;
            state.channel.deliver(vec![piece]);
            // Bytes after the end mark are ignored, and read before the answer is taken: later they would begin another one.
            let rest = async { while body.next().await.is_some() {} };
            let _ = timeout(DRAIN, rest).await;
            committed(state.receipt, Accepted::First).await
        }
        Err(message) => {
            fail(hub, from.id, from.ended_by, message);
            Err(Rejection::Malformed)
        }
    }
}

async fn send(
    channel: &ResponseChannel,
    piece: ResponsePiece,
    reader: &mut EventReader<'_>,
    gone: &mut oneshot::Receiver<()>,
) -> bool {
    let size = piece.size();
    let sending = async {
        let slot = channel.reserve_by(size, || reader.hand_over(channel, size)).await;
        slot.map(|slot| slot.send(piece)).is_some()
    };
    tokio::select! {
        biased;
        _ = gone => false,
        sent = timeout(STALLED, sending) => sent == Ok(true),
    }
}

/// Fails the task when the future is dropped, which a panic does.
struct Guard<'a> {
    hub: &'a Hub,
    id: &'a str,
    armed: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.armed {
            fail(self.hub, self.id, EndedBy::Other, BROKE_OFF);
        }
    }
}

/// Bytes of an incomplete event that are not counted: 16 MiB for 4,096 streams.
const UNCOUNTED: usize = 4 << 10;
/// Bytes of a piece that are not counted while it waits for its caller: of one read, most are no larger.
const UNCOUNTED_PIECE: usize = 16 << 10;

/// Decodes the events of a stream and encodes them anew.
struct EventReader<'a> {
    /// The publisher.
    user: &'a str,
    decoder: Decoder,
    format: EventFormat,
    /// Counts the incomplete event, and the piece that is not sent yet.
    held: BytesPermit,
    /// An empty permit of the publisher's quota.
    empty: BytesPermit,
}

impl<'a> EventReader<'a> {
    fn new(user: &'a str, format: EventFormat, empty: BytesPermit) -> Self {
        Self { user, decoder: Decoder::new(), format, held: BytesPermit::default(), empty }
    }

    /// Counts the memory of the incomplete event, and a piece of `piece` bytes.
    fn count(&mut self, piece: usize) -> Result<(), ApiError> {
        let half = Some(self.decoder.buffered_bytes()).filter(|half| *half > UNCOUNTED).unwrap_or(0);
        let bytes = half + if piece > UNCOUNTED_PIECE { piece } else { 0 };
        let counted = self.held.size();
        if bytes < counted {
            self.held.shrink(counted - bytes);
        } else if counted > 0 {
            return self.held.grow(bytes - counted);
        } else if bytes > 0 {
            self.held = self.empty.another(bytes)?;
        }
        Ok(())
    }

    /// Counts a piece of `size` bytes for its caller in place of its publisher; `None` when the caller's quota is exhausted.
    /// One count gives way to the other: streams that each held one and waited for the other would wait for each other.
    fn hand_over(&mut self, channel: &ResponseChannel, size: usize) -> Option<BytesPermit> {
        let held = self.held.size();
        if held > 0 {
            // Never more than before, so that this does not fail.
            let _ = self.count(0);
        }
        let counted = channel.count(size);
        if counted.is_none() {
            self.held.regrow(held - self.held.size());
        }
        counted
    }

    /// The events that a read completes, as one piece, and the state of the stream.
    async fn read(&mut self, mut read: &[u8]) -> (Option<ResponsePiece>, StreamState) {
        let mut bytes = Vec::with_capacity(read.len() + 64);
        let mut tally = Tally::default();
        let mut state = StreamState::Open;
        while let Some(frame) = self.decoder.decode(&mut read) {
            match frame.event.as_deref() {
                Some("error") => {
                    state = StreamState::Ended(ResponsePiece::Error(failure(message_of(&frame.data))));
                    break;
                }
                None if frame.data == DONE => {
                    state = StreamState::Ended(ResponsePiece::Done);
                    break;
                }
                Some(_) | None => {
                    let Ok(found) =
                        encode::write_chunk_for(self.user, self.format, frame.data, &mut bytes).await
                    else {
                        state = StreamState::Broken(NO_OBJECT);
                        break;
                    };
                    tally.add(found);
                }
            }
        }
        // A broken stream is counted too: its last piece waits for the caller while the rest of the read is in memory.
        if self.count(bytes.capacity()).is_err() {
            (bytes, state) = (Vec::new(), StreamState::Broken(NO_ROOM));
        }
        if self.decoder.discarded() > 0 {
            state = StreamState::Broken("the publisher sent a chunk that is too large");
        }
        let piece = (!bytes.is_empty() || tally.usage.is_some()).then(|| ResponsePiece::Events {
            bytes: bytes.into(),
            tally,
            held: BytesPermit::default(),
        });
        (piece, state)
    }
}

#[cfg(test)]
mod tests;
