//! `GET /api/v1/events`: what the caller sees of the hub, live. `event: hello` names the caller, `event: snapshot` has
//! everything, each `event: change` what became different; `null` stands for what is gone.

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
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use wire::sse::write_event;

use super::HubData;
use crate::core::Hub;
use crate::error::{ApiError, ErrorKind};
use crate::limits::{Seat, Seats};
use crate::model::Caller;
use crate::watch::View;

/// Between two looks: quick enough for an eye, and a look at 1,000 rows costs a millisecond or two.
const LOOK: Duration = Duration::from_secs(1);
/// Silence for so long gets a comment: proxies cut idle connections after 60 s, some after 30.
const QUIET: Duration = Duration::from_secs(15);
/// Most watchers at once: 64 looks a second at 1,000 rows are a tenth of a core.
const WATCHERS: usize = 64;

pub(super) fn register(config: &mut ServiceConfig) {
    let watchers = Data::new(Watchers::default());
    config.app_data(watchers).route("/api/v1/events", get().to(respond));
}

/// Who watches now.
#[derive(Default)]
struct Watchers {
    all: AtomicUsize,
    of_user: Arc<Seats>,
}

/// One of them, until it is dropped.
struct Watcher {
    watchers: Arc<Watchers>,
    _seat: Seat,
}

impl Watchers {
    /// A seat, if the hub has one left and the user may have one more.
    fn sit(self: Arc<Self>, user: &str, most: usize) -> Result<Watcher, ApiError> {
        let seat = self.of_user.take(user, most, "watchers")?;
        let taken = self.all.fetch_add(1, Ordering::Relaxed);
        let watcher = Watcher { watchers: self, _seat: seat };
        if taken < WATCHERS {
            return Ok(watcher);
        }
        Err(ApiError::new(ErrorKind::Busy, format!("more than {WATCHERS} watch already")))
    }
}

impl Drop for Watcher {
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
    let seat = watchers.into_inner().sit(&caller.user, hub.options.limits.watchers)?;
    let hello = Hello {
        user: &caller.user,
        role: caller.role.as_str(),
        version: env!("CARGO_PKG_VERSION"),
        hub_url: hub.options.public_url.as_deref(),
    };
    let mut first = Vec::new();
    let data = serde_json::to_string(&hello).map_err(ApiError::internal)?;
    write_event(&mut first, Some("hello"), None, &data).map_err(ApiError::internal)?;
    let view = hub.view(&caller);
    let everything = view.since(&View::default()).unwrap_or_else(|| "{}".to_owned());
    write_event(&mut first, Some("snapshot"), None, &everything).map_err(ApiError::internal)?;

    let end = hub.end_for(&caller);
    let mut look = interval(LOOK);
    // After a reader that was slow one look is enough: it tells all that changed.
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events =
        Events { first: Some(first.into()), hub, caller, view, look, said: Instant::now(), end, _seat: seat };
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream::unfold(events, next)))
}

/// A watcher's stream. It is asked for more only when its socket has room, so it holds one view and at most one event.
struct Events {
    first: Option<Bytes>,
    hub: Arc<Hub>,
    caller: Caller,
    view: View,
    look: Interval,
    said: Instant,
    /// Resolves when the stream has to end.
    end: LocalBoxFuture<'static, ()>,
    _seat: Watcher,
}

async fn next(mut events: Events) -> Option<(Result<Bytes, Infallible>, Events)> {
    if let Some(first) = events.first.take() {
        return Some((Ok(first), events));
    }
    loop {
        tokio::select! {
            biased;
            () = &mut events.end => return None,
            _ = events.look.tick() => (),
        }
        let view = events.hub.view(&events.caller);
        let change = view.since(&events.view);
        events.view = view;
        let out = match change {
            Some(change) => {
                let mut out = Vec::with_capacity(change.len() + 32);
                write_event(&mut out, Some("change"), None, &change).ok()?;
                out.into()
            }
            None if events.said.elapsed() >= QUIET => Bytes::from_static(b": quiet\n\n"),
            None => continue,
        };
        events.said = Instant::now();
        return Some((Ok(out), events));
    }
}
