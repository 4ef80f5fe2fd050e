//! The cost of a request is proportional to its size. Over 300 lines: it holds the table of request shapes.

use awc::http::Method;
use serde_json::json;
use testkit::backend::FakeBackend;
use testkit::http::Http;
use testkit::team::ADMIN;

use crate::fit::slope;
use crate::rig::{Rig, provider};

/// Ratio of each size to the previous one.
const STEP: usize = 3;
/// Number of sizes measured for each shape.
const SIZES: u32 = 4;
/// Largest slope that counts as proportional.
const STEEP: f64 = 1.1;
/// Number of measurements of a shape whose slope is above `STEEP`. The minimum cost of each size counts, so noise, which
/// does not repeat, drops out.
const MEASUREMENTS: usize = 10;

/// A kind of request body that a member may send; `body(n)` makes one of `n` repetitions.
struct Shape {
    name: &'static str,
    path: &'static str,
    /// The smallest number of repetitions.
    least: usize,
    body: fn(usize) -> String,
}

const CHAT: &str = "/v1/chat/completions";
const LLM: &str = r#""model":"mock""#;
const AGENT: &str = r#""model":"helper""#;
/// A public row whose backend quotes the request in its error.
const ECHO: &str = r#""model":"echo""#;
/// The API key with which the hub calls the row's backend.
const KEY: &str = "sk-proj-Ab12cd34ef56gh78";

/// The smallest number of keys of a request to one of the agents `wordy-N`, which belong to another user. `wordy-N` has 64
/// parameters of no API, whose names have N / 100 letters that are not ASCII, and is called with N keys.
const WORDY_LEAST: usize = 1500;

fn chat(model: &str, rest: &str) -> String {
    format!(r#"{{{model},"messages":[{{"role":"user","content":"hi"}}],{rest}}}"#)
}

fn list(n: usize, item: impl Fn(usize) -> String) -> String {
    let items: Vec<String> = (0..n).map(item).collect();
    items.join(",")
}

fn messages(model: &str, n: usize) -> String {
    let messages = list(n, |_| r#"{"role":"user","content":"hi"}"#.into());
    format!(r#"{{{model},"messages":[{messages}]}}"#)
}

fn keys(model: &str, n: usize) -> String {
    chat(model, &list(n, |i| format!(r#""key{i}":{i}"#)))
}

fn text(model: &str, text: &str) -> String {
    format!(r#"{{{model},"messages":[{{"role":"user","content":"{text}"}}]}}"#)
}

const SHAPES: &[Shape] = &[
    Shape { name: "many messages", path: CHAT, least: 800, body: |n| messages(LLM, n) },
    Shape { name: "many messages to an agent", path: CHAT, least: 800, body: |n| messages(AGENT, n) },
    Shape { name: "many keys", path: CHAT, least: 1500, body: |n| keys(LLM, n) },
    Shape { name: "many keys to an agent", path: CHAT, least: 1500, body: |n| keys(AGENT, n) },
    Shape {
        name: "many keys to an agent of another user with long names",
        path: CHAT,
        least: WORDY_LEAST,
        body: |n| keys(&format!(r#""model":"wordy-{n}""#), n),
    },
    Shape {
        name: "one key many times to an agent",
        path: CHAT,
        least: 1500,
        body: |n| chat(AGENT, &list(n, |i| format!(r#""temperature":{i}"#))),
    },
    Shape {
        name: "keys written in escapes to an agent",
        path: CHAT,
        least: 1500,
        body: |n| chat(AGENT, &list(n, |i| format!(r#""\u006d\u{:04x}":1"#, 0x100 + i % 0x8000))),
    },
    Shape { name: "one long plain text", path: CHAT, least: 60_000, body: |n| text(LLM, &"x".repeat(n)) },
    Shape {
        name: "one long text of escapes to an agent",
        path: CHAT,
        least: 8000,
        body: |n| text(AGENT, &r#"\n\u00e9\""#.repeat(n)),
    },
    Shape {
        name: "one long key",
        path: CHAT,
        least: 30_000,
        body: |n| chat(AGENT, &format!(r#""{}":1"#, r"\t".repeat(n))),
    },
    Shape {
        name: "many numbers",
        path: CHAT,
        least: 8000,
        body: |n| chat(AGENT, &format!(r#""stop":[{}]"#, list(n, |i| format!("-{i}.5e3")))),
    },
    Shape {
        name: "deep arrays",
        path: CHAT,
        least: 150,
        body: |n| {
            let deep = "[".repeat(100) + &"]".repeat(100);
            chat(AGENT, &format!(r#""stop":[{}]"#, list(n, |_| deep.clone())))
        },
    },
    Shape {
        name: "deep objects",
        path: CHAT,
        least: 20,
        body: |n| {
            let deep = r#"{"a":"#.repeat(100) + "1" + &"}".repeat(100);
            chat(AGENT, &format!(r#""options":[{}]"#, list(n, |_| deep.clone())))
        },
    },
    // The largest of these bodies are just below the longest error text that the hub redacts.
    Shape { name: "homes in an error", path: CHAT, least: 1150, body: |n| text(ECHO, &"/home/a ".repeat(n)) },
    Shape {
        name: "beginnings of homes in an error",
        path: CHAT,
        least: 1600,
        body: |n| text(ECHO, &"/home/".repeat(n)),
    },
    Shape {
        name: "addresses in brackets in an error",
        path: CHAT,
        least: 1300,
        body: |n| text(ECHO, &"[fd00::]".repeat(n)),
    },
    Shape {
        name: "open brackets in an error",
        path: CHAT,
        least: 9000,
        body: |n| text(ECHO, &"[".repeat(n)),
    },
    Shape {
        name: "addresses in an error",
        path: CHAT,
        least: 1000,
        body: |n| text(ECHO, &"10.0.0.1:".repeat(n)),
    },
    Shape { name: "users in an error", path: CHAT, least: 1000, body: |n| text(ECHO, &"://a@b".repeat(n)) },
    Shape {
        name: "beginnings of the key in an error",
        path: CHAT,
        least: 450,
        body: |n| text(ECHO, &KEY[..20].repeat(n)),
    },
    Shape {
        name: "many texts in an error",
        path: CHAT,
        least: 1000,
        body: |n| chat(ECHO, &format!(r#""stop":[{}]"#, list(n, |_| r#""nas""#.into()))),
    },
    Shape {
        name: "white space",
        path: CHAT,
        least: 50_000,
        body: |n| chat(LLM, &format!(r#"{}"x":1"#, " \n".repeat(n))),
    },
    Shape {
        name: "many tools",
        path: CHAT,
        least: 200,
        body: |n| {
            let tool = |i| {
                format!(
                    r#"{{"type":"function","function":{{"name":"f{i}","parameters":{{"type":"object","properties":{{"a":{{"type":"string"}}}}}}}}}}"#
                )
            };
            chat(AGENT, &format!(r#""tools":[{}]"#, list(n, tool)))
        },
    },
    Shape {
        name: "many prompts",
        path: "/v1/completions",
        least: 3000,
        body: |n| format!(r#"{{{AGENT},"prompt":[{}]}}"#, list(n, |i| format!(r#""p{i}""#))),
    },
    Shape {
        name: "many tokens to complete",
        path: "/v1/completions",
        least: 3000,
        body: |n| format!(r#"{{{ECHO},"stream":true,"prompt":[{}]}}"#, list(n, |_| "0".into())),
    },
    Shape {
        name: "many texts to embed",
        path: "/v1/embeddings",
        least: 1000,
        body: |n| format!(r#"{{{LLM},"input":[{}]}}"#, list(n, |i| format!(r#""t{i}""#))),
    },
    Shape {
        name: "many documents to rank",
        path: "/v1/rerank",
        least: 1000,
        body: |n| format!(r#"{{{LLM},"query":"q","documents":[{}]}}"#, list(n, |i| format!(r#""d{i}""#))),
    },
    Shape {
        name: "many blocks",
        path: "/v1/messages",
        least: 1000,
        body: |n| {
            let blocks = list(n, |i| format!(r#"{{"type":"text","text":"b{i}"}}"#));
            format!(r#"{{{AGENT},"max_tokens":9,"messages":[{{"role":"user","content":[{blocks}]}}]}}"#)
        },
    },
    Shape {
        name: "many items",
        path: "/v1/responses",
        least: 1000,
        body: |n| {
            let items = list(n, |i| format!(r#"{{"role":"user","content":"i{i}"}}"#));
            format!(r#"{{{AGENT},"input":[{items}]}}"#)
        },
    },
    Shape {
        name: "a durable task of many messages",
        path: "/api/v1/inference-tasks",
        least: 1000,
        body: |n| format!(r#"{{"llm":"mock","request":{}}}"#, messages(LLM, n)),
    },
    Shape {
        name: "a result of an unknown task",
        path: "/api/v1/llms/_provider-task/none/result",
        least: 2000,
        body: |n| {
            let choices = list(n, |i| format!(r#"{{"index":{i},"usage":{{"x":"\n"}}}}"#));
            format!(r#"{{"status":200,"body":{{"usage":{{}},"choices":[{choices}]}}}}"#)
        },
    },
    Shape {
        name: "JSON that never closes its brackets",
        path: CHAT,
        least: 50_000,
        body: |n| format!(r#"{{"a":[{}"#, "0,".repeat(n)),
    },
    Shape {
        name: "what ends too soon",
        path: CHAT,
        least: 50_000,
        body: |n| format!(r#"{{"a":"{}"#, r"\\".repeat(n)),
    },
    Shape {
        name: "a row's registration with more than it needs",
        path: "/api/v1/llms/_provider-register",
        least: 3000,
        body: |n| format!(r#"{{"providers":[],"later":[{}]}}"#, list(n, |i| format!(r#"{{"k{i}":1}}"#))),
    },
    Shape {
        name: "many rows in one pool",
        path: "/api/v1/llms/_provider-register",
        least: 9,
        body: |n| {
            let row = |i| {
                let mut row = provider(&format!("pooled-{i}"));
                row["poolName"] = json!("pool");
                row
            };
            json!({ "providerSessionId": "sess-rows", "providers": (0..n).map(row).collect::<Vec<_>>() })
                .to_string()
        },
    },
    Shape {
        name: "results of Ollama's API with other ids than the calls",
        path: "/api/chat",
        least: 150,
        body: |n| {
            let id = "a".repeat(1000);
            let calls = list(n, |i| format!(r#"{{"id":"{id}{i}","function":{{"name":"f"}}}}"#));
            let results = list(n, |_| format!(r#"{{"role":"tool","tool_call_id":"{id}z","content":""}}"#));
            format!(
                r#"{{{LLM},"stream":false,"messages":[{{"role":"assistant","tool_calls":[{calls}]}},{results}]}}"#
            )
        },
    },
    Shape {
        name: "many agents",
        path: "/api/v1/llms/_provider-register",
        least: 9,
        body: |n| {
            let params: serde_json::Map<_, _> = (0..50).map(|i| (format!("p{i}"), json!(i))).collect();
            let agent = |i| json!({ "name": format!("agent-{i}"), "llmName": "mock", "systemPrompt": "Be brief.", "defaultParams": params });
            json!({ "providerSessionId": "sess-agents", "agents": (0..n).map(agent).collect::<Vec<_>>() })
                .to_string()
        },
    },
    Shape {
        name: "a heartbeat of many rows",
        path: "/api/v1/llms/_provider-heartbeat",
        least: 9,
        body: |n| {
            let status = |i| json!({ "name": format!("pooled-{i}"), "status": "active", "inFlight": 0, "queued": 0, "maxConcurrency": i });
            json!({ "providerSessionId": "sess-rows", "providers": (0..n).map(status).collect::<Vec<_>>() })
                .to_string()
        },
    },
];

#[actix_rt::test]
async fn the_cost_of_a_request_is_proportional_to_its_size_in_every_shape() {
    let rig = Rig::start().await;
    let caller = rig.new_member("caller").await;
    let params: serde_json::Map<_, _> = (0..64).map(|i| (format!("param{i}"), json!(i))).collect();
    let agent = json!({ "name": "helper", "llmName": "mock", "systemPrompt": "Be brief.", "defaultParams": params,
        "visibility": "public" });
    assert_eq!(caller.post("/api/v1/agents", &agent).await.status, 201);
    let author = rig.new_member("author").await;
    for n in (0..SIZES).map(|step| WORDY_LEAST * STEP.pow(step)) {
        let params: serde_json::Map<_, _> =
            (0..64).map(|i| (format!("{}{i}", "É".repeat(n / 100)), json!(i))).collect();
        let agent = json!({ "name": format!("wordy-{n}"), "llmName": "mock", "defaultParams": params, "visibility": "public" });
        assert_eq!(author.post("/api/v1/agents", &agent).await.status, 201);
    }
    let backend = FakeBackend::start();
    backend.script(|script| script.echo = Some(422));
    let row = json!({ "name": "echo", "type": "openai", "model": "m", "url": backend.url(), "apiKey": KEY, "visibility": "public" });
    assert_eq!(rig.as_user(ADMIN).post("/api/v1/llms", &row).await.status, 201);
    let mut steep = Vec::new();
    for shape in SHAPES {
        let slopes = slopes(&rig, &caller, shape).await;
        for (who, slope) in ["hub", "registrar"].into_iter().zip(slopes) {
            println!("{:>8} {slope:.2} {}", who, shape.name);
            if slope > STEEP {
                steep.push(format!("{}: {slope:.2} at the {who}", shape.name));
            }
        }
    }
    assert!(steep.is_empty(), "costs grow faster than the size: {steep:#?}");
}

/// Slopes of the cost of a shape, at the hub and at the registrar.
async fn slopes(rig: &Rig, caller: &Http, shape: &Shape) -> [f64; 2] {
    let sizes: Vec<usize> = (0..SIZES).map(|step| shape.least * STEP.pow(step)).collect();
    let mut costs = vec![[f64::MAX; 2]; sizes.len()];
    let mut slopes = [f64::MAX; 2];
    for _ in 0..MEASUREMENTS {
        let mut statuses = Vec::new();
        for (size, least) in sizes.iter().zip(&mut costs) {
            let body = (shape.body)(*size);
            // Two requests in a row: the first one fills the caches, the second one uses them.
            for _ in 0..2 {
                let (cost, status) = rig.cost(caller, Method::POST, shape.path, Some(body.clone())).await;
                *least = [0, 1].map(|who| least[who].min(cost[who]));
                statuses.push(status);
            }
        }
        statuses.dedup();
        assert_eq!(statuses.len(), 1, "{}: answered in more than one way: {statuses:?}", shape.name);
        slopes = [0, 1].map(|who| {
            let point =
                |(size, cost): (&usize, &[f64; 2])| (f64::from(u32::try_from(*size).unwrap()), cost[who]);
            let points: Vec<_> = sizes.iter().zip(&costs).map(point).collect();
            // A process that costs under 1 ms at every size did not take part.
            if points.iter().all(|(_, cost)| *cost < 1e-3) { 0.0 } else { slope(&points) }
        });
        if slopes.iter().all(|slope| *slope <= STEEP) {
            break;
        }
    }
    slopes
}
