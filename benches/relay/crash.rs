//! A provider that panics in the middle of a call.

use std::time::{Duration, Instant};

use actors::options::{BackendConfig, MockConfig};
use actors::{Credentials, Options, ProviderConfig, Registrar, Secret};

use crate::caller::{Caller, Target};
use crate::figures::{Figures, millis, quantile};
use crate::rig::Rig;

/// From the error of the call that crashed its provider to the next call's answer.
pub async fn crash(rig: &Rig, figures: &Figures) {
    // Less than its supervisor takes for a fault that stays.
    const CRASHES: usize = 3;
    const EVERY: u64 = 20;
    actors::install_panic_hook();
    let mock = MockConfig { tokens: Some(1), panic_every: Some(EVERY), ..MockConfig::default() };
    let provider = ProviderConfig::new("crashing".parse().unwrap(), "m", BackendConfig::Mock(mock));
    let url = format!("http://127.0.0.1:{}", rig.linked().target.port);
    let credentials = Credentials::new(url, Secret::new(rig.linked().target.token.clone()));
    let home = tempfile::tempdir().unwrap();
    let mut options = Options::new(credentials, vec![provider]);
    options.session_file = Some(home.path().join("session"));
    let registrar = Registrar::start(options).unwrap();
    registrar.ready().await.unwrap();
    let caller = Caller::new(&Target { path: "/v1/chat/completions", ..rig.linked().target.clone() });
    let body = r#"{"model":"crashing","messages":[{"role":"user","content":"hi"}]}"#;
    let mut times = Vec::new();
    let give_up = Instant::now() + Duration::from_secs(30);
    while times.len() < CRASHES && Instant::now() < give_up {
        if caller.whole(body).await != 200 {
            let crashed = Instant::now();
            assert_eq!(caller.whole(body).await, 200);
            times.push(crashed.elapsed());
        }
    }
    registrar.stop_now();
    registrar.wait().await;
    let median = quantile(&mut times, 0.5);
    figures.row("provider panics: error to next answer, median", &[("relay", millis(median))]);
    figures.bar("delays.svg", "Delays", "ms", "crash to next answer,", "relay", median.as_secs_f64() * 1e3);
}
