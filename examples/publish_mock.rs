//! Publishes the built-in mock to a hub: `cargo run --example publish_mock -- http://127.0.0.1:8787 TOKEN`.
//!
//! Then, at the hub: `virtual-llm chat-llm demo -m "hello there"`. Ctrl-C ends it in order.

use actors::options::{BackendConfig, MockConfig};
use actors::{Credentials, Options, ProviderConfig, Registrar, Secret};
use anyhow::Context as _;

#[actix_rt::main]
async fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,actors=info")).init();
    let mut args = std::env::args().skip(1);
    let usage = "usage: publish_mock HUB_URL TOKEN";
    let credentials = Credentials::new(args.next().context(usage)?, Secret::new(args.next().context(usage)?));

    let mock = MockConfig { tokens_per_second: Some(20.0), ..MockConfig::default() };
    let mut demo = ProviderConfig::new("demo".parse()?, "mock-model", BackendConfig::Mock(mock));
    // Shown by `virtual-llm describe llm demo` and in the hub's `/v1/models`. Other backends are asked.
    demo.abilities.context_length = Some(8192);
    demo.abilities.capabilities.embeddings = Some(true);
    let Some(registrar) = Registrar::maybe_start(Options::new(credentials, vec![demo])) else {
        return Ok(());
    };

    let running = registrar.clone();
    actix_rt::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            running.stop();
        }
    });
    log::info!("{:?}", registrar.wait().await);
    Ok(())
}
