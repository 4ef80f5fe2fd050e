//! Starting and stopping a hub: its store, background tasks and HTTP server. Routes are in `http`.

mod error;
mod leaving;
mod liveness;
mod maintenance;
mod open;
mod others;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::App;
use actix_web::dev::ServerHandle;
use actix_web::middleware::{DefaultHeaders, from_fn};
use futures_util::future::select_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

pub use error::HubError;
pub use liveness::Liveness;
pub(crate) use open::Opened;

use crate::auth::{self, AdminToken, CreateError, NewToken, TokenSecret, Tokens, guard};
use crate::clock::{self, Clock};
use crate::cluster::Shared;
use crate::connections::{self, ConnectionLimits, ListenerConfig, OutboundLimits};
use crate::dispatch;
use crate::http;
use crate::http::middleware::{catch_panic, front, limit_unread, trace};
use crate::hub::{Hub, Phase};
use crate::limits::{CallerLimits, Spent};
use crate::model::{CallLimits, Day, Role};
use crate::options::{DataDir, HubOptions};
use crate::registry::Registry;
use crate::tasks;
use crate::telemetry::Watch;

/// Time in which running calls may end when the hub stops (SPEC.md section 5).
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// A running hub. Call [`stop`](Self::stop): dropping the handle leaves it running.
pub struct HubHandle {
    hub: Arc<Hub>,
    addr: SocketAddr,
    tls: bool,
    admin_token: AdminToken,
    server: ServerHandle,
    liveness: Liveness,
    tasks: Vec<JoinHandle<()>>,
}

impl Hub {
    /// Starts a hub. Returns when it listens.
    pub async fn start(options: HubOptions) -> Result<HubHandle, HubError> {
        // Checked before anything is created or locked.
        options.admin_token.as_deref().map(TokenSecret::written).transpose()?;
        let folder = match &options.data {
            DataDir::Path(path) if options.cluster.is_none() => Some(path.clone()),
            _ => None,
        };
        let opened = open::store(&options).await?;
        let shared = match (&options.cluster, &opened.postgres) {
            (Some(cluster), Some(store)) => Box::pin(Shared::connect(cluster, store.clone())).await?,
            _ => None,
        };
        Self::start_on(options, opened, shared).await.map_err(|error| match (error, folder) {
            (HubError::Store(error), Some(folder)) => HubError::Store(error.at_start(&folder)),
            (error, _) => error,
        })
    }

    pub(crate) async fn start_on(
        options: HubOptions,
        Opened { dir, store, cluster, .. }: Opened,
        shared: Option<Arc<Shared>>,
    ) -> Result<HubHandle, HubError> {
        let clock = Clock::start();
        let mut snapshot = store.load().await?;
        let given = options.admin_token.as_deref().map(TokenSecret::written).transpose()?;
        let stored = dir.as_ref().map(|dir| (dir.as_ref(), store.as_ref()));
        let (admin_token, environment) =
            auth::admin_token(given, stored, &mut snapshot.tokens, clock::now()).await?;
        let today = Day::of(clock::now());
        let records = std::mem::take(&mut snapshot.limits);
        let spent = match &shared {
            Some(shared) => shared.spent(today, None).await?,
            None => snapshot.usage.iter().filter(|sum| sum.key.day == today).map(Spent::here).collect(),
        };
        let own = shared.as_ref().map_or("", |shared| shared.peers.hub());
        let limits = Arc::new(CallerLimits::load(records, &spent, own, today));
        let stored = std::mem::take(&mut snapshot.tokens);
        let tokens = Tokens::new(stored, environment, store.clone()).with_limits(limits.clone());
        let hub_id = options.cluster.as_ref().filter(|_| shared.is_some()).map(|of| of.hub_id.clone());
        let registry = Registry::load(&snapshot, options.pools, &options.timings, clock.now())
            .with_limits(options.limits)
            .of_hub(hub_id);
        let tasks = std::mem::take(&mut snapshot.tasks);
        let watch = Watch::new(store.clone()).map_err(|error| HubError::Internal(error.to_string()))?;
        let watch = watch.with_limits(limits);
        watch.restore_usage(std::mem::take(&mut snapshot.usage).into_iter().map(|sum| sum.key).collect());
        let (tokens, watch) = (Arc::new(tokens), Arc::new(watch));
        let hub = Arc::new(Self::new(options, (cluster, shared), clock, registry, store, tokens, watch));
        tasks::restore(&hub, tasks, tasks::HUB_RESTARTED).await?;
        serve(hub, admin_token)
    }
}

fn serve(hub: Arc<Hub>, admin_token: AdminToken) -> Result<HubHandle, HubError> {
    let routes = http::register(&hub);
    let listen = hub.options.listen;
    let liveness = Liveness::default();
    let thread = liveness.clone();
    let app = move || {
        // Browsers must not render responses as pages, and caches must not keep private lists.
        let headers = DefaultHeaders::new()
            .add(("x-content-type-options", "nosniff"))
            .add(("cache-control", "no-store"));
        App::new()
            .wrap(from_fn(limit_unread))
            .wrap(from_fn(guard))
            .wrap(from_fn(catch_panic))
            .wrap(from_fn(front))
            .wrap(headers)
            .wrap(from_fn(trace))
            .configure(routes.clone())
    };
    let for_others = app.clone();
    let app = move || {
        thread.set_thread();
        app()
    };
    let tls = hub.options.tls.as_ref().map(tls::acceptor).transpose()?;
    let is_tls = tls.is_some();
    let machine = &hub.options.machine;
    let files = connections::raise_file_limit();
    let limits = ConnectionLimits::new(files, hub.quotas.memory.limit(), machine);
    hub.outbound.limit(OutboundLimits::new(files, &limits));
    let config = ListenerConfig {
        tls,
        limits,
        proxies: machine.trusted_proxies.clone(),
        machine: hub.watch.machine.clone(),
    };
    let (server, addr) = connections::serve(listen, config, app).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => HubError::PortInUse(listen),
        _ => HubError::Listen(listen, error),
    })?;
    log::info!(
        "at most {} connections, {} of them without a valid token: the system allows {files} open files, and --max-memory is {} MiB",
        limits.total,
        limits.anonymous,
        hub.quotas.memory.limit() >> 20
    );
    let handle = server.handle();
    let serving = tokio::spawn(async move {
        if let Err(error) = server.await {
            log::error!("the hub's server ended: {error}");
        }
    });
    let watch = hub.watch.clone();
    let lost = hub.store.lost();
    let tasks = vec![
        serving,
        tokio::spawn(maintenance::run(hub.clone())),
        actix_rt::spawn(others::serve(hub.clone(), for_others)),
        actix_rt::spawn(tasks::run_scheduler(hub.clone())),
        tokio::spawn(dispatch::run_offers(hub.clone())),
        tokio::spawn(async move { watch.run().await }),
        tokio::spawn(async move {
            if let Err(error) = lost.await {
                log::error!("{error}");
            }
        }),
    ];
    Ok(HubHandle { hub, addr, tls: is_tls, admin_token, server: handle, liveness, tasks })
}

impl HubHandle {
    #[cfg(test)]
    pub(crate) fn core(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The address that the hub listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The URL for clients on this machine.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let mut addr = self.addr;
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("{scheme}://{addr}")
    }

    /// A probe of the server's thread, for a watchdog.
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Resolves when a background task exits unexpectedly. The hub is then incomplete: stop it.
    pub async fn crashed(&mut self) {
        let (_, index, _) = select_all(&mut self.tasks).await;
        // A finished task must not be awaited again.
        drop(self.tasks.swap_remove(index));
    }

    /// The location of the admin token.
    pub fn admin_token(&self) -> &AdminToken {
        &self.admin_token
    }

    /// Creates a token for `user`, and returns its secret.
    pub async fn mint_token(&self, user: &str, role: Role) -> Result<String, CreateError> {
        let new = NewToken { user: user.to_owned(), role, expires_at: None, limits: CallLimits::default() };
        let (_, secret) = self.hub.tokens.create(new).await?;
        Ok(secret.reveal().to_owned())
    }

    /// Creates a token for `user`, and returns the code of a sign-in link for it.
    pub async fn mint_link(&self, user: &str, role: Role) -> Result<String, CreateError> {
        let new = NewToken { user: user.to_owned(), role, expires_at: None, limits: CallLimits::default() };
        let (_, code) = self.hub.tokens.create_link(new).await?;
        Ok(code.reveal().to_owned())
    }

    /// Stops the hub: new calls get 503, running ones have 20 s, then streams end. One of several leaves first.
    pub async fn stop(self) {
        self.hub.leave().await;
        self.hub.phase.send_replace(Phase::Draining);
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut ended = self.hub.dispatch_ended.subscribe();
        while !self.hub.dispatches.lock().is_empty() {
            if timeout_at(deadline, ended.changed()).await.is_err() {
                break;
            }
        }
        self.hub.phase.send_replace(Phase::Stopping);
        self.hub.lose_all();
        self.hub.channels.drop_all();
        self.server.stop(true).await;
        for task in self.tasks {
            task.abort();
            // Its result does not matter, only that it has dropped the hub.
            let _ = task.await;
        }
        self.hub.watch.flush().await;
        // Earlier writes are committed before this one; but large texts in PostgreSQL, for which the drop of the store waits.
        if let Err(error) = self.hub.store.write(Vec::new()).await {
            log::error!("{error}");
        }
        wait_until_dropped(self.hub).await;
    }
}

/// Waits until no one else holds the hub, so that its directory is free for another one. The server's thread ends a moment
/// after the server, without a notification.
async fn wait_until_dropped(hub: Arc<Hub>) {
    /// A longer wait means a leak.
    const TIMEOUT: Duration = Duration::from_secs(2);
    const POLL_INTERVAL: Duration = Duration::from_millis(1);

    let deadline = Instant::now() + TIMEOUT;
    while Arc::strong_count(&hub) > 1 && Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use crate::Hub;
    use crate::tests::{http::PATIENCE, support::options};

    use super::*;

    #[actix_rt::test]
    async fn an_exit_of_a_background_task_is_noticed() {
        let mut hub = Hub::start(options()).await.unwrap();
        assert!(timeout(Duration::from_millis(50), hub.crashed()).await.is_err(), "nothing has crashed");
        hub.tasks.last().unwrap().abort();
        timeout(PATIENCE, hub.crashed()).await.unwrap();
        timeout(PATIENCE, hub.stop()).await.unwrap();
    }
}
