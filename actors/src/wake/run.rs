//! One run of a recipe, polling included.

use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use wire::texts;

use super::recipe;
use crate::backend::{self, Client};
use crate::heartbeat::messages::Beat;
use crate::news::news;
use crate::options::ProviderConfig;

/// Between two polls of a backend that comes up (SPEC.md section 6).
const POLL_EVERY: Duration = Duration::from_millis(1500);

/// Which way a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Wake,
    Sleep,
}

/// Runs to the end, or until `stop` is dropped or sent: then whatever runs is killed.
pub(super) async fn run(
    kind: Kind,
    config: Arc<ProviderConfig>,
    http: Client,
    beat: Recipient<Beat>,
    stop: oneshot::Receiver<()>,
) -> Result<Duration, String> {
    let work = async {
        match kind {
            Kind::Wake => wake(&config, &http, &beat).await,
            Kind::Sleep => put_to_sleep(&config, &http).await,
        }
    };
    tokio::select! {
        outcome = work => outcome,
        _ = stop => Err(texts::SHUTTING_DOWN.to_owned()),
    }
}

async fn wake(config: &ProviderConfig, http: &Client, beat: &Recipient<Beat>) -> Result<Duration, String> {
    let name = config.wire_name.as_str();
    let Some(recipe) = &config.wake else { return Err(texts::no_wake_recipe(name)) };
    let start = Instant::now();
    news!(info, "wake recipes", name, "provider {name}: the wake recipe runs");
    recipe::run(&recipe.action, recipe.max_wait, http, "wake")
        .await
        .map_err(|reason| texts::wake_recipe_failed(&reason))?;
    let backend = backend::make(config, http);
    let polling = Instant::now();
    let deadline = polling + recipe.max_wait;
    let mut next = polling;
    loop {
        beat.do_send(Beat);
        if backend.available().await {
            let took = start.elapsed();
            news!(info, "wakes", name, "provider {name} is up after {} ms", took.as_millis());
            return Ok(took);
        }
        next = (next + POLL_EVERY).max(Instant::now());
        if next > deadline {
            let millis = u64::try_from(recipe.max_wait.as_millis()).unwrap_or(u64::MAX);
            return Err(texts::did_not_come_up(name, millis));
        }
        sleep_until(next).await;
    }
}

async fn put_to_sleep(config: &ProviderConfig, http: &Client) -> Result<Duration, String> {
    let name = config.wire_name.as_str();
    let Some(recipe) = &config.sleep else {
        return Err(format!("provider '{name}' has no sleep recipe configured"));
    };
    let start = Instant::now();
    log::info!("provider {name}: the sleep recipe runs");
    recipe::run(&recipe.action, recipe.max_wait, http, "sleep")
        .await
        .map_err(|reason| format!("sleep recipe failed: {reason}"))?;
    Ok(start.elapsed())
}
