//! Small calls that are not streamed.

use std::time::Instant;

use crate::caller::{Caller, Target};
use crate::figures::{micros, quantile, row};
use crate::rig::Rig;

pub const SMALL: &str =
    r#"{"model":"bench","messages":[{"role":"user","content":"say something short"}],"max_tokens":16}"#;

/// Direct and relayed calls in turn, so that both see the same machine.
pub async fn one_caller(rig: &Rig) {
    const CALLS: usize = 3000;
    let (direct, relay) = (Caller::new(&rig.direct), Caller::new(&rig.relay));
    let (mut direct_times, mut relay_times) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        for (caller, times) in [(&direct, &mut direct_times), (&relay, &mut relay_times)] {
            let start = Instant::now();
            assert_eq!(caller.whole(SMALL).await, 200);
            times.push(start.elapsed());
        }
    }
    let (direct, relay) = (quantile(&mut direct_times, 0.5), quantile(&mut relay_times, 0.5));
    let ratio = relay.as_secs_f64() / direct.as_secs_f64();
    row(
        "small call, 1 caller, median",
        &[("direct", micros(direct)), ("relay", micros(relay)), ("ratio", format!("{ratio:.2}"))],
    );
}

/// CPU time of hub and registrar for each call, and the rate.
pub async fn many_callers(rig: &Rig, callers: usize) {
    let calls = 20_000 / callers;
    let (direct_rate, mut direct_times) = load(&rig.direct, callers, calls).await;
    let before = rig.cpu();
    let (relay_rate, mut relay_times) = load(&rig.relay, callers, calls).await;
    let after = rig.cpu();
    let each = |before: f64, after: f64| (after - before) * 1e6 / (calls * callers) as f64;
    let (hub, registrar) = (each(before.0, after.0), each(before.1, after.1));
    row(
        &format!("small call, {callers} callers"),
        &[
            ("CPU", format!("{:.0} µs (hub {hub:.0}, registrar {registrar:.0})", hub + registrar)),
            ("rate", format!("{:.2} of direct", relay_rate / direct_rate)),
            (
                "p99",
                format!(
                    "{} (direct {})",
                    micros(quantile(&mut relay_times, 0.99)),
                    micros(quantile(&mut direct_times, 0.99))
                ),
            ),
        ],
    );
}

async fn load(target: &Target, callers: usize, calls: usize) -> (f64, Vec<std::time::Duration>) {
    let start = Instant::now();
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
    let times = futures_util::future::join_all(work).await.concat();
    ((callers * calls) as f64 / start.elapsed().as_secs_f64(), times)
}
