//! The `SessionActor` against a hub without sockets, on a paused clock.

mod abilities;
mod entries;
mod reconnects;
mod restarts;
mod session_file;

use std::sync::Arc;

use futures_util::future::{LocalBoxFuture, ready};
use testkit::captured_log;
use testkit::wait::wait_until;
use tokio::time::{Instant, pause};
use wire::WireName;

use super::messages::{Register, RetryNow, SessionLost};
use super::*;
use crate::backend::AbilityAnswer;
use crate::fakes::hub::{HubCall, Received, ScriptedHub, pass, probe, session, status, unreachable};
use crate::options::{BackendConfig, MockConfig, ProviderConfig};
use crate::status::ChannelTransport;
use crate::stream::messages::{ChannelLost, ChannelOpened};

const SECOND: Duration = Duration::from_secs(1);

fn provider(name: &str) -> ProviderConfig {
    let name = WireName::parse(name).unwrap();
    ProviderConfig::new(name, "model", BackendConfig::Mock(MockConfig::default()))
}

fn published(names: &[&str]) -> Publish {
    let providers = names.iter().map(|name| Arc::new(provider(name))).collect();
    Publish { providers, agents: Vec::new() }
}

struct Setup {
    hub: Rc<ScriptedHub>,
    actor: Addr<SessionActor>,
    ready: Received<SessionReady>,
    failed: Received<NotRegistered>,
}

/// Starts the `SessionActor` without jitter: every delay is the base of 5 s.
fn start(hub: ScriptedHub, published: Publish, file: Option<PathBuf>) -> Setup {
    start_with(hub, published, file, 0.0)
}

fn start_with(hub: ScriptedHub, published: Publish, file: Option<PathBuf>, random: f64) -> Setup {
    let nothing: AbilityQuestion = Rc::new(|_| Box::pin(ready(AbilityAnswer::UNKNOWN)));
    start_asking(hub, published, file, random, nothing)
}

fn start_asking(
    hub: ScriptedHub,
    published: Publish,
    file: Option<PathBuf>,
    random: f64,
    question: AbilityQuestion,
) -> Setup {
    let hub = Rc::new(hub);
    let (to_ready, ready) = probe();
    let (to_failed, failed) = probe();
    let id = file.as_deref().and_then(file::load);
    let config = Config {
        hub: Rc::clone(&hub) as Rc<dyn HubApi>,
        file,
        is_available: Rc::new(|_| ready_with(true)),
        ask_abilities: question,
        delay: ReconnectDelay::new(5 * SECOND, 60 * SECOND, Box::new(move || random)),
    };
    let links = SessionLinks { ready: vec![to_ready], failed: to_failed };
    let actor = SessionActor::new(config, links, published, id).start();
    Setup { hub, actor, ready, failed }
}

impl Setup {
    /// Seconds from `start` to each registration.
    fn register_seconds(&self, start: Instant) -> Vec<u64> {
        let moments = self.hub.moments(|call| matches!(call, HubCall::Register(_)));
        moments.iter().filter(|at| **at >= start).map(|at| (*at - start).as_secs()).collect()
    }

    /// Reports a lost channel, and returns the delay of the next registration in seconds.
    async fn channel_delay(&self, refused: bool, open_for: Option<u64>, hint_ms: Option<u64>) -> u64 {
        let (open_for, retry_hint) = (open_for.map(Duration::from_secs), hint_ms.map(Duration::from_millis));
        let (lost_at, reason) = (Instant::now(), "lost".to_owned());
        self.actor.do_send(ChannelLost {
            reason,
            refused,
            open_for,
            retry_hint,
            is_link: false,
            has_tasks: false,
            restart: None,
        });
        pass(100 * SECOND).await;
        let seconds = self.register_seconds(lost_at);
        assert_eq!(seconds.len(), 1, "{seconds:?}");
        seconds[0]
    }
}

fn ready_with(value: bool) -> LocalBoxFuture<'static, bool> {
    Box::pin(ready(value))
}

#[actix::test]
async fn the_session_registers_at_start_and_reports_readiness() {
    pause();
    let setup = start(ScriptedHub::default(), published(&["a"]), None);
    pass(SECOND).await;
    assert_eq!(*setup.ready.borrow(), [SessionReady { session: session("sess-1"), reopen: true }]);
    assert_eq!(setup.hub.registered().len(), 1);
}

/// P4, F26: the retry waits for the base delay, and for the hub's `Retry-After`.
#[actix::test]
async fn a_failed_registration_is_retried_after_the_delay() {
    pause();
    let hub = ScriptedHub::default();
    let hint = HubError::Status {
        call: "provider-register",
        status: 503,
        message: String::new(),
        retry_after: Some(20 * SECOND),
    };
    hub.registers.borrow_mut().extend([Err(unreachable()), Err(hint), Err(unreachable())]);
    let start_at = Instant::now();
    let setup = start(hub, published(&["a"]), None);
    pass(60 * SECOND).await;
    assert_eq!(setup.register_seconds(start_at), [0, 5, 25, 30]);
    assert!(setup.failed.borrow().iter().all(|failure| !failure.fatal));
}

/// F17, F18, F19, F20: the registration is not retried.
#[actix::test]
async fn a_refused_registration_at_start_ends_the_registrar() {
    pause();
    for refusal in [301, 400, 401, 403, 404, 409, 410, 413, 422, 499] {
        let hub = ScriptedHub::default();
        hub.registers.borrow_mut().push_back(Err(status(refusal)));
        let setup = start(hub, published(&["a"]), None);
        pass(600 * SECOND).await;
        assert!(setup.failed.borrow()[0].fatal, "{refusal}");
        assert_eq!(setup.hub.registered().len(), 1, "{refusal}");
    }
}

/// F18, F19, F20: a registration refused after the start is retried once a minute.
#[actix::test]
async fn a_later_refusal_is_retried_every_60_seconds() {
    pause();
    for refusal in [301, 400, 401, 403, 409, 422] {
        captured_log::listen("actors");
        let setup = start(ScriptedHub::default(), published(&["a"]), None);
        pass(SECOND).await;
        setup.hub.registers.borrow_mut().extend((0..5).map(|_| Err(status(refusal))));
        let start = Instant::now();
        setup.actor.do_send(Register);
        pass(400 * SECOND).await;
        assert_eq!(setup.register_seconds(start), [0, 60, 120, 180, 240, 300], "{refusal}");
        assert!(setup.failed.borrow().iter().all(|failure| failure.refused && !failure.fatal));
        assert_eq!(setup.ready.borrow().len(), 2, "the sixth registration is accepted");
        let lines = captured_log::lines_with("not registered");
        let reason = format!("HTTP {refusal}: no; next try in 60.0 s");
        assert!(lines.len() == 1 && lines[0].ends_with(&reason), "logged once: {lines:?}");
    }
}

/// F21: the session registers at once, with the same id.
#[actix::test]
async fn a_session_that_the_hub_lost_is_registered_again() {
    pause();
    let setup = start(ScriptedHub::default(), published(&["a"]), None);
    pass(SECOND).await;
    setup.actor.do_send(SessionLost { session: session("sess-1") });
    setup.actor.do_send(SessionLost { session: session("sess-earlier") });
    pass(SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2);
    assert_eq!(setup.hub.registered()[1]["providerSessionId"], "sess-1");
    assert_eq!(setup.ready.borrow()[1], SessionReady { session: session("sess-1"), reopen: true });
}

#[actix::test]
async fn a_changed_set_of_providers_is_registered_unless_it_is_empty() {
    pause();
    let setup = start(ScriptedHub::default(), published(&["a"]), None);
    pass(SECOND).await;
    setup.actor.do_send(published(&["a", "b"]));
    pass(SECOND).await;
    assert_eq!(setup.hub.registered()[1]["providers"].as_array().map(Vec::len), Some(2));
    assert!(!setup.ready.borrow()[1].reopen);
    setup.actor.do_send(Publish::default());
    setup.actor.do_send(Register);
    pass(100 * SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2);
}

/// F60: the end of a suspend ends the delay.
#[actix::test]
async fn after_a_suspend_the_session_does_not_wait_for_the_delay() {
    pause();
    let hub = ScriptedHub::default();
    hub.registers.borrow_mut().push_back(Err(unreachable()));
    let setup = start(hub, published(&["a"]), None);
    pass(SECOND).await;
    setup.actor.do_send(RetryNow);
    pass(SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2);
    pass(100 * SECOND).await;
    assert_eq!(setup.hub.registered().len(), 2, "the timer of the delay has no effect");
}

#[actix::test]
async fn the_session_id_of_the_answer_is_stored_in_the_session_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/provider-session");
    let hub = ScriptedHub::default();
    hub.registers.borrow_mut().push_back(Ok(session("sess-1")));
    let setup = start(hub, published(&["a"]), Some(path.clone()));
    wait_until("ready", || !setup.ready.borrow().is_empty()).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "sess-1\n");
    assert_eq!(session_file::mode(&path), 0o600);
    assert_eq!(session_file::mode(path.parent().unwrap()), 0o700);

    let setup = start(ScriptedHub::default(), published(&["a"]), Some(path));
    wait_until("ready", || !setup.ready.borrow().is_empty()).await;
    assert_eq!(setup.hub.registered()[0]["providerSessionId"], "sess-1");
}
