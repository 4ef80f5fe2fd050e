//! 8 callers send 20 MB bodies over a link without pause; others make small calls over the same link, and heartbeats come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde_json::json;

use crate::figure;
use crate::http::Http;
use crate::probe::{Probe, millis, quantile};
use crate::rig::{ADMIN, Hub, provider};

const CALLERS: usize = 8;
const SIZE: usize = 20 << 20;
const LENGTH: Duration = Duration::from_secs(10);

pub fn run() {
    let hub = Hub::start();
    let _registrar = hub.publish_server("known", crate::backend::start());
    let session = hub.register(ADMIN, &[provider("other")]);
    let large: Vec<_> = (0..CALLERS).map(|user| hub.member(&format!("large-{user}"))).collect();
    let small = hub.member("small");
    let [beats, calls] = probe(&hub, &session, &small);
    figure("heartbeats alone: p99", &millis(quantile(&beats, 99)), "");
    let alone = quantile(&calls, 99);
    figure("small calls alone: p99", &millis(alone), "");
    let over = Arc::new(AtomicBool::new(false));
    let messages = json!([{ "role": "user", "content": "x".repeat(SIZE) }]);
    let body: Arc<str> = json!({ "model": "known", "messages": messages }).to_string().into();
    let senders: Vec<_> = large
        .into_iter()
        .map(|token| {
            let (end, body, port) = (over.clone(), body.clone(), hub.port);
            spawn(move || {
                let mut sent = 0;
                while !end.load(Ordering::Relaxed) {
                    let (status, answer) =
                        Http::new(port, &token).call("POST", "/v1/chat/completions", &body);
                    // The hub may have no memory for all of them at once.
                    assert!([200, 503].contains(&status), "{status} {answer}");
                    sent += usize::from(status == 200);
                }
                sent
            })
        })
        .collect();
    sleep(Duration::from_secs(1));
    let [beats, calls] = probe(&hub, &session, &small);
    over.store(true, Ordering::Relaxed);
    let sent: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
    let beside = format!("beside {sent} bodies of 20 MiB by {CALLERS} callers: p99");
    figure(&format!("heartbeats {beside}"), &millis(quantile(&beats, 99)), "at most 50 ms");
    let times = quantile(&calls, 99).as_secs_f64() / alone.as_secs_f64();
    let value = format!("{} ({times:.1} times)", millis(quantile(&calls, 99)));
    figure(&format!("small calls {beside}"), &value, "at most 3 times alone");
}

/// The times of heartbeats and of small calls.
fn probe(hub: &Hub, session: &str, small: &str) -> [Vec<Duration>; 2] {
    let beat = json!({ "providerSessionId": session }).to_string();
    let call = json!({ "model": "known", "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let beats = Probe::posting(hub.port, ADMIN, "/api/v1/llms/_provider-heartbeat", &beat);
    let calls = Probe::posting(hub.port, small, "/v1/chat/completions", &call);
    sleep(LENGTH);
    [beats.stop(), calls.stop()]
}
