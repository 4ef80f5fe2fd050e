//! Public rows, agents and sessions.

use super::*;

#[actix_rt::test]
async fn a_public_rows_key_is_never_shown() {
    let hub = hub().await;
    let member = hub.member("alice").await;
    let (status, made) = make_llm(&hub, &public_llm("gpt")).await;
    assert_eq!(status, 201, "{made}");
    for (key, value) in [("kind", "public"), ("status", "active"), ("visibility", "public")] {
        assert_eq!(made[key], value);
    }
    assert_eq!(make_llm(&hub, &public_llm("gpt")).await.0, 409);
    let mut shown = hub.row("gpt").await;
    assert_eq!(shown["url"], "http://127.0.0.1:9/v1");
    let (_, theirs) = hub.ask_as(&member, "GET", "/api/v1/llms").send().await;
    assert!(theirs.contains("\"gpt\"") && !theirs.contains("127.0.0.1"), "{theirs}");

    // A PUT of the body that GET returned changes only the time of the change.
    let put = hub.ask("PUT", "/api/v1/llms/gpt").body(shown.to_string());
    let (status, mut same) = put.json().await;
    assert_eq!(status, 200);
    same["updatedAt"] = Value::Null;
    shown["updatedAt"] = Value::Null;
    assert_eq!(same, shown);
    shown["tier"] = "heavy".into();
    let (_, changed) = hub.ask("PUT", "/api/v1/llms/gpt").body(shown.to_string()).json().await;
    assert_eq!((changed["tier"].as_str(), changed["id"].as_str()), (Some("heavy"), made["id"].as_str()));

    for path in ["/api/v1/llms", "/api/v1/llms/gpt", "/v1/models", "/metrics"] {
        assert!(!hub.ask("GET", path).send().await.1.contains("canary-key"), "{path}");
    }
    assert_eq!(hub.ask("DELETE", "/api/v1/llms/gpt").send().await.0, 204);
    assert_eq!(hub.ask("GET", "/api/v1/llms/gpt").send().await.0, 404);
    assert_eq!(hub.ask("PUT", "/api/v1/llms/gpt").body(shown.to_string()).send().await.0, 404);
    hub.stop().await;
}

/// The stored key belongs to the old server: another host, port or scheme removes it.
#[actix_rt::test]
async fn a_new_upstream_address_removes_the_stored_key() {
    let hub = hub().await;
    let first = "https://Api.Example.com/v1";
    let spec = |url: &str| json!({ "type": "openai", "model": "m", "url": url });
    let key = || hub.core().registry.lock().llm(&admin(), "gpt")?.upstream.clone()?.api_key;
    let mut made = public_llm("gpt");
    made["url"] = first.into();
    assert_eq!(make_llm(&hub, &made).await.0, 201);
    for (url, stays) in [
        ("https://api.example.com:443/other/v2", true),
        ("http://api.example.com/v1", false),
        ("https://api.example.com:8443/v1", false),
        ("https://api.example.com.evil.example/v1", false),
        ("https://evil.example/api.example.com/v1", false),
    ] {
        let mut back = spec(first);
        back["apiKey"] = "canary-key".into();
        let (status, answer) = hub.ask("PUT", "/api/v1/llms/gpt").body(back.to_string()).json().await;
        assert_eq!(
            (status, answer.get("warnings")),
            (200, None),
            "a warning although the key came with the address"
        );
        let put = hub.ask("PUT", "/api/v1/llms/gpt").body(spec(url).to_string());
        let (status, answer) = put.json().await;
        assert_eq!((status, &answer["url"]), (200, &json!(url)));
        assert_eq!(key().is_some(), stays, "{url}");
        let warned = answer["warnings"][0].as_str().is_some_and(|text| text.contains("apiKey again"));
        assert_eq!(warned, !stays, "{answer}");
        // The warning is sent once.
        let (_, again) = put.json().await;
        assert_eq!(again.get("warnings"), None, "{again}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_public_row_that_cannot_be_called_is_refused() {
    let hub = hub().await;
    for (key, value) in [
        ("name", json!("Bad Name")),
        ("url", json!("file:///etc/passwd")),
        ("url", json!("http://user:pass@host/v1")),
        ("url", json!("http://host/v1?key=secret")),
        ("url", Value::Null),
        ("model", json!("")),
        ("apiKey", json!("a\r\nX-Evil: 1")),
    ] {
        let mut body = public_llm("x");
        body[key] = value;
        let (status, answer) = make_llm(&hub, &body).await;
        assert_eq!(status, 400, "{body}");
        assert!(!answer.to_string().contains("pass@host") && !answer.to_string().contains("secret"));
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_published_row_is_changed_by_its_publisher_only() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let body = public_llm("a");
    assert_eq!(hub.ask("PUT", "/api/v1/llms/a").body(body.to_string()).send().await.0, 409);
    assert_eq!(make_llm(&hub, &body).await.0, 409);
    assert_eq!(hub.ask("DELETE", "/api/v1/llms/a").send().await.0, 409);
    publisher.close();
    hub.until_status("a", "inactive").await;
    assert_eq!(hub.ask("DELETE", "/api/v1/llms/a").send().await.0, 204);
    assert_eq!(hub.ask("GET", "/api/v1/llms/a").send().await.0, 404);
    hub.stop().await;
}

#[actix_rt::test]
async fn private_agents_are_seen_by_their_owner_only() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let body = json!({ "name": "helper", "llmName": "any", "systemPrompt": "Be brief.",
        "defaultParams": { "seed": 18_446_744_073_709_551_615_u64 }, "visibility": null });
    let (status, made) = hub.ask_as(&alice, "POST", "/api/v1/agents").body(body.to_string()).json().await;
    assert_eq!(status, 201, "{made}");
    assert_eq!((made["visibility"].as_str(), made["kind"].as_str()), (Some("private"), Some("public")));
    assert_eq!(made["defaultParams"]["seed"], 18_446_744_073_709_551_615_u64);
    let get = |token: &str, name: &str| hub.ask_as(token, "GET", format!("/api/v1/agents/{name}"));
    assert_eq!(get(&alice, "helper").json().await.1, made);
    assert_eq!(hub.ask_as(&bob, "GET", "/api/v1/agents").json().await.1, json!([]));
    let (hidden, unknown) = (get(&bob, "helper").send().await, get(&bob, "nobody").send().await);
    assert_eq!((hidden.0, hidden.1), (404, unknown.1.replace("nobody", "helper")));
    for method in ["PUT", "DELETE"] {
        let (status, _) =
            hub.ask_as(&bob, method, "/api/v1/agents/helper").body(body.to_string()).send().await;
        assert_eq!(status, 404, "{method}");
    }
    let mut open = made.clone();
    open["visibility"] = "public".into();
    let put = hub.ask_as(&alice, "PUT", "/api/v1/agents/helper").body(open.to_string());
    assert_eq!(put.json().await.1["visibility"], "public");
    assert_eq!(get(&bob, "helper").send().await.0, 200);
    assert_eq!(hub.ask_as(&bob, "DELETE", "/api/v1/agents/helper").send().await.0, 403);
    assert_eq!(hub.ask_as(&alice, "DELETE", "/api/v1/agents/helper").send().await.0, 204);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_member_sees_its_own_sessions_only() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, status")).await;
    let list = |token: String| hub.ask_as(&token, "GET", "/api/v1/sessions");
    let (_, mine) = list(alice.clone()).json().await;
    assert_eq!(mine[0]["id"].as_str(), Some(publisher.session.as_str()));
    assert_eq!(mine[0]["status"], "connected");
    assert_eq!(mine[0]["llms"], json!(["a"]));
    assert_eq!(mine[0]["features"], json!(["cancel", "status"]));
    assert_eq!(list(bob).json().await.1, json!([]));
    assert_eq!(list(ADMIN.into()).json().await.1.as_array().unwrap().len(), 1);
    publisher.close();
    eventually("the session is away", async || list(alice.clone()).json().await.1[0]["status"] == "away")
        .await;
    hub.stop().await;
}
