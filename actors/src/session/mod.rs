//! The `SessionActor`: who we are to the hub. Owns the sticky id and its file, and registers.

pub mod entries;
pub mod file;
pub mod messages;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;
use wire::SessionId;
use wire::register::RegisterRequest;

use crate::backoff::{GOOD_AFTER, ReconnectDelay};
use crate::changes::Changes;
use crate::hub_client::{HubApi, HubError, HubErrorKind};
use crate::news::news;

use entries::Probe;
use messages::{NotRegistered, Publish, Published, Register, RetryNow, SessionLost, SessionReady};

/// A hub that refuses is asked again after this: an administrator's change is seen within a minute, and no log of
/// theirs fills up.
pub const REFUSED_RETRY: Duration = Duration::from_mins(1);

/// What the session needs.
pub struct Config {
    /// The hub.
    pub hub: Rc<dyn HubApi>,
    /// Where the id is kept; `None` keeps it in memory.
    pub file: Option<PathBuf>,
    /// Tells whether a backend is available.
    pub probe: Probe,
    /// The delays, shared with `StreamActor`: one connection, one rhythm.
    pub pace: Rc<RefCell<ReconnectDelay>>,
}

/// Who hears of it.
pub struct SessionLinks {
    /// `StreamActor`, `HeartbeatActor`, the root.
    pub ready: Vec<Recipient<SessionReady>>,
    /// The root.
    pub failed: Recipient<NotRegistered>,
}

/// Registers at start, before each reconnect, and when the hub has forgotten the session.
pub struct SessionActor {
    config: Config,
    links: SessionLinks,
    // These survive a crash: they are facts about the hub and the configuration, not about this life.
    published: Published,
    id: Option<SessionId>,
    accepted_once: bool,
    problem: Changes,
    state: State,
}

#[derive(Default)]
struct State {
    /// A registration runs.
    running: bool,
    /// Another one is wanted when it is done: what it registered is not the newest set.
    again: bool,
    /// The session is new to the hub: a channel that is still open belongs to the old one.
    reopen: bool,
    /// The delay that is being waited for, by number: an older timer that fires means nothing.
    waiting: Option<u64>,
    attempts: u64,
    /// When the hub had forgotten us last.
    forgotten_at: Option<Instant>,
}

impl SessionActor {
    /// A session that registers `published` when it starts. `id` is what the file held.
    pub fn new(config: Config, links: SessionLinks, published: Published, id: Option<SessionId>) -> Self {
        Self {
            config,
            links,
            published,
            id,
            accepted_once: false,
            problem: Changes::default(),
            state: State::default(),
        }
    }

    fn register(&mut self, ctx: &mut Context<Self>) {
        if self.published.providers.is_empty() || self.state.running {
            return;
        }
        self.state.running = true;
        self.state.waiting = None;
        let (hub, probe) = (Rc::clone(&self.config.hub), Rc::clone(&self.config.probe));
        let (published, id, file) = (self.published.clone(), self.id.clone(), self.config.file.clone());
        let registering = async move {
            let providers = entries::providers(&published.providers, &probe).await;
            let provider_session_id = id.clone().map(String::from);
            let request = RegisterRequest { provider_session_id, providers, agents: published.agents };
            let given = hub.register(request).await?;
            // On disk before anybody uses it: a kill -9 right after the channel opened must find it again.
            if let Some(file) = file.filter(|_| id.as_ref() != Some(&given)) {
                save(file, given.clone()).await;
            }
            Ok(given)
        };
        ctx.spawn(registering.into_actor(self).map(|result, this, ctx| {
            this.state.running = false;
            match result {
                Ok(id) => this.registered(id, ctx),
                Err(error) => this.not_registered(&error, ctx),
            }
        }));
    }

    fn registered(&mut self, id: SessionId, ctx: &mut Context<Self>) {
        if !self.accepted_once || self.problem.clear() {
            let count = self.published.providers.len();
            news!(info, "register calls", "the hub", "registered with the hub: {count} published");
        }
        self.accepted_once = true;
        let changed = self.id.as_ref() != Some(&id);
        self.id = Some(id.clone());
        if std::mem::take(&mut self.state.again) {
            self.register(ctx);
            return;
        }
        if self.published.providers.is_empty() {
            return;
        }
        let ready = SessionReady { session: id, reopen: std::mem::take(&mut self.state.reopen) || changed };
        for listener in &self.links.ready {
            listener.do_send(ready.clone());
        }
    }

    fn not_registered(&mut self, error: &HubError, ctx: &mut Context<Self>) {
        let refused = error.kind() != HubErrorKind::Retry;
        let fatal = refused && !self.accepted_once;
        let reason = error.to_string();
        let delay = if refused {
            REFUSED_RETRY
        } else {
            let mut pace = self.config.pace.borrow_mut();
            if let Some(hint) = error.retry_after() {
                pace.retry_after(hint);
            }
            pace.next_delay()
        };
        if self.problem.is_news(&reason) && !fatal {
            let seconds = delay.as_secs_f64();
            news!(
                warn,
                "register calls refused",
                "the hub",
                "not registered: {reason}; next try in {seconds:.1} s"
            );
        }
        self.links.failed.do_send(NotRegistered { reason, refused, fatal });
        if fatal {
            return;
        }
        self.state.again = false;
        self.register_in(delay, ctx);
    }

    fn register_in(&mut self, delay: Duration, ctx: &mut Context<Self>) {
        self.state.attempts += 1;
        let attempt = self.state.attempts;
        self.state.waiting = Some(attempt);
        ctx.run_later(delay, move |this, ctx| {
            if this.state.waiting == Some(attempt) {
                this.register(ctx);
            }
        });
    }
}

/// On the blocking pool. An unwritable file costs the stickiness, not the session.
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
        self.state = State::default();
    }
}

impl Handler<Register> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Register, ctx: &mut Self::Context) {
        if self.state.waiting.is_none() {
            self.register(ctx);
        }
    }
}

impl Handler<SessionLost> for SessionActor {
    type Result = ();

    fn handle(&mut self, lost: SessionLost, ctx: &mut Self::Context) {
        if self.id.as_ref() == Some(&lost.session) && self.state.waiting.is_none() && !self.state.running {
            self.state.reopen = true;
            let now = Instant::now();
            let before = self.state.forgotten_at.replace(now);
            // A hub that forgets us as soon as it has us, by whatever mistake, must not be run at.
            if before.is_some_and(|at| now - at < GOOD_AFTER) {
                let delay = self.config.pace.borrow_mut().next_delay();
                news!(
                    warn,
                    "sessions forgotten at once",
                    "the hub",
                    "the hub forgets this session at once; next try in {:.1} s",
                    delay.as_secs_f64()
                );
                self.register_in(delay, ctx);
            } else {
                news!(
                    info,
                    "sessions forgotten",
                    "the hub",
                    "the hub has forgotten this session: registering again"
                );
                self.register(ctx);
            }
        }
    }
}

impl Handler<Publish> for SessionActor {
    type Result = ();

    fn handle(&mut self, Publish(published): Publish, ctx: &mut Self::Context) {
        self.published = published;
        if self.published.providers.is_empty() {
            self.state.waiting = None;
        } else if self.state.running {
            self.state.again = true;
        } else {
            self.register(ctx);
        }
    }
}

impl Handler<RetryNow> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: RetryNow, ctx: &mut Self::Context) {
        if self.state.waiting.is_some() {
            self.register(ctx);
        }
    }
}
