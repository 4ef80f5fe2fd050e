//! One run of a recipe, with the polls of its backend.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use wire::texts;

use super::backoff::StartPlan;
use super::recipe::{self, RecipeKind};
use crate::backend::{self, Client};
use crate::heartbeat::messages::Beat;
use crate::news::news;
use crate::options::ProviderConfig;

/// Interval of the polls of a backend that comes up (SPEC.md section 6).
const POLL_EVERY: Duration = Duration::from_millis(1500);

/// The result of a run.
#[derive(Debug)]
pub(super) struct RunResult {
    /// Duration of the run, or the error text.
    pub(super) took: Result<Duration, String>,
    /// Whether the recipe itself ran.
    pub(super) ran: bool,
}

impl RunResult {
    pub(super) fn ran(took: Result<Duration, String>) -> Self {
        Self { took, ran: true }
    }
}

/// Runs a recipe to its end. If `stop` is sent or dropped, the process group is killed. `skip_pause` ends the pause of
/// `plan`.
pub(super) async fn run(
    kind: RecipeKind,
    config: Arc<ProviderConfig>,
    plan: StartPlan,
    skip_pause: Rc<Notify>,
    http: Client,
    beat: Recipient<Beat>,
    stop: oneshot::Receiver<()>,
) -> RunResult {
    let work = async {
        match kind {
            RecipeKind::Wake => match before_wake(&config, plan, &skip_pause, &http).await {
                Some(took) => RunResult { took, ran: false },
                None => RunResult::ran(wake(&config, &http, &beat).await),
            },
            RecipeKind::Sleep => RunResult::ran(put_to_sleep(&config, &http).await),
        }
    };
    tokio::select! {
        result = work => result,
        _ = stop => RunResult::ran(Err(texts::SHUTTING_DOWN.to_owned())),
    }
}

/// Follows `plan` up to the run. Returns a result if no run is needed, or `None` if the recipe must run now.
async fn before_wake(
    config: &ProviderConfig,
    plan: StartPlan,
    skip_pause: &Notify,
    http: &Client,
) -> Option<Result<Duration, String>> {
    config.wake.as_ref()?;
    let start = Instant::now();
    let is_up = async || plan.check_first && backend::make(config, http).available().await;
    let pausing = Cell::new(false);
    let planned = async {
        if is_up().await {
            return Some(Ok(start.elapsed()));
        }
        if let Some(failure) = plan.failure {
            return Some(Err(failure));
        }
        if plan.not_before > start {
            pausing.set(true);
            sleep_until(plan.not_before).await;
            pausing.set(false);
            if is_up().await {
                return Some(Ok(start.elapsed()));
            }
        }
        None
    };
    tokio::select! {
        biased;
        // The owner's request ends a pause, and does not wait for a running check.
        () = skip_pause.notified() => {
            let came_up = pausing.get() && is_up().await;
            came_up.then(|| Ok(start.elapsed()))
        }
        answer = planned => answer,
    }
}

async fn wake(config: &ProviderConfig, http: &Client, beat: &Recipient<Beat>) -> Result<Duration, String> {
    let name = config.wire_name.as_str();
    let Some(recipe) = &config.wake else { return Err(texts::no_wake_recipe(name)) };
    let start = Instant::now();
    news!(info, "wake recipes", name, [provider = name], "provider {name}: the wake recipe runs");
    recipe::run(RecipeKind::Wake, &recipe.action, recipe.max_wait, http)
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
            news!(
                info,
                "wakes",
                name,
                [provider = name],
                "provider {name} is up after {} ms",
                took.as_millis()
            );
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
    wire::log_with!(info, [provider = name], "provider {name}: the sleep recipe runs");
    recipe::run(RecipeKind::Sleep, &recipe.action, recipe.max_wait, http)
        .await
        .map_err(|reason| format!("sleep recipe failed: {reason}"))?;
    Ok(start.elapsed())
}
