//! Waking: one wake task per row, however many callers wait.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use wire::task::Endpoint;

use super::handle::{Dispatch, DispatchPayload};
use super::piece::ResponsePiece;
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::registry::Candidate;
use crate::telemetry::WakeOutcome;

/// How a wake task ended; `None` while it runs.
type WakeState = Option<Result<(), ApiError>>;

/// The running wake tasks, by row.
#[derive(Default)]
pub(crate) struct WakeTable {
    running: HashMap<String, watch::Receiver<WakeState>>,
}

impl WakeTable {
    /// Whether a wake task of the row runs.
    pub(crate) fn is_waking(&self, row: &str) -> bool {
        self.running(row).is_some()
    }

    /// The result of the row's wake task, unless its sender was dropped by a panic.
    fn running(&self, row: &str) -> Option<&watch::Receiver<WakeState>> {
        self.running.get(row).filter(|result| result.has_changed().is_ok())
    }

    /// Adds a caller that waits for the row. Returns a sender if the caller has to start the wake task.
    fn join(&mut self, row: &str) -> (watch::Receiver<WakeState>, Option<watch::Sender<WakeState>>) {
        if let Some(result) = self.running(row) {
            return (result.clone(), None);
        }
        let (sender, result) = watch::channel(None);
        self.running.insert(row.to_owned(), result.clone());
        (result, Some(sender))
    }
}

/// Wakes the row, or waits for the wake task that runs.
pub(crate) async fn wake(hub: &Arc<Hub>, candidate: &Candidate) -> Result<(), ApiError> {
    let (mut result, sender) = hub.wakes.lock().join(&candidate.name);
    if let Some(sender) = sender {
        hub.registry.lock().mark_changed(&candidate.name);
        // A task of its own: the caller that started it may leave while others wait.
        tokio::spawn(run_wake(hub.clone(), candidate.clone(), sender));
    }
    match result.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Ok(()))) => Ok(()),
        Ok(Some(Err(error))) => Err(error.clone().reword(|text| candidate.redaction().apply(text))),
        Ok(None) | Err(_) => Err(wake_failed(format!("'{}' could not be woken", candidate.shown_name()))),
    }
}

async fn run_wake(hub: Arc<Hub>, candidate: Candidate, sender: watch::Sender<WakeState>) {
    let start = Instant::now();
    let result = dispatch_wake(&hub, &candidate).await;
    let outcome = if result.is_ok() { WakeOutcome::Ok } else { WakeOutcome::Failed };
    let took = start.elapsed();
    hub.watch.counters(candidate.is_public()).for_each(|metrics| metrics.woke(outcome, took));
    if result.is_ok() {
        hub.change(|registry| {
            let changes = registry.mark_awake(&candidate.name, hub.now());
            hub.offer(registry, &candidate.name);
            ((), changes)
        });
    }
    hub.wakes.lock().running.remove(&candidate.name);
    hub.registry.lock().mark_changed(&candidate.name);
    sender.send_replace(Some(result));
}

/// Sends the wake task to the row's publisher and waits for its result.
async fn dispatch_wake(hub: &Arc<Hub>, candidate: &Candidate) -> Result<(), ApiError> {
    let owner = &candidate.owner;
    let endpoint = Endpoint::ChatCompletions;
    let (mut dispatch, _) = Dispatch::open(hub, candidate, owner, false, endpoint, None, None)?;
    dispatch.send(candidate, owner, &DispatchPayload::Wake)?;
    let first = async {
        loop {
            match dispatch.next().await {
                Some(ResponsePiece::Reattached) => {
                    drop(dispatch.send(candidate, owner, &DispatchPayload::Wake));
                }
                first => break first,
            }
        }
    };
    match timeout(hub.options.timings.wait_timeout, first).await {
        Ok(Some(ResponsePiece::Answer { status: 200..=299, .. })) => Ok(()),
        // A failure without a fixed text is a failure of the wake.
        Ok(Some(ResponsePiece::Error(error))) if error.kind == ErrorKind::BadGateway => {
            Err(wake_failed(error.message))
        }
        Ok(Some(ResponsePiece::Error(error))) => Err(error),
        Ok(Some(ResponsePiece::Answer { status, .. })) => {
            Err(wake_failed(format!("the wake ended with status {status}")))
        }
        Ok(Some(ResponsePiece::Events { .. } | ResponsePiece::Done)) => {
            Err(wake_failed("the wake ended with a stream"))
        }
        Ok(Some(ResponsePiece::Reattached) | None) => {
            Err(ApiError::new(ErrorKind::PublisherLost, "the publisher was lost"))
        }
        Err(_) => Err(wake_failed("the wake did not end in time")),
    }
}

fn wake_failed(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorKind::WakeFailed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_starts_the_wake_and_a_crashed_wake_is_started_again() {
        let mut wakes = WakeTable::default();
        let (_, sender) = wakes.join("a");
        assert!(sender.is_some() && wakes.is_waking("a"));
        assert!(wakes.join("a").1.is_none());
        drop(sender);
        assert!(!wakes.is_waking("a"));
        assert!(wakes.join("a").1.is_some());
    }
}
