//! Hubs over real servers of NATS.

use std::collections::HashSet;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::nats::{NatsServer, shared};
use testkit::wait::eventually;
use tokio::time::Instant;

use super::*;
use crate::cluster::members::State as MemberState;
use crate::cluster::pulse::tests::Hub;

/// A hub with its connections.
struct Joined {
    process: Process,
    nats: Arc<Nats>,
    hub: Hub,
}

impl Joined {
    async fn start(options: &NatsOptions, process: &str, term: u64) -> Self {
        let process = Process::parse(process).unwrap();
        let (nats, inbox) = Nats::connect(options, process).await.unwrap();
        let nats = Arc::new(nats);
        let hub = Hub::start(process, term, nats.clone(), inbox);
        Self { process, nats, hub }
    }

    fn frame(&self, data: &Value) -> Frame {
        Frame::new(self.process, "test", data).unwrap()
    }

    async fn ask(&self, process: Process, within: Duration) -> (Result<Value, Unanswered>, Duration) {
        let asked = Instant::now();
        let mut question = self.frame(&json!("?"));
        question.body = vec![7; 600 << 10].into();
        let answer = self.nats.ask(process, Lane::Bulk, question, within).await;
        (answer.map(|answer| answer.data().unwrap()), asked.elapsed())
    }

    fn has_echo(&self) -> bool {
        self.hub.members.lock().has_echo()
    }

    fn sees(&self, all: &[&Self]) -> bool {
        let expected: HashSet<_> = all.iter().map(|joined| joined.process).collect();
        let living: HashSet<_> = self.hub.members.lock().living().into_iter().collect();
        living == expected && self.has_echo()
    }
}

fn options(url: String) -> NatsOptions {
    let cluster = format!("test-{}", crate::random::hex(&crate::random::bytes::<6>()));
    NatsOptions { url, cluster, credentials: None }
}

#[tokio::test]
async fn three_hubs_find_each_other_over_a_server() {
    let Some(url) = shared().await else { return };
    let options = options(url);
    let a = Joined::start(&options, "a.aaaaaa", 1).await;
    let b = Joined::start(&options, "b.bbbbbb", 1).await;
    let c = Joined::start(&options, "c.cccccc", 1).await;
    let all = [&a, &b, &c];
    eventually("all see all", async || all.iter().all(|joined| joined.sees(&all))).await;
    // The body makes it a long message.
    let long = Duration::from_secs(5);
    assert_eq!(a.ask(b.process, long).await.0, Ok(json!(600 << 10)));
    let mut longest = a.frame(&json!(null));
    longest.body = vec![0; 2 << 20].into();
    assert_eq!(a.nats.tell(To::Process(b.process, Lane::Bulk), longest), Err(Unsent::TooLong));
    // A process that ends is missed at once by who asks it.
    let process = c.process;
    drop(c);
    eventually("c is gone", async || {
        let (answer, waited) = a.ask(process, long).await;
        answer == Err(Unanswered::Nobody) && waited < Duration::from_secs(1)
    })
    .await;
    // A newer process of b ends the older one.
    let newer = Joined::start(&options, "b.dddddd", 2).await;
    eventually("the newer b is seen", async || {
        a.hub.sees(newer.process) == Some(MemberState::Alive)
            && a.hub.sees(b.process) == Some(MemberState::Dead)
    })
    .await;
    let Joined { mut hub, .. } = b;
    assert_eq!(hub.ended().await, Some(crate::cluster::members::Event::Superseded(newer.process)));
}

#[tokio::test]
async fn nothing_is_kept_while_the_server_is_away() {
    let Some(mut server) = NatsServer::start() else { return };
    let options = options(server.url());
    let a = Joined::start(&options, "a.aaaaaa", 1).await;
    let b = Joined::start(&options, "b.bbbbbb", 1).await;
    eventually("both are there", async || a.sees(&[&a, &b]) && b.sees(&[&a, &b])).await;
    let tell = |text: &str| a.nats.tell(To::Process(b.process, Lane::Ctl), a.frame(&json!(text)));
    let mut heard = Vec::new();
    let mut is_last = async |text: &str| {
        heard.extend(b.hub.messages().iter().map(|frame| frame.data::<Value>().unwrap()));
        heard.last() == Some(&json!(text))
    };
    assert_eq!(tell("before"), Ok(()));
    eventually("it arrives", async || is_last("before").await).await;
    server.kill();
    eventually("the loss is noticed", async || Lane::ALL.iter().all(|lane| a.nats.is_away(*lane))).await;
    assert_eq!(tell("lost"), Err(Unsent::Away));
    let (answer, waited) = a.ask(b.process, Duration::from_secs(5)).await;
    assert_eq!(answer, Err(Unanswered::Unsent(Unsent::Away)));
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    eventually("the echo is missed", async || !a.has_echo()).await;
    server.run();
    eventually("both are back", async || a.sees(&[&a, &b]) && b.sees(&[&a, &b])).await;
    eventually("it can be sent again", async || tell("after") == Ok(())).await;
    eventually("it arrives", async || is_last("after").await).await;
    assert_eq!(heard, [json!("before"), json!("after")]);
}

/// A server that is stopped keeps its connections: what shows it is a beat that does not come back.
#[tokio::test]
async fn a_server_that_is_stopped_is_noticed_by_the_echo() {
    let Some(server) = NatsServer::start() else { return };
    let options = options(server.url());
    let a = Joined::start(&options, "a.aaaaaa", 1).await;
    let b = Joined::start(&options, "b.bbbbbb", 1).await;
    eventually("both are there", async || a.sees(&[&a, &b]) && b.sees(&[&a, &b])).await;
    server.signal(Signal::SIGSTOP);
    // A thread of the server may run on for a moment.
    eventually("a question is late", async || {
        let (answer, waited) = a.ask(b.process, Duration::from_millis(700)).await;
        assert!(waited < Duration::from_secs(2), "{waited:?}");
        answer == Err(Unanswered::Late)
    })
    .await;
    eventually("the echo is missed", async || !a.has_echo() && !b.has_echo()).await;
    assert!(a.hub.members.lock().without_echo().is_some());
    server.signal(Signal::SIGCONT);
    eventually("both are back", async || a.sees(&[&a, &b]) && b.sees(&[&a, &b])).await;
    eventually("questions are answered", async || a.ask(b.process, Duration::from_secs(1)).await.0.is_ok())
        .await;
    assert!(a.nats.questions.lock().is_empty(), "a question that was not answered is forgotten");
}

#[test]
fn hubs_return_at_different_times() {
    for attempt in [0, 1, 3, 6, 60, usize::MAX] {
        let delays: HashSet<_> = (0..50).map(|_| delay(attempt)).collect();
        assert!(delays.len() > 40, "{attempt}: {delays:?}");
        assert!(delays.iter().all(|delay| *delay <= LONGEST_DELAY));
    }
}
