//! The answer to a request for a link.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix_http::ws;
use actix_web::http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use wire::Features;
use wire::features::FEATURES_HEADER;
use wire::link::SUBPROTOCOL;

use super::beats::Beat;
use super::{LinkBody, LinkConnection, UNCOUNTED};
use crate::cluster::HomeTables;
use crate::connections::Connection;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::model::Caller;
use crate::quota::BytesPermit;
use crate::random;

/// Time in which a registrar has to answer the hello.
const RESUME_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts a request for a link, on which tasks of `homes` go on. `Err` if `req` asks for none, or not as RFC 6455 says: it gets
/// the SSE channel.
pub(crate) fn accept(
    hub: &Arc<Hub>,
    caller: &Caller,
    req: &HttpRequest,
    session: &str,
    payload: Payload,
    homes: HomeTables,
) -> Result<Result<HttpResponse, HomeTables>, ApiError> {
    let header = |name| req.headers().get(name).and_then(|value| value.to_str().ok());
    let protocols = header(SEC_WEBSOCKET_PROTOCOL.as_str()).unwrap_or_default();
    let is_wanted = protocols.split(',').any(|protocol| protocol.trim() == SUBPROTOCOL);
    let (true, Some(key), Some(features)) =
        (is_wanted, req.headers().get(SEC_WEBSOCKET_KEY), header(FEATURES_HEADER))
    else {
        return Ok(Err(homes));
    };
    if ws::verify_handshake(req.head()).is_err() {
        return Ok(Err(homes));
    }
    if !hub.registry.lock().owns_session(caller, session) {
        return Err(ApiError::not_found("session", session));
    }
    let stream_id = random::id("stream");
    let of_homes = homes.iter().map(|(_, tables)| tables.clone());
    let (link, connection, hello) = hub.links.connect(session, &stream_id, features, of_homes);
    let max_resume = hello.max_answer();
    let period = hub.options.timings.ping_interval;
    let mut ping = interval_at(Instant::now() + period, period);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut link = LinkConnection {
        was_polled: false,
        channel: None,
        resume_timeout: Box::pin(sleep(RESUME_TIMEOUT)),
        payload,
        input: BytesMut::new(),
        output: BytesMut::new(),
        codec: ws::Codec::new().max_size(max_resume),
        max_input: max_resume,
        greeting: BytesPermit::default(),
        buffered: hub.results_of(&caller.user).empty(),
        answers: FuturesUnordered::new(),
        beat: Beat::Idle,
        leaving: Some(hub.leaving()),
        ping,
        end: hub.end_for(caller),
        is_over: false,
        connection,
        link,
        homes,
        hosted: None,
        stream_id,
        features: Features::parse(features),
        session: session.to_owned(),
        results: hub.results_of(&caller.user),
        caller: caller.clone(),
        hub: hub.clone(),
    };
    // A registrar may open any number of connections, and neither read the hello nor answer it.
    let greeting = hello.frame.len() + max_resume;
    if greeting > UNCOUNTED {
        link.greeting = link.results.take(greeting)?;
    }
    link.write(ws::Message::Binary(hello.frame));
    let link = Rc::new(RefCell::new(link));
    if let Some(connection) = req.conn_data::<Rc<Connection>>() {
        let link = Rc::downgrade(&link);
        let companion = poll_fn(move |cx| match link.upgrade() {
            Some(link) => {
                link.borrow_mut().poll_beside(cx);
                Poll::Pending
            }
            None => Poll::Ready(()),
        });
        connection.accompany(companion.boxed_local());
    }
    let accepted = ws::hash_key(key.as_bytes());
    Ok(Ok(HttpResponse::SwitchingProtocols()
        .upgrade("websocket")
        .insert_header((SEC_WEBSOCKET_ACCEPT, &accepted[..]))
        .insert_header((SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL))
        .streaming(LinkBody(link))))
}
