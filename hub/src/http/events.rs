//! `GET /api/v1/events`: what the caller may see of the hub, as server-sent events.
//!
//! `hello` names the caller, `snapshot` has the current state or its first page, each `change` has a further page or
//! differences. `null` stands for something that was removed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream;
use serde::Serialize;
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use wire::sse::write_event;

use super::openapi::{Routes, about};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::hub::HubData;
use crate::model::{Caller, Role};
use crate::quota::{BytesPermit, Quota, QuotaPermit};
use crate::telemetry::{Limit, Watcher};

/// Time between two polls for changes; the cost of a poll grows with the number of changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time without an event after which a comment is sent: proxies cut idle connections after 60 s, some after 30.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Bytes of changes that a watcher gets in [`POLL_INTERVAL`] once it has the current state; further ones wait, and of several
/// changes of an object the last is sent. So a publisher that changes its rows all the time costs others little.
const PUSHED_BYTES: usize = 512 << 10;
/// Bytes that a stream holds if it is not read: an event, and the server's copy of it.
const HELD_BYTES: usize = 256 << 10;
/// Largest number of open streams: a poll takes a fifth of a millisecond if 100 tasks changed.
const MAX_WATCHERS: usize = 256;
/// Streams reserved for admins, who need to see what fills the others.
const RESERVED: usize = 16;

pub(super) fn register(routes: &mut Routes<'_>) {
    let about = about("What the caller may see, and what changes of it, as server-sent events");
    let about = about.returns_media(200, "text/event-stream").refuses(&[ErrorKind::HubStopping]);
    routes.data(Data::new(Watchers::default())).get("/api/v1/events", open, about);
}

/// The number of open streams, in total and of each user.
#[derive(Default)]
struct Watchers {
    total: AtomicUsize,
    by_user: Arc<Quota>,
}

/// An open stream, until it is dropped.
struct WatcherPermit {
    watchers: Arc<Watchers>,
    _permit: QuotaPermit,
}

impl Watchers {
    /// A permit for a stream of `caller`, whose user may have `max` of them.
    fn permit(self: Arc<Self>, caller: &Caller, max: usize) -> Result<WatcherPermit, ApiError> {
        let permit = self.by_user.take(&caller.user, max, "watchers", Limit::Watchers)?;
        let limit = if caller.role == Role::Admin { MAX_WATCHERS } else { MAX_WATCHERS - RESERVED };
        let open = self.total.fetch_add(1, Ordering::Relaxed);
        let permit = WatcherPermit { watchers: self, _permit: permit };
        if open < limit {
            return Ok(permit);
        }
        let text = format!("{limit} watch already: wait for some to leave");
        Err(ApiError::new(ErrorKind::Busy, text).refused_by(Limit::Watchers))
    }
}

impl Drop for WatcherPermit {
    fn drop(&mut self) {
        self.watchers.total.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Serialize)]
struct Hello<'a> {
    user: &'a str,
    role: &'static str,
    version: &'static str,
    /// `hub --public-url`.
    #[serde(rename = "hubUrl")]
    hub_url: Option<&'a str>,
}

async fn open(hub: HubData, watchers: Data<Watchers>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let hub = hub.into_inner();
    if hub.is_stopping() {
        return Err(ApiError::hub_stopping());
    }
    let permit = watchers.into_inner().permit(&caller, hub.options.limits.watchers)?;
    let bytes = hub.unread_of(&caller.user).take(HELD_BYTES)?;
    let hello = Hello {
        user: &caller.user,
        role: caller.role.as_str(),
        version: env!("CARGO_PKG_VERSION"),
        hub_url: hub.options.public_url.as_deref(),
    };
    let mut first = Vec::new();
    let data = serde_json::to_string(&hello).map_err(ApiError::internal)?;
    write_event(&mut first, Some("hello"), None, &data).map_err(ApiError::internal)?;
    let end = hub.end_for(&caller);
    let mut watcher = Watcher::new(caller);
    let update = hub.poll_changes(&mut watcher);
    write_event(&mut first, Some("snapshot"), None, update.text.as_deref().unwrap_or("{}"))
        .map_err(ApiError::internal)?;
    let mut poll = interval(POLL_INTERVAL);
    // One poll after a slow read is enough: it returns all changes.
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = Events {
        first: Some(first.into()),
        hub,
        watcher,
        more: update.more,
        is_current: !update.more,
        pushed: 0,
        poll,
        last_write: Instant::now(),
        end,
        _permit: (permit, bytes),
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::unfold(events, next)))
}

/// An open stream. It is polled only when its socket can be written, so it holds at most one event.
struct Events {
    first: Option<Bytes>,
    hub: Arc<Hub>,
    watcher: Watcher,
    /// Whether a further page follows the last event.
    more: bool,
    /// Whether the watcher has had the current state as a whole.
    is_current: bool,
    /// Bytes of changes since the last pause.
    pushed: usize,
    poll: Interval,
    last_write: Instant,
    /// Resolves when the token is revoked or the hub stops.
    end: LocalBoxFuture<'static, ()>,
    _permit: (WatcherPermit, BytesPermit),
}

async fn next(mut events: Events) -> Option<(Result<Bytes, Infallible>, Events)> {
    if let Some(first) = events.first.take() {
        return Some((Ok(first), events));
    }
    loop {
        let more = events.more && !(events.is_current && events.pushed >= PUSHED_BYTES);
        let pause = async {
            // Other connections get the thread between two pages.
            if more {
                yield_now().await;
            } else {
                events.poll.tick().await;
                events.pushed = 0;
            }
        };
        tokio::select! {
            biased;
            () = &mut events.end => return None,
            () = pause => (),
        }
        let update = events.hub.poll_changes(&mut events.watcher);
        events.more = update.more;
        events.is_current |= !update.more;
        events.pushed += update.text.as_ref().map_or(0, String::len);
        let out = match update.text {
            Some(text) => {
                let mut out = Vec::with_capacity(text.len() + 32);
                let name = if update.is_snapshot { "snapshot" } else { "change" };
                write_event(&mut out, Some(name), None, &text).ok()?;
                out.into()
            }
            None if events.more => continue,
            None if events.last_write.elapsed() >= KEEPALIVE => Bytes::from_static(b": quiet\n\n"),
            None => continue,
        };
        events.last_write = Instant::now();
        return Some((Ok(out), events));
    }
}
