//! A publisher that sends no chunk for too long: the stream ends with an error and the task is cancelled.

use std::time::Duration;

use serde_json::{Value, json};

use super::publisher::{Publisher, chunk, provider};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub_with};

const SILENCE: Duration = Duration::from_millis(300);

async fn hub_with_short_idle_timeout() -> TestHub {
    hub_with(|options| {
        options.timings.stream_idle_timeout = SILENCE;
        // Keep-alives are more frequent and must not restart the timeout.
        options.timings.keepalive_interval = Duration::from_millis(50);
    })
    .await
}

/// The last event of a stream, which has to be an error. Checks that the stream has no end mark.
fn last_error(text: &str) -> Value {
    assert!(!text.contains("[DONE]"), "{text}");
    let data = text.trim_end().rsplit("data: ").next().unwrap();
    serde_json::from_str(data).unwrap_or_else(|_| panic!("{text}"))
}

fn code(error: &Value) -> &Value {
    error["error"].get("code").unwrap_or(&error["code"])
}

#[actix_rt::test]
async fn a_stream_of_a_silent_publisher_ends_and_frees_its_slot() {
    let hub = hub_with_short_idle_timeout().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, endpoints")).await;
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/v1/llms/a/infer"] {
        let ask = hub.ask("POST", path).body(chat("a", true));
        let (mut answer, task) = publisher.begins(&hub, &ask, "one").await;
        let text = answer.rest().await;
        assert!(text.contains(": keepalive") || text.contains("ping"), "there is no keep-alive: {text}");
        assert_eq!(publisher.cancelled().await, task["taskId"], "{path}");
        assert!(text.contains("stream_idle"), "{path}: {text}");
        if path != "/v1/responses" {
            assert_eq!(code(&last_error(&text)), "stream_idle", "{path}: {text}");
        }
        eventually("the row's slot is free", async || hub.core().registry.lock().in_flight("a") == 0).await;
        assert_eq!(publisher.chunk(&hub, &task, "late").await, 410, "{path}");
    }
    let (_, rows) = hub.ask("GET", "/api/v1/audit").json().await;
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row["status"] == 504 && row["code"] == "stream_idle"), "{rows:?}");
    hub.stop().await;
}

/// Each chunk restarts the timeout. Before the first chunk only `--wait-timeout` applies.
#[actix_rt::test]
async fn a_publisher_with_short_pauses_does_not_time_out() {
    let hub = hub_with_short_idle_timeout().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("a", true));
    let (text, ()) = futures_util::join!(ask.send(), async {
        let task = publisher.task().await;
        tokio::time::sleep(SILENCE * 3 / 2).await;
        for piece in ["one", "two", "three", "four"] {
            assert_eq!(publisher.chunk(&hub, &task, piece).await, 200, "{piece}");
            tokio::time::sleep(SILENCE / 2).await;
        }
        assert_eq!(publisher.done(&hub, &task).await, 200);
    });
    assert!(text.1.contains(&chunk("four")) && text.1.ends_with("data: [DONE]\n\n"), "{}", text.1);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_durable_task_of_a_silent_publisher_is_an_error() {
    let hub = hub_with_short_idle_timeout().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let task = json!({ "llm": "a", "request": { "messages": [] }, "streaming": true });
    let (_, made) = hub.ask("POST", "/api/v1/inference-tasks").body(task.to_string()).json().await;
    let sent = publisher.task().await;
    assert_eq!(publisher.chunk(&hub, &sent, "one").await, 200);
    assert_eq!(publisher.cancelled().await, sent["taskId"]);
    let ended = hub.until_task(&made, "status", "error").await;
    assert_eq!(ended["code"], "stream_idle", "{ended}");
    hub.stop().await;
}

/// A row keeps the `timeoutSeconds` of its last register call.
#[actix_rt::test]
async fn the_timeout_of_a_row_is_taken_from_its_register_call() {
    let hub = hub_with(|_| ()).await;
    let mut spec = provider("a");
    spec["timeoutSeconds"] = json!(45);
    let publisher = Publisher::start(&hub, ADMIN, &[spec, provider("b")], None).await;
    let timeout_of = |name: &str| {
        let registry = hub.core().registry.lock();
        let caller = crate::model::Caller {
            user: "root".into(),
            role: crate::model::Role::Admin,
            token_id: "t".into(),
            models: crate::model::AllowedModels::default(),
            secret: None,
        };
        registry.llm(&caller, name).unwrap().timeout_seconds
    };
    assert_eq!((timeout_of("a"), timeout_of("b")), (Some(45), None));
    // A register call without `timeoutSeconds` removes it.
    Publisher::register(&hub, ADMIN, Some(&publisher.session), &[provider("a"), provider("b")]).await;
    assert_eq!(timeout_of("a"), None);
    hub.stop().await;
}
