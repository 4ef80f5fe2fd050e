//! Calls that other hubs pass on to this one. They run as if they had come over a connection of this hub.

mod requests;

use std::rc::Rc;
use std::sync::Arc;

use actix_http::Request;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::{HttpMessage, HttpResponse};
use bytes::{Bytes, BytesMut};
use futures_util::future::{LocalBoxFuture, abortable, poll_fn};
use futures_util::stream;

use super::Process;
use super::bus::Reply;
use super::calls::{About, AnswerHead, CallHead, lane};
use super::frame::Frame;
use super::parts::{Answered, Arrival, Asks};
use super::peers::Peers;
use crate::quota::BytesPermit;
pub(super) use requests::Served;
use requests::{Body, Taken};

/// Bytes of an answer that go in one message.
const ANSWER_PART: usize = 64 << 10;

/// Serves a request that another hub has passed on.
pub(crate) type Handler =
    Rc<dyn Fn(Request) -> LocalBoxFuture<'static, Result<ServiceResponse<BoxBody>, actix_web::Error>>>;

/// Extension of a request that another hub has passed on, which has checked the caller's token.
#[derive(Debug, Clone)]
pub(crate) struct Forwarded {
    /// The id of the token.
    pub(crate) token: String,
}

impl Peers {
    /// Runs a call of `from` whose request is whole.
    fn serve(
        self: &Arc<Self>,
        handler: &Handler,
        (from, number): (Process, u64),
        is_large: bool,
        head: CallHead,
        body: Body,
    ) {
        let (peers, handler) = (self.clone(), handler.clone());
        let (run, handle) = abortable(async move {
            let answered = async {
                let response = match handler(request(&head, body)?).await {
                    Ok(response) => response.into_parts().1,
                    Err(error) => error.error_response(),
                };
                peers.answer((from, number), is_large, &head.user, response).await
            };
            if answered.await.is_none() {
                log::debug!("a call of {from} ended without its answer");
            }
            peers.served.end((from, number));
        });
        if self.served.run((from, number), handle) {
            actix_rt::spawn(run);
        }
    }

    /// Sends an answer a part at a time.
    async fn answer(
        &self,
        (to, call): (Process, u64),
        is_large: bool,
        user: &str,
        response: HttpResponse,
    ) -> Option<()> {
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
        let begin = About::new(call, is_large, (0, false), of);
        self.send_part(to, lane, "head", user, begin, Bytes::new()).await.ok()?;
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
            let about = About::new(call, is_large, (part, last), ());
            self.send_part(to, lane, "part", user, about, bytes).await.ok()?;
            part += 1;
            if last {
                return Some(());
            }
        }
    }
}

/// The request as the routes read it. `None` if it is none.
fn request(head: &CallHead, body: Body) -> Option<Request> {
    let body: actix_http::BoxedPayloadStream =
        Box::pin(stream::unfold(body, |mut body| async move { Some((Ok(body.next()?), body)) }));
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

/// Takes a message about a call. Returns the reply, if it is to be sent now. A call counts in the `quota` of its caller.
pub(super) fn asked(
    peers: &Arc<Peers>,
    handler: &Handler,
    quota: impl Fn(&str) -> BytesPermit,
    frame: &Frame,
    reply: Reply,
) -> Option<Answered<Reply>> {
    let from = frame.from;
    let arrival = match &*frame.kind {
        "call" => match frame.data::<About<CallHead>>() {
            Some(about) if about.asks != Asks::Part => peers.served.arrival(from, &about),
            Some(About { call, lane, part, last, asks, of }) => Arrival::taken(
                peers.served.begin(from, call, of, quota)
                    && body(peers, handler, frame, &About { call, lane, part, last, asks, of: () }),
            ),
            None => Arrival::Unknown,
        },
        "body" => match frame.data::<About<()>>() {
            Some(about) if about.asks != Asks::Part => peers.served.arrival(from, &about),
            about => Arrival::taken(about.is_some_and(|about| body(peers, handler, frame, &about))),
        },
        "still" => {
            Arrival::taken(frame.data::<About<()>>().is_some_and(|about| peers.served.has(from, about.call)))
        }
        "head" => Arrival::taken(
            frame.data::<About<AnswerHead>>().is_some_and(|about| peers.calls.head(from, about)),
        ),
        "part" => match frame.data::<About<()>>() {
            Some(about) => return peers.calls.part(from, &about, frame.body.clone(), reply),
            None => Arrival::Unknown,
        },
        _ => Arrival::Unknown,
    };
    Some((reply, arrival))
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
