//! The outbox against a failing hub, on a paused clock.

mod ledger;
mod limits;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use proptest::prelude::*;
use testkit::captured_log;
use tokio::time::{pause, sleep};

use super::*;
use crate::uplink::Outcome;

/// A hub that returns the prepared answers, then accepts all results.
#[derive(Default)]
struct FakeHub {
    answers: RefCell<VecDeque<Outcome>>,
    posts: RefCell<Vec<(Instant, String, String)>>,
}

impl FakeHub {
    fn bodies(&self) -> Vec<String> {
        self.posts.borrow().iter().map(|(_, _, body)| body.clone()).collect()
    }
}

impl Uplink for FakeHub {
    fn send_result(&self, task: &TaskId, body: Bytes) -> LocalBoxFuture<'static, Outcome> {
        let body = String::from_utf8(body.to_vec()).unwrap();
        self.posts.borrow_mut().push((Instant::now(), task.to_string(), body));
        let answer = self.answers.borrow_mut().pop_front().unwrap_or(Outcome::Taken);
        async move { answer }.boxed_local()
    }
}

fn failed() -> Outcome {
    Outcome::Failed { retry_after: None, nothing_taken: true }
}

fn setup(answers: impl IntoIterator<Item = Outcome>) -> (Rc<FakeHub>, Outbox) {
    let hub = Rc::new(FakeHub { answers: RefCell::new(answers.into_iter().collect()), ..FakeHub::default() });
    (Rc::clone(&hub), Outbox::new(hub))
}

fn id(text: &str) -> TaskId {
    TaskId::parse(text).unwrap()
}

fn error(text: &str) -> TaskResult {
    TaskResult::error(text.to_owned())
}

/// F28, F29: the delays double from 250 ms to 5 s; after 60 s the result is dropped.
#[actix::test]
async fn a_result_that_is_not_delivered_is_retried() {
    captured_log::listen("actors");
    pause();
    let (hub, outbox) = setup(std::iter::repeat_n(failed(), 1000));
    let start = Instant::now();
    outbox.finish(outbox.accept(&id("t"), 0).unwrap(), &error("e"));
    outbox.settled().await;
    let posts = hub.posts.borrow();
    let gaps: Vec<u128> =
        posts.windows(2).map(|pair| pair[1].0.duration_since(pair[0].0).as_millis() / 10 * 10).collect();
    assert_eq!(gaps[..6], [250, 500, 1000, 2000, 4000, 5000]);
    assert!(gaps[6..].iter().all(|gap| *gap <= 5000));
    assert_eq!(start.elapsed().as_secs(), 60);
    let lines = captured_log::lines_with("its result is lost");
    assert_eq!(lines, ["WARN task t: its result is lost, the hub did not take it in time"]);
}

/// P1, F28: the result is delivered once, after the delay.
#[actix::test]
async fn a_retry_waits_for_the_retry_after_of_the_hub() {
    pause();
    let wait = Outcome::Failed { retry_after: Some(Duration::from_secs(17)), nothing_taken: true };
    let (hub, outbox) = setup([wait, failed()]);
    let start = Instant::now();
    outbox.finish(outbox.accept(&id("t"), 0).unwrap(), &error("e"));
    assert_eq!(outbox.open(), 1);
    outbox.settled().await;
    assert_eq!(start.elapsed().as_millis() / 10 * 10, 17_000 + 500);
    assert_eq!(hub.bodies(), [r#"{"error":"e"}"#; 3]);
}

/// P1, F10, F11: the hub gets the same result again.
#[actix::test]
async fn a_task_sent_twice_runs_once() {
    let (hub, outbox) = setup([]);
    let ticket = outbox.accept(&id("t"), 0).unwrap();
    assert!(outbox.accept(&id("t"), 0).is_none());
    outbox.finish(ticket, &TaskResult::answer(200, "{\"a\":1}").unwrap());
    outbox.settled().await;
    assert!(outbox.accept(&id("t"), 0).is_none());
    outbox.inner.changed.notified().await;
    assert_eq!(hub.bodies(), [r#"{"status":200,"body":{"a":1}}"#; 2]);
}

/// F11: a streamed result is not stored, so it cannot be sent again.
#[actix::test]
async fn a_streamed_task_sent_again_gets_an_error() {
    let (hub, outbox) = setup([]);
    outbox.close(outbox.accept(&id("streamed"), 0).unwrap());
    outbox.finish(outbox.accept(&id("posted"), 0).unwrap(), &TaskResult::done(None));
    outbox.settled().await;
    for ended in ["streamed", "posted"] {
        assert!(outbox.accept(&id(ended), 0).is_none());
        outbox.inner.changed.notified().await;
        assert_eq!(hub.bodies().last().unwrap(), r#"{"error":"task already answered"}"#);
    }
}

#[actix::test]
async fn a_dropped_ticket_ends_its_task_with_an_error() {
    let (hub, outbox) = setup([]);
    drop(outbox.accept(&id("t"), 0).unwrap());
    outbox.settled().await;
    assert_eq!(hub.bodies(), [error(LOST).to_json()]);
}

/// F33: the refused result is not sent again.
#[actix::test]
async fn a_result_that_the_hub_refuses_is_replaced_by_an_error_once() {
    let refused = || Outcome::Refused { status: 413 };
    let (hub, outbox) = setup([refused(), refused()]);
    outbox.finish(outbox.accept(&id("t"), 0).unwrap(), &TaskResult::awake(1));
    outbox.settled().await;
    assert_eq!(hub.bodies()[1..], [r#"{"error":"the hub refused the result (HTTP 413)"}"#]);
}

/// F02, F32: a 410 means that the caller has left.
#[actix::test]
async fn a_result_whose_caller_has_left_is_dropped() {
    let (hub, outbox) = setup([Outcome::Gone]);
    outbox.finish(outbox.accept(&id("t"), 0).unwrap(), &error("e"));
    outbox.settled().await;
    assert_eq!(hub.bodies().len(), 1);
}

/// P7, F29: above 64 MiB of waiting results, finished tasks keep their slots, so no further task starts.
#[actix::test]
async fn a_finished_task_keeps_its_slot_while_results_pile_up() {
    pause();
    let (_hub, outbox) = setup([failed()]);
    let large = TaskResult::error("x".repeat(SLOT_LIMIT + 1));
    outbox.finish(outbox.accept(&id("t"), 0).unwrap(), &large);
    assert!(outbox.has_room().now_or_never().is_none());
    outbox.has_room().await;
    assert_eq!(outbox.open(), 0);
}

/// F11: no caller gets the answer to another caller's request.
#[actix::test]
async fn a_second_request_with_the_id_of_a_running_task_is_an_error() {
    captured_log::listen("actors");
    pause();
    let (hub, outbox) = setup([]);
    let first = outbox.accept(&id("7"), 1).unwrap();
    assert!(outbox.accept(&id("7"), 1).is_none() && !outbox.is_disowned(&id("7")));
    assert!(outbox.accept(&id("7"), 2).is_none() && outbox.is_disowned(&id("7")));
    assert_eq!(outbox.post_chunk(&id("7"), Bytes::from_static(b"alice's chunk")).await, Outcome::Gone);
    outbox.finish(first, &error("alice's"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(hub.bodies(), [error(ID_TAKEN).to_json()]);
    assert_eq!(captured_log::lines_with("gave this id to two tasks").len(), 1);
    outbox.finish(outbox.accept(&id("7"), 2).unwrap(), &error("bob's, at last"));
    outbox.settled().await;
    assert_eq!(hub.bodies().last(), Some(&error("bob's, at last").to_json()));
}

proptest! {
    /// F11, F28: for any sequence of tasks and answers of the hub, each posted result is an error or belongs to the last request
    /// with its id, and each task ends.
    #[test]
    fn a_result_belongs_to_the_last_request_of_its_id(
        steps in prop::collection::vec((0..4_u8, 0..2_u8, 0..3_u64, 0..2_000_u64), 1..60),
        answers in prop::collection::vec(prop::bool::weighted(0.6), 0..60),
    ) {
        actix::System::new().block_on(async {
            pause();
            let fails = answers.iter().map(|fails| if *fails { failed() } else { Outcome::Taken });
            let (hub, outbox) = setup(fails);
            let mut requests: HashMap<String, Vec<(Instant, u64)>> = HashMap::new();
            let mut tickets: Vec<(Ticket, u64)> = Vec::new();
            for (what, name, asked, ms) in steps {
                let name = format!("t{name}");
                match what {
                    0 | 1 => {
                        requests.entry(name.clone()).or_default().push((Instant::now(), asked));
                        tickets.extend(outbox.accept(&id(&name), asked).map(|ticket| (ticket, asked)));
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
                // Requests of the same instant may have come in either order.
                let asked = &requests[name];
                let last = asked.iter().rev().find(|(came, _)| came < at).map(|(_, asked)| *asked);
                let now = asked.iter().filter(|(came, _)| came == at).map(|(_, asked)| *asked);
                let right = now.chain(last).any(|asked| *body == error(&format!("answer {asked}")).to_json());
                let ours = [error(ID_TAKEN).to_json(), error(texts::ALREADY_ANSWERED).to_json()];
                assert!(right || ours.contains(body), "{name} {body}: {asked:?}");
            }
            assert_eq!(outbox.open(), 0);
        });
    }
}
