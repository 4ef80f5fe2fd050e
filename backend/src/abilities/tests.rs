//! What is read of the answers of real servers, and what a server gets to see.

use std::cell::RefCell;
use std::rc::Rc;

use testkit::peer::Peer;
use tokio::time::{Instant, interval};
use wire::Capabilities;

use super::*;

/// A server that answers each path with a JSON text, and anything else with 404.
fn server(answers: Value) -> (Peer, Rc<RefCell<Vec<String>>>) {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&asked);
    let peer = Peer::start(async move |mut connection| {
        loop {
            let request = connection.request().await?;
            seen.borrow_mut().push(format!("{} {}", request.method, request.target));
            match &answers[request.path()] {
                Value::Null => connection.json(404, &json!({})).await?,
                Value::Number(status) => {
                    let status = u16::try_from(status.as_u64().unwrap()).unwrap();
                    connection.json(status, &json!({})).await?;
                }
                answer => connection.json(200, answer).await?,
            }
        }
    });
    (peer, asked)
}

async fn ask(answers: Value, kind: ServerKind, model: &str) -> AbilityAnswer {
    let (peer, _) = server(answers);
    let backend = HttpBackend { url: Secret::new(format!("{}/v1", peer.url())), api_key: None };
    abilities(&Client::new(None), &backend, kind, model).await
}

fn known(context: Option<u32>, list: [Option<bool>; 4]) -> AbilityAnswer {
    let [tools, vision, reasoning, embeddings] = list;
    let capabilities = Capabilities { tools, vision, reasoning, embeddings };
    let abilities = Abilities { context_length: context, max_output_tokens: None, capabilities };
    AbilityAnswer { abilities, is_partial: false }
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[actix_rt::test]
async fn llamacpp_tells_the_context_of_one_slot_and_not_the_trained_one() {
    let list = json!({ "data": [{ "id": "/models/a.gguf", "owned_by": "llamacpp",
        "meta": { "n_ctx_train": 131_072 } }] });
    let props = json!({ "default_generation_settings": { "n_ctx": 2048 }, "total_slots": 2,
        "modalities": { "vision": false, "audio": false },
        "chat_template_caps": { "supports_tools": true, "supports_preserve_reasoning": false } });
    let answers = json!({ "/v1/models": list, "/props": props });
    let expected = known(Some(2048), [YES, NO, None, None]);
    assert_eq!(ask(answers.clone(), ServerKind::Unknown, "any").await, expected);
    assert_eq!(ask(answers, ServerKind::LlamaCpp, "any").await, expected);
}

#[actix_rt::test]
async fn vllm_tells_its_max_model_len_and_is_asked_nothing_else() {
    let list = json!({ "data": [{ "id": "other", "max_model_len": 1 },
        { "id": "m", "owned_by": "vllm", "max_model_len": 32_768 }] });
    let (peer, asked) = server(json!({ "/v1/models": list }));
    let backend = HttpBackend { url: Secret::new(format!("{}/v1", peer.url())), api_key: None };
    let answer = abilities(&Client::new(None), &backend, ServerKind::Unknown, "m").await;
    assert_eq!(answer, known(Some(32_768), [None; 4]));
    assert_eq!(*asked.borrow(), ["GET /v1/models"]);
}

#[actix_rt::test]
async fn ollama_tells_the_loaded_context_and_not_the_trained_one() {
    let show = json!({ "capabilities": ["completion", "tools", "thinking"],
        "model_info": { "llama.context_length": 131_072 } });
    let ps = json!({ "models": [{ "name": "qwen:latest", "model": "qwen:latest", "context_length": 4096 }] });
    let list = json!({ "data": [{ "id": "qwen:latest", "owned_by": "library" }] });
    let answers = json!({ "/v1/models": list, "/api/show": show, "/api/ps": ps });
    assert_eq!(ask(answers.clone(), ServerKind::Ollama, "qwen").await, known(Some(4096), [YES, NO, YES, NO]));
    let mut unloaded = answers;
    unloaded["/api/ps"] = json!({ "models": [] });
    let partial = AbilityAnswer { is_partial: true, ..known(None, [YES, NO, YES, NO]) };
    assert_eq!(ask(unloaded.clone(), ServerKind::Unknown, "qwen").await, partial);
    unloaded["/api/show"]["parameters"] = "stop \"x\"\nnum_ctx                        8192".into();
    assert_eq!(ask(unloaded, ServerKind::Ollama, "qwen").await, known(Some(8192), [YES, NO, YES, NO]));
}

#[actix_rt::test]
async fn lm_studio_tells_the_loaded_context() {
    let entry = json!({ "id": "m", "type": "vlm", "state": "loaded", "max_context_length": 131_072,
        "loaded_context_length": 4096, "capabilities": ["tool_use"] });
    let list = json!({ "data": [{ "id": "m", "owned_by": "organization_owner" }] });
    let mut answers = json!({ "/v1/models": list, "/api/v0/models": { "data": [entry] } });
    assert_eq!(
        ask(answers.clone(), ServerKind::LmStudio, "m").await,
        known(Some(4096), [YES, YES, None, NO])
    );
    answers["/api/v0/models"]["data"][0]["loaded_context_length"] = Value::Null;
    assert!(ask(answers, ServerKind::Unknown, "m").await.is_partial);
}

#[actix_rt::test]
async fn what_a_server_does_not_tell_stays_unknown() {
    for list in [
        json!({ "data": [{ "id": "m" }] }),
        json!({ "data": [{ "id": "m", "max_model_len": -1, "capabilities": ["x"] }] }),
        json!({ "data": [{ "id": "m", "max_model_len": 1e300, "context_length": "8192" }] }),
        json!({ "data": [{ "id": "m", "max_model_len": 0, "context_length": 1_u64 << 40 }] }),
        json!({ "data": [{ "id": "x", "max_model_len": 9 }, { "id": "y", "max_model_len": 9 }] }),
        json!({ "data": {} }),
        json!([]),
    ] {
        assert_eq!(
            ask(json!({ "/v1/models": list }), ServerKind::Unknown, "m").await,
            AbilityAnswer::UNKNOWN
        );
    }
    assert_eq!(ask(json!({}), ServerKind::Unknown, "m").await, AbilityAnswer::UNKNOWN);
}

#[actix_rt::test]
async fn a_server_that_starts_is_asked_again() {
    let starting = json!({ "/v1/models": 503 });
    assert_eq!(ask(starting, ServerKind::LlamaCpp, "m").await, AbilityAnswer::NONE);
    let backend = HttpBackend { url: Secret::new("http://127.0.0.1:9/v1"), api_key: None };
    let away = abilities(&Client::new(None), &backend, ServerKind::Unknown, "m").await;
    assert_eq!(away, AbilityAnswer::NONE);
}

/// Each byte comes before the limit for silence.
#[actix_rt::test]
async fn an_answer_that_trickles_is_given_up() {
    let peer = Peer::start(async |mut connection| {
        connection.request().await?;
        connection.write("HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n").await?;
        let mut pace = interval(Duration::from_millis(50));
        loop {
            pace.tick().await;
            connection.write(" ").await?;
        }
    });
    let backend = HttpBackend { url: Secret::new(format!("{}/v1", peer.url())), api_key: None };
    let start = Instant::now();
    let answer = abilities(&Client::new(None), &backend, ServerKind::Unknown, "m").await;
    assert_eq!(answer, AbilityAnswer::NONE);
    assert!(start.elapsed() < 5 * LIMIT);
}

#[actix_rt::test]
async fn anthropic_tells_the_limits_of_a_model() {
    let info = json!({ "id": "claude", "max_input_tokens": 200_000, "max_tokens": 64_000,
        "capabilities": { "image_input": { "supported": true }, "thinking": { "supported": false } } });
    let (peer, asked) = server(json!({ "/v1/models/claude": info }));
    let backend = HttpBackend { url: Secret::new(format!("{}/v1", peer.url())), api_key: None };
    let answer = anthropic_abilities(&Client::new(None), &backend, "claude").await;
    let mut expected = known(Some(200_000), [None, YES, NO, None]);
    expected.abilities.max_output_tokens = Some(64_000);
    assert_eq!(answer, expected);
    assert_eq!(*asked.borrow(), ["GET /v1/models/claude"]);
}
