//! A fake hub without sockets, for tests with a paused clock, and probe actors.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::prelude::*;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, pending};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::SessionId;
use wire::register::{Heartbeat, RegisterRequest};

use crate::hub_client::{ChannelBody, ControlChannel, HubApi, HubError};

/// A call to the hub.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum HubCall {
    Register(Value),
    Open(String),
    Upgrade(String),
    Beat(Value),
    Drain(String),
}

/// A hub that answers calls from prepared lists, and with success when a list is empty.
#[derive(Default)]
pub(crate) struct ScriptedHub {
    pub(crate) calls: RefCell<Vec<(Instant, HubCall)>>,
    pub(crate) registers: RefCell<VecDeque<Result<SessionId, HubError>>>,
    pub(crate) opens: RefCell<VecDeque<Result<(), HubError>>>,
    /// Whether requests for a channel get no answer.
    pub(crate) is_mute: Cell<bool>,
    pub(crate) beats: RefCell<VecDeque<Result<(), HubError>>>,
    /// Duration of a heartbeat call.
    pub(crate) beat_takes: Cell<Duration>,
    pub(crate) next_upgrade: Cell<Option<Instant>>,
    /// Whether an upgrade fails.
    pub(crate) refuses_upgrades: Cell<bool>,
    channels: RefCell<Vec<mpsc::UnboundedSender<Bytes>>>,
}

impl ScriptedHub {
    fn channel(&self) -> ControlChannel {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        self.channels.borrow_mut().push(sender);
        let body = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        ControlChannel::Events {
            body: ChannelBody::from_stream(body),
            no_link: "the hub is a fake".to_owned(),
        }
    }

    fn note(&self, call: HubCall) {
        self.calls.borrow_mut().push((Instant::now(), call));
    }

    /// Sends bytes on the newest channel. Returns `false` if the registrar has closed the channel.
    pub(crate) fn send(&self, text: &str) -> bool {
        let channels = self.channels.borrow();
        channels.last().expect("a channel").send(Bytes::copy_from_slice(text.as_bytes())).is_ok()
    }

    pub(crate) fn open_channels(&self) -> usize {
        self.channels.borrow().iter().filter(|channel| !channel.is_closed()).count()
    }

    pub(crate) fn close_channel(&self) {
        self.channels.borrow_mut().pop();
    }

    /// The times of the calls that `wanted` accepts.
    pub(crate) fn moments(&self, wanted: impl Fn(&HubCall) -> bool) -> Vec<Instant> {
        self.calls.borrow().iter().filter(|(_, call)| wanted(call)).map(|(at, _)| *at).collect()
    }

    pub(crate) fn opened(&self) -> usize {
        self.moments(|call| matches!(call, HubCall::Open(_))).len()
    }

    pub(crate) fn beat_bodies(&self) -> Vec<Value> {
        let body = |call: &HubCall| if let HubCall::Beat(body) = call { Some(body.clone()) } else { None };
        self.calls.borrow().iter().filter_map(|(_, call)| body(call)).collect()
    }

    pub(crate) fn registered(&self) -> Vec<Value> {
        let body =
            |call: &HubCall| if let HubCall::Register(body) = call { Some(body.clone()) } else { None };
        self.calls.borrow().iter().filter_map(|(_, call)| body(call)).collect()
    }
}

impl HubApi for ScriptedHub {
    fn register(&self, request: RegisterRequest) -> LocalBoxFuture<'static, Result<SessionId, HubError>> {
        self.note(HubCall::Register(serde_json::to_value(&request).expect("JSON")));
        let known = request.provider_session_id.unwrap_or_else(|| "sess-1".to_owned());
        let usual = || Ok(session(&known));
        let answer = self.registers.borrow_mut().pop_front().unwrap_or_else(usual);
        async move { answer }.boxed_local()
    }

    fn open_channel(&self, session: SessionId) -> LocalBoxFuture<'static, Result<ControlChannel, HubError>> {
        self.note(HubCall::Open(session.to_string()));
        if self.is_mute.get() {
            return pending().boxed_local();
        }
        let answer = self.opens.borrow_mut().pop_front().unwrap_or(Ok(())).map(|()| self.channel());
        async move { answer }.boxed_local()
    }

    fn next_upgrade(&self) -> Option<Instant> {
        self.next_upgrade.get()
    }

    fn upgrade(&self, session: SessionId) -> LocalBoxFuture<'static, Option<ControlChannel>> {
        self.note(HubCall::Upgrade(session.to_string()));
        let is_refused = self.refuses_upgrades.get();
        if !is_refused {
            self.next_upgrade.set(None);
        }
        let answer = (!is_refused).then(|| self.channel());
        async move { answer }.boxed_local()
    }

    fn heartbeat(&self, beat: Heartbeat) -> LocalBoxFuture<'static, Result<(), HubError>> {
        self.note(HubCall::Beat(serde_json::to_value(&beat).expect("JSON")));
        let answer = self.beats.borrow_mut().pop_front().unwrap_or(Ok(()));
        let takes = self.beat_takes.get();
        async move {
            tokio::time::sleep(takes).await;
            answer
        }
        .boxed_local()
    }

    fn drain(&self, session: SessionId) -> LocalBoxFuture<'static, Result<(), HubError>> {
        self.note(HubCall::Drain(session.to_string()));
        async { Ok(()) }.boxed_local()
    }
}

/// The error for a hub's answer with this status.
pub(crate) fn status(status: u16) -> HubError {
    HubError::Status { call: "provider-test", status, message: "no".to_owned(), retry_after: None }
}

/// The error for a hub that cannot be reached.
pub(crate) fn unreachable() -> HubError {
    HubError::Unreachable { call: "provider-test", reason: "away".to_owned(), nothing_taken: true }
}

pub(crate) fn session(id: &str) -> SessionId {
    SessionId::parse(id).expect("an id")
}

/// An actor that stores the messages it receives.
pub(crate) struct Probe<M> {
    received: Received<M>,
}

/// The messages that a probe has received.
pub(crate) type Received<M> = Rc<RefCell<Vec<M>>>;

/// Starts a probe for messages of type `M`.
pub(crate) fn probe<M>() -> (Recipient<M>, Received<M>)
where
    M: Message<Result = ()> + Send + Unpin + 'static,
    Context<Probe<M>>: ToEnvelope<Probe<M>, M>,
{
    let received = Received::<M>::default();
    let probe = Probe { received: Rc::clone(&received) };
    (probe.start().recipient(), received)
}

impl<M: Unpin + 'static> Actor for Probe<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Unpin + 'static> Handler<M> for Probe<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Self::Context) {
        self.received.borrow_mut().push(message);
    }
}

/// Advances the paused clock by `time`.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
