//! A swarm of one user's callers and a person share a full LLM. All make plain calls, as an SDK does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::figure;
use crate::http::Http;
use crate::probe::{millis, quantile};
use crate::rig::Hub;

const SLOTS: usize = 4;
const CALLERS: usize = 64;
const PREFILL: Duration = Duration::from_millis(300);
const PACE: Duration = Duration::from_millis(20);
const LENGTH: Duration = Duration::from_mins(1);
/// Until the swarm is in its stride.
const START: Duration = Duration::from_secs(5);
/// Pauses of the person before each of its calls, in ms: they come at any moment of the answers under way.
const PAUSES: [u64; 7] = [310, 120, 770, 440, 930, 250, 590];

/// 20 to 50 tokens: with the prefill a call takes a second in the mean, and slots become free one after the other.
fn tokens(number: u32) -> u32 {
    20 + number * 17 % 31
}

pub fn run() {
    let hub = Hub::start();
    let port = crate::backend::start_paced(PREFILL, PACE, tokens);
    let _registrar = hub.publish_slots("shared", port, SLOTS);
    let (swarm, person) = (hub.member("swarm"), hub.member("person"));
    let alone = ask(hub.port, &person);
    figure("a person alone: p95 of the first token", &millis(quantile(&alone, 95)), "");

    let over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (over, done, token, port) = (over.clone(), done.clone(), swarm.clone(), hub.port);
            spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    first_token(port, &token);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    sleep(START);
    let (before, began) = (done.load(Ordering::Relaxed), Instant::now());
    sleep(LENGTH);
    let rate = (done.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
    figure(&format!("{CALLERS} callers of a user alone, {SLOTS} slots"), &format!("{rate:.2} calls/s"), "");

    let beside = ask(hub.port, &person);
    over.store(true, Ordering::Relaxed);
    let times = quantile(&beside, 95).as_secs_f64() / quantile(&alone, 95).as_secs_f64();
    let value = format!("{} ({times:.2} times)", millis(quantile(&beside, 95)));
    figure(&format!("the person beside them: p95 of the first token, {} calls", beside.len()), &value, "");
    figure("the same: median", &millis(quantile(&beside, 50)), "");
    for caller in callers {
        caller.join().unwrap();
    }
}

/// One call after the other for a while, at least 5. Returns the times to their first tokens.
fn ask(port: u16, token: &str) -> Vec<Duration> {
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < LENGTH || times.len() < 5 {
        sleep(Duration::from_millis(PAUSES[times.len() % PAUSES.len()]));
        times.push(first_token(port, token));
    }
    times.sort_unstable();
    times
}

/// Makes a call and reads its answer to the end. Returns the time to the first token.
fn first_token(port: u16, token: &str) -> Duration {
    let body =
        json!({ "model": "shared", "messages": [{ "role": "user", "content": "hi" }], "stream": true });
    let mut http = Http::new(port, token);
    let began = Instant::now();
    http.send("POST", "/v1/chat/completions", "", body.to_string().as_bytes());
    let mut first = None;
    http.lines(|line| {
        if first.is_none() && line.contains("content") {
            first = Some(began.elapsed());
        }
        line != "data: [DONE]"
    });
    first.expect("a token")
}
