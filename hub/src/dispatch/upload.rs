//! `POST /_provider-task/{id}/stream`: a whole streamed answer as one upload (feature `result-stream`).
//!
//! The fast path: each read is decoded without a copy, checked and written once, and goes to the caller as one piece.

use std::time::Duration;

use actix_web::web::Payload;
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::openai::error_message;
use wire::result::DONE;
use wire::sse::Decoder;
use wire::task::Endpoint;

use super::attempt::ResponsePiece;
use super::encode;
use super::failure::{LONGEST_ERROR, failure};
use super::response_channel::ResponseChannel;
use super::submit::{NO_OBJECT, Rejection, Sender, Submitted, UNWANTED, fail, settled};
use super::table::DispatchEnd;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::quota::BytesPermit;

/// What an error event says.
fn words(data: &str) -> String {
    if data.len() > LONGEST_ERROR {
        return FAILED_AT_LENGTH.to_owned();
    }
    error_message(data).unwrap_or_else(|| FAILED.to_owned())
}

/// How an upload stands after a read.
enum Progress {
    /// More is to come.
    Open,
    /// It said its last word.
    Ended(ResponsePiece),
    /// It cannot be read on.
    Broken(&'static str),
}

const NO_ROOM: &str = "the hub has no memory for the publisher's answer now";
const FAILED: &str = "the publisher's answer failed";
const FAILED_AT_LENGTH: &str = "the publisher's answer failed, and its reason was told at too great a length";
const BROKE_OFF: &str = "the publisher's answer broke off";
/// A caller who reads nothing for so long is given up: its publisher has others to serve.
const STALLED: Duration = Duration::from_mins(5);
/// How long the end of an upload's body may take after the end mark in it.
const LEFTOVER: Duration = Duration::from_secs(1);
/// What stands for an upload in the memory of endings: it cannot be repeated.
pub(super) const UPLOADED: u64 = 0;

/// Takes an upload.
pub async fn upload(hub: &Hub, from: Sender<'_>, mut payload: Payload) -> Result<Submitted, Rejection> {
    let (alive, mut gone) = oneshot::channel::<()>();
    let found = {
        let mut tasks = hub.dispatches.lock();
        let Some(live) = from.live(&mut tasks) else {
            return from.over(&tasks, None).map(|_| Submitted::Duplicate);
        };
        if live.upload.is_some() {
            return Err(Rejection::Conflict);
        }
        if live.streaming {
            live.upload = Some(alive);
            live.started = true;
        }
        live.streaming.then(|| (live.lane.clone(), live.endpoint))
    };
    let Some((lane, endpoint)) = found else {
        fail(hub, from.id, UNWANTED);
        return Err(Rejection::Conflict);
    };
    let mut guard = Guard { hub, id: from.id, armed: true };
    let mut reader = Reader::new(from.user, endpoint, hub.results_of(from.user).empty());
    let last = loop {
        let read = tokio::select! {
            biased;
            // The task ended on our side: cancelled, or its session lost.
            _ = &mut gone => return Err(Rejection::Gone),
            read = payload.next() => read,
        };
        let Some(Ok(read)) = read else { break Err(BROKE_OFF) };
        let (piece, progress) = reader.read(&read).await;
        if let Some(piece) = piece
            && !send(&lane, piece, &mut gone).await
        {
            return Err(Rejection::Gone);
        }
        match progress {
            Progress::Open => (),
            Progress::Ended(piece) => break Ok(piece),
            Progress::Broken(message) => break Err(message),
        }
    };
    guard.armed = false;
    match last {
        Ok(piece) => {
            let live = hub.end_task(from.id, DispatchEnd::Answered(UPLOADED)).ok_or(Rejection::Gone)?;
            live.lane.deliver(vec![piece]);
            // What follows the end mark is nobody's; read to its end the connection stays usable.
            let rest = async { while let Some(Ok(_)) = payload.next().await {} };
            let _ = timeout(LEFTOVER, rest).await;
            settled(live.receipt, Submitted::Taken).await
        }
        Err(message) => {
            fail(hub, from.id, message);
            Err(Rejection::Malformed)
        }
    }
}

async fn send(lane: &ResponseChannel, piece: ResponsePiece, gone: &mut oneshot::Receiver<()>) -> bool {
    tokio::select! {
        biased;
        _ = gone => false,
        sent = timeout(STALLED, lane.send(piece)) => sent == Ok(true),
    }
}

/// Fails the task when the publisher's connection goes away in mid-upload: the route's future is dropped then.
struct Guard<'a> {
    hub: &'a Hub,
    id: &'a str,
    armed: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.armed {
            fail(self.hub, self.id, BROKE_OFF);
        }
    }
}

/// So much of an event that is not whole is not counted: of 4,096 uploads 16 MiB.
const SMALL: usize = 4 << 10;

/// Reads a stream of events as they come, and writes them anew.
struct Reader<'a> {
    /// The publisher's.
    user: &'a str,
    decoder: Decoder,
    endpoint: Endpoint,
    /// What the event counts for that is not whole yet.
    half: BytesPermit,
    none: BytesPermit,
}

impl<'a> Reader<'a> {
    /// What waits in it counts on the account of `none`.
    fn new(user: &'a str, endpoint: Endpoint, none: BytesPermit) -> Self {
        Self { user, decoder: Decoder::new(), endpoint, half: BytesPermit::default(), none }
    }

    /// Counts what there is of an event that is not whole.
    fn count(&mut self) -> Result<(), ApiError> {
        let half = self.decoder.buffered_bytes();
        let counted = self.half.size();
        if half < counted {
            self.half = BytesPermit::default();
        } else if counted > 0 {
            return self.half.grow(half - counted);
        }
        if half > SMALL {
            self.half = self.none.another(half)?;
        }
        Ok(())
    }

    /// All events that a read completes, as one piece, and what follows from them.
    async fn read(&mut self, mut read: &[u8]) -> (Option<ResponsePiece>, Progress) {
        let mut bytes = Vec::with_capacity(read.len() + 64);
        let mut usage = None;
        let mut progress = Progress::Open;
        while let Some(frame) = self.decoder.decode(&mut read) {
            match frame.event.as_deref() {
                Some("error") => {
                    progress = Progress::Ended(ResponsePiece::Error(failure(words(&frame.data))));
                    break;
                }
                None if frame.data == DONE => {
                    progress = Progress::Ended(ResponsePiece::Done);
                    break;
                }
                Some(_) | None => {
                    let Ok(found) = encode::event(self.user, self.endpoint, frame.data, &mut bytes).await
                    else {
                        progress = Progress::Broken(NO_OBJECT);
                        break;
                    };
                    usage = found.or(usage);
                }
            }
        }
        if matches!(progress, Progress::Open) && self.count().is_err() {
            progress = Progress::Broken(NO_ROOM);
        }
        if self.decoder.discarded() > 0 {
            progress = Progress::Broken("the publisher sent a chunk that is too large");
        }
        let piece = (!bytes.is_empty()).then(|| ResponsePiece::Events {
            bytes: bytes.into(),
            usage,
            held: BytesPermit::default(),
        });
        (piece, progress)
    }
}
