//! Lost channels, silence, and restarts.

use super::*;

/// F03, F57: the newer channel of a session counts, and the late end of the older one changes nothing.
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

/// F57, F58: a registrar with the feature gets an event that another took its session; the close of one channel does
/// not give the session to the other.
#[actix_rt::test]
async fn a_replaced_channel_ends_with_replaced_if_negotiated() {
    let hub = hub().await;
    let mut older = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status")).await;
    let mut newer = Publisher::register(&hub, ADMIN, Some(&older.session), &[provider("a")]).await;
    newer.open(&hub, None).await;
    assert_eq!(older.event().await.map(|event| event.name().to_owned()).as_deref(), Some("superseded"));
    assert!(older.event().await.is_none());
    older.open(&hub, Some("status")).await;
    assert!(newer.event().await.is_none(), "a classic registrar hears nothing that it does not know");
    assert_eq!(hub.row("a").await["status"], "active");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_channel_brings_rows_back_to_the_status_they_had() {
    let hub = hub().await;
    let mut asleep = provider("a");
    asleep["initialStatus"] = "hibernating".into();
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep, provider("b")], None).await;
    publisher.close();
    hub.until_status("a", "inactive").await;
    assert!(hub.row("a").await["inactiveSince"].is_string());
    publisher.beat(&hub, json!({})).await;
    assert_eq!(hub.row("b").await["status"], "inactive", "a closed channel is closed, whatever beats");
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

/// P3, F02, F13: a running task waits for the grace period after its channel was lost, and then fails.
#[actix_rt::test]
async fn a_task_outlives_a_channel_loss_within_the_grace() {
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
    // Not started: no publisher, try again. Started: an error within the stream, no end mark.
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

/// F05, F13: the task keeps its id, which a publisher runs once.
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

/// P2, P6, F05, F23, F60: silence ends routing and the tasks sent into it; one heartbeat restores routing.
#[actix_rt::test]
async fn silence_ends_routing_and_a_heartbeat_restores_it() {
    let hub = hub_with(|options| {
        options.timings.heartbeat_timeout = Duration::from_millis(200);
        options.timings.sweep_interval = Duration::from_millis(20);
        options.timings.reattach_grace = Duration::from_millis(20);
    })
    .await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (lost, task) = futures_util::join!(call.send(), publisher.task());
    assert_eq!(lost.0, 503, "what was sent to a host that vanished ends");
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
    eventually("deleted", async || hub.ask("GET", "/api/v1/llms/gone").send().await.0 == 404).await;
    assert_eq!(hub.row("kept").await["status"], "inactive");
    // A session that is forgotten is told so, and registers again.
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

/// P5, P6, F67: after a restart, rows and sessions exist, inactive, until their publisher returns.
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
    // Twenty sweeps, and by the wall clock each row has been away for five hours.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for name in ["gone", "stayed"] {
        let row = hub.row(name).await;
        assert_eq!(row["status"], "inactive", "{name}");
        let since: jiff::Timestamp = row["inactiveSince"].as_str().unwrap().parse().unwrap();
        assert!(
            since > jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1),
            "{name}: fresh 4 h, {since}"
        );
    }
    hub.stop().await;
}
