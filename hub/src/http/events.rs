//! `GET /api/v1/events`: what the caller sees of the hub, live. `event: hello` names the caller, `event: snapshot` begins
//! with what there is, each `event: change` has more of that or what became different; `null` stands for what is gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{Data, ServiceConfig, get};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream;
use serde::Serialize;
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use wire::sse::write_event;

use super::HubData;
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::{Caller, Role};
use crate::quota::{Quota, QuotaPermit};
use crate::telemetry::Watcher;

/// Between two looks: quick enough for an eye; a look costs what has changed.
const LOOK: Duration = Duration::from_secs(1);
/// Silence for so long gets a comment: proxies cut idle connections after 60 s, some after 30.
const QUIET: Duration = Duration::from_secs(15);
/// Most watchers at once: a look costs what has changed, and a fifth of a millisecond for 100 tasks that did.
const WATCHERS: usize = 256;
/// Quota that are kept for admins: they want to see what fills the others.
const KEPT: usize = 16;

pub(super) fn register(config: &mut ServiceConfig) {
    let watchers = Data::new(Watchers::default());
    config.app_data(watchers).route("/api/v1/events", get().to(respond));
}

/// Who watches now.
#[derive(Default)]
struct Watchers {
    all: AtomicUsize,
    of_user: Arc<Quota>,
}

/// One of them, until it is dropped.
struct WatcherSeat {
    watchers: Arc<Watchers>,
    _seat: QuotaPermit,
}

impl Watchers {
    /// A seat, if the hub has one left for such a caller and its user may have one more.
    fn sit(self: Arc<Self>, caller: &Caller, most: usize) -> Result<WatcherSeat, ApiError> {
        let seat = self.of_user.take(&caller.user, most, "watchers")?;
        let seats = if caller.role == Role::Admin { WATCHERS } else { WATCHERS - KEPT };
        let taken = self.all.fetch_add(1, Ordering::Relaxed);
        let watcher = WatcherSeat { watchers: self, _seat: seat };
        if taken < seats {
            return Ok(watcher);
        }
        Err(ApiError::new(ErrorKind::Busy, format!("{seats} watch already: wait for some to leave")))
    }
}

impl Drop for WatcherSeat {
    fn drop(&mut self) {
        self.watchers.all.fetch_sub(1, Ordering::Relaxed);
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

async fn respond(hub: HubData, watchers: Data<Watchers>, caller: Caller) -> Result<HttpResponse, ApiError> {
    let hub = hub.into_inner();
    if hub.is_stopping() {
        return Err(ApiError::hub_stopping());
    }
    let seat = watchers.into_inner().sit(&caller, hub.options.limits.watchers)?;
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
    let told = hub.look(&mut watcher);
    write_event(&mut first, Some("snapshot"), None, told.text.as_deref().unwrap_or("{}"))
        .map_err(ApiError::internal)?;
    let mut look = interval(LOOK);
    // After a reader that was slow one look is enough: it tells all that changed.
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = Events {
        first: Some(first.into()),
        hub,
        watcher,
        more: told.more,
        look,
        said: Instant::now(),
        end,
        _seat: seat,
    };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::unfold(events, next)))
}

/// A watcher's stream. It is asked for more only when its socket has room, so it holds at most one event.
struct Events {
    first: Option<Bytes>,
    hub: Arc<Hub>,
    watcher: Watcher,
    /// There is more to tell than the last event had.
    more: bool,
    look: Interval,
    said: Instant,
    /// Resolves when the stream has to end.
    end: LocalBoxFuture<'static, ()>,
    _seat: WatcherSeat,
}

async fn next(mut events: Events) -> Option<(Result<Bytes, Infallible>, Events)> {
    if let Some(first) = events.first.take() {
        return Some((Ok(first), events));
    }
    loop {
        let more = events.more;
        let pause = async {
            // Between two pages everybody else has a turn.
            if more {
                yield_now().await;
            } else {
                events.look.tick().await;
            }
        };
        tokio::select! {
            biased;
            () = &mut events.end => return None,
            () = pause => (),
        }
        let told = events.hub.look(&mut events.watcher);
        events.more = told.more;
        let out = match told.text {
            Some(text) => {
                let mut out = Vec::with_capacity(text.len() + 32);
                let name = if told.anew { "snapshot" } else { "change" };
                write_event(&mut out, Some(name), None, &text).ok()?;
                out.into()
            }
            None if events.more => continue,
            None if events.said.elapsed() >= QUIET => Bytes::from_static(b": quiet\n\n"),
            None => continue,
        };
        events.said = Instant::now();
        return Some((Ok(out), events));
    }
}
