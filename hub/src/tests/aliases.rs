//! Aliases (SPEC.md section 5): names that tools ask for stand for rows, pools and agents, and grant nothing.

use serde_json::{Value, json};

use super::publisher::{Publisher, pooled, private, provider};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub};
use crate::model::{AliasScope, Caller};

async fn set(hub: &TestHub, token: &str, alias: &str, target: &str) -> (u16, Value) {
    let path = format!("/api/v1/aliases/{alias}");
    hub.ask_as(token, "PUT", path).body(json!({ "target": target }).to_string()).json().await
}

async fn names(hub: &TestHub, token: &str, path: &str) -> Vec<String> {
    let (status, answer) = hub.ask_as(token, "GET", path).json().await;
    assert_eq!(status, 200, "{answer}");
    let list = answer["data"].as_array().or_else(|| answer.as_array()).unwrap();
    list.iter().map(|row| row["id"].as_str().or_else(|| row["name"].as_str()).unwrap().to_owned()).collect()
}

/// The row that serves a call of `model`, and what the caller reads as its model.
async fn called(hub: &TestHub, token: &str, body: &str, publisher: &mut Publisher) -> String {
    let call = hub.ask_as(token, "POST", "/v1/chat/completions").body(body);
    publisher.serves(hub, &call, "hello").await["llmName"].as_str().unwrap().to_owned()
}

async fn status(hub: &TestHub, token: &str, model: &str) -> (u16, Value) {
    hub.ask_as(token, "POST", "/v1/chat/completions").body(chat(model, false)).json().await
}

#[actix_rt::test]
async fn an_alias_stands_for_a_row_a_pool_and_an_agent_in_each_dialect() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publisher = Publisher::start(&hub, &alice, &[pooled("lama", "herd")], Some("endpoints")).await;
    let agent = json!({ "name": "helper", "llmName": "lama" });
    assert_eq!(hub.ask_as(&alice, "POST", "/api/v1/agents").body(agent.to_string()).json().await.0, 201);
    for target in ["lama", "herd", "helper"] {
        for alias in ["gpt-5", "GPT-5", "anthropic%2Fclaude-3.5", "qwen2.5:7b", "claude-*"] {
            let (code, view) = set(&hub, ADMIN, alias, target).await;
            assert_eq!(code, 200, "{view}");
            assert_eq!(
                (&view["target"], &view["status"], &view["user"]),
                (&json!(target), &json!("active"), &json!(null))
            );
        }
        for model in ["gpt-5", "GPT-5", "anthropic/claude-3.5", "qwen2.5:7b", "claude-haiku-4-5"] {
            assert_eq!(called(&hub, &alice, &chat(model, false), &mut publisher).await, "lama", "{model}");
        }
    }
    let call = hub.ask_as(&alice, "POST", "/v1/messages").body(chat("claude-x", false));
    assert_eq!(publisher.serves(&hub, &call, "hello").await["llmName"], "lama");
    let durable = json!({ "llm": "gpt-5", "request": { "messages": [] } });
    let (code, task) =
        hub.ask_as(&alice, "POST", "/api/v1/inference-tasks").body(durable.to_string()).json().await;
    assert_eq!(code, 202, "{task}");
    hub.stop().await;
}

#[actix_rt::test]
async fn the_longest_pattern_is_used_and_of_equal_ones_the_users_own() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let rows = [provider("one"), provider("two"), provider("three")];
    let mut publisher = Publisher::start(&hub, &alice, &rows, None).await;
    for (token, alias, target) in [
        (ADMIN, "*", "one"),
        (ADMIN, "claude-*", "one"),
        (ADMIN, "claude-opus-*", "two"),
        (ADMIN, "claude-opus-4", "three"),
        (&alice, "claude-*", "three"),
    ] {
        assert_eq!(set(&hub, token, alias, target).await.0, 200, "{alias}");
    }
    for (token, model, row) in [
        (&bob, "claude-", "one"),
        (&bob, "claude-haiku", "one"),
        (&bob, "claude-opus-5", "two"),
        (&bob, "claude-opus-4", "three"),
        (&bob, "anything", "one"),
        (&bob, "two", "two"),
        (&alice, "claude-haiku", "three"),
        (&alice, "claude-opus-5", "two"),
    ] {
        assert_eq!(called(&hub, token, &chat(model, false), &mut publisher).await, row, "{model}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn an_alias_of_a_hidden_row_is_as_unknown_as_any_name() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let _publisher = Publisher::start(&hub, &alice, &[private(provider("diary"))], None).await;
    let unknown = |name: &str| json!({ "error": format!("LLM '{name}' not found"), "code": "not_found" });
    assert_eq!(set(&hub, &bob, "gpt-5", "diary").await, (404, unknown("diary")));
    assert_eq!(set(&hub, &bob, "gpt-5", "nothing").await, (404, unknown("nothing")));
    assert_eq!(set(&hub, ADMIN, "gpt-5", "diary").await.0, 200);
    let (hidden, nothing) = (status(&hub, &bob, "gpt-5").await, status(&hub, &bob, "gpt-6").await);
    assert_eq!((hidden.0, nothing.0), (404, 404));
    assert_eq!(hidden.1.to_string().replace("gpt-5", "gpt-6"), nothing.1.to_string());
    assert!(!names(&hub, &bob, "/v1/models").await.contains(&"gpt-5".to_owned()));
    assert_eq!(names(&hub, &bob, "/api/v1/aliases").await, [""; 0]);
    for path in ["/v1/models/gpt-5", "/api/v1/aliases/gpt-5"] {
        assert_eq!(hub.ask_as(&bob, "GET", path).json().await.0, 404, "{path}");
        assert_eq!(hub.ask_as(&alice, "GET", path).json().await.0, 200, "{path}");
    }
    hub.stop().await;
}

/// A34: an alias does not follow its target's name to another owner.
#[actix_rt::test]
async fn an_alias_ends_when_its_targets_name_has_another_owner() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let carol = hub.member("carol").await;
    let mut publisher = Publisher::start(&hub, &alice, &[provider("lama")], None).await;
    assert_eq!(set(&hub, &carol, "gpt-5", "lama").await.0, 200);
    assert_eq!(called(&hub, &carol, &chat("gpt-5", false), &mut publisher).await, "lama");
    let owner = json!({ "ownerId": "bob" });
    assert_eq!(hub.ask("PUT", "/api/v1/names/lama").body(owner.to_string()).json().await.0, 200);
    let mut publisher = Publisher::start(&hub, &bob, &[provider("lama")], None).await;
    let (code, refused) = status(&hub, &carol, "gpt-5").await;
    assert_eq!(code, 404, "{refused}");
    let text =
        "model 'gpt-5' not found: it was an alias of 'lama', which has another owner now: set it again";
    assert_eq!(refused["error"]["message"], text);
    let (_, view) = hub.ask_as(&carol, "GET", "/api/v1/aliases/gpt-5").json().await;
    assert_eq!(view["status"], "inactive", "{view}");
    assert_eq!(set(&hub, &carol, "gpt-5", "lama").await.0, 200);
    assert_eq!(called(&hub, &carol, &chat("gpt-5", false), &mut publisher).await, "lama");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_call_without_a_model_goes_to_default_or_to_the_only_llm() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let body = |model: &str| format!(r#"{{{model}"messages":[{{"role":"user","content":"hi"}}]}}"#);
    let call = |body: String| hub.ask_as(&alice, "POST", "/v1/chat/completions").body(body);
    let (code, refused) = call(body("")).json().await;
    assert_eq!(
        (code, &refused["error"]["message"]),
        (400, &json!("the request's body has no 'model', and you see no LLM"))
    );
    let mut publisher = Publisher::start(&hub, &alice, &[provider("one")], None).await;
    for model in ["", r#""model":null,"#, r#""model":"","#] {
        assert_eq!(called(&hub, &alice, &body(model), &mut publisher).await, "one", "{model}");
    }
    let mut publisher = Publisher::start(&hub, &alice, &[provider("three"), provider("two")], None).await;
    let (code, refused) = call(body("")).json().await;
    let text = "the request's body has no 'model', a string: name one of 'one', 'three', 'two'";
    assert_eq!((code, &refused["error"]["message"]), (400, &json!(text)));
    assert_eq!(set(&hub, &alice, "default", "two").await.0, 200);
    assert_eq!(called(&hub, &alice, &body(""), &mut publisher).await, "two");
    hub.stop().await;
}

#[actix_rt::test]
async fn models_list_aliases_whose_target_is_alive_and_no_patterns() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let publisher = Publisher::start(&hub, &alice, &[provider("lama")], None).await;
    for (token, alias) in [(ADMIN, "gpt-5"), (ADMIN, "gpt-*"), (&bob, "gpt-5"), (&bob, "mine")] {
        assert_eq!(set(&hub, token, alias, "lama").await.0, 200, "{alias}");
    }
    assert_eq!(names(&hub, &bob, "/v1/models").await, ["gpt-5", "lama", "mine"]);
    assert_eq!(names(&hub, &alice, "/v1/models").await, ["gpt-5", "lama"]);
    let (_, model) = hub.ask_as(&bob, "GET", "/v1/models/gpt-9").json().await;
    assert_eq!((&model["id"], &model["owned_by"]), (&json!("gpt-9"), &json!("alice")));
    drop(publisher);
    eventually("the models are gone", async || names(&hub, &bob, "/v1/models").await.is_empty()).await;
    hub.stop().await;
}

#[actix_rt::test]
async fn members_change_their_own_aliases_and_admins_all() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let _publisher = Publisher::start(&hub, &alice, &[provider("lama"), provider("other")], None).await;
    assert_eq!(set(&hub, ADMIN, "shared", "lama").await.0, 200);
    assert_eq!(set(&hub, &bob, "bobs", "lama").await.0, 200);
    assert_eq!(set(&hub, ADMIN, "alices?user=alice", "lama").await.0, 200);
    for (token, call, code) in [
        (&alice, "bobs?user=bob", 403),
        (&alice, "bobs?user=nobody", 403),
        (&alice, "bobs", 404),
        // Without `user` a member means its own.
        (&alice, "shared", 404),
        (&alice, "alices", 204),
        (&bob, "bobs?user=BOB", 204),
    ] {
        let path = format!("/api/v1/aliases/{call}");
        assert_eq!(hub.ask_as(token, "DELETE", path).send().await.0, code, "{call}");
    }
    // An admin can delete what a user left whose tokens have been removed.
    let (carol, left) = (Caller::member("carol"), (AliasScope::User("carol".into()), "left"));
    hub.core().registry.lock().set_alias(&carol, left, "lama", hub.core().now()).unwrap();
    for (method, code) in [("GET", 200), ("DELETE", 204), ("GET", 404)] {
        assert_eq!(hub.ask(method, "/api/v1/aliases/left?user=carol").send().await.0, code, "{method}");
    }
    let (code, refused) = set(&hub, ADMIN, "x?user=nobody", "lama").await;
    assert_eq!((code, &refused["error"]), (400, &json!("user: there is no user 'nobody' who has a token")));
    for (alias, target, code, text) in [
        ("again", "shared", 409, "'shared' is an alias itself: use 'lama', what it stands for"),
        ("a*b", "lama", 400, "the name of an alias has"),
        ("a%20b", "lama", 400, "the name of an alias has"),
        ("a%0ab", "lama", 400, "the name of an alias has"),
    ] {
        let (found, refused) = set(&hub, &bob, alias, target).await;
        assert_eq!(found, code, "{alias}: {refused}");
        assert!(refused["error"].as_str().unwrap().starts_with(text), "{alias}: {refused}");
    }
    let text = "LLM 'lama' exists, and calls for this name go there: an alias would not be used";
    let (code, refused) = set(&hub, &alice, "lama", "other").await;
    assert_eq!((code, refused["error"].as_str().unwrap()), (409, text));
    hub.stop().await;
}

/// A member's aliases are limited in number; those of another user are not affected.
#[actix_rt::test]
async fn aliases_are_bounded_by_user() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let _publisher = Publisher::start(&hub, &alice, &[provider("lama")], None).await;
    for number in 0..100 {
        assert_eq!(set(&hub, &bob, &format!("m{number}"), "lama").await.0, 200);
    }
    let refused =
        json!({ "error": "you have 100 aliases already: delete some", "code": "rate_limit_exceeded" });
    assert_eq!(set(&hub, &bob, "more", "lama").await, (429, refused));
    assert_eq!(set(&hub, &bob, "m7", "lama").await.0, 200, "an alias that exists can be set again");
    assert_eq!(set(&hub, &alice, "more", "lama").await.0, 200);
    assert_eq!(set(&hub, ADMIN, "more", "lama").await.0, 200);
    let mut seen = names(&hub, &bob, "/api/v1/aliases").await;
    assert_eq!(seen.remove(0), "more", "the aliases of all users are first");
    assert_eq!(seen.len(), 100);
    assert_eq!(names(&hub, ADMIN, "/api/v1/aliases").await.len(), 102);
    hub.stop().await;
}
