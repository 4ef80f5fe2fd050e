use std::time::Duration;

use wire::openai::Usage;
use wire::task::Endpoint;

use super::*;
use crate::error::ErrorKind;
use crate::model::Role;
use crate::model::TaskStatus;
use crate::store::{AuditQuery, ListCursor, SqliteStore};

fn watch() -> (Arc<Watch>, Arc<SqliteStore>) {
    let store = Arc::new(SqliteStore::in_memory().unwrap());
    (Arc::new(Watch::new(store.clone()).unwrap()), store)
}

fn asked(user: &str) -> Asked {
    Asked { user: user.into(), target: "pool".into(), endpoint: Endpoint::ChatCompletions, streaming: true }
}

fn taker(task: &str) -> Taker {
    Taker {
        through: None,
        llm: format!("row-{task}"),
        pool: Some("pool".into()),
        model: "m".into(),
        session: Some("sess".into()),
        task: task.into(),
        shared: true,
    }
}

fn caller(user: &str, role: Role) -> Caller {
    Caller { user: user.into(), role, token_id: "t".into() }
}

#[tokio::test]
async fn an_inference_is_listed_from_its_beginning_to_its_end_for_its_owner_and_admins() {
    let (watch, _) = watch();
    let alice = caller("alice", Role::Member);
    let status = || watch.tasks(&alice, &ListCursor::end(), 200).first().map(|task| task.status);
    let mut inference = watch.begin(asked("alice"));
    let id = inference.id().to_owned();
    assert_eq!(status(), Some(TaskStatus::Pending));
    inference.sent(taker("1"));
    inference.sent(taker("2"));
    assert_eq!(status(), Some(TaskStatus::Claimed));
    inference.chunk();
    assert_eq!(status(), Some(TaskStatus::Running));
    inference.end(200, None);
    let view = watch.task(&alice, &id).unwrap();
    assert_eq!((view.status, view.llm_name.as_deref()), (TaskStatus::Completed, Some("row-2")));
    assert!(watch.tasks(&caller("bob", Role::Member), &ListCursor::end(), 300).is_empty());
    assert_eq!(watch.tasks(&caller("root", Role::Admin), &ListCursor::end(), 300).len(), 1);
}

#[tokio::test]
async fn each_inference_leaves_one_audit_row_and_a_caller_who_left_is_499() {
    let (watch, store) = watch();
    let mut whole = watch.begin(asked("alice"));
    whole.sent(taker("1"));
    whole.chunk();
    whole.usage(Usage { input: Some(3), output: None });
    whole.end(200, None);
    let mut left = watch.begin(asked("bob"));
    left.sent(taker("2"));
    drop(left);
    watch.begin(asked("carol")).end(503, Some((ErrorKind::PublisherAway, "nobody there")));
    watch.flush().await;
    watch.flush().await;
    let rows = store.audit(AuditQuery::of(None, None, 9)).await.unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.user.as_str(), row.llm.as_str(), row.status)).collect();
    assert_eq!(seen, [("carol", "pool", 503), ("bob", "row-2", 499), ("alice", "row-1", 200)]);
    assert_eq!((rows[2].input_tokens, rows[2].output_tokens), (Some(3), None));
    assert!(rows[2].first_byte_ms.is_some() && rows[1].first_byte_ms.is_none());
    assert_eq!(
        watch.tasks(&caller("bob", Role::Member), &ListCursor::end(), 300)[0].status,
        TaskStatus::Cancelled
    );
}

#[tokio::test]
async fn rows_are_written_without_being_asked_to() {
    let (watch, store) = watch();
    drop(watch.begin(asked("alice")));
    let wait = async {
        while store.audit(AuditQuery::of(None, None, 1)).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = watch.run() => (),
        written = tokio::time::timeout(Duration::from_secs(20), wait) => written.unwrap(),
    }
}

/// P7: what is kept for looking at does not grow without end.
#[tokio::test]
async fn the_list_of_ended_ones_does_not_grow_without_end() {
    let (watch, _) = watch();
    for _ in 0..500 {
        watch.begin(asked("alice")).end(200, None);
    }
    assert_eq!(watch.tasks(&caller("alice", Role::Member), &ListCursor::end(), 300).len(), 200);
}

/// Whoever has many calls pushes out none that others had.
#[tokio::test]
async fn of_too_many_ended_ones_those_of_who_has_most_go_first() {
    let (watch, _) = watch();
    let list = |user: &str| watch.tasks(&caller(user, Role::Member), &ListCursor::end(), 300);
    let end = |user: &str, count: usize| (0..count).for_each(|_| watch.begin(asked(user)).end(200, None));
    end("alice", 17);
    end("bob", 500);
    assert_eq!((list("alice").len(), list("bob").len()), (17, 183));
    end("carol", 300);
    assert_eq!(list("alice").len(), 17);
    let (bob, carol) = (list("bob").len(), list("carol").len());
    assert!(bob + carol == 183 && bob.abs_diff(carol) <= 1, "{bob} {carol}");
    // A user's own oldest go first.
    let newest = watch.begin(asked("bob"));
    let id = newest.id().to_owned();
    drop(newest);
    let first = list("carol").iter().map(|view| view.id.clone()).collect::<std::collections::HashSet<_>>();
    end("carol", 1);
    assert!(watch.task(&caller("bob", Role::Member), &id).is_some());
    assert!(list("carol").iter().filter(|view| !first.contains(&view.id)).count() == 1);
    // All of them together are as many as before, and one whose user has gone leaves nothing behind.
    assert_eq!(watch.tasks(&caller("root", Role::Admin), &ListCursor::end(), 300).len(), 200);
}

#[tokio::test]
async fn metrics_count_outcomes_and_name_nobody() {
    let (watch, _) = watch();
    let mut inference = watch.begin(asked("canary-user"));
    inference.sent(Taker { llm: "canary-row".into(), session: Some("canary-session".into()), ..taker("1") });
    inference.chunk();
    inference.chunk();
    inference.end(200, None);
    drop(watch.begin(asked("canary-user")));
    watch.metrics.woke(WakeOutcome::Ok, Duration::from_millis(20));
    let text = watch.metrics.text().unwrap();
    for line in [
        r#"virtual_llm_requests_total{endpoint="chat/completions",outcome="ok"} 1"#,
        r#"virtual_llm_requests_total{endpoint="chat/completions",outcome="cancelled"} 1"#,
        "virtual_llm_cancels_total 1",
        "virtual_llm_requests_in_flight 0",
        "virtual_llm_time_to_first_byte_seconds_count 1",
        "virtual_llm_time_between_chunks_seconds_count 1",
        r#"virtual_llm_wakes_total{outcome="ok"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("canary"), "{text}");
    // The one that nobody took, and the wake, are not for everybody.
    let shared = watch.shared.text().unwrap();
    assert!(shared.contains(r#"outcome="ok"} 1"#) && !shared.contains("cancelled"), "{shared}");
}

/// P7: what there is for everybody is counted when something has changed, and at most once a second.
#[tokio::test]
async fn what_everybody_may_read_is_counted_once_a_second_at_most() {
    let (watch, _) = watch();
    let start = Duration::from_hours(1);
    let counts =
        |version: u64, ms: u64| watch.is_to_be_counted((version, 1), start + Duration::from_millis(ms));
    let asked = [(1, 0), (2, 10), (3, 999), (3, 1000), (3, 1999), (3, 3000), (4, 3001), (4, 4000), (5, 4500)];
    let counted: Vec<u64> =
        asked.iter().filter(|(version, ms)| counts(*version, *ms)).map(|(_, ms)| *ms).collect();
    assert_eq!(counted, [0, 1000, 3001, 4500]);
}

/// A34: what happens on a private row is in no number that everybody may read.
#[tokio::test]
async fn a_private_row_counts_for_admins_only() {
    let (watch, _) = watch();
    let before = watch.shared.text().unwrap();
    let mut inference = watch.begin(asked("alice"));
    inference.sent(Taker { shared: false, ..taker("1") });
    assert_eq!(watch.shared.text().unwrap(), before);
    inference.chunk();
    inference.chunk();
    inference.end(200, None);
    assert_eq!(watch.shared.text().unwrap(), before);
    assert_ne!(watch.metrics.text().unwrap(), before);
    // One that moves on to a row that everybody sees counts from there on, and only while it runs.
    let mut inference = watch.begin(asked("alice"));
    inference.sent(Taker { shared: false, ..taker("2") });
    inference.sent(taker("3"));
    assert!(watch.shared.text().unwrap().contains("requests_in_flight 1"));
    drop(inference);
    assert!(watch.shared.text().unwrap().contains("requests_in_flight 0"));
}
