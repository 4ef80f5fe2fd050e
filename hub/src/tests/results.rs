//! Results that are truncated or too large.

use serde_json::json;

use super::publisher::{Publisher, completion, provider};
use super::road::infer;
use super::support::{ADMIN, hub};

/// F34, P3: a truncated result is ignored, even if it looks whole; its repetition is accepted.
#[actix_rt::test]
async fn a_truncated_result_is_ignored() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        let path = format!("/api/v1/llms/_provider-task/{}/result", task["taskId"].as_str().unwrap());
        let whole = json!({ "status": 200, "body": completion("cut") }).to_string();
        let padded = whole.clone() + "  ";
        for (body, missing) in [(&whole, 10), (&padded, 2)] {
            let said = hub.ask("POST", path.as_str()).body(body.as_str()).break_off(missing).await;
            assert!(!said.contains(" 200 "), "{said}");
        }
        let mut upload = hub.ask("POST", path.as_str()).upload().await;
        upload.write(&whole).await;
        let said = upload.break_off().await;
        assert!(!said.contains(" 200 "), "{said}");
        assert_eq!(publisher.answer(&hub, &task, "whole").await, 200);
    });
    assert_eq!(answer.0, 200);
    assert!(answer.1.contains("whole") && !answer.1.contains("cut"), "{}", answer.1);
    hub.stop().await;
}

/// F33, P7: a result over the limit gets 413 and fails its task.
#[actix_rt::test]
async fn a_result_that_is_too_large_fails_its_task() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        let text = "x".repeat(64 << 20);
        assert_eq!(publisher.answer(&hub, &task, &text).await, 413);
        assert_eq!(publisher.answer(&hub, &task, "smaller").await, 410);
    });
    assert_eq!(answer.0, 502, "{}", answer.1);
    hub.stop().await;
}

/// F33: only the status of a too large error body is passed on; a large success is passed on whole.
#[actix_rt::test]
async fn only_the_status_of_a_too_large_error_is_passed_on() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    for (status, streaming) in [(422, false), (500, true)] {
        let call = infer(&hub, "a", streaming);
        let (answer, ()) = futures_util::join!(call.json(), async {
            let task = publisher.task().await;
            let large = json!({ "error": { "message": "secret ".repeat(60_000) } });
            let result = json!({ "status": status, "body": large });
            assert_eq!(publisher.post(&hub, &task, &result).await, 200);
        });
        assert_eq!((answer.0, &answer.1["error"]["message"]), (status, &json!("the backend failed")));
    }
    let call = infer(&hub, "a", true);
    let answer = publisher.answer_for(&hub, &call, &"x".repeat(1 << 20)).await.text().await;
    assert_eq!(answer.0, 200);
    assert!(answer.1.ends_with("data: [DONE]\n\n") && answer.1.len() > 1 << 20, "{}", answer.1.len());
    hub.stop().await;
}
