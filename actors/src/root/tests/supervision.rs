//! Crashes of tasks, providers and other actors.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use testkit::classic_hub::ClassicHub;
use tokio::sync::watch;
use tokio::time::{Instant, pause};
use wire::register::{Heartbeat, RegisterRequest};
use wire::{SessionId, TaskId};

use super::controlled_backend::{ControlledBackend, crashing};
use super::reloading::agent;
use super::{end, infer, started};
use crate::ended::Ended;
use crate::fakes::hub::{ScriptedHub, pass};
use crate::hub_client::{ControlChannel, HubApi, HubError};
use crate::options::{AgentConfig, ProviderConfig, Timings};
use crate::root::messages::Stop;
use crate::root::{RootActor, Start};
use crate::uplink::{Outcome, Uplink};

/// F86: the channel stays open.
#[actix::test]
async fn a_panic_in_one_provider_leaves_the_others_running() {
    let hub = ClassicHub::start();
    let good = ControlledBackend::new("hello");
    let registrar = started(&hub, vec![crashing("bad"), good.provider("good")]).await;
    for n in 0..3 {
        hub.task(infer(&format!("bad{n}"), "bad"));
        hub.task(infer(&format!("good{n}"), "good"));
    }
    for n in 0..3 {
        assert!(hub.request(&format!("bad{n}/result"), 1).await.json()["error"].is_string());
        assert_eq!(hub.request(&format!("good{n}/result"), 1).await.json()["status"], 200);
    }
    assert_eq!(hub.requests("_provider-stream").len(), 1, "the registrar opened no second channel");
    let status = registrar.status().await.unwrap();
    assert_eq!(status.providers.iter().map(|provider| provider.crashes).collect::<Vec<_>>(), [3, 0]);
    end(registrar).await;
}

/// A registrar with a fake hub without sockets.
pub(super) struct Tree {
    pub(super) hub: Rc<ScriptedHub>,
    root: actix::Addr<RootActor>,
    end: watch::Receiver<Option<Ended>>,
    posts: Rc<Posts>,
    tasks: std::cell::Cell<usize>,
}

#[derive(Default)]
struct Posts(std::cell::RefCell<Vec<String>>);

impl Uplink for Posts {
    fn send_result(&self, _: &TaskId, body: Bytes) -> LocalBoxFuture<'static, Outcome> {
        self.0.borrow_mut().push(String::from_utf8(body.to_vec()).unwrap());
        Box::pin(async { Outcome::Taken })
    }
}

fn launch(
    hub: Rc<dyn HubApi>,
    scripted: Rc<ScriptedHub>,
    providers: Vec<ProviderConfig>,
    agents: Vec<AgentConfig>,
) -> Tree {
    pause();
    let posts = Rc::<Posts>::default();
    let (ended, end) = watch::channel(None);
    let root = RootActor::launch(Start {
        hub,
        uplink: Rc::clone(&posts) as Rc<dyn Uplink>,
        hub_url: "http://hub".to_owned(),
        proxy: None,
        wall_clock: super::asleep::wall_clock,
        backends: crate::backend::Client::new(None),
        session_file: None,
        session: None,
        lock: None,
        providers,
        agents,
        // More than five heartbeats a minute, so that a crash in each one exceeds the limit of crashes.
        timings: Timings { heartbeat_interval: Duration::from_secs(8), ..Timings::default() },
        opened: watch::channel(false).0,
        ended,
    });
    Tree { hub: scripted, root, end, posts, tasks: std::cell::Cell::new(0) }
}

impl Tree {
    pub(super) fn new(providers: Vec<ProviderConfig>, agents: Vec<AgentConfig>) -> Self {
        let hub = Rc::<ScriptedHub>::default();
        launch(Rc::clone(&hub) as Rc<dyn HubApi>, hub, providers, agents)
    }

    /// Sends `times` tasks to one provider, one after the other.
    async fn ask(&self, llm: &str, times: usize) {
        for _ in 0..times {
            let n = self.tasks.get();
            self.tasks.set(n + 1);
            assert!(self.hub.send(&format!("event: task\ndata: {}\n\n", infer(&format!("t{n}"), llm))));
            pass(Duration::from_millis(10)).await;
        }
    }

    fn registered(&self) -> Vec<Vec<String>> {
        let name = |entry: &serde_json::Value| entry["name"].as_str().unwrap_or_default().to_owned();
        let names = |body: serde_json::Value| -> Vec<String> {
            let lists = ["providers", "agents"].map(|key| body[key].as_array().cloned().unwrap_or_default());
            lists.iter().flatten().map(name).collect()
        };
        self.hub.registered().into_iter().map(names).collect()
    }
}

#[actix::test]
async fn a_provider_that_crashes_too_often_is_withdrawn_for_some_time() {
    let good = ControlledBackend::new("hello");
    let providers = vec![crashing("bad"), good.provider("good")];
    let agents = vec![agent("of-bad", "bad"), agent("of-good", "good")];
    let tree = Tree::new(providers, agents);
    pass(Duration::from_secs(1)).await;
    let all = vec!["bad", "good", "of-bad", "of-good"];
    let rest = vec!["good", "of-good"];
    assert_eq!(tree.registered().last().unwrap(), &all);

    for minutes in [1, 2, 4, 8, 10, 10] {
        tree.ask("bad", 6).await;
        assert_eq!(tree.registered().last().unwrap(), &rest, "six crashes are too many");
        let away = Instant::now();
        tree.ask("bad", 1).await;
        assert_eq!(
            tree.posts.0.borrow().last().unwrap(),
            r#"{"error":"provider 'bad' not registered locally"}"#
        );
        tree.ask("good", 1).await;
        assert!(tree.posts.0.borrow().last().unwrap().contains("hello"), "the other provider still answers");
        let known = tree.registered().len();
        // Without the hub's pings the channel would be given up as silent.
        while tree.registered().len() == known {
            tree.hub.send(": ping\n\n");
            pass(Duration::from_secs(1)).await;
        }
        assert_eq!(tree.registered().last().unwrap(), &all);
        assert_eq!(away.elapsed().as_secs() / 60, minutes, "{:?}", away.elapsed());
    }
    assert_eq!(tree.hub.opened(), 1, "the channel stays open");
    tree.root.do_send(Stop::Now);
}

#[actix::test]
async fn five_crashes_a_minute_are_within_the_limit() {
    let good = ControlledBackend::new("hello");
    let tree = Tree::new(vec![crashing("bad"), good.provider("good")], Vec::new());
    pass(Duration::from_secs(1)).await;
    for _ in 0..3 {
        tree.ask("bad", 5).await;
        for _ in 0..2 {
            pass(Duration::from_secs(31)).await;
            tree.hub.send(": ping\n\n");
        }
    }
    assert_eq!(tree.registered().len(), 1);
    tree.root.do_send(Stop::Now);
}

/// Two providers may have the same local name; only their names at the hub are unique.
#[actix::test]
async fn a_provider_with_the_local_name_of_a_withdrawn_one_stays_published() {
    let mut providers = vec![crashing("bad"), ControlledBackend::new("hello").provider("good")];
    for provider in &mut providers {
        provider.name = "local".to_owned();
    }
    let tree = Tree::new(providers, Vec::new());
    pass(Duration::from_secs(1)).await;
    tree.ask("bad", 6).await;
    assert_eq!(tree.registered().last().unwrap(), &["good"]);
    tree.root.do_send(Stop::Now);
}

#[actix::test]
async fn a_registrar_ends_when_every_provider_is_withdrawn() {
    let mut tree = Tree::new(vec![crashing("bad"), crashing("worse")], Vec::new());
    pass(Duration::from_secs(1)).await;
    tree.ask("bad", 6).await;
    assert_eq!(*tree.end.borrow(), None);
    tree.ask("worse", 6).await;
    let ended = tree.end.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert_eq!(ended.exit_code(), 1);
}

/// A hub client whose heartbeats panic.
struct Poison(Rc<ScriptedHub>);

impl HubApi for Poison {
    fn register(&self, request: RegisterRequest) -> LocalBoxFuture<'_, Result<SessionId, HubError>> {
        self.0.register(request)
    }

    fn open_channel(&self, session: SessionId) -> LocalBoxFuture<'_, Result<ControlChannel, HubError>> {
        self.0.open_channel(session)
    }

    fn heartbeat(&self, _: Heartbeat) -> LocalBoxFuture<'_, Result<(), HubError>> {
        panic!("in a heartbeat");
    }

    fn drain(&self, session: SessionId) -> LocalBoxFuture<'_, Result<(), HubError>> {
        self.0.drain(session)
    }
}

#[actix::test]
async fn a_heartbeat_actor_that_keeps_crashing_ends_the_registrar() {
    let hub = Rc::<ScriptedHub>::default();
    let good = ControlledBackend::new("hello");
    let poison = Rc::new(Poison(Rc::clone(&hub)));
    let mut tree = launch(poison, hub, vec![good.provider("good")], Vec::new());
    pass(Duration::from_secs(1)).await;
    tree.ask("good", 1).await;
    assert!(tree.posts.0.borrow().last().unwrap().contains("hello"));
    assert_eq!(*tree.end.borrow(), None);
    let ended = tree.end.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert_eq!(ended, Ended::Failed("the heartbeat actor crashed more than 5 times in a minute".to_owned()));
}
