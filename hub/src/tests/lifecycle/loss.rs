//! Lost channels, silence, and restarts.

use super::*;
use crate::tests::publisher::asleep;

/// F03, F57: a new channel replaces the session's older one, and the late close of the older one changes nothing.
#[actix_rt::test]
async fn the_late_close_of_a_replaced_channel_changes_nothing() {
    let hub = hub().await;
    let mut older = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let mut newer = Publisher::register(&hub, ADMIN, Some(&older.session), &[provider("a")]).await;
    newer.open(&hub, None).await;
    assert!(older.event().await.is_none(), "the older channel ends");
    older.close();
    newer.serves(&hub, &infer(&hub, "a", false), "hello").await;
    assert_eq!(hub.row("a").await["status"], "active");
    hub.stop().await;
}

/// F57, F58: a replaced channel of a registrar with the feature `status` ends with the event `superseded`; one of a
/// classic registrar ends without an event.
#[actix_rt::test]
async fn a_replaced_channel_ends_with_superseded_if_status_was_named() {
    let hub = hub().await;
    let mut older = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status")).await;
    let mut newer = Publisher::register(&hub, ADMIN, Some(&older.session), &[provider("a")]).await;
    newer.open(&hub, None).await;
    assert_eq!(older.event().await.map(|event| event.name().to_owned()).as_deref(), Some("superseded"));
    assert!(older.event().await.is_none());
    older.open(&hub, Some("status")).await;
    assert!(newer.event().await.is_none(), "a classic registrar got an event of the feature `status`");
    assert_eq!(hub.row("a").await["status"], "active");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_new_channel_restores_the_status_of_its_rows() {
    let hub = hub().await;
    let asleep = asleep(provider("a"));
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep, provider("b")], None).await;
    publisher.close();
    hub.until_status("a", "inactive").await;
    assert!(hub.row("a").await["inactiveSince"].is_string());
    publisher.beat(&hub, json!({})).await;
    assert_eq!(hub.row("b").await["status"], "inactive", "a heartbeat without a channel revived the row");
    publisher.open(&hub, None).await;
    assert_eq!(hub.row("a").await["status"], "hibernating");
    assert_eq!(hub.row("b").await["status"], "active");
    assert!(hub.row("b").await["inactiveSince"].is_null());
    hub.stop().await;
}

#[actix_rt::test]
async fn a_row_of_a_dead_session_is_adopted_by_its_user_only() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut first = Publisher::start(&hub, &alice, &[provider("a")], None).await;
    let id = hub.row("a").await["id"].clone();
    first.close();
    hub.until_status("a", "inactive").await;
    let (status, answer) = register(&hub, &bob, None, &[provider("a")]).await;
    assert_eq!((status, &answer["error"]), (409, &json!("LLM a is published by another session")));
    let second = Publisher::start(&hub, &alice, &[provider("a")], None).await;
    let row = hub.row("a").await;
    assert_eq!((&row["id"], &row["providerSessionId"]), (&id, &json!(second.session)));
    assert_eq!(row["status"], "active");
    hub.stop().await;
}

/// P3, F02, F13: a running task survives the loss of its channel if the channel returns within the grace period, and
/// fails otherwise.
#[actix_rt::test]
async fn a_task_survives_a_channel_loss_within_the_grace_period() {
    let hub = hub_with(|options| options.timings.reattach_grace = Duration::from_millis(300)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        publisher.close();
        hub.until_status("a", "inactive").await;
        publisher.open(&hub, None).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200);
    // The channel does not return. A call without content gets 503; a stream with content ends with an error.
    let call = infer(&hub, "a", false);
    let (answer, task) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        publisher.close();
        task
    });
    assert_eq!(answer.0, 503);
    assert_eq!(publisher.answer(&hub, &task, "late").await, 410);
    publisher.open(&hub, None).await;
    let call = infer(&hub, "a", true);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        publisher.chunk(&hub, &task, "one").await;
        publisher.close();
    });
    assert_eq!(answer.0, 200);
    assert!(
        answer.1.ends_with("data: {\"error\":\"the publisher was lost in the middle of its answer\",\"code\":\"interrupted\"}\n\n")
    );
    assert!(!answer.1.contains("[DONE]"));
    hub.stop().await;
}

/// F05, F13: a task is sent again on the new channel with the same id, so that the publisher runs it once.
#[actix_rt::test]
async fn a_task_lost_on_a_half_open_channel_is_sent_again() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let first = publisher.task().await;
        publisher.open(&hub, Some("cancel")).await;
        let again = publisher.task().await;
        assert_eq!(first, again);
        publisher.answer(&hub, &again, "hello").await;
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

/// P2, P6, F05, F23, F60: a publisher without heartbeats gets no more calls and its tasks fail; one heartbeat makes its
/// rows active again.
#[actix_rt::test]
async fn a_row_without_heartbeats_is_inactive_until_the_next_heartbeat() {
    let hub = hub_with(|options| {
        options.timings.heartbeat_timeout = Duration::from_millis(200);
        options.timings.sweep_interval = Duration::from_millis(20);
        options.timings.reattach_grace = Duration::from_millis(20);
    })
    .await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (lost, task) = futures_util::join!(call.send(), publisher.task());
    assert_eq!(lost.0, 503, "the task of a vanished publisher ends");
    hub.until_status("a", "inactive").await;
    assert_eq!(infer(&hub, "a", false).send().await.0, 503);
    assert_eq!(publisher.beat(&hub, json!({})).await, 200);
    assert_eq!(hub.row("a").await["status"], "active");
    assert_eq!(publisher.answer(&hub, &task, "late").await, 410);
    hub.stop().await;
}

/// F21, F61, F69: a row that was inactive for too long is deleted unless its channel is open, and its publisher has to
/// register again.
#[actix_rt::test]
async fn a_row_inactive_for_long_is_deleted_unless_its_channel_is_open() {
    let hub = hub_with(|options| {
        options.timings.inactive_retention = Duration::from_millis(200);
        options.timings.sweep_interval = Duration::from_millis(20);
    })
    .await;
    let mut gone = Publisher::start(&hub, ADMIN, &[provider("gone")], None).await;
    let kept = Publisher::start(&hub, ADMIN, &[provider("kept")], None).await;
    register(&hub, ADMIN, Some(&kept.session), &[]).await;
    assert_eq!(hub.row("kept").await["status"], "inactive");
    gone.close();
    eventually("the row is deleted", async || hub.ask("GET", "/api/v1/llms/gone").send().await.0 == 404)
        .await;
    assert_eq!(hub.row("kept").await["status"], "inactive");
    // The heartbeat of a deleted session gets 404, whereupon the registrar registers again.
    assert_eq!(gone.beat(&hub, json!({})).await, 404);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_register_call_may_tighten_visibility_but_not_loosen_it() {
    let hub = hub().await;
    let publisher = Publisher::start(&hub, ADMIN, &[private(provider("a")), provider("b")], None).await;
    let (status, answer) =
        register(&hub, ADMIN, Some(&publisher.session), &[provider("a"), private(provider("b"))]).await;
    assert_eq!(status, 201);
    let warnings = answer["warnings"].as_array().unwrap();
    assert!(warnings.len() == 2 && warnings[0].as_str().unwrap().contains("LLM a"), "{warnings:?}");
    assert_eq!(hub.row("a").await["visibility"], "private");
    assert_eq!(hub.row("b").await["visibility"], "private");
    hub.stop().await;
}

/// P5, P6, F67: after a restart of the hub, stored rows are inactive until their publisher returns.
#[actix_rt::test]
async fn rows_are_inactive_after_a_restart_until_their_publisher_returns() {
    let dir = tempfile::tempdir().unwrap();
    let start = || hub_with(|options| options.data = DataDir::Path(dir.path().join("hub")));
    let hub = start().await;
    let publisher = Publisher::start(&hub, ADMIN, &[private(provider("a"))], None).await;
    let before = hub.row("a").await;
    hub.stop().await;
    let hub = start().await;
    let after = hub.row("a").await;
    assert_eq!(after["status"], "inactive");
    assert_eq!((&after["id"], &after["createdAt"]), (&before["id"], &before["createdAt"]));
    assert_eq!(infer(&hub, "a", false).send().await.0, 503);
    let mut again =
        Publisher::register(&hub, ADMIN, Some(&publisher.session), &[private(provider("a"))]).await;
    assert_eq!(again.session, publisher.session);
    again.open(&hub, None).await;
    assert_eq!(hub.row("a").await["status"], "active");
    assert_eq!(hub.row("a").await["id"], before["id"]);
    hub.stop().await;
}

/// P5, F68: the downtime of the hub does not count as inactivity of a row.
#[actix_rt::test]
async fn a_hub_that_was_down_for_five_hours_deletes_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        hub_with(|options| {
            options.data = DataDir::Path(dir.path().join("hub"));
            options.timings.sweep_interval = Duration::from_millis(10);
        })
    };
    let hub = start().await;
    let mut gone = Publisher::start(&hub, ADMIN, &[provider("gone")], None).await;
    let _stayed = Publisher::start(&hub, ADMIN, &[provider("stayed")], None).await;
    gone.close();
    hub.until_status("gone", "inactive").await;
    hub.stop().await;
    let file = rusqlite::Connection::open(dir.path().join("hub/hub.db")).unwrap();
    let five_hours = Duration::from_hours(5).as_millis();
    for table in ["llms", "sessions"] {
        let earlier = format!("UPDATE {table} SET last_heartbeat_at = last_heartbeat_at - {five_hours}");
        file.execute_batch(&earlier).unwrap();
    }
    file.execute_batch(&format!("UPDATE llms SET inactive_since = inactive_since - {five_hours}")).unwrap();
    drop(file);
    let hub = start().await;
    // Time for twenty sweeps, which would delete the rows if they went by the wall clock.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for name in ["gone", "stayed"] {
        let row = hub.row(name).await;
        assert_eq!(row["status"], "inactive", "{name}");
        let since: jiff::Timestamp = row["inactiveSince"].as_str().unwrap().parse().unwrap();
        assert!(
            since > jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1),
            "{name}: inactivity counts from the start of the hub: {since}"
        );
    }
    hub.stop().await;
}
