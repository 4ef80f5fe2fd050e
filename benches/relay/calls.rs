//! Calls that are not streamed.

use std::time::{Duration, Instant};

use crate::caller::{Caller, Target};
use crate::figures::{Figures, micros, millis, quantile};
use crate::rig::Rig;

pub const SMALL: &str =
    r#"{"model":"bench","messages":[{"role":"user","content":"say something short"}],"max_tokens":16}"#;

/// Every way in turn, so that all see the same machine.
pub async fn one_caller(rig: &Rig, figures: &Figures) {
    const CALLS: usize = 3000;
    let mut ways: Vec<_> =
        rig.ways().into_iter().map(|(name, target)| (name, Caller::new(target), Vec::new())).collect();
    for _ in 0..CALLS {
        for (_, caller, times) in &mut ways {
            let start = Instant::now();
            assert_eq!(caller.whole(SMALL).await, 200);
            times.push(start.elapsed());
        }
    }
    let times = ways.into_iter().map(|(name, _, times)| (name, times)).collect();
    for (name, median) in latency(figures, "1 caller", times) {
        let median = median.as_secs_f64() * 1e6;
        figures.bar("latency.svg", "Small call, 1 caller, median", "µs", "", name, median);
    }
}

/// Latency, rate, and the CPU time of hub and registrar for each call.
pub async fn many_callers(rig: &Rig, figures: &Figures, callers: usize) {
    let calls = 20_000 / callers;
    let (mut times, mut rates, mut cpu) = (Vec::new(), Vec::new(), None);
    for (name, target) in rig.ways() {
        let before = rig.cpu();
        let start = Instant::now();
        times.push((name, load(target, callers, calls).await));
        rates.push((name, (calls * callers) as f64 / start.elapsed().as_secs_f64()));
        let after = rig.cpu();
        if name == "relay" {
            let each = |before: f64, after: f64| (after - before) * 1e6 / (calls * callers) as f64;
            cpu = Some((each(before.0, after.0), each(before.1, after.1)));
        }
    }
    let group = format!("{callers} callers");
    latency(figures, &group, times);
    for (name, rate) in &rates {
        figures.bar("rate.svg", "Small calls a second", "/s", &format!("{group},"), name, *rate);
    }
    let rates: Vec<_> = rates.into_iter().map(|(name, rate)| (name, format!("{rate:.0}/s"))).collect();
    figures.row(&format!("small calls, {group}: rate"), &rates);
    let (hub, registrar) = cpu.unwrap();
    for (name, value) in [("hub", hub), ("registrar", registrar)] {
        figures.bar("cpu.svg", "CPU time of a small call", "µs", &format!("{group},"), name, value);
    }
    figures.row(
        &format!("small call, {group}: CPU time"),
        &[
            ("both", format!("{:.0} µs", hub + registrar)),
            ("hub", format!("{hub:.0}")),
            ("registrar", format!("{registrar:.0}")),
        ],
    );
}

/// The row of one way after the other; their medians.
fn latency(
    figures: &Figures,
    group: &str,
    times: Vec<(&'static str, Vec<Duration>)>,
) -> Vec<(&'static str, Duration)> {
    let (mut row, mut medians) = (Vec::new(), Vec::new());
    let mut direct = None;
    for (name, mut times) in times {
        let (median, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        let direct = *direct.get_or_insert(median);
        let ratio = median.as_secs_f64() / direct.as_secs_f64();
        let times = if name == "direct" { String::new() } else { format!(", **{ratio:.1} times**") };
        row.push((name, format!("{} (p99 {}{times})", micros(median), micros(p99))));
        medians.push((name, median));
    }
    figures.row(&format!("small call, {group}, median"), &row);
    medians
}

/// As many calls by each of `callers`; how long each took.
pub async fn load(target: &Target, callers: usize, calls: usize) -> Vec<Duration> {
    let work = (0..callers).map(|_| async {
        let caller = Caller::new(target);
        let mut times = Vec::with_capacity(calls);
        for _ in 0..calls {
            let start = Instant::now();
            assert_eq!(caller.whole(SMALL).await, 200);
            times.push(start.elapsed());
        }
        times
    });
    futures_util::future::join_all(work).await.concat()
}

/// A body as a picture makes it.
pub async fn large_body(rig: &Rig, figures: &Figures) {
    const BYTES: usize = 20 << 20;
    let body = bytes::Bytes::from(format!(
        r#"{{"model":"bench","messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(BYTES)
    ));
    let mut row = Vec::new();
    for (name, target) in rig.ways() {
        let caller = Caller::new(target);
        let mut times = Vec::new();
        for _ in 0..10 {
            let start = Instant::now();
            assert_eq!(caller.whole(body.clone()).await, 200);
            times.push(start.elapsed());
        }
        row.push((name, millis(quantile(&mut times, 0.5))));
    }
    figures.row("call of 20 MB, median", &row);
}
