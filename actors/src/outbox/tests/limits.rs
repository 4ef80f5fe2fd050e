//! Limits for waiting results, connections and open tasks.

use super::*;

/// A hub that never answers.
#[derive(Default)]
struct Silent(Cell<usize>);

impl Uplink for Silent {
    fn send_result(&self, _: &TaskId, _: Bytes) -> LocalBoxFuture<'static, Outcome> {
        self.0.set(self.0.get() + 1);
        futures_util::future::pending().boxed_local()
    }
}

/// P7: a result above the limit is replaced by an error. When there is room, results are delivered whole again.
#[actix::test]
async fn waiting_results_are_bounded_in_bytes() {
    pause();
    let hub = Rc::new(FakeHub {
        answers: RefCell::new(std::iter::repeat_n(failed(), 9).collect()),
        ..FakeHub::default()
    });
    let outbox = Outbox::with_limits(Rc::clone(&hub) as Rc<dyn Uplink>, 1 << 20, 0);
    let large = TaskResult::answer(200, &format!(r#"{{"x":"{}"}}"#, "y".repeat(700 << 10))).unwrap();
    for name in ["first", "second", "third"] {
        outbox.finish(outbox.accept(&id(name), 0).unwrap(), &large);
    }
    outbox.finish(outbox.accept(&id("small"), 0).unwrap(), &error("e"));
    outbox.settled().await;
    outbox.finish(outbox.accept(&id("fourth"), 0).unwrap(), &large);
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

/// P7: at most 128 results are posted at a time.
#[actix::test]
async fn a_hub_that_never_answers_gets_at_most_128_connections() {
    pause();
    let hub = Rc::<Silent>::default();
    let outbox = Outbox::new(Rc::clone(&hub) as Rc<dyn Uplink>);
    for n in 0..MAX_OPEN {
        assert!(!outbox.is_overrun(0), "{n}");
        outbox.finish(outbox.accept(&id(&n.to_string()), 0).unwrap(), &error("e"));
    }
    assert!(outbox.is_overrun(0));
    assert!(!outbox.is_overrun(1), "one more task may run");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(hub.0.get(), MAX_POSTING);
}

/// P7, F10, F11: a hub that repeats an ended task gets one POST of its result at a time.
#[actix::test]
async fn the_result_of_a_repeated_task_is_posted_once_at_a_time() {
    pause();
    let (taking, outbox) = setup([]);
    outbox.finish(outbox.accept(&id("t"), 0).unwrap(), &error("e"));
    outbox.settled().await;
    for _ in 0..1000 {
        assert!(outbox.accept(&id("t"), 0).is_none());
    }
    sleep(Duration::from_secs(1)).await;
    assert_eq!(taking.bodies().len(), 2, "the result, and one repetition");
    assert!(outbox.accept(&id("t"), 0).is_none());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(taking.bodies().len(), 3);
}
