//! The caller's handle on one dispatch.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use wire::TaskId;
use wire::features::Feature;
use wire::task::{Endpoint, infer_frame, wake_data};

use super::capacity::Reservation;
use super::commit::CommitReceipt;
use super::encode::EventFormat;
use super::idle_timeout::{self, IdleTimeout};
use super::piece::ResponsePiece;
use super::request_body::{RequestBody, UsageOptions};
use super::response_channel::ResponseChannel;
use super::table::DispatchState;
use crate::channels::{Event, SendError};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::UserId;
use crate::registry::{Candidate, NameRedaction};
use crate::telemetry::Limit;

/// Most live dispatches of one hub. Publishers have room for far fewer.
const MAX_LIVE: usize = 65_536;

/// A task that was dispatched to a row. Dropping it cancels the task if it has not ended.
pub(crate) struct Dispatch {
    hub: Arc<Hub>,
    /// The task's id.
    pub(super) id: String,
    pieces: mpsc::Receiver<ResponsePiece>,
    idle: IdleTimeout,
    /// Hides names in the publisher's error texts.
    pub(super) mask: NameRedaction,
}

/// The call that a dispatch serves.
#[derive(Debug, Clone, Copy)]
pub(super) struct DispatchedCall<'a> {
    /// The name that was called: the row's, a pool's or an agent's.
    pub(super) called: &'a str,
    /// The user whose unread bytes the response counts for.
    pub(super) reader: &'a UserId,
    pub(super) streaming: bool,
    pub(super) format: EventFormat,
}

/// What a publisher is told to do.
#[derive(Debug)]
pub(super) enum DispatchPayload<'a> {
    Infer {
        streaming: bool,
        endpoint: Endpoint,
        request: &'a RequestBody,
        /// Replaces the request's `model`.
        model: Option<&'a str>,
        /// Replaces the request's `stream_options`.
        usage: Option<&'a UsageOptions>,
        /// Request headers to forward.
        headers: &'a [(String, String)],
    },
    /// Start the backend.
    Wake,
}

impl Dispatch {
    /// Registers a dispatch on the row of `candidate` without sending it. Takes over `reservation`. With `receipt`, the
    /// response to the publisher's last POST waits for the commit of the task's end.
    pub(super) fn open(
        hub: &Arc<Hub>,
        candidate: &Candidate,
        call: DispatchedCall<'_>,
        reservation: Option<Reservation>,
        receipt: Option<CommitReceipt>,
    ) -> Result<(Self, ResponseChannel), ApiError> {
        let DispatchedCall { called, reader, streaming, format } = call;
        let (channel, pieces) = ResponseChannel::new(hub.unread_of(reader));
        let state = DispatchState {
            user: candidate.owner.clone(),
            session: candidate.session.clone(),
            row: candidate.name.as_str().into(),
            called: (called != candidate.name).then(|| called.into()),
            streaming,
            format,
            can_cancel: candidate.features.has(Feature::Cancel),
            channel: channel.clone(),
            started: false,
            next_seq: 0,
            stream: None,
            assembly: None,
            sent: None,
            receipt,
        };
        let id = hub.cluster.task_id();
        {
            let mut dispatches = hub.dispatches.lock();
            if dispatches.len() >= MAX_LIVE {
                let error = ApiError::new(ErrorKind::HubBusy, "the hub is busy, try again later");
                return Err(error.refused_by(Limit::Dispatches));
            }
            dispatches.insert(id.clone(), state);
        }
        match reservation {
            Some(reservation) => reservation.keep(),
            None => hub.registry.lock().task_started(&candidate.name, &candidate.owner),
        }
        // From here on, the drop of the handle ends the dispatch.
        let idle =
            IdleTimeout::new(idle_timeout::limit(hub.options.timings.stream_idle_timeout, candidate.timeout));
        Ok((Self { hub: hub.clone(), id, pieces, idle, mask: NameRedaction::default() }, channel))
    }

    /// Puts the task on the publisher's channel, for `caller`; see [`Hub::reach_row`]. While its process lives, a publisher runs
    /// an id once, however often it is sent.
    pub(super) fn send(
        &self,
        candidate: &Candidate,
        caller: &str,
        payload: &DispatchPayload<'_>,
    ) -> Result<(), ApiError> {
        let session = candidate.session.as_deref().ok_or_else(away)?;
        let id = TaskId::parse(self.id.as_str()).map_err(ApiError::internal)?;
        let data = match payload {
            DispatchPayload::Wake => vec![wake_data(&id, &candidate.name).into()],
            DispatchPayload::Infer { streaming, endpoint, request, model, usage, headers } => {
                // The request may be large. It is one line already, so its bytes are sent without a copy.
                let (before, after) = infer_frame(&id, &candidate.name, *streaming, *endpoint, headers);
                let mut pieces = request.pieces(*model, *usage);
                pieces.insert(0, before.into());
                pieces.push(after.into());
                pieces
            }
        };
        let event = Event::task(&self.id, data);
        let sent = self.hub.channels.send(session, caller, event).map_err(|error| match error {
            SendError::Unreachable => away(),
            // The publisher does not read.
            SendError::Full => away().refused_by(Limit::Channel),
            SendError::CallerLimit => {
                let text = "the publisher has not read your other requests yet, try again later";
                ApiError::new(ErrorKind::HubBusy, text).refused_by(Limit::ChannelShare)
            }
        })?;
        self.hub.note_sent(&self.id, session, sent, candidate.features.has(Feature::Cancel));
        Ok(())
    }

    /// Withdraws the task's event from the channel of `candidate` unless the publisher has read all of it. Returns whether it
    /// was withdrawn.
    pub(super) fn withdraw(&self, candidate: &Candidate) -> bool {
        let Some(session) = &candidate.session else { return false };
        let is_withdrawn = {
            let mut dispatches = self.hub.dispatches.lock();
            let Some(state) = dispatches.get_mut(&self.id) else { return false };
            let Some(sent) = &state.sent else { return false };
            let is_withdrawn = sent.event.withdraw(state.can_cancel);
            if is_withdrawn && !sent.is_resent {
                state.sent = None;
            }
            is_withdrawn
        };
        is_withdrawn || self.hub.links.withdraw(session, &self.id)
    }

    /// The next piece; `None` when the publisher was lost.
    pub(crate) async fn next(&mut self) -> Option<ResponsePiece> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next piece. The idle timeout runs only while the channel is empty, so a slow reader cannot cause it.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<ResponsePiece>> {
        if let Poll::Ready(piece) = self.pieces.poll_recv(cx) {
            if let Some(ResponsePiece::Events { .. }) = piece {
                self.idle.restart();
            }
            return Poll::Ready(piece.map(|piece| piece.masked(&self.mask)));
        }
        self.idle.poll_elapsed(cx).map(|limit| {
            let text = format!("nothing came from the publisher for {} s", limit.as_secs_f64());
            Some(ResponsePiece::Error(ApiError::new(ErrorKind::StreamIdle, text)))
        })
    }
}

fn away() -> ApiError {
    ApiError::new(ErrorKind::PublisherAway, "the publisher is away, try again later")
}

impl Hub {
    /// Waits until the channel of a row that another hub has can be used from here.
    pub(crate) async fn reach_row(&self, candidate: &Candidate) -> Result<(), ApiError> {
        let Some(session) = candidate.session.as_deref().filter(|_| candidate.is_elsewhere) else {
            return Ok(());
        };
        if self.reach(session).await { Ok(()) } else { Err(away()) }
    }
}

impl Drop for Dispatch {
    fn drop(&mut self) {
        self.hub.cancel_dispatch(&self.id);
    }
}
