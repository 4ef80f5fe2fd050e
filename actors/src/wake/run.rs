//! One run of a recipe, polling included.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use wire::texts;

use super::pace::First;
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

/// How a run ended, and whether its recipe ran at all.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: Result<Duration, String>,
    pub(super) ran: bool,
}

impl Ended {
    pub(super) fn ran(outcome: Result<Duration, String>) -> Self {
        Self { outcome, ran: true }
    }
}

/// Runs to the end, or until `stop` is dropped or sent: then whatever runs is killed. What is to come `first` comes first,
/// until `hurry`.
pub(super) async fn run(
    kind: Kind,
    config: Arc<ProviderConfig>,
    first: First,
    hurry: Rc<Notify>,
    http: Client,
    beat: Recipient<Beat>,
    stop: oneshot::Receiver<()>,
) -> Ended {
    let work = async {
        match kind {
            Kind::Wake => match before(&config, first, &hurry, &http).await {
                Some(outcome) => Ended { outcome, ran: false },
                None => Ended::ran(wake(&config, &http, &beat).await),
            },
            Kind::Sleep => Ended::ran(put_to_sleep(&config, &http).await),
        }
    };
    tokio::select! {
        ended = work => ended,
        _ = stop => Ended::ran(Err(texts::SHUTTING_DOWN.to_owned())),
    }
}

/// What is answered without a run of the wake recipe; `None` when it is to run, now.
async fn before(
    config: &ProviderConfig,
    first: First,
    hurry: &Notify,
    http: &Client,
) -> Option<Result<Duration, String>> {
    config.wake.as_ref()?;
    let start = Instant::now();
    let is_up = async || first.look && backend::make(config, http).available().await;
    let pauses = Cell::new(false);
    let looked = async {
        if is_up().await {
            return Some(Ok(start.elapsed()));
        }
        if let Some(failed) = first.failed {
            return Some(Err(failed));
        }
        if first.after > start {
            pauses.set(true);
            sleep_until(first.after).await;
            pauses.set(false);
            if is_up().await {
                return Some(Ok(start.elapsed()));
            }
        }
        None
    };
    tokio::select! {
        biased;
        // Its owner's word ends a pause, and waits for no look that is under way.
        () = hurry.notified() => {
            let came_up = pauses.get() && is_up().await;
            came_up.then(|| Ok(start.elapsed()))
        }
        outcome = looked => outcome,
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
