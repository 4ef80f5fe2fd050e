//! `GET /api/v1/llms/_provider-stream`: the control channel of a registrar (SPEC.md sections 3.2 and 4).

use std::convert::Infallible;
use std::sync::Arc;

use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream;
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use wire::Features;
use wire::features::{FEATURES_HEADER, Hello, SESSION_HEADER};
use wire::link::Tables;
use wire::sse::write_event;

use super::link;
use crate::channels::Receiver;
use crate::cluster::{HomeTables, Hosted};
use crate::error::ApiError;
use crate::http::elsewhere;
use crate::http::middleware::HeadOnly;
use crate::hub::Hub;
use crate::hub::HubData;
use crate::model::{Caller, UserId};
use crate::news::news;
use crate::offload::MAX_BURST;
use crate::random;
use crate::registry::UnknownSession;

pub(super) async fn open(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let hub = hub.into_inner();
    let header = |name| req.headers().get(name).and_then(|value| value.to_str().ok());
    let session = header(SESSION_HEADER)
        .ok_or_else(|| ApiError::bad_request(format!("the header {SESSION_HEADER} is missing")))?;
    if hub.is_leaving() {
        return Err(ApiError::hub_stopping());
    }
    if req.extensions().contains::<HeadOnly>() {
        elsewhere::know_session(&hub, &caller, session).await;
        // `HEAD` opens no channel and replaces none.
        let known = hub.registry.lock().owns_session(&caller, session);
        let head = HttpResponse::Ok().content_type("text/event-stream").finish();
        return if known { Ok(head) } else { Err(ApiError::not_found("session", session)) };
    }
    elsewhere::adopt(&hub, &caller, session).await?;
    let homes = match &hub.shared {
        Some(shared) => shared.peers.tables(session).await,
        None => HomeTables::new(),
    };
    let homes = match link::accept(&hub, &caller, &req, session, payload, homes)? {
        Ok(link) => return Ok(link),
        Err(homes) => homes,
    };
    let offered = header(FEATURES_HEADER).map(Features::parse);
    let stream_id = random::id("stream");
    let not_found = || ApiError::not_found("session", session);
    if !hub.registry.lock().owns_session(&caller, session) {
        return Err(not_found());
    }
    // Its answers come by POST from now on.
    hub.links.remove(session);
    let (events, guard) =
        open_channel(&hub, &caller, session, &stream_id, offered).map_err(|UnknownSession| not_found())?;
    let hello = hello(offered.is_some(), &stream_id).map_err(ApiError::internal)?;
    let period = hub.options.timings.ping_interval;
    let mut ping = interval_at(Instant::now() + period, period);
    // After a delay, one ping is enough.
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = hub.end_for(&caller);
    let hosted = hub.shared.as_ref().map(|shared| {
        let homes = homes.into_iter().map(|(home, _)| (home, Tables::new())).collect();
        hub.host(shared, session, &stream_id, &caller.user, false, homes)
    });
    let channel = Channel { hello: Some(hello), events, burst: 0, ping, end, _hosted: hosted, _guard: guard };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::unfold(channel, next)))
}

/// Opens the channel of a session, and sends again what may be lost with an older one. `offered` are the features that the
/// registrar named. The channel closes with the guard.
pub(super) fn open_channel(
    hub: &Arc<Hub>,
    caller: &Caller,
    session: &str,
    stream_id: &str,
    offered: Option<Features>,
) -> Result<(Receiver, ChannelGuard), UnknownSession> {
    let features = Features::ALL.negotiated(offered.unwrap_or(Features::CLASSIC));
    let opened = hub.note(|registry| {
        let mut opened = registry.open(caller, session, stream_id.to_owned(), features, hub.now())?;
        let changes = std::mem::take(&mut opened.changes);
        Ok((opened, changes))
    })?;
    let most = hub.options.limits.bytes;
    let events = hub.channels.open(session, stream_id, offered.is_some(), &caller.user, most);
    hub.watch.metrics.publishers.set(i64::try_from(hub.channels.len()).unwrap_or(i64::MAX));
    if opened.again {
        let shared = hub.registry.lock().has_public_entries(session);
        hub.watch.counters(shared).for_each(|metrics| metrics.reconnects.inc());
    }
    hub.resend_unstarted(session);
    {
        let mut registry = hub.registry.lock();
        hub.channel_opened(&registry, session);
        hub.offer_rows_of(&mut registry, session);
    }
    if opened.replaced.is_some() {
        news!(
            warn,
            "channels that replace one",
            &caller.user,
            [user = caller.user, session = session],
            "channel of {session} opened, replaces one that was still open: its registrar came back, or two registrars have copies of one session file"
        );
    } else {
        news!(
            info,
            "channels opened",
            &caller.user,
            [user = caller.user, session = session],
            "channel of {session} opened"
        );
    }
    let (hub, user) = (hub.clone(), caller.user.clone());
    Ok((events, ChannelGuard { hub, user, session: session.into(), stream_id: stream_id.to_owned() }))
}

/// The first event. It has the hub's features for a registrar that named its own, and is that of a classic hub otherwise.
fn hello(negotiates: bool, stream_id: &str) -> Result<Bytes, Box<dyn std::error::Error>> {
    let data = if negotiates {
        let features = Features::ALL.names().map(str::to_owned).collect();
        serde_json::to_string(&Hello { features, stream_id: Some(stream_id.to_owned()) })?
    } else {
        "{}".to_owned()
    };
    let mut event = Vec::new();
    write_event(&mut event, Some("hello"), None, &data)?;
    Ok(event.into())
}

struct Channel {
    hello: Option<Bytes>,
    events: Receiver,
    /// Bytes written since the serving thread last ran other tasks.
    burst: usize,
    ping: Interval,
    /// Resolves when the token is revoked or the hub stops.
    end: LocalBoxFuture<'static, ()>,
    _hosted: Option<Hosted>,
    _guard: ChannelGuard,
}

async fn next(mut channel: Channel) -> Option<(Result<Bytes, Infallible>, Channel)> {
    const PING: &[u8] = b": ping\n\n";

    if let Some(hello) = channel.hello.take() {
        return Some((Ok(hello), channel));
    }
    if channel.burst >= MAX_BURST {
        channel.burst = 0;
        // Not in the `select!` below, where a ping could come between two parts of an event.
        yield_now().await;
    }
    let event = tokio::select! {
        biased;
        event = channel.events.next() => event?,
        () = &mut channel.end => return None,
        _ = channel.ping.tick() => Bytes::from_static(PING),
    };
    channel.burst += event.len();
    Some((Ok(event), channel))
}

/// Closes the channel when its body is dropped, whatever the reason.
pub(super) struct ChannelGuard {
    hub: Arc<Hub>,
    user: UserId,
    session: String,
    stream_id: String,
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        self.hub.channels.close(&self.session, &self.stream_id);
        let open = i64::try_from(self.hub.channels.len()).unwrap_or(i64::MAX);
        self.hub.watch.metrics.publishers.set(open);
        let now = self.hub.now();
        let closed = self.hub.note(|registry| {
            let changes = registry.close(&self.session, &self.stream_id, now).ok_or(())?;
            self.hub.offer_rows_of(registry, &self.session);
            Ok::<_, ()>(((), changes))
        });
        if closed.is_err() {
            return;
        }
        let (user, session) = (&self.user, &self.session);
        news!(info, "channels closed", user, [user = user, session = session], "channel of {session} closed");
        self.hub.clone().lose_later(self.session.clone(), now);
    }
}
