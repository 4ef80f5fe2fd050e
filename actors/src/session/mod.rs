//! The `SessionActor`: registers with the hub. It owns the session id, the session file and the reconnect delays.
//!
//! The control channel itself is in [`stream`](crate::stream).

pub(crate) mod abilities;
pub(crate) mod entries;
pub(crate) mod file;
mod handlers;
pub(crate) mod messages;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;
use wire::SessionId;
use wire::register::RegisterRequest;

use crate::backoff::ReconnectDelay;
use crate::changes::Changes;
use crate::hub_client::{HubApi, HubError, HubErrorKind};
use crate::news::hub_news;
use crate::stream::messages::Restart;

use abilities::{AbilityQuestion, Learned};
use entries::AvailabilityCheck;
use messages::{NotRegistered, Publish, SessionReady};

/// Delay after a refusal: an administrator's change takes effect within a minute, and the hub's log does not fill up.
const REFUSED_RETRY: Duration = Duration::from_mins(1);

/// How long a hub that said that it shuts down is tried at the intervals that it named. Later it counts as any other that is
/// away. A restart takes seconds, and each try costs one connection.
pub(crate) const RESTART: Duration = Duration::from_secs(30);

/// Least delay of the register call that follows a channel that was opened without one.
const REGISTER_AFTER: Duration = Duration::from_secs(10);
/// Time over which these calls of all registrars are spread: 34 a second of 1,000.
const REGISTER_SPREAD: Duration = Duration::from_secs(30);

pub(crate) struct Config {
    pub(crate) hub: Rc<dyn HubApi>,
    /// The session file; `None` keeps the id in memory.
    pub(crate) file: Option<PathBuf>,
    pub(crate) is_available: AvailabilityCheck,
    pub(crate) ask_abilities: AbilityQuestion,
    /// Delays of registrations and of the control channel, which are one connection to the hub.
    pub(crate) delay: ReconnectDelay,
}

pub(crate) struct SessionLinks {
    /// `StreamActor`, `HeartbeatActor` and the root.
    pub(crate) ready: Vec<Recipient<SessionReady>>,
    /// The root.
    pub(crate) failed: Recipient<NotRegistered>,
}

/// Registers at start, before each reconnect, and when the hub has lost the session.
pub(crate) struct SessionActor {
    config: Config,
    links: SessionLinks,
    // Kept over a crash: facts about the hub and the configuration.
    published: Publish,
    learned: Learned,
    id: Option<SessionId>,
    accepted_once: bool,
    register_problem: Changes,
    channel_problem: Changes,
    state: SessionState,
}

/// State that a crash resets.
#[derive(Default)]
struct SessionState {
    /// Whether a registration runs.
    running: bool,
    /// Whether to register again after the running registration, which has an older set.
    again: bool,
    /// Whether the session is new to the hub, so that an open channel belongs to an earlier one.
    reopen: bool,
    pending: Option<PendingRetry>,
    /// Number of retries so far.
    retries: u64,
    lost_at: Option<Instant>,
    link: LinkReturn,
    questions: abilities::Questions,
}

/// How a link is opened again.
#[derive(Default)]
struct LinkReturn {
    /// The hub that restarts, and until when it may be away.
    restart: Option<(Restart, Instant)>,
    /// Whether the channel is being opened again without a registration.
    is_unregistered: bool,
}

/// A delay that ends with a registration.
#[derive(Clone, Copy, PartialEq, Eq)]
struct PendingRetry {
    /// Tells this delay from earlier ones, whose timers still fire.
    number: u64,
    cause: RetryCause,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RetryCause {
    /// A registration failed, or its session was lost at once. Only a new set or `RetryNow` cuts the delay short.
    Registration,
    /// The control channel was lost. Any reason to register cuts the delay short.
    Channel,
    /// The hub restarts, or a link broke that stood for long: the channel is opened again without a registration, which would
    /// cost one more connection.
    Link,
}

impl SessionActor {
    /// Creates an actor that registers `published` when it starts. `id` is the id in the session file.
    pub(crate) fn new(
        config: Config,
        links: SessionLinks,
        published: Publish,
        id: Option<SessionId>,
    ) -> Self {
        Self {
            config,
            links,
            published,
            learned: Learned::default(),
            id,
            accepted_once: false,
            register_problem: Changes::default(),
            channel_problem: Changes::default(),
            state: SessionState::default(),
        }
    }

    fn register(&mut self, ctx: &mut Context<Self>) {
        if self.published.providers.is_empty() || self.state.running {
            return;
        }
        self.state.running = true;
        self.state.pending = None;
        let (hub, is_available) = (Rc::clone(&self.config.hub), Rc::clone(&self.config.is_available));
        let (published, id, file) = (self.published.clone(), self.id.clone(), self.config.file.clone());
        let (mut learned, ask) = (self.learned.clone(), Rc::clone(&self.config.ask_abilities));
        let registering = async move {
            // At the first registration with a backend, the hub learns at once what its model can do.
            let asked = abilities::ask(learned.unasked(&published.providers), &ask);
            let checked = entries::providers(&published.providers, &is_available);
            let (answers, mut providers) = futures_util::join!(asked, checked);
            learned.record(&answers);
            learned.complete(&mut providers, &published.providers);
            let request = RegisterRequest { provider_session_id: None, providers, agents: published.agents };
            let registered = register(hub, request, id, file).await;
            (registered, answers)
        };
        ctx.spawn(registering.into_actor(self).map(|(result, answers), this, ctx| {
            this.state.running = false;
            this.learned.record(&answers);
            this.learned.retain(&this.published.providers);
            this.ask_again_later(ctx);
            match result {
                Ok(id) => this.registered(id, ctx),
                Err(error) => this.not_registered(&error, ctx),
            }
        }));
    }

    fn registered(&mut self, id: SessionId, ctx: &mut Context<Self>) {
        if !self.accepted_once || self.register_problem.clear() {
            let count = self.published.providers.len();
            hub_news!(info, "register calls", "registered with the hub: {count} published");
        }
        self.accepted_once = true;
        self.state.link = LinkReturn::default();
        let changed = self.id.as_ref() != Some(&id);
        self.id = Some(id.clone());
        if std::mem::take(&mut self.state.again) {
            self.register(ctx);
            return;
        }
        if self.published.providers.is_empty() {
            return;
        }
        let reopen = std::mem::take(&mut self.state.reopen) || changed;
        self.tell_ready(&SessionReady { session: id, reopen });
    }

    fn tell_ready(&self, ready: &SessionReady) {
        for listener in &self.links.ready {
            listener.do_send(ready.clone());
        }
    }

    fn not_registered(&mut self, error: &HubError, ctx: &mut Context<Self>) {
        let refused = error.kind() != HubErrorKind::Retry;
        // A proxy may refuse as long as the machine is in another network.
        let is_proxys = matches!(error, HubError::Proxy { .. });
        let fatal = refused && !is_proxys && !self.accepted_once;
        let reason = error.to_string();
        let delay = if refused {
            REFUSED_RETRY
        } else {
            if let Some(hint) = error.retry_after() {
                self.config.delay.retry_after(hint);
            }
            self.config.delay.next_delay()
        };
        if self.register_problem.is_change(&reason) && !fatal {
            let seconds = delay.as_secs_f64();
            hub_news!(warn, "register calls refused", "not registered: {reason}; next try in {seconds:.1} s");
        }
        self.links.failed.do_send(NotRegistered { reason, refused, fatal });
        if fatal {
            return;
        }
        self.state.again = false;
        self.register_in(delay, RetryCause::Registration, ctx);
    }

    fn register_in(&mut self, delay: Duration, cause: RetryCause, ctx: &mut Context<Self>) {
        self.state.retries += 1;
        let pending = PendingRetry { number: self.state.retries, cause };
        self.state.pending = Some(pending);
        ctx.run_later(delay, move |this, ctx| {
            if this.state.pending != Some(pending) {
                return;
            }
            match (cause, this.id.clone()) {
                (RetryCause::Link, Some(id)) => {
                    (this.state.pending, this.state.link.is_unregistered) = (None, true);
                    this.tell_ready(&SessionReady { session: id, reopen: false });
                }
                _ => this.register(ctx),
            }
        });
    }

    fn is_registration_pending(&self) -> bool {
        self.state.pending.is_some_and(|pending| pending.cause == RetryCause::Registration)
    }
}

/// Sends a register call for the session `id`. The id that the hub gives is written to `file`.
async fn register(
    hub: Rc<dyn HubApi>,
    request: RegisterRequest,
    id: Option<SessionId>,
    file: Option<PathBuf>,
) -> Result<SessionId, HubError> {
    let provider_session_id = id.clone().map(String::from);
    let given = hub.register(RegisterRequest { provider_session_id, ..request }).await?;
    // The id is written before it is used, so that it is not lost by a SIGKILL right after the channel opened.
    if let Some(file) = file.filter(|_| id.as_ref() != Some(&given)) {
        save(file, given.clone()).await;
    }
    Ok(given)
}

/// Writes the id on the blocking pool. If the file cannot be written, the id is lost with the process.
async fn save(path: PathBuf, id: SessionId) {
    let name = path.display().to_string();
    let saved = actix_rt::task::spawn_blocking(move || file::save(&path, &id)).await;
    let error = match saved {
        Ok(Ok(())) => return,
        Ok(Err(error)) => own_files::plain(&error),
        Err(_) => "the writer crashed".to_owned(),
    };
    log::warn!("cannot write {name}: {error}; after a restart the hub sees a new publisher");
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.register(ctx);
    }
}

impl Supervised for SessionActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.state = SessionState::default();
    }
}
