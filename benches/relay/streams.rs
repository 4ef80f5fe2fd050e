//! Streamed answers.

use std::time::{Duration, Instant};

use crate::caller::{Caller, Target};
use crate::figures::{Figures, micros, quantile};
use crate::rig::{CLASSIC, Rig};

pub fn request(tokens: usize, pace: u64) -> String {
    request_to("bench", tokens, pace)
}

fn request_to(model: &str, tokens: usize, pace: u64) -> String {
    format!(
        r#"{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"go"}}],"max_tokens":{tokens},"seed":{pace}}}"#
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
    let mut ways: Vec<_> = rig.ways().into_iter().map(|(name, target)| (name, target, Vec::new())).collect();
    for _ in 0..ROUNDS {
        for (_, target, rates) in &mut ways {
            rates.push(rate(target, 200, 0).await.0);
        }
    }
    let mut row = Vec::new();
    let mut direct = None;
    for (name, _, mut rates) in ways {
        rates.sort_by(f64::total_cmp);
        let median = rates[rates.len() / 2];
        let share = median / *direct.get_or_insert(median) * 100.0;
        let share = if name == "direct" { String::new() } else { format!(", **{share:.0} %**") };
        row.push((name, format!("{:.2} million/s{share}", median / 1e6)));
        figures.bar("streams.svg", "32 streams, unpaced", "million/s", "tokens,", name, median / 1e6);
    }
    figures.row("32 streams of 200 tokens, unpaced, median", &row);
}

/// One stream as fast as it goes: direct, over the link, and by chunk POSTs (`publish --transport classic`).
pub async fn one(rig: &Rig, figures: &Figures) {
    const TOKENS: usize = 50_000;
    const ROUNDS: usize = 9;
    let registrar = rig.classic();
    let call = async |target: &Target, model: &str| {
        let (start, mut seen) = (Instant::now(), 0);
        let body = request_to(model, TOKENS, 0);
        Caller::new(target)
            .stream(body, |bytes| seen += memchr::memmem::find_iter(bytes, b" token").count())
            .await;
        (seen, start.elapsed())
    };
    while Caller::new(&rig.relay).whole(request_to(CLASSIC, 1, 0)).await != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut ways =
        [("direct", "bench"), ("link", "bench"), ("classic", CLASSIC)].map(|way| (way, Vec::new()));
    for _ in 0..ROUNDS {
        for ((name, model), rates) in &mut ways {
            let target = if *name == "direct" { &rig.direct } else { &rig.relay };
            let (seen, took) = call(target, model).await;
            // A token split between two reads is the one miscount.
            assert!(seen * 100 >= TOKENS * 99, "{seen} of {TOKENS} tokens");
            rates.push(seen as f64 / took.as_secs_f64());
        }
    }
    drop(registrar);
    let row = ways.map(|((name, _), mut rates)| {
        rates.sort_by(f64::total_cmp);
        (name, format!("{:.0} tokens/s", rates[rates.len() / 2]))
    });
    figures.row("one stream of 50,000 tokens, unpaced, median", &row);
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

async fn rate(target: &Target, tokens: usize, pace: u64) -> (f64, Vec<Duration>) {
    const STREAMS: usize = 32;
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
