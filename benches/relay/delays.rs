//! How long things take that are not calls: to cancel, to wake, to come back.

use std::time::{Duration, Instant};

use crate::caller::{Caller, Target};
use crate::figures::{Figures, millis, quantile};
use crate::rig::{Rig, SLEEPER, answered};
use crate::streams::request;

/// From the caller's close to the backend's, mid-stream.
pub async fn cancel(rig: &Rig, figures: &Figures) {
    let mut row = Vec::new();
    for (name, target) in rig.ways() {
        let mut times = Vec::new();
        for _ in 0..50 {
            let before = closed(&rig.direct).await.0;
            let left = Caller::new(target).leave_early(request(10_000, 20)).await;
            let at = loop {
                let (count, at) = closed(&rig.direct).await;
                if count > before {
                    break at;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            };
            times.push(at.saturating_sub(left));
        }
        let median = quantile(&mut times, 0.5);
        row.push((name, format!("{} (p99 {})", millis(median), millis(quantile(&mut times, 0.99)))));
        let median = median.as_secs_f64() * 1e3;
        figures.bar("delays.svg", "Delays", "ms", "caller's close to backend's,", name, median);
    }
    figures.row("cancel: caller's close to backend's, median", &row);
}

/// How many streams the backend saw closed before their end, and when the last was (time since the epoch).
async fn closed(direct: &Target) -> (u64, Duration) {
    let text = Caller::new(&direct.at("/closed")).get().await;
    let (count, at) = text.split_once(' ').unwrap();
    (count.parse().unwrap(), Duration::from_nanos(at.parse().unwrap()))
}

/// A call to a model that sleeps, beside one to the same model awake: the recipe takes no time, so the rest is ours.
pub async fn wake(rig: &Rig, figures: &Figures) {
    let caller = Caller::new(&rig.linked().target);
    let body = format!(r#"{{"model":"{SLEEPER}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    let sleep = rig.direct.at("/sleep");
    let (mut asleep, mut awake) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        Caller::new(&sleep).get().await;
        for times in [&mut asleep, &mut awake] {
            let start = Instant::now();
            assert_eq!(caller.whole(body.clone()).await, 200);
            times.push(start.elapsed());
        }
    }
    let (asleep, awake) = (quantile(&mut asleep, 0.5), quantile(&mut awake, 0.5));
    figures.row("call that wakes its model, median", &[("asleep", millis(asleep)), ("awake", millis(awake))]);
    let added = asleep.saturating_sub(awake).as_secs_f64() * 1e3;
    figures.bar("delays.svg", "Delays", "ms", "wake that takes no time,", "relay", added);
}

/// From the start of a killed hub to the next answered call, the registrar trying every 0.1 to 0.2 s.
pub async fn reconnect(rig: &Rig, figures: &Figures) {
    let mut times = Vec::new();
    for _ in 0..7 {
        rig.linked().restart_hub();
        let start = Instant::now();
        answered(&rig.linked().target).await;
        times.push(start.elapsed());
    }
    let median = quantile(&mut times, 0.5);
    figures.row("hub killed and started: next answer, median", &[("relay", millis(median))]);
}
