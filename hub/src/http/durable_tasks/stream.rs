//! `GET /api/v1/inference-tasks/{id}/stream`: the answer of a durable task as it arrives, from any event on.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::future::{Fuse, FutureExt, LocalBoxFuture};
use futures_util::stream::{StreamExt, once, unfold};
use tokio::time::timeout;
use wire::json::quote;
use wire::result::DONE;

use super::chunks::NextItem;
use super::chunks::{StoredChunks, batch_events, stored_events, write};
use super::result::{PART, load_ended, read_part};
use crate::error::{ApiError, ErrorKind};
use crate::http::elsewhere;
use crate::hub::Hub;
use crate::hub::HubData;
use crate::model::{Caller, TaskStatus};
use crate::offload::MAX_BURST;
use crate::quota::{BytesPermit, QuotaPermit};

const KEEPALIVE: &[u8] = b": keepalive\n\n";
/// Longest wait for a change of an open task if keep-alive comments are turned off.
const NO_KEEPALIVE: Duration = Duration::from_hours(1);

const DELETED: &str = "the task was deleted";
const BEYOND: &str = "Last-Event-ID: the task's answer has fewer events";
const UNREADABLE: &str = "the task's answer cannot be read";

/// The events of a task's answer for one caller.
struct AnswerEvents {
    hub: Arc<Hub>,
    caller: Caller,
    id: String,
    /// The number of the last event that was written, or that the caller named in `Last-Event-ID`.
    seen: usize,
    source: Source,
    /// Whether the answer has fewer events than the caller claims to have seen.
    is_beyond: bool,
    /// Events to be written.
    pending: Bytes,
    /// Counts the text in memory against the quota of unread bytes.
    permit: BytesPermit,
    _call: QuotaPermit,
    /// Resolves when the token is revoked or the hub stops.
    end: Fuse<LocalBoxFuture<'static, ()>>,
}

/// Where the next events come from.
enum Source {
    /// The task is open: its chunks are in the task table.
    Table,
    /// The task has ended: its chunks are read from `size` bytes in the store, `at` of them so far.
    StoredChunks { size: u64, at: u64, chunks: StoredChunks },
    /// The task has ended with a whole answer, one event of `size` bytes, `at` of them written so far.
    StoredBody { size: u64, at: u64 },
    /// The last event was written.
    Ended,
}

pub(super) async fn stream(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, ApiError> {
    if let Some(response) = elsewhere::task(&hub, &req, &caller, &id).await {
        return response;
    }
    let hub = hub.into_inner();
    let call = hub.call_of(&caller.user)?;
    let has_ended = hub.tasks.chunks_from(&caller, &id, 0).is_none();
    if has_ended {
        load_ended(&hub, &caller, &id).await?;
    }
    let last = req.headers().get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let end = hub.end_for(&caller).fuse();
    let mut events = AnswerEvents {
        hub,
        caller,
        id: id.into_inner(),
        seen: last.unwrap_or(0),
        is_beyond: false,
        source: Source::Table,
        pending: Bytes::new(),
        permit: BytesPermit::default(),
        _call: call,
        end,
    };
    // Read before the status is sent, which is 400 if there are fewer events than `Last-Event-ID` says.
    let first = if has_ended && events.seen > 0 { events.next().await } else { None };
    if events.is_beyond {
        return Err(ApiError::bad_request(BEYOND));
    }
    let first = once(std::future::ready(first)).filter_map(|first| std::future::ready(first.map(Ok)));
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(first.chain(unfold(events, |mut events| async {
            let bytes = events.next().await?;
            let bytes =
                if bytes.is_empty() { Err(ApiError::new(ErrorKind::Gone, DELETED)) } else { Ok(bytes) };
            Some((bytes, events))
        }))))
}

impl AnswerEvents {
    /// The next bytes of the response: about a page of events, or a part of a large one. Empty if an event that was begun
    /// cannot be completed.
    async fn next(&mut self) -> Option<Bytes> {
        // A call of this function means that all bytes returned before were written.
        if self.pending.is_empty() {
            self.permit = BytesPermit::default();
        }
        loop {
            if (&mut self.end).now_or_never().is_some() {
                self.source = Source::Ended;
                self.pending = Bytes::new();
            }
            if !self.pending.is_empty() {
                // The server copies what it writes, so a large event is returned in parts.
                return Some(self.pending.split_to(self.pending.len().min(MAX_BURST)));
            }
            let event = match self.source {
                Source::Ended => return None,
                Source::Table => self.next_from_table().await,
                Source::StoredChunks { .. } => self.next_from_chunks().await,
                Source::StoredBody { size, at } => return self.next_from_body(size, at).await,
            };
            match event {
                Ok(Some(bytes)) => return Some(bytes),
                Ok(None) => (),
                Err(error) => return Some(self.fail(&error.message)),
            }
        }
    }

    /// Fills `pending` from an open task, or waits for its next change.
    async fn next_from_table(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some((batch, mut changed)) = self.hub.tasks.chunks_from(&self.caller, &self.id, self.seen) else {
            return Ok(self.open_stored().await);
        };
        if !batch.is_empty() {
            self.hold(batch.size())?;
            let (events, seen) = batch_events(&self.caller.user, batch, self.seen).await?;
            (self.pending, self.seen) = (events.into(), seen);
            return Ok(None);
        }
        let every = self.hub.options.timings.keepalive_interval;
        let every = if every.is_zero() { NO_KEEPALIVE } else { every };
        tokio::select! {
            () = &mut self.end => self.source = Source::Ended,
            change = timeout(every, changed.changed()) => if change.is_err() {
                return Ok(Some(Bytes::from_static(KEEPALIVE)));
            },
        }
        Ok(None)
    }

    /// Finds an ended task in the store. Returns its last event if there is no answer to read.
    async fn open_stored(&mut self) -> Option<Bytes> {
        let Ok(ended) = load_ended(&self.hub, &self.caller, &self.id).await else {
            return Some(self.fail(DELETED));
        };
        let (task, size) = (ended.task, ended.size);
        self.source = match (task.state, size) {
            (TaskStatus::Completed, Some(size)) if task.streaming => {
                Source::StoredChunks { size, at: 0, chunks: StoredChunks::default() }
            }
            (TaskStatus::Completed, Some(size)) => Source::StoredBody { size, at: 0 },
            (TaskStatus::Cancelled, _) => return Some(self.fail("the task was cancelled")),
            _ => return Some(self.fail(task.error.as_deref().unwrap_or("the task failed"))),
        };
        None
    }

    /// Fills `pending` from stored chunks, and reads more of them if there is no complete one.
    async fn next_from_chunks(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Source::StoredChunks { chunks, .. } = &mut self.source else { return Ok(None) };
        let taken = std::mem::take(chunks);
        // The text, and the events that are made of it.
        self.hold(taken.buffered() + taken.unread())?;
        let (taken, events) = stored_events(&self.caller.user, taken, self.seen).await?;
        (self.pending, self.seen) = (events.bytes.into(), events.seen);
        self.hold(taken.buffered() + self.pending.len())?;
        if let Source::StoredChunks { chunks, .. } = &mut self.source {
            *chunks = taken;
        }
        match events.next {
            _ if !self.pending.is_empty() => Ok(None),
            NextItem::Incomplete => match self.read_chunks().await {
                Err(error) if error.kind == ErrorKind::NotFound => Ok(Some(self.fail(DELETED))),
                read => read.map(|()| None),
            },
            NextItem::End => Ok(Some(self.done())),
            NextItem::Item(_) | NextItem::Invalid => Ok(Some(self.fail(UNREADABLE))),
        }
    }

    /// Reads more text of stored chunks. The parts of a chunk that is larger than a part grow, since it is parsed from its
    /// beginning with each of them.
    async fn read_chunks(&mut self) -> Result<(), ApiError> {
        let Source::StoredChunks { size, at, chunks } = &self.source else { return Ok(()) };
        if at >= size {
            return Err(ApiError::internal(UNREADABLE));
        }
        let (from, most) = (*at, chunks.unread().max(PART));
        let needed = chunks.buffered() + most;
        self.hold(needed)?;
        let read = tokio::select! {
            () = &mut self.end => {
                self.source = Source::Ended;
                return Ok(());
            }
            read = read_part(&self.hub, &self.caller.user, &self.id, from, most) => read?,
        };
        if let Source::StoredChunks { at, chunks, .. } = &mut self.source {
            // An empty part before the end is an error at the next read.
            *at = if read.is_empty() { u64::MAX } else { *at + read.len() as u64 };
            chunks.unparsed = read;
        }
        Ok(())
    }

    /// A part of the one event that is the whole answer, and then the end.
    async fn next_from_body(&mut self, size: u64, at: u64) -> Option<Bytes> {
        if at == 0 && (size == 0 || self.seen > 0) {
            return Some(self.done());
        }
        if at >= size {
            return Some([b"\n\n", &self.last(DONE)[..]].concat().into());
        }
        if let Err(error) = self.hold(PART) {
            return Some(self.break_off(at, &error.message));
        }
        let read = tokio::select! {
            () = &mut self.end => {
                self.source = Source::Ended;
                return None;
            }
            read = read_part(&self.hub, &self.caller.user, &self.id, at, PART) => read,
        };
        match read {
            Ok(read) if !read.is_empty() => {
                self.source = Source::StoredBody { size, at: at + read.len() as u64 };
                if at > 0 {
                    return Some(read);
                }
                self.seen = 1;
                Some([b"id: 1\ndata: ", &read[..]].concat().into())
            }
            _ => Some(self.break_off(at, DELETED)),
        }
    }

    /// Ends the response with an error: an event if the body's event was not begun, a closed connection otherwise.
    fn break_off(&mut self, at: u64, message: &str) -> Bytes {
        if at == 0 {
            return self.fail(message);
        }
        self.source = Source::Ended;
        Bytes::new()
    }

    /// Counts `size` bytes, instead of those counted before, against the quota of unread bytes.
    fn hold(&mut self, size: usize) -> Result<(), ApiError> {
        self.permit = BytesPermit::default();
        self.permit = self.hub.unread_of(&self.caller.user).take(size)?;
        Ok(())
    }

    /// The end of an answer. It is an error if the caller claims to have seen more events than there are.
    fn done(&mut self) -> Bytes {
        let count = match &self.source {
            Source::StoredChunks { chunks, .. } => chunks.found,
            _ => 1,
        };
        // The end is an event with a number, too.
        self.is_beyond = self.seen > count.saturating_add(1);
        if self.is_beyond { self.fail(BEYOND) } else { self.last(DONE) }
    }

    fn fail(&mut self, message: &str) -> Bytes {
        self.last(&format!(r#"{{"error":{}}}"#, quote(message)))
    }

    fn last(&mut self, data: &str) -> Bytes {
        self.source = Source::Ended;
        // `Last-Event-ID` of a caller may be any number.
        self.seen = self.seen.saturating_add(1);
        let mut event = Vec::new();
        write(data, self.seen, &mut event);
        event.into()
    }
}
