//! Streamed answers.

use std::time::{Duration, Instant};

use crate::caller::{Caller, Target};
use crate::figures::{micros, quantile, row};
use crate::rig::Rig;

fn request(tokens: usize, pace: u64) -> String {
    format!(
        r#"{{"model":"bench","stream":true,"messages":[{{"role":"user","content":"go"}}],"max_tokens":{tokens},"seed":{pace}}}"#
    )
}

/// How much later than the backend's the first token comes: both ways in turn, medians.
pub async fn first_token(rig: &Rig) {
    let mut medians = Vec::new();
    let (direct, relay) = (Caller::new(&rig.direct), Caller::new(&rig.relay));
    let (mut direct_times, mut relay_times) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        for (caller, times) in [(&direct, &mut direct_times), (&relay, &mut relay_times)] {
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
    for times in [&mut direct_times, &mut relay_times] {
        medians.push(quantile(times, 0.5));
    }
    row(
        "first token, 1 caller, median",
        &[
            ("direct", micros(medians[0])),
            ("relay", micros(medians[1])),
            ("later by", micros(medians[1].saturating_sub(medians[0]))),
        ],
    );
}

/// 32 streams of 200 tokens as fast as they go.
pub async fn unpaced(rig: &Rig) {
    const ROUNDS: usize = 10;
    let (mut direct, mut relay) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        direct.push(rate(&rig.direct, 200, 0).await.0);
        relay.push(rate(&rig.relay, 200, 0).await.0);
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (direct, relay) = (median(&mut direct), median(&mut relay));
    row(
        "32 streams of 200 tokens, unpaced",
        &[
            ("direct", format!("{direct:.0}/s")),
            ("relay", format!("{relay:.0}/s")),
            ("share", format!("{:.0} %", relay / direct * 100.0)),
        ],
    );
}

/// 32 streams at 50 tokens a second each.
pub async fn paced(rig: &Rig) {
    let (direct, mut direct_gaps) = rate(&rig.direct, 150, 20).await;
    let (relay, mut relay_gaps) = rate(&rig.relay, 150, 20).await;
    let added = quantile(&mut relay_gaps, 0.5).saturating_sub(quantile(&mut direct_gaps, 0.5));
    row(
        "32 streams at 50 tokens a second",
        &[
            ("share", format!("{:.1} %", relay / direct * 100.0)),
            ("added gap, median", micros(added)),
            (
                "p99 gap",
                format!(
                    "{} (direct {})",
                    micros(quantile(&mut relay_gaps, 0.99)),
                    micros(quantile(&mut direct_gaps, 0.99))
                ),
            ),
        ],
    );
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
