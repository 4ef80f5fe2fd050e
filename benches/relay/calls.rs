//! Calls that are not streamed.

use std::time::{Duration, Instant};

use crate::caller::{Caller, Target};
use crate::figures::{Figures, micros, millis, quantile};
use crate::floor::Floor;
use crate::rig::{Relay, Rig};

pub const SMALL: &str =
    r#"{"model":"bench","messages":[{"role":"user","content":"say something short"}],"max_tokens":16}"#;

/// Every way in turn, so that all see the same machine.
pub async fn one_caller(rig: &Rig, figures: &Figures) {
    const CALLS: usize = 3000;
    let mut ways: Vec<_> =
        rig.ways().into_iter().map(|(name, target)| (name, Caller::new(target), Vec::new())).collect();
    let mut floor = Floor::start().await;
    let mut floor_times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        floor_times.push(floor.echo().await);
        for (_, caller, times) in &mut ways {
            let start = Instant::now();
            assert_eq!(caller.whole(SMALL).await, 200);
            times.push(start.elapsed());
        }
    }
    let floor = quantile(&mut floor_times, 0.5);
    let times = ways.into_iter().map(|(name, _, times)| (name, times)).collect();
    let mut row = vec![(
        "six crossings",
        format!("{} (p99 {})", micros(floor), micros(quantile(&mut floor_times, 0.99))),
    )];
    for (name, median) in latency(figures, "1 caller", times) {
        if rig.relay(name).is_some() {
            row.push((name, format!("**{:.2} times**", median.as_secs_f64() / floor.as_secs_f64())));
        }
        let median = median.as_secs_f64() * 1e6;
        figures.bar("latency.svg", "Small call, 1 caller, median", "µs", "", name, median);
    }
    figures.row("floor: bare echo over as many processes, 1 caller, median", &row);
}

/// Latency, rate, and the CPU time of hub and registrar for each call.
pub async fn many_callers(rig: &Rig, figures: &Figures, callers: usize) {
    let calls = 20_000 / callers;
    let group = format!("{callers} callers");
    let (mut times, mut rates, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for (name, target) in rig.ways() {
        let relay = rig.relay(name);
        let before = relay.map(Relay::cpu);
        let start = Instant::now();
        times.push((name, load(target, callers, calls).await));
        rates.push((name, (calls * callers) as f64 / start.elapsed().as_secs_f64()));
        let Some((relay, before)) = relay.zip(before) else { continue };
        let [hub, registrar] = each(before, relay.cpu(), calls * callers);
        cpu.push((name, format!("{:.1} µs (hub {hub:.1}, registrar {registrar:.1})", hub + registrar)));
        for (program, value) in [("hub", hub), ("registrar", registrar)] {
            let group = format!("{group}, {name},");
            figures.bar("cpu.svg", "CPU time of a small call", "µs", &group, program, value);
        }
    }
    latency(figures, &group, times);
    for (name, rate) in &rates {
        figures.bar("rate.svg", "Small calls a second", "/s", &format!("{group},"), name, *rate);
    }
    let rates: Vec<_> = rates.into_iter().map(|(name, rate)| (name, format!("{rate:.0}/s"))).collect();
    figures.row(&format!("small calls, {group}: rate"), &rates);
    figures.row(&format!("small call, {group}: CPU time"), &cpu);
}

/// Microseconds of CPU time for each of `count`, from the seconds before and after.
pub fn each(before: [f64; 2], after: [f64; 2], count: usize) -> [f64; 2] {
    [0, 1].map(|at| (after[at] - before[at]) * 1e6 / count as f64)
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
    let mut ways: Vec<_> =
        rig.ways().into_iter().map(|(name, target)| (name, Caller::new(target), Vec::new())).collect();
    for _ in 0..10 {
        for (_, caller, times) in &mut ways {
            let start = Instant::now();
            assert_eq!(caller.whole(body.clone()).await, 200);
            times.push(start.elapsed());
        }
    }
    let mut row = Vec::new();
    let mut direct = None;
    for (name, _, mut times) in ways {
        let median = quantile(&mut times, 0.5);
        let ratio = median.as_secs_f64() / direct.get_or_insert(median).as_secs_f64();
        row.push((name, format!("{} ({ratio:.1} times)", millis(median))));
    }
    figures.row("call of 20 MB, median", &row);
}
