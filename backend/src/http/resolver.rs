//! Resolves host names: few look-ups at a time, shared fairly between users, with a cache of some seconds.
//!
//! `getaddrinfo` occupies a blocking thread until it returns, up to 30 s with a dead name server, and cannot be cancelled. The
//! same threads serve files, large bodies and the store.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::fair_semaphore::{FairPermit, FairSemaphore};

/// Limit for a look-up. It allows for a dead first name server (5 s) and an answer of the second.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Most concurrent look-ups in the process, out of 512 blocking threads.
const MAX_LOOKUPS: usize = 8;

/// Most concurrent look-ups of one user. The rest stays free for other users, however long these take.
const MAX_OF_USER: usize = MAX_LOOKUPS / 2;

/// How long an answer is cached: a burst of calls needs one look-up, and a changed address is soon found.
const KEEP: Duration = Duration::from_secs(5);

/// Shortest time for which a failure is cached; shorter than `KEEP`, because the name of a machine that has just started may be
/// new. A failure whose look-up took longer is cached for as long as the look-up took, so that polling a dead name holds a
/// permit at most half of the time.
const KEEP_FAILURE: Duration = Duration::from_secs(2);

/// Most names in the cache.
const MAX_KEPT: usize = 1024;

static PERMITS: FairSemaphore = FairSemaphore::new(MAX_LOOKUPS, MAX_OF_USER);

static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| Resolver::new(&PERMITS, system_lookup));

/// Request extension with the user for whom the name is looked up.
#[derive(Debug, Clone, Default)]
pub(crate) struct LookupUser(pub(crate) String);

/// Why a name has no addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupError {
    #[error("the name is not known")]
    Unknown,
    #[error("the name could not be resolved within {} s", LOOKUP_TIMEOUT.as_secs())]
    TimedOut,
}

type Answer = Result<Vec<SocketAddr>, LookupError>;

/// A resolver of host names. Clones share look-ups and cache.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Inner>);

struct Inner {
    permits: &'static FairSemaphore,
    lookup: Box<dyn Fn(&str) -> Answer + Send + Sync>,
    names: Mutex<HashMap<String, State>>,
}

#[derive(Clone)]
enum State {
    Running(watch::Receiver<Option<Answer>>),
    Kept(Answer, Instant),
}

impl State {
    /// Whether the look-up is running, or its answer may still be used. A look-up whose runtime has ended has no answer.
    fn is_current(&self) -> bool {
        match self {
            Self::Running(answer) => answer.has_changed().is_ok(),
            Self::Kept(_, until) => Instant::now() < *until,
        }
    }
}

fn system_lookup(host: &str) -> Answer {
    (host, 0).to_socket_addrs().map(Iterator::collect).map_err(|_| LookupError::Unknown)
}

impl Resolver {
    /// The resolver of the process, which uses the system's look-up.
    pub(super) fn system() -> Self {
        SYSTEM.clone()
    }

    pub(super) fn new(
        permits: &'static FairSemaphore,
        lookup: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { permits, lookup: Box::new(lookup), names: Mutex::default() }))
    }

    /// Returns the addresses of `host`, the host of a URL, with port 0. An IP address and `localhost` (RFC 6761) are not looked up.
    /// An empty `user` stands for the program's own calls; among these, each name counts as a user.
    pub(super) async fn resolve(&self, host: &str, user: &str) -> Answer {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, 0)]);
        }
        if host == "localhost" || host.ends_with(".localhost") {
            let both = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
            return Ok(both.map(|address| SocketAddr::new(address, 0)).to_vec());
        }
        let user = if user.is_empty() { host } else { user };
        timeout(LOOKUP_TIMEOUT, self.answer(host, user)).await.unwrap_or(Err(LookupError::TimedOut))
    }

    async fn answer(&self, host: &str, user: &str) -> Answer {
        let state = match self.state(host, None) {
            Some(state) => Some(state),
            // Each caller waits for its own permit, so that none depends on another user's. The first one looks the name up.
            None => self.state(host, Some(self.0.permits.acquire(user).await)),
        };
        match state {
            Some(State::Kept(answer, _)) => answer,
            Some(State::Running(mut receiver)) => {
                let answer = receiver.wait_for(Option::is_some).await.ok();
                answer.and_then(|answer| answer.clone()).unwrap_or(Err(LookupError::Unknown))
            }
            None => Err(LookupError::Unknown),
        }
    }

    /// Returns the running look-up of `host`, or its cached answer. Without either, `permit` starts a look-up.
    fn state(&self, host: &str, permit: Option<FairPermit>) -> Option<State> {
        let mut names = self.0.names.lock();
        if let Some(state) = names.get(host).filter(|state| state.is_current()) {
            return Some(state.clone());
        }
        let permit = permit?;
        if names.len() >= MAX_KEPT {
            names.retain(|_, state| state.is_current());
        }
        if names.len() >= MAX_KEPT {
            names.retain(|_, state| matches!(state, State::Running(_)));
        }
        let (sender, receiver) = watch::channel(None);
        names.insert(host.to_owned(), State::Running(receiver.clone()));
        drop(names);
        let (inner, host) = (Arc::clone(&self.0), host.to_owned());
        spawn_blocking(move || {
            let begin = Instant::now();
            let answer = (inner.lookup)(&host);
            let keep = if answer.is_ok() { KEEP } else { begin.elapsed().max(KEEP_FAILURE) };
            inner.names.lock().insert(host, State::Kept(answer.clone(), Instant::now() + keep));
            drop(permit);
            let _ = sender.send(Some(answer));
        });
        Some(State::Running(receiver))
    }
}

/// For hyper's connector, which does not know the user. The client has just looked the name up, so the answer is cached.
impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = LookupError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, LookupError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.resolve(name.as_str(), "").await?.into_iter()) })
    }
}
