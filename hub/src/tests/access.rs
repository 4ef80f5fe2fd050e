//! Access to every route: one table of route, role and ownership. Over 300 lines: it holds that table.

mod ids;
mod page;
mod routes;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{Answer, ask, is_stable};
use super::publisher::{Publisher, pooled, private, provider};
use super::support::{ADMIN, TestHub, hub_with};
use crate::options::PoolPolicy;

/// Expected statuses: a stranger with a private resource, a stranger with a public resource, the owner, an admin.
pub(super) struct Allowed(u16, u16, u16, u16);

/// Every user may.
const ALL: Allowed = Allowed(200, 200, 200, 200);
/// Users that see the resource may; others get 404.
const SEEN: Allowed = Allowed(404, 200, 200, 200);
/// The owner and admins may, also if the resource is public.
const OWN: Allowed = Allowed(404, 404, 200, 200);
/// The owner alone may, not admins.
const MINE: Allowed = Allowed(404, 404, 200, 404);
/// Users that see the LLM may call it; they get 503, because its publisher is disconnected.
const CALL: Allowed = Allowed(404, 503, 503, 503);

/// The hub does this for nobody.
const REFUSED: Allowed = Allowed(400, 400, 400, 400);

/// The hub stores nothing of this kind for anybody.
const NONE: Allowed = Allowed(404, 404, 404, 404);

/// Every route of the hub: method, path, body, statuses. `{…}` stands for a resource of alice.
pub(super) const TABLE: &[(&str, &str, &str, Allowed)] = &[
    ("GET", "/metrics", "", ALL),
    ("POST", "/api/v1/tokens", r#"{"user":"x"}"#, Allowed(403, 403, 403, 201)),
    ("GET", "/api/v1/tokens", "", Allowed(403, 403, 403, 200)),
    ("DELETE", "/api/v1/tokens/{token}", "", Allowed(403, 403, 204, 204)),
    ("POST", "/api/v1/tokens/{token}/rotate", "{}", Allowed(403, 403, 200, 200)),
    ("PATCH", "/api/v1/tokens/{token}/limits", r#"{"maxConcurrent":null}"#, Allowed(403, 403, 403, 200)),
    ("GET", "/api/v1/users", "", Allowed(403, 403, 403, 200)),
    ("GET", "/api/v1/users/{user}", "", Allowed(403, 403, 403, 200)),
    ("PATCH", "/api/v1/users/{user}/limits", r#"{"maxConcurrent":null}"#, Allowed(403, 403, 403, 200)),
    ("GET", "/api/v1/sessions", "", ALL),
    ("GET", "/api/v1/audit", "", ALL),
    ("GET", "/api/v1/usage", "", ALL),
    (
        "POST",
        "/api/v1/inference-tasks",
        r#"{"llm":"{llm}","request":{"messages":[]}}"#,
        Allowed(404, 202, 202, 202),
    ),
    ("GET", "/api/v1/inference-tasks", "", ALL),
    ("GET", "/api/v1/inference-tasks/{task}", "", OWN),
    ("DELETE", "/api/v1/inference-tasks/{task}", "", Allowed(404, 404, 204, 204)),
    ("GET", "/api/v1/inference-tasks/{task}/stream", "", OWN),
    (
        "POST",
        "/api/v1/llms/_provider-register",
        r#"{"providerSessionId":"{session}","providers":[]}"#,
        Allowed(201, 201, 201, 201),
    ),
    ("GET", "/api/v1/llms/_provider-stream", "", MINE),
    // 426: without an upgrade.
    ("GET", "/api/v1/llms/_provider-echo", "", Allowed(426, 426, 426, 426)),
    ("POST", "/api/v1/llms/_provider-heartbeat", r#"{"providerSessionId":"{session}"}"#, MINE),
    ("POST", "/api/v1/llms/_provider-drain", r#"{"providerSessionId":"{session}"}"#, MINE),
    ("POST", "/api/v1/llms/_provider-task/{dispatch}/result", r#"{"error":"no"}"#, MINE),
    ("GET", "/api/v1/llms", "", ALL),
    ("GET", "/api/v1/llms/{llm}", "", SEEN),
    ("GET", "/api/v1/llms/{llm}/members", "", SEEN),
    ("GET", "/api/v1/llms/{llm}/tasks", "", SEEN),
    ("POST", "/api/v1/llms/{llm}/infer", r#"{"messages":[]}"#, CALL),
    (
        "POST",
        "/api/v1/llms",
        r#"{"name":"new-{role}","type":"openai","model":"m","url":"http://h/v1"}"#,
        Allowed(403, 403, 403, 201),
    ),
    // 403 and 409: only a register call changes a virtual row.
    ("PUT", "/api/v1/llms/{llm}", r#"{"type":"openai","model":"m"}"#, Allowed(404, 403, 403, 409)),
    ("DELETE", "/api/v1/llms/{llm}", "", Allowed(404, 403, 403, 204)),
    ("GET", "/api/v1/agents", "", ALL),
    ("GET", "/api/v1/agents/{agent}", "", SEEN),
    ("POST", "/api/v1/agents/{agent}/infer", r#"{"messages":[]}"#, CALL),
    ("POST", "/api/v1/agents", r#"{"name":"new-{role}","llmName":"x"}"#, Allowed(201, 201, 201, 201)),
    ("PUT", "/api/v1/agents/{agent}", r#"{"llmName":"x"}"#, Allowed(404, 403, 409, 409)),
    ("DELETE", "/api/v1/agents/{agent}", "", Allowed(404, 403, 204, 204)),
    ("GET", "/api/v1/pools", "", ALL),
    ("GET", "/api/v1/pools/{pool}", "", SEEN),
    ("PUT", "/api/v1/pools/{pool}/members/{llm}", "", Allowed(404, 403, 200, 200)),
    // 409: the row belongs to the pool's owner.
    ("DELETE", "/api/v1/pools/{pool}/members/{llm}", "", Allowed(404, 403, 409, 409)),
    ("GET", "/api/v1/names", "", ALL),
    ("GET", "/api/v1/names/{llm}", "", OWN),
    ("PUT", "/api/v1/names/{llm}", r#"{"ownerId":"bob"}"#, Allowed(404, 404, 403, 200)),
    // 409: the name is in use.
    ("DELETE", "/api/v1/names/{llm}", "", Allowed(404, 404, 409, 409)),
    ("GET", "/api/v1/aliases", "", ALL),
    ("GET", "/api/v1/aliases/{alias}", "", SEEN),
    ("PUT", "/api/v1/aliases/{alias}?user=alice", r#"{"target":"{llm}"}"#, Allowed(403, 403, 200, 200)),
    ("DELETE", "/api/v1/aliases/{alias}?user=alice", "", Allowed(403, 403, 204, 204)),
    ("GET", "/api/v1/whoami", "", ALL),
    ("GET", "/api/v1/cluster", "", Allowed(403, 403, 403, 200)),
    ("GET", "/v1/models", "", ALL),
    ("GET", "/v1/models/{model}", "", SEEN),
    ("POST", "/v1/chat/completions", r#"{"model":"{llm}","messages":[]}"#, CALL),
    ("POST", "/v1/completions", r#"{"model":"{llm}","prompt":""}"#, CALL),
    ("POST", "/v1/embeddings", r#"{"model":"{llm}","input":""}"#, CALL),
    ("POST", "/v1/responses", r#"{"model":"{llm}","input":""}"#, CALL),
    ("POST", "/v1/messages", r#"{"model":"{llm}","messages":[]}"#, CALL),
    ("POST", "/v1/rerank", r#"{"model":"{llm}","query":""}"#, CALL),
    ("POST", "/v1/messages/count_tokens", r#"{"model":"{llm}","messages":[]}"#, CALL),
    ("POST", "/v1/responses/input_tokens", r#"{"model":"{llm}","input":""}"#, CALL),
    ("GET", "/v1/chat/completions", "", NONE),
    ("GET", "/v1/chat/completions/{task}", "", NONE),
    ("POST", "/v1/chat/completions/{task}", "", NONE),
    ("DELETE", "/v1/chat/completions/{task}", "", NONE),
    ("GET", "/v1/chat/completions/{task}/messages", "", NONE),
    ("POST", "/v1/responses/compact", "", NONE),
    ("GET", "/v1/responses/{task}", "", NONE),
    ("DELETE", "/v1/responses/{task}", "", NONE),
    ("POST", "/v1/responses/{task}/cancel", "", NONE),
    ("GET", "/v1/responses/{task}/input_items", "", NONE),
    ("POST", "/v1/conversations", "", NONE),
    ("GET", "/v1/conversations/{task}", "", NONE),
    ("POST", "/v1/conversations/{task}", "", NONE),
    ("DELETE", "/v1/conversations/{task}", "", NONE),
    ("GET", "/v1/conversations/{task}/items", "", NONE),
    ("POST", "/v1/conversations/{task}/items", "", NONE),
    ("GET", "/v1/conversations/{task}/items/{dispatch}", "", NONE),
    ("DELETE", "/v1/conversations/{task}/items/{dispatch}", "", NONE),
    ("GET", "/v1/files", "", NONE),
    ("POST", "/v1/files", "", NONE),
    ("GET", "/v1/files/{task}", "", NONE),
    ("DELETE", "/v1/files/{task}", "", NONE),
    ("GET", "/v1/files/{task}/content", "", NONE),
    ("GET", "/v1/batches", "", NONE),
    ("POST", "/v1/batches", "", NONE),
    ("GET", "/v1/batches/{task}", "", NONE),
    ("POST", "/v1/batches/{task}/cancel", "", NONE),
    ("GET", "/v1/messages/batches", "", NONE),
    ("POST", "/v1/messages/batches", "", NONE),
    ("GET", "/v1/messages/batches/{task}", "", NONE),
    ("DELETE", "/v1/messages/batches/{task}", "", NONE),
    ("POST", "/v1/messages/batches/{task}/cancel", "", NONE),
    ("GET", "/v1/messages/batches/{task}/results", "", NONE),
    ("GET", "/api/v1/events", "", ALL),
    ("POST", "/api/chat", r#"{"model":"{llm}","messages":[{"role":"user","content":"a"}]}"#, CALL),
    ("POST", "/api/generate", r#"{"model":"{llm}","prompt":"a"}"#, CALL),
    ("POST", "/api/embed", r#"{"model":"{llm}","input":"a"}"#, CALL),
    ("POST", "/api/embeddings", r#"{"model":"{llm}","prompt":"a"}"#, CALL),
    ("POST", "/api/show", r#"{"model":"{model}"}"#, SEEN),
    ("GET", "/api/tags", "", ALL),
    ("GET", "/api/ps", "", ALL),
    ("GET", "/api/version", "", ALL),
    ("POST", "/api/pull", r#"{"model":"{llm}"}"#, REFUSED),
    ("POST", "/api/push", r#"{"model":"{llm}"}"#, REFUSED),
    ("POST", "/api/create", r#"{"model":"{llm}"}"#, REFUSED),
    ("POST", "/api/copy", r#"{"source":"{llm}"}"#, REFUSED),
    ("DELETE", "/api/delete", r#"{"model":"{llm}"}"#, REFUSED),
    ("POST", "/api/blobs/{task}", "", REFUSED),
    ("GET", "/api/blobs/{task}", "", NONE),
    ("POST", "/api/me", "", NONE),
    ("POST", "/api/signout", "", NONE),
];

/// Routes that need no token.
const OPEN: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/favicon.ico"),
    ("GET", "/console/{file}"),
    ("GET", "/console/vendor/{file}"),
    ("GET", "/openapi.json"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    // 401: without a code.
    ("POST", "/api/v1/sign-in"),
];

/// A hub with resources of alice. Bob is the stranger.
struct World {
    hub: TestHub,
    alice: String,
    bob: String,
    revoked: String,
    /// Pairs of a placeholder such as `{llm}` and its value, for private, public and unknown resources.
    private: Vec<(&'static str, String)>,
    public: Vec<(&'static str, String)>,
    unknown: Vec<(&'static str, String)>,
    /// The publishers of alice and bob.
    publishers: [Publisher; 2],
}

impl World {
    async fn new() -> Self {
        // The grace period is short, so that running tasks fail when their channel closes and do not delay the stop.
        let hub = hub_with(|options| {
            options.timings.reattach_grace = Duration::from_millis(1);
            options.pools = PoolPolicy::Ask;
        })
        .await;
        let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
        let revoked = hub.member("carol").await;
        hub.revoke("carol").await;
        hub.member("dave").await;
        // The publisher of these rows disconnects, so that a call gets 503 at once.
        let away = json!({ "providers": [private(pooled("secret", "secret-pool")), pooled("open", "open-pool")],
            "agents": [
                { "name": "secret-agent", "llmName": "secret", "visibility": "private" },
                { "name": "open-agent", "llmName": "open", "visibility": "public" },
            ] });
        let register = hub.ask_as(&alice, "POST", "/api/v1/llms/_provider-register");
        let (status, answer) = register.body(away.to_string()).json().await;
        assert_eq!(status, 201, "{answer}");
        let session = answer["providerSessionId"].as_str().unwrap().to_owned();
        let channel = hub.ask_as(&alice, "GET", "/api/v1/llms/_provider-stream");
        drop(channel.header("x-mcpctl-provider-session", session).open().await);
        hub.until_status("open", "inactive").await;

        let rows = [private(provider("secret-here")), provider("open-here")];
        let mut here = Publisher::start(&hub, &alice, &rows, Some("cancel")).await;
        let bobs = Publisher::start(&hub, &bob, &[provider("bobs")], None).await;
        let enqueue = async |llm: &str| {
            let body = json!({ "llm": llm, "request": { "messages": [] } }).to_string();
            let (status, task) =
                hub.ask_as(&alice, "POST", "/api/v1/inference-tasks").body(body).json().await;
            assert_eq!(status, 202, "{task}");
            task["id"].as_str().unwrap().to_owned()
        };
        enqueue("secret-here").await;
        let dispatch = here.task().await["taskId"].as_str().unwrap().to_owned();
        let (first, second) = (enqueue("secret").await, enqueue("open").await);
        for llm in ["secret", "open"] {
            for token in [ADMIN, &alice] {
                let alias = hub.ask_as(token, "PUT", format!("/api/v1/aliases/{llm}-alias"));
                assert_eq!(alias.body(json!({ "target": llm }).to_string()).json().await.0, 200);
            }
        }
        let tokens = hub.ask("GET", "/api/v1/tokens").json().await.1;
        let token = |user: &str| {
            let of_user = |token: &&Value| token["user"] == user;
            tokens.as_array().unwrap().iter().find(of_user).unwrap()["id"].as_str().unwrap().to_owned()
        };
        let things = |kind: &str, task: &str, token: &str| {
            vec![
                ("{llm}", kind.to_owned()),
                ("{agent}", format!("{kind}-agent")),
                ("{pool}", format!("{kind}-pool")),
                ("{model}", format!("{kind}-here")),
                ("{task}", task.to_owned()),
                ("{session}", here.session.clone()),
                ("{dispatch}", dispatch.clone()),
                ("{token}", token.to_owned()),
                ("{user}", "alice".to_owned()),
                ("{alias}", format!("{kind}-alias")),
            ]
        };
        let (private, public) =
            (things("secret", &first, &token("alice")), things("open", &second, &token("dave")));
        let mut unknown = things("nobody", "task-0", "tok-0");
        unknown[5].1 = "sess-0".into();
        unknown[6].1 = "task-0".into();
        Self { hub, alice, bob, revoked, private, public, unknown, publishers: [here, bobs] }
    }

    async fn open(
        &self,
        token: Option<&str>,
        route: (&'static str, &str, &str),
        role: &str,
        things: &[(&str, String)],
    ) -> Answer {
        let fill = |text: &str| {
            let text = text.replace("{role}", role);
            things.iter().fold(text, |text, (name, value)| text.replace(name, value))
        };
        let (method, path, body) = route;
        let mut ask = ask(self.hub.addr, method, fill(path))
            .header("x-mcpctl-provider-session", fill("{session}"))
            .body(fill(body));
        if !path.ends_with("_provider-stream") {
            // The session header is optional in results: the token alone has to decide.
            ask = ask.without("x-mcpctl-provider-session");
        }
        if let Some(token) = token {
            ask = ask.token(token);
        }
        ask.open().await
    }

    async fn stop(self) {
        drop(self.publishers);
        self.hub.stop().await;
    }

    /// Everything that alice owns, as the hub shows it to her.
    async fn alices_resources(&self) -> Vec<String> {
        let mut seen = Vec::new();
        for path in ["llms", "agents", "sessions", "inference-tasks"] {
            seen.push(self.hub.ask_as(&self.alice, "GET", format!("/api/v1/{path}")).send().await.1);
        }
        seen
    }
}

/// Everything in an answer that could differ between a hidden and an unknown resource: status, headers and body.
async fn visible_parts(mut answer: Answer, things: &[(&str, String)]) -> (u16, Vec<String>, String) {
    let body = answer.rest().await;
    let body = things.iter().fold(body, |body, (name, value)| body.replace(value.as_str(), name));
    // actix writes headers in random order.
    let stable = |line: &&str| is_stable(line);
    let mut head: Vec<_> = answer.head.lines().filter(stable).map(str::to_owned).collect();
    head.sort();
    (answer.status, head, body)
}

/// A01, A02, A03, A06, A35, A48: each role gets the status in the table on every route; a stranger gets the same bytes
/// for a hidden and for an unknown resource, and no request of a stranger changes anything that alice owns.
#[actix_rt::test]
async fn every_route_serves_each_role_as_the_table_says() {
    for &(method, path, body, Allowed(hidden, shown, owner, admin)) in TABLE {
        let world = World::new().await;
        let route = (method, path, body);
        let before = world.alices_resources().await;
        for token in [None, Some("vlt_wrong"), Some(world.revoked.as_str())] {
            let answer = world.open(token, route, "nobody", &world.public).await;
            assert_eq!(answer.status, 401, "{method} {path} with {token:?}");
        }
        let bob = Some(world.bob.as_str());
        let stranger = world.open(bob, route, "stranger", &world.private).await;
        assert_eq!(stranger.status, hidden, "{method} {path}: a stranger, private resource");
        if hidden == 404 {
            let unknown = world.open(bob, route, "stranger", &world.unknown).await;
            let (stranger, unknown) =
                (visible_parts(stranger, &world.private).await, visible_parts(unknown, &world.unknown).await);
            assert_eq!(stranger, unknown, "{method} {path}");
        } else {
            drop(stranger);
        }
        let stranger = world.open(bob, route, "other", &world.public).await;
        assert_eq!(stranger.status, shown, "{method} {path}: a stranger, public resource");
        drop(stranger);
        assert_eq!(
            world.alices_resources().await,
            before,
            "{method} {path}: a stranger's request changed something of alice"
        );
        let alice = world.open(Some(world.alice.as_str()), route, "owner", &world.private).await;
        assert_eq!(alice.status, owner, "{method} {path}: the owner");
        let admins = world.open(Some(ADMIN), route, "admin", &world.public).await;
        assert_eq!(admins.status, admin, "{method} {path}: an admin");
        drop((alice, admins));
        world.stop().await;
    }
}

/// A05: a user that proposes another user's session id gets a new id, and the existing session does not change.
#[actix_rt::test]
async fn a_session_id_of_another_user_is_replaced_by_a_new_id() {
    let world = World::new().await;
    let before = world.alices_resources().await;
    let body = r#"{"providerSessionId":"{session}","providers":[]}"#;
    for token in [world.bob.as_str(), ADMIN] {
        let route = ("POST", "/api/v1/llms/_provider-register", body);
        let mut answer = world.open(Some(token), route, "", &world.private).await;
        assert_eq!(answer.status, 201);
        let answer: Value = serde_json::from_str(&answer.rest().await).unwrap();
        assert_ne!(answer["providerSessionId"], world.private[5].1);
        assert!(answer["providerSessionId"].as_str().unwrap().starts_with("sess-"));
    }
    assert_eq!(world.alices_resources().await, before);
    world.stop().await;
}
