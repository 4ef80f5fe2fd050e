//! One caller sends 28 MiB bodies without pause; everybody else makes small calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::spawn;
use std::time::Duration;

use serde_json::json;

use crate::figure;
use crate::http::Http;
use crate::probe::{Probe, millis, quantile};
use crate::rig::Hub;

const SIZE: usize = 28 << 20;
const LENGTH: Duration = Duration::from_secs(6);

pub fn run() {
    let hub = Hub::start();
    let _registrar = hub.publish_mock("known");
    let (large, other) = (hub.member("large"), hub.member("other"));
    let alone = Probe::during(hub.port, &other, "/v1/models", LENGTH);
    figure("small calls alone: p99", &millis(quantile(&alone, 99)), "");
    for (model, expected) in [("known", 200), ("unknown", 404)] {
        let over = Arc::new(AtomicBool::new(false));
        let (end, port, token) = (over.clone(), hub.port, large.clone());
        let sender = spawn(move || {
            let messages = json!([{ "role": "user", "content": "x".repeat(SIZE) }]);
            let body = json!({ "model": model, "messages": messages }).to_string();
            let mut sent = 0;
            while !end.load(Ordering::Relaxed) {
                let mut http = Http::new(port, &token);
                http.send("POST", "/v1/chat/completions", "", body.as_bytes());
                assert_eq!(http.answer().0, expected);
                sent += 1;
            }
            sent
        });
        let beside = Probe::during(hub.port, &other, "/v1/models", LENGTH);
        over.store(true, Ordering::Relaxed);
        let sent: usize = sender.join().unwrap();
        let more = quantile(&beside, 99).saturating_sub(quantile(&alone, 99));
        let what = format!("small calls beside {sent} bodies of 28 MiB, {model} model: p99 above alone");
        figure(&what, &millis(more), "at most 10 ms");
    }
}
