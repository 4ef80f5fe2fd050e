//! Calls that this hub passes on to another one: the request as it is, and the answer as a stream.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Process;
use super::bus::{Lane, Reply, To, Unanswered};
use super::frame::Frame;
use super::parts::{Answered, Arrival, Asks, Parts};
use super::peers::Peers;
use super::sending::{ANSWER_WITHIN, TAKEN};
use crate::model::UserId;

/// Bytes of a request that go in one message.
pub(super) const REQUEST_PART: usize = 512 << 10;
/// Requests up to this size use the connection for small messages.
pub(super) const SMALL: usize = 4 << 10;
/// Time between two questions whether the other hub still serves a call.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// The head of a request that is passed on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CallHead {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: Vec<(String, String)>,
    /// The id of the caller's token.
    pub(crate) token: String,
    /// The caller, whose turn it takes.
    pub(crate) user: UserId,
    /// The caller's address.
    pub(crate) address: Option<std::net::IpAddr>,
}

/// A message about a call: its number among those of the process that passed it on, and that of the part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About<T> {
    pub(super) call: u64,
    pub(super) lane: bool,
    #[serde(default)]
    pub(super) part: u64,
    #[serde(default)]
    pub(super) last: bool,
    #[serde(default)]
    pub(super) asks: Asks,
    pub(super) of: T,
}

impl<T> About<T> {
    /// A message about a part of a call.
    pub(super) fn new(call: u64, lane: bool, (part, last): (u64, bool), of: T) -> Self {
        Self { call, lane, part, last, asks: Asks::Part, of }
    }
}

/// The head of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AnswerHead {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Bytes of the body, if they are known.
    pub(crate) size: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The other hub is not there: it has not begun the call.
    NotThere,
    /// The other hub, or the network, left. It may have begun the call.
    Lost,
}

/// An answer. Its body ends the call when it is dropped.
pub(crate) struct Answer {
    pub(crate) head: AnswerHead,
    pub(crate) body: AnswerBody,
}

/// Calls that were passed on and have not ended.
#[derive(Default)]
pub(super) struct Calls {
    last: AtomicU64,
    open: Mutex<HashMap<u64, Arc<OpenCall>>>,
}

struct OpenCall {
    to: Process,
    head: Mutex<Option<oneshot::Sender<AnswerHead>>>,
    parts: Mutex<Parts<Reply>>,
}

impl OpenCall {
    fn break_off(&self) {
        self.head.lock().take();
        self.parts.lock().break_off();
    }
}

impl Calls {
    /// Ends all calls that were passed on to `process`.
    pub(super) fn lose(&self, process: Process) {
        self.open.lock().values().filter(|call| call.to == process).for_each(|call| call.break_off());
    }

    /// Ends all calls.
    pub(super) fn lose_all(&self) {
        self.open.lock().values().for_each(|call| call.break_off());
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Takes the head of an answer. `false` if nobody waits for it.
    pub(super) fn head(&self, from: Process, about: About<AnswerHead>) -> bool {
        let open = self.open.lock();
        let Some(call) = open.get(&about.call).filter(|call| call.to == from) else { return false };
        let waiting = call.head.lock().take();
        // It comes again if the answer to it was late.
        waiting.is_none_or(|waiting| waiting.send(about.of).is_ok())
    }

    /// Takes a part of an answer. Returns the reply if it is to be sent now.
    pub(super) fn part(
        &self,
        from: Process,
        about: &About<()>,
        bytes: Bytes,
        reply: Reply,
    ) -> Option<Answered<Reply>> {
        let call = self.open.lock().get(&about.call).filter(|call| call.to == from).cloned();
        let Some(call) = call else { return Some((reply, Arrival::Unknown)) };
        call.parts.lock().arrive(about.part, about.asks, bytes, about.last, reply)
    }
}

/// The connection for a call with a request of `size` bytes: all its messages use one, so that none overtakes another.
pub(super) fn lane(is_large: bool) -> Lane {
    if is_large { Lane::Bulk } else { Lane::Ctl }
}

/// The connection for a message of `size` bytes whose order its part number tells.
pub(super) fn lane_of(size: usize) -> Lane {
    lane(size > SMALL)
}

impl Peers {
    /// Passes a call on to the hub `to`.
    pub(crate) async fn pass_on(
        self: &Arc<Self>,
        to: Process,
        head: CallHead,
        body: Bytes,
    ) -> Result<Answer, CallError> {
        let number = self.calls.last.fetch_add(1, Ordering::Relaxed) + 1;
        let is_large = body.len() > SMALL;
        let (sender, answer) = oneshot::channel();
        let call = Arc::new(OpenCall { to, head: Mutex::new(Some(sender)), parts: Mutex::default() });
        self.calls.open.lock().insert(number, call.clone());
        let watch = tokio::spawn(self.clone().watch(call.clone(), number, is_large));
        let guard = OpenGuard { peers: self.clone(), number, is_large, to, is_over: false, watch };
        let (mut rest, user) = (body, head.user.clone());
        let first = rest.split_to(rest.len().min(REQUEST_PART));
        let begin = About::new(number, is_large, (0, rest.is_empty()), head);
        let sent = self.send_part(to, lane(is_large), "call", &user, begin, first).await;
        sent.map_err(
            |error| if error == Unanswered::Nobody { CallError::NotThere } else { CallError::Lost },
        )?;
        for part in 1.. {
            if rest.is_empty() {
                break;
            }
            let next = rest.split_to(rest.len().min(REQUEST_PART));
            let about = About::new(number, is_large, (part, rest.is_empty()), ());
            let sent = self.send_part(to, lane(is_large), "body", &user, about, next).await;
            sent.map_err(|_| CallError::Lost)?;
        }
        let head = answer.await.map_err(|_| CallError::Lost)?;
        Ok(Answer { head, body: AnswerBody { call, guard } })
    }

    /// Ends a call of which the other hub does not know any more, or that cannot be asked.
    async fn watch(self: Arc<Self>, call: Arc<OpenCall>, number: u64, is_large: bool) {
        let mut late = 0;
        loop {
            sleep(WATCH_EVERY).await;
            let about = About::new(number, is_large, (0, false), ());
            let Ok(frame) = Frame::new(self.process, "still", &about) else { return };
            match self.bus.ask(call.to, lane(is_large), frame, ANSWER_WITHIN).await {
                Ok(answer) if answer.kind == TAKEN => late = 0,
                Err(Unanswered::Late) if late < 2 => late += 1,
                _ => return call.break_off(),
            }
        }
    }
}

/// Ends a call.
struct OpenGuard {
    peers: Arc<Peers>,
    number: u64,
    is_large: bool,
    to: Process,
    is_over: bool,
    watch: JoinHandle<()>,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.watch.abort();
        self.peers.calls.open.lock().remove(&self.number);
        let about = About::new(self.number, self.is_large, (0, false), ());
        if !self.is_over
            && let Ok(frame) = Frame::new(self.peers.process, "cancel", &about)
        {
            // If it is lost, the next part is answered with `unknown`.
            let _ = self.peers.bus.tell(To::Process(self.to, lane(self.is_large)), frame);
        }
    }
}

/// The body of an answer.
pub(crate) struct AnswerBody {
    call: Arc<OpenCall>,
    guard: OpenGuard,
}

impl Stream for AnswerBody {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.call.parts.lock().poll_next(cx));
        Poll::Ready(match next {
            Some(Ok((bytes, reply))) => {
                if let Some(reply) = reply {
                    self.guard.peers.reply(reply, Arrival::Taken);
                }
                Some(Ok(bytes))
            }
            Some(Err(_)) => Some(Err(std::io::Error::other("the other hub has left"))),
            None => {
                self.guard.is_over = true;
                None
            }
        })
    }
}
