//! One dispatch, from its caller's side.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;
use wire::TaskId;
use wire::features::Feature;
use wire::openai::Usage;
use wire::sse::write_event;
use wire::task::{Cancel, Endpoint, infer_frame, wake_data};

use super::answer::refusal;
use super::body::RequestBody;
use super::capacity::Reservation;
use super::receipt::Receipt;
use super::response_channel::ResponseChannel;
use super::silence::{self, Silence};
use super::table::{DispatchEnd, DispatchState};
use super::whole::Body;
use crate::channels::{Event, Unsent};
use crate::error::{ApiError, ErrorKind, is_about_a_key};
use crate::hub::Hub;
use crate::model::UserId;
use crate::quota::BytesPermit;
use crate::random;
use crate::registry::{Candidate, NameRedaction};

/// What a publisher, or an upstream, sends for one dispatch.
#[derive(Debug)]
pub enum ResponsePiece {
    /// Whole events for the caller's stream, written by our encoder.
    Events {
        /// Their bytes.
        bytes: Bytes,
        /// What they say that the answer cost, if they do.
        usage: Option<Usage>,
        /// What they count for until they are read.
        held: BytesPermit,
    },
    /// The end of a streamed answer.
    Done,
    /// A whole answer.
    Answer {
        /// HTTP status.
        status: u16,
        /// All of it.
        body: Body,
        /// What it counts for until it is read.
        held: BytesPermit,
        /// The backend's `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// It failed.
    Error(ApiError),
    /// Its session opened a new channel before the first word: what was on the old one may be lost, send it again.
    Reattached,
}

/// Dispatches under way in one hub: far more than publishers have room for, and a bound all the same.
const MAX_LIVE: usize = 65_536;
/// Room for an event's field names and line ends.
const ENVELOPE: usize = 32;

impl ResponsePiece {
    /// A whole answer, as its publisher gave it. Where its backend refused the publisher's key, the caller gets an error
    /// that speaks of the publisher.
    pub(super) fn answer(status: u16, body: Body, held: BytesPermit, retry_after: Option<u32>) -> Self {
        if is_about_a_key(status) {
            Self::Error(refusal(status, body.get()))
        } else {
            Self::Answer { status, body, held, retry_after }
        }
    }

    /// Its bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Events { bytes, .. } => bytes.len(),
            Self::Answer { body, .. } => body.get().len(),
            Self::Error(error) => error.message.len(),
            Self::Done | Self::Reattached => 0,
        }
    }

    /// What it says of a failure as its reader may read it, at whichever place of the answer it comes.
    fn masked(self, mask: &NameRedaction) -> Self {
        match self {
            Self::Error(error) if !mask.is_none() => Self::Error(error.reword(|text| mask.apply(text))),
            Self::Answer { status, body, held, retry_after } if status >= 400 && !mask.is_none() => {
                Self::Answer { status, body: body.reworded(|text| mask.apply(text)), held, retry_after }
            }
            piece => piece,
        }
    }

    /// Counts for this until it is read.
    pub(super) fn hold(&mut self, counted: BytesPermit) {
        match self {
            Self::Events { held, .. } | Self::Answer { held, .. } => *held = counted,
            Self::Error(_) | Self::Done | Self::Reattached => (),
        }
    }
}

/// One dispatch. Dropping it cancels what is not over.
pub struct Dispatch {
    hub: Arc<Hub>,
    /// The task's id.
    pub id: String,
    pieces: mpsc::Receiver<ResponsePiece>,
    /// Its event on its publisher's channel, where it is or was on one.
    sent: Option<Sent>,
    /// The limit on silence between two of them.
    silence: Silence,
    /// What its reader may not read in what its publisher says of a failure.
    pub(super) mask: NameRedaction,
}

/// A task that was put on a channel.
#[derive(Debug, Clone, Copy)]
struct Sent {
    ticket: u64,
    /// Whether it was on an older one before.
    again: bool,
}

/// What to dispatch.
#[derive(Debug)]
pub enum Work<'a> {
    /// Answer a request.
    Infer {
        /// Whether chunks are wanted.
        streaming: bool,
        /// What is asked of the backend.
        endpoint: Endpoint,
        /// The request body.
        request: &'a RequestBody,
        /// What its `model` becomes, if anything.
        model: Option<&'a str>,
        /// Headers of the caller that go with it.
        headers: &'a [(String, String)],
    },
    /// Bring the backend up.
    Wake,
}

impl Dispatch {
    /// Opens a dispatch on the row of `candidate`, sent nowhere yet: whoever has the lane answers `reader`, and calls
    /// [`Hub::conclude`] with the last word. A `place` that was taken on that row counts for this from now on. With a
    /// `receipt` a publisher's last word is answered when that is settled.
    pub fn open(
        hub: &Arc<Hub>,
        candidate: &Candidate,
        reader: &UserId,
        streaming: bool,
        endpoint: Endpoint,
        place: Option<Reservation>,
        receipt: Option<Receipt>,
    ) -> Result<(Self, ResponseChannel), ApiError> {
        let (lane, pieces) = ResponseChannel::new(hub.unread_of(reader));
        let live = DispatchState {
            user: candidate.owner.clone(),
            session: candidate.session.clone(),
            row: candidate.name.clone(),
            streaming,
            endpoint,
            tell_cancel: candidate.features.has(Feature::Cancel),
            lane: lane.clone(),
            started: false,
            next_seq: 0,
            upload: None,
            receipt,
        };
        let id = random::id("task");
        {
            let mut tasks = hub.dispatches.lock();
            if tasks.len() >= MAX_LIVE {
                return Err(ApiError::new(ErrorKind::HubBusy, "the hub is busy, try again later"));
            }
            tasks.insert(id.clone(), live);
        }
        match place {
            Some(place) => place.keep(),
            None => hub.registry.lock().task_started(&candidate.name),
        }
        // From here on the guard ends it.
        let silence =
            Silence::new(silence::limit(hub.options.timings.stream_idle_timeout, candidate.timeout));
        Ok((Self { hub: hub.clone(), id, pieces, sent: None, silence, mask: NameRedaction::default() }, lane))
    }

    /// Sends `work` to the publisher of `candidate`.
    pub fn start(hub: &Arc<Hub>, candidate: &Candidate, work: &Work<'_>) -> Result<Self, ApiError> {
        let (streaming, endpoint) = match work {
            Work::Wake => (false, Endpoint::ChatCompletions),
            Work::Infer { streaming, endpoint, .. } => (*streaming, *endpoint),
        };
        let (mut attempt, _) = Self::open(hub, candidate, &candidate.owner, streaming, endpoint, None, None)?;
        attempt.send(candidate, &candidate.owner, work)?;
        Ok(attempt)
    }

    /// Puts the task on its publisher's channel, for `caller`. Twice is once: a publisher runs an id once.
    pub fn send(&mut self, candidate: &Candidate, caller: &str, work: &Work<'_>) -> Result<(), ApiError> {
        let away = || ApiError::new(ErrorKind::PublisherAway, "the publisher is away, try again later");
        let session = candidate.session.as_deref().ok_or_else(away)?;
        let id = TaskId::parse(self.id.as_str()).map_err(ApiError::internal)?;
        let event = match work {
            Work::Wake => {
                let data = wake_data(&id, &candidate.name);
                let mut event = Vec::with_capacity(data.len() + ENVELOPE);
                write_event(&mut event, Some("task"), None, &data).map_err(ApiError::internal)?;
                event.into()
            }
            Work::Infer { streaming, endpoint, request, model, headers } => {
                // The request is one line already, and may be large: it goes out as it stands, without a copy.
                let (before, after) = infer_frame(&id, &candidate.name, *streaming, *endpoint, headers);
                let mut pieces = request.pieces(*model);
                pieces.insert(0, format!("event: task\ndata: {before}").into());
                pieces.push(format!("{after}\n\n").into());
                Event::of(pieces)
            }
        };
        let ticket = self.hub.channels.send(session, caller, event).map_err(|unsent| match unsent {
            Unsent::Unreachable => away(),
            Unsent::Crowded => {
                let text = "the publisher has not read your other requests yet, try again later";
                ApiError::new(ErrorKind::HubBusy, text)
            }
        })?;
        self.sent = Some(Sent { ticket, again: self.sent.is_some() });
        Ok(())
    }

    /// The next piece; `None` when the publisher was lost.
    pub async fn next(&mut self) -> Option<ResponsePiece> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for a stream's own poll. What came waits in the channel, however slowly it is read: the
    /// publisher has been silent only when the channel is empty.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<ResponsePiece>> {
        if let Poll::Ready(piece) = self.pieces.poll_recv(cx) {
            if let Some(ResponsePiece::Events { .. }) = piece {
                self.silence.heard();
            }
            return Poll::Ready(piece.map(|piece| piece.masked(&self.mask)));
        }
        self.silence.poll_over(cx).map(|limit| {
            let text = format!("nothing came from the publisher for {} s", limit.as_secs_f64());
            Some(ResponsePiece::Error(ApiError::new(ErrorKind::StreamIdle, text)))
        })
    }
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.hub.cancel(&self.id, self.sent);
    }
}

impl Hub {
    /// Nobody waits for this dispatch any more. What its publisher has not had of it, it need not have.
    fn cancel(&self, id: &str, sent: Option<Sent>) {
        let Some(live) = self.end_task(id, DispatchEnd::Gone) else { return };
        let Some((session, sent)) = live.session.as_ref().zip(sent) else { return };
        // Only our registrars are known to skip half an event.
        let is_unknown = self.channels.withdraw(session, sent.ticket, live.tell_cancel) && !sent.again;
        if live.tell_cancel
            && !is_unknown
            && let Ok(task_id) = TaskId::parse(id)
            && let Ok(data) = serde_json::to_string(&Cancel { task_id })
        {
            let mut event = Vec::with_capacity(data.len() + ENVELOPE);
            if write_event(&mut event, Some("cancel"), None, &data).is_ok() {
                // Without a channel there is nobody to tell: the result's POST will learn it.
                self.channels.tell(session, event.into());
            }
        }
    }

    /// Ends a dispatch, once; frees its place on its row.
    pub(super) fn end_task(&self, id: &str, ending: DispatchEnd) -> Option<DispatchState> {
        let now = self.now();
        let live = self.dispatches.lock().end(id, ending, now.mono)?;
        self.change(|registry| {
            // Nobody begins to wait while the registry is held, but for durable tasks, whose loop looks afterwards.
            let had_room = self.nobody_waits() || registry.has_capacity(&live.row);
            let changes = registry.task_ended(&live.row, now);
            if !had_room {
                self.offer(registry, &live.row);
            }
            ((), changes)
        });
        self.task_ended.send_replace(());
        Some(live)
    }

    /// The last word of a dispatch that no publisher answers (see [`Dispatch::open`]); `false` when it was over.
    pub fn conclude(&self, id: &str, last: ResponsePiece) -> bool {
        // No publisher can repeat it, so that the digest is of no matter.
        let Some(live) = self.end_task(id, DispatchEnd::Answered(0)) else { return false };
        live.lane.deliver(vec![last]);
        true
    }

    /// The session has a new channel: what it had not begun may have been lost with the old one. A publisher that
    /// knows `cancel` also knows that an id that comes twice runs once; any other would run it twice.
    pub fn reattach(&self, session: &str) {
        for lane in self.dispatches.lock().unstarted(session) {
            lane.reattached();
        }
    }

    /// The session is lost: its dispatches end, their callers learn it, late results get 410.
    pub fn lose_session(&self, session: &str) {
        let bound = self.dispatches.lock().of_session(session);
        for id in bound {
            // Dropping the record drops its sender: the caller's side reads the end without a last word.
            self.end_task(&id, DispatchEnd::Gone);
        }
    }

    /// Every dispatch ends, as if all sessions were lost.
    pub fn lose_all(&self) {
        let all = self.dispatches.lock().ids();
        for id in all {
            self.end_task(&id, DispatchEnd::Gone);
        }
    }
}
