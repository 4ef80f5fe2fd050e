//! 20,000 rows and one who watches them.

use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::figure;
use crate::probe::{Probe, millis, quantile};
use crate::rig::{Hub, provider};

const USERS: usize = 4;
/// A session has at most 256 rows.
const SESSIONS: usize = 20;
const ROWS: usize = 250;

pub fn run() {
    let hub = Hub::start();
    let users: Vec<String> = (0..USERS).map(|user| hub.member(&format!("user-{user}"))).collect();
    let other = hub.member("other");
    sleep(Duration::from_secs(1));
    let before = hub.memory();
    let mut sessions = Vec::new();
    for (user, token) in users.iter().enumerate() {
        for session in 0..SESSIONS {
            let rows: Vec<_> =
                (0..ROWS).map(|row| provider(&format!("row-{user}-{session}-{row}"))).collect();
            sessions.push((token, hub.register(token, &rows)));
        }
    }
    hub.watch();
    let probe = Probe::of_work(&hub, &other, "/healthz");
    for (token, session) in sessions.iter().cycle().take(100) {
        let beat = json!({ "providerSessionId": session }).to_string();
        let mut http = crate::http::Http::new(hub.port, token);
        assert_eq!(http.call("POST", "/api/v1/llms/_provider-heartbeat", &beat).0, 200);
        sleep(Duration::from_millis(100));
    }
    let times = probe.stop();
    let each = hub.memory().saturating_sub(before) as f64 / (USERS * SESSIONS * ROWS) as f64;
    figure("20,000 rows, one watcher: stall of the serving thread, p99", &millis(quantile(&times, 99)), "");
    figure(
        "20,000 rows, one watcher: longest stall of the serving thread",
        &millis(*times.last().unwrap()),
        "at most 5 ms",
    );
    let probe = Probe::of_work(&hub, &other, "/healthz");
    let mut reader = hub.admin();
    for path in ["/api/v1/llms", "/v1/models", "/api/v1/agents", "/api/v1/sessions"].iter().cycle().take(40) {
        assert_eq!(reader.call("GET", path, "").0, 200);
    }
    let times = probe.stop();
    figure(
        "20,000 rows, lists of all of them: longest stall of the serving thread",
        &millis(*times.last().unwrap()),
        "at most 5 ms",
    );
    figure("20,000 rows, one watcher: memory a row", &format!("{:.2} KB", each / 1e3), "at most 1.5 KB");
}
