//! Sessions and rows as section 3.6 has them, through the routes.

use std::time::Duration;

use serde_json::{Value, json};

use super::publisher::{Publisher, provider};
use super::road::infer;
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};
use crate::options::DataDir;

async fn register(hub: &TestHub, token: &str, session: Option<&str>, providers: &[Value]) -> (u16, Value) {
    let mut body = json!({ "providers": providers });
    if let Some(session) = session {
        body["providerSessionId"] = session.into();
    }
    hub.ask_as(token, "POST", "/api/v1/llms/_provider-register").body(body.to_string()).json().await
}

fn private(name: &str) -> Value {
    let mut provider = provider(name);
    provider["visibility"] = "private".into();
    provider
}

/// F19: a name in use is not taken over.
#[actix_rt::test]
async fn a_name_conflict_applies_nothing_and_reveals_nothing() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let _alices = Publisher::start(&hub, &alice, &[provider("seen"), private("hidden")], None).await;
    for (name, text) in
        [("seen", "LLM seen is published by another session"), ("hidden", "name 'hidden' is taken")]
    {
        let (status, answer) = register(&hub, &bob, None, &[provider("new"), provider(name)]).await;
        assert_eq!((status, &answer["error"]), (409, &json!(text)));
        assert_eq!(hub.ask("GET", "/api/v1/llms/new").send().await.0, 404, "nothing of the call is applied");
    }
    // The same user's other session may not take what lives, either.
    let (status, answer) = register(&hub, &alice, None, &[provider("seen")]).await;
    assert_eq!((status, &answer["error"]), (409, &json!("LLM seen is published by another session")));
    hub.stop().await;
}

/// A12: a name outside the rule is refused, and the error has its position.
#[actix_rt::test]
async fn a_bad_name_is_400_with_its_position() {
    let hub = hub().await;
    for name in ["", "A", "-a", "a b", "a\r\nx: y", &"a".repeat(101)] {
        let (status, answer) = register(&hub, ADMIN, None, &[provider("ok"), provider(name)]).await;
        assert_eq!(status, 400, "{name:?}");
        assert!(answer["error"].as_str().unwrap().starts_with("providers[1].name"), "{answer}");
    }
    for body in ["", "[]", "null", "{} {}", r#"{"providers":5}"#] {
        let ask = hub.ask("POST", "/api/v1/llms/_provider-register").body(body);
        assert_eq!(ask.send().await.0, 400, "{body}");
    }
    let (status, _) = register(&hub, ADMIN, None, &[provider("a"), provider("a")]).await;
    assert_eq!(status, 400);
    let (status, answer) = register(&hub, ADMIN, None, &[json!({ "name": "a" })]).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("providers[0]"), "{answer}");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_proposed_session_id_is_kept_unless_it_is_anothers() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let (_, answer) = register(&hub, &alice, Some("my own id~1"), &[]).await;
    assert_eq!(answer["error"].as_str().map(|text| text.starts_with("providerSessionId")), Some(true));
    for _ in 0..2 {
        let (status, answer) = register(&hub, &alice, Some("alices-id"), &[provider("a")]).await;
        assert_eq!((status, &answer["providerSessionId"]), (201, &json!("alices-id")));
    }
    let (status, answer) = register(&hub, &bob, Some("alices-id"), &[provider("b")]).await;
    assert_eq!(status, 201);
    let id = answer["providerSessionId"].as_str().unwrap();
    assert!(id.starts_with("sess-") && id.len() >= 5 + 32, "{id}");
    hub.stop().await;
}

/// A01, A02: another user's session is 404, for its channel and its heartbeat.
#[actix_rt::test]
async fn anothers_session_is_404() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        let id = task["taskId"].as_str().unwrap();
        let beat = |session: &str| json!({ "providerSessionId": session }).to_string();
        for token in [&bob, ADMIN] {
            let ask = |method, path: String| hub.ask_as(token, method, path);
            let unknown =
                ask("POST", "/api/v1/llms/_provider-heartbeat".into()).body(beat("unknown")).send().await;
            let foreign =
                ask("POST", "/api/v1/llms/_provider-heartbeat".into()).body(beat(&publisher.session));
            let foreign = foreign.send().await;
            assert_eq!(foreign.0, 404);
            assert_eq!(foreign.1, unknown.1.replace("unknown", &publisher.session));
            let stream = ask("GET", "/api/v1/llms/_provider-stream".into());
            let stream = stream.header("x-mcpctl-provider-session", &publisher.session);
            assert_eq!(stream.send().await.0, 404);
            for path in ["result", "stream"] {
                let path = format!("/api/v1/llms/_provider-task/{id}/{path}");
                let body = json!({ "error": "mine now" }).to_string();
                assert_eq!(ask("POST", path).body(body).send().await.0, 404);
            }
        }
        // Nor is it another session's of the same user.
        let path = format!("/api/v1/llms/_provider-task/{id}/result");
        let ask = hub.ask_as(&alice, "POST", path).body(json!({ "error": "x" }).to_string());
        assert_eq!(ask.header("x-mcpctl-provider-session", "another").send().await.0, 404);
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200);
    // The channel is the one it was: the next task comes on it.
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

/// P1, F30, A21, A45: a retry after a lost answer changes nothing and gets 200; another result gets 409, an unknown
/// task 404.
#[actix_rt::test]
async fn the_first_final_result_counts_and_its_repeat_is_200() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
        assert_eq!(publisher.answer(&hub, &task, "something else").await, 409);
        assert_eq!(publisher.answer(&hub, &json!({ "taskId": "unknown" }), "hello").await, 404);
    });
    assert_eq!(answer.0, 200);
    assert!(answer.1.contains("hello"));
    hub.stop().await;
}

#[actix_rt::test]
async fn rows_missing_in_a_register_call_become_inactive() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a"), provider("b")], None).await;
    let session = publisher.session.clone();
    let (status, _) = register(&hub, ADMIN, Some(&session), &[provider("a")]).await;
    assert_eq!(status, 201);
    assert_eq!(hub.row("b").await["status"], "inactive");
    publisher.beat(&hub, json!({})).await;
    publisher.open(&hub, None).await;
    assert_eq!(hub.row("a").await["status"], "active");
    assert_eq!(hub.row("b").await["status"], "inactive");
    assert_eq!(infer(&hub, "b", false).send().await.0, 503);
    hub.stop().await;
}

/// F03, F57: the newer channel of a session counts, and the late end of the older one changes nothing.
#[actix_rt::test]
async fn the_late_close_of_a_replaced_channel_changes_nothing() {
    let hub = hub().await;
    let mut older = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let mut newer = Publisher::register(&hub, ADMIN, Some(&older.session), &[provider("a")]).await;
    newer.open(&hub, None).await;
    assert!(older.event().await.is_none(), "the older channel ends");
    older.close();
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = newer.task().await;
        newer.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
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
    let publisher = Publisher::start(&hub, ADMIN, &[private("a"), provider("b")], None).await;
    let (status, answer) =
        register(&hub, ADMIN, Some(&publisher.session), &[provider("a"), private("b")]).await;
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
    let publisher = Publisher::start(&hub, ADMIN, &[private("a")], None).await;
    let before = hub.row("a").await;
    hub.stop().await;
    let hub = start().await;
    let after = hub.row("a").await;
    assert_eq!(after["status"], "inactive");
    assert_eq!((&after["id"], &after["createdAt"]), (&before["id"], &before["createdAt"]));
    assert_eq!(infer(&hub, "a", false).send().await.0, 503);
    let mut again = Publisher::register(&hub, ADMIN, Some(&publisher.session), &[private("a")]).await;
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
