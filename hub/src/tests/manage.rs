//! Tokens, public rows, agents, sessions, metrics: access and content.

mod rows;

use serde_json::{Value, json};

use super::publisher::{Publisher, private, provider};
use super::support::{ADMIN, TestHub, eventually, hub};
use crate::model::{Caller, Role};

async fn make_token(hub: &TestHub, body: Value) -> (u16, Value) {
    hub.ask("POST", "/api/v1/tokens").body(body.to_string()).json().await
}

async fn make_llm(hub: &TestHub, body: &Value) -> (u16, Value) {
    hub.ask("POST", "/api/v1/llms").body(body.to_string()).json().await
}

fn admin() -> Caller {
    Caller {
        user: "admin".into(),
        role: Role::Admin,
        token_id: "environment".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    }
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
    let revoke = hub.ask("DELETE", format!("/api/v1/tokens/{id}"));
    assert_eq!(revoke.send().await.0, 204);
    assert_eq!(hub.ask_as(secret, "GET", "/api/v1/llms").send().await.0, 401);
    assert!(channel.event().await.is_none(), "the channel of the revoked token is open");
    assert_eq!(revoke.send().await.0, 204, "a second revocation is an error");
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
    let own = private(provider("hers"));
    let _publisher = Publisher::start(&hub, &alice, &[own], None).await;
    let (status, made) = make_token(&hub, json!({ "user": "ALICE" })).await;
    assert_eq!((status, made["user"].as_str()), (201, Some("alice")), "{made}");
    let upper_case = made["token"].as_str().unwrap();
    assert_eq!(hub.ask_as(upper_case, "GET", "/api/v1/llms/hers").send().await.0, 200);
    assert_eq!(hub.ask_as(upper_case, "GET", "/api/v1/audit?user=Alice").send().await.0, 200);

    let (status, _) = make_token(&hub, json!({ "user": "Olga", "role": "admin" })).await;
    assert_eq!(status, 201);
    for name in ["admin", "Admin", "ADMIN", "Olga", "oLGA"] {
        let (status, refused) = make_token(&hub, json!({ "user": name, "role": "member" })).await;
        assert_eq!((status, refused["code"].as_str()), (409, Some("conflict")), "{name}: {refused}");
        assert!(refused["error"].as_str().unwrap().contains("an admin's name"), "{refused}");
        let (status, _) = make_token(&hub, json!({ "user": name, "role": "admin" })).await;
        assert_eq!(status, 201, "a second admin token of the user is refused");
    }
    let (status, _) = make_token(&hub, json!({ "user": "olga2" })).await;
    assert_eq!(status, 201);
    hub.stop().await;
}

#[actix_rt::test]
async fn each_route_for_admins_refuses_a_member() {
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

/// A48: `/metrics` needs a token; `/readyz` needs none.
#[actix_rt::test]
async fn metrics_need_a_token_and_readiness_does_not() {
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
    hub.create_agent(
        ADMIN,
        &json!({ "name": "helper", "llmName": "a", "systemPrompt": "Be brief.",
        "defaultParams": { "temperature": 0.5, "seed": 18_446_744_073_709_551_615_u64 } }),
    )
    .await;
    let chat = super::road::chat("helper", false);
    for path in ["/api/v1/agents/helper/infer", "/v1/chat/completions"] {
        let ask = hub.ask("POST", path).body(chat.clone());
        let task = publisher.serves(&hub, &ask, "hello").await;
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
async fn a_missing_and_a_wrong_token_get_401_on_every_path() {
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
        "/_provider-task/t/unknown",
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
            assert_eq!((bare.0, wrong.0), (401, 401), "{method} {path}");
            assert!(bare.1.contains("no valid token: send"), "{method} {path}: {}", bare.1);
            assert!(
                wrong.1.contains("this token is wrong, expired or revoked"),
                "{method} {path}: {}",
                wrong.1
            );
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
    eventually("the disconnected call is recorded with 499", async || rows(&bob).await[0]["status"] == 499)
        .await;
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
