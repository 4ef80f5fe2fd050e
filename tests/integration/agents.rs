//! `/v1/messages` and `/v1/responses`, as coding agents use them, on a backend that has only chat completions.

use serde_json::{Value, json};
use testkit::team::Team;

/// The choices of a stream with some text and then a call of the tool `look_up`.
fn call() -> Vec<Value> {
    let delta = |delta: Value, finish: Value| json!({ "index": 0, "delta": delta, "finish_reason": finish });
    let call = |id: Value, name: Value, arguments: &str| json!({ "tool_calls": [{ "index": 0, "id": id, "type": "function", "function": { "name": name, "arguments": arguments } }] });
    vec![
        delta(json!({ "role": "assistant", "content": "Let me look." }), Value::Null),
        delta(call(json!("call:1"), json!("look_up"), ""), Value::Null),
        delta(call(Value::Null, Value::Null, "{\"city\":"), Value::Null),
        delta(call(Value::Null, Value::Null, "\"Oslo\"}"), Value::Null),
        delta(json!({}), json!("tool_calls")),
    ]
}

#[actix_rt::test]
async fn messages_carry_a_tool_call_to_the_client_and_its_result_back() {
    let team = Team::start().await;
    team.backend.script(|script| script.choices = Some(call()));
    let mut request = json!({
        "model": "local", "max_tokens": 50, "stream": true, "system": [{ "type": "text", "text": "Be brief." }],
        "tools": [{ "name": "look_up", "input_schema": { "type": "object" } }],
        "messages": [{ "role": "user", "content": "Where?" }],
    });
    let answer = team.http.post("/v1/messages", &request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let events = answer.events();
    let named: Vec<_> = events.iter().filter_map(|event| event.event.as_deref()).collect();
    assert_eq!(named.first(), Some(&"message_start"));
    assert_eq!(named[named.len() - 2..], ["message_delta", "message_stop"]);
    let data: Vec<Value> = events.iter().map(|event| serde_json::from_str(&event.data).unwrap()).collect();
    let arguments: String = data.iter().filter_map(|data| data["delta"]["partial_json"].as_str()).collect();
    assert_eq!(arguments, r#"{"city":"Oslo"}"#);
    let stop = data.iter().find_map(|data| data["delta"]["stop_reason"].as_str());
    assert_eq!(stop, Some("tool_use"));
    let used = data.iter().find(|data| data["content_block"]["type"] == "tool_use").unwrap();

    team.backend.script(|script| script.choices = None);
    request["stream"] = json!(false);
    let said = json!([{ "type": "tool_use", "id": used["content_block"]["id"], "name": "look_up", "input": { "city": "Oslo" } }]);
    let found =
        json!([{ "type": "tool_result", "tool_use_id": used["content_block"]["id"], "content": "59.9 N" }]);
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(json!({ "role": "assistant", "content": said }));
    messages.push(json!({ "role": "user", "content": found }));
    let answer = team.http.post("/v1/messages", &request).await;
    assert_eq!(answer.json()["content"][0]["text"], "hello from the backend", "{answer:?}");
    assert_eq!(answer.json()["usage"]["output_tokens"], 4);
    let asked = team.backend.requests().pop().unwrap();
    assert_eq!(asked["messages"][0], json!({ "role": "system", "content": "Be brief." }));
    assert_eq!(asked["messages"][2]["tool_calls"][0]["id"], "call:1");
    assert_eq!(
        asked["messages"][3],
        json!({ "role": "tool", "tool_call_id": "call:1", "content": "59.9 N" })
    );
}

#[actix_rt::test]
async fn responses_carry_a_tool_call_and_accept_a_reference_to_its_item() {
    let team = Team::start().await;
    team.backend.script(|script| script.choices = Some(call()));
    let tools = json!([{ "type": "custom", "name": "look_up" }, { "type": "web_search" }]);
    let request = json!({ "model": "local", "stream": true, "input": "Where?", "tools": tools });
    let answer = team.http.post("/v1/responses", &request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let data: Vec<Value> =
        answer.events().iter().filter_map(|event| serde_json::from_str(&event.data).ok()).collect();
    let numbers: Vec<_> = data.iter().map(|data| data["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..data.len() as u64).collect::<Vec<_>>());
    let last = &data[data.len() - 1];
    assert_eq!(last["type"], "response.completed");
    let output = last["response"]["output"].as_array().unwrap();
    assert_eq!(output[1]["type"], "custom_tool_call");

    team.backend.script(|script| script.choices = None);
    let input = json!([
        { "role": "user", "content": "Where?" }, { "type": "item_reference", "id": output[0]["id"] }, output[1],
        { "type": "custom_tool_call_output", "call_id": output[1]["call_id"], "output": "59.9 N" },
    ]);
    let answer =
        team.http.post("/v1/responses", &json!({ "model": "local", "input": input, "tools": tools })).await;
    assert_eq!(answer.json()["output"][0]["content"][0]["text"], "hello from the backend", "{answer:?}");
    let asked = team.backend.requests().pop().unwrap();
    assert_eq!(asked["messages"][1]["content"], "Let me look.");
    assert_eq!(asked["messages"][1]["tool_calls"][0]["id"], "call:1");
    assert_eq!(asked["messages"][2]["content"], "59.9 N");
}

#[actix_rt::test]
async fn untranslatable_requests_are_refused_in_the_format_of_their_endpoint() {
    let team = Team::start().await;
    let pdf = json!({ "type": "document", "source": { "type": "base64", "media_type": "application/pdf", "data": "JVBE" } });
    let request = json!({ "model": "local", "messages": [{ "role": "user", "content": [pdf] }] });
    let answer = team.http.post("/v1/messages", &request).await;
    assert_eq!((answer.status, &answer.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("application/pdf"), "{answer:?}");
    let request = json!({ "model": "local", "input": [{ "type": "mcp_call", "id": "m" }] });
    let answer = team.http.post("/v1/responses", &request).await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("'mcp_call'"), "{answer:?}");
    assert!(team.backend.requests().is_empty());
}
