//! What the bus in memory promises, and what it does not.

use super::*;
use crate::cluster::bus::Topic;
use crate::cluster::members::{Event, State};
use crate::cluster::network::Weather;
use crate::cluster::pulse::tests::Hub;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

fn process(text: &str) -> Process {
    Process::parse(text).unwrap()
}

fn hubs() -> [Process; 3] {
    ["a.aaaaaa", "b.bbbbbb", "c.cccccc"].map(process)
}

fn frame(from: Process, data: &Value) -> Frame {
    Frame::new(from, "test", data).unwrap()
}

/// What has arrived, as JSON.
fn told(inbox: &mut Inbox) -> Vec<Value> {
    let mut all = Vec::new();
    while let Ok(incoming) = inbox.try_recv() {
        match incoming {
            Incoming::Told(frame) => all.push(frame.data().unwrap()),
            Incoming::Asked(..) => panic!("nobody asks"),
        }
    }
    all
}

/// Answers all questions with their own data.
fn echo(me: Process, mut inbox: Inbox) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(incoming) = inbox.recv().await {
            if let Incoming::Asked(question, reply) = incoming {
                let mut answer = frame(me, &question.data().unwrap());
                answer.body = question.body;
                reply.answer(answer).unwrap();
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn all_hear_what_is_told_to_all_in_its_order() {
    let bus = MemoryBus::new(1);
    let [a, b, c] = hubs();
    let (port, mut own) = bus.join(a);
    let (_, mut first) = bus.join(b);
    let (_, mut second) = bus.join(c);
    bus.change(|network, _| network.weather.delay = Duration::from_millis(100));
    for n in 0..20 {
        port.tell(To::All(Topic::Rows), frame(a, &json!(n))).unwrap();
    }
    port.tell(To::Process(b, Lane::Ctl), frame(a, &json!("one"))).unwrap();
    pass(1).await;
    let all: Vec<_> = (0..20).map(|n| json!(n)).collect();
    assert_eq!([told(&mut own), told(&mut second)], [all.clone(), all.clone()]);
    assert_eq!(told(&mut first), [&all[..], &[json!("one")]].concat());
}

#[tokio::test(start_paused = true)]
async fn the_two_lanes_overtake_each_other_and_no_lane_itself() {
    let [a, b, _] = hubs();
    let mut overtaken = 0;
    for seed in 0..20 {
        let bus = MemoryBus::new(seed);
        let (port, _) = bus.join(a);
        let (_, mut inbox) = bus.join(b);
        bus.change(|network, _| network.weather.delay = Duration::from_millis(500));
        for n in 0..10 {
            for lane in Lane::ALL {
                port.tell(To::Process(b, lane), frame(a, &json!([lane.as_str(), n]))).unwrap();
            }
        }
        pass(1).await;
        let arrived = told(&mut inbox);
        assert_eq!(arrived.len(), 20);
        for lane in Lane::ALL {
            let of_lane: Vec<_> =
                arrived.iter().filter(|sent| sent[0] == lane.as_str()).map(|sent| sent[1].clone()).collect();
            assert_eq!(of_lane, (0..10).map(|n| json!(n)).collect::<Vec<_>>());
        }
        overtaken += usize::from(arrived[0][0] != arrived[1][0] || arrived[0][0] == "bulk");
    }
    assert!(overtaken > 0);
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_or_its_asker_learns_why_not() {
    const WITHIN: Duration = Duration::from_secs(4);
    let bus = MemoryBus::new(3);
    let [a, b, c] = hubs();
    let (port, _inbox) = bus.join(a);
    let (_, inbox) = bus.join(b);
    let _answering = echo(b, inbox);
    let ask = async |process| {
        let mut question = frame(a, &json!("?"));
        question.body = Bytes::from_static(b"body");
        let asked = Instant::now();
        let answer = port.ask(process, Lane::Bulk, question, WITHIN).await;
        (answer.map(|answer| (answer.from, answer.body)), asked.elapsed())
    };
    assert_eq!(ask(b).await.0, Ok((b, Bytes::from_static(b"body"))));
    // Nobody is there: that is known at once.
    let (answer, waited) = ask(c).await;
    assert_eq!((answer, waited), (Err(Unanswered::Nobody), Duration::ZERO));
    // Apart, or stopped: the time runs out.
    bus.change(|network, _| network.part(|from, to| (from, to) == (a, b)));
    assert_eq!(ask(b).await, (Err(Unanswered::Late), WITHIN));
    bus.change(|network, _| {
        network.part(|_, _| false);
        network.pause(b);
    });
    assert_eq!(ask(b).await, (Err(Unanswered::Late), WITHIN));
    bus.change(|network, now| network.resume(b, now));
    assert!(ask(b).await.0.is_ok());
    // This process has no connection: nothing is kept for later.
    bus.set_away(a, true);
    assert_eq!(ask(b).await, (Err(Unanswered::Unsent(Unsent::Away)), Duration::ZERO));
    assert_eq!(port.tell(To::All(Topic::Beat), frame(a, &json!(1))), Err(Unsent::Away));
    bus.set_away(a, false);
    assert!(ask(b).await.0.is_ok());
    // Killed.
    bus.kill(b);
    assert_eq!(ask(b).await.0, Err(Unanswered::Nobody));
    assert_eq!(bus.shared.asked.lock().len(), 0, "no question is left");
}

/// F96: what is lost is found by a hole.
#[tokio::test(start_paused = true)]
async fn loss_and_repetition_are_seen_in_the_numbers() {
    let bus = MemoryBus::new(4);
    let [a, b, _] = hubs();
    let (port, _) = bus.join(a);
    let (_, mut inbox) = bus.join(b);
    bus.change(|network, _| network.weather = Weather { loss: 30, repeat: 30, ..Weather::default() });
    port.begin_beat(7);
    for _ in 0..200 {
        port.tell(To::Process(b, Lane::Ctl), frame(a, &json!(null))).unwrap();
    }
    pass(1).await;
    let mut numbers = Vec::new();
    while let Ok(Incoming::Told(frame)) = inbox.try_recv() {
        assert_eq!(frame.beat, 7);
        numbers.push(frame.seq);
    }
    let repeated = numbers.windows(2).filter(|pair| pair[0] == pair[1]).count();
    numbers.dedup();
    assert!(numbers.is_sorted() && (20..80).contains(&repeated), "{repeated}");
    assert!((110..170).contains(&numbers.len()), "{} of 200", numbers.len());
}

/// The hub of `process`.
fn start(bus: &MemoryBus, process: Process, term: u64) -> Hub {
    let (port, inbox) = bus.join(process);
    Hub::start(process, term, Arc::new(port), inbox)
}

#[tokio::test(start_paused = true)]
async fn three_hubs_find_each_other_and_notice_a_death() {
    let bus = MemoryBus::new(5);
    bus.change(|network, _| {
        network.weather = Weather { loss: 10, repeat: 10, delay: Duration::from_millis(300) };
    });
    let [a, b, c] = hubs();
    let [first, mut second, third] = [a, b, c].map(|process| start(&bus, process, 1));
    pass(10).await;
    for hub in [&first, &second, &third] {
        assert_eq!(hub.members.lock().living(), [a, b, c]);
        assert!(hub.members.lock().has_echo());
        assert!(hub.events().iter().all(|event| matches!(event, Event::Alive(_) | Event::Suspect(_))));
    }
    drop(third);
    bus.kill(c);
    pass(6).await;
    assert_eq!([&first, &second].map(|hub| hub.sees(c)), [Some(State::Suspect); 2]);
    // Cut off from the network, and known to be.
    bus.set_away(b, true);
    pass(12).await;
    assert_eq!([&first, &second].map(|hub| hub.sees(c)), [Some(State::Dead); 2]);
    assert_eq!(first.sees(b), Some(State::Suspect));
    let of_c: Vec<_> = first
        .events()
        .into_iter()
        .filter(|event| [Event::Suspect(c), Event::Dead(c)].contains(event))
        .collect();
    assert_eq!(of_c, [Event::Suspect(c), Event::Dead(c)]);
    let others_have_echo = first.members.lock().has_echo();
    assert!(others_have_echo && !second.members.lock().has_echo());
    assert!(others_have_echo && second.members.lock().without_echo().is_some());
    bus.set_away(b, false);
    // A newer process of the dead hub, and one of a living one.
    let newer = [process("c.dddddd"), process("b.dddddd")];
    let [_third, _second] = newer.map(|process| start(&bus, process, 2));
    pass(10).await;
    assert_eq!(first.members.lock().living(), [a, newer[1], newer[0]]);
    assert_eq!(second.ended().await, Some(Event::Superseded(newer[1])));
}

/// A message that was overtaken by more than three beats of its sender is not passed on.
#[tokio::test(start_paused = true)]
async fn what_is_late_by_four_beats_is_dropped() {
    let bus = MemoryBus::new(6);
    let [a, b, _] = hubs();
    let (port, inbox) = bus.join(b);
    let port = Arc::new(port);
    let _sender = Hub::start(b, 1, port.clone(), inbox);
    let receiver = start(&bus, a, 1);
    pass(5).await;
    let tell = |text| port.tell(To::Process(a, Lane::Bulk), frame(b, &json!(text))).unwrap();
    tell("on time");
    pass(1).await;
    let arrives_after = |seconds| {
        let mut at = Duration::ZERO;
        bus.change(|network, now| at = network.next_at().unwrap().saturating_sub(now));
        assert!(at > Duration::from_secs(seconds), "{at:?}");
    };
    bus.change(|network, _| network.weather.delay = Duration::from_mins(1));
    tell("late");
    bus.change(|network, _| network.weather.delay = Duration::ZERO);
    arrives_after(5);
    pass(61).await;
    tell("on time again");
    pass(1).await;
    let learned: Vec<Value> = receiver.messages().iter().map(|frame| frame.data().unwrap()).collect();
    assert_eq!(learned, [json!("on time"), json!("on time again")]);
}
