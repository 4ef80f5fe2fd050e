//! `GET /api/v1/inference-tasks/{id}/stream`: a durable task's answer as it comes, from any place in it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Path;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::unfold;
use serde_json::value::RawValue;
use tokio::time::timeout;
use wire::json::quote;
use wire::result::DONE;
use wire::sse::write_event;

use super::HubData;
use super::tasks::ended;
use crate::core::Hub;
use crate::error::ApiError;
use crate::limits::{Held, Seat};
use crate::model::{Caller, DurableTask, TaskState};
use crate::queue::Peek;

const COMMENT: &[u8] = b": keepalive\n\n";
/// Where keep-alive comments are turned off, the task is looked at again after so long.
const NEVER: Duration = Duration::from_hours(1);

/// A reader of a task's answer.
struct Reader {
    hub: Arc<Hub>,
    caller: Caller,
    id: String,
    /// How many events it has had, in this life or an earlier one.
    seen: usize,
    ready: VecDeque<Bytes>,
    /// What waits there counts among its reader's bytes.
    held: Held,
    over: bool,
    _seat: Seat,
    /// Resolves when the stream has to end: the token does not count any more, or the hub stops.
    end: LocalBoxFuture<'static, ()>,
}

pub(super) async fn stream(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, ApiError> {
    let hub = hub.into_inner();
    let seat = hub.call_of(&caller.user)?;
    if let Peek::Closed = hub.queue.peek(&caller, &id, 0) {
        ended(&hub, &caller, &id).await?;
    }
    let last = req.headers().get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let end = hub.end_for(&caller);
    let reader = Reader {
        hub,
        caller,
        id: id.into_inner(),
        seen: last.unwrap_or(0),
        ready: VecDeque::new(),
        held: Held::default(),
        over: false,
        _seat: seat,
        end,
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(unfold(reader, |mut reader| async {
            let bytes = reader.next().await?;
            Some((Ok::<_, Infallible>(bytes), reader))
        })))
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.over {
                return None;
            }
            match self.hub.queue.peek(&self.caller, &self.id, self.seen) {
                Peek::Open(chunks, mut changed) => {
                    if !self.hold(chunks.iter().map(|chunk| chunk.len()).sum()) {
                        continue;
                    }
                    for chunk in &chunks {
                        self.push(chunk);
                    }
                    if !chunks.is_empty() {
                        continue;
                    }
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
                    self.over = true;
                    match ended(&self.hub, &self.caller, &self.id).await {
                        Ok(task) => {
                            let size = task.result.as_ref().map_or(0, |(_, body)| body.len());
                            if self.hold(size) {
                                self.finish(&task);
                            }
                        }
                        Err(_) => self.fail("the task was deleted"),
                    }
                }
            }
        }
    }

    /// Counts what will be ready; one who does not read has an end of it when there is too much.
    fn hold(&mut self, size: usize) -> bool {
        self.held = Held::default();
        match self.hub.unread_of(&self.caller.user).hold(size) {
            Ok(held) => {
                self.held = held;
                true
            }
            Err(error) => {
                self.over = true;
                self.fail(&error.message);
                false
            }
        }
    }

    /// What is left of an ended task.
    fn finish(&mut self, task: &DurableTask) {
        let body = task.result.as_ref().map(|(_, body)| body.as_str());
        match (task.state, body) {
            (TaskState::Completed, Some(body)) => {
                let chunks: Vec<&RawValue> = if task.streaming {
                    serde_json::from_str(body).unwrap_or_default()
                } else {
                    serde_json::from_str(body).map(|body| vec![body]).unwrap_or_default()
                };
                for chunk in chunks.iter().skip(self.seen) {
                    self.push(chunk.get());
                }
                self.push(DONE);
            }
            (TaskState::Cancelled, _) => self.fail("the task was cancelled"),
            _ => self.fail(task.error.as_deref().unwrap_or("the task failed")),
        }
    }

    fn fail(&mut self, message: &str) {
        self.push(&format!(r#"{{"error":{}}}"#, quote(message)));
    }

    /// One event, numbered: a reader who comes again says the last number that it saw.
    fn push(&mut self, data: &str) {
        // What a reader says that it saw may be any number.
        self.seen = self.seen.saturating_add(1);
        let mut event = Vec::with_capacity(data.len() + 32);
        // Digits are a good id.
        if write_event(&mut event, None, Some(&self.seen.to_string()), data).is_ok() {
            self.ready.push_back(event.into());
        }
    }
}
