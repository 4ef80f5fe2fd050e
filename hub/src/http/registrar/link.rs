//! The link of a registrar: the WebSocket that carries its tasks and their answers (SPEC.md section 4.1).
//!
//! All of it runs in the task of the connection, so that the scheduler of connections counts it as the work of its user: the
//! body of the response with status 101 reads frames, passes answers on and writes frames. While the registrar does not read,
//! the server leaves the body alone, and a companion of the connection does all but the writing: answers do not wait for
//! requests. What outlives the connection is in [`crate::links`].

mod accept;
mod answers;
mod beats;
mod input;

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_codec::Encoder;
use actix_http::ws;
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::{Interval, Sleep};
use wire::Features;
use wire::link::Frame;

pub(crate) use accept::accept;
pub(crate) use answers::pass_on_answer;
use beats::Beat;

use super::channel::ChannelGuard;
use crate::channels::Receiver;
use crate::cluster::{HomeTables, Hosted};
use crate::hub::Hub;
use crate::links::SessionLink;
use crate::model::Caller;
use crate::quota::{ByteQuota, BytesPermit};

/// Longest hello and resume in bytes, of some 30 tasks, that the quota of the connection covers.
const UNCOUNTED: usize = 4 << 10;
/// Bytes that are read, and written, before other connections have their turn.
const BURST: usize = 64 << 10;

/// The body of the response.
struct LinkBody(Rc<RefCell<LinkConnection>>);

struct LinkConnection {
    /// Whether the server has polled the body since the companion was polled.
    was_polled: bool,
    /// The session's channel, once the registrar has answered the hello: no task is sent before.
    channel: Option<(Receiver, ChannelGuard)>,
    resume_timeout: Pin<Box<Sleep>>,
    payload: Payload,
    /// Bytes of an incomplete WebSocket frame.
    input: BytesMut,
    output: BytesMut,
    codec: ws::Codec,
    /// Longest message that is read, in bytes.
    max_input: usize,
    /// Counts the hello and the resume until that has come.
    greeting: BytesPermit,
    /// Counts `input` and `output`, but for what a connection is counted for.
    buffered: BytesPermit,
    /// The answers that are being passed on.
    answers: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    /// The heartbeat that was not answered yet.
    beat: Beat,
    /// Resolves when the hub shuts down, until the registrar was told.
    leaving: Option<LocalBoxFuture<'static, ()>>,
    ping: Interval,
    /// Resolves when the token is revoked or the hub stops.
    end: LocalBoxFuture<'static, ()>,
    /// Whether the connection ends when `output` is written.
    is_over: bool,
    connection: u64,
    link: Arc<SessionLink>,
    /// Other hubs with tasks on the session, until the registrar has answered the hello.
    homes: HomeTables,
    /// What tasks of other hubs do on the link, once the registrar has answered.
    hosted: Option<Hosted>,
    stream_id: String,
    features: Features,
    session: String,
    caller: Caller,
    /// The quota of the caller's results.
    results: ByteQuota,
    hub: Arc<Hub>,
}

/// Why a link ends, for the log.
type Fault = &'static str;

impl LinkConnection {
    fn write(&mut self, message: ws::Message) {
        // Fails only for an unfinished continuation, which is never sent.
        let _ = self.codec.encode(message, &mut self.output);
    }

    /// Ends the connection. The close frame has the registrar close it at once; the server itself waits for that.
    fn close(&mut self) {
        if !self.is_over {
            self.write(ws::Message::Close(None));
            self.is_over = true;
        }
    }

    /// Fills the output with up to [`BURST`] bytes.
    fn fill(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(answer) = self.beat.poll_answer(cx) {
            self.write(ws::Message::Binary(answer));
        }
        while self.output.len() < BURST && !self.is_over {
            let Some((events, _)) = &mut self.channel else { return };
            let own = self.link.poll_frame(self.connection, cx, |cx| events.poll_event(cx));
            let of_others = self.hosted.as_ref().map_or(Poll::Pending, |hosted| hosted.poll_frame(cx));
            if own.is_pending() && of_others.is_pending() {
                return;
            }
            if matches!(of_others, Poll::Ready(None)) {
                let (session, stream) = (&self.session, &self.stream_id);
                self.hub.registry.lock().await_return(session, stream, self.hub.now());
            }
            for frame in [own, of_others] {
                match frame {
                    Poll::Ready(Some(frame)) => self.write(ws::Message::Binary(frame)),
                    Poll::Ready(None) => self.close(),
                    Poll::Pending => (),
                }
            }
        }
    }

    /// Tells the registrar once that the hub shuts down. If tasks run on the link and there are other hubs, the link
    /// ends instead: they go on at the hub to which the registrar connects.
    fn tell_if_leaving(&mut self, cx: &mut Context<'_>) {
        if self.channel.is_some()
            && !self.is_over
            && self.leaving.as_mut().is_some_and(|leaving| leaving.poll_unpin(cx).is_ready())
        {
            self.leaving = None;
            let has_tasks = self.link.has_tasks() || self.hosted.as_ref().is_some_and(Hosted::has_tasks);
            if has_tasks && self.hub.shared.as_ref().is_some_and(|shared| shared.has_others()) {
                return self.close();
            }
            if let Some(hosted) = &self.hosted {
                hosted.leave();
            }
            let going = self.hub.links.going();
            self.write(ws::Message::Binary(Frame::Going(going).encode()));
        }
    }

    /// Runs what can be run while the registrar does not read.
    fn poll_beside(&mut self, cx: &mut Context<'_>) {
        if std::mem::take(&mut self.was_polled) || self.is_over {
            return;
        }
        self.poll_read(cx);
        self.poll_work(cx);
        self.count_buffers();
        if self.is_over {
            // The rest may never be written.
            self.channel = None;
        }
    }

    /// Runs what can be run now, but for reading and writing.
    fn poll_work(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(())) = self.answers.poll_next_unpin(cx) {}
        self.tell_if_leaving(cx);
        if self.end.poll_unpin(cx).is_ready() {
            // What was decided about the last answers.
            while let Some(frame) = self.link.next_control(self.connection) {
                self.write(ws::Message::Binary(frame));
            }
            // A newer connection, with another token, may carry the link.
            self.hub.links.remove_carried_by(&self.session, &self.link, self.connection);
            self.close();
        }
        if self.channel.is_none() && self.resume_timeout.poll_unpin(cx).is_ready() {
            self.close();
        }
        while self.ping.poll_tick(cx).is_ready() {
            self.write(ws::Message::Ping(Bytes::new()));
        }
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.was_polled = true;
        if !self.is_over {
            self.poll_read(cx);
            self.poll_work(cx);
            self.fill(cx);
        }
        let output = self.output.split().freeze();
        self.count_buffers();
        if !output.is_empty() {
            return Poll::Ready(Some(output));
        }
        if self.is_over { Poll::Ready(None) } else { Poll::Pending }
    }
}

impl Stream for LinkBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_output(cx).map(|output| output.map(Ok))
    }
}

/// The session's tasks run on: answers that have begun wait for the next connection.
impl Drop for LinkConnection {
    fn drop(&mut self) {
        self.link.disconnect(self.connection);
        if self.channel.is_none() {
            self.hub.links.remove_unused(&self.session);
        }
        let answers = std::mem::take(&mut self.answers);
        if !answers.is_empty() && tokio::runtime::Handle::try_current().is_ok() {
            actix_rt::spawn(answers.collect::<()>());
        }
    }
}
