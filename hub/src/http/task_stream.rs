//! `GET /api/v1/inference-tasks/{id}/stream`: a durable task's answer as it comes, from any place in it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{StreamExt, once, unfold};
use tokio::time::timeout;
use wire::json::quote;
use wire::result::DONE;
use wire::sse::write_event;

use super::HubData;
use super::task_result::{Member, Members, PART, ended, part};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::{Caller, TaskStatus};
use crate::offload::{MAX_BURST, offload};
use crate::quota::{BytesPermit, QuotaPermit};
use crate::tasks::{Batch, Peek};

const COMMENT: &[u8] = b": keepalive\n\n";
/// Where keep-alive comments are turned off, the task is looked at again after so long.
const NEVER: Duration = Duration::from_hours(1);

/// Bytes of events that are written at once, more or less.
const AT_ONCE: usize = 64 << 10;
/// Room for an event's field names, number and line ends.
const ENVELOPE: usize = 32;
const DELETED: &str = "the task was deleted";
const BEYOND: &str = "Last-Event-ID: the task's answer has fewer events";
const UNREADABLE: &str = "the task's answer cannot be read";

/// A reader of a task's answer.
struct Reader {
    hub: Arc<Hub>,
    caller: Caller,
    id: String,
    /// How many events it has had, in this life or an earlier one.
    seen: usize,
    source: Source,
    /// Whether the answer turned out to have ended before that.
    is_beyond: bool,
    /// Events that are written out, and not given yet.
    rest: Bytes,
    /// What was given last, and what was read and not given yet, counts among its reader's bytes.
    held: BytesPermit,
    _seat: QuotaPermit,
    /// Resolves when the stream has to end: the token does not count any more, or the hub stops.
    end: LocalBoxFuture<'static, ()>,
}

/// Where the next events come from.
enum Source {
    /// The book: the task is open.
    Book,
    /// The store has the chunks of its answer: so many bytes, read up to here.
    Chunks { size: u64, at: u64, members: Numbered },
    /// The store has its whole answer, one event: so many bytes, given up to here.
    Whole { size: u64, at: u64 },
    /// Nothing more comes.
    Over,
}

/// The chunks of a stored answer, as far as they were read.
#[derive(Default)]
struct Numbered {
    members: Members,
    /// The number of the next one.
    number: usize,
    /// Text that was read last, and is behind what `members` has.
    read: Bytes,
}

pub(super) async fn stream(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let hub = hub.into_inner();
    let seat = hub.call_of(&caller.user)?;
    let has_ended = matches!(hub.tasks.peek(&caller, &id, 0), Peek::Closed);
    if has_ended {
        ended(&hub, &caller, &id).await?;
    }
    let last = req.headers().get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let end = hub.end_for(&caller);
    let mut reader = Reader {
        hub,
        caller,
        id: id.into_inner(),
        seen: last.unwrap_or(0),
        is_beyond: false,
        source: Source::Book,
        rest: Bytes::new(),
        held: BytesPermit::default(),
        _seat: seat,
        end,
    };
    // Whether there is anything behind what was seen is known before the status is said.
    let first = if has_ended && reader.seen > 0 { reader.next().await } else { None };
    if reader.is_beyond {
        return Err(ApiError::bad_request(BEYOND));
    }
    let first = once(std::future::ready(first)).filter_map(|first| std::future::ready(first.map(Ok)));
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(first.chain(unfold(reader, |mut reader| async {
            let bytes = reader.next().await?;
            Some((
                if bytes.is_empty() { Err(ApiError::new(ErrorKind::Gone, DELETED)) } else { Ok(bytes) },
                reader,
            ))
        }))))
}

impl Reader {
    /// What is to be written next: a page of events at most, or one large one, however much there is. Nothing where an
    /// event that has begun cannot be gone on with.
    async fn next(&mut self) -> Option<Bytes> {
        // More is wanted when what was given before is written.
        if self.rest.is_empty() {
            self.held = BytesPermit::default();
        }
        loop {
            if (&mut self.end).now_or_never().is_some() {
                return None;
            }
            if !self.rest.is_empty() {
                // The server copies what it writes: not a large event at once.
                return Some(self.rest.split_to(self.rest.len().min(MAX_BURST)));
            }
            match self.source {
                Source::Over => return None,
                Source::Book => match self.hub.tasks.peek(&self.caller, &self.id, self.seen) {
                    Peek::Open(batch, _) if !batch.is_empty() => {
                        if let Err(error) = self.hold(batch.size()) {
                            return Some(self.fail(&error.message));
                        }
                        match written(&self.caller.user, batch, self.seen).await {
                            Ok((events, seen)) => (self.rest, self.seen) = (events.into(), seen),
                            Err(error) => return Some(self.fail(&error.message)),
                        }
                    }
                    Peek::Open(_, mut changed) => {
                        let every = self.hub.options.timings.keepalive_interval;
                        let every = if every.is_zero() { NEVER } else { every };
                        tokio::select! {
                            () = &mut self.end => return None,
                            news = timeout(every, changed.changed()) => if news.is_err() {
                                return Some(Bytes::from_static(COMMENT));
                            },
                        }
                    }
                    Peek::Closed => {
                        if let Some(last) = self.look_up().await {
                            return Some(last);
                        }
                    }
                },
                Source::Chunks { .. } => match self.members().await {
                    Ok(Member::More) if !self.rest.is_empty() => (),
                    Ok(Member::More) => match self.read_on().await {
                        Some(Ok(())) => (),
                        Some(Err(error)) if error.kind == ErrorKind::NotFound => {
                            return Some(self.fail(DELETED));
                        }
                        Some(Err(error)) => return Some(self.fail(&error.message)),
                        None => return None,
                    },
                    Ok(Member::End) => return Some(self.done()),
                    Ok(Member::Here(_) | Member::Broken) => return Some(self.fail(UNREADABLE)),
                    Err(error) => return Some(self.fail(&error.message)),
                },
                Source::Whole { size, at } => return self.whole(size, at).await,
            }
        }
    }

    /// Finds an ended task in the store; its last event, where there is no answer to read.
    async fn look_up(&mut self) -> Option<Bytes> {
        let Ok(found) = ended(&self.hub, &self.caller, &self.id).await else {
            return Some(self.fail(DELETED));
        };
        let (task, size) = (found.task, found.size);
        match (task.state, size) {
            (TaskStatus::Completed, Some(size)) if task.streaming => {
                self.source = Source::Chunks { size, at: 0, members: Numbered::default() };
                None
            }
            (TaskStatus::Completed, Some(size)) => {
                self.source = Source::Whole { size, at: 0 };
                None
            }
            (TaskStatus::Cancelled, _) => Some(self.fail("the task was cancelled")),
            _ => Some(self.fail(task.error.as_deref().unwrap_or("the task failed"))),
        }
    }

    /// Writes out events of the members that are there, from the first that was not seen on; answers what there is behind
    /// them, or [`Member::More`] where there are events to be given before that.
    async fn members(&mut self) -> Result<Member, ApiError> {
        let Source::Chunks { members, .. } = &mut self.source else { return Ok(Member::Broken) };
        let taken = std::mem::take(members);
        // Text that was read, and the events made of it.
        self.hold(taken.size() + taken.left())?;
        let (taken, events, seen, found) = found(&self.caller.user, taken, self.seen).await?;
        (self.rest, self.seen) = (events.into(), seen);
        self.hold(taken.size() + self.rest.len())?;
        if let Source::Chunks { members, .. } = &mut self.source {
            *members = taken;
        }
        Ok(if self.rest.is_empty() { found } else { Member::More })
    }

    /// Reads more of the chunks; one that is larger than a part is read in ever larger ones. `None` when the stream has
    /// to end.
    async fn read_on(&mut self) -> Option<Result<(), ApiError>> {
        let Source::Chunks { size, at, members, .. } = &mut self.source else { return None };
        if *at >= *size {
            return Some(Err(ApiError::internal(UNREADABLE)));
        }
        let (from, most) = (*at, members.left().max(PART));
        let needed = members.size() + most;
        if let Err(error) = self.hold(needed) {
            return Some(Err(error));
        }
        let read = tokio::select! {
            () = &mut self.end => return None,
            read = part(&self.hub, &self.caller.user, &self.id, from, most) => read,
        };
        let Source::Chunks { at, members, .. } = &mut self.source else { return None };
        Some(read.map(|read| {
            // Nothing where there has to be something: the end is met at the next look.
            *at = if read.is_empty() { u64::MAX } else { *at + read.len() as u64 };
            members.read = read;
        }))
    }

    /// A part of the one event that is the whole answer, and then the end.
    async fn whole(&mut self, size: u64, at: u64) -> Option<Bytes> {
        if at >= size || self.seen > 0 && at == 0 {
            if at == 0 {
                return Some(self.done());
            }
            let mut last = b"\n\n".to_vec();
            self.event(DONE, &mut last);
            self.source = Source::Over;
            return Some(last.into());
        }
        if let Err(error) = self.hold(PART) {
            let last = if at == 0 { self.fail(&error.message) } else { Bytes::new() };
            self.source = Source::Over;
            return Some(last);
        }
        let read = tokio::select! {
            () = &mut self.end => return None,
            read = part(&self.hub, &self.caller.user, &self.id, at, PART) => read,
        };
        match read {
            Ok(read) if !read.is_empty() => {
                self.source = Source::Whole { size, at: at + read.len() as u64 };
                if at > 0 {
                    return Some(read);
                }
                self.seen = 1;
                Some([b"id: 1\ndata: ", &read[..]].concat().into())
            }
            // An event that has begun is broken off with its connection.
            _ if at > 0 => {
                self.source = Source::Over;
                Some(Bytes::new())
            }
            _ => Some(self.fail(DELETED)),
        }
    }

    /// Counts what will be held; one who does not read has an end of it when there is too much.
    fn hold(&mut self, size: usize) -> Result<(), ApiError> {
        self.held = BytesPermit::default();
        self.held = self.hub.unread_of(&self.caller.user).take(size)?;
        Ok(())
    }

    /// The end of an answer of which the rest was seen: one that has seen more than there is has seen another one.
    fn done(&mut self) -> Bytes {
        let there = match &self.source {
            Source::Chunks { members, .. } => members.number,
            _ => 1,
        };
        // The end has a number, too.
        self.is_beyond = self.seen > there.saturating_add(1);
        if self.is_beyond { self.fail(BEYOND) } else { self.last(DONE) }
    }

    fn fail(&mut self, message: &str) -> Bytes {
        self.last(&format!(r#"{{"error":{}}}"#, quote(message)))
    }

    fn last(&mut self, data: &str) -> Bytes {
        self.source = Source::Over;
        let mut event = Vec::new();
        self.event(data, &mut event);
        event.into()
    }

    fn event(&mut self, data: &str, events: &mut Vec<u8>) {
        // What a reader says that it saw may be any number.
        self.seen = self.seen.saturating_add(1);
        write(data, self.seen, events);
    }
}

impl Numbered {
    /// Bytes of text that is not given yet.
    fn left(&self) -> usize {
        self.members.left() + self.read.len()
    }

    /// Bytes of text that is held.
    fn size(&self) -> usize {
        self.members.size() + self.read.len()
    }

    /// Events of the members that are there, from the one behind `seen` on, some at once; how many were seen then, and
    /// what there is behind them.
    fn events(&mut self, mut seen: usize) -> (Vec<u8>, usize, Member) {
        if !self.read.is_empty() {
            self.members.add(&std::mem::take(&mut self.read));
        }
        let mut events = Vec::new();
        while events.len() < AT_ONCE {
            match self.members.find() {
                Member::Here(place) => {
                    if self.number >= seen {
                        seen = self.number.saturating_add(1);
                        write(self.members.text(place), seen, &mut events);
                    }
                    self.number += 1;
                }
                other => return (events, seen, other),
            }
        }
        (events, seen, Member::More)
    }
}

/// See [`Numbered::events`]. A large member, for which more than parts were read, is looked for from its beginning each
/// time, and not on the thread that serves others.
async fn found(
    user: &str,
    mut members: Numbered,
    seen: usize,
) -> Result<(Numbered, Vec<u8>, usize, Member), ApiError> {
    offload(user, members.left().saturating_sub(PART), move || {
        let (events, seen, found) = members.events(seen);
        Ok((members, events, seen, found))
    })
    .await
}

/// The events of a batch behind `seen`, and how many were seen with them.
async fn written(user: &str, batch: Batch, mut seen: usize) -> Result<(Vec<u8>, usize), ApiError> {
    offload(user, batch.size(), move || {
        let mut events = Vec::with_capacity(batch.size() + batch.len() * ENVELOPE);
        for chunk in batch.iter() {
            // What a reader says that it saw may be any number.
            seen = seen.saturating_add(1);
            write(chunk, seen, &mut events);
        }
        Ok((events, seen))
    })
    .await
}

/// One event, numbered: a reader who comes again says the last number that it saw.
fn write(data: &str, number: usize, events: &mut Vec<u8>) {
    // Digits are a good id, so that this is never refused.
    let _ = write_event(events, None, Some(&number.to_string()), data);
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::poll;

    use super::*;

    /// What came of `work`, and whether it was done elsewhere: here it is done when it is first asked for.
    async fn ran<T>(work: impl Future<Output = T>) -> (T, bool) {
        let mut work = Box::pin(work);
        match poll!(&mut work) {
            Poll::Ready(done) => (done, false),
            Poll::Pending => (work.await, true),
        }
    }

    /// P7: the serving thread is not kept by one large chunk: it is looked for and written elsewhere, and small ones are
    /// where they are.
    #[actix_rt::test]
    async fn a_large_chunk_is_worked_on_elsewhere() {
        let large = quote(&"é".repeat(1 << 20));
        for (text, is_large) in [(large.as_str(), true), ("{}", false)] {
            let (mut found_elsewhere, mut written_elsewhere) = (false, false);
            for _ in 0..10 {
                let stored = Bytes::from(format!("[{text},{text}]"));
                let members = Numbered { read: stored, ..Numbered::default() };
                let (done, elsewhere) = ran(found("alice", members, 1)).await;
                let (_, events, seen, _) = done.unwrap();
                let is_second = events == format!("id: 2\ndata: {text}\n\n").as_bytes();
                assert!(is_second && seen == 2, "{seen}");
                // Another thread may be done before it is asked.
                found_elsewhere |= elsewhere;
                let (done, elsewhere) = ran(written("alice", Batch::one(text), usize::MAX)).await;
                let (events, seen) = done.unwrap();
                let is_last = events == format!("id: {}\ndata: {text}\n\n", usize::MAX).as_bytes();
                assert!(is_last && seen == usize::MAX, "{seen}");
                written_elsewhere |= elsewhere;
            }
            assert_eq!((found_elsewhere, written_elsewhere), (is_large, is_large));
        }
    }
}
