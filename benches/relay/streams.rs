//! Streamed answers.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::caller::{Caller, Target};
use crate::calls::each;
use crate::figures::{Figures, micros, quantile};
use crate::rig::{Relay, Rig};

pub const STREAMS: usize = 32;

pub fn request(tokens: usize, pace: u64) -> String {
    format!(
        r#"{{"model":"bench","stream":true,"messages":[{{"role":"user","content":"go"}}],"max_tokens":{tokens},"seed":{pace}}}"#
    )
}

/// How much later than the backend's the first token comes: every way in turn, medians.
pub async fn first_token(rig: &Rig, figures: &Figures) {
    let mut ways: Vec<_> =
        rig.ways().into_iter().map(|(name, target)| (name, Caller::new(target), Vec::new())).collect();
    for _ in 0..300 {
        for (_, caller, times) in &mut ways {
            let (start, mut first) = (Instant::now(), None);
            caller
                .stream(request(3, 2), |bytes| {
                    if first.is_none() && memchr::memmem::find(bytes, b"token").is_some() {
                        first = Some(start.elapsed());
                    }
                })
                .await;
            times.push(first.unwrap());
        }
    }
    let mut medians: Vec<_> =
        ways.into_iter().map(|(name, _, mut times)| (name, quantile(&mut times, 0.5))).collect();
    let direct = medians.remove(0).1;
    let mut row = vec![("direct", micros(direct))];
    for (name, median) in medians {
        let later = median.saturating_sub(direct);
        row.push((name, format!("{} later", micros(later))));
        figures.bar("delays.svg", "Delays", "ms", "first token later,", name, later.as_secs_f64() * 1e3);
    }
    figures.row("first token, 1 caller, median", &row);
}

/// 32 streams of 200 tokens as fast as they go.
pub async fn unpaced(rig: &Rig, figures: &Figures) {
    const ROUNDS: usize = 15;
    const TOKENS: usize = 200;
    let mut ways: Vec<_> =
        rig.ways().into_iter().map(|(name, target)| (name, target, Vec::new(), [0.0; 2])).collect();
    for _ in 0..ROUNDS {
        for (name, target, rates, cpu) in &mut ways {
            let relay = rig.relay(name);
            let before = relay.map(Relay::cpu);
            rates.push(rate(target, TOKENS, 0).await.0);
            if let Some((relay, before)) = relay.zip(before) {
                let used = each(before, relay.cpu(), ROUNDS * STREAMS * TOKENS);
                *cpu = [0, 1].map(|at| cpu[at] + used[at]);
            }
        }
    }
    let (mut row, mut cpu_row) = (Vec::new(), Vec::new());
    let mut direct = None;
    for (name, _, mut rates, [hub, registrar]) in ways {
        if rig.relay(name).is_some() {
            cpu_row
                .push((name, format!("{:.2} µs (hub {hub:.2}, registrar {registrar:.2})", hub + registrar)));
        }
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        let share = median / *direct.get_or_insert(median) * 100.0;
        let share = if name == "direct" { String::new() } else { format!(", **{share:.0} %**") };
        row.push((name, format!("{:.2} million/s{share}", median / 1e6)));
        figures.bar("streams.svg", "32 streams, unpaced", "million/s", "tokens,", name, median / 1e6);
    }
    figures.row("32 streams of 200 tokens, unpaced, median", &row);
    figures.row("the same: CPU time of a token", &cpu_row);
}

/// One stream as fast as it goes.
pub async fn one(rig: &Rig, figures: &Figures) {
    const TOKENS: usize = 50_000;
    const ROUNDS: usize = 9;
    let mut ways: Vec<_> = rig.ways().into_iter().map(|(name, target)| (name, target, Vec::new())).collect();
    for _ in 0..ROUNDS {
        for (_, target, rates) in &mut ways {
            let (start, mut seen) = (Instant::now(), 0);
            let count = |bytes: &Bytes| seen += memchr::memmem::find_iter(bytes, b" token").count();
            Caller::new(target).stream(request(TOKENS, 0), count).await;
            // A token split between two reads is the one miscount.
            assert!(seen * 100 >= TOKENS * 99, "{seen} of {TOKENS} tokens");
            rates.push(seen as f64 / start.elapsed().as_secs_f64());
        }
    }
    let median = |(name, _, mut rates): (&'static str, &Target, Vec<f64>)| {
        rates.sort_by(f64::total_cmp);
        (name, format!("{:.0} tokens/s", rates[rates.len() / 2]))
    };
    figures.row(
        "one stream of 50,000 tokens, unpaced, median",
        &ways.into_iter().map(median).collect::<Vec<_>>(),
    );
}

/// 32 streams at 50 tokens a second each.
pub async fn paced(rig: &Rig, figures: &Figures) {
    let mut row = Vec::new();
    let mut direct = None;
    for (name, target) in rig.ways() {
        let (rate, mut gaps) = rate(target, 150, 20).await;
        let (median, p99) = (quantile(&mut gaps, 0.5), quantile(&mut gaps, 0.99));
        let share = rate / *direct.get_or_insert(rate) * 100.0;
        row.push((name, format!("{share:.1} %, gap {} (p99 {})", micros(median), micros(p99))));
    }
    figures.row("32 streams at 50 tokens a second", &row);
}

/// Tokens a second over all streams, and the gaps between reads with tokens.
pub async fn rate(target: &Target, tokens: usize, pace: u64) -> (f64, Vec<Duration>) {
    let body = request(tokens, pace);
    let start = Instant::now();
    let streams = (0..STREAMS).map(|_| async {
        let caller = Caller::new(target);
        let (mut gaps, mut last, mut seen) = (Vec::with_capacity(tokens), None::<Instant>, 0);
        caller
            .stream(body.clone(), |bytes| {
                let tokens = memchr::memmem::find_iter(bytes, b" token").count();
                if tokens > 0 {
                    let now = Instant::now();
                    gaps.extend(last.map(|last| now - last));
                    last = Some(now);
                    seen += tokens;
                }
            })
            .await;
        // A token split between two reads is the one miscount.
        assert!(seen + 8 >= tokens, "{seen} of {tokens} tokens");
        gaps
    });
    let gaps = futures_util::future::join_all(streams).await.concat();
    ((STREAMS * tokens) as f64 / start.elapsed().as_secs_f64(), gaps)
}
