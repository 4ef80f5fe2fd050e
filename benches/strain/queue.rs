//! 10 users with 1,000 durable tasks each that wait for one publisher, and one admin who watches.

use std::thread::{sleep, spawn};
use std::time::Duration;

use crate::figure;
use crate::http::Http;
use crate::probe::{Probe, millis, quantile};
use crate::rig::{ADMIN, Hub, provider};

pub fn run() {
    let hub = Hub::start();
    hub.register(ADMIN, &[provider("away")]);
    let users: Vec<_> = (0..10)
        .map(|user| {
            let (token, port) = (hub.member(&format!("user-{user}")), hub.port);
            spawn(move || {
                let mut http = Http::new(port, &token);
                let body = r#"{"llm":"away","request":{"messages":[{"role":"user","content":"hi"}]}}"#;
                for _ in 0..1000 {
                    assert_eq!(http.call("POST", "/api/v1/inference-tasks", body).0, 202);
                }
            })
        })
        .collect();
    for user in users {
        user.join().unwrap();
    }
    let other = hub.member("other");
    hub.watch();
    sleep(Duration::from_secs(1));
    let times = Probe::during(hub.port, &other, "/v1/models", Duration::from_secs(10));
    figure(
        "10,000 durable tasks wait, one watcher: GET /v1/models p99",
        &millis(quantile(&times, 99)),
        "at most 5 ms",
    );
}
