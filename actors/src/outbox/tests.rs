//! The outbox against a hub that fails in every way, on a paused clock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use proptest::prelude::*;
use tokio::time::pause;

use super::ledger::{KEEP_ENDED, MAX_BYTES, MAX_ENDED};
use super::*;
use crate::test_log;
use crate::uplink::Cut;

/// A hub that gives the prepared answers, then takes all.
#[derive(Default)]
struct FakeHub {
    answers: RefCell<VecDeque<Posted>>,
    posts: RefCell<Vec<(Instant, String, String)>>,
}

impl FakeHub {
    fn bodies(&self) -> Vec<String> {
        self.posts.borrow().iter().map(|(_, _, body)| body.clone()).collect()
    }
}

impl Uplink for FakeHub {
    fn post_result(&self, task: &TaskId, body: Bytes) -> LocalBoxFuture<'static, Posted> {
        let body = String::from_utf8(body.to_vec()).unwrap();
        self.posts.borrow_mut().push((Instant::now(), task.to_string(), body));
        let answer = self.answers.borrow_mut().pop_front().unwrap_or(Posted::Taken);
        async move { answer }.boxed_local()
    }

    fn upload(&self, _: &TaskId, _: mpsc::Receiver<Result<Bytes, Cut>>) -> LocalBoxFuture<'static, Posted> {
        unreachable!("the outbox posts")
    }
}

fn failed() -> Posted {
    Posted::Failed { retry_after: None, nothing_taken: true }
}

fn setup(answers: impl IntoIterator<Item = Posted>) -> (Rc<FakeHub>, Outbox) {
    let hub = Rc::new(FakeHub { answers: RefCell::new(answers.into_iter().collect()), ..FakeHub::default() });
    (Rc::clone(&hub), Outbox::new(hub))
}

fn id(text: &str) -> TaskId {
    TaskId::parse(text).unwrap()
}

fn error(text: &str) -> TaskResult {
    TaskResult::error(text.to_owned())
}

/// F28, F29: tried again, and given up in the end.
#[actix::test]
async fn a_terminal_result_that_fails_is_retried_250_ms_doubling_to_5_s_for_60_s() {
    test_log::listen();
    pause();
    let (hub, outbox) = setup(std::iter::repeat_n(failed(), 1000));
    let start = Instant::now();
    outbox.finish(outbox.admit(&id("t"), 0).unwrap(), &error("e"));
    outbox.settled().await;
    let posts = hub.posts.borrow();
    let gaps: Vec<u128> =
        posts.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0).as_millis() / 10 * 10).collect();
    assert_eq!(gaps[..6], [250, 500, 1000, 2000, 4000, 5000]);
    assert!(gaps[6..].iter().all(|gap| *gap <= 5000));
    assert_eq!(start.elapsed().as_secs(), 60);
    let told = test_log::lines_with("its result is lost");
    assert_eq!(told, ["WARN task t: its result is lost, the hub did not take it in time"]);
}

/// P1, F28: late, and once.
#[actix::test]
async fn a_result_posted_late_is_delivered_once_and_what_the_hub_asks_for_is_honoured() {
    pause();
    let wait = Posted::Failed { retry_after: Some(Duration::from_secs(17)), nothing_taken: true };
    let (hub, outbox) = setup([wait, failed()]);
    let start = Instant::now();
    outbox.finish(outbox.admit(&id("t"), 0).unwrap(), &error("e"));
    assert_eq!(outbox.open(), 1);
    outbox.settled().await;
    assert_eq!(start.elapsed().as_millis() / 10 * 10, 17_000 + 500);
    assert_eq!(hub.bodies(), [r#"{"error":"e"}"#; 3]);
}

/// P1, F10, F11: the second time costs no inference.
#[actix::test]
async fn a_task_id_that_comes_twice_runs_once_and_gets_the_same_result_again() {
    let (hub, outbox) = setup([]);
    let ticket = outbox.admit(&id("t"), 0).unwrap();
    assert!(outbox.admit(&id("t"), 0).is_none());
    outbox.finish(ticket, &TaskResult::answer(200, "{\"a\":1}").unwrap());
    outbox.settled().await;
    assert!(outbox.admit(&id("t"), 0).is_none());
    outbox.inner.changed.notified().await;
    assert_eq!(hub.bodies(), [r#"{"status":200,"body":{"a":1}}"#; 2]);
}

/// F11: what went out as a stream is not said again.
#[actix::test]
async fn an_ended_streamed_task_that_comes_again_is_told_that_it_was_answered() {
    let (hub, outbox) = setup([]);
    outbox.close(outbox.admit(&id("uploaded"), 0).unwrap());
    outbox.finish(outbox.admit(&id("posted"), 0).unwrap(), &TaskResult::done(None));
    outbox.settled().await;
    for ended in ["uploaded", "posted"] {
        assert!(outbox.admit(&id(ended), 0).is_none());
        outbox.inner.changed.notified().await;
        assert_eq!(hub.bodies().last().unwrap(), r#"{"error":"task already answered"}"#);
    }
}

#[actix::test]
async fn a_ticket_that_is_dropped_ends_its_task_with_an_error() {
    let (hub, outbox) = setup([]);
    drop(outbox.admit(&id("t"), 0).unwrap());
    outbox.settled().await;
    assert_eq!(hub.bodies(), [error(LOST).to_json()]);
}

/// F33: not tried again as it was.
#[actix::test]
async fn a_result_that_the_hub_refuses_is_replaced_by_an_error_once() {
    let refused = || Posted::Refused { status: 413 };
    let (hub, outbox) = setup([refused(), refused()]);
    outbox.finish(outbox.admit(&id("t"), 0).unwrap(), &TaskResult::awake(1));
    outbox.settled().await;
    assert_eq!(hub.bodies()[1..], [r#"{"error":"the hub refused the result (HTTP 413)"}"#]);
}

/// F02, F32: 410 is the end of it.
#[actix::test]
async fn a_result_whose_caller_has_gone_is_dropped() {
    let (hub, outbox) = setup([Posted::Gone]);
    outbox.finish(outbox.admit(&id("t"), 0).unwrap(), &error("e"));
    outbox.settled().await;
    assert_eq!(hub.bodies().len(), 1);
}

/// P7, F29: results that wait for the hub have a limit, and behind it tasks wait.
#[actix::test]
async fn finished_tasks_wait_for_room_while_64_mib_of_results_wait_for_the_hub() {
    pause();
    let (_hub, outbox) = setup([failed()]);
    let large = TaskResult::error("x".repeat(SLOT_LIMIT + 1));
    outbox.finish(outbox.admit(&id("t"), 0).unwrap(), &large);
    assert!(outbox.has_room().now_or_never().is_none());
    outbox.has_room().await;
    assert_eq!(outbox.open(), 0);
}

/// P7, F11: the memory of ended tasks has limits.
#[actix::test]
async fn ended_ids_are_remembered_10_minutes_at_most_1024_and_8_mib() {
    pause();
    let start = Instant::now();
    let mut ledger = Ledger::default();
    let end = |ledger: &mut Ledger, name: &str, size: usize, at| {
        assert_eq!(ledger.admit(&id(name), 0, at), IdState::New);
        ledger.end(&id(name), Some(Bytes::from(vec![b'x'; size])), at);
    };
    for n in 0..=MAX_ENDED {
        end(&mut ledger, &n.to_string(), 1, start);
    }
    assert_eq!(ledger.admit(&id("0"), 0, start), IdState::New);
    assert_eq!(ledger.admit(&id("1"), 0, start), IdState::Answered(Bytes::from_static(b"x")));
    let later = start + KEEP_ENDED;
    assert_eq!(ledger.admit(&id("1"), 0, later), IdState::New);

    for n in 0..5 {
        end(&mut ledger, &format!("big{n}"), MAX_BYTES / 4, later);
    }
    assert_eq!(ledger.admit(&id("big0"), 0, later), IdState::New);
    assert!(matches!(ledger.admit(&id("big4"), 0, later), IdState::Answered(_)));
    end(&mut ledger, "huge", MAX_BYTES / 4 + 1, later);
    assert_eq!(ledger.admit(&id("huge"), 0, later), IdState::NotKept);
}

/// A hub that counts from one again after its restart: a result goes to the caller who asked for it, and to no other.
#[actix::test]
async fn an_id_that_comes_again_with_another_request_is_another_task() {
    let now = Instant::now();
    let mut ledger = Ledger::default();
    for (asked, result) in [(1, "alice's"), (2, "bob's"), (1, "carol's")] {
        assert_eq!(ledger.admit(&id("7"), asked, now), IdState::New, "{result}");
        assert_eq!(ledger.admit(&id("7"), asked, now), IdState::Running);
        ledger.end(&id("7"), Some(Bytes::from_static(result.as_bytes())), now);
        assert_eq!(
            ledger.admit(&id("7"), asked, now),
            IdState::Answered(Bytes::from_static(result.as_bytes()))
        );
    }
    assert_eq!(ledger.running(), 0);
}

/// F11: nobody gets another's answer, also while the first has not ended: neither is told anything but an error.
#[actix::test]
async fn an_id_that_comes_with_another_request_while_the_first_runs_gets_an_error_for_both() {
    test_log::listen();
    pause();
    let (hub, outbox) = setup([]);
    let first = outbox.admit(&id("7"), 1).unwrap();
    assert!(outbox.admit(&id("7"), 1).is_none() && !outbox.is_disowned(&id("7")));
    assert!(outbox.admit(&id("7"), 2).is_none() && outbox.is_disowned(&id("7")));
    assert_eq!(
        outbox.uplink().post_result(&id("7"), Bytes::from_static(b"alice's chunk")).await,
        Posted::Gone
    );
    outbox.finish(first, &error("alice's"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(hub.bodies(), [error(ID_TAKEN).to_json()]);
    assert_eq!(test_log::lines_with("gave this id to two tasks").len(), 1);
    outbox.finish(outbox.admit(&id("7"), 2).unwrap(), &error("bob's, at last"));
    outbox.settled().await;
    assert_eq!(hub.bodies().last(), Some(&error("bob's, at last").to_json()));
}

proptest! {
    /// F11, F28: whatever comes under which id, with whatever answers of the hub: what is posted for an id is an error of
    /// ours or the answer to what the hub asked last under it, and each task ends.
    #[test]
    fn what_is_said_of_an_id_is_the_answer_to_what_it_stands_for(
        steps in prop::collection::vec((0..4_u8, 0..2_u8, 0..3_u64, 0..2_000_u64), 1..60),
        answers in prop::collection::vec(prop::bool::weighted(0.6), 0..60),
    ) {
        actix::System::new().block_on(async {
            pause();
            let fails = answers.iter().map(|fails| if *fails { failed() } else { Posted::Taken });
            let (hub, outbox) = setup(fails);
            let mut stands_for: HashMap<String, Vec<(Instant, u64)>> = HashMap::new();
            let mut tickets: Vec<(Ticket, u64)> = Vec::new();
            for (what, name, asked, ms) in steps {
                let name = format!("t{name}");
                match what {
                    0 | 1 => {
                        stands_for.entry(name.clone()).or_default().push((Instant::now(), asked));
                        tickets.extend(outbox.admit(&id(&name), asked).map(|ticket| (ticket, asked)));
                    }
                    2 if !tickets.is_empty() => {
                        let (ticket, asked) = tickets.remove(0);
                        outbox.finish(ticket, &error(&format!("answer {asked}")));
                    }
                    _ => sleep(Duration::from_millis(ms)).await,
                }
            }
            for (ticket, asked) in tickets {
                outbox.finish(ticket, &error(&format!("answer {asked}")));
            }
            outbox.settled().await;
            sleep(Duration::from_mins(2)).await;
            for (at, name, body) in &*hub.posts.borrow() {
                // Within one instant either may have been first.
                let asked = &stands_for[name];
                let last = asked.iter().rev().find(|(came, _)| came < at).map(|(_, asked)| *asked);
                let now = asked.iter().filter(|(came, _)| came == at).map(|(_, asked)| *asked);
                let right = now.chain(last).any(|asked| *body == error(&format!("answer {asked}")).to_json());
                let ours = [error(ID_TAKEN).to_json(), error(texts::ALREADY_ANSWERED).to_json()];
                assert!(right || ours.contains(body), "{name} {body}: {asked:?}");
            }
            assert_eq!(outbox.open(), 0);
        });
    }

    /// F11: what ended last under an id is what is remembered of it, for its time, however often it ended before.
    #[test]
    fn the_newest_ending_of_an_id_is_remembered_for_its_time(
        steps in prop::collection::vec((0..3_u8, 0..3_u64, 0..700_u64), 1..40),
    ) {
        let mut now = Instant::now();
        let (mut ledger, mut last) = (Ledger::default(), HashMap::<u8, (u64, Instant)>::new());
        for (name, asked, pause) in steps {
            let task = id(&name.to_string());
            let known = last.get(&name).filter(|(_, at)| now.duration_since(*at) < KEEP_ENDED);
            let known = known.filter(|(before, _)| *before == asked);
            let seen = ledger.admit(&task, asked, now);
            if let Some((asked, _)) = known {
                prop_assert_eq!(seen, IdState::Answered(Bytes::from(asked.to_string())));
            } else {
                prop_assert_eq!(seen, IdState::New);
                ledger.end(&task, Some(Bytes::from(asked.to_string())), now);
                last.insert(name, (asked, now));
            }
            now += Duration::from_secs(pause);
        }
    }
}

/// A hub that takes every connection and answers none.
#[derive(Default)]
struct Silent(Cell<usize>);

impl Uplink for Silent {
    fn post_result(&self, _: &TaskId, _: Bytes) -> LocalBoxFuture<'static, Posted> {
        self.0.set(self.0.get() + 1);
        futures_util::future::pending().boxed_local()
    }

    fn upload(&self, _: &TaskId, _: mpsc::Receiver<Result<Bytes, Cut>>) -> LocalBoxFuture<'static, Posted> {
        unreachable!("the outbox posts")
    }
}

/// P7: what the hub does not take is bounded in bytes: a result beyond that gives way to an error, which is an ending all
/// the same, and when the hub takes results again they go out whole.
#[actix::test]
async fn results_that_wait_for_the_hub_are_bounded_in_bytes() {
    pause();
    let hub = Rc::new(FakeHub {
        answers: RefCell::new(std::iter::repeat_n(failed(), 9).collect()),
        ..FakeHub::default()
    });
    let outbox = Outbox::with_limits(Rc::clone(&hub) as Rc<dyn Uplink>, 1 << 20, 0);
    let large = TaskResult::answer(200, &format!(r#"{{"x":"{}"}}"#, "y".repeat(700 << 10))).unwrap();
    for name in ["first", "second", "third"] {
        outbox.finish(outbox.admit(&id(name), 0).unwrap(), &large);
    }
    outbox.finish(outbox.admit(&id("small"), 0).unwrap(), &error("e"));
    outbox.settled().await;
    outbox.finish(outbox.admit(&id("fourth"), 0).unwrap(), &large);
    outbox.settled().await;
    let mut last = std::collections::HashMap::new();
    for (_, task, body) in &*hub.posts.borrow() {
        last.insert(task.clone(), body.clone());
    }
    for whole in ["first", "fourth"] {
        assert_eq!(last[whole], large.to_json(), "{whole}");
    }
    for dropped in ["second", "third"] {
        assert_eq!(last[dropped], error(TOO_MANY).to_json(), "{dropped}");
    }
    assert_eq!(last["small"], r#"{"error":"e"}"#);
    assert_eq!(outbox.inner.waiting_bytes.get(), 0);
}

/// P7, F10, F11: however many results a hub leaves unanswered, few are on their way at once; and however often it asks
/// for one again, that is on its way once.
#[actix::test]
async fn a_hub_that_answers_nothing_has_a_bounded_number_of_connections() {
    pause();
    let hub = Rc::<Silent>::default();
    let outbox = Outbox::new(Rc::clone(&hub) as Rc<dyn Uplink>);
    for n in 0..MAX_OPEN {
        assert!(!outbox.is_overrun(0), "{n}");
        outbox.finish(outbox.admit(&id(&n.to_string()), 0).unwrap(), &error("e"));
    }
    assert!(outbox.is_overrun(0));
    assert!(!outbox.is_overrun(1), "that many may run");
    sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(hub.0.get(), MAX_POSTING);

    let (taking, outbox) = setup([]);
    outbox.finish(outbox.admit(&id("t"), 0).unwrap(), &error("e"));
    outbox.settled().await;
    for _ in 0..1000 {
        assert!(outbox.admit(&id("t"), 0).is_none());
    }
    sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(taking.bodies().len(), 2, "its result, and once again");
    assert!(outbox.admit(&id("t"), 0).is_none());
    sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(taking.bodies().len(), 3);
}
