//! JSON of publishers and callers that could exhaust or confuse the hub.

use super::*;

/// A21, A45: a result after the end changes nothing, an invalid sequence number is refused, and an impossible usage is
/// not recorded.
#[actix_rt::test]
async fn an_answer_ends_once_and_an_impossible_usage_is_not_recorded() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, chunk-seq")).await;
    let call = infer(&hub, "a", true);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        let usage = r#"{"usage":{"prompt_tokens":1e300,"completion_tokens":-5},"choices":[]}"#;
        let chunk = |seq: Value| json!({ "chunk": { "data": usage, "seq": seq } });
        assert_eq!(publisher.post(&hub, &task, &chunk(json!(0))).await, 200);
        let done = json!({ "chunk": { "data": "[DONE]", "done": true, "seq": 1 } });
        assert_eq!(publisher.post(&hub, &task, &done).await, 200);
        assert_eq!(publisher.post(&hub, &task, &done).await, 200, "a repeated end mark is refused");
        for late in [chunk(json!(2)), json!({ "error": "no" }), json!({ "status": 200, "body": {} })] {
            assert!([409, 410].contains(&publisher.post(&hub, &task, &late).await), "{late}");
        }
    });
    assert_eq!(
        events(&answer.1).len(),
        1,
        "a chunk with nothing but the usage, and the end mark: {}",
        answer.1
    );
    let audit = hub.ask("GET", "/api/v1/audit").json().await.1;
    assert_eq!(
        (&audit[0]["inputTokens"], &audit[0]["outputTokens"], &audit[0]["counted"]),
        (&Value::Null, &json!(0), &json!(true)),
        "{audit}"
    );
    for seq in [json!(-1), json!(1e300), json!("0"), json!(18_446_744_073_709_551_615_u64), json!(1)] {
        let call = infer(&hub, "a", true);
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = publisher.task().await;
            let chunk = json!({ "chunk": { "data": "{}", "seq": seq } });
            assert!([400, 409].contains(&publisher.post(&hub, &task, &chunk).await), "{seq}");
        });
        assert_eq!(answer.0, 502, "{seq}: {}", answer.1);
    }
    hub.stop().await;
}

/// A23: deep, long or wide JSON does not exhaust the hub on any route that parses it, and duplicate keys are read in
/// one way.
#[actix_rt::test]
async fn no_json_exhausts_the_hub() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a"), provider("b")], Some("cancel")).await;
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let number = "9".repeat(1 << 20);
    let keys: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":1")).collect();
    let bombs = [deep, objects, number, format!("{{{}}}", keys.join(","))];
    for bomb in &bombs {
        for (path, body) in [
            ("/v1/chat/completions", format!(r#"{{"model":"nobody","x":{bomb}}}"#)),
            ("/v1/messages", bomb.clone()),
            ("/api/v1/llms/nobody/infer", format!(r#"{{"x":{bomb}}}"#)),
            ("/api/v1/inference-tasks", format!(r#"{{"llm":"nobody","request":{{"x":{bomb}}}}}"#)),
            ("/api/v1/tokens", format!(r#"{{"user":"","x":{bomb}}}"#)),
            ("/api/v1/agents", format!(r#"{{"name":"","llmName":"x","extras":{{"x":{bomb}}}}}"#)),
            ("/api/v1/llms/_provider-register", format!(r#"{{"providers":[{{"name":"","x":{bomb}}}]}}"#)),
            ("/api/v1/llms/_provider-heartbeat", format!(r#"{{"providerSessionId":"none","x":{bomb}}}"#)),
        ] {
            let (status, text) = hub.ask("POST", path).body(body).send().await;
            assert!([400, 404].contains(&status), "{path}: {status} {text:.200}");
        }
        let call = infer(&hub, "a", false);
        let (answer, ()) = futures_util::join!(call.open(), async {
            let task = publisher.task().await;
            let path = format!("/api/v1/llms/_provider-task/{}/result", task["taskId"].as_str().unwrap());
            hub.ask("POST", path).body(format!(r#"{{"status":200,"body":{bomb}}}"#)).send().await;
        });
        assert!([200, 502].contains(&answer.status), "{}", answer.status);
    }
    for text in [r#"{"model":"\ud800","messages":[]}"#, r#"{"model":["a"]}"#, "{\"model\":\"a\u{0}\"}"] {
        let (status, answer) = hub.ask("POST", "/v1/chat/completions").body(text).send().await;
        assert!([400, 404].contains(&status), "{answer}");
    }
    // Of several models in one body one is looked up, and all are replaced by that row's model.
    let twice = r#"{"model":"a","messages":[],"model":"b","mo\u0064el":"a","stream":false}"#;
    let call = hub.ask("POST", "/v1/chat/completions").body(twice);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let event = publisher.event().await.unwrap();
        let task: Value = serde_json::from_str(&event.data).unwrap();
        let row = task["llmName"].as_str().unwrap();
        let other = if row == "a" { "\"b\"" } else { "\"a\"" };
        assert_eq!(task["request"]["model"], format!("model-of-{row}"));
        assert!(!event.data.contains(other), "{}", event.data);
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

/// A43: SQL in a text is not executed.
#[actix_rt::test]
async fn sql_in_a_text_is_not_executed() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    publisher.serves(&hub, &infer(&hub, "a", false), "hello").await;
    for sql in ["a'%20OR%20'1'='1", "%25", "_", "a%22%20OR%201=1--", "a';DROP%20TABLE%20audit;--", "a%00"] {
        for token in [ADMIN, alice.as_str()] {
            let found = hub.ask_as(token, "GET", format!("/api/v1/audit?llm={sql}")).json().await;
            assert_eq!(found, (200, json!([])), "{sql}");
        }
        for path in ["/api/v1/inference-tasks/", "/api/v1/tokens/"] {
            let method = if path.contains("tokens") { "DELETE" } else { "GET" };
            assert_eq!(hub.ask(method, format!("{path}{sql}")).send().await.0, 404, "{sql}");
        }
    }
    assert_eq!(hub.ask("GET", "/api/v1/audit?llm=a").json().await.1.as_array().unwrap().len(), 1);
    hub.stop().await;
}
