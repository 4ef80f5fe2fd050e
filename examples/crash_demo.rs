//! What a crash costs: `cargo run --example crash_demo`.
//!
//! A hub, a registrar and a provider that panics at one of 100 requests, all in this process. Prints how many were
//! answered all the same, and how long after the crash the provider answered again.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use actors::options::{BackendConfig, MockConfig};
use actors::{Credentials, Options, ProviderConfig, Registrar, Secret};
use anyhow::anyhow;
use awc::http::StatusCode;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hub::{DataDir, Hub, HubOptions, HubTimings, Limits, MachineOptions, Origins, PoolPolicy, Role};
use tokio::time::Instant;

const REQUESTS: u64 = 100;

#[actix_rt::main]
#[expect(clippy::print_stdout, reason = "a demonstration speaks on standard output")]
async fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    actors::install_panic_hook();

    let hub = Hub::start(HubOptions {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        public_url: None,
        data: DataDir::Memory,
        cluster: None,
        admin_token: None,
        tls: None,
        pools: PoolPolicy::default(),
        cors_origins: Origins::default(),
        limits: Limits::default(),
        machine: MachineOptions::default(),
        timings: HubTimings::default(),
    })
    .await?;
    let token = hub.mint_token("demo", Role::Member).await?;

    // The provider runs four tasks at a time and queues the others. They must not suffer from the one that panics.
    let mock = MockConfig { tokens: Some(20), panic_every: Some(REQUESTS), ..MockConfig::default() };
    let demo = ProviderConfig::new("demo".parse()?, "mock-model", BackendConfig::Mock(mock));
    let demo = ProviderConfig { max_queue: 128, ..demo };
    let credentials = Credentials::new(hub.url(), Secret::new(token.clone()));
    let registrar = Registrar::start(Options::new(credentials, vec![demo]))?;
    registrar.ready().await.map_err(|ended| anyhow!("{ended:?}"))?;

    let url = format!("{}/v1/chat/completions", hub.url());
    let client = awc::Client::builder().timeout(Duration::from_secs(10)).bearer_auth(token).finish();
    let ask = || async {
        let question =
            serde_json::json!({ "model": "demo", "messages": [{ "role": "user", "content": "hi" }] });
        let sent = client.post(&url).send_json(&question).await;
        let Ok(mut answer) = sent else { return false };
        answer.body().await.is_ok() && answer.status() == StatusCode::OK
    };
    let mut asked: FuturesUnordered<_> = (0..REQUESTS).map(|_| ask()).collect();
    let (mut answered, mut back_after) = (0, None);
    while let Some(was_answered) = asked.next().await {
        if was_answered {
            answered += 1;
        } else {
            let crashed = Instant::now();
            back_after = ask().await.then(|| crashed.elapsed());
        }
    }
    println!("{answered} of {REQUESTS} answered; one crashed the provider in its middle");
    if let Some(back_after) = back_after {
        println!("it answered again {:.1} ms later", back_after.as_secs_f64() * 1e3);
    }
    drop(asked);
    registrar.stop_now();
    registrar.wait().await;
    hub.stop().await;
    Ok(())
}
