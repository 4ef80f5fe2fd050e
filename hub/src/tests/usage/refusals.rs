//! Backends that refuse `stream_options`.

use super::*;
use crate::tests::publisher::completion;

const REFUSAL: &str = r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#;

/// Whether the request of a task asks for usage.
fn asks(task: &Value) -> bool {
    task["request"]["stream_options"]["include_usage"] == true
}

fn refused(status: u16, body: &str) -> Value {
    json!({ "status": status, "body": serde_json::from_str::<Value>(body).unwrap() })
}

/// A backend that refuses the option gets requests without it until its row is registered again.
#[actix_rt::test]
async fn a_row_that_refuses_the_option_is_remembered_until_it_is_registered_again() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = streaming(&hub, &json!(null));
    for refusal in
        [refused(422, REFUSAL), json!({ "error": "backend answered 400: unknown field `stream_options`" })]
    {
        let ((status, answer), ()) = futures_util::join!(call.send(), async {
            let task = publisher.task().await;
            assert!(asks(&task), "{task}");
            assert_eq!(publisher.post(&hub, &task, &refusal).await, 200);
            let again = publisher.task().await;
            assert!(
                again["taskId"] != task["taskId"] && again["request"].get("stream_options").is_none(),
                "{again}"
            );
            assert_eq!(publisher.chunk(&hub, &again, "one").await, 200);
            assert_eq!(publisher.done(&hub, &again).await, 200);
        });
        assert_eq!((status, answer), (200, format!("data: {}\n\ndata: [DONE]\n\n", chunk("one"))));
        assert_eq!(audited(&hub).await, json!([null, null, 1, true]));
        let (answer, task) = publisher.begins(&hub, &call, "two").await;
        assert!(!asks(&task), "the refusal is forgotten: {task}");
        assert_eq!(publisher.done(&hub, &task).await, 200);
        answer.text().await;
        // A caller that asks gets the backend's answer.
        let own = streaming(&hub, &json!({ "include_usage": true }));
        assert_eq!(publisher.post_for(&hub, &own, &refused(422, REFUSAL)).await.status, 422);
        let session = publisher.session.clone();
        Publisher::register(&hub, ADMIN, Some(&session), &[provider("a")]).await;
    }
    hub.stop().await;
}

/// A refusal that names no option is the caller's, once a stream with the option has begun.
#[actix_rt::test]
async fn a_refusal_of_the_callers_request_is_not_tried_again_for_ever() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = streaming(&hub, &json!(null));
    let other = refused(400, r#"{"error":{"message":"maximum context length is 4096 tokens"}}"#);
    // Nothing is known of the row: one more try, which teaches nothing.
    let ((status, _), ()) = futures_util::join!(call.send(), async {
        for is_asked in [true, false] {
            let task = publisher.task().await;
            assert_eq!(asks(&task), is_asked);
            assert_eq!(publisher.post(&hub, &task, &other).await, 200);
        }
    });
    assert_eq!(status, 400);
    let (answer, task) = publisher.begins(&hub, &call, "one").await;
    assert!(asks(&task));
    assert_eq!(publisher.done(&hub, &task).await, 200);
    answer.text().await;
    assert_eq!(publisher.post_for(&hub, &call, &other).await.status, 400);
    // Other failures are never tried again at the same row.
    assert_eq!(publisher.post_for(&hub, &call, &refused(500, REFUSAL)).await.status, 500);
    let (answer, task) = publisher.begins(&hub, &call, "two").await;
    assert!(asks(&task));
    drop(answer);
    // The backend was replaced by one that names the option.
    let ((status, _), ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.post(&hub, &task, &refused(422, REFUSAL)).await, 200);
        let again = publisher.task().await;
        assert!(!asks(&again));
        assert_eq!(publisher.chunk(&hub, &again, "three").await, 200);
        assert_eq!(publisher.done(&hub, &again).await, 200);
    });
    assert_eq!(status, 200);
    hub.stop().await;
}

/// The publisher of a durable task is told at once that its refusal is not the task's end.
#[actix_rt::test]
async fn a_durable_task_is_sent_again_without_the_option() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let id = hub.enqueue(ADMIN, "a", true).await;
    let task = publisher.task().await;
    assert!(asks(&task));
    // The answer to this POST does not wait for the end of the task.
    assert_eq!(publisher.post(&hub, &task, &refused(400, REFUSAL)).await, 200);
    let again = publisher.task().await;
    assert!(!asks(&again));
    assert_eq!(publisher.chunk(&hub, &again, "one").await, 200);
    assert_eq!(publisher.done(&hub, &again).await, 200);
    hub.until_task(&json!({ "id": id }), "status", "completed").await;
    assert_eq!(audited(&hub).await, json!([null, null, 1, true]));
    hub.stop().await;
}

#[actix_rt::test]
async fn a_public_row_that_refuses_the_option_is_called_again_without() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "a", "openai").await;
    for expected in [vec![true, false], vec![false]] {
        let call = streaming(&hub, &json!(null));
        let ((status, answer), ()) = futures_util::join!(call.send(), async {
            for is_asked in expected {
                let call = upstream.call().await;
                assert_eq!(call.body["stream_options"]["include_usage"] == true, is_asked, "{}", call.body);
                assert_eq!(call.body["stream"], true);
                if is_asked {
                    call.json(400, &serde_json::from_str(REFUSAL).unwrap()).await;
                } else {
                    call.json(200, &completion("whole")).await;
                }
            }
        });
        assert!(status == 200 && answer.contains("whole"), "{answer}");
        assert_eq!(audited(&hub).await, json!([3, null, 5, false]));
    }
    hub.stop().await;
}
