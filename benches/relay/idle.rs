//! A thousand publishers that have nothing to do.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::LocalBoxStream;

use crate::caller::{Caller, Target};
use crate::figures::Figures;
use crate::rig::Rig;

const PUBLISHERS: usize = 1000;

/// What each costs the hub: registered, its channel open, heartbeats every 30 s.
pub async fn publishers(rig: &Rig, figures: &Figures) {
    let before = rig.linked().hub_memory();
    let mut held = Vec::with_capacity(PUBLISHERS);
    for number in 0..PUBLISHERS {
        held.push(publish(&rig.linked().target, number).await);
    }
    let (cpu, start) = (rig.linked().cpu()[0], Instant::now());
    let mut beat = tokio::time::interval(Duration::from_secs(30) / PUBLISHERS as u32);
    let mut next = 0;
    let heartbeat = Caller::new(&rig.linked().target.at("/api/v1/llms/_provider-heartbeat"));
    while start.elapsed() < Duration::from_secs(10) {
        beat.tick().await;
        let body = format!(r#"{{"providerSessionId":"{}"}}"#, held[next % PUBLISHERS].0);
        assert_eq!(heartbeat.whole(body).await, 200);
        next += 1;
    }
    let share = (rig.linked().cpu()[0] - cpu) / start.elapsed().as_secs_f64();
    let each = rig.linked().hub_memory().saturating_sub(before) as f64 / PUBLISHERS as f64;
    figures.row(
        "1,000 idle publishers",
        &[
            ("memory each in the hub", format!("{:.0} KB", each / 1e3)),
            ("CPU of the hub", format!("{:.1} % of a core", share * 100.0)),
        ],
    );
}

/// The session's id, and its open channel.
async fn publish(hub: &Target, number: usize) -> (String, LocalBoxStream<'static, bool>) {
    let register = Caller::new(&hub.at("/api/v1/llms/_provider-register"));
    let answer = register
        .text(format!(
            r#"{{"providers":[{{"name":"idle-{number}","type":"openai","model":"m","visibility":"public","initialStatus":"active"}}]}}"#
        ))
        .await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let session = answer["providerSessionId"].as_str().unwrap().to_owned();
    let mut channel = Caller::new(&hub.at("/api/v1/llms/_provider-stream")).channel(&session).await;
    assert!(channel.next().await.unwrap());
    (session, channel)
}
