//! Calls that other hubs pass on to this one. They run as if they had come over a connection of this hub.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::Request;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::{HttpMessage, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures_util::future::{AbortHandle, LocalBoxFuture, abortable, poll_fn};
use futures_util::stream;
use parking_lot::Mutex;

use super::Process;
use super::bus::Reply;
use super::calls::{About, AnswerHead, CallHead, lane};
use super::ended::Ended;
use super::frame::Frame;
use super::peers::Peers;

/// Bytes of an answer that go in one message.
const ANSWER_PART: usize = 64 << 10;
/// Largest request that is taken, in bytes: more than any that a hub reads.
const LARGEST: usize = 64 << 20;
/// Most calls of other hubs at once.
const MOST: usize = 20_000;

/// Serves a request that another hub has passed on.
pub(crate) type Handler =
    Rc<dyn Fn(Request) -> LocalBoxFuture<'static, Result<ServiceResponse<BoxBody>, actix_web::Error>>>;

/// Extension of a request that another hub has passed on, which has checked the caller's token.
#[derive(Debug, Clone)]
pub(crate) struct Forwarded {
    /// The id of the token.
    pub(crate) token: String,
}

/// Calls of other hubs that have not ended, by the process that passed them on and their number there.
#[derive(Default)]
pub(super) struct Served {
    open: Mutex<HashMap<(Process, u64), ServedCall>>,
    /// Calls that have ended: a message that comes twice begins none again.
    ended: Mutex<Ended>,
}

struct ServedCall {
    /// The request, until all of it has come.
    request: Option<(CallHead, BytesMut)>,
    /// Number of the part of the request that comes next.
    next: u64,
    running: Option<AbortHandle>,
}

impl Drop for ServedCall {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl Served {
    pub(super) fn cancel(&self, from: Process, call: u64) {
        self.end((from, call));
    }

    fn end(&self, call: (Process, u64)) {
        self.ended.lock().add(call);
        self.open.lock().remove(&call);
    }

    /// Ends all calls of `process`.
    pub(super) fn lose(&self, process: Process) {
        let mut open = self.open.lock();
        let lost: Vec<_> = open.keys().filter(|(from, _)| *from == process).copied().collect();
        for call in lost {
            self.ended.lock().add(call);
            open.remove(&call);
        }
    }

    pub(super) fn lose_all(&self) {
        let all: Vec<_> = self.open.lock().keys().copied().collect();
        for call in all {
            self.end(call);
        }
    }

    /// Whether a call of `from` has not ended.
    fn has(&self, from: Process, call: u64) -> bool {
        self.open.lock().contains_key(&(from, call))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Takes the head of a call. `false` if it is refused.
    pub(super) fn begin(&self, from: Process, call: u64, head: CallHead) -> bool {
        let mut open = self.open.lock();
        if open.contains_key(&(from, call)) {
            return true;
        }
        if open.len() >= MOST || self.ended.lock().has((from, call)) {
            return false;
        }
        open.insert(
            (from, call),
            ServedCall { request: Some((head, BytesMut::new())), next: 0, running: None },
        );
        true
    }

    /// Takes a part of a request.
    fn part(&self, from: Process, about: &About<()>, bytes: &Bytes) -> Taken {
        let mut open = self.open.lock();
        let Some(call) = open.get_mut(&(from, about.call)) else { return Taken::Refused };
        if about.part < call.next {
            return Taken::Partial;
        }
        let Some((_, body)) = call.request.as_mut() else { return Taken::Refused };
        if about.part > call.next || body.len() + bytes.len() > LARGEST {
            return Taken::Refused;
        }
        call.next += 1;
        body.extend_from_slice(bytes);
        match call.request.take_if(|_| about.last) {
            Some((head, body)) => Taken::Whole(Box::new(head), body.freeze()),
            None => Taken::Partial,
        }
    }
}

/// A request of which a part has come.
enum Taken {
    /// The call has ended, a part is missing, or it is too large.
    Refused,
    Partial,
    Whole(Box<CallHead>, Bytes),
}

impl Peers {
    /// Runs a call of `from` whose request is whole.
    pub(super) fn serve(
        self: &Arc<Self>,
        handler: &Handler,
        (from, number): (Process, u64),
        is_large: bool,
        head: CallHead,
        body: Bytes,
    ) {
        let (peers, handler) = (self.clone(), handler.clone());
        let (run, handle) = abortable(async move {
            let answered = async {
                let response = match handler(request(&head, body)?).await {
                    Ok(response) => response.into_parts().1,
                    Err(error) => error.error_response(),
                };
                peers.answer((from, number), is_large, response).await
            };
            if answered.await.is_none() {
                log::debug!("a call of {from} ended without its answer");
            }
            peers.served.end((from, number));
        });
        if let Some(call) = self.served.open.lock().get_mut(&(from, number)) {
            call.running = Some(handle);
            actix_rt::spawn(run);
        }
    }

    /// Sends an answer a part at a time.
    async fn answer(&self, (to, call): (Process, u64), is_large: bool, response: HttpResponse) -> Option<()> {
        let lane = lane(is_large);
        let (response, body) = response.into_parts();
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.to_string(), value.to_str().ok()?.to_owned()))
        };
        let of = AnswerHead {
            status: response.status().as_u16(),
            headers: response.headers().iter().filter_map(header).collect(),
            size: match body.size() {
                BodySize::None => Some(0),
                BodySize::Sized(size) => Some(size),
                BodySize::Stream => None,
            },
        };
        let begin = About { call, lane: is_large, part: 0, last: false, of };
        self.send_part(to, lane, "head", &begin, Bytes::new()).await.ok()?;
        let (mut body, mut part, mut rest) = (Box::pin(body), 0, BytesMut::new());
        loop {
            let mut is_over = false;
            while rest.len() < ANSWER_PART && !is_over {
                let has_some = !rest.is_empty();
                // What is ready goes together; nothing waits for what is not.
                let next = poll_fn(|cx| match body.as_mut().poll_next(cx) {
                    std::task::Poll::Pending if has_some => std::task::Poll::Ready(Err(())),
                    other => other.map(Ok),
                });
                match next.await {
                    Ok(Some(Ok(bytes))) => rest.extend_from_slice(&bytes),
                    // The caller reads a body that ends too early.
                    Ok(Some(Err(_))) => return None,
                    Ok(None) => is_over = true,
                    Err(()) => break,
                }
            }
            let bytes = rest.split_to(rest.len().min(ANSWER_PART)).freeze();
            let last = is_over && rest.is_empty();
            self.send_part(to, lane, "part", &About { call, lane: is_large, part, last, of: () }, bytes)
                .await
                .ok()?;
            part += 1;
            if last {
                return Some(());
            }
        }
    }
}

/// The request as the routes read it. `None` if it is none.
fn request(head: &CallHead, body: Bytes) -> Option<Request> {
    let body: actix_http::BoxedPayloadStream = Box::pin(stream::once(async { Ok(body) }));
    let mut request = Request::with_payload(Payload::from(body));
    let to = request.head_mut();
    to.method = Method::from_bytes(head.method.as_bytes()).ok()?;
    to.uri = head.uri.parse::<Uri>().ok()?;
    to.peer_addr = head.address.map(|address| (address, 0).into());
    for (name, value) in &head.headers {
        to.headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    request.extensions_mut().insert(Forwarded { token: head.token.clone() });
    Some(request)
}

/// Takes a message about a call. Returns the reply, if it is to be sent now.
pub(super) fn asked(
    peers: &Arc<Peers>,
    handler: &Handler,
    frame: &Frame,
    reply: Reply,
) -> Option<(Reply, bool)> {
    let from = frame.from;
    match &*frame.kind {
        "call" => {
            let Some(about) = frame.data::<About<CallHead>>() else { return Some((reply, false)) };
            let About { call, lane, part, last, of } = about;
            let is_taken = peers.served.begin(from, call, of)
                && body(peers, handler, frame, &About { call, lane, part, last, of: () });
            Some((reply, is_taken))
        }
        "body" => {
            let is_taken = frame.data().is_some_and(|about| body(peers, handler, frame, &about));
            Some((reply, is_taken))
        }
        "still" => {
            let is_served = frame.data::<About<()>>().is_some_and(|about| peers.served.has(from, about.call));
            Some((reply, is_served))
        }
        "head" => {
            let is_taken =
                frame.data::<About<AnswerHead>>().is_some_and(|about| peers.calls.head(from, about));
            Some((reply, is_taken))
        }
        "part" => match frame.data::<About<()>>() {
            Some(about) => peers.calls.part(from, &about, frame.body.clone(), reply),
            None => Some((reply, false)),
        },
        _ => Some((reply, false)),
    }
}

/// Takes a part of a request, and runs the call behind the last one.
fn body(peers: &Arc<Peers>, handler: &Handler, frame: &Frame, about: &About<()>) -> bool {
    match peers.served.part(frame.from, about, &frame.body) {
        Taken::Refused => return false,
        Taken::Partial => {}
        Taken::Whole(head, body) => {
            peers.serve(handler, (frame.from, about.call), about.lane, *head, body);
        }
    }
    true
}
