//! Tokens, public rows, agents, sessions, metrics: who may, and what it shows.

use serde_json::{Value, json};

use super::publisher::{Publisher, provider};
use super::support::{ADMIN, TestHub, eventually, hub};
use crate::model::{Caller, Role};

async fn make_token(hub: &TestHub, body: Value) -> (u16, Value) {
    hub.ask("POST", "/api/v1/tokens").body(body.to_string()).json().await
}

async fn make_llm(hub: &TestHub, body: &Value) -> (u16, Value) {
    hub.ask("POST", "/api/v1/llms").body(body.to_string()).json().await
}

fn admin() -> Caller {
    Caller { user: "admin".into(), role: Role::Admin, token_id: "environment".into() }
}

fn public_llm(name: &str) -> Value {
    json!({ "name": name, "type": "openai", "model": "m", "url": "http://127.0.0.1:9/v1", "apiKey": "canary-key" })
}

#[actix_rt::test]
async fn a_token_is_shown_once_and_ends_when_it_is_revoked() {
    let hub = hub().await;
    let (status, made) = make_token(&hub, json!({ "user": "alice", "expires": "30d" })).await;
    assert_eq!(status, 201, "{made}");
    let (secret, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert_eq!((made["user"].as_str(), made["role"].as_str()), (Some("alice"), Some("member")));
    assert!(made["expiresAt"].is_string());
    assert_eq!(hub.ask_as(secret, "GET", "/api/v1/llms").send().await.0, 200);
    let (_, list) = hub.ask("GET", "/api/v1/tokens").send().await;
    assert!(list.contains(id) && !list.contains(secret), "{list}");

    let mut channel = {
        let publisher = Publisher::start(&hub, secret, &[provider("a")], None).await;
        assert!(hub.ask("GET", "/api/v1/sessions").send().await.1.contains(&publisher.session));
        publisher
    };
    let gone = hub.ask("DELETE", format!("/api/v1/tokens/{id}"));
    assert_eq!(gone.send().await.0, 204);
    assert_eq!(hub.ask_as(secret, "GET", "/api/v1/llms").send().await.0, 401);
    assert!(channel.event().await.is_none(), "its channel ends with it");
    assert_eq!(gone.send().await.0, 204, "twice is once");
    assert_eq!(hub.ask("DELETE", "/api/v1/tokens/tok-none").send().await.0, 404);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_token_without_a_user_or_a_lifetime_is_refused() {
    let hub = hub().await;
    for body in [
        json!({}),
        json!({ "user": "" }),
        json!({ "user": "a\nb" }),
        json!({ "user": "a", "role": "root" }),
        json!({ "user": "a", "expires": "yesterday" }),
        json!({ "user": "a", "expiresAt": "2001-01-01T00:00:00Z" }),
    ] {
        let (status, answer) = make_token(&hub, body.clone()).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn user_names_ignore_case_and_have_one_role() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut own = provider("hers");
    own["visibility"] = "private".into();
    let _publisher = Publisher::start(&hub, &alice, &[own], None).await;
    let (status, made) = make_token(&hub, json!({ "user": "ALICE" })).await;
    assert_eq!((status, made["user"].as_str()), (201, Some("alice")), "{made}");
    let shouting = made["token"].as_str().unwrap();
    assert_eq!(hub.ask_as(shouting, "GET", "/api/v1/llms/hers").send().await.0, 200);
    assert_eq!(hub.ask_as(shouting, "GET", "/api/v1/audit?user=Alice").send().await.0, 200);

    let (status, _) = make_token(&hub, json!({ "user": "Olga", "role": "admin" })).await;
    assert_eq!(status, 201);
    for name in ["admin", "Admin", "ADMIN", "Olga", "oLGA"] {
        let (status, refused) = make_token(&hub, json!({ "user": name, "role": "member" })).await;
        assert_eq!((status, refused["code"].as_str()), (409, Some("conflict")), "{name}: {refused}");
        assert!(refused["error"].as_str().unwrap().contains("an admin's name"), "{refused}");
        let (status, _) = make_token(&hub, json!({ "user": name, "role": "admin" })).await;
        assert_eq!(status, 201, "an admin may have several");
    }
    let (status, _) = make_token(&hub, json!({ "user": "olga2" })).await;
    assert_eq!(status, 201);
    hub.stop().await;
}

#[actix_rt::test]
async fn each_route_of_an_administrator_refuses_a_member() {
    let hub = hub().await;
    let member = hub.member("alice").await;
    make_llm(&hub, &public_llm("shared")).await;
    let llm = public_llm("x").to_string();
    for (method, path, body) in [
        ("POST", "/api/v1/tokens", r#"{"user":"a","role":"admin"}"#),
        ("GET", "/api/v1/tokens", ""),
        ("DELETE", "/api/v1/tokens/environment", ""),
        ("POST", "/api/v1/llms", llm.as_str()),
        ("PUT", "/api/v1/llms/shared", llm.as_str()),
        ("DELETE", "/api/v1/llms/shared", ""),
    ] {
        let (status, text) = hub.ask_as(&member, method, path).body(body).send().await;
        assert_eq!(status, 403, "{method} {path}: {text}");
        assert!(text.contains("for admins only"), "{method} {path}: {text}");
    }
    assert_eq!(hub.ask("DELETE", "/api/v1/tokens/environment").send().await.0, 409);
    hub.stop().await;
}

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

    // What GET shows, PUT takes back without a difference, but for the time.
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

/// The key was given for the old server.
#[actix_rt::test]
async fn a_new_upstream_address_needs_the_key_again() {
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
        assert_eq!((status, answer.get("warnings")), (200, None), "a key that came with its address");
        let put = hub.ask("PUT", "/api/v1/llms/gpt").body(spec(url).to_string());
        let (status, answer) = put.json().await;
        assert_eq!((status, &answer["url"]), (200, &json!(url)));
        assert_eq!(key().is_some(), stays, "{url}");
        let warned = answer["warnings"][0].as_str().is_some_and(|text| text.contains("apiKey again"));
        assert_eq!(warned, !stays, "{answer}");
        // It is said once.
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
    eventually("away", async || list(alice.clone()).json().await.1[0]["status"] == "away").await;
    hub.stop().await;
}

/// A48: metrics are behind a token.
#[actix_rt::test]
async fn metrics_need_a_token_and_readiness_needs_none() {
    let hub = hub().await;
    let bare = |path: &str| super::http::ask(hub.addr, "GET", path);
    assert_eq!(bare("/metrics").send().await.0, 401);
    assert_eq!(bare("/readyz").send().await, (200, r#"{"status":"ready"}"#.into()));
    let (status, text) = hub.ask("GET", "/metrics").send().await;
    assert_eq!(status, 200);
    assert!(text.contains("virtual_llm_publishers 0"), "{text}");
    hub.stop().await;
}

#[actix_rt::test]
async fn an_agent_adds_its_prompt_and_parameters() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let agent = json!({ "name": "helper", "llmName": "a", "systemPrompt": "Be brief.",
        "defaultParams": { "temperature": 0.5, "seed": 18_446_744_073_709_551_615_u64 } });
    assert_eq!(hub.ask("POST", "/api/v1/agents").body(agent.to_string()).send().await.0, 201);
    let chat = super::road::chat("helper", false);
    for path in ["/api/v1/agents/helper/infer", "/v1/chat/completions"] {
        let ask = hub.ask("POST", path).body(chat.clone());
        let ((status, _), task) = futures_util::join!(ask.send(), async {
            let task = publisher.task().await;
            publisher.answer(&hub, &task, "hello").await;
            task
        });
        assert_eq!(status, 200, "{path}");
        let request = &task["request"];
        assert_eq!(request["model"], "model-of-a");
        assert_eq!(request["messages"][0], json!({ "role": "system", "content": "Be brief." }));
        assert_eq!(request["seed"], 18_446_744_073_709_551_615_u64);
    }
    publisher.close();
    hub.until_status("a", "inactive").await;
    assert_eq!(hub.ask("POST", "/api/v1/agents/helper/infer").body(chat).send().await.0, 503);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_missing_and_a_wrong_token_get_the_same_answer() {
    let hub = hub().await;
    let under_llms = [
        "",
        "/x",
        "/x/members",
        "/x/infer",
        "/x/tasks",
        "/_provider-stream",
        "/_provider-register",
        "/_provider-heartbeat",
        "/_provider-drain",
        "/_provider-task/t/result",
        "/_provider-task/t/stream",
    ];
    let others = [
        "/api/v1/agents",
        "/api/v1/agents/x",
        "/api/v1/agents/x/infer",
        "/api/v1/sessions",
        "/api/v1/tokens",
        "/api/v1/tokens/x",
        "/api/v1/inference-tasks",
        "/api/v1/inference-tasks/x",
        "/api/v1/inference-tasks/x/stream",
        "/api/v1/audit",
        "/api/v1/events",
        "/api/v1/none",
        "/v1/models",
        "/v1/models/x",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/metrics",
    ];
    let paths = under_llms.iter().map(|path| format!("/api/v1/llms{path}"));
    for path in paths.chain(others.map(str::to_owned)) {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let bare = super::http::ask(hub.addr, method, path.as_str()).send().await;
            let wrong = hub.ask_as("vlt_wrong", method, path.as_str()).send().await;
            assert_eq!(bare.0, 401, "{method} {path}");
            assert_eq!(bare, wrong, "{method} {path}");
        }
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn each_inference_is_audited_and_members_read_their_own() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let ask = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(super::road::chat("a", false));
    futures_util::join!(ask.send(), async {
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "canary-answer").await;
    });
    let ask = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(super::road::chat("a", false));
    let left = ask.begin().await;
    publisher.task().await;
    drop(left);
    let rows = async |token: &str| hub.ask_as(token, "GET", "/api/v1/audit?llm=a").json().await.1;
    eventually("499", async || rows(&bob).await[0]["status"] == 499).await;
    let mine = rows(&alice).await;
    assert_eq!(mine.as_array().unwrap().len(), 1);
    for (key, value) in
        [("user", json!("alice")), ("llm", json!("a")), ("status", json!(200)), ("inputTokens", json!(3))]
    {
        assert_eq!(mine[0][key], value);
    }
    assert_eq!(mine[0]["publisher"].as_str(), Some(publisher.session.as_str()));
    assert!(mine[0]["firstByteMs"].is_u64() && mine[0]["totalMs"].is_u64());
    let all = rows(ADMIN).await;
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert!(!all.to_string().contains("canary-answer"));
    hub.stop().await;
}
