//! Hubs that are restarted one after the other, under callers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use awc::http::Method;
use nix::sys::signal::Signal;
use testkit::http::Http;
use testkit::nats;
use testkit::team::start_registrar_with;
use testkit::wait::{eventually, wait_within};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use super::rig::{chat, front, hubs, publisher};

/// Time for which callers go on to call a hub whose `/readyz` is 503: a load balancer that asks each second, with two tries.
const UNNOTICED: Duration = Duration::from_secs(3);

/// What the callers of a hub know of it.
#[derive(Default)]
struct Watched {
    /// Since when its `/readyz` is not 200.
    left_at: Cell<Option<Instant>>,
    calls: Cell<u32>,
    /// Calls that began when its `/readyz` was not 200.
    late: Cell<u32>,
    failed: RefCell<Vec<String>>,
}

impl Watched {
    fn may_call(&self) -> bool {
        self.left_at.get().is_none_or(|at| at.elapsed() < UNNOTICED)
    }
}

/// Asks for `/readyz` all the time.
async fn watch(http: Http, watched: Rc<Watched>) {
    loop {
        let is_ready =
            http.try_send(Method::GET, "/readyz", None).await.is_ok_and(|answer| answer.status == 200);
        let since = watched.left_at.get();
        watched.left_at.set(if is_ready { None } else { since.or_else(|| Some(Instant::now())) });
        sleep(Duration::from_millis(50)).await;
    }
}

/// Calls `model` all the time while a load balancer would.
async fn call(http: Http, model: &'static str, stream: bool, watched: Rc<Watched>) {
    let body = chat(model, stream).to_string();
    loop {
        if watched.may_call() {
            let is_late = watched.left_at.get().is_some();
            let answer = http.try_send(Method::POST, "/v1/chat/completions", Some(body.clone())).await;
            watched.calls.set(watched.calls.get() + 1);
            watched.late.set(watched.late.get() + u32::from(is_late));
            let is_whole =
                |body: &str| if stream { body.contains("[DONE]") } else { body.contains("hi hi hi") };
            if !answer.as_ref().is_ok_and(|answer| answer.status == 200 && is_whole(&answer.body)) {
                watched.failed.borrow_mut().push(format!("{model}, late: {is_late}: {answer:?}"));
            }
        }
        sleep(Duration::from_millis(30)).await;
    }
}

/// F99: a load balancer has the time to notice that a hub leaves.
#[actix_rt::test]
async fn no_call_fails_while_hubs_are_restarted_one_by_one() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, mut hubs)) = hubs(&nats, &["a", "b", "c"]).await else { return };
    let port = front(hubs.iter().map(|hub| hub.port).collect(), false).await;
    let mut registrars = Vec::new();
    for (name, transport) in [("one", "link"), ("two", "link"), ("three", "classic")] {
        let home = publisher(port, name, 3);
        let registrar = start_registrar_with(&home, &["--transport", transport]);
        registrar.logs("control channel open").await;
        registrars.push((home, registrar));
    }
    let mut running = Vec::new();
    let mut all = Vec::new();
    for hub in &hubs {
        for name in ["one", "two", "three"] {
            eventually("the row is active", async || hub.status(name).await == "active").await;
        }
        let watched = Rc::<Watched>::default();
        running.push(spawn_local(watch(hub.admin(), watched.clone())));
        for (model, stream) in [("one", false), ("two", true), ("three", false), ("three", true)] {
            running.push(spawn_local(call(hub.admin(), model, stream, watched.clone())));
        }
        all.push(watched);
    }
    for (hub, watched) in hubs.iter_mut().zip(&all) {
        hub.process.signal(Signal::SIGTERM);
        hub.process.ended().await;
        hub.start_again().await;
        wait_within(Duration::from_secs(20), "it is back", async || {
            watched.left_at.get().is_none().then_some(())
        })
        .await;
        sleep(Duration::from_secs(1)).await;
    }
    running.iter().for_each(tokio::task::JoinHandle::abort);
    for watched in &all {
        let (calls, late, failed) = (watched.calls.get(), watched.late.get(), watched.failed.borrow());
        // A late one may meet the end of its hub.
        let failed: Vec<_> = failed.iter().filter(|failed| failed.contains("late: false")).collect();
        assert!(failed.is_empty(), "{calls} calls, {} failed: {:?}", failed.len(), failed.first());
        assert!(calls > 50 && late > 5, "{calls} calls, {late} while its hub left");
    }
}
