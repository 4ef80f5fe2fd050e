use std::time::Duration;

use wire::Features;
use wire::openai::usage;
use wire::row::Visibility;
use wire::task::Endpoint;

use super::*;
use crate::error::ErrorKind;
use crate::model::{Role, TaskStatus};
use crate::registry::{Candidate, Room};
use crate::store::{AuditQuery, ListCursor, SqliteStore};

fn watch() -> (Arc<Watch>, Arc<SqliteStore>) {
    let store = Arc::new(SqliteStore::in_memory().unwrap());
    (Arc::new(Watch::new(store.clone()).unwrap()), store)
}

fn request(user: &str) -> RequestInfo {
    let endpoint = Endpoint::ChatCompletions;
    let (token, target, target_owner) = ("t".into(), "pool".into(), None);
    RequestInfo { user: user.into(), token, target, target_owner, endpoint, streaming: true, bytes: 400 }
}

fn member(name: &str) -> Candidate {
    Candidate {
        name: name.into(),
        model: "m".into(),
        provider_type: "openai".into(),
        through: None,
        pool: Some("pool".into()),
        session: Some("sess".into()),
        is_elsewhere: false,
        features: Features::CLASSIC,
        owner: "olga".into(),
        visibility: Visibility::Public,
        asleep: false,
        room: Room::Free,
        reports: false,
        upstream: None,
        allow_remote_urls: false,
        timeout: None,
        cache: Arc::default(),
        usage_support: Arc::default(),
    }
}

fn private(name: &str) -> Candidate {
    Candidate { visibility: Visibility::Private, ..member(name) }
}

fn caller(user: &str, role: Role) -> Caller {
    Caller {
        user: user.into(),
        role,
        token_id: "t".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    }
}

#[tokio::test]
async fn an_inference_is_listed_for_its_owner_and_admins() {
    let (watch, _) = watch();
    let alice = caller("alice", Role::Member);
    let status = || watch.tasks(&alice, &ListCursor::end(), 200).first().map(|task| task.status);
    let mut inference = watch.begin(request("alice"));
    let id = inference.id().to_owned();
    assert_eq!(status(), Some(TaskStatus::Pending));
    inference.sent("1", &member("row-1"));
    inference.sent("2", &member("row-2"));
    assert_eq!(status(), Some(TaskStatus::Claimed));
    inference.piece();
    assert_eq!(status(), Some(TaskStatus::Running));
    inference.end(200, None);
    let view = watch.task(&alice, &id).unwrap();
    assert_eq!((view.status, view.llm_name.as_deref()), (TaskStatus::Completed, Some("row-2")));
    assert!(watch.tasks(&caller("bob", Role::Member), &ListCursor::end(), 300).is_empty());
    assert_eq!(watch.tasks(&caller("root", Role::Admin), &ListCursor::end(), 300).len(), 1);
}

#[tokio::test]
async fn each_inference_has_one_audit_record_with_its_status() {
    let (watch, store) = watch();
    let mut whole = watch.begin(request("alice"));
    whole.sent("1", &member("row-1"));
    whole.piece();
    whole.usage(usage(r#"{"usage":{"prompt_tokens":3}}"#).unwrap());
    whole.end(200, None);
    let mut left = watch.begin(request("bob"));
    left.sent("2", &member("row-2"));
    drop(left);
    watch.begin(request("carol")).end(503, Some((ErrorKind::PublisherAway, "nobody there")));
    watch.flush().await;
    watch.flush().await;
    let rows = store.audit(AuditQuery::of(None, None, 9)).await.unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.user.as_str(), row.llm.as_str(), row.status)).collect();
    assert_eq!(seen, [("carol", "pool", 503), ("bob", "row-2", 499), ("alice", "row-1", 200)]);
    assert_eq!((rows[2].tokens.input, rows[2].tokens.output), (Some(3), None));
    assert!(rows[2].first_byte_ms.is_some() && rows[1].first_byte_ms.is_none());
    assert_eq!(
        watch.tasks(&caller("bob", Role::Member), &ListCursor::end(), 300)[0].status,
        TaskStatus::Cancelled
    );
}

#[tokio::test]
async fn audit_records_are_written_without_a_flush() {
    let (watch, store) = watch();
    drop(watch.begin(request("alice")));
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

/// The hub stops while records are being written, and the write fails: they are written by the last flush.
#[tokio::test]
async fn a_write_that_fails_when_its_flusher_has_left_loses_no_record() {
    let (watch, store) = watch();
    store.pragma("query_only", 1).await.unwrap();
    let (release, held) = std::sync::mpsc::channel();
    let occupied = store.occupy(move || held.recv().unwrap());
    drop(watch.begin(request("alice")));
    let failed = async {
        while watch.audit.is_pending() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = watch.run() => (),
        () = failed => (),
    }
    release.send(()).unwrap();
    occupied.await.unwrap();
    store.pragma("query_only", 0).await.unwrap();
    watch.flush().await;
    assert_eq!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().len(), 1);
}

/// P7: the list of ended inferences is bounded.
#[tokio::test]
async fn the_list_of_ended_inferences_is_bounded() {
    let (watch, _) = watch();
    for _ in 0..500 {
        watch.begin(request("alice")).end(200, None);
    }
    assert_eq!(watch.tasks(&caller("alice", Role::Member), &ListCursor::end(), 300).len(), 200);
}

/// A user with many ended inferences does not displace inferences of other users from the list.
#[tokio::test]
async fn the_oldest_inferences_of_the_user_with_most_are_removed_first() {
    let (watch, _) = watch();
    let list = |user: &str| watch.tasks(&caller(user, Role::Member), &ListCursor::end(), 300);
    let end = |user: &str, count: usize| {
        (0..count).for_each(|_| {
            watch.begin(request(user)).end(200, None);
        });
    };
    end("alice", 17);
    end("bob", 500);
    assert_eq!((list("alice").len(), list("bob").len()), (17, 183));
    end("carol", 300);
    assert_eq!(list("alice").len(), 17);
    let (bob, carol) = (list("bob").len(), list("carol").len());
    assert!(bob + carol == 183 && bob.abs_diff(carol) <= 1, "{bob} {carol}");
    // The oldest inferences of a user are removed first.
    let newest = watch.begin(request("bob"));
    let id = newest.id().to_owned();
    drop(newest);
    let first = list("carol").iter().map(|view| view.id.clone()).collect::<std::collections::HashSet<_>>();
    end("carol", 1);
    assert!(watch.task(&caller("bob", Role::Member), &id).is_some());
    assert!(list("carol").iter().filter(|view| !first.contains(&view.id)).count() == 1);
    // The total number is bounded.
    assert_eq!(watch.tasks(&caller("root", Role::Admin), &ListCursor::end(), 300).len(), 200);
}

#[tokio::test]
async fn metrics_count_outcomes_without_names() {
    let (watch, _) = watch();
    let mut inference = watch.begin(request("canary-user"));
    let canary = Candidate { session: Some("canary-session".into()), ..member("canary-row") };
    inference.sent("1", &canary);
    inference.piece();
    inference.piece();
    inference.end(200, None);
    drop(watch.begin(request("canary-user")));
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
    // The inference without a row and the wake are in no public metric.
    let shared = watch.shared.text().unwrap();
    assert!(shared.contains(r#"outcome="ok"} 1"#) && !shared.contains("cancelled"), "{shared}");
}

/// P7: the public totals are counted again after a change, but at most once a second.
#[tokio::test]
async fn public_totals_are_counted_once_a_second_at_most() {
    let (watch, _) = watch();
    let start = Duration::from_hours(1);
    let counts = |version: u64, ms: u64| watch.claim_recount((version, 1), start + Duration::from_millis(ms));
    let polls = [(1, 0), (2, 10), (3, 999), (3, 1000), (3, 1999), (3, 3000), (4, 3001), (4, 4000), (5, 4500)];
    let counted: Vec<u64> =
        polls.iter().filter(|(version, ms)| counts(*version, *ms)).map(|(_, ms)| *ms).collect();
    assert_eq!(counted, [0, 1000, 3001, 4500]);
}

/// A34: inferences on a private row are counted in metrics for admins only.
#[tokio::test]
async fn a_private_row_counts_for_admins_only() {
    let (watch, _) = watch();
    let before = watch.shared.text().unwrap();
    let mut inference = watch.begin(request("alice"));
    inference.sent("1", &private("row-1"));
    assert_eq!(watch.shared.text().unwrap(), before);
    inference.piece();
    inference.piece();
    inference.end(200, None);
    assert_eq!(watch.shared.text().unwrap(), before);
    assert_ne!(watch.metrics.text().unwrap(), before);
    // An inference that fails over to a public row counts publicly from then on, while it runs.
    let mut inference = watch.begin(request("alice"));
    inference.sent("2", &private("row-2"));
    inference.sent("3", &member("row-3"));
    assert!(watch.shared.text().unwrap().contains("requests_in_flight 1"));
    drop(inference);
    assert!(watch.shared.text().unwrap().contains("requests_in_flight 0"));
}

/// A34: a failure of a member that got nothing is not seen by the owner of the one that failed before.
#[tokio::test]
async fn an_inference_belongs_to_the_owner_of_the_member_at_which_it_failed() {
    let (watch, store) = watch();
    let of = |owner: &str| Candidate { owner: owner.into(), ..member(&format!("row-of-{owner}")) };
    let end = |tried: &[(&str, bool)]| {
        let mut inference =
            watch.begin(RequestInfo { target_owner: Some("pool-owner".into()), ..request("alice") });
        for (owner, is_sent) in tried {
            inference.tries(&of(owner));
            if *is_sent {
                inference.sent("1", &of(owner));
            }
        }
        inference.end(503, Some((ErrorKind::WakeFailed, "it did not come up")));
    };
    for (tried, owner) in [
        (&[("olga", true)][..], Some("olga")),
        (&[("olga", true), ("bob", true)], Some("bob")),
        (&[("olga", true), ("bob", false)], None),
        (&[("olga", true), ("bob", false), ("olga", true)], Some("olga")),
        (&[("olga", false)], Some("pool-owner")),
        (&[], Some("pool-owner")),
    ] {
        end(tried);
        watch.flush().await;
        let row = store.audit(AuditQuery::of(None, None, 1)).await.unwrap().remove(0);
        assert_eq!(row.owner.as_deref(), owner, "{tried:?}");
    }
}
