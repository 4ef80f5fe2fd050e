//! Look-ups of host names, with a fake look-up function.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use futures_util::future::join_all;
use parking_lot::{Condvar, Mutex};
use tokio::time::advance;

use super::super::resolver::{LOOKUP_TIMEOUT, LookupError, LookupUser, Resolver};
use super::*;
use crate::FairSemaphore;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A fake name server. It answers at once, except for names that contain `dead`: these wait for `open`.
#[derive(Default)]
struct NameServer {
    open: Mutex<bool>,
    opened: Condvar,
    running: AtomicUsize,
    most_running: AtomicUsize,
    asked: Mutex<HashMap<String, usize>>,
}

impl NameServer {
    fn lookup(&self, host: &str) -> Result<Vec<SocketAddr>, LookupError> {
        *self.asked.lock().entry(host.to_owned()).or_default() += 1;
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        if host.contains("dead") {
            let mut open = self.open.lock();
            while !*open {
                self.opened.wait(&mut open);
            }
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        if host.contains("dead") { Err(LookupError::Unknown) } else { Ok(vec![ADDRESS]) }
    }

    fn open(&self) {
        *self.open.lock() = true;
        self.opened.notify_all();
    }

    fn asked(&self, host: &str) -> usize {
        self.asked.lock().get(host).copied().unwrap_or(0)
    }

    /// Waits until `count` look-ups are running.
    async fn begun(&self, count: usize) {
        wait_until("the look-ups have begun", || self.running.load(Ordering::SeqCst) == count).await;
    }
}

fn resolver(most: usize, of_user: usize) -> (Arc<NameServer>, Resolver) {
    let server = Arc::<NameServer>::default();
    let asked = Arc::clone(&server);
    let permits = Box::leak(Box::new(FairSemaphore::new(most, of_user)));
    (server, Resolver::new(permits, move |host| asked.lookup(host)))
}

/// Opens the server when dropped, because a blocked look-up thread would keep the runtime from ending.
struct OpenAtEnd(Arc<NameServer>);

impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

#[actix_rt::test]
async fn concurrent_callers_of_one_name_share_a_look_up() {
    let (server, resolver) = resolver(8, 4);
    let _end = OpenAtEnd(Arc::clone(&server));
    let all: Vec<_> = (0..20)
        .map(|_| {
            let resolver = resolver.clone();
            actix_rt::spawn(async move { resolver.resolve("dead.example", "alice").await })
        })
        .collect();
    server.begun(1).await;
    server.open();
    for one in all {
        assert_eq!(one.await.unwrap(), Err(LookupError::Unknown));
    }
    assert_eq!(server.asked("dead.example"), 1);
}

/// A27: unresolvable names of one user do not block other users' names.
#[actix_rt::test]
async fn concurrent_look_ups_of_one_user_leave_room_for_other_users() {
    let (server, resolver) = resolver(4, 2);
    let _end = OpenAtEnd(Arc::clone(&server));
    let flood: Vec<_> = (0..50)
        .map(|name| {
            let resolver = resolver.clone();
            actix_rt::spawn(async move { resolver.resolve(&format!("dead-{name}.example"), "mallory").await })
        })
        .collect();
    server.begun(2).await;
    assert_eq!(resolver.resolve("good.example", "alice").await, Ok(vec![ADDRESS]));
    // A name for which the flooding user waits is looked up for another user at once.
    let asked = resolver.clone();
    let waiting = actix_rt::spawn(async move { asked.resolve("dead-49.example", "alice").await });
    server.begun(3).await;
    assert_eq!(server.asked("dead-49.example"), 1);
    flood.iter().for_each(actix_rt::task::JoinHandle::abort);
    server.open();
    join_all(flood).await;
    assert_eq!(waiting.await.unwrap(), Err(LookupError::Unknown));
    assert_eq!(server.most_running.load(Ordering::SeqCst), 3);
}

/// F81: a changed address is found when the cached one has expired.
#[tokio::test(start_paused = true)]
async fn an_answer_is_cached_for_5_seconds_and_a_failure_for_2() {
    let (server, resolver) = resolver(8, 4);
    server.open();
    for (name, seconds) in [("good.example", 5), ("dead.example", 2)] {
        let first = resolver.resolve(name, "alice").await;
        advance(Duration::from_millis(seconds * 1000 - 1)).await;
        assert_eq!(resolver.resolve(name, "bob").await, first);
        assert_eq!(server.asked(name), 1, "{name}");
        advance(Duration::from_millis(1)).await;
        assert_eq!(resolver.resolve(name, "bob").await, first);
        assert_eq!(server.asked(name), 2, "{name}");
    }
}

/// F81: polling a name whose name server is silent occupies few threads.
#[tokio::test(start_paused = true)]
async fn a_slow_failure_is_cached_as_long_as_its_look_up_took() {
    let (server, resolver) = resolver(8, 4);
    let asked = resolver.clone();
    let waiting = tokio::spawn(async move { asked.resolve("dead.example", "").await });
    tokio::task::yield_now().await;
    // The paused clock does not advance while a look-up blocks its thread.
    while server.running.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    advance(Duration::from_secs(8)).await;
    server.open();
    assert_eq!(waiting.await.unwrap(), Err(LookupError::Unknown));
    for (seconds, asked) in [(7, 1), (2, 2)] {
        advance(Duration::from_secs(seconds)).await;
        assert_eq!(resolver.resolve("dead.example", "").await, Err(LookupError::Unknown));
        assert_eq!(server.asked("dead.example"), asked);
    }
}

/// F81: unresolvable names of the program's own calls do not delay its other names.
#[actix_rt::test]
async fn names_of_the_programs_own_calls_take_turns() {
    let (server, resolver) = resolver(4, 2);
    let _end = OpenAtEnd(Arc::clone(&server));
    let dead: Vec<_> = (0..3)
        .map(|name| {
            let resolver = resolver.clone();
            actix_rt::spawn(async move { resolver.resolve(&format!("dead-{name}.example"), "").await })
        })
        .collect();
    server.begun(3).await;
    assert_eq!(resolver.resolve("good.example", "").await, Ok(vec![ADDRESS]));
    dead.iter().for_each(actix_rt::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_without_an_answer_times_out() {
    let (server, resolver) = resolver(2, 1);
    let _end = OpenAtEnd(Arc::clone(&server));
    // The second look-up waits for the permit of the first.
    let mut waiting =
        Box::pin(join_all(["dead.example", "good.example"].map(|name| resolver.resolve(name, "alice"))));
    assert_eq!(waiting.as_mut().now_or_never(), None);
    advance(LOOKUP_TIMEOUT).await;
    let timed_out = Err(LookupError::TimedOut);
    assert_eq!(waiting.now_or_never(), Some(vec![timed_out.clone(), timed_out]));
    let error = LookupError::TimedOut.to_string();
    assert_eq!(error, "the name could not be resolved within 10 s");
}

#[actix_rt::test]
async fn an_address_and_localhost_are_not_looked_up() {
    let (server, resolver) = resolver(1, 1);
    let own = own_server();
    for host in ["127.0.0.1", "[::1]", "::1", "localhost", "ollama.localhost"] {
        assert!(resolver.resolve(host, "alice").await.is_ok(), "{host}");
    }
    assert!(ask(&Client::with_resolver(None, resolver, usize::MAX), &own.url(), "one").await.is_ok());
    assert!(server.asked.lock().is_empty());
}

fn own_server() -> Peer {
    super::server(vec![ANSWER.into()])
}

#[actix_rt::test]
async fn a_request_looks_its_name_up_once_for_its_user() {
    let (server, resolver) = resolver(2, 1);
    let _end = OpenAtEnd(Arc::clone(&server));
    let own = own_server();
    let port = own.port();
    let client = Client::with_resolver(None, resolver.clone(), usize::MAX);
    let held = {
        let resolver = resolver.clone();
        actix_rt::spawn(async move { resolver.resolve("dead.example", "mallory").await })
    };
    server.begun(1).await;
    let request = |user: &str| {
        let mut request = post(&format!("http://good.example:{port}"), "x");
        request.extensions_mut().insert(LookupUser(user.to_owned()));
        request
    };
    assert!(client.send(request("mallory"), LIMIT).now_or_never().is_none());
    assert_eq!(server.asked("good.example"), 0);
    assert_eq!(client.send(request("alice"), LIMIT).await.unwrap().status(), 200);
    assert_eq!(server.asked("good.example"), 1);
    held.abort();
}
