//! Calls that are passed on, over a network in memory with seeded faults. Slightly over 300 lines: one network serves all of them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix_http::Request;
use actix_web::dev::ServiceResponse;
use actix_web::test::TestRequest;
use actix_web::{HttpMessage, HttpResponse};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::cluster::bus::{Inbox, Incoming};
use crate::cluster::calls::{About, CallError, CallHead};
use crate::cluster::members::{Beat, Event};
use crate::cluster::memory_bus::{MemoryBus, pass};
use crate::cluster::network::Weather;
use crate::cluster::pulse::{self, Learned};
use crate::cluster::served::{Forwarded, Handler, asked};
use crate::quota::BytesPermit;

/// What the handler of a hub has done.
#[derive(Default)]
struct Done {
    begun: Cell<u32>,
    /// Answers that were dropped before their end.
    cut: Cell<u32>,
    /// Bytes of bodies that arrived.
    arrived: Cell<usize>,
}

/// A hub that answers each call with as many numbers as its body is long, one each `pause`.
struct Hub {
    peers: Arc<Peers>,
    done: Rc<Done>,
}

/// Counts an answer that is dropped before its end.
struct Cut(Rc<Done>, bool);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.cut.set(self.0.cut.get() + u32::from(!self.1));
    }
}

fn handler(done: &Rc<Done>, pause: Duration) -> Handler {
    let done = done.clone();
    Rc::new(move |mut request: Request| {
        let done = done.clone();
        Box::pin(async move {
            assert_eq!(request.extensions().get::<Forwarded>().unwrap().token, "tok-1");
            done.begun.set(done.begun.get() + 1);
            let mut size = 0;
            let mut payload = request.take_payload();
            while let Some(Ok(bytes)) = payload.next().await {
                size += bytes.len();
            }
            let state = (0, Cut(done, false));
            let numbers = stream::unfold(state, move |(n, mut cut)| async move {
                if n == size {
                    cut.1 = true;
                    drop(cut);
                    return None;
                }
                sleep(pause).await;
                Some((Ok::<_, std::io::Error>(Bytes::from(format!("{n} "))), (n + 1, cut)))
            });
            let response = HttpResponse::Ok().streaming(numbers);
            Ok(ServiceResponse::new(TestRequest::default().to_http_request(), response))
        })
    })
}

impl Hub {
    fn start(bus: &MemoryBus, process: &str, pause: Duration) -> Self {
        let process = Process::parse(process).unwrap();
        let (port, inbox) = bus.join(process);
        let peers = Arc::new(Peers::new(process, 1, Arc::new(port)));
        let done = Rc::<Done>::default();
        spawn_local(Self::live(peers.clone(), inbox, handler(&done, pause), done.clone()));
        Self { peers, done }
    }

    async fn live(peers: Arc<Peers>, mut inbox: Inbox, handler: Handler, done: Rc<Done>) {
        let (sender, mut learned) = mpsc::unbounded_channel();
        let of_pulse = peers.clone();
        spawn_local(async move {
            let describe = || Beat { term: 1, protocol: [1, 1], ..Beat::default() };
            let bus = of_pulse.bus.clone();
            pulse::run(of_pulse.process, bus, &mut inbox, &of_pulse.members, describe, |_| 0, &sender).await
        });
        while let Some(learned) = learned.recv().await {
            match learned {
                Learned::Event(Event::Suspect(process) | Event::Dead(process)) => peers.lose(process),
                Learned::Event(_) => {}
                Learned::Message(Incoming::Asked(frame, reply)) => {
                    done.arrived.set(done.arrived.get() + frame.body.len());
                    if let Some((reply, arrival)) =
                        asked(&peers, &handler, |_| BytesPermit::default(), &frame, reply)
                    {
                        peers.reply(reply, arrival);
                    }
                }
                Learned::Message(Incoming::Told(frame)) => {
                    if let Some(About::<()> { call, .. }) = frame.data() {
                        peers.served.cancel(frame.from, call);
                    }
                }
            }
        }
    }

    /// Calls the hub `to` with a body of `size` bytes. Returns the whole answer.
    async fn call(&self, to: &Self, size: usize) -> Result<String, Option<CallError>> {
        let head = CallHead {
            method: "POST".into(),
            uri: "/v1/chat/completions".into(),
            headers: Vec::new(),
            token: "tok-1".into(),
            user: "alice".into(),
            address: None,
        };
        let body = Bytes::from(vec![b'x'; size]);
        let answer = self.peers.pass_on(to.peers.process, head, body).await.map_err(Some)?;
        assert_eq!(answer.head.status, 200);
        let mut body = answer.body;
        let mut text = String::new();
        while let Some(part) = body.next().await {
            text.push_str(std::str::from_utf8(&part.map_err(|_| None)?).unwrap());
        }
        Ok(text)
    }
}

fn numbers(count: usize) -> String {
    (0..count).fold(String::new(), |text, n| text + &n.to_string() + " ")
}

/// Runs `test` with two hubs that know each other.
async fn with_two(seed: u64, pause: Duration, test: impl AsyncFnOnce(&MemoryBus, [Hub; 2])) {
    LocalSet::new()
        .run_until(async move {
            let bus = MemoryBus::new(seed);
            let hubs = ["a.aaaaaa", "b.bbbbbb"].map(|process| Hub::start(&bus, process, pause));
            pass(2).await;
            test(&bus, hubs).await;
        })
        .await;
}

/// Whatever the network loses, doubles and delays: an answer is whole, or its end is told, and no call runs twice.
#[tokio::test(start_paused = true)]
async fn an_answer_is_whole_or_broken_and_never_another() {
    let (mut whole, mut broken) = (0, 0);
    for seed in 0..150 {
        let weather = Weather {
            loss: seed % 4 * 10,
            repeat: seed % 3 * 20,
            delay: Duration::from_millis(seed % 5 * 100),
        };
        with_two(seed, Duration::from_millis(3), async |bus, [a, b]| {
            bus.change(|network, _| network.weather = weather);
            let called = timeout(Duration::from_mins(5), a.call(&b, 200)).await;
            if let Ok(text) = called.unwrap_or_else(|_| panic!("seed {seed}: the call hangs")) {
                assert_eq!(text, numbers(200), "seed {seed}");
                whole += 1;
            } else {
                assert!(weather.loss > 0, "seed {seed}: broken without a loss");
                broken += 1;
            }
            assert!(b.done.begun.get() <= 1, "seed {seed}: it ran twice");
            bus.change(|network, _| network.weather = Weather::default());
            pass(10).await;
            assert_eq!((a.peers.calls.len(), b.peers.served.len()), (0, 0), "seed {seed}: it is left");
        })
        .await;
    }
    assert!(whole > 50 && broken > 0, "{whole} whole, {broken} broken");
}

#[tokio::test(start_paused = true)]
async fn a_large_request_arrives_whole() {
    with_two(1, Duration::ZERO, async |_, [a, b]| {
        let size = 3 * crate::cluster::calls::REQUEST_PART + 5;
        let text = a.call(&b, size).await.unwrap();
        assert_eq!(text, numbers(size));
    })
    .await;
}

/// A caller that leaves ends the call at the other hub, also if the word of it is lost.
#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_ends_the_call() {
    for is_lost in [false, true] {
        with_two(1, Duration::from_secs(1), async |bus, [a, b]| {
            let mut call = Box::pin(a.call(&b, 100));
            assert!(timeout(Duration::from_millis(2500), &mut call).await.is_err());
            bus.change(|network, _| network.weather.loss = if is_lost { 100 } else { 0 });
            drop(call);
            bus.change(|network, _| network.weather.loss = 0);
            pass(3).await;
            assert_eq!((b.done.begun.get(), b.done.cut.get()), (1, 1), "{is_lost}");
            assert_eq!(b.peers.served.len(), 0);
        })
        .await;
    }
}

/// Calls to a hub that dies, or does not hear any more, end within seconds; those to one that is not there at once.
#[tokio::test(start_paused = true)]
async fn calls_to_a_hub_that_is_gone_end() {
    for is_killed in [true, false] {
        with_two(1, Duration::from_secs(1), async |bus, [a, b]| {
            let call = a.call(&b, 100);
            let end = async {
                pass(3).await;
                if is_killed {
                    bus.kill(b.peers.process);
                } else {
                    bus.change(|network, _| network.pause(b.peers.process));
                }
                Instant::now()
            };
            let (called, gone) = futures_util::join!(async { (call.await, Instant::now()) }, end);
            let (result, ended) = called;
            assert_eq!(result, Err(None), "a cut answer looks whole");
            // One that is killed is missed by its beats, one that does not hear by its answers.
            let most = Duration::from_secs(if is_killed { 6 } else { 30 });
            assert!(ended - gone < most, "{:?}", ended - gone);
            if is_killed {
                let begun = Instant::now();
                assert_eq!(a.call(&b, 1).await, Err(Some(CallError::NotThere)));
                assert!(begun.elapsed() < Duration::from_secs(1));
            }
        })
        .await;
    }
}

/// A reader that stops holds the other hub back: nothing piles up in between.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_holds_the_other_hub_back() {
    with_two(1, Duration::ZERO, async |_, [a, b]| {
        let head = CallHead {
            method: "POST".into(),
            uri: "/".into(),
            headers: Vec::new(),
            token: "tok-1".into(),
            user: "alice".into(),
            address: None,
        };
        let body = Bytes::from(vec![b'x'; 1 << 20]);
        let mut answer = a.peers.pass_on(b.peers.process, head, body).await.unwrap();
        sleep(Duration::from_mins(1)).await;
        assert_eq!((b.done.cut.get(), b.peers.served.len()), (0, 1), "a waiting call ends");
        let arrived = a.done.arrived.get();
        sleep(Duration::from_mins(1)).await;
        assert_eq!(a.done.arrived.get(), arrived, "what nobody reads is sent again");
        assert!(a.peers.windows.is_empty(), "it takes the place of others");
        let mut size = 0;
        while let Some(part) = answer.body.next().await {
            size += part.unwrap().len();
        }
        assert_eq!(size, numbers(1 << 20).len());
    })
    .await;
}

/// Behind a long queue no answer comes in time. What is on its way is not sent again meanwhile, or the queue would only grow.
#[tokio::test(start_paused = true)]
async fn a_body_is_sent_once_however_late_its_answer() {
    for seed in 0..5 {
        with_two(seed, Duration::ZERO, async |bus, [a, b]| {
            bus.change(|network, _| network.weather.delay = Duration::from_millis(900));
            let size = 60 << 10;
            let text = a.call(&b, size).await.unwrap();
            assert_eq!((b.done.arrived.get(), b.done.begun.get()), (size, 1), "seed {seed}");
            assert_eq!(text, numbers(size), "seed {seed}");
        })
        .await;
    }
}

/// However many calls there are, the bytes on their way are bounded, and none fails for it.
#[tokio::test(start_paused = true)]
async fn bytes_on_their_way_to_another_hub_are_bounded() {
    with_two(1, Duration::from_secs(1), async |bus, [a, b]| {
        let (b_process, size) = (b.peers.process, crate::cluster::calls::REQUEST_PART);
        // Nothing that b says arrives.
        bus.change(|network, _| network.part(|from, _| from == b_process));
        let calls = futures_util::future::join_all((0..40).map(|_| a.call(&b, size)));
        let mut calls = Box::pin(calls);
        assert!(timeout(Duration::from_secs(2), &mut calls).await.is_err());
        assert!(b.done.arrived.get() <= crate::cluster::window::WINDOW, "{}", b.done.arrived.get());
        bus.change(|network, _| network.part(|_, _| false));
        assert!(timeout(Duration::from_secs(10), &mut calls).await.is_err());
        assert_eq!((b.done.begun.get(), b.done.arrived.get()), (40, 40 * size));
    })
    .await;
}
