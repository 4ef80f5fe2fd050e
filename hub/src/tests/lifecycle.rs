//! The lifecycle of sessions and rows (SPEC.md section 3.6), tested by HTTP requests.

mod loss;

use std::time::Duration;

use serde_json::{Value, json};

use super::publisher::{Publisher, private, provider};
use super::road::infer;
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};
use crate::options::DataDir;

async fn register(hub: &TestHub, token: &str, session: Option<&str>, providers: &[Value]) -> (u16, Value) {
    let mut body = json!({ "providers": providers });
    if let Some(session) = session {
        body["providerSessionId"] = session.into();
    }
    hub.register(token, &body).await
}

/// F19: a register call with a name that is in use gets 409 and changes nothing; the error of a hidden name says less.
#[actix_rt::test]
async fn a_register_call_with_a_taken_name_changes_nothing() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let _alices =
        Publisher::start(&hub, &alice, &[provider("seen"), private(provider("hidden"))], None).await;
    for (name, text) in
        [("seen", "LLM seen is published by another session"), ("hidden", "name 'hidden' is taken")]
    {
        let (status, answer) = register(&hub, &bob, None, &[provider("new"), provider(name)]).await;
        assert_eq!((status, &answer["error"]), (409, &json!(text)));
        assert_eq!(
            hub.ask("GET", "/api/v1/llms/new").send().await.0,
            404,
            "a row of the refused call exists"
        );
    }
    // Another session of the same user may not take the name of an active row, either.
    let (status, answer) = register(&hub, &alice, None, &[provider("seen")]).await;
    assert_eq!((status, &answer["error"]), (409, &json!("LLM seen is published by another session")));
    hub.stop().await;
}

/// A12: an invalid name is refused, and the error has its position.
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
async fn a_proposed_session_id_is_used_unless_another_user_has_it() {
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

/// A01, A02: another user's session is 404 for its channel, its heartbeats and the results of its tasks.
#[actix_rt::test]
async fn a_session_of_another_user_is_404() {
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
        // A result with the id of another session is refused, too.
        let path = format!("/api/v1/llms/_provider-task/{id}/result");
        let ask = hub.ask_as(&alice, "POST", path).body(json!({ "error": "x" }).to_string());
        assert_eq!(ask.header("x-mcpctl-provider-session", "another").send().await.0, 404);
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200);
    // The publisher's channel is still open: it gets the next task.
    publisher.serves(&hub, &infer(&hub, "a", false), "hello").await;
    hub.stop().await;
}

/// P1, F30, A21, A45: a repeated final result changes nothing and gets 200; a different result gets 409; a result for
/// an unknown task gets 404.
#[actix_rt::test]
async fn a_repeated_result_gets_200_and_a_different_result_gets_409() {
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
