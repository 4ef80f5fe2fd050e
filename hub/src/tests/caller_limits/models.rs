//! Models that a caller may use: others look as if they did not exist.

use super::*;
use crate::tests::publisher::{pooled, private};
use crate::tests::support::eventually;

/// Bodies of all ways to call a model.
fn ways(model: &str) -> Vec<(String, String)> {
    let mut ways: Vec<_> = WAYS
        .iter()
        .map(|(way, body)| {
            (way.replace("/a/", &format!("/{model}/")), (*body).replace(r#""a""#, &format!(r#""{model}""#)))
        })
        .collect();
    ways.retain(|(way, _)| !way.contains("/agents/"));
    ways
}

/// A34: what a caller may not use does not exist for it, in every list and call.
#[actix_rt::test]
async fn other_models_look_as_if_they_did_not_exist() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let rows = [provider("a"), provider("hidden"), pooled("hidden-1", "pool"), pooled("hidden-2", "other")];
    let _publisher = Publisher::start(&hub, &alice, &rows, Some("endpoints")).await;
    for (agent, llm) in [("helper", "hidden"), ("hidden-agent", "a")] {
        hub.create_agent(&alice, &json!({ "name": agent, "llmName": llm, "visibility": "public" })).await;
    }
    for (alias, target) in [("gpt-a", "a"), ("gpt-hidden", "hidden")] {
        let path = format!("/api/v1/aliases/{alias}");
        assert_eq!(hub.ask("PUT", path).body(json!({ "target": target }).to_string()).send().await.0, 200);
    }
    let (bob, _) = limited(&hub, "bob", &json!({ "models": ["a", "pool", "helper"] })).await;
    let list = |path: &'static str, key: &'static str| {
        let ask = hub.ask_as(&bob, "GET", path);
        async move {
            let list = ask.json().await.1;
            let rows =
                list.get("data").or_else(|| list.get("models")).unwrap_or(&list).as_array().unwrap().clone();
            let mut names: Vec<_> = rows.iter().map(|row| row[key].as_str().unwrap().to_owned()).collect();
            names.sort();
            names
        }
    };
    assert_eq!(list("/v1/models", "id").await, ["a", "gpt-a", "helper", "pool"]);
    assert_eq!(list("/api/tags", "name").await, ["a:latest", "gpt-a:latest", "helper:latest", "pool:latest"]);
    assert_eq!(list("/api/v1/llms", "name").await, ["a"]);
    assert_eq!(list("/api/v1/agents", "name").await, ["helper"]);
    assert_eq!(list("/api/v1/pools", "name").await, ["pool"]);
    assert_eq!(list("/api/v1/aliases", "name").await, ["gpt-a"]);
    for path in [
        "/v1/models/hidden",
        "/api/v1/llms/hidden",
        "/api/v1/pools/other",
        "/api/v1/agents/hidden-agent",
        "/api/v1/llms/hidden/members",
    ] {
        assert_eq!(hub.ask_as(&bob, "GET", path).send().await.0, 404, "{path}");
    }
    let mut events = hub.ask_as(&bob, "GET", "/api/v1/events").open().await;
    let mut seen = events.until("\"a\"").await;
    if !seen.ends_with("\n\n") {
        seen += &events.until("\n\n").await;
    }
    assert!(!seen.contains("\"hidden\""), "{seen}");
    for model in ["hidden", "gpt-hidden", "other", "hidden-1", "hidden-agent"] {
        for ((way, body), (_, unknown)) in ways(model).into_iter().zip(ways("unknown")) {
            let ask = |way: &str, body: String| hub.ask_as(&bob, "POST", way).body(body);
            let (status, answer) = ask(&way, body).send().await;
            let same = ask(&way.replace(model, "unknown"), unknown).send().await;
            assert_eq!((status, answer.replace(model, "unknown")), same, "{way} {model}");
            assert_eq!(status, 404, "{way} {model}: {answer}");
        }
    }
    let infer = hub.ask_as(&bob, "POST", "/api/v1/agents/hidden-agent/infer").body(r#"{"messages":[]}"#);
    assert_eq!(infer.send().await.0, 404);
    hub.stop().await;
}

/// What is allowed works: a row, a pool whose rows are not named, an agent of another user, an alias of a row.
#[actix_rt::test]
async fn allowed_models_are_called_by_their_names() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let rows = [provider("a"), pooled("one", "pool"), private(provider("secret"))];
    let mut publisher = Publisher::start(&hub, &alice, &rows, Some("endpoints")).await;
    hub.create_agent(&alice, &json!({ "name": "helper", "llmName": "secret", "visibility": "public" })).await;
    assert_eq!(hub.ask("PUT", "/api/v1/aliases/gpt-5").body(r#"{"target":"a"}"#).send().await.0, 200);
    let (bob, id) = limited(&hub, "bob", &json!({ "models": ["a", "po*", "helper"] })).await;
    for (model, row) in [("a", "a"), ("gpt-5", "a"), ("pool", "one"), ("helper", "secret")] {
        let task = publisher.serves(&hub, &chat(&hub, &bob, model), "hi").await;
        assert_eq!(task["llmName"], row);
    }
    // A call without a model goes to the only row that the caller sees.
    let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(r#"{"messages":[]}"#);
    assert_eq!(publisher.serves(&hub, &call, "hi").await["llmName"], "a");
    // A user's limit holds beside the token's, at once.
    set_user(&hub, "bob", &json!({ "models": ["helper"] })).await;
    assert_eq!(chat(&hub, &bob, "a").send().await.0, 404);
    publisher.serves(&hub, &chat(&hub, &bob, "helper"), "hi").await;
    set_user(&hub, "bob", &json!({ "models": null })).await;
    publisher.serves(&hub, &chat(&hub, &bob, "a"), "hi").await;
    let patch = hub.ask("PATCH", format!("/api/v1/tokens/{id}/limits")).body(r#"{"models":null}"#);
    assert_eq!(patch.send().await.0, 200);
    publisher.serves(&hub, &chat(&hub, &bob, "one"), "hi").await;
    hub.stop().await;
}

/// A35: a limited user gets no other model by an agent or an alias of its own.
#[actix_rt::test]
async fn own_agents_and_aliases_lead_to_no_other_model() {
    let hub = hub().await;
    let _publisher =
        Publisher::start(&hub, ADMIN, &[provider("small"), provider("big")], Some("endpoints")).await;
    let free = hub.member("bob").await;
    for (agent, llm) in [("small-agent", "big"), ("small-helper", "small")] {
        hub.create_agent(&free, &json!({ "name": agent, "llmName": llm })).await;
    }
    let path = "/api/v1/aliases/small-alias";
    assert_eq!(hub.ask_as(&free, "PUT", path).body(r#"{"target":"big"}"#).send().await.0, 200);
    let (bob, _) = limited(&hub, "bob", &json!({ "models": ["small*"] })).await;
    for model in ["small-agent", "small-alias", "big"] {
        let (status, answer) = chat(&hub, &bob, model).send().await;
        assert_eq!(status, 404, "{model}: {answer}");
    }
    eventually("the own agent is listed", async || {
        hub.ask_as(&bob, "GET", "/v1/models").send().await.1.contains("small-helper")
    })
    .await;
    hub.stop().await;
}
