//! 3,000 callers of one user, and one of another, wait for a publisher that takes one task at a time.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::figure;
use crate::http::Http;
use crate::rig::{ADMIN, Hub, provider};

const CALLERS: usize = 3000;
/// What another user's caller says.
const OTHER: &str = "other";

pub fn run() {
    let hub = Hub::start();
    let session = hub.register(ADMIN, &[provider("busy")]);
    let mut channel = hub.admin();
    let headers =
        format!("x-mcpctl-provider-session: {session}\r\nx-virtual-llm-features: cancel, status, drain\r\n");
    channel.send("GET", "/api/v1/llms/_provider-stream", &headers, b"");
    let mut publisher = hub.admin();
    let mut room = |most: usize| {
        let provider =
            json!({ "name": "busy", "status": "active", "inFlight": 0, "queued": 0, "maxConcurrency": most });
        let beat = json!({ "providerSessionId": session, "providers": [provider] }).to_string();
        publisher.call("POST", "/api/v1/llms/_provider-heartbeat", &beat).0
    };
    // Until the channel is open.
    while room(0) != 200 {
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(200));
    assert_eq!(room(0), 200);
    let mut callers = Vec::with_capacity(CALLERS);
    let mut admin = hub.admin();
    let mut last = newest(&mut admin);
    for number in 0..CALLERS {
        // Two of one millisecond have no order in the list.
        sleep(Duration::from_millis(1));
        let mut http = Http::new(hub.port, ADMIN);
        let messages = json!([{ "role": "user", "content": number.to_string() }]);
        let body = json!({ "model": "busy", "messages": messages }).to_string();
        http.send("POST", "/v1/chat/completions", "x-queue-timeout: 600\r\n", body.as_bytes());
        callers.push(http);
        // One after the other: the order in which they come is the order that is measured.
        while newest(&mut admin) == last {
            sleep(Duration::from_millis(1));
        }
        last = newest(&mut admin);
    }
    let other = hub.member("other");
    let mut http = Http::new(hub.port, &other);
    let body = json!({ "model": "busy", "messages": [{ "role": "user", "content": OTHER }] }).to_string();
    http.send("POST", "/v1/chat/completions", "x-queue-timeout: 600\r\n", body.as_bytes());
    callers.push(http);
    while newest(&mut admin) == last {
        sleep(Duration::from_millis(1));
    }
    let cpu = hub.cpu();
    assert_eq!(room(1), 200);
    let mut before_other = 0;
    let (mut results, mut order) = (hub.admin(), Vec::with_capacity(CALLERS));
    let answer =
        json!({ "status": 200, "body": { "id": "c", "object": "chat.completion", "choices": [{ "index": 0,
        "finish_reason": "stop", "message": { "role": "assistant", "content": "hi" } }] } })
        .to_string();
    channel.lines(|line| {
        let Some(task) = line.strip_prefix("data: ") else { return true };
        let task: Value = serde_json::from_str(task).unwrap();
        let Some(id) = task["taskId"].as_str() else { return true };
        let text = task["request"]["messages"][0]["content"].as_str().unwrap();
        if text == OTHER {
            before_other = order.len();
        } else {
            order.push(text.parse::<usize>().unwrap());
        }
        assert_eq!(results.call("POST", &format!("/api/v1/llms/_provider-task/{id}/result"), &answer).0, 200);
        order.len() < CALLERS
    });
    let each = hub.cpu().saturating_sub(cpu) / u32::try_from(CALLERS).unwrap();
    assert!(callers.iter_mut().all(|caller| caller.answer().0 == 200));
    let furthest = order.iter().enumerate().map(|(place, number)| place.abs_diff(*number)).max().unwrap();
    figure(
        "3,000 callers of one user wait: furthest from its place in the order",
        &furthest.to_string(),
        "the order of arrival",
    );
    figure("3,000 callers wait: served before one of another user's", &before_other.to_string(), "at most 1");
    figure(
        "3,000 callers wait: CPU time of a freed place",
        &format!("{:.3} ms", each.as_secs_f64() * 1e3),
        "at most 0.2 ms",
    );
}

/// The id of the newest inference.
fn newest(http: &mut Http) -> String {
    let (_, tasks) = http.call("GET", "/api/v1/inference-tasks?limit=1", "");
    serde_json::from_str::<Value>(&tasks).unwrap()[0]["id"].to_string()
}
